//! Fuzz targets: one function for each decoder, which takes any bytes and panics when the decoder breaks a promise.
//!
//! "Does not panic" is the least of the promises. What is accepted must encode to the bytes it came from, print to
//! a text that parses back, stay within its limits, and name one thing only. [`TARGETS`] lists them; `tests/corpus.rs`
//! runs each for a moment from a committed corpus, and `src/fuzzer.rs` hands one of them to libFuzzer for as long as
//! you like (README.md has the command).
//!
//! Deliberately not: no knowledge of how a decoder works. Where a second opinion is needed it is written out here, or
//! asked of serde_json.

mod braid;
mod codec;
mod http;
mod identity;
mod json;
mod log;
pub mod mutate;
pub mod seeds;
mod sync;
mod wire;

/// One decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its folder in `corpus/`.
    pub name: &'static str,
    /// Says whether the bytes were accepted. Panics when the decoder breaks a promise.
    pub run: fn(&[u8]) -> bool,
    /// Inputs tried by `cargo test`: what takes about a quarter of a second without optimisation.
    pub inputs: u32,
    /// Pieces that valid inputs are made of.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "header", run: codec::header, inputs: 80_000, words: &[] },
    Target { name: "body", run: codec::body, inputs: 32_000, words: &["\0", "\u{1}", "\u{7f}", "application/json"] },
    Target { name: "change", run: codec::change, inputs: 8_000, words: &[] },
    Target { name: "value", run: codec::value, inputs: 60_000, words: &["\u{7}", "\0", "text/plain; charset=utf-8"] },
    Target { name: "rows", run: codec::rows, inputs: 60_000, words: &[] },
    Target { name: "key", run: codec::key, inputs: 60_000, words: &["\0", "\u{1}", "00", "ff", "..", "@"] },
    Target { name: "log", run: log::walk, inputs: 6_000, words: &["tbr1"] },
    Target { name: "frame", run: sync::frame, inputs: 60_000, words: &[] },
    Target { name: "blob_frame", run: sync::blob_frame, inputs: 60_000, words: &[] },
    Target { name: "record", run: sync::record, inputs: 60_000, words: &[] },
    Target { name: "path", run: http::path, inputs: 60_000, words: &["/", "@@", "@", ".", "..", "//", "\0", "é", "y.0"] },
    Target {
        name: "target",
        run: http::target,
        inputs: 40_000,
        words: &["/", "%2F", "%2e", "%", "%00", "%C0%AF", "?", "&", "depth=", "after=", "inc=-", "view=all", "#", "+"],
    },
    Target {
        name: "json",
        run: json::text,
        inputs: 32_000,
        words: &[
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "\\u",
            "\\ud83d",
            "\\ude00",
            "1e",
            "-0",
            "0.1",
            "null",
            "true",
            "9007199254740993",
            "\u{feff}",
            "e+308",
        ],
    },
    Target {
        name: "json_patch",
        run: json::patch,
        inputs: 16_000,
        words: &[
            "{\"op\":\"",
            "add",
            "remove",
            "replace",
            "move",
            "copy",
            "test",
            "\"path\":\"/",
            "\"from\":\"/",
            "\"value\":",
            "/-",
            "~0",
            "~1",
            "/a",
            "/0",
        ],
    },
    Target {
        name: "splice",
        run: json::splice,
        inputs: 20_000,
        words: &["json ", "text ", "[", "]", ":", "-0", "-1", ".a", "[\"a\"]", "[0]", "[1:2]", "\n"],
    },
    Target { name: "merge_patch", run: json::merge, inputs: 20_000, words: &["null", "{", "}", "\"a\":", ",", "[", "]"] },
    Target { name: "versions", run: braid::versions, inputs: 32_000, words: &["\"", ",", "\\u0000", "\\ud83d\\ude00", "\\\"", "é"] },
    Target {
        name: "range",
        run: braid::range,
        inputs: 40_000,
        words: &["json", "text", " ", "[", "]", ":", "-0", "\"", "\\u00e9", ".", "18446744073709551615"],
    },
    Target {
        name: "patches",
        run: braid::patches,
        inputs: 32_000,
        words: &["\r\n", "\n", "Content-Length: ", "Content-Range: ", "json .a", "text [0:1]", "0", "4294967296"],
    },
    Target { name: "etag", run: http::etag, inputs: 32_000, words: &["W/", "\"", ",", "*", "\\", "\\u0061"] },
    Target { name: "byte_range", run: http::byte_range, inputs: 80_000, words: &["bytes=", "-", ",", "0", "18446744073709551616"] },
    Target { name: "accept", run: http::accept, inputs: 20_000, words: &["/", "*", ";q=", ",", "\"", "\\", "text/", "json", "0.5", "; charset="] },
    Target { name: "host", run: http::host, inputs: 40_000, words: &["localhost", ":7007", "127.0.0.1", "[::1]", ".", "@", ".localhost:7007"] },
    Target {
        name: "signature",
        run: http::signature,
        inputs: 12_000,
        words: &["sig1=(", "\"@method\"", "\"@target-uri\"", "\"@query\"", ";created=", ";keyid=\"", ";sf", "sha-256=:", ":", "\n"],
    },
    Target { name: "recovery", run: identity::recovery, inputs: 40_000, words: &[] },
    Target { name: "identity", run: identity::texts, inputs: 40_000, words: &["y", "o", ".", "0", "+"] },
    Target {
        name: "wire",
        run: wire::connection,
        inputs: 500,
        words: &[
            "GET / HTTP/1.1\r\n",
            "\r\n",
            "Host: x\r\n",
            "Content-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Subscribe: true\r\n",
            "Upgrade: websocket\r\n",
            "Version: \"a\"\r\n",
            "PUT",
            "Patches: 1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "0\r\n\r\n",
        ],
    },
];

/// The target of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
