//! devices: the homes of one person.

use serde_json::json;
use timebus_identity::PublicKey;

use crate::Context;
use crate::cli::{Devices, DevicesAction};
use crate::client::{Client, Home, JSON, Request, open, open_running};
use crate::failure::Failure;
use crate::output::printable;
use crate::standing::{short, table};
use crate::value::{Json, compact, counted, items, member, text};
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
        Some(DevicesAction::Remove { device, made }) => remove(context, &device, made).await,
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
        vec![part("name"), part("device"), says.to_owned()]
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

/// The key of a device that somebody means.
pub(crate) async fn find(context: &Context, client: &mut Client, wanted: &str) -> anyhow::Result<PublicKey> {
    meant(context, &all(client).await?, wanted, &["devices"])
}

/// The same, also of one that was thrown out.
async fn find_any(context: &Context, client: &mut Client, wanted: &str) -> anyhow::Result<PublicKey> {
    meant(context, &all(client).await?, wanted, &["devices", "former"])
}

fn meant(context: &Context, all: &Json, wanted: &str, lists: &[&str]) -> anyhow::Result<PublicKey> {
    let is_meant = |device: &&Json| {
        let is_key = wanted.len() >= 4 && text(device, "device").is_some_and(|key| key.starts_with(wanted));
        is_key || ["name", "key_name"].iter().any(|name| text(device, name).is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
    };
    // One that is there comes before one that is gone.
    let found = lists.iter().map(|list| items(all, list).iter().filter(is_meant).collect::<Vec<_>>());
    let found = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    let list = context.home.command("devices");
    match found.as_slice() {
        [device] => Ok(text(device, "device").unwrap_or_default().parse()?),
        [] if items(all, "former").iter().any(|device| is_meant(&device)) => {
            Err(Failure::refused(format!("{wanted} is none of your devices any more")).fix(format!("`{list}` lists them")).into())
        }
        [] => Err(Failure::refused(format!("none of your devices is {wanted}")).fix(format!("`{list}` lists them")).into()),
        more => Err(Failure::usage(format!("{wanted} can be {}", counted(more.len(), "device"))).fix("write more of its key").into()),
    }
}

async fn remove(context: &Context, wanted: &str, made: bool) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let key = find(context, &mut client, wanted).await?.to_string();
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
        out.line(format!("it had made {} your device, too, and that stays. If it was not you who did: {}", names.join(", "), {
            let commands: Vec<String> = names.iter().map(|name| context.home.command(&format!("devices remove {name}"))).collect();
            commands.join("; ")
        }))?;
    }
    Ok(())
}
