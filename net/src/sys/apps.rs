//! `/.sys/apps`: what is installed, what can be, and how apps come and go.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::json::{Json, Limits};
use timebus_store::path::Path;
use timebus_store::tree::value_json;
use timebus_store::value::{INLINE_BYTES_MAX, Mime, Value};
use timebus_store::writer::{Action, Condition, Request};

use crate::apps::bundle::{BUNDLE_BYTES_MAX, Bundle, BundleError, MANIFEST, mime};
use crate::apps::manifest::{Of, Verb, Want, is_name};
use crate::apps::{App, InstallError, Source, Wish};
use crate::body::Body;
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{bad_path, storage_problem, write_problem};
use crate::sys::answer_json;
use crate::who::{Who, now_ms};

/// Largest request about apps: all files of one, as base64.
pub(crate) const BODY_BYTES_MAX: usize = crate::apps::bundle::BUNDLE_BYTES_MAX / 3 * 4 + 1024 * 1024;

/// Answers a request about apps; `None` if it is none.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<http::Response<Body>, Problem>> {
    let answer = match (method, rest) {
        (&Method::GET | &Method::HEAD, ["apps"]) => list(peer).await,
        (&Method::POST, ["apps", "look"]) => look(peer, body).await,
        (&Method::POST, ["apps", "install"]) => install(peer, body).await,
        (&Method::POST, ["apps", "remove"]) => remove(peer, body),
        (&Method::POST, ["apps", "open"]) => open(peer, body).await,
        (&Method::POST, ["apps", "publish"]) => publish(peer, body).await,
        _ => return None,
    };
    Some(answer.map(|value| answer_json(&value)))
}

/// Where an app is taken from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum From {
    /// Part of the program, by name.
    Builtin(String),
    /// `@who/name`.
    Space(String),
    /// A folder of this machine, whose files come along.
    Folder { folder: String, files: BTreeMap<String, String> },
    /// An app that is installed here, by its alias.
    Installed(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    from: From,
    /// What it shall be called here.
    alias: Option<String>,
    /// The version that was looked at.
    version: Option<String>,
    /// The space that it gets; the one that it has, or the own one, if nothing is said.
    space: Option<String>,
    #[serde(default)]
    is_dev: bool,
}

fn read<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "json", "the body is not what this takes", error.to_string()))
}

fn not_an_app(error: &BundleError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "app", "this is no app", error.to_string())
        .with_fix("`timebus app new NAME` makes a folder that is one; `timebus app --help` says what app.json holds")
}

fn absent(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "app", "there is no such app", detail)
        .with_fix("`timebus app ls` shows what is here and what can be installed")
}

fn refused(error: &InstallError) -> Problem {
    let status = match error {
        InstallError::Alias(_) => StatusCode::BAD_REQUEST,
        InstallError::Taken(_) | InstallError::TooMany => StatusCode::CONFLICT,
        InstallError::Io(_) => StatusCode::INSUFFICIENT_STORAGE,
    };
    Problem::new(status, "app", "the app cannot be installed so", error.to_string()).with_fix("name another alias, or remove an app")
}

/// The files of an app, from wherever they are.
async fn fetch(peer: &Peer, from: From) -> Result<(Bundle, Source), Problem> {
    match from {
        From::Builtin(name) => {
            let Some(found) = peer.config.apps.iter().find(|app| app.name == name) else {
                // On another device of the owner it is installed from his own space.
                if published_here(peer)?.contains_key(&name) {
                    return published(peer, &peer.space().to_string(), &name).await;
                }
                return Err(absent(format!("no app called {name} ships with timebus or is published in your space")));
            };
            Ok((found.bundle().map_err(|error| not_an_app(&error))?, Source::Builtin))
        }
        From::Space(place) => {
            let (who, name) =
                place.strip_prefix('@').and_then(|place| place.split_once('/')).ok_or_else(|| absent(format!("write @who/name, not {place:?}")))?;
            let own = peer.space().to_string();
            published(peer, if is_own_name(peer, who) { &own } else { who }, name).await
        }
        From::Folder { folder, files } => Ok((Bundle::from_base64(files).map_err(|error| not_an_app(&error))?, Source::Folder(folder))),
        From::Installed(alias) => {
            let app = peer.apps().find(&alias).ok_or_else(|| absent(format!("no app is installed as {alias}")))?;
            let bundle = app.bundle().map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "app", "the app is damaged", error))?;
            Ok(((*bundle).clone(), app.record.source.clone()))
        }
    }
}

/// Whether a name is the owner's own: the one of his profile, or "me".
fn is_own_name(peer: &Peer, who: &str) -> bool {
    who == "me" || crate::people::profile_name(peer.store(), &peer.space()).is_some_and(|name| name == who)
}

/// What the owner's space publishes: title, description and version, by name.
fn published_here(peer: &Peer) -> Result<BTreeMap<String, Serde>, Problem> {
    let store = peer.store();
    let path = Path::parse("/.apps").map_err(|error| bad_path(&error))?;
    let tree = store.read(&store.snapshot(), store.own(), &path).map_err(|error| storage_problem(&error))?.tree;
    let Some(Json::Object(apps)) = tree.to_json(&store.space()) else { return Ok(BTreeMap::new()) };
    let told = |name: &String, app: &Json| {
        let Json::Object(app) = app else { return None };
        let manifest = crate::sys::to_serde(app.get("manifest")?);
        let version = crate::sys::to_serde(app.get("version")?);
        is_name(name).then(|| json!({"name": name, "title": manifest["title"], "about": manifest["about"], "version": version}))
    };
    Ok(apps.iter().filter_map(|(name, app)| Some((name.clone(), told(name, app)?))).collect())
}

/// The space that an app gets: as is said, else the one that it has, else the owner's own.
async fn space_for(peer: &Peer, said: Option<&str>, old: Option<&App>) -> Result<PublicKey, Problem> {
    match said {
        Some(said) if is_own_name(peer, said.strip_prefix('@').unwrap_or(said)) => Ok(peer.space()),
        Some(said) if said.strip_prefix('@').unwrap_or(said) == peer.space().to_string() => Ok(peer.space()),
        Some(said) => crate::sys::network::find_space(peer, said).await,
        None => Ok(old.map_or(peer.space(), |old| old.space)),
    }
}

/// An app that somebody published, from the space or whoever has it.
async fn published(peer: &Peer, who: &str, name: &str) -> Result<(Bundle, Source), Problem> {
    if !is_name(name) {
        return Err(absent(format!("{name:?} is no name of an app")));
    }
    let segments = [format!("@{who}"), ".apps".to_owned(), name.to_owned()];
    let (space, path, _) = crate::remote::reach(peer, &HeaderMap::new(), &segments, &Who::Owner, crate::authority::Verb::Read).await?;
    let store = peer.store();
    let rows = store.snapshot();
    let tree = store.read(&rows, space, &path).map_err(|error| storage_problem(&error))?.tree;
    let Some(Json::Object(app)) = tree.to_json(&space.key) else { return Err(absent(format!("{who} has published no app called {name}"))) };
    // Who may write in somebody's space publishes nothing in his name: what is here is the owner's own word, see `OWN_WORDS`.
    let mut found = Vec::new();
    if let Some(json) = app.get("files") {
        collect(json, String::new(), &mut found)?;
    }
    let mut files = Vec::new();
    let mut left = BUNDLE_BYTES_MAX as u64;
    for (path, file) in found {
        let bytes = match file {
            File::Here(bytes) => bytes,
            File::Blob(hash, len) => {
                left = left.checked_sub(len).ok_or_else(|| not_an_app(&BundleError::TooLarge))?;
                crate::blobs::whole(peer, space, hash, len).await?.into()
            }
        };
        files.push((path, bytes));
    }
    let bundle = Bundle::new(files).map_err(|error| not_an_app(&error))?;
    if bundle.manifest.name != name {
        return Err(not_an_app(&BundleError::Path(MANIFEST.to_owned())));
    }
    Ok((bundle, Source::Space(space.key.to_string())))
}

/// A published file: small ones are in the tree, larger ones beside it.
enum File {
    Here(Bytes),
    Blob(BlobHash, u64),
}

/// Files out of a tree of values.
fn collect(json: &Json, path: String, files: &mut Vec<(String, File)>) -> Result<(), Problem> {
    let Json::Object(members) = json else { return Ok(()) };
    let bad = || not_an_app(&BundleError::Path(path.clone()));
    let file = match (members.get("@bytes"), members.get("@blob"), members.get("@bytes_total")) {
        (Some(Json::String(text)), ..) => Some(File::Here(STANDARD.decode(text).map_err(|_| bad())?.into())),
        (None, Some(Json::String(hash)), Some(Json::Int(len))) => {
            let hash = timebus_identity::z32::decode_32(hash).map_err(|_| bad())?;
            Some(File::Blob(BlobHash::from_bytes(hash), u64::try_from(*len).map_err(|_| bad())?))
        }
        _ => None,
    };
    if let Some(file) = file {
        files.push((path, file));
        return Ok(());
    }
    if files.len() > crate::apps::bundle::FILES_MAX {
        return Err(not_an_app(&BundleError::TooLarge));
    }
    for (name, below) in members {
        collect(below, if path.is_empty() { name.clone() } else { format!("{path}/{name}") }, files)?;
    }
    Ok(())
}

/// What an app wants, in plain words.
fn words(want: &Want, space: &str) -> String {
    let verbs = match (want.may.contains(&Verb::Read), want.may.contains(&Verb::Write)) {
        (true, true) => "read and change",
        (false, true) => "change",
        _ => "read",
    };
    match (want.path.as_str(), want.of) {
        ("/.sys/spaces", _) => "see whose spaces are on this peer and what you call them".to_owned(),
        ("/.sys/refs", _) => "see who points at what: likes, replies, followers".to_owned(),
        ("/.sys/lists", _) => "see whom you muted and blocked, to leave them out".to_owned(),
        ("/.sys/mute", _) => "mute people for you, and hear them again".to_owned(),
        ("/.sys/follow", _) => "follow people for you: their spaces are fetched and kept here".to_owned(),
        ("/.drop", Of::Me) => "read the notices that others sent you".to_owned(),
        ("/.drop", Of::Others) => "send notices to others in your name".to_owned(),
        (path, Of::Me) => format!("{verbs} {path} in {space}"),
        (path, Of::Others) if want.may.contains(&Verb::Write) => format!("{verbs} {path} in spaces of others, where they let you"),
        (path, Of::Others) => format!("{verbs} {path} in spaces of others that are here"),
    }
}

/// What an installed app was given, in plain words.
pub(super) fn card_words(record: &crate::apps::Record, space: &str) -> Vec<String> {
    record.given.iter().map(|want| words(want, space)).collect()
}

/// The space of an app, in plain words.
pub(super) fn space_words(peer: &Peer, people: &People, space: &PublicKey) -> String {
    if *space == peer.space() { "your space".to_owned() } else { format!("the space of {}", people.name(space)) }
}

fn lines(wants: &[Want], space: &str) -> Vec<Serde> {
    wants.iter().map(|want| json!({"words": words(want, space), "why": want.why, "path": want.path, "may": want.may, "of": want.of})).collect()
}

fn source(peer: &Peer, people: &People, source: &Source) -> Serde {
    match source {
        Source::Builtin => json!({"kind": "builtin", "words": "comes with timebus"}),
        Source::Folder(folder) => json!({"kind": "folder", "folder": folder, "words": format!("from the folder {folder}")}),
        Source::Space(key) => {
            let name = key.parse().map(|key: PublicKey| people.name(&key)).unwrap_or_default();
            let own = *key == peer.space().to_string();
            let words = if own { "published by you".to_owned() } else { format!("published by {name}") };
            json!({"kind": "space", "space": key, "name": name, "words": words})
        }
    }
}

/// What somebody reads before an app is installed.
fn card(peer: &Peer, people: &People, bundle: &Bundle, from: &Source, alias: &str, old: Option<&App>, space: &PublicKey) -> Serde {
    let manifest = &bundle.manifest;
    let whose = space_words(peer, people, space);
    // What it had in one space it has not in another.
    let is_moved = old.is_some_and(|old| old.space != *space);
    let (given, network) = old.filter(|_| !is_moved).map_or((&[][..], &[][..]), |old| (&old.record.given[..], &old.record.network[..]));
    let (asks, hosts) = manifest.asks_beyond(given, network);
    json!({
        "alias": alias,
        "name": manifest.name,
        "title": manifest.title,
        "about": manifest.about,
        "icon": bundle.icon(),
        "version": bundle.version(),
        "source": source(peer, people, from),
        "may": lines(&manifest.wants, &whose),
        "network": manifest.network,
        "installed": old.map(|old| old.record.version.clone()),
        "asks_more": lines(&asks, &whose),
        "asks_hosts": hosts,
        "space": space.to_string(),
        "space_words": whose,
        "had": old.filter(|_| is_moved).map(|old| space_words(peer, people, &old.space)),
    })
}

fn describe(peer: &Peer, people: &People, app: &App) -> Serde {
    let record = &app.record;
    let whose = space_words(peer, people, &app.space);
    let bundle = app.bundle();
    let manifest = bundle.as_ref().ok().map(|bundle| &bundle.manifest);
    json!({
        "alias": record.alias,
        "name": record.name,
        "title": manifest.map_or(&record.name, |manifest| &manifest.title),
        "about": manifest.map_or("", |manifest| &manifest.about),
        "icon": bundle.as_ref().ok().and_then(|bundle| bundle.icon()),
        "version": record.version,
        "source": source(peer, people, &record.source),
        "space": record.space,
        "space_words": whose,
        "may": lines(&record.given, &whose),
        "network": record.network,
        "installed_ms": record.installed_ms,
        "is_dev": record.is_dev,
        "url": peer.app_url(&record.alias),
        "port_url": record.port.map(|port| format!("http://localhost:{port}/")),
        "problem": bundle.as_ref().err(),
        "update": update(peer, app, &whose),
    })
}

/// The version that could be installed instead, and whether it asks for more.
fn update(peer: &Peer, app: &App, whose: &str) -> Option<Serde> {
    match &app.record.source {
        Source::Builtin => {
            let bundle = peer.config.apps.iter().find(|other| other.name == app.record.name)?.bundle().ok()?;
            let (asks, hosts) = bundle.manifest.asks_beyond(&app.record.given, &app.record.network);
            let is_new = bundle.version() != app.record.version;
            is_new.then(|| json!({"version": bundle.version(), "asks_more": lines(&asks, whose), "asks_hosts": hosts}))
        }
        Source::Space(key) => {
            let space = peer.store().held(&key.parse().ok()?)?;
            let path = Path::parse(&format!("/.apps/{}/version", app.record.name)).ok()?;
            let rows = peer.store().snapshot();
            match peer.store().read(&rows, space, &path).ok()?.tree.to_json(&space.key)? {
                Json::String(version) if version != app.record.version => Some(json!({ "version": version })),
                _ => None,
            }
        }
        Source::Folder(_) => None,
    }
}

async fn list(peer: &Peer) -> Result<Serde, Problem> {
    let apps = peer.apps().all();
    let people = People::now(peer).await;
    let installed: Vec<Serde> = apps.iter().map(|app| describe(peer, &people, app)).collect();
    let mut offered = Vec::new();
    for built_in in peer.config.apps {
        let is_here = apps.iter().any(|app| app.record.name == built_in.name && app.record.source == Source::Builtin);
        if let (false, Ok(bundle)) = (is_here, built_in.bundle())
            && let Ok((alias, _)) = peer.apps().place(built_in.name, &Source::Builtin, None)
        {
            offered.push(card(peer, &people, &bundle, &Source::Builtin, &alias, None, &peer.space()));
        }
    }
    // What is installed here is not told twice, wherever this device has it from.
    let mut published = published_here(peer)?;
    published.retain(|name, _| !apps.iter().any(|app| app.record.name == *name));
    Ok(json!({ "apps": installed, "offered": offered, "published": published.into_values().collect::<Vec<_>>() }))
}

async fn look(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let Wanted { from, alias, space, .. } = read(body)?;
    let (bundle, from) = fetch(peer, from).await?;
    let (alias, old) = peer.apps().place(&bundle.manifest.name, &from, alias.as_deref()).map_err(|error| refused(&error))?;
    let space = space_for(peer, space.as_deref(), old.as_deref()).await?;
    Ok(card(peer, &People::now(peer).await, &bundle, &from, &alias, old.as_deref(), &space))
}

async fn install(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let Wanted { from, alias, version, space, is_dev } = read(body)?;
    let (bundle, from) = fetch(peer, from).await?;
    // Nobody agreed to what he has not seen.
    if version.as_ref() != Some(&bundle.version()) {
        return Err(Problem::new(StatusCode::CONFLICT, "app", "this is not the version that was looked at", format!("it is {}", bundle.version()))
            .with_fix("look at it again, then install the version that the answer names"));
    }
    let (_, old) = peer.apps().place(&bundle.manifest.name, &from, alias.as_deref()).map_err(|error| refused(&error))?;
    let space = space_for(peer, space.as_deref(), old.as_deref()).await?;
    let wish = Wish { bundle, source: from, space, alias, is_dev, now_ms: now_ms() };
    let app = peer.apps().install(peer.app_tokens(), wish).map_err(|error| refused(&error))?;
    peer.store().recheck_rights();
    Ok(describe(peer, &People::now(peer).await, &app))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    alias: String,
    /// Whether a port of its own is wanted, for a browser that knows no `*.localhost`.
    #[serde(default)]
    port: bool,
}

fn remove(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let Named { alias, .. } = read(body)?;
    let removed = peer.apps().remove(peer.app_tokens(), &alias).map_err(|error| refused(&InstallError::Io(error)))?;
    let removed = removed.ok_or_else(|| absent(format!("no app is installed as {alias}")))?;
    peer.store().recheck_rights();
    let kept: Vec<&str> =
        removed.record.given.iter().filter(|given| given.of == Of::Me && !given.path.starts_with("/.")).map(|given| &*given.path).collect();
    Ok(json!({ "removed": alias, "kept": kept }))
}

async fn open(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let Named { alias, port } = read(body)?;
    let app = peer.apps().find(&alias).ok_or_else(|| absent(format!("no app is installed as {alias}")))?;
    let code = peer.apps().code(&alias);
    let url = peer.app_url(&alias);
    let port_url = match port {
        true => {
            let port = peer.app_port(&app).await.map_err(|error| refused(&InstallError::Io(error)))?;
            Some(format!("http://localhost:{port}/#open={}", peer.apps().code(&alias)))
        }
        false => None,
    };
    Ok(json!({"alias": alias, "url": format!("{url}#open={code}"), "port_url": port_url}))
}

/// Writes an app into the own space, where whoever reads the space can install it.
async fn publish(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let Wanted { from, .. } = read(body)?;
    let (bundle, _) = fetch(peer, from).await?;
    let mut files = BTreeMap::new();
    // Nothing is collected before the value that names it is written.
    let mut leases = Vec::new();
    for (path, bytes) in bundle.files() {
        let kind = mime(path).unwrap_or("application/octet-stream");
        let leaf = if bytes.len() > INLINE_BYTES_MAX {
            let (hash, len, lease) = crate::blobs::keep(peer, bytes.clone()).await?;
            leases.push(lease);
            value_json(&Value::Blob { hash: *hash.as_bytes(), len, mime: Mime::new(kind).unwrap_or_else(Mime::plain_text) }, &peer.space())
        } else {
            let leaf = [("@bytes", STANDARD.encode(bytes)), ("@type", kind.to_owned())];
            Json::Object(leaf.map(|(name, text)| (name.to_owned(), Json::String(text))).into())
        };
        insert(&mut files, &path.split('/').collect::<Vec<_>>(), leaf);
    }
    let manifest = bundle.files().find(|(path, _)| *path == MANIFEST).map(|(_, bytes)| Json::parse(bytes, Limits::default()));
    let manifest = manifest.and_then(Result::ok).unwrap_or(Json::Null);
    let value = [("manifest", manifest), ("version", Json::String(bundle.version())), ("files", Json::Object(files))];
    let value = Json::Object(value.map(|(name, json)| (name.to_owned(), json)).into());
    let path = Path::parse(&format!("/.apps/{}", bundle.manifest.name)).map_err(|error| bad_path(&error))?;
    let request = Request {
        space: Some(peer.store().own()),
        path: path.clone(),
        action: Action::Put(value),
        parents: None,
        label: None,
        condition: Condition::None,
        time_ms: now_ms(),
        durable: true,
        may_name: None,
    };
    peer.store().write(request).await.map_err(|error| write_problem(&error))?;
    Ok(json!({"name": bundle.manifest.name, "title": bundle.manifest.title, "version": bundle.version(), "path": path.to_string(),
        "from": format!("@{}/{}", peer.space(), bundle.manifest.name)}))
}

/// Puts a leaf into a tree of objects.
fn insert(into: &mut BTreeMap<String, Json>, path: &[&str], leaf: Json) {
    match path {
        [] => {}
        [name] => drop(into.insert((*name).to_owned(), leaf)),
        [name, rest @ ..] => {
            if let Json::Object(below) = into.entry((*name).to_owned()).or_insert_with(|| Json::Object(BTreeMap::new())) {
                insert(below, rest, leaf);
            }
        }
    }
}

/// The version of an app that the own space has published, for a link that brings it along.
pub(crate) fn published_version(peer: &Peer, name: &str) -> Result<[u8; 32], Problem> {
    let not_there = || absent(format!("you have published no app called {name}"));
    let path = Path::parse(&format!("/.apps/{name}/version")).map_err(|error| bad_path(&error))?;
    let rows = peer.store().snapshot();
    let own = peer.store().own();
    match peer.store().read(&rows, own, &path).map_err(|error| storage_problem(&error))?.tree.to_json(&own.key) {
        Some(Json::String(version)) => timebus_identity::z32::decode_32(&version).map_err(|_| not_there()),
        _ => Err(not_there()),
    }
}

/// Apps that ship with the program go on with the version that ships, unless that one asks for more.
pub(crate) fn renew(peer: &Peer) {
    for app in peer.apps().all() {
        if app.record.source != Source::Builtin {
            continue;
        }
        let Some(built_in) = peer.config.apps.iter().find(|other| other.name == app.record.name) else { continue };
        let Ok(bundle) = built_in.bundle() else { continue };
        let (asks, hosts) = bundle.manifest.asks_beyond(&app.record.given, &app.record.network);
        if bundle.version() == app.record.version || !asks.is_empty() || !hosts.is_empty() {
            continue;
        }
        let alias = Some(app.record.alias.clone());
        let wish = Wish { bundle, source: Source::Builtin, space: app.space, alias, is_dev: false, now_ms: now_ms() };
        if let Err(error) = peer.apps().install(peer.app_tokens(), wish) {
            tracing::warn!(%error, app = %app.record.alias, "the new version of an app could not be installed");
        }
    }
}
