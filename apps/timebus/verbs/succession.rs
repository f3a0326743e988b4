//! rotate, guardians, recover: who the root of one's space is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use timebus_identity::{Keys, KitError, PublicKey, SecretKey, human_name};
use timebus_net::node::Event;
use timebus_net::peer::PeerConfig;
use timebus_store::auth::Rights;
use timebus_store::grant::Audience;
use timebus_store::ids::GrantId;
use timebus_store::op::Op;
use timebus_store::store::{Store, device_grant};
use timebus_store::succession::{Answer, Request as Wish, SuccessionError, by_guardians, by_root, commitment, is_stuck};

use crate::Context;
use crate::cli::{Guardians, GuardiansAction, Recover, Rotate};
use crate::client::{Client, Home, JSON, Request, connect_here, open, open_running};
use crate::clock::now_ms;
use crate::failure::Failure;
use crate::output::printable;
use crate::peer::{Local, keys_of, try_lock};
use crate::standing::short;
use crate::value::{Json, compact, items, member, number, string, text};
use crate::verbs::keys::{derived, said};
use crate::verbs::kit::{ask, sheet, words_of};
use crate::verbs::{devices, up};

/// How long to tell what is going on with a new home. The peer goes on by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// What becomes of the rights of devices that the root takes out.
const FOLLOWS: &str = "what friends who hold your space had let it do, this one may do as soon as their peers hear of it";
/// How long whoever was asked says no before that is believed.
const REFUSED_FOR: Duration = Duration::from_secs(6);
/// Steps of one rotation: to the next root, and from there to one that was on no sheet and no disk before.
const STEPS: usize = 2;
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The lock of a home whose peer is stopped.
pub(crate) fn stopped(context: &Context) -> anyhow::Result<File> {
    try_lock(&context.home)?.ok_or_else(|| {
        let title = "the peer is running, and only a stopped one lets its keys be looked at";
        Failure::refused(title).fix(format!("`{}`, then try again", context.home.command("down"))).into()
    })
}

fn must_exist(context: &Context) -> anyhow::Result<()> {
    if context.home.exists() {
        return Ok(());
    }
    let fix = format!("`{}` makes a new identity; `{}` brings an old one back", context.home.command("up"), context.home.command("recover"));
    Err(Failure::refused(format!("there is no timebus home at {}", context.home.folder().display())).fix(fix).into())
}

/// Says what is wrong with words that somebody typed.
fn told(error: KitError) -> Failure {
    Failure::refused(error.to_string()).fix("nothing was changed; look at the words again and try once more")
}

fn copy(key: &SecretKey) -> SecretKey {
    SecretKey::from_seed(*key.seed())
}

pub(crate) async fn rotate(context: &Context, args: Rotate) -> anyhow::Result<()> {
    must_exist(context)?;
    let lock = stopped(context)?;
    let mut keys = keys_of(&context.home)?;
    let (old, next) = match (keys.root(), keys.next()) {
        (Some(root), Some(next)) => (copy(root), copy(next)),
        _ => said(context, &ask(context)?, Some(&keys.root_public())).map_err(told)?,
    };
    let mut local = Local::open(&context.home, lock, context.out, PeerConfig::default()).await?;
    let made = take_over(context, &mut local, &mut keys, &args, (&old, &next)).await;
    local.close().await;
    let made = made?;
    let words = words_of(&keys).context("the new words are not on this disk")?;
    let space = keys.space();
    let (root, name) = (keys.root_public(), human_name(&space));
    let personas = derived(context, &old, &next)?;
    let json = json!({
        "rotated": true, "id": space.to_string(), "name": name, "root": root.to_string(), "words": words,
        "of_words_before": personas,
        "without": made.without.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "stay": made.made.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "guardians": made.guardians.iter().map(ToString::to_string).collect::<Vec<_>>(), "needed": made.needed,
    });
    context.out.result(&json, || {
        let decide = match (made.was_guarded, made.guardians.is_empty()) {
            (true, _) => "the guardians whom you had would decide that",
            (false, false) => "nobody would decide that. Of the new words your guardians would",
            (false, true) => "nobody would decide that. Of the next words guardians would, whom you name with --guardian",
        };
        let before = match personas.as_slice() {
            [] => "Burn the sheet of before.".to_owned(),
            personas => format!("Your personas {} stay on the words of before: keep both sheets, well hidden.", personas.join(", ")),
        };
        let mut lines = vec![
            format!("{name} has a new root key, called {}, which was on no sheet and no disk before.", human_name(&root)),
            format!("The words of before bring nothing back any more. {before} Whoever has it gets nothing of yours,"),
            format!("but can have it disputed who your root is: {decide}."),
        ];
        lines.extend(made.without.iter().map(|device| format!("{} has no rights any more", printable(&made.names[device]))));
        lines.extend(made.made.iter().map(|device| made_words(context, &made.names[device])));
        if !made.without.is_empty() {
            lines.push(FOLLOWS.to_owned());
        }
        match made.guardians.len() {
            0 => {}
            count => lines.push(format!("{} of {count} guardians together can name another root: `timebus guardians` shows them", made.needed)),
        }
        format!("{}\n\n{}", lines.join("\n"), sheet(&name, &space, &words, context))
    })
}

/// What a rotation did.
struct Made {
    without: Vec<PublicKey>,
    /// Devices that these had made, and that stay.
    made: Vec<PublicKey>,
    /// What all of these are called.
    names: BTreeMap<PublicKey, String>,
    guardians: Vec<PublicKey>,
    needed: u8,
    /// Whether the words of before were those of a root that had guardians.
    was_guarded: bool,
}

async fn take_over(
    context: &Context,
    local: &mut Local,
    keys: &mut Keys,
    args: &Rotate,
    (old, next): (&SecretKey, &SecretKey),
) -> anyhow::Result<Made> {
    let mut client = connect_here(local).await?;
    let guardians = match (args.no_guardians, args.guardians.is_empty()) {
        (true, _) => Some(None),
        (false, true) => None,
        (false, false) => Some(Some(find_guardians(&mut client, args).await?)),
    };
    let mut without = Vec::new();
    for device in &args.without {
        without.push(devices::find(context, &mut client, device, args.yes).await?);
    }
    let store = local.store().clone();
    if without.contains(&store.device()) {
        let title = "this is the device that you type on, and it stays yours";
        return Err(Failure::refused(title)
            .fix(format!("type it on another device of yours; `{}` lists them", context.home.command("devices")))
            .into());
    }
    let called =
        |devices: &[PublicKey]| devices.iter().map(|device| (*device, timebus_net::devices::names::called(&store, device))).collect::<Vec<_>>();
    let known = || store.rights(&store.space()).context("the own space is always here");
    let rights = known()?;
    let (mut old, mut next, mut steps) = (copy(old), copy(next), STEPS);
    if rights.root() == next.public() {
        // A rotation was cut short, and opening the store finished the step at which it was. One more leads in any case to a root
        // that was on no sheet.
        *keys = keys_of(&context.home)?;
        (old, next, steps) = match (keys.root(), keys.next()) {
            (Some(root), Some(after)) if root.public() == next.public() => (copy(root), copy(after), 1),
            _ => {
                return Err(Failure::refused("the next root of these words has taken over already, and its own words are not on this disk")
                    .fix("type the words that you were given then")
                    .into());
            }
        };
    }
    let told = |error: SuccessionError| match error {
        SuccessionError::Disputed => frozen(context, &rights, &store.space()),
        _ => Failure::refused(error.to_string()).fix("nothing was changed; `timebus guardians` tells who is root, and whether that is in dispute"),
    };
    // Nothing is written for keys that are none.
    by_root(&rights, &old, &next.public(), &next.public(), None).map_err(told)?;
    let mut revoked = grants_of(&rights, &without);
    let made: Vec<PublicKey> = timebus_net::devices::made_by(&rights, &without).into_iter().filter(|device| *device != store.device()).collect();
    // What others granted to those goes over to a device that the root itself names, the latest first.
    let mut own = (!without.is_empty()).then(|| device_grant(&store.device()));
    let was_guarded = rights.root_state().is_some_and(|state| state.plan.guardians.is_some());
    let mut wanted = guardians;
    let (mut needed, mut guardians) = (0, Vec::new());
    for _ in 0..steps {
        let after = keys.begin_rotation(&next)?;
        // The second step keeps the guardians of the first.
        let now = known()?;
        let succeed = by_root(&now, &old, &next.public(), &after.public(), wanted.take()).map_err(told)?;
        (needed, guardians) = succeed.plan.guardians.clone().unwrap_or_default();
        let ops = [Op::Succeed(succeed)].into_iter().chain(own.take()).collect();
        store.say_as_root(&next, ops, std::mem::take(&mut revoked), now_ms()).await.context("the new root was not written")?;
        // From here on the space has the new root; should this be cut short, opening the store finishes it.
        keys.finish_rotation()?;
        (old, next) = (next, after);
    }
    timebus_net::devices::sign_in(&store).await.context("this device could not say whose it is")?;
    for device in &without {
        timebus_net::devices::take_back(&store, device).await.context("what the device may do in spaces of others was not taken back")?;
    }
    let names = called(&without).into_iter().chain(called(&made)).collect();
    Ok(Made { without, made, names, guardians, needed, was_guarded })
}

/// That nothing which the holder of the words could say would count, and what is left to do.
pub(crate) fn frozen(context: &Context, rights: &Rights, space: &PublicKey) -> Failure {
    let new = |rest: &str| format!("timebus --home NEW-FOLDER recover {rest}");
    let fix = match rights.root_state().and_then(|state| state.plan.guardians.as_ref()) {
        Some((needed, guardians)) => format!(
            "{needed} of your {} guardians decide: `{}`, and take out there whatever is not yours; `{}` shows who they are",
            guardians.len(),
            new(&format!("--by-guardians --space {space}")),
            context.home.command("guardians")
        ),
        None => format!("begin anew with your friends' word: `{}`. What is here can still be read", new("--by-friends")),
    };
    Failure::refused("it is in dispute who the root of your space is, and no words decide it: new ones would be worth nothing")
        .detail(
            "two roots were made with the words of one sheet, on two devices of yours or by somebody who saw it. What roots said since does \
             not count, so a device that was taken out has its rights again",
        )
        .fix(fix)
}

/// Refuses to go on with the keys of a home where nothing that they say would count. Whoever holds the lock gives it away.
pub(crate) async fn refuse_if_frozen(context: &Context, lock: File, keys: &Keys) -> anyhow::Result<()> {
    let (Some(root), Some(next)) = (keys.root(), keys.next()) else { return Ok(()) };
    // A store that does not open is no reason to keep the words from their owner.
    let Ok(Some(rights)) = crate::peer::rights_of(&context.home, lock).await else { return Ok(()) };
    match is_stuck(&rights, &root.public(), &next.public()) {
        true => Err(frozen(context, &rights, &keys.space()).into()),
        false => Ok(()),
    }
}

/// That a device which is gone had made another one, which stays.
fn made_words(context: &Context, name: &str) -> String {
    let remove = context.home.command(&format!("devices remove {}", crate::home::quoted_text(name)));
    format!("it had made {} your device, too, and that stays. If it was not you who did: {remove}", printable(name))
}

fn grants_of(rights: &Rights, devices: &[PublicKey]) -> Vec<GrantId> {
    let is_theirs = |audience| matches!(audience, timebus_store::grant::Audience::Key(key) if devices.contains(&key));
    let mut all: Vec<GrantId> =
        rights.grants().filter(|(_, held)| held.is_live() && is_theirs(held.grant.audience)).map(|(grant, _)| *grant).collect();
    all.sort_unstable();
    all
}

/// The devices of a space but this one that somebody means, when no peer runs that could be asked.
fn lost(context: &Context, rights: &Rights, this: &PublicKey, wanted: &[String]) -> anyhow::Result<Vec<PublicKey>> {
    let others: Vec<PublicKey> = rights.devices().filter(|device| device != this).collect();
    let mut lost = Vec::new();
    for wanted in wanted {
        let is_meant = |device: &&PublicKey| human_name(device) == *wanted || (wanted.len() >= 4 && device.to_string().starts_with(wanted));
        let found: Vec<PublicKey> = others.iter().filter(|device| wanted == "all" || is_meant(device)).copied().collect();
        if wanted != "all" && found.len() != 1 {
            let names: Vec<String> = others.iter().map(human_name).collect();
            let names = if names.is_empty() { "there is no other one".to_owned() } else { format!("they are {}", names.join(", ")) };
            let title =
                if found.is_empty() { format!("none of your other devices is {wanted}; {names}") } else { format!("{wanted} can be several") };
            let fix = format!("write the whole name: `{}`", context.home.command("rotate --without NAME"));
            return Err(Failure::refused(title).fix(fix).into());
        }
        lost.extend(found);
    }
    lost.sort_unstable();
    lost.dedup();
    Ok(lost)
}

async fn find_guardians(client: &mut Client, args: &Rotate) -> anyhow::Result<(u8, Vec<PublicKey>)> {
    let body = json!({"who": args.guardians}).to_string();
    let found = client.json(Request::post("/.sys/guardians/find").body(JSON, body)?).await?;
    let mut keys: Vec<PublicKey> = items(&found, "guardians").iter().filter_map(|one| text(one, "key")).map(str::parse).collect::<Result<_, _>>()?;
    keys.sort_unstable();
    keys.dedup();
    let needed = args.needed.unwrap_or(u8::try_from(keys.len() / 2 + 1).unwrap_or(u8::MAX));
    if needed == 0 || usize::from(needed) > keys.len() {
        return Err(Failure::usage(format!("of {} guardians {needed} cannot agree", keys.len())).fix("--needed is 1 to their number").into());
    }
    Ok((needed, keys))
}

pub(crate) async fn guardians(context: &Context, args: Guardians) -> anyhow::Result<()> {
    match args.action {
        None => list(context).await,
        Some(GuardiansAction::Agree { request, yes }) => agree(context, &request, yes).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let all = client.json(Request::get("/.sys/guardians")).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let own = items(&all, "guardians");
    match number(&all, "needed") {
        Some(needed) if !own.is_empty() => {
            out.line(format!("yours   {needed} of these together can name a new root of your space"))?;
            for one in own {
                out.line(format!("        {}   {}", printable(text(one, "name").unwrap_or("?")), short(text(one, "key").unwrap_or("?"))))?;
            }
            if own.iter().any(is_gone) {
                out.note(format!(
                    "        who is named by a device of before cannot agree: `{}` names all anew",
                    context.home.command("rotate --guardian WHO")
                ));
            }
        }
        _ => {
            out.line("yours   none")?;
            out.note(format!("        `{}` names them", context.home.command("rotate --guardian WHO --guardian WHO")));
            out.note("        only the root names them, as it takes over: a device cannot, and so neither can who stole one");
        }
    }
    for one in items(&all, "of") {
        let (name, needed) = (printable(text(one, "name").unwrap_or("?")), number(one, "needed").unwrap_or(0));
        match is_gone(one) {
            true => out.line(format!("you     were a guardian of {name} by a device that is yours no more: ask {name} to name you anew"))?,
            false => out.line(format!("you     are a guardian of {name}, of whom {needed} have to agree"))?,
        }
    }
    for one in items(&all, "disputed") {
        let name = printable(text(one, "name").unwrap_or("?"));
        let whose = if member(one, "own") == Some(&Json::Bool(true)) { "your space".to_owned() } else { format!("the space of {name}") };
        out.line(format!("frozen  it is in dispute who the root of {whose} is: {}", between(items(one, "roots"))))?;
        out.note("        what was granted before goes on; nothing new counts that a root says");
        out.note(match text(one, "decided_by") {
            Some("words") => "        whoever has the words of the root decides it: `timebus rotate`",
            Some("guardians") => "        the guardians decide it: `timebus recover --by-guardians`, in a new folder",
            _ => "        nothing decides it any more: the owner begins anew, `timebus recover --by-friends`",
        });
    }
    Ok(())
}

/// The roots of a dispute. With the words of one sheet one key follows, and what is to follow on that differs.
fn between(roots: &[Json]) -> String {
    let roots: BTreeSet<String> = roots.iter().filter_map(string).map(short).collect();
    match roots.len() {
        0 | 1 => "two successions were made with the words of one sheet".to_owned(),
        _ => roots.into_iter().collect::<Vec<_>>().join(", "),
    }
}

/// Whether the device is gone by which somebody is a guardian.
pub(super) fn is_gone(one: &Json) -> bool {
    member(one, "is_gone") == Some(&Json::Bool(true))
}

async fn agree(context: &Context, request: &str, yes: bool) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let body = json!({"request": request, "confirm": yes}).to_string();
    let answer = client.json(Request::post("/.sys/guardians/agree").body(JSON, body)?).await?;
    let out = context.out;
    let name = printable(text(&answer, "name").unwrap_or("?"));
    let root = printable(text(&answer, "root_name").unwrap_or("?"));
    let say = printable(text(&answer, "say").unwrap_or("?"));
    let before: Vec<String> = items(&answer, "before").iter().filter_map(|root| string(root).map(printable)).collect();
    let warning = format!(
        "you agreed to another root of this space before, {}: if enough of you agree to both, {name}'s space is frozen. Who asks twice \
         is asked twice whether it is he",
        before.join(", ")
    );
    if yes {
        return match out.json {
            true => Ok(out.line(compact(&answer))?),
            false => {
                if !before.is_empty() {
                    out.note(format!("note: {warning}"));
                }
                out.note(format!("you agree that {root} is the root of the space of {name}; give this back to him:"));
                Ok(out.line(text(&answer, "answer").unwrap_or_default())?)
            }
        };
    }
    if out.json {
        out.line(compact(&answer))?;
    } else {
        out.note(format!("  whose   the space of {name}   {}", short(text(&answer, "space").unwrap_or("?"))));
        out.note(format!("  new     {root} is to be its root"));
        out.note(format!("  ask     {name} by voice, at a number or place that you know of him, for the eight words that he was shown:"));
        out.note(format!("          {say}"));
        out.note("          have him say them; if one is another, somebody changed the request on its way");
        if !before.is_empty() {
            out.note(format!("  before  {warning}"));
        }
        out.note("  then    with enough others who agree, whoever has that key can do everything in that space");
    }
    out.flush()?;
    Err(Failure::usage("this has to be confirmed").fix("ask him for the eight words, then add --yes").into())
}

pub(crate) async fn recover(context: &Context, args: Recover) -> anyhow::Result<()> {
    if !args.answers.is_empty() {
        return with_answers(context, &args).await;
    }
    if !args.without.is_empty() && context.home.exists() {
        let fix = format!("with its peer stopped: `{}`", context.home.command("rotate --without DEVICE"));
        return Err(Failure::usage("this home is there already, and takes a device out as the next root takes over").fix(fix).into());
    }
    if args.by_friends {
        return crate::verbs::rebind::by_friends(context).await;
    }
    if args.by_guardians {
        return ask_guardians(context, &args).await;
    }
    if context.home.exists() { known_home(context, &args).await } else { new_home(context, &args).await }
}

/// Brings the root key back to the disk of a home.
async fn known_home(context: &Context, args: &Recover) -> anyhow::Result<()> {
    let lock = stopped(context)?;
    let mut keys = keys_of(&context.home)?;
    if args.space.is_some_and(|space| space != keys.space()) {
        return Err(Failure::usage("this home is of another space")
            .fix("name a folder that does not exist yet: timebus --home FOLDER recover")
            .into());
    }
    let words = ask(context)?;
    let root = bring_back(context, lock, &mut keys, &words).await?;
    let (id, name) = (keys.space().to_string(), human_name(&keys.space()));
    let json = json!({"recovered": true, "result": "here", "id": id, "name": name, "root": root.to_string()});
    context.out.result(&json, || format!("the root key of {name} is on this disk\nspace  {id}"))
}

/// Makes the keys that words say the root keys of this home, if they are those of the root that its space has now: also of
/// one that took over elsewhere, of which the keys folder knows nothing.
pub(crate) async fn bring_back(context: &Context, lock: File, keys: &mut Keys, words: &str) -> anyhow::Result<PublicKey> {
    let local = Local::open(&context.home, lock, context.out, PeerConfig::default()).await?;
    let rights = local.store().rights(&keys.space());
    local.close().await;
    let (root, next) = said(context, words, rights.as_ref().map(|rights| rights.root()).as_ref()).map_err(told)?;
    let is_root = rights.as_ref().is_some_and(|rights| rights.root() == root.public());
    let planned = rights.as_ref().and_then(|rights| rights.root_state()).and_then(|state| state.plan.next);
    if !is_root || planned.is_some_and(|planned| planned != commitment(&next.public())) {
        let title = "these words are not of the root that this space has now";
        return Err(Failure::refused(title).fix("nothing was changed; after `timebus rotate` the words are others").into());
    }
    keys.adopt_root(&root, &next)?;
    Ok(root.public())
}

fn no_home(context: &Context) -> anyhow::Result<File> {
    if context.home.exists() {
        let title = "there is a home here already, and its keys would be lost";
        return Err(Failure::refused(title).fix("name a folder that does not exist yet: timebus --home FOLDER recover …").into());
    }
    stopped(context)
}

/// Makes a home for a space whose words somebody has.
async fn new_home(context: &Context, args: &Recover) -> anyhow::Result<()> {
    let lock = no_home(context)?;
    let (root, next) = said(context, &ask(context)?, args.space.as_ref()).map_err(told)?;
    let space = args.space.unwrap_or_else(|| root.public());
    let folder = context.home.folder().join("keys");
    if space == root.public() { Keys::create_from(&folder, &root, &next) } else { Keys::create_with_root(&folder, &space, &root, &next) }?;
    let local = Local::open(&context.home, lock, context.out, PeerConfig::default()).await?;
    let found = wait(context, &local, args, space).await;
    let is_refused = matches!(found, Ok(Found::Refused));
    let is_there = found.map(|found| found == Found::Here);
    let store = local.store().clone();
    let device = store.device();
    let taken = match is_there {
        Ok(true) => take_out(context, &store, &root, &args.without).await,
        _ => Ok(Vec::new()),
    };
    let others: Vec<PublicKey> = store.rights(&space).iter().flat_map(|rights| rights.devices()).filter(|other| *other != device).collect();
    drop(store);
    local.close().await;
    let name = human_name(&space);
    if is_refused {
        return Err(refused(context, args, &name).into());
    }
    let result = if is_there? { "connected" } else { "waiting" };
    let friends = friends(context, args, &space);
    let without = taken?;
    let keys = |devices: &[PublicKey]| devices.iter().map(ToString::to_string).collect::<Vec<_>>();
    let json = json!({"recovered": true, "result": result, "id": space.to_string(), "name": name, "device": device.to_string(),
        "root": root.public().to_string(), "without": keys(&without), "others": keys(&others),
        "friends": friends.iter().map(|(space, name)| json!({"space": space.to_string(), "name": name})).collect::<Vec<_>>()});
    let follow = context.home.command("follow");
    let up = context.home.command("up");
    let rotate = context.home.command("rotate --without");
    let names = |devices: &[PublicKey]| devices.iter().map(human_name).collect::<Vec<_>>().join(", ");
    context.out.result(&json, || match result {
        "connected" => {
            let mut lines = vec![
                format!("this home is a device of {name} again\nspace  {space}\nstart  {up}\n"),
                "back   what whoever gave it to you holds of your space".to_owned(),
            ];
            if !without.is_empty() {
                lines.push(format!("gone   {} has no rights any more:\n       {FOLLOWS}", names(&without)));
            }
            lines.push(
                "not    what you kept apart, and with it whom you follow, unless a device of yours has it or a friend whom you let in there"
                    .to_owned(),
            );
            if !others.is_empty() {
                lines.push(
                    "not    what friends let your other devices do: that goes over to this one when you say that they are gone, as below".to_owned(),
                );
            }
            lines.push(format!("not    the spaces of friends: `{follow} KEY --as NAME` brings each back; `timebus id` of a friend tells his KEY"));
            lines.extend(friends.iter().map(|(space, name)| format!("       {follow} {space} --as {name}")));
            lines.push("not    your places in communities, unless another device of yours is in them: who let you in gives yours to this home when".to_owned());
            lines.push("       you say that the old one is gone, if his peer holds your space; else ask for a new invite".to_owned());
            lines.push("not    what friends made you a guardian of: they named a device that you have no more, and name you anew when you ask".to_owned());
            lines.push("not    what is of one machine: apps, limits, invites, contacts. A backup has some of it: `timebus restore`".to_owned());
            if !others.is_empty() {
                lines.push(format!("then   `{rotate} OLD` for each of them that is lost, or in other hands: {}", names(&others)));
                lines.push("       friends whose peers hold your space hear of it, and let this home do what they let that one do".to_owned());
            }
            lines.join("\n")
        }
        _ => {
            let later = match args.without.as_slice() {
                [] => String::new(),
                wanted => format!("\nthen   `{rotate} {}`: none of your devices is known yet", wanted.join(" --without ")),
            };
            // Words of a later root are those of no space of their own.
            let other = if args.space.is_some() || args.node.is_none() {
                String::new()
            } else {
                format!(
                    "\nor     you have rotated before: then the words of before bring nothing back, and the new ones do not say which space\n       \
                     they are of. Remove {}, and name it with --space KEY, which your friends see in `timebus peers --json`",
                    context.home.folder().display()
                )
            };
            format!(
                "the keys of {name} are here, and nobody yet who holds the space\nspace  {space}\n\
                 start  {up}\nthen   timebus follow {space} --node KEY --at ADDR   with what `timebus peers --json` tells whoever holds it{later}{other}"
            )
        }
    })
}

/// Whose peer the space came from: his own can be followed again, by a name of his or of his key.
fn friends(context: &Context, args: &Recover, own: &PublicKey) -> Vec<(PublicKey, String)> {
    let book = timebus_net::node::book::Book::load(&context.home.book()).unwrap_or_default();
    let contact = args.node.and_then(|node| book.contacts.get(&node).cloned());
    let known = contact.and_then(|contact| Some((contact.space.filter(|space| space != own)?, contact.name)));
    let is_plain = |name: &String| !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    known.map(|(space, name)| (space, Some(name).filter(is_plain).unwrap_or_else(|| human_name(&space)))).into_iter().collect()
}

/// Takes devices that are lost out, in the name of the root.
async fn take_out(context: &Context, store: &Store, root: &SecretKey, wanted: &[String]) -> anyhow::Result<Vec<PublicKey>> {
    timebus_net::devices::sign_in(store).await.context("this device could not say whose it is")?;
    let rights = store.rights(&store.space()).context("the own space is always here")?;
    let without = lost(context, &rights, &store.device(), wanted)?;
    if !without.is_empty() {
        store.say_as_root(root, Vec::new(), grants_of(&rights, &without), now_ms()).await.context("the other devices were not taken out")?;
    }
    Ok(without)
}

/// Asks whoever was named for the space, and waits for a while until it is here.
async fn wait(context: &Context, local: &Local, args: &Recover, space: PublicKey) -> anyhow::Result<Found> {
    let Some(node) = args.node else { return Ok(Found::Nothing) };
    let name = human_name(&local.store().device());
    let network = local.enter(&context.home, up::network_config(&context.home, &args.net, false, name)?).await?;
    context.home.set_udp_port(&network.endpoint().sockets());
    network.wish(Event::Follow { space, via: vec![(node, args.at.clone())] }).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut changed = network.changed();
    let mut refused_since: Option<Instant> = None;
    while Instant::now() < deadline {
        changed.borrow_and_update();
        let status = network.ask(move |node| node.space(&space)).await?;
        let rights = local.store().rights(&space);
        let device = local.store().device();
        // Its words begin a space anew where nobody gives more of it: what is stated of other devices comes from somebody else.
        let is_given = rights.as_ref().is_some_and(|rights| rights.grants().any(|(_, held)| held.grant.audience != Audience::Key(device)));
        let is_asked = !is_given && network.ask(move |network| network.is_connected(&node)).await?;
        refused_since = is_asked.then(|| refused_since.unwrap_or_else(Instant::now));
        if refused_since.is_some_and(|since| since.elapsed() > REFUSED_FOR) {
            return Ok(Found::Refused);
        }
        let is_live = matches!(status.state, timebus_net::node::SpaceState::Live { .. });
        if is_live && is_given && rights.is_some_and(|rights| rights.device_grant(&device).is_some()) {
            return Ok(Found::Here);
        }
        let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
    }
    Ok(Found::Nothing)
}

/// What came of asking for a space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It is here.
    Here,
    /// Who has it does not give it to these keys.
    Refused,
    /// Nobody answered, or was asked.
    Nothing,
}

/// Says that words open nothing any more, or are of another space, and what to do then.
fn refused(context: &Context, args: &Recover, name: &str) -> Failure {
    let folder = context.home.folder().display();
    let fix = match args.space {
        None => format!(
            "remove {folder}, take the words of the last rotation, and say whose they are: `{} …`. KEY is the line \"space\" of their sheet",
            context.home.command("recover --space KEY --node KEY")
        ),
        Some(_) => format!("remove {folder}, and take the words of the last rotation: only those count"),
    };
    Failure::refused(format!("whoever was asked does not give {name} to who has these words"))
        .detail("words of before `timebus rotate` bring nothing back any more, and those of after it do not say which space they are of")
        .fix(fix)
}

/// Makes new keys for a space whose words are lost, and a request for its guardians.
async fn ask_guardians(context: &Context, args: &Recover) -> anyhow::Result<()> {
    let lock = no_home(context)?;
    let space = args.space.context("clap asks for the space")?;
    let (root, next) = (SecretKey::generate(), SecretKey::generate());
    let keys = Keys::create_with_root(&context.home.folder().join("keys"), &space, &root, &next)?;
    let wish = Wish { space, root: root.public(), next: commitment(&next.public()) };
    let (request, say) = (wish.text(), wish.words());
    let local = Local::open(&context.home, lock, context.out, PeerConfig::default()).await?;
    // Nobody lets this home in before he agreed; but it is to know where to ask.
    let told = match args.node {
        Some(node) => {
            let name = human_name(&local.store().device());
            let network = local.enter(&context.home, up::network_config(&context.home, &args.net, true, name)?).await?;
            network.wish(Event::Follow { space, via: vec![(node, args.at.clone())] }).await.map_err(anyhow::Error::from)
        }
        None => Ok(()),
    };
    local.close().await;
    told?;
    let words = words_of(&keys).context("the new keys are on this disk")?;
    let (name, root_name) = (human_name(&space), human_name(&root.public()));
    let json = json!({"recovered": false, "request": request, "id": space.to_string(), "root": root.public().to_string(),
        "root_name": root_name, "say": say, "words": words});
    let (up, recover) = (context.home.command("up"), context.home.command("recover --answer ANSWER --answer ANSWER"));
    context.out.result(&json, || {
        format!(
            "{}\n\nGive this to your guardians, for the new root {root_name}:\n\n{request}\n\n\
             and say these eight words to each of them by voice, all of them, as somebody may change what you send:\n\n  {say}\n\n\
             Each runs `timebus guardians agree` with it and gives you an answer. Then `{up}` here until\n\
             `timebus guardians` shows how many have to agree, and, with the peer stopped, `{recover}`. Values come after that.",
            sheet(&name, &space, &words, context)
        )
    })
}

/// Makes this home's root the root of the space, with what guardians answered.
async fn with_answers(context: &Context, args: &Recover) -> anyhow::Result<()> {
    must_exist(context)?;
    let lock = stopped(context)?;
    let keys = keys_of(&context.home)?;
    let damaged = |error| Failure::usage(format!("this is no answer of a guardian: {error}")).fix("copy the whole text, from timebus:// to its end");
    let answers: Vec<Answer> = args.answers.iter().map(|text| Answer::parse(text).map_err(damaged)).collect::<Result<_, _>>()?;
    let (Some(root), Some(next)) = (keys.root(), keys.next()) else {
        return Err(Failure::refused("the new keys are not on this disk").fix("`timebus recover` with their words brings them back").into());
    };
    let planned = commitment(&next.public());
    let called = |key: &PublicKey| format!("{} ({})", human_name(key), short(&key.to_string()));
    let is_ours = |answer: &&Answer| {
        let succeed = &answer.succeed;
        answer.space == keys.space() && succeed.root == root.public() && succeed.plan.next == Some(planned)
    };
    if let Some(other) = answers.iter().find(|answer| !is_ours(answer)) {
        let whose = other.guardian().map_or_else(|_| "one of them".to_owned(), |(key, _)| called(&key));
        let wish = Wish { space: keys.space(), root: root.public(), next: planned };
        return Err(Failure::refused(format!("the answer of {whose} is to another request"))
            .detail("perhaps somebody changed it on its way to him. `timebus guardians` tells who that is")
            .fix(format!("give him this one, and say the eight words \"{}\" to him: {}", wish.words(), wish.text()))
            .into());
    }
    let succeed = by_guardians(&answers).map_err(|error| match error {
        SuccessionError::Differs(key) => {
            Failure::refused(format!("{} answered to the same request, knowing another root of your space than the others", called(&key)))
                .detail("his peer may not have heard of what your roots said last. `timebus guardians` tells who that is")
                .fix("have him sync with the others, and ask him for a new answer")
        }
        _ => Failure::refused(error.to_string()).fix("ask more of them, or for new answers"),
    })?;
    let root = copy(root);
    let local = Local::open(&context.home, lock, context.out, PeerConfig::default()).await?;
    let store = local.store().clone();
    let space = keys.space();
    let is_known = store.rights(&space).is_some_and(|rights| rights.root_states().iter().any(|state| state.id == succeed.from));
    let is_done = store.rights(&space).is_some_and(|rights| rights.root() == root.public());
    let said = match (is_known, is_done) {
        (_, true) => Ok(()),
        (false, _) => Err(Failure::refused("what was stated about the space is not here yet")
            .fix(format!("`{}` until `timebus guardians` shows who has to agree, then stop the peer and try again", context.home.command("up")))
            .into()),
        (true, false) => {
            let ops = vec![Op::Succeed(succeed.clone()), device_grant(&store.device())];
            let without = store.rights(&space).map(|rights| lost(context, &rights, &store.device(), &args.without)).transpose();
            match without {
                Ok(without) => {
                    let revoked = store.rights(&space).map(|rights| grants_of(&rights, &without.unwrap_or_default())).unwrap_or_default();
                    store.say_as_root(&root, ops, revoked, now_ms()).await.map_err(anyhow::Error::from)
                }
                Err(error) => Err(error),
            }
        }
    };
    local.close().await;
    said?;
    let (name, root_name) = (human_name(&space), human_name(&root.public()));
    let json = json!({"recovered": true, "result": "root", "id": space.to_string(), "name": name, "root": root.public().to_string()});
    context.out.result(&json, || {
        format!(
            "{root_name} is the root of {name} now, and this home a device of it\nstart  {}\n\
                 not    your places in communities, and what you are a guardian of: both are of a device. Who let you in gives the place to \
                 this home, if his peer holds your space, or invites you again; who named you a guardian names you anew",
            context.home.command("up")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_successions_by_one_sheet_are_no_two_roots() {
        let roots = |roots: &[&str]| between(&roots.iter().map(|root| Json::String((*root).to_owned())).collect::<Vec<_>>());
        assert_eq!(roots(&["bbbbbbbbcc", "aaaaaaaacc"]), "aaaaaaaa, bbbbbbbb");
        assert_eq!(roots(&["aaaaaaaacc", "aaaaaaaacc"]), "two successions were made with the words of one sheet");
    }
}
