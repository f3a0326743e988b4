//! `app.json`: what an app is called and what it wants.

use serde::{Deserialize, Serialize};
use timebus_store::path::{Path, Segment};

/// Largest `app.json`.
pub const MANIFEST_BYTES_MAX: usize = 32 * 1024;
/// Longest name of an app: it is a DNS label, and an alias of it may be longer.
pub const NAME_BYTES_MAX: usize = 40;
/// Longest text of a manifest: what fits on a card that somebody reads.
const TEXT_BYTES_MAX: usize = 300;
/// Things an app may want: what fits on a card that somebody reads.
const WANTS_MAX: usize = 24;
/// Hosts an app may talk to.
const HOSTS_MAX: usize = 8;

/// What an app may do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Read and watch.
    Read,
    /// Change.
    Write,
}

impl Verb {
    pub(crate) fn authority(self) -> crate::authority::Verb {
        match self {
            Self::Read => crate::authority::Verb::Read,
            Self::Write => crate::authority::Verb::Write,
        }
    }
}

/// Whose path it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// In the space that the owner gave the app.
    #[default]
    Me,
    /// In every other space that the peer holds or fetches. Whether the peer itself may do it is asked as always.
    Others,
}

/// One thing that an app wants, or was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// At and below this path.
    pub path: String,
    /// To do this.
    pub may: Vec<Verb>,
    /// In whose space.
    #[serde(default)]
    pub of: Of,
    /// What for, in words of the app.
    #[serde(default)]
    pub why: String,
}

/// The contents of `app.json`. Members that this version does not know are left alone: none of them gives a right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What it is installed as: lower-case letters, digits and dashes.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it is, in a sentence.
    #[serde(default)]
    pub about: String,
    /// A file of it that is its picture.
    #[serde(default)]
    pub icon: Option<String>,
    /// The file that opens.
    #[serde(default = "index")]
    pub entry: String,
    /// What it wants to do.
    #[serde(default)]
    pub wants: Vec<Want>,
    /// Hosts beside its own peer that it wants to talk to.
    #[serde(default)]
    pub network: Vec<String>,
}

fn index() -> String {
    "index.html".to_owned()
}

/// Why an `app.json` is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not the JSON that is wanted.
    #[error("app.json is malformed: {0}")]
    Json(String),
    /// The name cannot be a DNS label.
    #[error("{0:?} cannot be the name of an app: up to {NAME_BYTES_MAX} lower-case letters, digits and dashes, a letter first")]
    Name(String),
    /// A text is missing or too long for a card.
    #[error("{member} of app.json has to have 1 to {TEXT_BYTES_MAX} bytes")]
    Text {
        /// Which one.
        member: &'static str,
    },
    /// More than fits on a card.
    #[error("app.json names {count} {what}, {max} at most")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A path that no app can be given.
    #[error("no app can be given {path:?}: {why}")]
    Path {
        /// The path.
        path: String,
        /// Why not.
        why: String,
    },
    /// A host that is none.
    #[error("{0:?} is no host that an app can talk to; write example.org or example.org:8443")]
    Host(String),
}

/// Parts of the system that an app can be given, and what for. Everything else of `/.sys` is the owner's alone.
const SYSTEM: &[(&str, &[Verb])] = &[
    ("/.sys/spaces", &[Verb::Read]),
    ("/.sys/refs", &[Verb::Read]),
    ("/.sys/follow", &[Verb::Write]),
    ("/.sys/lists", &[Verb::Read]),
    ("/.sys/mute", &[Verb::Write]),
    ("/.drop", &[Verb::Read, Verb::Write]),
];

impl Manifest {
    /// Reads and checks an `app.json`.
    ///
    /// # Errors
    ///
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::Json(format!("it has {} bytes, {MANIFEST_BYTES_MAX} at most", bytes.len())));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| ManifestError::Json(error.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if !is_name(&self.name) {
            return Err(ManifestError::Name(self.name.clone()));
        }
        if self.title.is_empty() || self.title.len() > TEXT_BYTES_MAX {
            return Err(ManifestError::Text { member: "title" });
        }
        if self.about.len() > TEXT_BYTES_MAX {
            return Err(ManifestError::Text { member: "about" });
        }
        let too_many = |what, count, max| if count > max { Err(ManifestError::TooMany { what, count, max }) } else { Ok(()) };
        too_many("wants", self.wants.len(), WANTS_MAX)?;
        too_many("hosts", self.network.len(), HOSTS_MAX)?;
        self.wants.iter().try_for_each(Want::check)?;
        for host in &self.network {
            let (name, port) = crate::host::split_port(host);
            if !crate::host::is_name(name) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
                return Err(ManifestError::Host(host.clone()));
            }
        }
        Ok(())
    }

    /// What it wants that `given` does not have.
    #[must_use]
    pub fn asks_beyond(&self, given: &[Want], network: &[String]) -> (Vec<Want>, Vec<String>) {
        let covered = |want: &Want, verb: &Verb| given.iter().any(|had| had.of == want.of && had.may.contains(verb) && had.covers_path(&want.path));
        let wants = self.wants.iter().filter(|want| !want.may.iter().all(|verb| covered(want, verb))).cloned().collect();
        (wants, self.network.iter().filter(|host| !network.contains(host)).cloned().collect())
    }
}

impl Want {
    fn check(&self) -> Result<(), ManifestError> {
        let refuse = |why: &str| Err(ManifestError::Path { path: self.path.clone(), why: why.to_owned() });
        if self.why.len() > TEXT_BYTES_MAX {
            return Err(ManifestError::Text { member: "why" });
        }
        let path = match Path::parse(&self.path) {
            Ok(path) => path,
            Err(error) => return refuse(&error.to_string()),
        };
        if self.may.is_empty() {
            return refuse("name what it may do there: \"may\": [\"read\"] or [\"read\", \"write\"]");
        }
        let Some(Segment::Name(first)) = path.segments().first() else {
            return refuse("an app gets folders, not everything");
        };
        if first.starts_with('@') {
            return refuse("write the path in the space; \"of\": \"others\" means the spaces of others");
        }
        if self.of == Of::Me && crate::authority::is_owners_word(&path) {
            return refuse("whom the owner knows, follows and blocks is for him to say; apps get /.sys/lists and /.sys/follow");
        }
        if first.starts_with('.') {
            let known = SYSTEM.iter().find(|(name, _)| *name == self.path);
            if !known.is_some_and(|(_, verbs)| self.may.iter().all(|verb| verbs.contains(verb))) {
                let names: Vec<&str> = SYSTEM.iter().map(|(name, _)| *name).collect();
                return refuse(&format!("of the system's parts apps get {}", names.join(", ")));
            }
        }
        Ok(())
    }

    fn covers_path(&self, path: &str) -> bool {
        match (Path::parse(&self.path), Path::parse(path)) {
            (Ok(own), Ok(path)) => own.contains(&path),
            _ => false,
        }
    }
}

/// Whether an app can be called so: a DNS label that begins with a letter, so that it is no port, key or number.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(wants: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(format!(r#"{{"name":"board","title":"Board","wants":{wants}}}"#).as_bytes())
    }

    #[test]
    fn an_app_gets_folders_and_never_everything() {
        assert!(with(r#"[{"path":"/boards","may":["read","write"],"why":"your boards"}]"#).is_ok());
        assert!(with(r#"[{"path":"/.sys/spaces","may":["read"]},{"path":"/.drop","may":["read"]}]"#).is_ok());
        for wants in [
            r#"[{"path":"/","may":["read"]}]"#,
            r#"[{"path":"boards","may":["read"]}]"#,
            r#"[{"path":"/boards","may":[]}]"#,
            r#"[{"path":"/boards","may":["admin"]}]"#,
            r#"[{"path":"/boards","may":["read"],"everything":true}]"#,
            r#"[{"path":"/.sys","may":["read"]}]"#,
            r#"[{"path":"/.sys/log","may":["read"]}]"#,
            r#"[{"path":"/.sys/spaces","may":["write"]}]"#,
            r#"[{"path":"/.auth","may":["read"]}]"#,
            r#"[{"path":"/.apps","may":["write"]}]"#,
            r#"[{"path":"/@alice/x","may":["read"]}]"#,
            r#"[{"path":"/a/../b","may":["read"]}]"#,
        ] {
            assert!(with(wants).is_err(), "{wants}");
        }
    }

    #[test]
    fn names_are_labels_of_hosts() {
        for name in ["a", "chirp", "a-2"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(41);
        for name in ["", "A", "2a", "-a", "a-", "a.b", "a_b", "é", "localhost", &long] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn an_upgrade_asks_for_what_is_new_and_for_nothing_else() {
        let old = with(r#"[{"path":"/boards","may":["read","write"]}]"#).expect("a manifest");
        let asks = |wants: &str| with(wants).expect("a manifest").asks_beyond(&old.wants, &[]).0.len();
        assert_eq!(asks(r#"[{"path":"/boards","may":["read"],"why":"other words"}]"#), 0);
        assert_eq!(asks(r#"[{"path":"/boards/mine","may":["write"]}]"#), 0);
        assert_eq!(asks(r#"[{"path":"/boardsandmore","may":["read"]}]"#), 1);
        assert_eq!(asks(r#"[{"path":"/boards","may":["read"],"of":"others"}]"#), 1);
    }
}
