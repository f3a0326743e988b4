//! The apps that ship with the program.

use timebus_net::apps::BuiltIn;

/// Names files of an app and embeds them.
macro_rules! app {
    ($name:literal, $($path:literal)*) => {
        BuiltIn { name: $name, files: &[$(($path, include_bytes!(concat!("../", $name, "/", $path)))),*] }
    };
}

/// Offered to everybody, installed for nobody. A test compares the lists with the folders.
pub(crate) const APPS: &[BuiltIn] = &[
    app! { "chirp", "app.json" "chirp.css" "composer.js" "dom.js" "glimpse.js" "icon.svg" "index.html" "main.js" "model.js" "pages.js" "post.js" "text.js" },
    app! { "board", "app.json" "board.css" "board.js" "icon.svg" "index.html" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_app_is_whole() {
        for app in APPS {
            let bundle = app.bundle().unwrap_or_else(|error| panic!("{}: {error}", app.name));
            assert_eq!(bundle.manifest.name, app.name);
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(app.name);
            let mut there: Vec<String> = std::fs::read_dir(&folder)
                .expect("the folder of the app")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| !name.ends_with(".md"))
                .collect();
            there.sort();
            let mut embedded: Vec<&str> = app.files.iter().map(|(path, _)| *path).collect();
            embedded.sort_unstable();
            assert_eq!(embedded, there);
        }
    }
}
