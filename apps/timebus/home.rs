//! The home folder, and the file in it that says where its peer runs.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use timebus_identity::Token;

use crate::failure::Failure;

/// Where a peer keeps everything.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    /// Whether commands find it without being told where it is.
    is_default: bool,
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
        Ok(Self { folder: absolute, is_default })
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
        Ok(Self { folder: data.join("timebus"), is_default: true })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The flag that makes other commands find this home; empty when they do anyway.
    pub(crate) fn flag(&self) -> String {
        match self.is_default {
            true => String::new(),
            false => format!(" --home {}", quoted(&self.folder)),
        }
    }

    /// A command to type for this home.
    pub(crate) fn command(&self, arguments: &str) -> String {
        format!("{}{} {arguments}", crate::output::PROGRAM, self.flag())
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
        fs::read_to_string(self.folder.join("udp-port")).ok()?.trim_end().parse().ok().filter(|port| *port != 0)
    }

    /// Remembers at which UDP port other peers know this home. Without it they find it by what else they know.
    pub(crate) fn set_udp_port(&self, sockets: &[std::net::SocketAddr]) {
        let v4 = sockets.iter().find(|socket| socket.is_ipv4());
        if let Some(socket) = v4.or(sockets.first())
            && let Err(error) = write_private(&self.folder.join("udp-port"), format!("{}\n", socket.port()).as_bytes())
        {
            tracing::warn!(%error, "the UDP port was not remembered");
        }
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

/// A text as one word of a shell command.
pub(crate) fn quoted_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
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
    fn shell_words_are_quoted_where_needed() {
        assert_eq!(quoted_text("/a/b-c.json"), "/a/b-c.json");
        assert_eq!(quoted_text("it's"), r"'it'\''s'");
        assert_eq!(quoted_text(""), "''");
    }
}
