//! JSON laid out for people while it streams by: nothing is parsed or kept, numbers keep their spelling.

/// Lays out one JSON text that comes in pieces. What it is given must be JSON.
#[derive(Debug, Default)]
pub(crate) struct Pretty {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// A container was opened and nothing has come yet.
    opened: bool,
}

impl Pretty {
    /// Lays out the next piece.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for &byte in piece {
            self.byte(byte, out);
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.in_string {
            out.push(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.new_line(out);
                }
                out.push(byte);
                return;
            }
            _ => {}
        }
        if std::mem::take(&mut self.opened) {
            self.new_line(out);
        }
        out.push(byte);
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                self.opened = true;
            }
            b',' => self.new_line(out),
            b':' => out.push(b' '),
            _ => {}
        }
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_out_as_the_store_does_wherever_it_is_cut() {
        let text = r#"{"a":[],"b":{},"c":[1,{"d":"x\"}]{,:"}],"e":"é\\","f":null}"#;
        let json = crate::value::parse(text.as_bytes()).expect("JSON");
        let expected = crate::value::pretty(&json);
        for cut in 0..text.len() {
            let (mut pretty, mut out) = (Pretty::default(), Vec::new());
            pretty.push(&text.as_bytes()[..cut], &mut out);
            pretty.push(&text.as_bytes()[cut..], &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn keeps_scalars() {
        let mut out = Vec::new();
        Pretty::default().push(b" 1e400 ", &mut out);
        assert_eq!(out, b"1e400");
    }
}
