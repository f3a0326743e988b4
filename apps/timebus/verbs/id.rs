//! id: who am I.

use serde_json::json;

use crate::Context;
use crate::cli::Id;
use crate::client::{Home, Request, open};
use crate::peer::{keys_of, try_lock};
use crate::value::{Json, text};

pub(crate) async fn run(context: &Context, args: Id) -> anyhow::Result<()> {
    let out = context.out;
    if args.token {
        let token = match context.home.token()? {
            Some(token) => token,
            None => {
                // Opening the home makes the token.
                let (session, _client) = open(context, Home::MayBegin).await?;
                session.close().await;
                match context.home.token()? {
                    Some(token) => token,
                    None => {
                        let _lock = try_lock(&context.home)?;
                        keys_of(&context.home)?.owner_token()?
                    }
                }
            }
        };
        return out.result(&json!({"token": token.text().as_str()}), || token.text().to_string());
    }
    let (_session, mut client) = open(context, Home::MayBegin).await?;
    let status = client.json(Request::get("/.sys/status")).await?;
    let part = |name| text(&status, name).unwrap_or("?");
    let home = context.home.folder().display().to_string();
    let node = node(context, &status)?;
    let json = json!({"id": part("id"), "name": part("name"), "device": part("device"), "node": node, "home": home});
    out.result(&json, || {
        let note = "for --node, as in `timebus recover --node KEY`";
        format!("you are  {}\nspace    {}\ndevice   {}\nnode     {node}   {note}\nhome     {home}", part("name"), part("id"), part("device"))
    })
}

/// The key by which other peers call this one.
pub(crate) fn node(context: &Context, status: &Json) -> anyhow::Result<String> {
    if let Some(node) = text(status, "node") {
        return Ok(node.to_owned());
    }
    // It follows from the key of the device, also while no peer runs.
    let keys = keys_of(&context.home.of_persona())?;
    Ok(timebus_identity::node_key(keys.device()).public().to_string())
}
