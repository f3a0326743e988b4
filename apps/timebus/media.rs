//! Which media type a file has, by its name and content.

use std::path::Path;

/// Extensions of files that are not text, or not plain text.
const TYPES: [(&str, &str); 36] = [
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

/// The media type that a file's name tells.
pub(crate) fn of_name(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    TYPES.binary_search_by_key(&extension.as_str(), |(known, _)| known).ok().map(|at| TYPES[at].1)
}

/// Whether bytes are a text: UTF-8 without control characters that texts do not have.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let odd = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\n' | b'\r' | b'\t' | 0x0c | 0x1b) || *byte == 0x7f;
    !bytes.iter().any(odd) && std::str::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(TYPES.is_sorted_by_key(|(extension, _)| *extension));
    }

    #[test]
    fn names_tell_types() {
        let of = |name: &str| of_name(Path::new(name));
        assert_eq!(of("a/b.PNG"), Some("image/png"));
        assert_eq!(of("b.md"), Some("text/markdown"));
        assert_eq!(of("Makefile"), None);
        assert_eq!(of(".json"), None);
    }

    #[test]
    fn texts_are_told_from_bytes() {
        assert!(is_text("héllo\r\n\tworld".as_bytes()));
        assert!(is_text(b""));
        assert!(!is_text(b"\x89PNG\r\n\x1a\n\0"));
        assert!(!is_text(b"\xff\xfe"));
    }
}
