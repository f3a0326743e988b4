//! The home folder, and the file in it that says where its peer runs.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use timebus_identity::Token;
use timebus_net::personas;
pub(crate) use timebus_net::words::quoted as quoted_text;

use crate::failure::Failure;

/// Where a peer keeps everything.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    /// Whether commands find it without being told where it is.
    is_default: bool,
    /// The persona that commands are about, and whether the folder is its own home.
    persona: Option<(String, bool)>,
}

/// Where a peer runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Its process.
    pub(crate) pid: u32,
    /// Its address, as in `http://127.0.0.1:7007`.
    pub(crate) http: String,
    /// Its space.
    pub(crate) id: String,
}

impl Running {
    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        self.http.strip_prefix("http://").unwrap_or(&self.http)
    }
}

impl Home {
    /// The folder that was asked for.
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        if folder.as_os_str().is_empty() {
            return Err(Failure::usage("the home has no name").fix("give --home a folder").into());
        }
        let absolute = std::path::absolute(folder).with_context(|| format!("{} is no folder", folder.display()))?;
        // What the environment says, every command of this shell finds.
        let is_default = std::env::var_os("TIMEBUS_HOME").is_some_and(|home| home == folder.as_os_str());
        Ok(Self { folder: absolute, is_default, persona: None })
    }

    /// The folder for programs' data of this user.
    pub(crate) fn of_platform() -> anyhow::Result<Self> {
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = match cfg!(target_os = "macos") {
            true => folder("HOME").map(|home| home.join("Library/Application Support")),
            false => folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share"))),
        };
        let Some(data) = data else {
            return Err(Failure::usage("no home folder is known for this user").fix("give one with --home DIR or TIMEBUS_HOME").into());
        };
        Ok(Self { folder: data.join("timebus"), is_default: true, persona: None })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same home, for commands about one of its personas.
    pub(crate) fn with_persona(self, name: &str) -> anyhow::Result<Self> {
        if !timebus_net::apps::manifest::is_name(name) {
            let title = format!("{name:?} cannot be the name of a persona");
            return Err(Failure::usage(title).fix("lower-case letters, digits and dashes, a letter first").into());
        }
        Ok(Self { persona: Some((name.to_owned(), false)), ..self })
    }

    /// The persona that commands are about.
    pub(crate) fn persona(&self) -> Option<&str> {
        self.persona.as_ref().map(|(name, _)| name.as_str())
    }

    /// What requests for the persona begin with.
    pub(crate) fn prefix(&self) -> String {
        self.persona.as_ref().filter(|(_, is_own)| !is_own).map(|(name, _)| format!("/@{name}")).unwrap_or_default()
    }

    /// The home of whom commands are about: a persona has one of its own, with keys and a log.
    pub(crate) fn of_persona(&self) -> Self {
        match &self.persona {
            Some((name, false)) => {
                Self { folder: personas::home_of(&self.folder, name), is_default: self.is_default, persona: Some((name.clone(), true)) }
            }
            _ => self.clone(),
        }
    }

    /// The flag that makes other commands find this home; empty when they do anyway.
    pub(crate) fn flag(&self) -> String {
        let home = self.flag_of_whole();
        match self.persona() {
            Some(name) => format!("{home} --persona {name}"),
            None => home,
        }
    }

    /// The same for commands about the whole peer.
    fn flag_of_whole(&self) -> String {
        let whole = match &self.persona {
            Some((_, true)) => self.folder.parent().and_then(Path::parent).unwrap_or(&self.folder),
            _ => &self.folder,
        };
        match self.is_default {
            true => String::new(),
            false => format!(" --home {}", quoted(whole)),
        }
    }

    /// A command to type for this home.
    pub(crate) fn command(&self, arguments: &str) -> String {
        let flag = match arguments.split(' ').next() {
            // A persona runs and stops with the peer that it is one of.
            Some("up" | "down" | "doctor") => self.flag_of_whole(),
            _ => self.flag(),
        };
        format!("{}{flag} {arguments}", crate::output::PROGRAM)
    }

    /// Whether somebody lives here.
    pub(crate) fn exists(&self) -> bool {
        self.folder.join("keys").exists()
    }

    /// Where the peer of this home says that it runs. It may be gone: the lock tells.
    pub(crate) fn running(&self) -> Option<Running> {
        serde_json::from_slice(&fs::read(self.run_file()).ok()?).ok()
    }

    /// Says where the peer of this home runs.
    pub(crate) fn set_running(&self, running: &Running) -> anyhow::Result<()> {
        write_private(&self.run_file(), &serde_json::to_vec(running)?).context("could not write run.json")
    }

    /// Says that no peer runs. For whoever holds the lock.
    pub(crate) fn clear_running(&self) {
        let _ = fs::remove_file(self.run_file());
    }

    /// The UDP port at which other peers knew this home last.
    pub(crate) fn udp_port(&self) -> Option<u16> {
        personas::udp_port(&self.folder)
    }

    /// Remembers at which UDP port other peers know this home. Without it they find it by what else they know.
    pub(crate) fn set_udp_port(&self, sockets: &[std::net::SocketAddr]) {
        personas::set_udp_port(&self.folder, sockets);
    }

    /// Where what is known of other peers is kept.
    pub(crate) fn book(&self) -> PathBuf {
        self.folder.join("peers.json")
    }

    /// The owner's token, once there is one.
    pub(crate) fn token(&self) -> anyhow::Result<Option<Token>> {
        let path = self.folder.join("keys/token");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
        };
        let token = text.trim_end().parse().with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(token))
    }

    fn run_file(&self) -> PathBuf {
        self.folder.join("run.json")
    }
}

/// Writes a file that only its owner can read: after a crash it is the old one or the new one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let aside = path.with_file_name(name);
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    fs::rename(aside, path)
}

/// A path as one word of a shell command.
pub(crate) fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_where_the_peer_runs() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let home = Home::new(temp.path()).expect("a home");
        assert_eq!(home.running(), None);
        let running = Running { pid: 7, http: "http://127.0.0.1:7007".into(), id: "abc".into() };
        home.set_running(&running).expect("room");
        assert_eq!(home.running(), Some(running.clone()));
        assert_eq!(running.authority(), "127.0.0.1:7007");
        home.clear_running();
        assert_eq!(home.running(), None);
    }

    #[test]
    fn commands_about_a_persona_name_it_and_the_home_that_it_is_in() {
        let home = Home::new(Path::new("/a/b")).expect("a home").with_persona("work").expect("a name");
        assert_eq!(home.command("get /x"), "timebus --home /a/b --persona work get /x");
        assert_eq!(home.prefix(), "/@work");
        let own = home.of_persona();
        assert_eq!((own.folder(), own.prefix().as_str()), (Path::new("/a/b/personas/work"), ""));
        assert_eq!(own.command("kit"), "timebus --home /a/b --persona work kit");
        assert_eq!(own.command("up --offline"), "timebus --home /a/b up --offline", "it runs with the peer that it is in");
        assert!(home.with_persona("../x").is_err());
    }

    #[test]
    fn shell_words_are_quoted_where_needed() {
        assert_eq!(quoted_text("/a/b-c.json"), "/a/b-c.json");
        assert_eq!(quoted_text("it's"), r"'it'\''s'");
        assert_eq!(quoted_text(""), "''");
    }
}
