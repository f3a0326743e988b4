//! The part of `/.sys` about guardians: who they are, whose the owner is, and agreeing as one of them.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::{Class, Rights, RootState};
use timebus_store::grant::Audience;
use timebus_store::succession::{Request, SuccessionError};

use crate::node::Event;
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::sys::network::{bad, network, read, stopped};

/// Answers a part of `/.sys` about guardians; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<Serde, Problem>> {
    Some(match (method, rest) {
        (&Method::GET | &Method::HEAD, ["guardians"]) => list(peer).await,
        (&Method::POST, ["guardians", "find"]) => find(peer, body).await,
        (&Method::POST, ["guardians", "agree"]) => agree(peer, body).await,
        _ => return None,
    })
}

/// Who the owner's guardians are, whose guardian he is, and spaces whose root is in dispute.
async fn list(peer: &Peer) -> Result<Serde, Problem> {
    let people = People::now(peer).await;
    let store = peer.store();
    let (own, device) = (peer.space(), store.device());
    let (mut guardians, mut needed, mut of, mut disputed) = (Vec::new(), 0, Vec::new(), Vec::new());
    let mut root = own;
    let ours = store.rights(&own);
    let is_gone_of_ours = |key: &PublicKey| ours.as_ref().is_some_and(|ours| ours.was_device(key) && ours.device_grant(key).is_none());
    for space in store.spaces() {
        let Some(rights) = store.rights(&space.key) else { continue };
        let roots: Vec<String> = rights.disputed().map(|state| state.root.to_string()).collect();
        if !roots.is_empty() {
            disputed.push(json!({"space": space.key.to_string(), "name": people.name(&space.key), "own": space.key == own, "roots": roots,
                "decided_by": decided_by(&rights)}));
        }
        let plan = rights.root_state().and_then(|state| state.plan.guardians.clone());
        if space.key == own {
            root = rights.root();
            if let Some((count, keys)) = plan {
                needed = count;
                // Who is named by a device cannot agree by another one.
                let said = |key: &PublicKey| {
                    let is_gone = people.is_former(key);
                    let name = if is_gone { people.audience(&Audience::Key(*key)) } else { people.name(key) };
                    json!({"key": key.to_string(), "name": name, "is_gone": is_gone})
                };
                guardians = keys.iter().map(said).collect();
            }
        } else if let Some((count, keys)) = plan {
            let is_gone = !keys.contains(&device);
            if !is_gone || keys.iter().any(is_gone_of_ours) {
                let name = people.name(&space.key);
                of.push(json!({"space": space.key.to_string(), "name": name, "needed": count, "guardians": keys.len(), "is_gone": is_gone}));
            }
        }
    }
    Ok(json!({"root": root.to_string(), "root_name": human_name(&root), "needed": needed, "guardians": guardians, "of": of, "disputed": disputed}))
}

/// What can still decide a dispute.
fn decided_by(rights: &Rights) -> &'static str {
    let plan = |state: &RootState| (state.plan.next.is_some(), state.plan.guardians.is_some());
    let is_by_words = rights.disputed().any(|state| state.class == Some(Class::Planned));
    // Where there are two beginnings, whoever has the words of one of them goes on from there.
    match rights.root_state().or_else(|| rights.disputed().next()).map(plan) {
        Some((true, _)) if !is_by_words => "words",
        Some((_, true)) if is_by_words => "guardians",
        _ => "nobody",
    }
}

/// The keys by which people can be guardians: of each one of his devices.
async fn find(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: Vec<String>,
    }
    let Wanted { who } = read(body)?;
    let people = People::now(peer).await;
    let mut found = Vec::new();
    for who in who {
        let person = people.find(&who)?;
        if person.is_anyone || person.space == Some(peer.space()) {
            return Err(bad("a guardian is somebody else whom you can name"));
        }
        let key = person.keys.first().ok_or_else(|| bad(format!("no key of {who} is known")))?;
        found.push(json!({"key": key.to_string(), "name": person.name}));
    }
    Ok(json!({ "guardians": found }))
}

/// Agrees, as a guardian, that a space has a new root; or only says what that would be.
async fn agree(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        request: String,
        #[serde(default)]
        confirm: bool,
    }
    let Wanted { request, confirm } = read(body)?;
    let request = Request::parse(&request)
        .map_err(|error| bad(format!("this is no request to guardians: {error}")).with_fix("copy the whole text, from timebus:// to its end"))?;
    let people = People::now(peer).await;
    let store = peer.store();
    let name = people.name(&request.space);
    let rights = store.rights(&request.space).filter(|_| request.space != peer.space()).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "space", "this space is not held here", format!("you are no guardian of {name}, as far as is known here"))
            .with_fix("`timebus guardians` shows whose guardian you are")
    })?;
    let answer = request.agree(&rights, &store.device(), |succeed| store.sign_succession(succeed)).map_err(|error| refused(&error))?;
    let mut told = json!({
        "space": request.space.to_string(), "name": name, "root": request.root.to_string(), "root_name": human_name(&request.root),
        "say": request.words(), "before": agreed_before(peer, &rights, &request).await, "agreed": confirm,
    });
    if confirm {
        // Who is about to be the root needs what was stated before, to say so.
        network(peer)?.wish(Event::Agree { space: request.space, root: request.root }).await.map_err(stopped)?;
        told["answer"] = answer.text().into();
    }
    Ok(told)
}

/// Other roots of the same space that the owner agreed to, and that nothing came of yet.
async fn agreed_before(peer: &Peer, rights: &Rights, request: &Request) -> Vec<String> {
    let space = request.space;
    let Ok(network) = network(peer) else { return Vec::new() };
    let agreed = network.ask(move |node| node.book().agreed.get(&space).cloned()).await.ok().flatten().unwrap_or_default();
    let mut chain = Vec::new();
    let mut at = rights.root_state();
    while let Some(state) = at {
        chain.push(state.root);
        at = rights.root_states().iter().find(|before| state.from == Some(before.id));
    }
    let roots = agreed.iter().filter_map(|root| root.parse::<PublicKey>().ok());
    roots.filter(|root| *root != request.root && !chain.contains(root)).map(|root| human_name(&root)).collect()
}

fn refused(error: &SuccessionError) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "guardian", "you cannot agree to this", error.to_string())
        .with_fix("`timebus guardians` shows whose guardian you are, by the key of this device")
}
