//! personas: several identities of one person.

use serde_json::json;

use crate::Context;
use crate::cli::{Personas, PersonasAction};
use crate::client::{Client, Home, JSON, Request, open};
use crate::failure::Failure;
use crate::output::printable;
use crate::standing::{short, table};
use crate::value::{Json, compact, items, member, string, text};
use crate::verbs::kit::ask;

pub(crate) async fn run(context: &Context, args: Personas) -> anyhow::Result<()> {
    match args.action.unwrap_or(PersonasAction::Ls {}) {
        PersonasAction::Ls {} => list(context).await,
        PersonasAction::New { name, kit, own_kit } => new(context, &name, kit, own_kit).await,
        PersonasAction::Show { name } => show(context, &name).await,
        PersonasAction::Use { name, app, yes } => {
            let context = Context { home: context.home.clone().with_persona(&name)?, ..context.clone() };
            crate::verbs::app::install(&context, &app, yes, None, None).await
        }
        PersonasAction::Link { name, yes } => link(context, &name, yes).await,
        PersonasAction::Unlink { name } => said(context, &name, false).await,
        PersonasAction::Of { who } => of(context, &who).await,
        PersonasAction::Remove { name, yes } => remove(context, &name, yes).await,
    }
}

async fn post(client: &mut Client, what: &str, body: &serde_json::Value) -> anyhow::Result<Json> {
    client.json(Request::post(format!("/.sys/personas{what}")).body(JSON, body.to_string())?).await
}

fn word(link: &str) -> &str {
    match link {
        "linked" => "linked: both spaces say that they are yours",
        "half" => "half: one of the two spaces says so, the other does not",
        _ => "apart: nobody is told",
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let all = client.json(Request::get("/.sys/personas")).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let known = items(&all, "personas");
    let closed = if let Some(Json::Object(closed)) = member(&all, "closed") { closed.clone() } else { Default::default() };
    if known.is_empty() && closed.is_empty() {
        out.note(format!("you are one person; `{}` makes another", context.home.command("personas new NAME")));
        return Ok(());
    }
    let head = ["PERSONA", "OTHERS SEE", "ID", "LINK", "APPS"].map(str::to_owned).to_vec();
    let row = |one: &Json| {
        let part = |name| text(one, name).unwrap_or("?");
        let apps: Vec<String> = items(one, "apps").iter().filter_map(string).map(printable).collect();
        vec![part("name").to_owned(), part("human_name").to_owned(), short(part("id")), part("link").to_owned(), apps.join(", ")]
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(known.iter().map(row)).collect();
    table(&rows).iter().try_for_each(|line| out.line(line))?;
    for (name, why) in &closed {
        out.line(format!("{name} could not be opened: {}", printable(string(why).unwrap_or("?"))))?;
    }
    Ok(())
}

async fn new(context: &Context, name: &str, kit: bool, own_kit: bool) -> anyhow::Result<()> {
    let words = if kit { Some(ask(context)?) } else { None };
    let (session, mut client) = open(context, Home::MayBegin).await?;
    let made = post(&mut client, "", &json!({"name": name, "words": words, "own_kit": own_kit})).await;
    session.close().await;
    let made = made?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&made))?);
    }
    let part = |name| text(&made, name).unwrap_or("?");
    out.line(format!("{name} is there; others see {}   {}", part("human_name"), part("id")))?;
    let home = context.home.clone().with_persona(name)?;
    out.note(format!("as it   {}\n        {}", home.command("invite"), home.command("app install chirp")));
    match own_kit {
        true => out.note(format!("keep    {}   shows its words, once the peer is stopped", home.command("kit"))),
        false => out.note(format!("keep    write {name} beside the words of your kit: together they are its keys")),
    }
    Ok(())
}

async fn show(context: &Context, name: &str) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let all = client.json(Request::get("/.sys/personas")).await?;
    session.close().await;
    let found = items(&all, "personas").iter().find(|one| text(one, "name") == Some(name));
    let fix = format!("`{}` lists them, `{}` makes one", context.home.command("personas"), context.home.command(&format!("personas new {name}")));
    let found = found.ok_or_else(|| Failure::refused(format!("none of your personas is called {name}")).fix(fix))?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(found))?);
    }
    let part = |name| text(found, name).unwrap_or("-");
    out.line(format!("persona     {name}"))?;
    out.line(format!("others see  {}", part("human_name")))?;
    out.line(format!("space       {}", part("id")))?;
    out.line(format!("device      {}", part("device")))?;
    out.line(format!("node        {}", part("node")))?;
    for address in items(found, "addresses").iter().filter_map(string) {
        out.line(format!("at          {}", printable(address)))?;
    }
    let apps: Vec<String> = items(found, "apps").iter().filter_map(string).map(printable).collect();
    out.line(format!("apps        {}", if apps.is_empty() { "none".to_owned() } else { apps.join(", ") }))?;
    out.line(format!("link        {}", word(part("link"))))?;
    Ok(())
}

async fn link(context: &Context, name: &str, yes: bool) -> anyhow::Result<()> {
    if !yes {
        let title = "everybody who reads one of the two spaces would know that both are yours, and may remember it";
        return Err(Failure::usage(title).fix("if that is what you want, add --yes").into());
    }
    said(context, name, true).await
}

async fn said(context: &Context, name: &str, linked: bool) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let done = post(&mut client, "/link", &json!({"name": name, "linked": linked})).await;
    session.close().await;
    let done = done?;
    context.out.result(&to_serde(&done)?, || format!("{name} and you are {}", word(text(&done, "link").unwrap_or("?"))))
}

fn to_serde(json: &Json) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::from_str(&compact(json))?)
}

async fn of(context: &Context, who: &str) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let who = who.strip_prefix('@').unwrap_or(who);
    let found = client.json(Request::get(format!("/.sys/links/{}", timebus_net::target::encode_parameter(who)))).await;
    session.close().await;
    let found = found?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&found))?);
    }
    let links = items(&found, "links");
    let name = printable(who);
    if links.is_empty() {
        out.note(format!("{name} does not say that he is anybody else"));
    }
    for one in links {
        let part = |name| text(one, name).unwrap_or("?");
        let words = match part("state") {
            "linked" => "both say so: it is the same person",
            "claimed" => "only this side says so: it proves nothing",
            _ => "the other space is not here, so nobody knows what it says",
        };
        out.line(format!("{}   {}   {words}", part("name"), part("space")))?;
    }
    Ok(())
}

async fn remove(context: &Context, name: &str, yes: bool) -> anyhow::Result<()> {
    if !yes {
        let backup = context.home.clone().with_persona(name)?.command(&format!("backup > {name}.tar"));
        let title = format!("its keys, its space, its contacts and its apps would be gone from this disk: {name}");
        return Err(Failure::usage(title).fix(format!("`{backup}` keeps a copy; then add --yes")).into());
    }
    let (session, mut client) = open(context, Home::MustExist).await?;
    let done = post(&mut client, "/remove", &json!({ "name": name })).await;
    session.close().await;
    let done = done?;
    context.out.result(&to_serde(&done)?, || format!("{name} is gone from this disk; what others hold of its space stays with them"))
}
