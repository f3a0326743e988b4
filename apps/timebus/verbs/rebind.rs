//! vouch, rebind: contacts who lost every key and begin again under a new one.

use serde_json::json;
use timebus_identity::{Keys, human_name};
use timebus_net::peer::PeerConfig;

use crate::Context;
use crate::cli::{Rebind, Vouch};
use crate::client::{Home, JSON, Request, open, open_running};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::peer::{Local, keys_of};
use crate::standing::short;
use crate::value::{Json, compact, items, member, text};
use crate::verbs::succession::stopped;

/// A part of an answer, for a terminal.
fn part(answer: &Json, name: &str) -> String {
    printable(text(answer, name).unwrap_or("?"))
}

/// Lines of words in an answer.
fn lines<'a>(answer: &'a Json, name: &str) -> impl Iterator<Item = String> + use<'a> {
    items(answer, name).iter().filter_map(|line| if let Json::String(line) = line { Some(printable(line)) } else { None })
}

/// What is said of one contact, in lines; nothing of most.
pub(crate) fn says(rebind: &Json) -> Vec<String> {
    lines(rebind, "says").collect()
}

pub(crate) async fn vouch(context: &Context, args: Vouch) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let now = args.now.filter(|_| !args.withdraw);
    let body = json!({"who": args.who, "now": now, "confirm": args.yes}).to_string();
    let answer = client.json(Request::post("/.sys/vouch").body(JSON, body)?).await;
    session.close().await;
    let answer = answer?;
    let out = context.out;
    let name = part(&answer, "name");
    if now.is_none() || args.yes {
        let json: serde_json::Value = serde_json::from_str(&compact(&answer))?;
        return out.result(&json, || match now {
            Some(_) => format!("you say, for all who may read your space, that {name} is {} now", part(&answer, "now_name")),
            None => format!("you say nothing of {name} any more"),
        });
    }
    if out.json {
        out.line(compact(&answer))?;
    } else {
        out.note(format!("  who     {name}   {}", short(text(&answer, "space").unwrap_or("?"))));
        out.note(format!(
            "  now     {}   {}; ask him by voice whether that is what his new key is called",
            part(&answer, "now_name"),
            short(text(&answer, "now").unwrap_or("?"))
        ));
        out.note("  then    all who may read your space are shown that you say so, and each decides for himself");
    }
    out.flush()?;
    Err(Failure::usage("this has to be confirmed").fix("ask him, then add --yes").into())
}

pub(crate) async fn run(context: &Context, args: Rebind) -> anyhow::Result<()> {
    match args.who {
        None => list(context).await,
        Some(who) if args.undo => undo(context, &who).await,
        Some(who) => rebind(context, &who, args.yes).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let all = client.json(Request::get("/.sys/rebind")).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let contacts = items(&all, "contacts");
    for one in contacts {
        for line in says(one) {
            out.line(format!("{:<12} {line}", part(one, "name")))?;
        }
        if text(one, "now").is_some() {
            let who = quoted_text(text(one, "name").unwrap_or("?"));
            out.note(format!("             ask him by voice; then `{}` moves the name", context.home.command(&format!("rebind {who} --yes"))));
        }
    }
    for one in items(&all, "vouched") {
        out.line(format!("{:<12} {} is {} now", "you say", part(one, "name"), part(one, "now_name")))?;
    }
    if contacts.is_empty() {
        out.note("nobody says that one of your contacts has a new key");
    }
    Ok(())
}

async fn rebind(context: &Context, who: &str, yes: bool) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let out = context.out;
    let ask = |to: Option<&str>| Request::post("/.sys/rebind").body(JSON, json!({"who": who, "to": to, "confirm": to.is_some()}).to_string());
    let mut answer = client.json(ask(None)?).await?;
    let shown: Vec<String> = member(&answer, "told").into_iter().flat_map(says).collect();
    if yes {
        let to = text(&answer, "to").map(str::to_owned);
        answer = client.json(ask(to.as_deref())?).await?;
    }
    if out.json {
        out.line(compact(&answer))?;
    } else {
        shown.iter().try_for_each(|line| out.line(line))?;
    }
    if yes {
        if !out.json {
            out.line(format!("{} is {} now", part(&answer, "name"), part(&answer, "to_name")))?;
            lines(&answer, "notes").for_each(|note| out.note(format!("note: {note}")));
            out.note(format!("`{}` takes it back", context.home.command(&format!("rebind {} --undo", quoted_text(who)))));
        }
        return Ok(());
    }
    out.flush()?;
    Err(Failure::usage("this has to be confirmed").fix("ask him by voice what his new key is called, then add --yes").into())
}

async fn undo(context: &Context, who: &str) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let answer = client.json(Request::post("/.sys/rebind").body(JSON, json!({"who": who, "undo": true}).to_string())?).await?;
    let json: serde_json::Value = serde_json::from_str(&compact(&answer))?;
    context.out.result(&json, || format!("{} is again who he was; {} has the name it had", part(&answer, "name"), part(&answer, "to_name")))
}

/// Begins a space for somebody who has nothing left of his old one, and says what to tell his friends.
pub(crate) async fn by_friends(context: &Context) -> anyhow::Result<()> {
    let is_new = !context.home.exists();
    let keys = if is_new {
        let lock = stopped(context)?;
        Keys::create_or_open(&context.home.folder().join("keys"))?;
        // Opening it states the beginning of the space.
        Local::open(&context.home, lock, context.out, PeerConfig::default()).await?.close().await;
        keys_of(&context.home)?
    } else {
        keys_of(&context.home)?
    };
    let (id, name) = (keys.space().to_string(), human_name(&keys.space()));
    let tell = format!("my new key is called {name}; say it is me with: timebus vouch WHAT-YOU-CALL-ME {id}");
    let json = json!({"recovered": false, "new": is_new, "id": id, "name": name, "tell": tell});
    let (up, invite) = (context.home.command("up"), context.home.command("invite"));
    context.out.result(&json, || {
        format!(
            "You begin again as {name}\nspace  {id}\n\nTell each of your friends, by voice or face to face, and send him the line:\n\n  {tell}\n\n\
             Whoever knows you both is shown it then, and decides for himself.\nthen   `{up}`, and `{invite}` for each of them; what you shared \
             before can be read at those who have it"
        )
    })
}
