use crate::data;
use crate::peer::Peer;

/// Every file of the corpora, small and grown beyond what stays inline, under names that browsers would run.
#[test]
fn hostile_media_is_served_as_what_it_is_and_never_run() {
    let peer = Peer::start();
    let mut client = peer.connect();
    let kinds =
        ["text/html", "image/svg+xml", "TEXT/HTML; charset=utf-8", "application/xhtml+xml", "text/javascript", "image/jpeg", "application/pdf"];
    let mut served = 0;
    for corpus in ["small-files", "gofuzz-jpeg", "gofuzz-json"] {
        let Some(files) = data::archive(&format!("06-blobs/{corpus}.tar.gz")) else { return };
        for (number, (name, content)) in files.into_iter().enumerate() {
            let kind = kinds[number % kinds.len()];
            let mut content = content;
            if number.is_multiple_of(5) {
                content.resize(70_000.max(content.len()), b' ');
            }
            let is_text = kind.to_ascii_lowercase().starts_with("text/");
            let answer = client.send("PUT", "/media", &[("Content-Type", kind)], &content);
            if answer.status == 415 && is_text && std::str::from_utf8(&content).is_err() {
                continue;
            }
            assert_eq!(answer.status, 200, "{corpus}/{name}: {}", answer.text());
            let answer = client.send("GET", "/media", &[("Sec-Fetch-Dest", "image"), ("Sec-Fetch-Site", "none")], "");
            let answer = if answer.status == 401 { client.send("GET", "/media", &[], "") } else { answer };
            assert_eq!(answer.status, 200, "{corpus}/{name}");
            assert!(answer.body == content, "{corpus}/{name}");
            let head = |name: &str| answer.header(name).unwrap_or_default().to_owned();
            assert!(head("content-type").starts_with(kind), "{corpus}/{name}: {}", head("content-type"));
            assert!(head("content-security-policy").starts_with("sandbox"), "{corpus}/{name}");
            assert_eq!(head("x-content-type-options"), "nosniff", "{corpus}/{name}");
            assert_eq!(head("content-disposition"), if kind == "image/jpeg" { "" } else { "attachment" }, "{corpus}/{name} as {kind}");
            let raw = client.send("GET", "/media?view=raw", &[], "");
            assert!(raw.header("content-security-policy").is_some_and(|policy| policy.starts_with("sandbox")), "{corpus}/{name}");
            served += 1;
        }
    }
    assert!(served > 400, "only {served} files were served");
}
