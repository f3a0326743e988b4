//! devices: the homes of one person.

use std::io::{IsTerminal as _, Write as _};

use serde_json::json;
use timebus_identity::PublicKey;

use crate::Context;
use crate::cli::{Devices, DevicesAction};
use crate::client::{Client, Home, JSON, Request, open, open_running};
use crate::clock::utc;
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::standing::{short, table};
use crate::value::{Json, compact, counted, items, member, number, string, text};
use crate::verbs::invite::{expiry, make, print, until};

pub(crate) async fn run(context: &Context, args: Devices) -> anyhow::Result<()> {
    match args.action {
        None => list(context).await,
        Some(DevicesAction::Add { expires, note, qr }) => {
            let wish = json!({"role": "device", "uses": 1, "expires_ms": expiry(expires), "note": note});
            let made = make(context, &wish).await?;
            let words = [
                format!("for        whoever has the link first, once, {}", until(&made)),
                "may        everything you can: read, write, let others in. Send it to nobody but yourself".to_owned(),
                there(context.home.persona()),
                format!("take back  {}", context.home.command(&format!("invites revoke {}", text(&made, "id").map(short).unwrap_or_default()))),
            ];
            print(context, &made, &words, qr)
        }
        Some(DevicesAction::Name { names }) => name(context, &names).await,
        Some(DevicesAction::Remove { device, made, yes }) => remove(context, &device, made, yes).await,
    }
}

/// What is typed on the other machine.
fn there(persona: Option<&str>) -> String {
    match persona {
        Some(name) => format!("there      timebus --persona {name} join LINK     on a peer of yours that has no persona of this name"),
        None => "there      timebus --home FOLDER join LINK     with a folder that does not exist yet".to_owned(),
    }
}

fn is_this(device: &Json) -> bool {
    member(device, "this") == Some(&Json::Bool(true))
}

async fn all(client: &mut Client) -> anyhow::Result<Json> {
    client.json(Request::get("/.sys/devices")).await
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let all = all(&mut client).await;
    let is_running = session.is_running().is_some();
    session.close().await;
    let all = all?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let row = |device: &Json, says: &str| {
        let part = |name| printable(text(device, name).unwrap_or("?"));
        let called = unheeded(device).map(|(name, by)| format!("called {} by {}", printable(name), printable(by)));
        let says: Vec<String> = [Some(says.to_owned()).filter(|says| !says.is_empty()), called].into_iter().flatten().collect();
        vec![part("name"), part("device"), says.join(", ")]
    };
    let now = items(&all, "devices").iter().map(|device| row(device, if is_this(device) { "this one" } else { "" }));
    let former = items(&all, "former").iter().map(|device| row(device, if is_this(device) { "this one, thrown out" } else { "thrown out" }));
    let rows: Vec<Vec<String>> = now.chain(former).collect();
    table(&rows).iter().try_for_each(|line| out.line(line))?;
    if !is_running {
        let up = context.home.command("up");
        out.note(format!("no peer runs here: what other devices said since it was stopped is not known before `{up}`"));
    }
    Ok(())
}

async fn name(context: &Context, names: &[String]) -> anyhow::Result<()> {
    let (which, name) = match names {
        [which, name] => (Some(which), name),
        [name] => (None, name),
        _ => return Err(Failure::usage("one device, and one name").into()),
    };
    let (session, mut client) = open(context, Home::MustExist).await?;
    let named = async {
        let key = match which {
            Some(which) => Some(find_any(context, &mut client, which).await?.to_string()),
            None => None,
        };
        client.json(Request::post("/.sys/devices/name").body(JSON, json!({"who": key, "name": name}).to_string())?).await
    };
    let named = named.await;
    session.close().await;
    let named = named?;
    let part = |name| printable(text(&named, name).unwrap_or("?"));
    let json = json!({"device": text(&named, "device"), "name": text(&named, "name"), "key_name": text(&named, "key_name")});
    context.out.result(&json, || match part("name") == part("key_name") {
        true => format!("{} has the name of its key", part("name")),
        false => format!("{} is called {} on all your devices", part("key_name"), part("name")),
    })
}

/// What a device is called by another one than itself and this one, and by which. By that it does not go.
fn unheeded(device: &Json) -> Option<(&str, &str)> {
    let said = member(device, "said").filter(|said| member(said, "is_heeded") == Some(&Json::Bool(false)))?;
    Some((text(said, "name")?, text(said, "by_name")?))
}

/// Which device it is, since when, and who named it.
fn which(device: &Json) -> String {
    let part = |name| printable(text(device, name).unwrap_or("?"));
    let when = |from: &Json, name| number(from, name).map_or_else(|| "?".to_owned(), utc);
    let mut line = format!("{}, {}, your device since {}", part("key_name"), short(&part("device")), when(device, "since_ms"));
    if let Some(said) = member(device, "said").filter(|said| text(said, "name").is_some()) {
        let (name, at) = (printable(text(said, "name").unwrap_or("?")), when(said, "time_ms"));
        line.push_str(&match unheeded(device) {
            Some((_, by)) => format!("; called {name} by {}, since {at}", printable(by)),
            None if text(said, "by") == text(device, "device") => format!("; it calls itself {name}, since {at}"),
            None => format!("; called {name} here, since {at}"),
        });
    }
    line
}

fn is_called(device: &Json, wanted: &str) -> bool {
    ["name", "key_name"].iter().any(|name| text(device, name).is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
}

fn is_key(device: &Json, wanted: &str) -> bool {
    wanted.len() >= 4 && text(device, "device").is_some_and(|key| key.starts_with(wanted))
}

/// The key of a device that somebody wants to throw out. Says which one that is, and asks where only another device calls it so: one
/// that was stolen would call others by its own name.
pub(crate) async fn find(context: &Context, client: &mut Client, wanted: &str, yes: bool) -> anyhow::Result<PublicKey> {
    let all = all(client).await?;
    let device = meant(context, &all, wanted, &["devices"])?;
    let which = which(device);
    let Some((_, by)) = unheeded(device).filter(|_| !yes && !is_called(device, wanted) && !is_key(device, wanted)) else {
        context.out.note(format!("{} is {which}", printable(wanted)));
        return Ok(text(device, "device").unwrap_or_default().parse()?);
    };
    let (wanted, by) = (printable(wanted), printable(by));
    let detail = format!("only {by} says that it is called so: {which}. If that one is in other hands, {wanted} may be a device that you have");
    let stdin = std::io::stdin();
    if context.out.json || !stdin.is_terminal() {
        return Err(Failure::usage("this has to be confirmed, and nobody is here to ask")
            .detail(detail)
            .fix(format!("name it by its key, which `{}` shows, or add --yes", context.home.command("devices")))
            .into());
    }
    context.out.note(detail);
    let mut stderr = std::io::stderr();
    write!(stderr, "is it this one? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(text(device, "device").unwrap_or_default().parse()?),
        _ => Err(Failure::refused("nothing was done").into()),
    }
}

/// The key of a device that somebody means, also of one that was thrown out.
async fn find_any(context: &Context, client: &mut Client, wanted: &str) -> anyhow::Result<PublicKey> {
    let all = all(client).await?;
    let device = meant(context, &all, wanted, &["devices", "former"])?;
    Ok(text(device, "device").unwrap_or_default().parse()?)
}

fn meant<'a>(context: &Context, all: &'a Json, wanted: &str, lists: &[&str]) -> anyhow::Result<&'a Json> {
    let is_meant = |device: &&Json| {
        let is_said = unheeded(device).is_some_and(|(name, _)| name.eq_ignore_ascii_case(wanted));
        is_said || is_key(device, wanted) || is_called(device, wanted)
    };
    // One that is there comes before one that is gone.
    let found = lists.iter().map(|list| items(all, list).iter().filter(is_meant).collect::<Vec<_>>());
    let found = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    let list = context.home.command("devices");
    match found.as_slice() {
        [device] => Ok(device),
        [] if items(all, "former").iter().any(|device| is_meant(&device)) => {
            Err(Failure::refused(format!("{wanted} is none of your devices any more")).fix(format!("`{list}` lists them")).into())
        }
        [] => Err(Failure::refused(format!("none of your devices is {wanted}")).fix(format!("`{list}` lists them")).into()),
        more => Err(Failure::usage(format!("{wanted} can be {}", counted(more.len(), "device"))).fix("write more of its key").into()),
    }
}

async fn remove(context: &Context, wanted: &str, made: bool, yes: bool) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let key = find(context, &mut client, wanted, yes).await?.to_string();
    let answer = client.json(Request::post("/.sys/devices/remove").body(JSON, json!({"who": key, "made": made}).to_string())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    let gone =
        |name: &str| out.line(format!("{} has no rights any more: what it writes from now on counts nowhere. It keeps what it has", printable(name)));
    gone(text(&answer, "name").unwrap_or(short(&key).as_str()))?;
    items(&answer, "also").iter().filter_map(|device| text(device, "name")).try_for_each(gone)?;
    let stay = items(&answer, "stay");
    if !stay.is_empty() {
        let names: Vec<&str> = stay.iter().filter_map(|device| text(device, "name")).collect();
        let commands: Vec<String> = names.iter().map(|name| context.home.command(&format!("devices remove {}", quoted_text(name)))).collect();
        out.line(format!(
            "it had made {} your device, too, and that stays. If it was not you who did: {}",
            printable(&names.join(", ")),
            commands.join("; ")
        ))?;
    }
    let guests: Vec<&str> = items(&answer, "guests").iter().filter_map(string).collect();
    if !guests.is_empty() {
        let commands: Vec<String> = guests.iter().map(|name| context.home.command(&format!("revoke {}", quoted_text(name)))).collect();
        out.line(format!("{} came in by way of it, and may go on: {}", printable(&guests.join(", ")), commands.join("; ")))?;
    }
    Ok(())
}
