//! private: paths that are kept apart from the rest of the space.

use serde_json::json;

use crate::Context;
use crate::cli::Private;
use crate::client::{Home, JSON, Request, open};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::standing::table;
use crate::value::{Json, compact, items, text};

/// What is no secret of a path that is kept apart: it stands among the rights, which all who have one check.
const SEEN: &str = "the names of these paths and who may read them are seen by all whom you let in anywhere; what is in them is not";

pub(crate) async fn run(context: &Context, args: Private) -> anyhow::Result<()> {
    let out = context.out;
    let (session, mut client) = open(context, Home::MustExist).await?;
    let Some(path) = &args.path else {
        let all = client.json(Request::get("/.sys/timelines")).await?;
        session.close().await;
        if out.json {
            return Ok(out.line(compact(&all))?);
        }
        let kept = items(&all, "timelines");
        if kept.is_empty() {
            out.note(format!("nothing is kept apart; `{}` does that", context.home.command("private /diary")));
            return Ok(());
        }
        let head = ["PATH", "READ BY"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(kept.iter().map(row)).collect();
        table(&rows).iter().try_for_each(|line| out.line(line))?;
        out.note(SEEN);
        return Ok(());
    };
    if path.is_whole() {
        return Err(Failure::usage("what is kept apart is a path of your own space, not all of it").into());
    }
    let path = path.to_string();
    let wish = json!({"path": path, "move": args.r#move, "hidden": args.hidden}).to_string();
    let target = if args.undo { "/.sys/timelines/remove" } else { "/.sys/timelines" };
    let made = client.json(Request::post(target).body(JSON, wish)?).await?;
    session.close().await;
    if out.json {
        return Ok(out.line(compact(&made))?);
    }
    if args.undo {
        out.line(format!("{path} is part of your space again, for all who may read it"))?;
        return Ok(());
    }
    out.line(format!("{path} is kept apart: what you write there stays with your own devices"))?;
    let invite = context.home.command(&format!("invite --to {} --can read", quoted_text(&path)));
    out.note(format!("share it   {invite}"));
    out.note(format!("seen       {SEEN}"));
    if args.r#move {
        out.note("moved      what was there; whoever read it before keeps what he had, and its history stays where it was");
    }
    Ok(())
}

fn row(kept: &Json) -> Vec<String> {
    let readers: Vec<String> = items(kept, "readers")
        .iter()
        .map(|reader| {
            let name = printable(text(reader, "name").unwrap_or("?"));
            if text(reader, "can") == Some("write") { format!("{name} (writes, too)") } else { name }
        })
        .collect();
    let readers = if readers.is_empty() { "only your own devices".to_owned() } else { readers.join(", ") };
    vec![printable(text(kept, "path").unwrap_or("?")), readers]
}
