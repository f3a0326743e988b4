//! edit: a value in the user's editor.

use std::io::Write as _;
use std::process::Command;

use anyhow::Context as _;
use hyper::Method;
use serde_json::json;

use crate::Context;
use crate::cli::Edit;
use crate::client::{Home, JSON, Request, open};
use crate::failure::Failure;
use crate::home::{quoted, quoted_text};
use crate::value::{parse, pretty};

pub(crate) async fn run(context: &Context, args: Edit) -> anyhow::Result<()> {
    // While the editor is open the home stays free for others.
    let (session, mut client) = open(context, Home::MayBegin).await?;
    let found = match client.send(Request::get(args.path.encoded())).await {
        Ok(answer) => {
            let (mime, version) = (answer.mime().to_owned(), answer.version());
            Some((mime, version, answer.bytes().await?))
        }
        Err(error) if Failure::of(&error).status == Some(404) => None,
        Err(error) => return Err(error),
    };
    drop(client);
    session.close().await;

    let (mime, version, before) = match found {
        Some((mime, version, bytes)) if mime == JSON => {
            let mut text = pretty(&parse(&bytes)?);
            text.push('\n');
            (mime, Some(version), text.into_bytes())
        }
        Some((mime, version, bytes)) if mime.starts_with("text/") => (mime, Some(version), bytes),
        Some((mime, _, _)) => {
            let path = quoted_text(&args.path.to_string());
            let title = format!("{} is a file of type {mime}, which no text editor can edit", args.path);
            return Err(Failure::refused(title).fix(format!("timebus get {path} > file; timebus put {path} @file --type {mime}")).into());
        }
        None => (if args.text { "text/plain" } else { JSON }.to_owned(), None, Vec::new()),
    };

    let suffix = if mime == JSON { ".json" } else { ".txt" };
    let mut file = tempfile::Builder::new().prefix("timebus-").suffix(suffix).tempfile().context("could not make a file to edit")?;
    file.write_all(&before)?;
    file.flush()?;
    edit(file.path())?;
    let after = std::fs::read(file.path()).context("could not read the edited file")?;

    let out = context.out;
    let unchanged = json!({"path": args.path.to_string(), "written": false});
    if after == before || after.trim_ascii().is_empty() {
        return out.result(&unchanged, || "nothing changed, nothing written".to_owned());
    }
    if mime == JSON
        && let Err(error) = parse(&after)
    {
        let (_, kept) = file.keep().context("could not keep the edited file")?;
        let retry = format!("timebus put {} @{}", quoted_text(&args.path.to_string()), quoted(&kept));
        return Err(Failure::refused("what you saved is not JSON that can be kept")
            .detail(error)
            .fix(format!("your text is in {0}; mend it, then: {retry}", kept.display()))
            .into());
    }
    let sent = async {
        let (_session, mut client) = open(context, Home::MayBegin).await?;
        let mut request = Request::new(Method::PUT, args.path.encoded()).body(&mime, after)?;
        request = match &version {
            Some(version) => request.versions("parents", Some(version))?,
            // Somebody else may have begun it meanwhile; then both values are kept.
            None => request.header("parents", "")?,
        };
        client.send(request).await
    };
    match sent.await {
        Ok(answer) => {
            let version = answer.version();
            let json = json!({"path": args.path.to_string(), "written": true, "version": version.list()});
            out.result(&json, || format!("saved {}  version {version}", args.path))
        }
        Err(error) => {
            let (_, kept) = file.keep().context("could not keep the edited file")?;
            let mut failure = Failure::of(&error);
            let note = format!("your text is in {}", kept.display());
            failure.fix = Some(failure.fix.map_or(note.clone(), |fix| format!("{fix}\n{note}")));
            Err(failure.into())
        }
    }
}

/// Opens a file in the user's editor and waits until it is closed.
fn edit(path: &std::path::Path) -> anyhow::Result<()> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // The variable may hold arguments, so a shell takes it apart.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    let failed = |why: String| Failure::refused(format!("the editor `{editor}` {why}; nothing was written")).fix("set EDITOR to another editor");
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("ended with {status}")).into()),
        Err(error) => Err(failed(format!("could not be started: {error}")).into()),
    }
}
