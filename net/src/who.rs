//! Who is asking, decided before anything else of a request counts.
//!
//! In this order: the Host must be a name of ours; then a bearer token, or an RFC 9421 signature, or a loopback
//! socket of the peer's own OS user without any browser header; else nobody in particular. Cookies carry no
//! authority. What each may do is [`crate::authority`]'s question.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode, header, request::Parts};
use sha2::{Digest as _, Sha256};
use timebus_identity::{PublicKey, Signature};
use timebus_store::writer::Asker;

use crate::app_token::AppScope;
use crate::host::{HostKind, HostList};
use crate::ledger::{Payer, groups};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::server::Link;
use crate::signature::{DigestError, RequestHead, SignatureError, Signer, parse_digest, verify_request};
use crate::used::{Unusable, Whose};

/// Who a request is from.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// The owner of this peer.
    Owner,
    /// Somebody with a key, by a signature that also has to fit the body: the owner, or whoever has grants.
    Signed {
        /// The key and what it signed.
        signer: Signer,
        /// Whether the key is the space's root or this device's.
        is_owner: bool,
    },
    /// An app that the owner installed.
    App(Arc<AppScope>),
    /// Nobody in particular.
    Anyone,
}

/// On whose behalf a request is made: what it opens is for the same one alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Principal {
    /// The owner.
    Owner,
    /// Somebody with a key.
    Key(PublicKey),
    /// An app that the owner installed, by its name here.
    App(String),
}

impl Principal {
    /// The same for the store, which knows the owner without being told.
    pub(crate) fn asker(&self) -> Option<Asker> {
        match self {
            Self::Owner => None,
            Self::Key(key) => Some(Asker::of("key", key.as_bytes())),
            Self::App(name) => Some(Asker::of("app", name.as_bytes())),
        }
    }
}

/// Checks the Host of a request; answers the kind of origin.
pub(crate) fn check_host(link: &Link, version: http::Version, uri: &http::Uri, headers: &HeaderMap) -> Result<HostKind, Problem> {
    if link.ends.is_none() {
        return Ok(HostKind::Root);
    }
    let misdirected = || {
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", "this is not a name of this peer", "the Host header names another host")
            .with_fix("use localhost or 127.0.0.1 with the peer's port, or start the peer with --host NAME")
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    let authority = match (version, uri.authority()) {
        (http::Version::HTTP_2, Some(authority)) => {
            if hosts.next().is_some_and(|host| host.as_bytes() != authority.as_str().as_bytes()) {
                return Err(misdirected());
            }
            authority.as_str()
        }
        // An absolute target on HTTP/1.1 is for proxies, which we are not.
        (_, Some(_)) => return Err(misdirected()),
        (_, None) => match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().map_err(|_| misdirected())?,
            _ => return Err(misdirected()),
        },
    };
    let kind = match (&link.app, link.ends) {
        // A port of its own is the app's under every name, so that nobody else's page is of its origin.
        (Some(alias), Some((local, _))) => HostList::check_app(authority, local.port(), alias),
        _ => link.hosts.check(authority),
    };
    // Apps are for whoever sits at this machine: to others they would tell who lives here, and what he uses.
    let is_near = link.ends.is_some_and(|(_, from)| from.ip().to_canonical().is_loopback()) && !is_forwarded(headers);
    kind.filter(|kind| is_near || link.hosts.is_local() || *kind == HostKind::Root).ok_or_else(misdirected)
}

/// The Host of a request that [`check_host`] accepted.
pub(crate) fn authority(head: &Parts) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => text(&head.headers, &header::HOST).unwrap_or_default(),
    }
}

/// Whether a request carries headers that only browsers send.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers.contains_key(header::REFERER)
        || headers.iter().any(|(name, value)| {
            // The `fetch` and the `WebSocket` of Node say this, and nothing else of its kind; browsers never say it alone: to
            // all that they say of a request they add its site, and to a websocket, from whatever page, its Origin.
            name.as_str().starts_with("sec-fetch-") && !(name == "sec-fetch-mode" && (value == "cors" || value == "websocket"))
        })
}

/// Whether a browser says that the page which asks is of our own origin, or that no page does.
pub(crate) fn is_same_origin(head: &Parts) -> bool {
    let origin = match text(&head.headers, &header::ORIGIN) {
        Some(origin) => {
            let own = authority(head);
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(own)
        }
        None => !head.headers.contains_key(header::ORIGIN),
    };
    let site = match head.headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => true,
        Some(_) => false,
    };
    origin && site
}

/// Finds out who is asking.
pub(crate) fn identify(peer: &Peer, link: &Link, kind: &HostKind, head: &Parts) -> Result<Who, Problem> {
    if link.ends.is_none() {
        return Ok(Who::Owner);
    }
    if let Some(value) = head.headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
        return match token {
            Some(token) => {
                let who = check_token(peer, token.trim(), kind, is_browser(&head.headers))?;
                link.prove();
                if is_browser(&head.headers) && !is_same_origin(head) { Err(foreign_origin()) } else { Ok(who) }
            }
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "token",
                "this form of Authorization is not known",
                "send `Authorization: Bearer <token>`",
            )),
        };
    }
    if head.headers.contains_key("signature-input") || head.headers.contains_key("signature") {
        return check_signature(peer, link, head);
    }
    if !is_browser(&head.headers) && !is_forwarded(&head.headers) && *kind == HostKind::Root && link.is_owner() {
        return Ok(Who::Owner);
    }
    Ok(Who::Anyone)
}

/// Whether a proxy says that it asks for somebody else.
fn is_forwarded(headers: &HeaderMap) -> bool {
    const SAID: [&str; 5] = ["forwarded", "via", "x-real-ip", "true-client-ip", "client-ip"];
    let by_one_proxy = ["x-forwarded-", "cf-", "fly-", "x-envoy-", "x-original-", "tailscale-"];
    let says = |name: &str| SAID.contains(&name) || by_one_proxy.iter().any(|begin| name.starts_with(begin));
    headers.keys().any(|name| says(name.as_str()))
}

/// Finds out whose token it is. A page may use an app's token at the app's own origin and nowhere else, and the owner's
/// anywhere but there. That the page is of the origin which it asks is for the caller to check.
pub(crate) fn check_token(peer: &Peer, token: &str, kind: &HostKind, is_page: bool) -> Result<Who, Problem> {
    let is_owner = token.parse::<timebus_identity::Token>().is_ok_and(|token| token == peer.token);
    match (kind, peer.app_tokens().find(token)) {
        (HostKind::Root, _) if is_owner => Ok(Who::Owner),
        (HostKind::App(name), Some(app)) if app.app() == name => Ok(Who::App(app)),
        (HostKind::Root, Some(app)) if !is_page => Ok(Who::App(app)),
        (_, Some(_)) => Err(foreign_origin()),
        (HostKind::App(_), None) if is_owner => Err(foreign_origin()),
        _ => Err(Problem::new(StatusCode::UNAUTHORIZED, "token", "this token is not valid", "the peer does not know the token")
            .with_fix("`timebus id --token` prints the owner's token")),
    }
}

/// The answer to a page of another origin.
pub(crate) fn foreign_origin() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "origin",
        "pages of this origin have no rights here",
        "the request comes from a page that another origin serves",
    )
}

fn check_signature(peer: &Peer, link: &Link, head: &Parts) -> Result<Who, Problem> {
    let field = |name: &str| {
        let values: Vec<&str> = head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::trim).collect();
        (!values.is_empty()).then(|| values.join(", "))
    };
    let request = RequestHead {
        method: head.method.as_str(),
        scheme: "http",
        authority: authority(head),
        path: head.uri.path(),
        query: head.uri.query(),
        has_body: head.headers.contains_key(header::TRANSFER_ENCODING)
            || text(&head.headers, &header::CONTENT_LENGTH).is_some_and(|length| length.trim() != "0"),
        field: &field,
    };
    let verify =
        |key: &[u8; 32], base: &[u8], signature: &[u8; 64]| PublicKey::from_bytes(*key).verify(base, &Signature::from_bytes(*signature)).is_ok();
    let signer = verify_request(&request, now_ms() as i64 / 1000, verify).map_err(|error| {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "signature", "the signature is not valid", error.to_string());
        match error {
            SignatureError::NotCovered { component } => {
                problem.with_fix(format!("name \"{component}\" among the covered components, and sign again")).with("component", component)
            }
            _ => problem,
        }
    })?;
    let Some(signer) = signer else { return Ok(Who::Anyone) };
    let key = PublicKey::from_bytes(*signer.key());
    let root = peer.store.rights(&peer.space()).map(|rights| rights.root());
    let is_owner = key == peer.store.device() || root == Some(key);
    let whose = match is_owner {
        true => Whose::Owner,
        false if peer.store.granted_to(&key).is_ok_and(|spaces| !spaces.is_empty()) => Whose::Guest(groups(&peer.store, &key)),
        false => Whose::Stranger,
    };
    match peer.used.first(signer.signature(), &whose, Instant::now()) {
        Ok(()) => {
            if !matches!(whose, Whose::Stranger) {
                link.prove();
            }
            Ok(Who::Signed { signer, is_owner })
        }
        Err(Unusable::Used) => Err(Problem::new(StatusCode::UNAUTHORIZED, "signature", "this signature was used before", "sign every request anew")),
        Err(Unusable::Full) => {
            let detail = "more signatures were used in the last minutes than are remembered, so nobody could tell whether this one was";
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate", "too many signed requests", detail).with_fix("ask again in some minutes"))
        }
    }
}

impl Who {
    /// Whether the request has the owner's rights. For a signed one, [`Who::allows_body`] has to hold too.
    pub(crate) fn is_owner(&self) -> bool {
        matches!(self, Self::Owner | Self::Signed { is_owner: true, .. })
    }

    /// On whose behalf the request is made; `None` is nobody in particular.
    pub(crate) fn principal(&self) -> Option<Principal> {
        match self {
            Self::Owner | Self::Signed { is_owner: true, .. } => Some(Principal::Owner),
            Self::Signed { signer, .. } => Some(Principal::Key(PublicKey::from_bytes(*signer.key()))),
            Self::App(app) => Some(Principal::App(app.app().to_owned())),
            Self::Anyone => None,
        }
    }

    /// Who asks, if not the owner: names of versions that he gives are his.
    pub(crate) fn asker(&self) -> Option<Asker> {
        match self.principal() {
            Some(principal) => principal.asker(),
            None => Some(Asker::default()),
        }
    }

    /// Whose budget a request is counted in; the owner has none, and who is nobody may do nothing that would be counted.
    pub(crate) fn payer(&self) -> Option<Payer> {
        match self {
            Self::App(app) => Some(Payer::App(app.app().to_owned())),
            _ => self.guest().map(Payer::Key),
        }
    }

    /// The key of somebody who signed and is not the owner.
    pub(crate) fn guest(&self) -> Option<PublicKey> {
        match self {
            Self::Signed { signer, is_owner: false } => Some(PublicKey::from_bytes(*signer.key())),
            _ => None,
        }
    }

    /// Whether it is somebody else than the owner and his apps.
    pub(crate) fn is_guest(&self) -> bool {
        matches!(self, Self::Signed { is_owner: false, .. } | Self::Anyone)
    }

    /// Whether the body is the one that was signed, where it was.
    pub(crate) fn allows_body(&self, body: &[u8]) -> Result<(), Problem> {
        match self {
            Self::Signed { signer, .. } if !signer.allows_body(body) => {
                Err(Problem::new(StatusCode::UNAUTHORIZED, "digest", "the body is not the one that was signed", "Content-Digest and body differ"))
            }
            _ => Ok(()),
        }
    }

    /// The same for a body that is not held in memory; also whether it is what these headers name by their digests.
    pub(crate) fn body_check(&self, headers: &HeaderMap, names: &[&'static str]) -> Result<BodyCheck, Problem> {
        let mut said = Vec::new();
        for name in names {
            said.extend(digest_of(headers, name)?.map(|digest| (*name, digest)));
        }
        let signed = if let Self::Signed { signer, .. } = self { Some(signer.body_check()) } else { None };
        Ok(BodyCheck { signed, said, hasher: Sha256::new() })
    }
}

/// The SHA-256 that a header names, if it names one.
pub(crate) fn digest_of(headers: &HeaderMap, name: &str) -> Result<Option<[u8; 32]>, Problem> {
    match text(headers, name).map(parse_digest) {
        None | Some(Err(DigestError::NoSha256)) => Ok(None),
        Some(Ok(digest)) => Ok(Some(digest)),
        Some(Err(error)) => Err(Problem::new(StatusCode::BAD_REQUEST, "digest", format!("{name} is malformed"), error.to_string())),
    }
}

/// Whether a body is the one that was signed, and that was said, found out while it comes.
pub(crate) struct BodyCheck {
    signed: Option<crate::signature::BodyCheck>,
    said: Vec<(&'static str, [u8; 32])>,
    hasher: Sha256,
}

impl BodyCheck {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(check) = &mut self.signed {
            check.update(bytes);
        }
        if !self.said.is_empty() {
            self.hasher.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.signed.is_none_or(crate::signature::BodyCheck::allows) {
            let digest = <[u8; 32]>::from(self.hasher.finalize());
            return match self.said.iter().find(|(_, said)| *said != digest) {
                None => Ok(()),
                Some((REPR_DIGEST, _)) => Err(crate::write::digest_differs("the body")),
                Some((name, _)) => Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "digest",
                    "the body is not what was said",
                    format!("the body has another SHA-256 than {name} says; nothing was written"),
                )),
            };
        }
        Err(Problem::new(StatusCode::UNAUTHORIZED, "digest", "the body is not the one that was signed", "Content-Digest and body differ"))
    }
}

/// Names what is there when a request is done.
pub(crate) const REPR_DIGEST: &str = "repr-digest";
/// Names the body.
pub(crate) const CONTENT_DIGEST: &str = "content-digest";

/// A header that is text.
pub(crate) fn text(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
