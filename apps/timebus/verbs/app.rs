//! app: apps come, go, and are made.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Serde, json};
use timebus_net::apps::bundle::BUNDLE_BYTES_MAX;
use timebus_net::apps::manifest::is_name;
use timebus_net::invite::Invite;

use crate::Context;
use crate::amounts::Lifetime;
use crate::cli::{App, AppAction, Can};
use crate::client::{Client, Home, JSON, Request, open, open_running};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::{Output, printable};
use crate::standing::table;
use crate::target::Target;
use crate::value::{Json, compact, items, member, string, text};
use crate::verbs::invite::{expiry, make, print, until, writing};
use crate::verbs::up::stop_signal;

/// How often `dev` looks at the files.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The app that `new` makes.
const TEMPLATE: [(&str, &str); 3] =
    [("app.json", include_str!("app/app.json")), ("index.html", include_str!("app/index.html")), ("icon.svg", include_str!("app/icon.svg"))];

pub(crate) async fn run(context: &Context, args: App) -> anyhow::Result<()> {
    match args.action.unwrap_or(AppAction::Ls {}) {
        AppAction::New { name, folder } => new(context, &name, folder),
        AppAction::Dev { folder } => dev(context, &folder).await,
        AppAction::Publish { what } => publish(context, &what).await,
        AppAction::Install { from, yes, alias, space } => install(context, &from, yes, alias.as_deref(), space.as_deref()).await,
        AppAction::Ls {} => list(context).await,
        AppAction::Open { alias, print, port } => open_app(context, &alias, print, port).await,
        AppAction::Share { alias, to, can, uses, expires, hello, qr } => share(context, Share { alias, to, can, uses, expires, hello, qr }).await,
        AppAction::Remove { alias } => remove(context, &alias).await,
    }
}

fn new(context: &Context, name: &str, folder: Option<PathBuf>) -> anyhow::Result<()> {
    if !is_name(name) {
        return Err(Failure::usage(format!("{name:?} cannot be the name of an app"))
            .fix("use lower-case letters, digits and dashes, a letter first, 40 at most")
            .into());
    }
    let folder = folder.unwrap_or_else(|| PathBuf::from(name));
    if folder.exists() {
        return Err(Failure::refused(format!("{} is there already", folder.display())).fix("name another folder with --in DIR").into());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (file, content) in TEMPLATE {
        std::fs::write(folder.join(file), content.replace("NAME", name)).with_context(|| format!("{file} cannot be written"))?;
    }
    let shown = folder.display().to_string();
    context.out.result(&json!({"name": name, "folder": shown}), || {
        let dev = context.home.command(&format!("app dev {}", quoted_text(&shown)));
        format!("{shown}/index.html is the app; {shown}/app.json says what it may do\nsee it with `{dev}`")
    })
}

/// What a peer is asked to take an app from.
fn source(from: &str) -> anyhow::Result<Serde> {
    if from.starts_with('@') {
        return Ok(json!({ "space": from }));
    }
    let folder = Path::new(from);
    if folder.join("app.json").is_file() {
        return folder_source(folder);
    }
    if from.contains(['/', '.']) {
        return Err(Failure::usage(format!("{from} is no folder with an app.json")).fix("`timebus app new NAME` makes one").into());
    }
    Ok(json!({ "builtin": from }))
}

fn folder_source(folder: &Path) -> anyhow::Result<Serde> {
    let shown = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let files: BTreeMap<String, String> = files(folder)?.into_iter().map(|(path, bytes)| (path, STANDARD.encode(bytes))).collect();
    Ok(json!({"folder": {"folder": shown.display().to_string(), "files": files}}))
}

/// The files of an app's folder. What begins with a dot, and what tools of developers leave, is not of it.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut total = 0;
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            // A link can lead out of the folder, to what nobody wanted to publish.
            let kind = entry.file_type()?;
            if name.starts_with('.') || name == "node_modules" || kind.is_symlink() {
                continue;
            }
            let path = format!("{prefix}{name}");
            if kind.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
                continue;
            }
            let bytes = std::fs::read(entry.path()).with_context(|| format!("{} cannot be read", entry.path().display()))?;
            total += bytes.len();
            if total > BUNDLE_BYTES_MAX {
                return Err(Failure::refused("the files are too large for an app").detail(format!("{BUNDLE_BYTES_MAX} bytes is the most")).into());
            }
            found.insert(path, bytes);
        }
    }
    Ok(found)
}

async fn ask(client: &mut Client, what: &str, body: &Serde) -> anyhow::Result<Json> {
    client.json(Request::post(format!("/.sys/apps/{what}")).body(JSON, body.to_string())?).await
}

/// What somebody reads before he agrees.
fn card(looked: &Json) -> Vec<String> {
    let part = |name| printable(text(looked, name).unwrap_or_default());
    let mut lines = vec![format!("app      {}   {}", part("title"), part("about"))];
    let words = member(looked, "source").and_then(|source| text(source, "words")).unwrap_or_default();
    lines.push(format!("from     {}", printable(words)));
    lines.push(format!("version  {}", short_version(text(looked, "version").unwrap_or_default())));
    let more = items(looked, "asks_more");
    let is_upgrade = text(looked, "installed").is_some();
    let asked = if is_upgrade { more } else { items(looked, "may") };
    if let Some(space) = text(looked, "space_words").filter(|space| *space != "your space") {
        lines.push(format!("in       {}", printable(space)));
    }
    if is_upgrade {
        lines.push(format!("now      version {} is installed", short_version(text(looked, "installed").unwrap_or_default())));
        if let Some(had) = text(looked, "had") {
            lines.push(format!("had      {}, which it does not get any more", printable(had)));
        }
        if asked.is_empty() {
            lines.push("asks     for nothing that it does not have".to_owned());
        }
    }
    for (at, want) in asked.iter().enumerate() {
        let why = text(want, "why").filter(|why| !why.is_empty()).map(|why| format!("   ({})", printable(why))).unwrap_or_default();
        let head = if at == 0 { "may     " } else { "        " };
        lines.push(format!("{head} {}{why}", printable(text(want, "words").unwrap_or_default())));
    }
    let hosts: Vec<String> = items(looked, if is_upgrade { "asks_hosts" } else { "network" }).iter().filter_map(string).map(printable).collect();
    match hosts.is_empty() {
        true => lines.push("network  asks no host but your peer".to_owned()),
        false => lines.push(format!("network  talks to {}", hosts.join(", "))),
    }
    lines
}

fn short_version(version: &str) -> String {
    version.chars().take(12).collect()
}

/// Shows the card and asks.
fn confirm(out: Output, looked: &Json, yes: bool) -> anyhow::Result<()> {
    if !out.json {
        card(looked).iter().for_each(|line| out.note(format!("  {line}")));
        out.note("");
    }
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if out.json || !stdin.is_terminal() {
        if out.json {
            out.line(compact(looked))?;
            out.flush()?;
        }
        return Err(Failure::usage("this has to be confirmed, and nobody is here to ask").fix("read what it says, then add --yes").into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "install it? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::BufRead::read_line(&mut stdin.lock(), &mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::refused("nothing was done").into()),
    }
}

pub(crate) async fn install(context: &Context, from: &str, yes: bool, alias: Option<&str>, space: Option<&str>) -> anyhow::Result<()> {
    let source = match Invite::parse(from) {
        Ok(invite) => {
            let Some((name, _)) = &invite.app else {
                return Err(Failure::usage("this invite brings no app").fix("take it with `timebus join LINK`").into());
            };
            let source = json!({"space": format!("@{}/{name}", invite.space)});
            let join = crate::cli::Join { link: from.to_owned(), yes, name: None, called: None, net: crate::cli::Net::default() };
            crate::verbs::join::run(context, join).await?;
            source
        }
        Err(_) => source(from)?,
    };
    // Opened when it is needed: joining may take longer than a connection on which nobody speaks stays open.
    let (_session, mut client) = open(context, Home::MayBegin).await?;
    let looked = ask(&mut client, "look", &json!({"from": source, "alias": alias, "space": space})).await?;
    confirm(context.out, &looked, yes)?;
    let body = json!({"from": source, "alias": alias, "space": space, "version": text(&looked, "version")});
    let installed = ask(&mut client, "install", &body).await?;
    if context.out.json {
        return Ok(context.out.line(compact(&installed))?);
    }
    let alias = text(&installed, "alias").unwrap_or_default();
    context.out.line(format!("{} is installed as {alias}", printable(text(&installed, "title").unwrap_or_default())))?;
    context.out.note(format!("open it with `{}`", context.home.command(&format!("app open {alias}"))));
    Ok(())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let all = client.json(Request::get("/.sys/apps")).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let words = |app: &Json| member(app, "source").and_then(|source| text(source, "words")).map(printable).unwrap_or_default();
    let row = |app: &Json| {
        let part = |name| printable(text(app, name).unwrap_or_default());
        let update = match member(app, "update") {
            Some(update @ Json::Object(_)) if items(update, "asks_more").is_empty() => ", another version is there",
            Some(Json::Object(_)) => ", another version is there and asks for more",
            _ => "",
        };
        vec![part("alias"), part("title"), format!("{}{update}", words(app)), part("space_words"), part("url")]
    };
    let installed = items(&all, "apps");
    if !installed.is_empty() {
        let head = ["APP", "TITLE", "FROM", "IN", "ADDRESS"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(installed.iter().map(row)).collect();
        table(&rows).iter().try_for_each(|line| out.line(line))?;
    }
    for app in items(&all, "offered") {
        let part = |name| printable(text(app, name).unwrap_or_default());
        out.note(format!("{} comes with timebus: {}", part("title"), part("about")));
        out.note(format!("  {}", context.home.command(&format!("app install {}", part("name")))));
    }
    for app in items(&all, "published") {
        let part = |name| printable(text(app, name).unwrap_or_default());
        out.note(format!("{} is published in your space: {}", part("title"), part("about")));
        out.note(format!("  {}", context.home.command(&format!("app install {}", part("name")))));
    }
    Ok(())
}

async fn open_app(context: &Context, alias: &str, print: bool, port: bool) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let opened = ask(&mut client, "open", &json!({"alias": alias, "port": port})).await?;
    let url = text(&opened, "port_url").or(text(&opened, "url")).unwrap_or_default().to_owned();
    let is_shown = !print && !context.out.json && Output::is_terminal(context.out) && browse(&url);
    context.out.result(&json!({"alias": alias, "url": url}), || url.clone())?;
    if !is_shown && !print {
        context.out.note("open this in a browser; it works once, for a quarter of an hour");
    }
    Ok(())
}

/// Starts the user's browser; says whether there is one.
fn browse(url: &str) -> bool {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = std::process::Command::new(program);
    command.arg(url).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.spawn().is_ok()
}

async fn remove(context: &Context, alias: &str) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let removed = ask(&mut client, "remove", &json!({ "alias": alias })).await?;
    let kept: Vec<String> = items(&removed, "kept").iter().filter_map(string).map(printable).collect();
    let json = json!({"removed": alias, "kept": kept});
    context.out.result(&json, || match kept.is_empty() {
        true => format!("{alias} is removed"),
        false => format!("{alias} is removed; what it wrote stays at {}", kept.join(", ")),
    })
}

/// What `publish` and `share` take an app from: an installed one, else a folder or one that ships.
async fn published(client: &mut Client, what: &str) -> anyhow::Result<Json> {
    let all = client.json(Request::get("/.sys/apps")).await?;
    let is_installed = items(&all, "apps").iter().any(|app| text(app, "alias") == Some(what));
    let from = if is_installed { json!({ "installed": what }) } else { source(what)? };
    ask(client, "publish", &json!({ "from": from })).await
}

async fn publish(context: &Context, what: &str) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let done = published(&mut client, what).await?;
    if context.out.json {
        return Ok(context.out.line(compact(&done))?);
    }
    let part = |name| printable(text(&done, name).unwrap_or_default());
    context.out.line(format!("{} is at {}, version {}", part("title"), part("path"), short_version(&part("version"))))?;
    context.out.note(format!("who reads your space installs it with `timebus app install {}`", part("from")));
    Ok(())
}

/// What `share` was told.
struct Share {
    alias: String,
    to: Target,
    can: Can,
    uses: u64,
    expires: Lifetime,
    hello: String,
    qr: bool,
}

async fn share(context: &Context, args: Share) -> anyhow::Result<()> {
    if let (Some(other), inside) = args.to.split() {
        let invite = context.home.command(&format!("invite --to {}", quoted_text(&format!("@{other}{inside}"))));
        let fix = format!("share it with a path of yours, or let them in there with `{invite}` and have them install it from you");
        return Err(Failure::usage(format!("an invite to {inside} of @{other} brings no app of yours")).fix(fix).into());
    }
    let (name, own) = {
        let (_session, mut client) = open_running(context).await?;
        let done = published(&mut client, &args.alias).await?;
        let own = text(&client.json(Request::get("/.sys/status")).await?, "id").unwrap_or_default().to_owned();
        (text(&done, "name").unwrap_or_default().to_owned(), own)
    };
    let path = args.to.to_string();
    let role = match args.can {
        Can::Read => "read",
        Can::Write => "write",
    };
    // An app comes with the space that it is in.
    let wish =
        json!({"role": role, "path": path, "whole": true, "uses": args.uses, "expires_ms": expiry(args.expires), "paint": args.hello, "app": name});
    let made = make(context, &wish).await?;
    let may = match args.can {
        Can::Read => "read all of your space that is not kept apart, and everything new in it".to_owned(),
        Can::Write => format!("read all of your space that is not kept apart, and {}", writing(&path, None)),
    };
    // A guest's app gets his own space if nothing is said.
    let there = match args.can {
        Can::Read => "there      timebus app install LINK".to_owned(),
        Can::Write => {
            format!("there      timebus app install LINK --space @{}   for the app to work here, and without --space in his own space", own)
        }
    };
    let words = [
        format!("brings     {name}, as it is installed here"),
        format!(
            "for        {}, {}",
            if args.uses == 1 { "whoever has the link first, once".to_owned() } else { format!("the first {}", args.uses) },
            until(&made)
        ),
        format!("may        {may}"),
        there,
        format!("take back  {}", context.home.command(&format!("invites revoke {}", text(&made, "id").unwrap_or_default()))),
    ];
    print(context, &made, &words, args.qr)
}

async fn dev(context: &Context, folder: &Path) -> anyhow::Result<()> {
    let out = context.out;
    is_folder(folder)?;
    let (_session, mut client) = open_running(context).await?;
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let mut last = None;
    let mut is_first = true;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => {}
        }
        let now = files(folder)?;
        if last.as_ref() == Some(&now) {
            continue;
        }
        last = Some(now);
        match follow(&mut client, folder, true).await {
            Ok((looked, installed)) => {
                let url = text(&installed, "url").unwrap_or_default();
                if out.json {
                    out.line(json!({"alias": text(&installed, "alias"), "version": text(&installed, "version"), "url": url}).to_string())?;
                } else if is_first {
                    card(&looked).iter().for_each(|line| out.note(format!("  {line}")));
                    out.line(format!("{url}   follows {} until Ctrl-C", folder.display()))?;
                } else {
                    out.line(format!("version {}", short_version(text(&installed, "version").unwrap_or_default())))?;
                }
                out.flush()?;
                is_first = false;
            }
            // A file that is half written is mended in a moment; a mistake at the start is not.
            Err(error) if is_first => return Err(error),
            Err(error) => out.failure(&Failure::of(&error)),
        }
    }
    // From now on its pages wait for nothing.
    let _ = follow(&mut client, folder, false).await;
    Ok(())
}

/// Whether a folder is one of an app.
fn is_folder(folder: &Path) -> anyhow::Result<()> {
    match folder.join("app.json").is_file() {
        true => Ok(()),
        false if !folder.exists() => {
            let fix = format!("`timebus app new NAME --in {}` makes one", quoted_text(&folder.display().to_string()));
            Err(Failure::usage(format!("there is no folder {}", folder.display())).fix(fix).into())
        }
        false => {
            Err(Failure::usage(format!("{} has no app.json", folder.display())).fix("`timebus app new NAME` makes a folder that has one").into())
        }
    }
}

/// Installs what is in a folder: whoever works on an app has seen what it wants.
async fn follow(client: &mut Client, folder: &Path, is_dev: bool) -> anyhow::Result<(Json, Json)> {
    is_folder(folder)?;
    let source = folder_source(folder)?;
    let looked = ask(client, "look", &json!({ "from": source })).await?;
    let installed = ask(client, "install", &json!({"from": source, "version": text(&looked, "version"), "is_dev": is_dev})).await?;
    Ok((looked, installed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_an_app_are_those_of_its_folder_and_of_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("app.json"), "{}").expect("written");
        std::fs::write(at(".secret"), "x").expect("written");
        for below in ["img", "node_modules", ".git"] {
            std::fs::create_dir(at(below)).expect("a folder");
            std::fs::write(at(below).join("a.svg"), "x").expect("written");
        }
        std::os::unix::fs::symlink("/etc/passwd", at("passwd.txt")).expect("a link");
        let found: Vec<String> = files(folder.path()).expect("files").into_keys().collect();
        assert_eq!(found, ["app.json", "img/a.svg"]);
    }

    #[test]
    fn the_app_that_new_makes_is_one() {
        let files = TEMPLATE.map(|(file, content)| (file.to_owned(), bytes::Bytes::from(content.replace("NAME", "my-notes"))));
        let bundle = timebus_net::apps::bundle::Bundle::new(files).expect("an app");
        assert_eq!(bundle.manifest.name, "my-notes");
    }
}
