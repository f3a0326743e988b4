//! Frames as a server sends them: not masked, so one encoding is good for everybody.

/// The bit of a message's only frame.
const FIN: u8 = 0x80;
pub(super) const TEXT: u8 = FIN | 1;
#[cfg(test)]
pub(super) const BINARY: u8 = FIN | 2;
pub(super) const PING: u8 = FIN | 9;

/// Room for the head of most messages: two bytes and a length of two.
const HEAD: usize = 4;

/// Appends a text message. `write` appends what it says, which has to be UTF-8.
pub(crate) fn write_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    write_frame(out, TEXT, write);
}

/// Appends a frame with a payload that `write` appends; how long it is shows only then.
pub(super) fn write_frame(out: &mut Vec<u8>, first: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[first, 126, 0, 0]);
    write(out);
    let payload = begin + HEAD..out.len();
    match payload.len() {
        len @ ..126 => {
            out[begin + 1] = len as u8;
            out.copy_within(payload, begin + 2);
            out.truncate(begin + 2 + len);
        }
        len @ 126..=0xffff => out[begin + 2..begin + HEAD].copy_from_slice(&(len as u16).to_be_bytes()),
        len => {
            out[begin + 1] = 127;
            out.splice(begin + 2..begin + HEAD, (len as u64).to_be_bytes());
        }
    }
}

/// Appends the head of a text message of so many bytes, which are sent behind it.
pub(crate) fn write_text_head(out: &mut Vec<u8>, len: usize) {
    match len {
        len @ ..126 => out.extend_from_slice(&[TEXT, len as u8]),
        len @ 126..=0xffff => {
            out.extend_from_slice(&[TEXT, 126]);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.extend_from_slice(&[TEXT, 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_few_bytes_as_they_may() {
        for (len, head) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![b'*'; len];
            let mut out = b"before".to_vec();
            write_text(&mut out, |out| out.extend_from_slice(&payload));
            assert_eq!(out, [b"before", head, &payload].concat(), "{len}");
            let mut alone = Vec::new();
            write_text_head(&mut alone, len);
            assert_eq!(alone, head, "{len}");
        }
    }
}
