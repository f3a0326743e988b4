//! files: how much is kept, what is pinned, what is on its way and from whom.

use indicatif::DecimalBytes;
use serde_json::json;

use crate::Context;
use crate::cli::{Answer, Files, FilesVerb};
use crate::client::{Home, JSON, Request, open};
use crate::output::printable;
use crate::standing::table;
use crate::value::{Json, compact, counted, items, number, text};

pub(crate) async fn run(context: &Context, args: Files) -> anyhow::Result<()> {
    match args.verb.unwrap_or(FilesVerb::Ls) {
        FilesVerb::Ls => list(context).await,
        FilesVerb::Pin { path } => pin(context, "pin", &path).await,
        FilesVerb::Unpin { path } => pin(context, "unpin", &path).await,
        FilesVerb::Share { who, share } => self::share(context, &who, share).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let told = client.json(Request::get("/.sys/blobs")).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    let size = |of: &Json, name| DecimalBytes(number(of, name).unwrap_or(0)).to_string();
    out.line(format!("kept       {}; of files of others up to {}, and what is pinned", size(&told, "bytes"), size(&told, "cache_bytes_max")))?;
    let name = |of: &Json, name| printable(text(of, name).unwrap_or("?"));
    for back in items(&told, "kept_back") {
        out.line(format!("kept back  files of {} do not go on to others from here", name(back, "name")))?;
    }
    let mut rows = Vec::new();
    for pin in items(&told, "pins") {
        let files = number(pin, "files").unwrap_or(0);
        rows.push(vec![
            "pinned".to_owned(),
            name(pin, "path"),
            format!("{}, {} of {}", counted(files as usize, "file"), size(pin, "bytes_here"), size(pin, "bytes_total")),
        ]);
    }
    for transfer in items(&told, "transfers") {
        let is_fetched = matches!(crate::value::member(transfer, "is_fetched"), Some(Json::Bool(true)));
        let readers = number(transfer, "readers").unwrap_or(0);
        let how = match (is_fetched, readers) {
            (true, _) => format!("{} of {} {}", size(transfer, "bytes_here"), size(transfer, "bytes_total"), name(transfer, "text")),
            (false, 0) => continue,
            (false, readers) => format!("{} may take it from here", counted(readers as usize, "other")),
        };
        let path = text(transfer, "path").or_else(|| text(transfer, "hash")).unwrap_or("?");
        rows.push(vec![if is_fetched { "coming" } else { "going" }.to_owned(), printable(path), how]);
    }
    table(&rows).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}

async fn pin(context: &Context, verb: &str, path: &crate::target::Target) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::post(format!("/.sys/blobs/{verb}")).body(JSON, json!({"path": path.to_string()}).to_string())?;
    let told = client.json(request).await?;
    session.close().await;
    context.out.result(&serde_json::from_str::<serde_json::Value>(&compact(&told))?, || {
        let path = printable(text(&told, "path").unwrap_or("?"));
        match verb {
            "pin" => format!("{path}: all files there are fetched and stay here, also those to come"),
            _ => format!("{path}: files there make room for others again"),
        }
    })
}

async fn share(context: &Context, who: &str, share: Answer) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let share = matches!(share, Answer::Yes);
    let request = Request::post("/.sys/blobs/share").body(JSON, json!({"space": who, "share": share}).to_string())?;
    let told = client.json(request).await?;
    session.close().await;
    context.out.result(&serde_json::from_str::<serde_json::Value>(&compact(&told))?, || {
        let name = printable(text(&told, "name").unwrap_or("?"));
        match share {
            true => format!("whoever may read files of {name} can get them from here"),
            false => format!("files of {name} do not go on to others from here"),
        }
    })
}
