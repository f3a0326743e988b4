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
    let corpora = ["small-files", "gofuzz-jpeg", "gofuzz-json"];
    let foreign = corpora.map(|corpus| (corpus, data::archive(&format!("06-blobs/{corpus}.tar.gz"))));
    let is_all_there = foreign.iter().all(|(_, files)| files.is_some());
    let foreign = foreign.into_iter().filter_map(|(corpus, files)| Some((corpus, files?)));
    // Each of our own as each kind, also where no others are installed.
    let times = |(name, content): (&'static str, Vec<u8>)| (0..kinds.len()).map(move |_| (name.to_owned(), content.clone()));
    let own = ("our own", own_media().into_iter().flat_map(times).collect());
    for (corpus, files) in std::iter::once(own).chain(foreign) {
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
    let least = if is_all_there { 400 } else { 4 * own_media().len() };
    assert!(served > least, "only {served} files were served");
}

/// Files that a browser would run, or that programs which show them stumble over.
fn own_media() -> Vec<(&'static str, Vec<u8>)> {
    let deep = "[".repeat(20_000);
    let jpeg = [&[0xff, 0xd8, 0xff, 0xe0, 0, 16][..], b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0", &[0xff, 0xda, 0xff, 0xff]].concat();
    let wide = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0xff; 8], &[8, 6, 0, 0, 0]].concat();
    vec![
        ("page.html", b"<!doctype html><script>fetch('/.sys/status')</script>".to_vec()),
        ("frame.html", b"<meta http-equiv=refresh content='0;url=/'><base href=//evil.example><iframe src=/></iframe>".to_vec()),
        ("early.html", [&b"\xef\xbb\xbf"[..], b"<svg/onload=alert(1)>"].concat()),
        ("picture.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script href='/x'/></svg>".to_vec()),
        ("entities.xhtml", b"<!DOCTYPE h [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><html>&b;</html>".to_vec()),
        ("script.js", b"importScripts('/x');navigator.serviceWorker.register('/sw.js')".to_vec()),
        ("as-both.gif", b"GIF89a/*\0\0\0\0*/=1;alert(1)".to_vec()),
        ("form.pdf", b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\ntrailer<</Root 1 0 R>>".to_vec()),
        ("short.jpeg", jpeg),
        ("wide.png", wide),
        ("deep.json", deep.into_bytes()),
        ("header.txt", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<script>".to_vec()),
        ("half.txt", vec![0xc3]),
        ("zeros", vec![0; 4096]),
        ("nothing", Vec::new()),
    ]
}
