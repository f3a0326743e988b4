use std::io;
use std::path::{Path, PathBuf};

/// Why the keys folder cannot be used. The message says which file it is and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Others on this machine may read or change it.
    #[error("{} is open to others (mode {mode:04o}): run `chmod {wanted:o} {}`", path.display(), quoted(path))]
    OpenToOthers {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits it should have.
        wanted: u32,
    },
    /// A link could point anywhere: put the real file or folder in its place.
    #[error("{} is a symbolic link: replace it by what it points to", path.display())]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },
    /// A folder, a pipe, a device: move it away.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Whatever it is.
        path: PathBuf,
    },
    /// The file was cut off or is not ours: restore it from a backup.
    #[error("{} is damaged: {found} bytes long instead of {expected}", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// The length it should have, in bytes.
        expected: u64,
        /// The length it has, in bytes.
        found: u64,
    },
    /// The file has the right length but not the right content: restore it from a backup.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Restore it from a backup, or start a new home with the recovery kit.
    #[error("{} is missing: restore it from a backup, or make a new home with the recovery kit", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// New keys would have replaced these.
    #[error("{} already holds keys", path.display())]
    AlreadyThere {
        /// The keys folder.
        path: PathBuf,
    },
    /// The disk or its permissions failed us.
    #[error("could not read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The disk failed or is full. What was there before is still there.
    #[error("could not write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The path as one word of a shell command.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_a_command_to_run() {
        let error = |path: &str| KeysError::OpenToOthers { path: path.into(), mode: 0o644, wanted: 0o600 };
        assert_eq!(error("keys/root.key").to_string(), "keys/root.key is open to others (mode 0644): run `chmod 600 keys/root.key`");
        let message = error("it's mine/root.key").to_string();
        assert!(message.ends_with(r"run `chmod 600 'it'\''s mine/root.key'`"));
    }
}
