//! The files of an app, and the hash that is their version.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::Digest as _;
use timebus_identity::{hash, z32};

use crate::apps::manifest::{Manifest, ManifestError};

/// Most bytes of all files: an app that is larger is a data set.
pub const BUNDLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most files.
pub const FILES_MAX: usize = 1000;
/// Longest path of a file.
const PATH_BYTES_MAX: usize = 200;
/// The file that says what the app is.
pub const MANIFEST: &str = "app.json";

/// An app: its files by their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What `app.json` says.
    pub manifest: Manifest,
    files: BTreeMap<String, Bytes>,
    version: [u8; 32],
}

/// Why files are no app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It has no `app.json`.
    #[error("there is no app.json")]
    NoManifest,
    /// It has a bad one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file that an app cannot have.
    #[error("{0:?} cannot be a file of an app")]
    Path(String),
    /// A file whose kind is not known.
    #[error("{0:?} is of a kind that no app has; known are {KINDS}")]
    Kind(String),
    /// The manifest names a file that is not there.
    #[error("app.json names {0:?}, which is not there")]
    Missing(String),
    /// Too much.
    #[error("an app has {FILES_MAX} files and {BUNDLE_BYTES_MAX} bytes at most")]
    TooLarge,
}

const KINDS: &str = "html js mjs css json svg png jpg jpeg gif webp avif ico woff2 wasm txt md webmanifest mp3 ogg mp4";

impl Bundle {
    /// Puts an app together.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn new(files: impl IntoIterator<Item = (String, Bytes)>) -> Result<Self, BundleError> {
        let mut all = BTreeMap::new();
        let mut total = 0;
        for (path, bytes) in files {
            if !is_file_path(&path) {
                return Err(BundleError::Path(path));
            }
            if mime(&path).is_none() {
                return Err(BundleError::Kind(path));
            }
            total += bytes.len();
            all.insert(path, bytes);
            if all.len() > FILES_MAX || total > BUNDLE_BYTES_MAX {
                return Err(BundleError::TooLarge);
            }
        }
        let manifest = Manifest::parse(all.get(MANIFEST).ok_or(BundleError::NoManifest)?)?;
        for named in [Some(&manifest.entry), manifest.icon.as_ref()].into_iter().flatten() {
            if !all.contains_key(named) {
                return Err(BundleError::Missing(named.clone()));
            }
        }
        let version = version_of(&all);
        Ok(Self { manifest, files: all, version })
    }

    /// Its version: the hash of all paths and bytes.
    #[must_use]
    pub fn version(&self) -> String {
        z32::encode(&self.version)
    }

    /// The same, as links carry it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.version
    }

    /// A file.
    pub(crate) fn file(&self, path: &str) -> Option<&Bytes> {
        self.files.get(path)
    }

    /// Paths and contents.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), bytes))
    }

    /// Its picture, as a page can show it without asking anybody; nothing if it is large.
    pub(crate) fn icon(&self) -> Option<String> {
        /// Cards are many, and are sent whole.
        const ICON_BYTES_MAX: usize = 32 * 1024;
        let name = self.manifest.icon.as_ref()?;
        let bytes = self.file(name).filter(|bytes| bytes.len() <= ICON_BYTES_MAX)?;
        let mime = mime(name).filter(|mime| mime.starts_with("image/"))?;
        Some(format!("data:{mime};base64,{}", STANDARD.encode(bytes)))
    }

    /// As one file: a JSON object of paths and base64.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let files: BTreeMap<&str, String> = self.files().map(|(path, bytes)| (path, STANDARD.encode(bytes))).collect();
        serde_json::to_vec(&files).expect("strings always serialise")
    }

    /// Reads what [`Bundle::to_json`] wrote.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        let files: BTreeMap<String, String> =
            serde_json::from_slice(json).map_err(|error| BundleError::Manifest(ManifestError::Json(error.to_string())))?;
        Self::from_base64(files)
    }

    /// Reads files that came as base64.
    pub(crate) fn from_base64(files: BTreeMap<String, String>) -> Result<Self, BundleError> {
        let mut all = Vec::new();
        for (path, text) in files {
            let Ok(bytes) = STANDARD.decode(text) else { return Err(BundleError::Path(path)) };
            all.push((path, Bytes::from(bytes)));
        }
        Self::new(all)
    }
}

/// The hash of sorted paths and contents, each with its length before it.
fn version_of(files: &BTreeMap<String, Bytes>) -> [u8; 32] {
    let lengths: Vec<([u8; 8], [u8; 8])> =
        files.iter().map(|(path, bytes)| ((path.len() as u64).to_be_bytes(), (bytes.len() as u64).to_be_bytes())).collect();
    let mut parts: Vec<&[u8]> = Vec::with_capacity(4 * files.len());
    for ((path, bytes), (path_len, len)) in files.iter().zip(&lengths) {
        parts.extend([&path_len[..], path.as_bytes(), &len[..], bytes]);
    }
    hash("app", &parts)
}

/// Whether an app can have a file at a path: plain names, and none that the app's origin serves itself.
fn is_file_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.split('/').count() <= 8
        && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.chars().any(char::is_control) && !part.contains('\\'))
        && !path.starts_with('@')
        && path != "sdk.js"
        && !path.starts_with("sdk/")
}

/// The media type that a name tells; what it does not tell, no app has.
pub(crate) fn mime(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        _ => return None,
    })
}

/// What a page of an app may load: files of its own origin, and the scripts and styles that stand in the page as it was
/// installed. Those are named by their hashes, so that an app can be one file of HTML, and what somebody wrote into a post
/// still never runs. What no policy of today's browsers forbids: leading the reader to another address, and WebRTC.
pub(crate) fn policy(page: &[u8], network: &[String]) -> String {
    let hashes = |tag: &str| {
        let mut all = String::new();
        for text in inline(page, tag) {
            all.push_str(&format!(" 'sha256-{}'", STANDARD.encode(sha2::Sha256::digest(text))));
        }
        all
    };
    let hosts: String = network.iter().map(|host| format!(" https://{host} wss://{host}")).collect();
    format!(
        "default-src 'self'; script-src 'self'{}; style-src 'self'{}; img-src 'self' data: blob:; media-src 'self' blob:; \
         connect-src 'self'{hosts}; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hashes("script"),
        hashes("style"),
    )
}

/// What stands between `<tag …>` and `</tag>`.
fn inline<'a>(page: &'a [u8], tag: &str) -> Vec<&'a [u8]> {
    /// A policy is a header, and headers are short.
    const INLINE_MAX: usize = 16;
    let find = |from: usize, needle: &str| {
        page.get(from..)?.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle.as_bytes())).map(|at| from + at)
    };
    let (open, close) = (format!("<{tag}"), format!("</{tag}"));
    let mut found = Vec::new();
    let mut at = 0;
    while found.len() < INLINE_MAX
        && let Some(start) = find(at, &open)
        && let Some(content) = find(start, ">").map(|end| end + 1)
        && let Some(end) = find(content, &close)
    {
        if !page[content..end].is_empty() {
            found.push(&page[content..end]);
        }
        at = end + close.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(files: &[(&str, &str)]) -> Result<Bundle, BundleError> {
        Bundle::new(files.iter().map(|(path, text)| ((*path).to_owned(), Bytes::copy_from_slice(text.as_bytes()))))
    }

    const APP: (&str, &str) = ("app.json", r#"{"name":"a","title":"A"}"#);

    #[test]
    fn the_version_is_all_of_the_files() {
        let version = |files: &[(&str, &str)]| bundle(files).expect("an app").version();
        let own = version(&[APP, ("index.html", "x")]);
        assert_eq!(own, version(&[("index.html", "x"), APP]), "in any order");
        assert_ne!(own, version(&[APP, ("index.html", "y")]));
        assert_ne!(own, version(&[APP, ("index.html", "x"), ("b.js", "")]));
        let json = bundle(&[APP, ("index.html", "x")]).expect("an app").to_json();
        assert_eq!(Bundle::from_json(&json).expect("an app").version(), own);
    }

    #[test]
    fn refuses_what_is_no_app() {
        assert_eq!(bundle(&[("index.html", "x")]), Err(BundleError::NoManifest));
        assert_eq!(bundle(&[APP]), Err(BundleError::Missing("index.html".into())));
        let long = format!("{}.js", "a".repeat(300));
        for path in ["../x.js", "a/../x.js", "/x.js", ".hidden.js", "a//b.js", "sdk.js", "sdk/x.js", "@me/x.js", "a\\b.js", "a\n.js", "", &long] {
            assert_eq!(bundle(&[APP, ("index.html", "x"), (path, "")]), Err(BundleError::Path(path.into())), "{path}");
        }
        assert_eq!(bundle(&[APP, ("index.html", "x"), ("x.exe", "")]), Err(BundleError::Kind("x.exe".into())));
    }

    /// The hash is the one that browsers compare with: `printf 'f()' | openssl dgst -sha256 -binary | base64`.
    #[test]
    fn scripts_of_the_page_run_and_no_others() {
        let policy = policy(b"<SCRIPT type=module>f()</script><style></style><script src=a.js></script>", &["example.org".to_owned()]);
        assert!(policy.contains("script-src 'self' 'sha256-GcEEE0IkDzIP5EQ6DXZaDPORqT5RTBELX8Fyzyg9yvo=';"), "{policy}");
        assert!(policy.contains("style-src 'self';"), "{policy}");
        assert!(policy.contains("connect-src 'self' https://example.org wss://example.org;"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
