use std::path::Path;

use super::{KeyDir, KeysError};
use crate::{PublicKey, z32};

/// Names this installation of the operating system, where there is such a file.
const MACHINE_ID_FILE: &str = "/etc/machine-id";

/// systemd's are 32 characters long.
const MACHINE_ID_LEN_MAX: usize = 64;

/// One life of a home: from its creation, or from when it was copied or restored, until the next.
///
/// As text, a line each:
///
/// | line | meaning |
/// |---|---|
/// | `incarnation <26 characters>` | 16 random bytes in z-base-32 |
/// | `device <52 characters>` | the public device key that belongs to it |
/// | `machine <id or ->` | the machine it was made on, `-` if that has no id |
/// | `folder <device> <inode>` | the keys folder it was made in, two decimal numbers |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incarnation {
    pub(super) id: [u8; 16],
    pub(super) device: PublicKey,
    pub(super) place: Place,
}

/// Where a keys folder is. A copy of the folder is in another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    machine: String,
    device_and_inode: (u64, u64),
}

impl Incarnation {
    pub(super) fn to_text(&self) -> String {
        let Place { machine, device_and_inode: (device, inode) } = &self.place;
        let machine = if machine.is_empty() { "-" } else { machine };
        format!("incarnation {}\ndevice {}\nmachine {machine}\nfolder {device} {inode}\n", z32::encode(&self.id), self.device,)
    }

    /// Reads exactly what `to_text` writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let id = z32::decode(field("incarnation")?).ok()?;
        let device = field("device")?.parse().ok()?;
        let machine = field("machine")?;
        let (folder_device, folder_inode) = field("folder")?.split_once(' ')?;
        let parsed = Self {
            id: id.try_into().ok()?,
            device,
            place: Place { machine: machine_id(machine), device_and_inode: (folder_device.parse().ok()?, folder_inode.parse().ok()?) },
        };
        (parsed.to_text() == text).then_some(parsed)
    }
}

impl Place {
    pub(super) fn of(dir: &KeyDir) -> Result<Self, KeysError> {
        Ok(Self { machine: read_machine_id(Path::new(MACHINE_ID_FILE)), device_and_inode: dir.device_and_inode()? })
    }
}

/// Empty where there is no such file, as on other systems and in many containers.
fn read_machine_id(path: &Path) -> String {
    std::fs::read_to_string(path).map_or_else(|_| String::new(), |text| machine_id(&text))
}

fn machine_id(text: &str) -> String {
    let id = text.chars().filter(char::is_ascii_alphanumeric);
    id.take(MACHINE_ID_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example(machine: &str) -> Incarnation {
        Incarnation {
            id: [0xff; 16],
            device: PublicKey::from_bytes([0; 32]),
            place: Place { machine: machine.to_owned(), device_and_inode: (2049, 131) },
        }
    }

    #[test]
    fn keeps_its_form() {
        let text = "incarnation 9999999999999999999999999h\n\
                    device yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n\
                    machine 6f0c\n\
                    folder 2049 131\n";
        assert_eq!(example("6f0c").to_text(), text);
        assert_eq!(Incarnation::parse(text), Some(example("6f0c")));
    }

    #[test]
    fn a_machine_may_have_no_id() {
        let text = example("").to_text();
        assert!(text.contains("machine -\n"));
        assert_eq!(Incarnation::parse(&text), Some(example("")));
    }

    #[test]
    fn refuses_every_other_form() {
        let text = example("6f0c").to_text();
        for (from, to) in [
            ("incarnation 9", "incarnation "),
            ("device", "devise"),
            ("machine ", "machine  "),
            ("2049", "+2049"),
            ("131", "x"),
            ("131\n", "131"),
            ("131\n", "131\n\n"),
            ("\n", "\r\n"),
        ] {
            assert_eq!(Incarnation::parse(&text.replacen(from, to, 1)), None, "{to:?}");
        }
    }

    #[test]
    fn reads_the_machine_id() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("machine-id");
        assert_eq!(read_machine_id(&path), "");
        std::fs::write(&path, "6f0c\n").expect("room");
        assert_eq!(read_machine_id(&path), "6f0c");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(incarnation|device|machine|folder|[a-z0-9 \n]){0,20}") {
            let _ = Incarnation::parse(&text);
        }
    }
}
