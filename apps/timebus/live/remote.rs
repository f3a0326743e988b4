//! The peer's side: values of a subtree as files.

use std::collections::BTreeMap;

use hyper::Method;

use super::journal::{Agreed, Kind};
use crate::client::{Client, JSON, Request};
use crate::failure::Failure;
use crate::folder::json_file;
use crate::media;
use crate::pieces::is_name;
use crate::target::{Target, Versions};
use crate::value::{Json, compact, file, parse, text};

/// How often a value is read again that changes while it is read.
const READS_MAX: usize = 20;

/// A value that is a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Where it is.
    pub(crate) names: Vec<String>,
    /// Whether its file shows JSON.
    pub(crate) is_json: bool,
    /// Hash of how it shows in JSON.
    pub(crate) shown: String,
}

/// A value, read.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) agreed: Agreed,
    pub(crate) content: Vec<u8>,
    pub(crate) mime: String,
}

/// Hash of bytes, as it is remembered.
pub(crate) fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn at(root: &Target, names: &[String]) -> Target {
    names.iter().fold(root.clone(), |target, name| target.child(name))
}

/// The values below a path as files, by file name; what finds no place is named in `skipped`.
pub(crate) async fn list(client: &mut Client, root: &Target, below: &[String], skipped: &mut Vec<String>) -> anyhow::Result<BTreeMap<String, Leaf>> {
    let request = Request::get(at(root, below).encoded()).header("accept", JSON)?;
    let mut leaves = BTreeMap::new();
    match client.send(request).await {
        Ok(answer) => {
            let json = parse(&answer.bytes().await?)?;
            add(json, below.to_vec(), &mut leaves, skipped);
        }
        Err(error) if Failure::of(&error).status == Some(404) => {}
        Err(error) => return Err(error),
    }
    Ok(leaves)
}

fn add(json: Json, names: Vec<String>, leaves: &mut BTreeMap<String, Leaf>, skipped: &mut Vec<String>) {
    if let Json::Object(members) = &json
        && file(&json).is_none()
        && !(members.len() == 1 && text(&json, "link").is_some())
        && members.keys().all(|name| is_name(name))
    {
        let Json::Object(members) = json else { return };
        // Files of their own name first, so that a value in JSON never takes one's place.
        let (files, others): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, value)| !shows_json(value));
        for (name, value) in files.into_iter().chain(others) {
            let names = names.iter().cloned().chain([name]).collect();
            add(value, names, leaves, skipped);
        }
        return;
    }
    let is_json = shows_json(&json);
    let Some(key) = key_of(&names, is_json) else { return };
    if !names.iter().all(|name| super::disk::takes_part(name))
        || leaves.contains_key(&key)
        || key.rsplit('/').next().is_some_and(|name| name.len() > 255)
    {
        skipped.push(format!("/{} (no file can have its name here)", names.join("/")));
        return;
    }
    leaves.insert(key, Leaf { shown: hash(compact(&json).as_bytes()), names, is_json });
}

/// Whether a value has no file form but JSON.
fn shows_json(json: &Json) -> bool {
    match json {
        Json::String(_) => false,
        Json::Object(_) => file(json).is_none(),
        _ => true,
    }
}

/// The name of the file of a value; `None` for the path itself.
pub(crate) fn key_of(names: &[String], is_json: bool) -> Option<String> {
    (!names.is_empty()).then(|| names.join("/") + if is_json { ".json" } else { "" })
}

/// Where the value of a file is.
pub(crate) fn names_of(file: &str, kind: Kind) -> Vec<String> {
    let path = if kind == Kind::Json { file.strip_suffix(".json").unwrap_or(file) } else { file };
    path.split('/').map(str::to_owned).collect()
}

/// Reads the value of a file, now or at an old version; `None` if nothing is there.
pub(crate) async fn read(
    client: &mut Client,
    root: &Target,
    names: &[String],
    is_json: bool,
    version: Option<&str>,
) -> anyhow::Result<Option<Value>> {
    let target = at(root, names).encoded();
    let version = version.map(|version| Versions::new(vec![version.to_owned()]));
    for _ in 0..READS_MAX {
        let mut request = Request::get(&target).versions("version", version.as_ref())?;
        if is_json {
            request = request.header("accept", JSON)?;
        }
        let answer = match client.send(request).await {
            Ok(answer) => answer,
            Err(error) if Failure::of(&error).status == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        if answer.length().is_some_and(|length| length > super::disk::FILE_BYTES_MAX) {
            let title = "it is larger than 64 MiB; `timebus get` fetches it";
            return Err(Failure { status: Some(413), ..Failure::refused(title) }.into());
        }
        let (mime, seen) = (answer.header("content-type").unwrap_or(JSON).to_owned(), answer.version());
        let bytes = answer.bytes().await?;
        let essence = mime.split(';').next().unwrap_or_default().trim();
        let make = |kind, content: Vec<u8>, shown: &Json| {
            let agreed = Agreed { version: seen.list().to_vec(), hash: hash(&content), shown: hash(compact(shown).as_bytes()), kind };
            Some(Value { agreed, content, mime: mime.clone() })
        };
        if essence == JSON {
            let json = parse(&bytes)?;
            return Ok(match &json {
                Json::String(text) if !is_json => make(Kind::Text, text.clone().into_bytes(), &json),
                // A folder stands where the file was.
                Json::Object(_) if !shows_json(&json) || !is_json => None,
                _ => make(Kind::Json, json_file(&json), &json),
            });
        }
        if is_json {
            return Ok(None);
        }
        if essence.starts_with("text/")
            && let Ok(text) = String::from_utf8(bytes.clone())
        {
            // Text that does not merge shows as bytes do.
            let shown = shown(client, &target, version.as_ref()).await?;
            if let Some((json, again)) = shown
                && again.list() == seen.list()
            {
                let kind = if json == Json::String(text) { Kind::Text } else { Kind::Bytes };
                return Ok(make(kind, bytes, &json));
            }
            continue;
        }
        if let Some((json, again)) = shown(client, &target, version.as_ref()).await?
            && again.list() == seen.list()
        {
            return Ok(make(Kind::Bytes, bytes, &json));
        }
    }
    Err(Failure::refused(format!("{target} changes faster than it can be read")).into())
}

/// How a value shows in JSON.
async fn shown(client: &mut Client, target: &str, version: Option<&Versions>) -> anyhow::Result<Option<(Json, Versions)>> {
    let request = Request::get(target).header("accept", JSON)?.versions("version", version)?;
    match client.send(request).await {
        Ok(answer) => {
            let version = answer.version();
            Ok(Some((parse(&answer.bytes().await?)?, version)))
        }
        Err(error) if Failure::of(&error).status == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a file. `parents` is what it was written upon; `None` means everything.
pub(crate) async fn send(
    client: &mut Client,
    root: &Target,
    names: &[String],
    (mime, content): (&str, Vec<u8>),
    parents: Option<&[String]>,
    label: &str,
) -> anyhow::Result<()> {
    let mut request = Request::new(Method::PUT, at(root, names).encoded()).body(mime, content)?;
    request = request.versions("version", Some(&Versions::new(vec![label.to_owned()])))?;
    if let Some(parents) = parents {
        request = request.versions("parents", Some(&Versions::new(parents.to_vec())))?;
    }
    client.send(request).await.map(drop)
}

/// Deletes what was seen of a value.
pub(crate) async fn delete(client: &mut Client, root: &Target, names: &[String], parents: &[String]) -> anyhow::Result<()> {
    let request = Request::new(Method::DELETE, at(root, names).encoded()).versions("parents", Some(&Versions::new(parents.to_vec())))?;
    match client.send(request).await {
        Err(error) if Failure::of(&error).status == Some(404) => Ok(()),
        other => other.map(drop),
    }
}

/// The media type of a file that is sent: texts are of a kind that merges.
pub(crate) fn mime_of(file: &str, is_text: bool) -> &'static str {
    match (media::of_name(std::path::Path::new(file)), is_text) {
        (Some("text/markdown"), true) => "text/markdown",
        (_, true) => "text/plain",
        (Some(mime), false) if mime != JSON => mime,
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_files() {
        let json = parse(br#"{"a":{"b.md":"text","n":1,"list":[1],"empty":{}},"n.json":"{}","n":2,".hidden":"x","l":{"link":"/a"},"o":{"x/y":1}}"#);
        let (mut leaves, mut skipped) = (BTreeMap::new(), Vec::new());
        add(json.expect("JSON"), Vec::new(), &mut leaves, &mut skipped);
        let found: Vec<_> = leaves.iter().map(|(key, leaf)| (key.as_str(), leaf.names.join("/"), leaf.is_json)).collect();
        let wanted = [
            ("a/b.md", "a/b.md", false),
            ("a/list.json", "a/list", true),
            ("a/n.json", "a/n", true),
            ("l.json", "l", true),
            ("n.json", "n.json", false),
            ("o.json", "o", true),
        ];
        assert_eq!(found, wanted.map(|(key, names, is_json)| (key, names.to_owned(), is_json)));
        assert_eq!(skipped, ["/.hidden (no file can have its name here)", "/n (no file can have its name here)"]);
        for (key, names, is_json) in found {
            assert_eq!(names_of(key, if is_json { Kind::Json } else { Kind::Text }).join("/"), names);
        }
    }

    #[test]
    fn texts_are_sent_as_what_merges() {
        assert_eq!(mime_of("a/b.md", true), "text/markdown");
        assert_eq!(mime_of("a/b.json", true), "text/plain");
        assert_eq!(mime_of("b.png", false), "image/png");
        assert_eq!(mime_of("b", false), "application/octet-stream");
    }
}
