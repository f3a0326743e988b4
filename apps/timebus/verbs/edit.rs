//! edit: a value in the user's editor.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use hyper::Method;
use serde_json::json;

use crate::Context;
use crate::cli::Edit;
use crate::client::{Home, JSON, Request, open};
use crate::failure::Failure;
use crate::home::{quoted, quoted_text};
use crate::live::disk::{self, Stamp};
use crate::target::{Target, Versions};
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

    let suffix = match mime.as_str() {
        JSON => ".json",
        "text/markdown" => ".md",
        _ => ".txt",
    };
    let mut file = tempfile::Builder::new().prefix("timebus-").suffix(suffix).tempfile().context("could not make a file to edit")?;
    file.write_all(&before)?;
    file.flush()?;
    let agent = format!("edit{}", timebus_identity::z32::encode(&timebus_identity::random_bytes::<8>()));
    let mut draft = Draft { path: args.path.clone(), mime, version, saved: before.clone(), agent, seq: 0, is_merged: false };
    edit(context, file.path(), &mut draft).await?;
    let after = std::fs::read(file.path()).context("could not read the edited file")?;

    let out = context.out;
    let unchanged = json!({"path": args.path.to_string(), "written": draft.seq > 0, "merged": draft.is_merged});
    let is_emptied = after.trim_ascii().is_empty() && draft.seq == 0;
    if after == draft.saved || is_emptied {
        return out.result(&unchanged, || match draft.seq {
            0 => "nothing changed, nothing written".to_owned(),
            _ => format!("saved {}{}", args.path, draft.merged()),
        });
    }
    if draft.mime == JSON
        && let Err(error) = parse(&after)
    {
        let (_, kept) = file.keep().context("could not keep the edited file")?;
        let retry = format!("timebus put {} @{}", quoted_text(&args.path.to_string()), quoted(&kept));
        return Err(Failure::refused("what you saved is not JSON that can be kept")
            .detail(error)
            .fix(format!("your text is in {0}; mend it, then: {retry}", kept.display()))
            .into());
    }
    match draft.save(context, after).await {
        Ok(version) => {
            let json = json!({"path": args.path.to_string(), "written": true, "version": version.list(), "merged": draft.is_merged});
            out.result(&json, || format!("saved {}{}  version {version}", args.path, draft.merged()))
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

/// What is being edited.
struct Draft {
    path: Target,
    mime: String,
    /// What the editor's text stands on; `None` if nothing was there.
    version: Option<Versions>,
    /// What was read or sent last.
    saved: Vec<u8>,
    /// The session under which a text is edited.
    agent: String,
    seq: u64,
    /// Whether what is there now is more than what was sent last.
    is_merged: bool,
}

impl Draft {
    /// Sends the editor's text, as written upon what was read or sent last: what others did meanwhile stays.
    async fn save(&mut self, context: &Context, text: Vec<u8>) -> anyhow::Result<Versions> {
        let (_session, mut client) = open(context, Home::MayBegin).await?;
        let mut request = Request::new(Method::PUT, self.path.encoded()).body(&self.mime, text.clone())?;
        request = match &self.version {
            Some(version) => request.versions("parents", Some(version))?,
            // Somebody else may have begun it meanwhile; then both values are kept.
            None => request.header("parents", "")?,
        };
        // Every character of both may be taken out or put in.
        let seq = self.seq + (self.saved.len() + text.len()) as u64 + 1;
        let own = Versions::new(vec![format!("{}-{seq}", self.agent)]);
        if self.is_text() {
            request = request.versions("version", Some(&own))?;
        }
        let version = client.send(request).await?.version();
        self.is_merged = self.is_text() && version.list() != own.list();
        // The editor shows what it sent, not what became of it.
        (self.version, self.saved, self.seq) = (Some(if self.is_text() { own } else { version.clone() }), text, seq);
        Ok(version)
    }

    fn merged(&self) -> &'static str {
        if self.is_merged { ", merged with what others wrote meanwhile" } else { "" }
    }

    fn is_text(&self) -> bool {
        matches!(self.mime.as_str(), "text/plain" | "text/markdown")
    }
}

/// How often to look whether the editor has saved.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Opens a file in the user's editor and waits until it is closed. What is saved meanwhile in a text is sent at once.
async fn edit(context: &Context, path: &Path, draft: &mut Draft) -> anyhow::Result<()> {
    let named = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut command = Command::new("sh");
    // The variable may hold arguments, so a shell takes it apart.
    command.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path);
    let mut waiting = tokio::task::spawn_blocking(move || command.status());
    let mut before = None;
    let status = loop {
        tokio::select! {
            status = &mut waiting => break status?,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = Stamp::at(path);
        // Only what looks the same twice is finished.
        if before == now
            && draft.is_text()
            && let Ok(Some(read)) = disk::read(path, now)
            && read.bytes != draft.saved
            && !read.bytes.trim_ascii().is_empty()
        {
            // It is sent again when the editor is closed, and only then it matters whether that goes well.
            let _ = draft.save(context, read.bytes).await;
        }
        before = now;
    };
    let failed = |why: String| {
        let written = if draft.seq == 0 { "nothing was written" } else { "what was saved before was written" };
        Failure::refused(format!("the editor `{editor}` {why}; {written}")).fix("set EDITOR to another editor")
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("ended with {status}")).into()),
        Err(error) => Err(failed(format!("could not be started: {error}")).into()),
    }
}
