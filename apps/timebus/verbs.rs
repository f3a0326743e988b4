//! What each verb does.

mod app;
mod backup;
mod cluster;
mod community;
mod costs;
mod devices;
mod doctor;
mod doctor_network;
mod down;
mod edit;
mod export;
pub(crate) mod files;
mod find;
mod folder;
mod r#gen;
mod history;
mod id;
mod import;
mod inbox;
mod invite;
mod invites;
mod join;
mod keys;
mod kit;
mod lab;
mod list;
mod peers;
mod personas;
mod private;
mod rebind;
mod relay;
mod restore;
mod rights;
mod status;
mod succession;
mod up;
mod values;
mod watch;

use crate::Context;
use crate::cli::Verb;
use crate::client::{Client, Request};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::target::Target;
use crate::value::{Json, member};

/// Does what was asked.
pub(crate) async fn run(context: Context, verb: Verb) -> anyhow::Result<()> {
    let context = &context;
    check_persona(context, &verb)?;
    match verb {
        Verb::Up(args) => up::run(context, args).await,
        Verb::Down(_) => down::run(context).await,
        Verb::Status(_) => status::run(context).await,
        Verb::Doctor(_) => doctor::run(context).await,
        Verb::Get(args) => values::get(context, args).await,
        Verb::Put(args) => values::put(context, args).await,
        Verb::Patch(args) => values::patch(context, args).await,
        Verb::Post(args) => values::post(context, args).await,
        Verb::Inc(args) => values::inc(context, args).await,
        Verb::Mv(args) => values::mv(context, &args).await,
        Verb::Rm(args) => values::rm(context, args).await,
        Verb::Ls(args) => list::ls(context, args).await,
        Verb::Tree(args) => list::tree(context, args).await,
        Verb::Edit(args) => edit::run(context, args).await,
        Verb::Watch(args) => watch::run(context, args).await,
        Verb::Log(args) => history::log(context, args).await,
        Verb::Diff(args) => history::diff(context, args).await,
        Verb::Blame(args) => history::blame(context, args).await,
        Verb::Conflicts(args) => history::conflicts(context, args).await,
        Verb::Undo(args) => history::undo(context, args).await,
        Verb::Import(args) => import::run(context, args).await,
        Verb::Export(args) => export::run(context, args).await,
        Verb::Files(args) => files::run(context, args).await,
        Verb::Folder(args) => folder::run(context, args).await,
        Verb::Id(args) => id::run(context, args).await,
        Verb::Kit(args) => {
            let keys = keys::Stopped::of(context, args.recover)?;
            kit::run(&keys.context, args).await
        }
        Verb::Rotate(args) => {
            let keys = keys::Stopped::of(context, false)?;
            succession::rotate(&keys.context, args).await
        }
        Verb::Guardians(args) => succession::guardians(context, args).await,
        Verb::Recover(args) => {
            let keys = keys::Stopped::of(context, true)?;
            succession::recover(&keys.context, args).await
        }
        Verb::Vouch(args) => rebind::vouch(context, args).await,
        Verb::Rebind(args) => rebind::run(context, args).await,
        Verb::Personas(args) => personas::run(context, args).await,
        Verb::Backup(args) => backup::backup(context, args).await,
        Verb::Restore(args) => restore::run(context, args).await,
        Verb::Fsck(args) => backup::fsck(context, args).await,
        Verb::Gen(args) => r#gen::run(context, args).await,
        Verb::Invite(args) => invite::run(context, args).await,
        Verb::Join(args) => join::run(context, args).await,
        Verb::Invites(args) => invites::run(context, args).await,
        Verb::Inbox(args) => inbox::run(context, args).await,
        Verb::Refs(args) => inbox::refs(context, args).await,
        Verb::Community(args) => community::run(context, args).await,
        Verb::Private(args) => private::run(context, args).await,
        Verb::Peers(args) => peers::run(context, &args).await,
        Verb::Find(args) => find::run(context, args).await,
        Verb::PublicDht(args) => find::public_dht(context, args).await,
        Verb::Follow(args) => peers::follow(context, args).await,
        Verb::Unfollow(args) => peers::unfollow(context, args).await,
        Verb::Block(args) => peers::block(context, &args.who, true).await,
        Verb::Unblock(args) => peers::block(context, &args.who, false).await,
        Verb::Mute(args) => peers::mute(context, args.who.as_deref()).await,
        Verb::Unmute(args) => peers::set_mute(context, &args.who, false).await,
        Verb::Devices(args) => devices::run(context, args).await,
        Verb::Grant(args) => rights::grant(context, args).await,
        Verb::Grants(args) => rights::grants(context, args).await,
        Verb::Revoke(args) => rights::revoke(context, args).await,
        Verb::Why(args) => rights::why(context, args).await,
        Verb::WhyHidden(args) => rights::why_hidden(context, args).await,
        Verb::Quarantine(args) => rights::quarantine(context, args).await,
        Verb::Held(_) => costs::held(context).await,
        Verb::Allow(args) => costs::allow(context, args).await,
        Verb::Limits(args) => costs::limits(context, args).await,
        Verb::Top(_) => costs::top(context).await,
        Verb::App(args) => app::run(context, args).await,
        Verb::Cluster(args) => cluster::run(context, args).await,
        Verb::Lab(args) => lab::run(context, args),
        Verb::Relay(args) => relay::run(context, args).await,
        Verb::Completions(args) => completions(context, &args),
    }
}

/// What was taken back of what an answer holds, which is as it was before.
pub(crate) fn of_before(answer: &crate::client::Answer) -> Option<serde_json::Value> {
    serde_json::from_str(answer.header("timebus-taken-back")?).ok()
}

/// Says so beside it.
pub(crate) fn say_before(out: crate::output::Output, before: Option<&serde_json::Value>) {
    if let Some(says) = before.and_then(|before| before["says"].as_str()).filter(|_| !out.json) {
        out.note(format!("{}; what is here is of before", crate::output::printable(says)));
    }
}

/// Refuses a persona where a verb is about the whole peer, or about nobody.
fn check_persona(context: &Context, verb: &Verb) -> anyhow::Result<()> {
    let is_whole = matches!(
        verb,
        Verb::Up(_) | Verb::Down(_) | Verb::Doctor(_) | Verb::Restore(_) | Verb::Personas(_) | Verb::Lab(_) | Verb::Relay(_) | Verb::Completions(_)
    );
    match context.home.persona() {
        Some(_) if is_whole => Err(Failure::usage("this is not a persona's but the whole peer's").fix("leave --persona out").into()),
        _ => Ok(()),
    }
}

/// What peers call a path where nothing is, among other things that are not found.
const ABSENT: &str = "there is nothing here";

/// Says in commands what the peer says in requests.
pub(crate) fn explain(error: anyhow::Error, path: &Target) -> anyhow::Error {
    let mut failure = Failure::of(&error);
    let word = quoted_text(&path.to_string());
    match failure.status {
        Some(404) if failure.title == ABSENT => {
            failure.title = format!("there is nothing at {path}");
            failure.detail = None;
            failure.fix = Some(format!("`timebus log {word}` tells what was there; `timebus put {word} VALUE` writes something"));
        }
        Some(412) => failure.fix = Some(format!("look at it with `timebus get {word} --json`, then decide again")),
        Some(309) => failure.fix = Some(format!("`timebus log {word}` lists the versions")),
        _ => return error,
    }
    failure.into()
}

/// The same for what is read: of somebody else's, that it is not given is told as that, and not as if nothing were there.
pub(crate) async fn explain_reading(client: &mut Client, error: anyhow::Error, path: &Target) -> anyhow::Error {
    let mut failure = Failure::of(&error);
    let is_absent = failure.status == Some(404) && failure.title == ABSENT;
    if path.split().0.is_none() || !(is_absent || failure.status == Some(403)) {
        return explain(error, path);
    }
    let word = quoted_text(&path.to_string());
    let why = client.json(Request::get(path.below("/.sys/why/read"))).await;
    // Of whom nothing is known here, nothing is known of rights either.
    let may_read = why.is_ok_and(|why| member(&why, "allowed") == Some(&Json::Bool(true)));
    if may_read && !is_absent {
        return error;
    }
    (failure.title, failure.fix) = match may_read {
        true => {
            let fix = format!("`timebus why shown {word}` tells whether something is on its way, `timebus log {word}` what was there");
            (format!("there is nothing at {path}, as far as is known here"), Some(fix))
        }
        false => (format!("{path} is not given to you"), Some(format!("ask the owner for an invite to it; `timebus why read {word}` tells why"))),
    };
    if is_absent {
        failure.detail = failure.taken_back.take().map(String::from);
    }
    failure.into()
}

fn completions(context: &Context, args: &crate::cli::Completions) -> anyhow::Result<()> {
    use clap::CommandFactory as _;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::Cli::command(), crate::output::PROGRAM, &mut script);
    Ok(context.out.bytes(&script)?)
}
