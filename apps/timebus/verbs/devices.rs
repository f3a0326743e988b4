//! devices: the homes of one person.

use serde_json::json;
use timebus_identity::PublicKey;

use crate::Context;
use crate::cli::{Devices, DevicesAction};
use crate::client::{Client, JSON, Request, open_running};
use crate::failure::Failure;
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
    let (_session, mut client) = open_running(context).await?;
    let all = all(&mut client).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let row = |device: &Json| {
        let this = if is_this(device) { "this one" } else { "" };
        vec![text(device, "name").unwrap_or("?").to_owned(), text(device, "device").unwrap_or("?").to_owned(), this.to_owned()]
    };
    let rows: Vec<Vec<String>> = items(&all, "devices").iter().map(row).collect();
    table(&rows).iter().try_for_each(|line| out.line(line))?;
    Ok(())
}

/// The key of a device that somebody means.
pub(crate) async fn find(context: &Context, client: &mut Client, wanted: &str) -> anyhow::Result<PublicKey> {
    let all = all(client).await?;
    let is_meant = |device: &&Json| {
        text(device, "name") == Some(wanted) || (wanted.len() >= 4 && text(device, "device").is_some_and(|key| key.starts_with(wanted)))
    };
    let found: Vec<&Json> = items(&all, "devices").iter().filter(is_meant).collect();
    let list = context.home.command("devices");
    match found.as_slice() {
        [device] => Ok(text(device, "device").unwrap_or_default().parse()?),
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
        |key: &str| out.line(format!("{} has no rights any more: what it writes from now on counts nowhere. It keeps what it has", short(key)));
    gone(&key)?;
    items(&answer, "also").iter().filter_map(|device| text(device, "device")).try_for_each(gone)?;
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
