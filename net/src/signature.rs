//! Requests signed with an ed25519 key: HTTP message signatures (RFC 9421) and the digest of the
//! body they cover (RFC 9530).
//!
//! Pure functions: the clock and the curve are arguments. [`read_signature`] checks everything but
//! the signature itself and gives an [`UncheckedSignature`]; only [`UncheckedSignature::check`]
//! turns it into a [`Signer`].
//!
//! We take one signature per request. It must cover the method, the whole target (`@target-uri`, or
//! `@authority`, `@path` and, if there is one, `@query`) and, if there is a body, `content-digest`;
//! and of the other headers those that the request has and that change what it does: [`WRITE_FIELDS`]
//! of one that may write, [`UPGRADE_FIELDS`] of one that asks for another protocol. Without TLS
//! whoever stands in between could add them otherwise, and make a read a socket that writes.
//! Component parameters (`;sf`, `;key`, `;bs`, `;tr`, `;req`, `;name`) are refused: nobody needs
//! them here, and each is a way to sign less than it seems.
//!
//! Deliberately not: replay protection. A signature can be sent again for [`CLOCK_SKEW_S`]; who
//! needs more remembers [`Signer::signature`] that long.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sfv::{BareItem, Dictionary, InnerList, ListEntry, ListSerializer, Parser};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Seconds a signature's `created` may lie before or behind our clock: enough for clocks that
/// nobody sets, too little to keep a stolen request for later.
pub const CLOCK_SKEW_S: u64 = 300;

/// Components one signature covers. Real ones have fewer than ten.
pub const COMPONENTS_MAX: usize = 32;

/// Headers that change what a request does which is no GET or HEAD: they have to be covered where they are.
pub const WRITE_FIELDS: [&str; 18] = [
    "content-type",
    "content-encoding",
    "content-range",
    "version",
    "parents",
    "patches",
    "put-mode",
    "merge-type",
    "peer",
    "prefer",
    "if-match",
    "if-none-match",
    "repr-digest",
    "idempotency-key",
    "upload-complete",
    "upload-offset",
    "upload-length",
    "multiplex-through",
];

/// Headers that have to be covered, where they are, by a request whose first of them asks for a websocket: that writes, too. Not the
/// key, which many libraries make only when everything else is there.
pub const UPGRADE_FIELDS: [&str; 2] = ["upgrade", "sec-websocket-protocol"];

/// Bytes of each of the headers read here; longer ones cannot be legal under the other limits.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// The label under which we sign. Any label is accepted.
const LABEL: &str = "sig1";

/// The alphabet of z-base-32, in which keys are written (design.md §1.1).
const Z_BASE_32: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// What of a request can be signed.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// As sent: `GET`.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The `Host` header, or `:authority`.
    pub authority: &'a str,
    /// The raw path, not decoded.
    pub path: &'a str,
    /// The raw query behind the `?`, or `None` if there is no `?`.
    pub query: Option<&'a str>,
    /// Whether a body follows.
    pub has_body: bool,
    /// Looks up a header by its lower-case name: the values of all its lines, trimmed, with `", "`
    /// between.
    pub field: &'a dyn Fn(&str) -> Option<String>,
}

/// A signature that is complete, fresh and covers enough, but may be forged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UncheckedSignature {
    /// The ed25519 public key named by `keyid`.
    pub key: [u8; 32],
    /// The bytes that were signed.
    pub base: Vec<u8>,
    /// The signature over them.
    pub signature: [u8; 64],
    /// The SHA-256 the body must have, if the signature covers one.
    pub body_sha256: Option<[u8; 32]>,
}

/// Who signed a request, proven but for the body: see [`Signer::allows_body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    key: [u8; 32],
    signature: [u8; 64],
    body_sha256: Option<[u8; 32]>,
}

/// The values of the two headers a signed request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureHeaders {
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

/// Why a signature was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// One of the two headers is there without the other.
    #[error("request has no {header}")]
    MissingHeader {
        /// The one that is missing.
        header: &'static str,
    },
    /// Not a structured field of the right form.
    #[error("cannot read {header}")]
    Syntax {
        /// Which header.
        header: &'static str,
    },
    /// None, or several: then it would be open who is asking.
    #[error("request has {count} signatures, not one")]
    NotOne {
        /// How many there are.
        count: usize,
    },
    /// The two headers use different labels.
    #[error("Signature has no member {label:?}")]
    LabelMismatch {
        /// The label in `Signature-Input`.
        label: String,
    },
    /// More than [`COMPONENTS_MAX`].
    #[error("signature covers {count} components, more than {COMPONENTS_MAX}")]
    TooManyComponents {
        /// How many there are.
        count: usize,
    },
    /// The same component twice.
    #[error("signature covers {component:?} twice")]
    DoubleComponent {
        /// Which one.
        component: String,
    },
    /// With parameters, or of no request.
    #[error("signature covers {component:?}, which we cannot compute")]
    UnknownComponent {
        /// Which one.
        component: String,
    },
    /// A covered header is not in the request.
    #[error("signature covers {component:?}, which the request does not have")]
    AbsentComponent {
        /// Which one.
        component: String,
    },
    /// Not printable ASCII.
    #[error("value of {component:?} is not printable ASCII")]
    BadValue {
        /// Which one.
        component: String,
    },
    /// Without it the request could be changed in this place.
    #[error("signature does not cover {component}, and has to")]
    NotCovered {
        /// Which one.
        component: &'static str,
    },
    /// Missing, or of the wrong type.
    #[error("signature parameter {name} is missing or unreadable")]
    BadParameter {
        /// Which one.
        name: &'static str,
    },
    /// Anything but `ed25519`.
    #[error("signature algorithm is not ed25519")]
    UnknownAlgorithm,
    /// Not 52 characters of z-base-32 or 64 of hex.
    #[error("keyid is not an ed25519 key in z-base-32 or hex")]
    BadKeyId,
    /// `created` is too far from our time, or `expires` is over.
    #[error("signature was made at {created_s}, our clock says {now_s}")]
    NotFresh {
        /// Unix seconds in the signature.
        created_s: i64,
        /// Unix seconds here.
        now_s: i64,
    },
    /// The covered `Content-Digest` has no SHA-256.
    #[error("bad Content-Digest")]
    BadDigest(#[from] DigestError),
    /// The signature is forged, or the two sides see different requests.
    #[error("signature does not verify")]
    Forged,
}

/// Why a digest header could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Not a dictionary of byte sequences.
    #[error("cannot read the digest")]
    Syntax,
    /// Only other algorithms.
    #[error("digest has no sha-256")]
    NoSha256,
}

impl UncheckedSignature {
    /// Checks the signature with `verify(key, message, signature)`.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Forged`] if `verify` says no.
    pub fn check(self, verify: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool) -> Result<Signer, SignatureError> {
        if !verify(&self.key, &self.base, &self.signature) {
            return Err(SignatureError::Forged);
        }
        Ok(Signer { key: self.key, signature: self.signature, body_sha256: self.body_sha256 })
    }
}

impl Signer {
    /// As if a request without a body had been signed with this key.
    #[cfg(test)]
    pub(crate) fn of(key: [u8; 32]) -> Self {
        Self { key, signature: [0; 64], body_sha256: None }
    }

    /// The key that signed.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The signature, which names this request among all that the key signed.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Whether this is the body that was signed. Ask before acting on a body, empty ones included.
    pub fn allows_body(&self, body: &[u8]) -> bool {
        match &self.body_sha256 {
            Some(expected) => sha256(body) == *expected,
            None => body.is_empty(),
        }
    }

    /// The same for a body that comes in pieces.
    pub fn body_check(&self) -> BodyCheck {
        BodyCheck { expected: self.body_sha256, hasher: Sha256::new(), is_empty: true }
    }
}

/// Compares a body that comes in pieces with the one that was signed.
#[derive(Clone, Debug)]
pub struct BodyCheck {
    expected: Option<[u8; 32]>,
    hasher: Sha256,
    is_empty: bool,
}

impl BodyCheck {
    /// Takes more of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.is_empty &= bytes.is_empty();
        if self.expected.is_some() {
            self.hasher.update(bytes);
        }
    }

    /// Whether what was taken is the body that was signed. Ask before acting on it.
    #[must_use]
    pub fn allows(self) -> bool {
        match self.expected {
            Some(expected) => <[u8; 32]>::from(self.hasher.finalize()) == expected,
            None => self.is_empty,
        }
    }
}

/// Reads the signature of a request. `Ok(None)` if it has none.
///
/// `now_s` is our time in Unix seconds.
///
/// # Errors
///
/// A [`SignatureError`]: a request with a bad signature is refused, not treated as unsigned.
pub fn read_signature(head: &RequestHead<'_>, now_s: i64) -> Result<Option<UncheckedSignature>, SignatureError> {
    const INPUT: &str = "Signature-Input";
    const SIGNATURE: &str = "Signature";
    let missing = |header| SignatureError::MissingHeader { header };
    let (input, signature) = match ((head.field)("signature-input"), (head.field)("signature")) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(missing(SIGNATURE)),
        (None, Some(_)) => return Err(missing(INPUT)),
        (Some(input), Some(signature)) => (input, signature),
    };
    let (label, input) = parse_input(&input)?;
    let signature = parse_signature(&signature, &label)?;
    let covered = covered_components(&input)?;
    require_coverage(head, &covered)?;
    check_parameters(&input, now_s)?;
    let key = parse_key_id(string_parameter(&input, "keyid")?).ok_or(SignatureError::BadKeyId)?;
    let body_sha256 = match covered.contains("content-digest") {
        true => Some(parse_digest(&component_value(head, "content-digest")?)?),
        false => None,
    };
    let base = signature_base(head, &input)?;
    Ok(Some(UncheckedSignature { key, base, signature, body_sha256 }))
}

/// Reads and checks in one go: the signer, or `Ok(None)` for a request without a signature.
///
/// # Errors
///
/// A [`SignatureError`].
pub fn verify_request(
    head: &RequestHead<'_>,
    now_s: i64,
    verify: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
) -> Result<Option<Signer>, SignatureError> {
    read_signature(head, now_s)?.map(|unchecked| unchecked.check(verify)).transpose()
}

/// Signs a request that has all its other headers, `Content-Digest` included if it has a body.
///
/// Besides what [`read_signature`] demands, it covers the headers named in `fields` (lower case)
/// that the request has.
///
/// # Errors
///
/// A [`SignatureError`] for a head that no verifier could accept.
pub fn sign_request(
    head: &RequestHead<'_>,
    fields: &[&str],
    key: &[u8; 32],
    now_s: i64,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Result<SignatureHeaders, SignatureError> {
    let mut covered = vec!["@method", "@authority", "@path"];
    if head.query.is_some() {
        covered.push("@query");
    }
    if head.has_body {
        covered.push("content-digest");
    }
    meaning(head).into_iter().for_each(|field| covered.push(field));
    for &field in fields {
        if !covered.contains(&field) && (head.field)(field).is_some() {
            covered.push(field);
        }
    }
    let names: Vec<String> = covered.iter().map(|name| format!("\"{name}\"")).collect();
    let parameters = format!("({});created={now_s};keyid=\"{}\";alg=\"ed25519\"", names.join(" "), print_z_base_32(key),);
    let signature_input = format!("{LABEL}={parameters}");
    let (_, input) = parse_input(&signature_input)?;
    covered_components(&input)?;
    let signature = sign(&signature_base(head, &input)?);
    Ok(SignatureHeaders { signature_input, signature: format!("{LABEL}=:{}:", STANDARD.encode(signature)) })
}

/// Whether a body has the SHA-256 its `Content-Digest` (or `Repr-Digest`) gives.
///
/// # Errors
///
/// A [`DigestError`] if the header gives none.
pub fn content_digest_matches(header: &str, body: &[u8]) -> Result<bool, DigestError> {
    Ok(parse_digest(header)? == sha256(body))
}

/// The `Content-Digest` (or `Repr-Digest`) of a body.
pub fn content_digest(body: &[u8]) -> String {
    print_digest(&sha256(body))
}

/// Reads the SHA-256 of a digest header. Other algorithms beside it are not looked at.
///
/// # Errors
///
/// A [`DigestError`] if there is none.
pub fn parse_digest(header: &str) -> Result<[u8; 32], DigestError> {
    if header.len() > HEADER_BYTES_MAX {
        return Err(DigestError::Syntax);
    }
    let digests: Dictionary = Parser::new(header).parse().map_err(|_| DigestError::Syntax)?;
    match digests.get("sha-256") {
        None => Err(DigestError::NoSha256),
        Some(entry) => byte_sequence(entry).ok_or(DigestError::Syntax),
    }
}

/// Prints a SHA-256 as the value of a digest header.
pub fn print_digest(sha256: &[u8; 32]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256))
}

/// Reads `Signature-Input`: its only label and what stands behind it.
fn parse_input(header: &str) -> Result<(String, InnerList), SignatureError> {
    let syntax = || SignatureError::Syntax { header: "Signature-Input" };
    let mut members = parse_dictionary(header).ok_or_else(syntax)?;
    let count = members.len();
    match (members.pop(), count) {
        (Some((label, ListEntry::InnerList(input))), 1) => Ok((label.as_str().to_owned(), input)),
        (Some(_), 1) => Err(syntax()),
        _ => Err(SignatureError::NotOne { count }),
    }
}

fn parse_signature(header: &str, label: &str) -> Result<[u8; 64], SignatureError> {
    let syntax = || SignatureError::Syntax { header: "Signature" };
    let members = parse_dictionary(header).ok_or_else(syntax)?;
    if members.len() != 1 {
        return Err(SignatureError::NotOne { count: members.len() });
    }
    match members.get(label) {
        Some(entry) => byte_sequence(entry).ok_or_else(syntax),
        None => Err(SignatureError::LabelMismatch { label: label.to_owned() }),
    }
}

fn parse_dictionary(header: &str) -> Option<Dictionary> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    Parser::new(header).parse().ok()
}

fn byte_sequence<const N: usize>(entry: &ListEntry) -> Option<[u8; N]> {
    match entry {
        ListEntry::Item(item) => item.bare_item.as_byte_sequence()?.try_into().ok(),
        ListEntry::InnerList(_) => None,
    }
}

/// The names a signature covers, without doubles and parameters.
fn covered_components(input: &InnerList) -> Result<BTreeSet<&str>, SignatureError> {
    if input.items.len() > COMPONENTS_MAX {
        return Err(SignatureError::TooManyComponents { count: input.items.len() });
    }
    let mut names = BTreeSet::new();
    for item in &input.items {
        let BareItem::String(name) = &item.bare_item else {
            return Err(SignatureError::Syntax { header: "Signature-Input" });
        };
        let component = name.as_str();
        if !item.params.is_empty() {
            return Err(SignatureError::UnknownComponent { component: component.to_owned() });
        }
        if !names.insert(component) {
            return Err(SignatureError::DoubleComponent { component: component.to_owned() });
        }
    }
    Ok(names)
}

/// The headers of a request that change what it does.
fn meaning(head: &RequestHead<'_>) -> Vec<&'static str> {
    let is_there = |name: &&'static str| (head.field)(name).is_some();
    let writes = !matches!(head.method, "GET" | "HEAD");
    let upgrades = (head.field)(UPGRADE_FIELDS[0]).is_some_and(|protocol| protocol.to_ascii_lowercase().contains("websocket"));
    let fields = WRITE_FIELDS.into_iter().filter(|_| writes).chain(UPGRADE_FIELDS.into_iter().filter(|_| upgrades));
    fields.filter(is_there).collect()
}

fn require_coverage(head: &RequestHead<'_>, covered: &BTreeSet<&str>) -> Result<(), SignatureError> {
    let mut needed = vec!["@method"];
    if !covered.contains("@target-uri") {
        needed.extend(["@authority", "@path"]);
        if head.query.is_some() {
            needed.push("@query");
        }
    }
    if head.has_body {
        needed.push("content-digest");
    }
    needed.extend(meaning(head));
    match needed.into_iter().find(|name| !covered.contains(name)) {
        Some(component) => Err(SignatureError::NotCovered { component }),
        None => Ok(()),
    }
}

fn check_parameters(input: &InnerList, now_s: i64) -> Result<(), SignatureError> {
    if input.params.contains_key("alg") && string_parameter(input, "alg")? != "ed25519" {
        return Err(SignatureError::UnknownAlgorithm);
    }
    let seconds = |name: &'static str| match input.params.get(name) {
        None => Ok(None),
        Some(BareItem::Integer(seconds)) => Ok(Some(i64::from(*seconds))),
        Some(_) => Err(SignatureError::BadParameter { name }),
    };
    let created_s = seconds("created")?.ok_or(SignatureError::BadParameter { name: "created" })?;
    let is_over = seconds("expires")?.is_some_and(|expires_s| expires_s < now_s);
    if is_over || created_s.abs_diff(now_s) > CLOCK_SKEW_S {
        return Err(SignatureError::NotFresh { created_s, now_s });
    }
    Ok(())
}

fn string_parameter<'a>(input: &'a InnerList, name: &'static str) -> Result<&'a str, SignatureError> {
    match input.params.get(name) {
        Some(BareItem::String(text)) => Ok(text.as_str()),
        _ => Err(SignatureError::BadParameter { name }),
    }
}

/// The bytes that are signed (RFC 9421 §2.5).
fn signature_base(head: &RequestHead<'_>, input: &InnerList) -> Result<Vec<u8>, SignatureError> {
    let mut base = String::new();
    for item in &input.items {
        let Some(name) = item.bare_item.as_string() else {
            return Err(SignatureError::Syntax { header: "Signature-Input" });
        };
        let name = name.as_str();
        // Names with quotes or backslashes do not get past this, so they need no escaping.
        let value = component_value(head, name)?;
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {}", print_input(input)));
    Ok(base.into_bytes())
}

/// The one spelling of an inner list, which is what signer and verifier agree on.
fn print_input(input: &InnerList) -> String {
    let mut list = ListSerializer::new();
    let mut inner = list.inner_list();
    inner.items(&input.items);
    inner.finish().parameters(&input.params);
    list.finish().unwrap_or_default()
}

/// The value of a component (RFC 9421 §2.1 and §2.2).
fn component_value(head: &RequestHead<'_>, name: &str) -> Result<String, SignatureError> {
    let authority = normal_authority(head);
    let query = head.query.map_or_else(String::new, |query| format!("?{query}"));
    let scheme = head.scheme.to_ascii_lowercase();
    let path = match head.path {
        "" => "/",
        path => path,
    };
    let unknown = || SignatureError::UnknownComponent { component: name.to_owned() };
    let value = match name {
        "@method" => head.method.to_owned(),
        "@target-uri" => format!("{scheme}://{authority}{path}{query}"),
        "@authority" => authority,
        "@scheme" => scheme,
        "@request-target" => format!("{path}{query}"),
        "@path" => path.to_owned(),
        "@query" => format!("?{}", head.query.unwrap_or_default()),
        _ if is_field_name(name) => {
            let value = (head.field)(name).ok_or_else(|| SignatureError::AbsentComponent { component: name.to_owned() })?;
            value.trim_matches([' ', '\t']).to_owned()
        }
        _ => return Err(unknown()),
    };
    // A line break here would let one component pose as two.
    if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Err(SignatureError::BadValue { component: name.to_owned() });
    }
    Ok(value)
}

/// Lower case, without the scheme's own port (RFC 9421 §2.2.3).
fn normal_authority(head: &RequestHead<'_>) -> String {
    let authority = head.authority.to_ascii_lowercase();
    let port = match head.scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return authority,
    };
    match authority.strip_suffix(port) {
        Some(host) => host.to_owned(),
        None => authority,
    }
}

fn is_field_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(legal)
}

fn sha256(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// Reads a key as 52 characters of z-base-32 or 64 of hex.
fn parse_key_id(text: &str) -> Option<[u8; 32]> {
    match text.len() {
        52 => parse_z_base_32(text),
        64 => {
            let mut key = [0; 32];
            for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                let digit = |at: usize| char::from(pair[at]).to_digit(16);
                *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
            }
            Some(key)
        }
        _ => None,
    }
}

/// Reads 52 characters of 5 bits; the last four bits are padding and must be zero.
fn parse_z_base_32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = Vec::with_capacity(32);
    let (mut bits, mut bit_count) = (0u32, 0);
    for character in text.bytes() {
        let digit = Z_BASE_32.iter().position(|&known| known == character)?;
        bits = bits << 5 | u32::try_from(digit).ok()?;
        bit_count += 5;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
            bits &= (1 << bit_count) - 1;
        }
    }
    (bits == 0).then_some(bytes)?.try_into().ok()
}

fn print_z_base_32(key: &[u8; 32]) -> String {
    let mut out = String::with_capacity(52);
    let (mut bits, mut bit_count) = (0u32, 0);
    let mut push = |digit: u32| out.push(char::from(Z_BASE_32[(digit & 31) as usize]));
    for &byte in key {
        bits = bits << 8 | u32::from(byte);
        bit_count += 8;
        while bit_count >= 5 {
            bit_count -= 5;
            push(bits >> bit_count);
            bits &= (1 << bit_count) - 1;
        }
    }
    push(bits << (5 - bit_count));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::data_file;
    use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
    use proptest::prelude::*;

    fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }

    /// The key and the request of RFC 9421, appendix B.1.4 and B.2.
    mod rfc {
        pub(super) const SECRET: &str = "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=";
        pub(super) const PUBLIC: &str = "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";
        pub(super) const INPUT: &str = concat!(
            "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" ",
            "\"content-length\");created=1618884473;keyid=\"test-key-ed25519\"",
        );
        pub(super) const SIGNATURE: &str =
            concat!("sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6v", "uQv5lIp5WPpBKRCw==:",);
        pub(super) const BASE: &str = concat!(
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n",
            "\"@method\": POST\n",
            "\"@path\": /foo\n",
            "\"@authority\": example.com\n",
            "\"content-type\": application/json\n",
            "\"content-length\": 18\n",
            "\"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" ",
            "\"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"",
        );
    }

    fn key(text: &str) -> [u8; 32] {
        let bytes = STANDARD.decode(text).expect("base64");
        bytes.try_into().expect("32 bytes")
    }

    fn rfc_field(name: &str) -> Option<String> {
        let value = match name {
            "date" => "Tue, 20 Apr 2021 02:07:55 GMT",
            "content-type" => "application/json",
            "content-length" => "18",
            _ => return None,
        };
        Some(value.to_owned())
    }

    const RFC_HEAD: RequestHead<'static> = RequestHead {
        method: "POST",
        scheme: "https",
        authority: "Example.com:443",
        path: "/foo",
        query: Some("param=Value&Pet=dog"),
        has_body: true,
        field: &rfc_field,
    };

    #[test]
    fn builds_the_base_of_rfc_9421_b_2_6() {
        let (label, input) = parse_input(rfc::INPUT).expect("an inner list");
        let base = signature_base(&RFC_HEAD, &input).expect("a base");
        assert_eq!(String::from_utf8(base.clone()).as_deref(), Ok(rfc::BASE));
        let signature = parse_signature(rfc::SIGNATURE, &label).expect("64 bytes");
        assert!(verify(&key(rfc::PUBLIC), &base, &signature));
        let secret = SigningKey::from_bytes(&key(rfc::SECRET));
        assert_eq!(secret.sign(&base).to_bytes(), signature);
    }

    #[test]
    fn refuses_the_rfcs_example_because_it_covers_too_little() {
        let field = |name: &str| match name {
            "signature-input" => Some(rfc::INPUT.to_owned()),
            "signature" => Some(rfc::SIGNATURE.to_owned()),
            _ => rfc_field(name),
        };
        let head = RequestHead { field: &field, ..RFC_HEAD };
        let not_covered = |component| Err(SignatureError::NotCovered { component });
        assert_eq!(read_signature(&head, 1_618_884_473), not_covered("@query"));
        let head = RequestHead { query: None, ..head };
        let read = read_signature(&head, 1_618_884_473);
        assert_eq!(read, not_covered("content-digest"));
        let head = RequestHead { has_body: false, ..head };
        let read = read_signature(&head, 1_618_884_473);
        assert_eq!(read, Err(SignatureError::BadKeyId));
    }

    const NOW_S: i64 = 1_768_467_700;

    /// A request whose parts a test can change after it was signed.
    #[derive(Clone)]
    struct Request {
        method: &'static str,
        authority: &'static str,
        path: &'static str,
        query: Option<&'static str>,
        body: &'static [u8],
        fields: Vec<(&'static str, String)>,
    }

    impl Request {
        fn put() -> Self {
            let body = b"\"hello\"";
            Self {
                method: "PUT",
                authority: "localhost:7007",
                path: "/notes/hi",
                query: Some("view=value"),
                body,
                fields: vec![("content-digest", content_digest(body)), ("content-type", "application/json".into())],
            }
        }

        fn with_head<T>(&self, use_head: impl FnOnce(&RequestHead<'_>) -> T) -> T {
            let field = |wanted: &str| {
                let found = self.fields.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| value.clone())
            };
            use_head(&RequestHead {
                method: self.method,
                scheme: "http",
                authority: self.authority,
                path: self.path,
                query: self.query,
                has_body: !self.body.is_empty(),
                field: &field,
            })
        }

        fn set(&mut self, name: &'static str, value: impl Into<String>) {
            self.fields.retain(|(known, _)| *known != name);
            self.fields.push((name, value.into()));
        }

        fn signed(mut self) -> Self {
            let secret = SigningKey::from_bytes(&key(rfc::SECRET));
            let public = key(rfc::PUBLIC);
            let headers = self.with_head(|head| sign_request(head, &[], &public, NOW_S, |base| secret.sign(base).to_bytes())).expect("a signature");
            self.set("signature-input", headers.signature_input);
            self.set("signature", headers.signature);
            self
        }

        /// Signs what stands in `Signature-Input`, however odd.
        fn signed_as(mut self, input: &str) -> Self {
            let secret = SigningKey::from_bytes(&key(rfc::SECRET));
            let (_, list) = parse_input(input).expect("one inner list");
            let base = self.with_head(|head| signature_base(head, &list));
            let signature = base.map_or([0; 64], |base| secret.sign(&base).to_bytes());
            self.set("signature-input", input);
            self.set("signature", format!("sig1=:{}:", STANDARD.encode(signature)));
            self
        }

        fn verified(&self) -> Result<Option<Signer>, SignatureError> {
            self.with_head(|head| verify_request(head, NOW_S, verify))
        }
    }

    #[test]
    fn accepts_what_it_signed() {
        let request = Request::put().signed();
        let signer = request.verified().expect("verifies").expect("is signed");
        assert_eq!(signer.key(), &key(rfc::PUBLIC));
        assert!(signer.allows_body(b"\"hello\""));
        assert!(!signer.allows_body(b"\"hellO\"") && !signer.allows_body(b""));

        let mut get = Request::put();
        (get.method, get.query, get.body) = ("GET", None, b"");
        get.fields.clear();
        let signer = get.signed().verified().expect("verifies").expect("is signed");
        assert!(signer.allows_body(b"") && !signer.allows_body(b"x"));

        assert_eq!(Request::put().verified(), Ok(None));
    }

    #[test]
    fn notices_every_change() {
        let changes: [fn(&mut Request); 8] = [
            |r| r.method = "POST",
            |r| r.authority = "localhost:7008",
            |r| r.path = "/notes/ho",
            |r| r.query = Some("view=raw"),
            |r| r.query = None,
            |r| r.set("content-type", "text/plain"),
            |r| r.set("content-digest", content_digest(b"other")),
            |r| {
                let input = r.fields.iter().find(|(name, _)| *name == "signature-input");
                let other = input.map(|(_, v)| v.replace("created=17684677", "created=17684678"));
                r.set("signature-input", other.unwrap_or_default());
            },
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut request = Request::put().signed();
            change(&mut request);
            assert_eq!(request.verified(), Err(SignatureError::Forged), "change {at}");
        }
        // Adding what was absent is noticed too.
        let mut get = Request::put();
        (get.method, get.query, get.body) = ("GET", None, b"");
        get.fields.clear();
        let get = get.signed();
        let mut with_query = get.clone();
        with_query.query = Some("inc=5");
        let not_covered = |component| Err(SignatureError::NotCovered { component });
        assert_eq!(with_query.verified(), not_covered("@query"));
        let mut with_body = get;
        with_body.body = b"x";
        assert_eq!(with_body.verified(), not_covered("content-digest"));
    }

    /// Over plain HTTP somebody in between adds what nobody signed.
    #[test]
    fn what_changes_the_meaning_of_a_request_has_to_be_signed() {
        let with_value = |request: &Request, name: &'static str, value: &str| {
            let mut request = request.clone();
            request.set(name, value);
            request
        };
        let with = |request: &Request, name: &'static str| with_value(request, name, if name == "upgrade" { "websocket" } else { "x" });
        let mut get = Request::put();
        (get.method, get.query, get.body) = ("GET", None, b"");
        get.fields.clear();
        for (request, names) in [(Request::put(), &WRITE_FIELDS[..]), (with(&get, "upgrade"), &UPGRADE_FIELDS[..])] {
            for name in names {
                let late = with_value(&request.clone().signed(), name, "y");
                let expected = if request.fields.iter().any(|(known, _)| known == name) {
                    SignatureError::Forged
                } else {
                    SignatureError::NotCovered { component: name }
                };
                assert_eq!(late.verified(), Err(expected), "{name}");
                let mut signed = with(&request, name).signed();
                assert!(signed.verified().is_ok(), "{name}");
                signed.fields.retain(|(known, _)| known != name);
                assert!(signed.verified().is_err(), "{name} was taken away");
            }
        }
        // What only reads may be asked for in other forms.
        for name in ["version", "parents", "peer", "sec-websocket-key", "sec-websocket-protocol"] {
            assert!(with(&get.clone().signed(), name).verified().is_ok(), "{name}");
        }
        assert_eq!(with(&get.clone().signed(), "upgrade").verified(), Err(SignatureError::NotCovered { component: "upgrade" }));
        assert!(with_value(&get.signed(), "upgrade", "h2c").verified().is_ok(), "as clients add of themselves");
    }

    #[test]
    fn reads_both_spellings_of_a_key_and_the_target() {
        let hex: String = key(rfc::PUBLIC).iter().map(|b| format!("{b:02x}")).collect();
        for id in [print_z_base_32(&key(rfc::PUBLIC)), hex.to_uppercase(), hex] {
            let input = format!(
                "sig1=(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\");\
                 created={NOW_S};keyid=\"{id}\""
            );
            let signer = Request::put().signed_as(&input).verified();
            assert_eq!(signer.expect("verifies").expect("is signed").key(), &key(rfc::PUBLIC));
        }
    }

    #[test]
    fn refuses_bad_inputs() {
        use SignatureError as E;
        let id = print_z_base_32(&key(rfc::PUBLIC));
        let all = "\"@method\" \"@target-uri\" \"content-digest\" \"content-type\"";
        let good = format!("created={NOW_S};keyid=\"{id}\"");
        let named = |component: &str| component.to_owned();
        let stale = |created_s| E::NotFresh { created_s, now_s: NOW_S };
        let bad = |name| E::BadParameter { name };
        let many: String = (0..33).map(|n| format!("\"x-{n}\" ")).collect();
        let table = [
            (format!("({all});{good};expires={NOW_S}"), None),
            (format!("({all});{good};alg=\"ed25519\";nonce=\"x\";tag=\"y\""), None),
            (format!("({all});created={};keyid=\"{id}\"", NOW_S - 300), None),
            (format!("({all});created={};keyid=\"{id}\"", NOW_S + 300), None),
            (format!("({all});created={};keyid=\"{id}\"", NOW_S - 301), Some(stale(NOW_S - 301))),
            (format!("({all});created={};keyid=\"{id}\"", NOW_S + 301), Some(stale(NOW_S + 301))),
            (format!("({all});{good};expires={}", NOW_S - 1), Some(stale(NOW_S))),
            (format!("({all});keyid=\"{id}\""), Some(bad("created"))),
            (format!("({all});created=\"1\";keyid=\"{id}\""), Some(bad("created"))),
            (format!("({all});created={NOW_S}.0;keyid=\"{id}\""), Some(bad("created"))),
            (format!("({all});created={NOW_S}"), Some(bad("keyid"))),
            (format!("({all});{good};expires=\"1\""), Some(bad("expires"))),
            (format!("({all});{good};alg=ed25519"), Some(bad("alg"))),
            (format!("({all});{good};alg=\"hmac-sha256\""), Some(E::UnknownAlgorithm)),
            (format!("({all});created={NOW_S};keyid=\"{id}y\""), Some(E::BadKeyId)),
            (format!("({all});created={NOW_S};keyid=\"{}l\"", &id[..51]), Some(E::BadKeyId)),
            (format!("({all});created={NOW_S};keyid=\"{}9\"", &id[..51]), Some(E::BadKeyId)),
            (format!("({all});created={NOW_S};keyid=\"\""), Some(E::BadKeyId)),
            (format!("({all} \"@method\");{good}"), Some(E::DoubleComponent { component: named("@method") })),
            (format!("({all} \"version\";sf);{good}"), Some(E::UnknownComponent { component: named("version") })),
            (format!("({all} \"@status\");{good}"), Some(E::UnknownComponent { component: named("@status") })),
            (format!("({all} \"Content-Type\");{good}"), Some(E::UnknownComponent { component: named("Content-Type") })),
            (format!("({all} \"x\\\"y\");{good}"), Some(E::UnknownComponent { component: named("x\"y") })),
            (format!("({all} \"x-absent\");{good}"), Some(E::AbsentComponent { component: named("x-absent") })),
            (format!("({many});{good}"), Some(E::TooManyComponents { count: 33 })),
            (format!("({all} token);{good}"), Some(E::Syntax { header: "Signature-Input" })),
            (format!("();{good}"), Some(E::NotCovered { component: "@method" })),
        ];
        for (input, expected) in table {
            let request = Request::put().signed_as(&format!("sig1={input}"));
            assert_eq!(request.verified().err(), expected, "{input}");
        }
    }

    #[test]
    fn refuses_bad_headers() {
        use SignatureError as E;
        let good = Request::put().signed();
        let refused = |change: &dyn Fn(&mut Request)| {
            let mut request = good.clone();
            change(&mut request);
            request.verified().expect_err("a bad header")
        };
        let syntax = |header| E::Syntax { header };
        assert_eq!(refused(&|r| r.fields.retain(|(name, _)| *name != "signature")), E::MissingHeader { header: "Signature" });
        assert_eq!(refused(&|r| r.fields.retain(|(name, _)| *name != "signature-input")), E::MissingHeader { header: "Signature-Input" });
        assert_eq!(refused(&|r| r.set("signature", "")), E::NotOne { count: 0 });
        assert_eq!(refused(&|r| r.set("signature", "sig1=?1")), syntax("Signature"));
        assert_eq!(refused(&|r| r.set("signature", "sig1=:AAAA:")), syntax("Signature"));
        assert_eq!(refused(&|r| r.set("signature", "sig2=:AAAA:")), E::LabelMismatch { label: "sig1".into() });
        let two = "a=(\"@method\");created=1, b=()";
        assert_eq!(refused(&|r| r.set("signature-input", two)), E::NotOne { count: 2 });
        assert_eq!(refused(&|r| r.set("signature-input", "sig1=1")), syntax("Signature-Input"));
        assert_eq!(refused(&|r| r.set("content-digest", "sha-512=:AAAA:")), E::BadDigest(DigestError::NoSha256));
        assert_eq!(refused(&|r| r.set("content-type", "a\nb")), E::BadValue { component: "content-type".into() });
        let zeros = format!("sig1=:{}:", STANDARD.encode([0; 64]));
        assert_eq!(refused(&|r| r.set("signature", zeros.clone())), E::Forged);
    }

    #[test]
    fn compares_digests() {
        // RFC 9530, appendix D: the digest of a small JSON body.
        let header = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        let body = b"{\"hello\": \"world\"}";
        assert_eq!(content_digest(body), header);
        assert_eq!(content_digest_matches(header, body), Ok(true));
        assert_eq!(content_digest_matches(header, b"{}"), Ok(false));
        let two = format!("sha-512=:AAAA:, {header}");
        assert_eq!(content_digest_matches(&two, body), Ok(true));
        assert_eq!(content_digest_matches("sha-512=:AAAA:", body), Err(DigestError::NoSha256));
        for bad in ["x y", "sha-256", "sha-256=AAAA", "sha-256=:AAAA:", "sha-256=(:AAAA:)"] {
            assert_eq!(content_digest_matches(bad, body), Err(DigestError::Syntax), "{bad}");
        }
    }

    /// The structured-field test suite: our reading must agree on what is a dictionary, and print
    /// inner lists in the one canonical spelling.
    #[test]
    fn agrees_with_the_structured_field_tests() {
        let Some(archive) = data_file("04-protocol/structured-field-tests.tar.gz") else {
            return;
        };
        let unpacked = std::process::Command::new("tar").arg("-xzOf").arg(archive).arg("dictionary.json").output();
        let Ok(output) = unpacked else {
            eprintln!("skipped: no tar");
            return;
        };
        let cases: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("a JSON list");
        let mut inner_lists = 0;
        for case in &cases {
            let lines: Vec<&str> = case["raw"].as_array().expect("raw lines").iter().filter_map(serde_json::Value::as_str).collect();
            let raw = lines.join(", ");
            let parsed = parse_dictionary(&raw);
            if case["can_fail"] != true {
                assert_eq!(parsed.is_none(), case["must_fail"] == true, "{raw}");
            }
            let canonical = case["canonical"][0].as_str().unwrap_or(&raw);
            for member in parsed.iter().flat_map(|members| members.values()) {
                if let ListEntry::InnerList(list) = member {
                    inner_lists += 1;
                    let printed = print_input(list);
                    assert!(canonical.contains(&printed), "{printed} of {raw}");
                }
            }
            let _ = parse_input(&raw);
            let _ = parse_signature(&raw, "a");
            let _ = parse_digest(&raw);
        }
        assert!(inner_lists > 0, "the file has another form than expected");
    }

    proptest! {
        #[test]
        fn keys_are_read_as_printed(key in any::<[u8; 32]>()) {
            let text = print_z_base_32(&key);
            prop_assert_eq!(text.len(), 52);
            prop_assert_eq!(parse_key_id(&text), Some(key));
        }

        #[test]
        fn no_key_id_panics(text in "([a-z0-9]{51,53}|[0-9a-f]{64}|\\PC{0,64})") {
            if let Some(key) = parse_key_id(&text).filter(|_| text.len() == 52) {
                prop_assert_eq!(print_z_base_32(&key), text);
            }
        }

        #[test]
        fn no_headers_panic(
            input in concat!(
                "(sig1=\\(\"@method\" \"@target-uri\"\\)",
                "(;created=[0-9]{1,16}|;keyid=\"[a-z]{0,3}\"){0,2})|\\PC{0,40}",
            ),
            signature in "(sig1=:[A-Za-z=]{0,12}:)|\\PC{0,40}",
            digest in "\\PC{0,40}",
        ) {
            let mut request = Request::put();
            request.set("signature-input", input);
            request.set("signature", signature);
            request.set("content-digest", digest.clone());
            let verified = request.verified();
            prop_assert!(verified.is_err());
            let _ = content_digest_matches(&digest, b"");
        }
    }
}
