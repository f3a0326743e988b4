//! backup and fsck.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use indicatif::DecimalBytes;
use serde_json::json;
use timebus_net::backup::LACKING;

use crate::Context;
use crate::cli::{Backup, Fsck};
use crate::client::{Home, JSON, Request, open};
use crate::failure::Failure;
use crate::folder::{Written, is_standard};
use crate::home::quoted;
use crate::progress::Progress;
use crate::value::{Json, compact, counted, items, member, number};

/// Zeros at the end of a tar file.
pub(crate) const TAR_END_BYTES: usize = 1024;

pub(crate) async fn backup(context: &Context, args: Backup) -> anyhow::Result<()> {
    let out = context.out;
    let to = args.file.filter(|file| !is_standard(file));
    if to.is_none() && out.is_terminal() {
        let fix = format!("{} > timebus.tar", context.home.command("backup"));
        return Err(Failure::usage("a backup cannot be shown on a terminal").fix(fix).into());
    }
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let status = client.json(Request::get("/.sys/status")).await?;
    let mut answer = client.send(Request::get("/.sys/backup")).await?;
    let lacking = answer.header(LACKING).and_then(|count| count.parse().ok()).unwrap_or(0);
    let progress = Progress::bytes(out, "backing up", answer.length().or_else(|| number(&status, "log_bytes")));
    let mut file = Written::begin(to.as_deref().unwrap_or(Path::new("-")))?;
    let mut bytes = 0;
    let mut end = Vec::new();
    while let Some(piece) = answer.next().await? {
        file.write_all(&piece).context("could not write the backup")?;
        bytes += piece.len() as u64;
        progress.add(piece.len() as u64);
        end.extend_from_slice(&piece[piece.len().saturating_sub(TAR_END_BYTES)..]);
        end.drain(..end.len().saturating_sub(TAR_END_BYTES));
    }
    progress.done();
    if end.len() < TAR_END_BYTES || end.iter().any(|byte| *byte != 0) {
        let failure = Failure::refused("the backup was cut short; do not keep it");
        return Err(failure.fix(format!("`{}` looks for what is wrong", context.home.command("fsck"))).into());
    }
    if lacking > 0 {
        let (files, are, them) = (counted(lacking, "file"), if lacking == 1 { "is" } else { "are" }, if lacking == 1 { "it" } else { "them" });
        let which = context.home.command("fsck");
        out.note(format!("{files} of yours {are} not whole here, so the backup has what is here of {them}: `{which}` says which"));
    }
    let is_outlet = matches!(file, Written::Outlet(_));
    file.finish(true)?;
    match to.filter(|_| !is_outlet) {
        Some(path) => out.result(&json!({"file": path.display().to_string(), "bytes": bytes, "files_lacking": lacking}), || {
            format!("{} in {}; it holds your keys, keep it safe", DecimalBytes(bytes), quoted(&path))
        }),
        None => {
            out.note(format!("{}; it holds your keys, keep it safe", DecimalBytes(bytes)));
            Ok(())
        }
    }
}

pub(crate) async fn fsck(context: &Context, args: Fsck) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let out = context.out;
    let progress = Progress::things(out, if args.repair { "checking and repairing" } else { "checking" }, None);
    let body = json!({"repair": args.repair}).to_string();
    let report = client.json(Request::post("/.sys/fsck").body(JSON, body)?).await?;
    progress.done();
    let (problems, repaired) = (items(&report, "problems"), items(&report, "repaired"));
    if out.json {
        out.line(compact(&report))?;
    } else {
        let checked = number(&report, "checked").unwrap_or(0);
        let whole = number(&report, "blobs").unwrap_or(0);
        out.line(format!("checked  {}; {} whole", counted(checked as usize, "change"), counted(whole as usize, "file")))?;
        for (what, list) in [("repaired", repaired), ("problem ", problems)] {
            for item in list {
                let text = if let Json::String(text) = item { text.clone() } else { compact(item) };
                out.line(format!("{what} {text}"))?;
            }
        }
        if matches!(member(&report, "restart"), Some(Json::Bool(true))) {
            out.note(format!("stop the peer and start it again, then the index is made anew: {}", context.home.command("down")));
        }
        if problems.is_empty() {
            out.line("everything is in order")?;
        } else if !args.repair {
            out.note(format!("`{}` fetches what others have of what is damaged, and puts it back", context.home.command("fsck --repair")));
        } else {
            out.note("a backup from before may have what is damaged: restore it into another home and compare");
        }
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::told().into()),
    }
}
