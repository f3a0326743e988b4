//! The pages that a peer serves to browsers, embedded in the program.
//!
//! `web/` holds them as they are served: plain ES modules, no build step. [`file()`] finds one by its path below
//! `/.gui/`; the empty path is the start page, which browsers get at every path. `sdk.js` and `sdk/` are for apps, at
//! whose origins they are served as `/sdk.js`.
//!
//! The pages are plain custom elements, one a file. What they show changes in few places and at known times, so a library
//! that tracks changes would be the largest file here and save few lines; `dom.js` is 70 of them.
//!
//! Deliberately not here: anything that serves. The pages are a client of the HTTP API and can do nothing that it
//! cannot; this crate does not know that the API exists.

/// Names files of `web/` and embeds them.
macro_rules! embed {
    ($($path:literal)*) => {
        &[$(($path, include_bytes!(concat!("../web/", $path)))),*]
    };
}

/// The page that loads all others.
const START: &str = "index.html";

/// Every file of `web/`. A test compares this list with the folder.
const FILES: &[(&str, &[u8])] = embed! {
    "api/pages.js"
    "api/peer.js"
    "api/problem.js"
    "api/send.js"
    "api/session.js"
    "api/told.js"
    "api/watch-socket.js"
    "dom.js"
    "elements/app-card.js"
    "elements/apps-page.js"
    "elements/change-history.js"
    "elements/community-card.js"
    "elements/device-list.js"
    "elements/file-coming.js"
    "elements/file-transfers.js"
    "elements/file-uploads.js"
    "elements/first-run.js"
    "elements/grants-page.js"
    "elements/inbox-page.js"
    "elements/invite-field.js"
    "elements/invites-page.js"
    "elements/join-page.js"
    "elements/live-page.js"
    "elements/made-link.js"
    "elements/notice-list.js"
    "elements/own-name.js"
    "elements/path-crumbs.js"
    "elements/path-explorer.js"
    "elements/path-input.js"
    "elements/path-standing.js"
    "elements/peer-health.js"
    "elements/peer-page.js"
    "elements/people-page.js"
    "elements/problem-card.js"
    "elements/public-value.js"
    "elements/qr-code.js"
    "elements/raw-changes.js"
    "elements/requests-page.js"
    "elements/root-dispute.js"
    "elements/sign-in.js"
    "elements/small-chart.js"
    "elements/timebus-app.js"
    "elements/unheard-list.js"
    "elements/value-authors.js"
    "elements/value-conflicts.js"
    "elements/value-editor.js"
    "elements/value-tree.js"
    "elements/value-view.js"
    "icon.svg"
    "index.html"
    "invite-link.js"
    "keep-apart.js"
    "live-tree.js"
    "main.js"
    "open-app.js"
    "page.css"
    "path.js"
    "sdk.js"
    "sdk/outbox.js"
    "sdk/problem.js"
    "sdk/store.js"
    "sdk/text.js"
    "sdk/tree.js"
    "sdk/wire.js"
    "tokens.css"
    "value-actions.js"
    "words.js"
};

/// The media type and the bytes of a page's file; the empty path is the start page.
///
/// ```
/// let (mime, page) = timebus_gui::file("").expect("there is a start page");
/// assert_eq!(mime, "text/html; charset=utf-8");
/// assert!(page.starts_with(b"<!doctype html>"));
/// assert_eq!(timebus_gui::file("../Cargo.toml"), None);
/// ```
#[must_use]
pub fn file(path: &str) -> Option<(&'static str, &'static [u8])> {
    let path = if path.is_empty() { START } else { path };
    let (name, bytes) = FILES.iter().find(|(name, _)| *name == path)?;
    Some((mime(name)?, bytes))
}

/// The media type that a file's name tells; `None` for kinds that no page has.
fn mime(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn names_below(folder: &Path, base: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("the folder of the pages can be read") {
            let path = entry.expect("its entries can be read").path();
            if path.is_dir() {
                names_below(&path, base, names);
            } else {
                let name = path.strip_prefix(base).expect("the entry is below the folder");
                names.insert(name.to_str().expect("names are plain").replace('\\', "/"));
            }
        }
    }

    fn text(name: &str) -> &'static str {
        let (_, bytes) = file(name).expect(name);
        std::str::from_utf8(bytes).expect("pages are UTF-8")
    }

    #[test]
    fn embeds_every_file_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let mut there = BTreeSet::new();
        names_below(&folder, &folder, &mut there);
        let embedded: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(embedded, there);
    }

    #[test]
    fn serves_every_file_with_a_media_type() {
        for (name, bytes) in FILES {
            assert!(file(name).is_some(), "{name} has no media type");
            assert!(!bytes.is_empty(), "{name} is empty");
        }
    }

    #[test]
    fn start_page_names_only_files_that_exist() {
        for reference in text("").split('"').filter_map(|part| part.strip_prefix("/.gui/")) {
            assert!(file(reference).is_some(), "{reference} does not exist");
        }
    }

    #[test]
    fn modules_import_only_files_that_exist() {
        for (name, _) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            for line in text(name).lines().filter(|line| line.starts_with("import ")) {
                let target = line.split('"').nth(1).expect("an import names a file");
                let folder = Path::new(name).parent().expect("a file is in a folder");
                let (folder, target) = match target.strip_prefix("../") {
                    Some(target) => (folder.parent().expect("there is a folder above"), target),
                    None => (folder, target.strip_prefix("./").expect("imports are relative")),
                };
                let path = folder.join(target);
                assert!(file(path.to_str().expect("names are plain")).is_some(), "{name} imports {target}");
            }
        }
    }

    #[test]
    fn user_values_never_become_html() {
        let forbidden = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"];
        for (name, _) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            for word in forbidden {
                assert!(!text(name).contains(word), "{name} has {word}");
            }
        }
    }

    #[test]
    fn asks_nobody_but_its_own_peer() {
        // The name of a namespace looks like an address, and nobody is asked there.
        const SVG: &str = "\"http://www.w3.org/2000/svg\"";
        for (name, _) in FILES.iter().filter(|(name, _)| *name != "icon.svg") {
            let text = text(name).replace(SVG, "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{name} names another host");
        }
    }

    #[test]
    fn one_file_knows_urls_and_one_asks() {
        for (name, _) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            let is_sdk = *name == "sdk.js" || name.starts_with("sdk/");
            let asks = ["api/send.js", "sdk/wire.js"].contains(name);
            assert!(asks || !text(name).contains("fetch("), "{name} asks the peer by itself");
            let knows = is_sdk || ["api/peer.js", "api/pages.js"].contains(name);
            assert!(knows || !text(name).contains("/.sys"), "{name} knows URLs of the peer");
        }
    }
}
