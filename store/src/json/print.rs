//! Turns a value into its text.

use super::Json;
use super::decimal::Decimal;
use super::parse::ENDS_RUN;

/// See [`Json::write`].
pub(super) fn write(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Json::Object(fields) => {
            out.push(b'{');
            for (at, (key, field)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(field, out);
            }
            out.push(b'}');
        }
        leaf => write_leaf(leaf, out),
    }
}

/// See [`Json::write_pretty`]; `level` is how many containers are around `value`.
pub(super) fn write_pretty(value: &Json, level: usize, out: &mut Vec<u8>) {
    match value {
        Json::Array(items) if !items.is_empty() => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                start_line(at > 0, level + 1, out);
                write_pretty(item, level + 1, out);
            }
            start_line(false, level, out);
            out.push(b']');
        }
        Json::Object(fields) if !fields.is_empty() => {
            out.push(b'{');
            for (at, (key, field)) in fields.iter().enumerate() {
                start_line(at > 0, level + 1, out);
                write_string(key, out);
                out.extend_from_slice(b": ");
                write_pretty(field, level + 1, out);
            }
            start_line(false, level, out);
            out.push(b'}');
        }
        leaf => write(leaf, out),
    }
}

fn start_line(after_comma: bool, level: usize, out: &mut Vec<u8>) {
    if after_comma {
        out.push(b',');
    }
    out.push(b'\n');
    out.resize(out.len() + 2 * level, b' ');
}

fn write_leaf(leaf: &Json, out: &mut Vec<u8>) {
    match leaf {
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Int(int) => {
            if *int < 0 {
                out.push(b'-');
            }
            let mut buffer = [0; 20];
            out.extend_from_slice(digits(int.unsigned_abs(), &mut buffer));
        }
        Json::Float(float) => write_float(*float, out),
        Json::String(string) => write_string(string, out),
        Json::Null | Json::Array(_) | Json::Object(_) => out.extend_from_slice(b"null"),
    }
}

/// Appends `string` in double quotes, escaping only what JSON requires.
pub fn write_string(string: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = string.as_bytes();
    while let Some(run_len) = rest.iter().position(|byte| ENDS_RUN[usize::from(*byte)]) {
        out.extend_from_slice(&rest[..run_len]);
        write_escape(rest[run_len], out);
        rest = &rest[run_len + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a double as ECMAScript prints it: the shortest digits that give it back, as in `0.1`,
/// `1e+21` and, for -0, `0`. As there, `null` stands for what JSON cannot say: infinite, not a
/// number.
pub fn write_float(float: f64, out: &mut Vec<u8>) {
    if !float.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    if float < 0.0 {
        out.push(b'-');
    }
    let decimal = Decimal::shortest(float.abs());
    let mut buffer = [0; 20];
    let digits = digits(decimal.digits, &mut buffer);
    // Where the decimal point is, counted from before the first digit.
    let point = digits.len() as i64 + decimal.exponent;
    match usize::try_from(point) {
        Ok(point) if (digits.len()..=21).contains(&point) => {
            out.extend_from_slice(digits);
            out.resize(out.len() + point - digits.len(), b'0');
        }
        Ok(point) if (1..digits.len()).contains(&point) => {
            out.extend_from_slice(&digits[..point]);
            out.push(b'.');
            out.extend_from_slice(&digits[point..]);
        }
        _ if (-5..=0).contains(&point) => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        }
        _ => {
            out.push(digits[0]);
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.extend_from_slice(format!("e{:+}", point - 1).as_bytes());
        }
    }
}

/// The decimal digits of `number`, without leading zeros, at the end of `buffer`.
fn digits(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{archive, json, text};
    use super::*;

    fn float(float: f64) -> String {
        let mut out = Vec::new();
        write_float(float, &mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn floats_print_as_in_ecmascript() {
        for (number, printed) in [
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (-0.0, "0"),
            (1.0, "1"),
            (1e16, "10000000000000000"),
            (123456789012345680000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000001, "0.000001"),
            (0.0000012, "0.0000012"),
            (1e-7, "1e-7"),
            (1.25e-7, "1.25e-7"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            assert_eq!(float(number), printed);
        }
    }

    #[test]
    fn integers_print_in_full() {
        assert_eq!(text(&Json::Int(0)), "0");
        assert_eq!(text(&Json::Int(-Json::INT_MAX)), "-9007199254740991");
        assert_eq!(text(&Json::Int(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn strings_escape_only_what_they_must() {
        let string = Json::String("\"\\/\u{8}\t\n\u{c}\r\0\u{1f}\u{7f}é😀".into());
        assert_eq!(text(&string), "\"\\\"\\\\/\\b\\t\\n\\f\\r\\u0000\\u001f\u{7f}é😀\"");
    }

    #[test]
    fn pretty_print_puts_one_element_on_a_line() {
        let mut out = Vec::new();
        json(r#"{"b":[1,{"c":null}],"a":{},"d":[]}"#).write_pretty(&mut out);
        let expected = r#"{
  "a": {},
  "b": [
    1,
    {
      "c": null
    }
  ],
  "d": []
}"#;
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    #[test]
    fn prints_what_rfc_8785_expects() {
        let Some(files) = archive("03-json/jcs-rfc8785.tar.gz") else {
            return;
        };
        let mut inputs_count = 0;
        for (path, input) in &files {
            let Some((_, name)) = path.split_once("/input/") else {
                continue;
            };
            // The one number there that no double gives back; RFC 8785 rounds it.
            let input = String::from_utf8_lossy(input).replace("333333333.33333329", "333333333.3333333");
            let value = json(&input);
            assert_eq!(json(&text(&value)), value, "{name}");

            // RFC 8785 sorts keys by UTF-16 units, we by bytes: the same for the keys in use here.
            let output = files.iter().find(|(path, _)| path.ends_with(&format!("output/{name}")));
            let (_, output) = output.expect("an output for each input");
            assert_eq!(text(&value), String::from_utf8_lossy(output).trim_end(), "{name}");
            inputs_count += 1;
        }
        assert!(inputs_count > 0);
    }
}
