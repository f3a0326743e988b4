//! Turns a text into a value, or says where the text is wrong.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::decimal::Decimal;
use super::{DEPTH_MAX, Json, clip};

/// How much a text may ask of the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most containers inside each other, 32 by default. The parser, and later whoever prints or
    /// drops the value, uses a stack frame for each: hundreds are fine, tens of thousands are not.
    pub depth_max: usize,
    /// Longest text, 1 MiB by default. A value can take 100 times the memory of its text.
    pub bytes_max: usize,
    /// Most values, those that hold others counted too. No limit by default: it matters where texts may be long, since
    /// it bounds the memory of the value where `bytes_max` hardly does.
    pub values_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth_max: DEPTH_MAX, bytes_max: 1 << 20, values_max: usize::MAX }
    }
}

/// Why and where a text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {flaw}")]
pub struct JsonError {
    /// What is wrong.
    pub flaw: Flaw,
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted in characters from 1.
    pub column: usize,
}

impl JsonError {
    #[cold]
    fn new(bytes: &[u8], offset: usize, flaw: Flaw) -> JsonError {
        let before = &bytes[..offset];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let is_char_start = |byte: &&u8| **byte & 0xc0 != 0x80;
        JsonError {
            flaw,
            offset,
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + before[line_start..].iter().filter(is_char_start).count(),
        }
    }
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Not JSON: something else belongs here.
    #[error("expected {expected}, found {found:?}")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: char,
    },
    /// Not JSON: cut off.
    #[error("the text ends where {expected} should be")]
    Unfinished {
        /// What would have been right.
        expected: &'static str,
    },
    /// A number may start with 0 only as in `0` and `0.5`.
    #[error("a number must not have leading zeros")]
    LeadingZero,
    /// Send the number as a string: nothing we can keep would print back as it.
    #[error("number {number} cannot be kept exactly, send it as a string")]
    InexactNumber {
        /// The number, or the start of a long one.
        number: String,
    },
    /// One object says two things about a key.
    #[error("duplicate key {key:?}")]
    DuplicateKey {
        /// The key, or the start of a long one.
        key: String,
    },
    /// A raw control character in a string.
    #[error("control character 0x{byte:02x} must be escaped in a string")]
    ControlCharacter {
        /// The character, below 0x20.
        byte: u8,
    },
    /// A backslash followed by a character that means nothing there.
    #[error("there is no escape \\{found}")]
    BadEscape {
        /// The character after the backslash.
        found: char,
    },
    /// Half of a surrogate pair, which no Unicode string can hold.
    #[error("\\u{unit:04x} is half of a surrogate pair, its other half is missing")]
    LoneSurrogate {
        /// The half that is there.
        unit: u16,
    },
    /// The bytes are not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// The text starts with U+FEFF.
    #[error("the text must not start with a byte order mark")]
    ByteOrderMark,
    /// See [`Limits::depth_max`].
    #[error("more than {depth_max} arrays and objects inside each other")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// See [`Limits::bytes_max`].
    #[error("the text has {len} bytes, more than the limit of {bytes_max}")]
    TooLong {
        /// The length of the text.
        len: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// See [`Limits::values_max`].
    #[error("more than {values_max} values")]
    TooMany {
        /// The limit.
        values_max: usize,
    },
}

/// See [`Json::parse`].
pub(super) fn parse(bytes: &[u8], limits: Limits) -> Result<Json, JsonError> {
    let Limits { depth_max, bytes_max, values_max } = limits;
    if bytes.len() > bytes_max {
        let flaw = Flaw::TooLong { len: bytes.len(), bytes_max };
        return Err(JsonError::new(bytes, bytes_max, flaw));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError::new(bytes, 0, Flaw::ByteOrderMark));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::new(bytes, error.valid_up_to(), Flaw::NotUtf8))?;

    let mut parser = Parser { text, bytes, at: 0, depth_max, depth: 0, values_max, values: 0 };
    parser.skip_whitespace();
    let value = parser.value()?;
    parser.skip_whitespace();
    if parser.at < bytes.len() {
        return Err(parser.unexpected("the end of the text"));
    }
    Ok(value)
}

/// The bytes that end a run of plain characters in a string.
pub(super) const ENDS_RUN: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        ends[byte] = true;
        byte += 1;
    }
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

/// A place in a text.
///
/// Invariant: `at` is a character boundary of `text`, because only ASCII is stepped over one by
/// one and runs of other characters end before ASCII.
struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth_max: usize,
    depth: usize,
    values_max: usize,
    values: usize,
}

impl Parser<'_> {
    fn value(&mut self) -> Result<Json, JsonError> {
        if self.values == self.values_max {
            return Err(self.error(self.at, Flaw::TooMany { values_max: self.values_max }));
        }
        self.values += 1;
        match self.peek() {
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn nested(&mut self, container: fn(&mut Self) -> Result<Json, JsonError>) -> Result<Json, JsonError> {
        if self.depth == self.depth_max {
            return Err(self.error(self.at, Flaw::TooDeep { depth_max: self.depth_max }));
        }
        self.depth += 1;
        self.at += 1;
        self.skip_whitespace();
        let value = container(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Reads on behind the opening bracket.
    fn array(&mut self) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.skip_whitespace();
            if self.eat(b']') {
                return Ok(Json::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("',' or ']'"));
            }
            self.skip_whitespace();
        }
    }

    /// Reads on behind the opening brace.
    fn object(&mut self) -> Result<Json, JsonError> {
        let mut fields = BTreeMap::new();
        if self.eat(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key_at = self.at;
            let key = self.string()?;
            self.skip_whitespace();
            if !self.eat(b':') {
                return Err(self.unexpected("':'"));
            }
            self.skip_whitespace();
            match fields.entry(key) {
                Entry::Vacant(entry) => entry.insert(self.value()?),
                Entry::Occupied(entry) => {
                    return Err(self.error(key_at, Flaw::DuplicateKey { key: clip(entry.key()) }));
                }
            };
            self.skip_whitespace();
            if self.eat(b'}') {
                return Ok(Json::Object(fields));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("',' or '}'"));
            }
            self.skip_whitespace();
        }
    }

    fn word(&mut self, word: &'static str, value: Json) -> Result<Json, JsonError> {
        for byte in word.bytes() {
            if !self.eat(byte) {
                return Err(self.unexpected(word));
            }
        }
        Ok(value)
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let mut string = String::new();
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let run_len = rest.iter().position(|byte| ENDS_RUN[usize::from(*byte)]).unwrap_or(rest.len());
            string.push_str(&self.text[self.at..self.at + run_len]);
            self.at += run_len;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                Some(byte) => return Err(self.error(self.at, Flaw::ControlCharacter { byte })),
                None => return Err(self.unexpected("a closing quote")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let char = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(start);
            }
            _ => {
                return Err(match self.peek_char() {
                    Some(found) => self.error(start, Flaw::BadEscape { found }),
                    None => self.unexpected("an escaped character"),
                });
            }
        };
        self.at += 1;
        Ok(char)
    }

    /// Reads on behind the `\u` at `start`, and the second escape of a surrogate pair.
    fn unicode_escape(&mut self, start: usize) -> Result<char, JsonError> {
        let unit = self.four_hex_digits()?;
        let lone = Flaw::LoneSurrogate { unit };
        let low = match unit {
            0xd800..=0xdbff if self.bytes[self.at..].starts_with(b"\\u") => {
                self.at += 2;
                Some(self.four_hex_digits()?)
            }
            _ => None,
        };
        match char::decode_utf16([unit].into_iter().chain(low)).next() {
            Some(Ok(char)) => Ok(char),
            _ => Err(self.error(start, lone)),
        }
    }

    fn four_hex_digits(&mut self) -> Result<u16, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return Err(self.unexpected("four hexadecimal digits"));
            };
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        let negative = self.eat(b'-');
        let digits_start = self.at;
        let int = self.digits()?;
        let digits_len = self.at - digits_start;
        if digits_len > 1 && self.bytes[digits_start] == b'0' {
            return Err(self.error(start, Flaw::LeadingZero));
        }
        let fraction = self.eat(b'.');
        if fraction {
            self.digits()?;
        }
        let exponent = self.eat(b'e') || self.eat(b'E');
        if exponent {
            let _sign = self.eat(b'-') || self.eat(b'+');
            self.digits()?;
        }
        // Nearly every number: fifteen digits are below `INT_MAX`.
        if !fraction && !exponent && digits_len <= 15 {
            return Ok(Json::Int(if negative { -int } else { int }));
        }
        Decimal::read(&self.text[digits_start..self.at]).and_then(|decimal| decimal.to_json(negative)).ok_or_else(|| {
            let number = clip(&self.text[start..self.at]);
            self.error(start, Flaw::InexactNumber { number })
        })
    }

    /// Steps over one digit or more and gives their value, which is wrong above 18 digits.
    fn digits(&mut self) -> Result<i64, JsonError> {
        let start = self.at;
        let mut value = 0i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(value) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn peek_char(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn error(&self, offset: usize, flaw: Flaw) -> JsonError {
        JsonError::new(self.bytes, offset, flaw)
    }

    #[cold]
    fn unexpected(&self, expected: &'static str) -> JsonError {
        let flaw = match self.peek_char() {
            Some(found) => Flaw::Unexpected { expected, found },
            None => Flaw::Unfinished { expected },
        };
        self.error(self.at, flaw)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::super::tests::{any_json, archive, json, text};
    use super::*;

    fn refusal(text: impl AsRef<[u8]>) -> JsonError {
        Json::parse(text.as_ref(), Limits::default()).expect_err("a text to refuse")
    }

    #[test]
    fn counts_all_values() {
        let within = |text: &str, values_max| Json::parse(text.as_bytes(), Limits { values_max, ..Limits::default() }).map(drop);
        let text = r#"{"a":[1,{}],"b":"c"}"#;
        assert_eq!(within(text, 5), Ok(()));
        assert_eq!(within(text, 4).expect_err("five values").flaw, Flaw::TooMany { values_max: 4 });
    }

    #[test]
    fn errors_name_the_place_and_the_problem() {
        for (text, message) in [
            ("", "line 1, column 1: the text ends where a value should be"),
            ("{\n  \"é\": x}", "line 2, column 8: expected a value, found 'x'"),
            ("[1,]", "line 1, column 4: expected a value, found ']'"),
            ("[1 2]", "line 1, column 4: expected ',' or ']', found '2'"),
            ("{a:1}", "line 1, column 2: expected a key in double quotes, found 'a'"),
            ("nul", "line 1, column 4: the text ends where null should be"),
            ("trüe", "line 1, column 3: expected true, found 'ü'"),
            ("1 é", "line 1, column 3: expected the end of the text, found 'é'"),
            ("-", "line 1, column 2: the text ends where a digit should be"),
            ("[012]", "line 1, column 2: a number must not have leading zeros"),
            ("[1e400]", "line 1, column 2: number 1e400 cannot be kept exactly, send it as a string"),
            (r#"{"a":1,"\u0061":2}"#, "line 1, column 8: duplicate key \"a\""),
            ("\"a\tb\"", "line 1, column 3: control character 0x09 must be escaped in a string"),
            (r#""\x""#, "line 1, column 2: there is no escape \\x"),
            (r#""\é""#, "line 1, column 2: there is no escape \\é"),
            (r#""\"#, "line 1, column 3: the text ends where an escaped character should be"),
            (r#""\u12é""#, "line 1, column 6: expected four hexadecimal digits, found 'é'"),
            (r#""\ud800\u0041""#, "line 1, column 2: \\ud800 is half of a surrogate pair, its other half is missing"),
            ("\u{feff}1", "line 1, column 1: the text must not start with a byte order mark"),
        ] {
            assert_eq!(refusal(text).to_string(), message, "{text}");
        }
        let error = refusal(b"[1,\n\"\xff\"]");
        assert_eq!((error.flaw, error.offset, error.line, error.column), (Flaw::NotUtf8, 5, 2, 2));
    }

    #[test]
    fn numbers_keep_their_value_or_are_refused() {
        for (text, value) in [
            ("-0", Json::Int(0)),
            ("-0.0", Json::Int(0)),
            ("1.0", Json::Int(1)),
            ("-9007199254740991", Json::Int(-Json::INT_MAX)),
            ("-9007199254740992", Json::Float(-9007199254740992.0)),
            ("-1.5", Json::Float(-1.5)),
            ("10000000000000000", Json::Float(1e16)),
        ] {
            assert_eq!(json(text), value);
        }
        let flaw = refusal("-12345678901234567890123").flaw;
        assert_eq!(flaw, Flaw::InexactNumber { number: "-12345678901234567890123".into() });
    }

    #[test]
    fn surrogate_pairs_become_one_character() {
        assert_eq!(json(r#""\uD83D\ude00 \u0000""#), Json::String("😀 \0".into()));
        assert_eq!(refusal(r#""\udc00""#).flaw, Flaw::LoneSurrogate { unit: 0xdc00 });
        assert_eq!(refusal(r#""\ud800\ud800""#).flaw, Flaw::LoneSurrogate { unit: 0xd800 });
    }

    #[test]
    fn refuses_texts_above_the_limits() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        json(&nested(32));
        json(&format!("[{},{}]", nested(31), nested(31)));
        assert_eq!(refusal(nested(33)).flaw, Flaw::TooDeep { depth_max: 32 });

        let limits = Limits { depth_max: 0, bytes_max: 3, ..Limits::default() };
        assert_eq!(Json::parse(b"123", limits), Ok(Json::Int(123)));
        let error = Json::parse(b"1234", limits).expect_err("too long");
        assert_eq!((error.flaw, error.offset), (Flaw::TooLong { len: 4, bytes_max: 3 }, 3));
        let error = Json::parse(b"[]", limits).expect_err("too deep");
        assert_eq!(error.flaw, Flaw::TooDeep { depth_max: 0 });
    }

    #[test]
    fn passes_json_test_suite() {
        let Some(files) = archive("03-json/JSONTestSuite-test_parsing.tar.gz") else {
            return;
        };
        assert!(files.len() > 100);
        for (path, content) in files {
            let name = path.rsplit('/').next().expect("a file name");
            let parsed = Json::parse(&content, Limits::default());
            match (&name[..2], parsed) {
                ("y_", Ok(value)) => assert_eq!(json(&text(&value)), value, "{name}"),
                ("y_", Err(error)) => {
                    let duplicate = matches!(error.flaw, Flaw::DuplicateKey { .. });
                    assert!(name.contains("duplicated_key") && duplicate, "{name}: {error}");
                }
                ("n_", parsed) => assert!(parsed.is_err(), "{name}"),
                ("i_", _) => {}
                _ => panic!("unknown kind of test {name}"),
            }
        }
    }

    /// Pieces of JSON in any order: mostly wrong, often nearly right.
    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let piece = select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\"a\"",
            "\"b\"",
            "\"\\n\"",
            "\\u00e9",
            "é",
            "\\ud83d",
            "\\ude00",
            "0",
            "1",
            "-",
            "+",
            ".",
            "e",
            "E1",
            "-1.5",
            "true",
            "false",
            "null",
            " ",
            "\n",
            "\t",
            "\u{0}",
            "\"a\":1",
            "[1]",
            "{\"a\":1}",
        ]);
        vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    fn mutated_json() -> impl Strategy<Value = Vec<u8>> {
        let edit = (any::<Index>(), 0..3, any::<u8>());
        (any_json(), vec(edit, 0..4)).prop_map(|(value, edits)| {
            let mut bytes = text(&value).into_bytes();
            for (index, kind, byte) in edits {
                let at = index.index(bytes.len() + 1);
                match kind {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => bytes[at] = byte,
                    _ => bytes.truncate(at),
                }
            }
            bytes
        })
    }

    /// Compares with serde_json wherever none of our own rules decided.
    fn check_against_serde(bytes: &[u8]) {
        let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
        match Json::parse(bytes, Limits { depth_max: 100, ..Limits::default() }) {
            Ok(ours) => {
                let theirs = theirs.unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
                assert!(agree(&ours, &theirs), "{ours:?} is not {theirs}");
            }
            Err(JsonError { flaw: Flaw::DuplicateKey { .. } | Flaw::InexactNumber { .. }, .. }) => {}
            Err(error) => assert!(theirs.is_err(), "{bytes:?}: {error}"),
        }
    }

    fn agree(ours: &Json, theirs: &serde_json::Value) -> bool {
        use serde_json::Value;
        // serde_json rounds some doubles to a neighbour.
        let near = |a: f64, b: &serde_json::Number| b.as_f64().is_some_and(|b| a == b || (a / b - 1.0).abs() < 1e-12);
        match (ours, theirs) {
            (Json::Null, Value::Null) => true,
            (Json::Bool(a), Value::Bool(b)) => a == b,
            (Json::Int(a), Value::Number(b)) => near(*a as f64, b),
            (Json::Float(a), Value::Number(b)) => near(*a, b),
            (Json::String(a), Value::String(b)) => a == b,
            (Json::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b)),
            (Json::Object(a), Value::Object(b)) => {
                let field = |(key, a)| b.get(key).is_some_and(|b| agree(a, b));
                a.len() == b.len() && a.iter().all(field)
            }
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            check_against_serde(&bytes);
        }

        #[test]
        fn agrees_with_serde_on_pieces_of_json(bytes in nearly_json()) {
            check_against_serde(&bytes);
        }

        #[test]
        fn agrees_with_serde_on_damaged_json(bytes in mutated_json()) {
            check_against_serde(&bytes);
        }
    }
}
