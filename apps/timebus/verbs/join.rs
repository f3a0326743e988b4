//! join: takes an invite, and says truthfully what came of it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value as Serde, json};
use timebus_identity::{Keys, human_name};
use timebus_net::invite::{Invite, Role};
use timebus_net::network::Network;
use timebus_net::node::Event;
use timebus_net::peer::PeerConfig;

use crate::Context;
use crate::cli::Join;
use crate::client::{Client, JSON, Request, open_running};
use crate::clock::{now_ms, span, utc};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::peer::{Local, try_lock};
use crate::standing::{is_waiting, of_space, problem, refusal};
use crate::value::{Json, items, member, text};
use crate::verbs::invite::{levels, writing};
use crate::verbs::up::network_config;

/// How long to tell what is going on. The peer goes on by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to ask how it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn run(context: &Context, args: Join) -> anyhow::Result<()> {
    let invite =
        Invite::parse(&args.link).map_err(|error| Failure::usage(error.to_string()).fix("copy the whole link, from timebus:// to its end"))?;
    if invite.expires_ms > 0 && now_ms() > invite.expires_ms {
        return Err(Failure::refused(format!("the invite expired {} ago", span(now_ms() - invite.expires_ms)))
            .fix(format!("ask {} for a new one", printable(&invite.name)))
            .into());
    }
    match invite.role {
        Role::Device => become_device(context, &args, &invite).await,
        Role::Read | Role::Write | Role::Member => join(context, &args, &invite).await,
    }
}

/// What an invite says, for people.
fn card(invite: &Invite) -> Vec<String> {
    let name = printable(&invite.name);
    let own = human_name(&invite.space);
    let whose = whose(invite);
    // A community is nobody's key: who invites is one of its members.
    let known = match invite.role {
        Role::Member if !name.is_empty() => ", a member of it".to_owned(),
        _ if name == own || name.is_empty() || whose.is_some() => String::new(),
        _ => format!("   whose key is called {own}"),
    };
    let mut lines = vec![
        format!("from   {}{known}", inviter(invite)),
        match &whose {
            Some(whose) => format!("space  {}, of {whose}, and not of {}", invite.space, inviter(invite)),
            None => format!("space  {}", invite.space),
        },
        match invite.role {
            Role::Read => format!("may    you may {}", reading(invite)),
            Role::Write => {
                format!("may    you may {}, and {}", reading(invite), writing(&printable(&invite.path.to_string()), Some(invite.bytes_max)))
            }
            Role::Member => {
                "may    you become a member of this community: read all of it, carry a name there, and write on its board if its rules say so"
                    .to_owned()
            }
            Role::Device => "may    the new home becomes a device of its owner and may do everything he can".to_owned(),
        },
    ];
    if invite.role != Role::Device && invite.depth > 0 {
        lines.push(format!("       and let others in to the same, {}", levels(u64::from(invite.depth))));
    }
    if invite.expires_ms > 0 {
        lines.push(format!("until  {}", utc(invite.expires_ms)));
    }
    if !invite.addresses.is_empty() {
        lines.push(format!("calls  {}", printable(&invite.addresses.join("  "))));
    }
    if !invite.paint.is_empty() {
        lines.push("says".to_owned());
        lines.extend(printable(&invite.paint).lines().map(|line| format!("       {line}")));
    }
    lines.push(
        match invite.role {
            Role::Member => "gives  its members learn the name you carry there, your key and your addresses; nothing of yours can be read or written",
            Role::Device => "gives  this home is the owner's from then on, with all that is in it",
            _ => "gives  its owner learns your name, key and addresses; nothing of yours can be read or written",
        }
        .to_owned(),
    );
    lines
}

/// Who gives the invite.
fn inviter(invite: &Invite) -> String {
    match (invite.name.is_empty(), &invite.whose) {
        (false, _) => printable(&invite.name),
        (true, Some(_)) => "a guest".to_owned(),
        (true, None) => human_name(&invite.space),
    }
}

/// Whose the space is, if it is not the inviter's.
fn whose(invite: &Invite) -> Option<String> {
    let own = human_name(&invite.space);
    invite
        .whose
        .as_ref()
        .map(|name| if name.is_empty() { own.clone() } else { format!("{} (as the link says, whose key is called {own})", printable(name)) })
}

/// What may be read, in words.
fn reading(invite: &Invite) -> String {
    match invite.only {
        true => format!("read {} and what is below it, now and from now on, and nothing else of this space", printable(&invite.path.to_string())),
        false => "read all of this space that is not kept apart, and everything new in it".to_owned(),
    }
}

fn card_json(invite: &Invite) -> Serde {
    json!({
        "space": invite.space.to_string(),
        "name": human_name(&invite.space),
        "inviter": invite.name,
        "whose": invite.whose,
        "role": invite.role,
        "path": invite.path.to_string(),
        "only": invite.only,
        "depth": invite.depth,
        "bytes_max": invite.bytes_max,
        "expires_ms": invite.expires_ms,
        "paint": invite.paint,
        "node": invite.node.to_string(),
        "addresses": invite.addresses,
    })
}

/// Shows the card and asks.
fn confirm(context: &Context, args: &Join, invite: &Invite) -> anyhow::Result<()> {
    let out = context.out;
    if !out.json {
        card(invite).iter().for_each(|line| out.note(format!("  {line}")));
        out.note("");
    }
    if args.yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if out.json || !stdin.is_terminal() {
        if out.json {
            let mut card = card_json(invite);
            card["joined"] = false.into();
            out.line(card.to_string())?;
            out.flush()?;
        }
        return Err(Failure::usage("this has to be confirmed, and nobody is here to ask").fix("read what it says, then add --yes").into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "take it? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::refused("nothing was done").into()),
    }
}

/// Prints what is new, once.
struct Progress {
    out: crate::output::Output,
    last: String,
}

impl Progress {
    fn say(&mut self, text: String) {
        if text != self.last {
            self.out.note(format!("  … {text}"));
            self.last = text;
        }
    }
}

async fn join(context: &Context, args: &Join, invite: &Invite) -> anyhow::Result<()> {
    let (mut session, mut client) = open_running(context).await?;
    confirm(context, args, invite)?;
    let out = context.out;
    let body = json!({"link": args.link, "confirm": true, "petname": args.name, "name": args.called}).to_string();
    let begun = Instant::now();
    let mut looking = session.connect().await?;
    let mut progress = Progress { out, last: String::new() };
    let space = invite.space.to_string();
    // The peer answers when it knows more or after some seconds; meanwhile it is asked how it is.
    let mut asking = Box::pin(client.json(Request::post("/.sys/join").body(JSON, body)?));
    let mut is_taken = false;
    let mut unreached = None;
    let status = loop {
        tokio::select! {
            taken = &mut asking, if !is_taken => {
                taken?;
                is_taken = true;
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Some(status) = look(&mut looking, &space).await? else { continue };
        let is_settled = refusal(&status).is_some() || (text(&status, "state") == Some("live") && !is_waiting(&status));
        if is_taken && (is_settled || begun.elapsed() > PATIENCE) {
            // That it is being called once more is true and says less than why the last call failed.
            let is_calling = text(&status, "state") == Some("connecting");
            break unreached.filter(|_| is_calling).unwrap_or(status);
        }
        if text(&status, "state") == Some("unreachable") {
            unreached = Some(status.clone());
        }
        if !is_settled {
            progress.say(of_space(&status, now_ms()));
        }
    };
    let petname = text(&status, "petname").map(str::to_owned);
    let at = format!("@{}", petname.as_deref().unwrap_or(&space));
    tell(context, invite, &status, &at)
}

/// How the space is here.
async fn look(client: &mut Client, space: &str) -> anyhow::Result<Option<Json>> {
    let spaces = client.json(Request::get("/.sys/spaces")).await?;
    Ok(items(&spaces, "spaces").iter().find(|status| text(status, "space") == Some(space)).cloned())
}

/// Says what came of it.
fn tell(context: &Context, invite: &Invite, status: &Json, at: &str) -> anyhow::Result<()> {
    let out = context.out;
    let refused = refusal(status).map(printable);
    let is_live = text(status, "state") == Some("live");
    let result = match (&refused, is_live) {
        (Some(_), _) => "refused",
        (None, true) => "connected",
        (None, false) => "waiting",
    };
    let name = inviter(invite);
    if out.json {
        let mut answer = card_json(invite);
        answer["joined"] = refused.is_none().into();
        answer["result"] = result.into();
        answer["at"] = at.into();
        answer["status"] = serde_json::from_str(&crate::value::compact(status)).unwrap_or_default();
        out.line(answer.to_string())?;
    }
    if let Some(refused) = refused {
        let forget = context.home.command(&format!("unfollow {}", quoted_text(at)));
        let fix = format!("ask {name} for a new one; `{forget}` forgets this one");
        return Err(Failure::refused(format!("{name} refused the invite: {refused}")).fix(fix).into());
    }
    if out.json {
        return Ok(());
    }
    if is_live {
        match invite.role {
            Role::Member => out.line(format!("connected: you are a member of {at}"))?,
            // Somebody may have been brought by a guest, whose space it is not.
            _ if let Some(whose) = whose(invite) => out.line(format!("connected: the space of {whose} is here as {at}, by invite of {name}"))?,
            _ if member(status, "owner_connected") == Some(&Json::Bool(false)) => {
                out.line(format!("connected: the space of {} is here as {at}, by invite of {name}", human_name(&invite.space)))?;
            }
            _ => out.line(format!("connected: the space of {name} is here as {at}"))?,
        }
    } else {
        out.line(format!("waiting for {name}: {}", of_space(status, now_ms())))?;
        problem(status).iter().for_each(|line| out.note(format!("           {line}")));
        out.note("           your peer goes on trying by itself, also after a restart");
    }
    let place = match (invite.role, invite.path.is_root()) {
        (Role::Write, false) => format!("{at}{}", invite.path),
        (_, false) if invite.only => format!("{at}{}", invite.path),
        _ => at.to_owned(),
    };
    let ls = context.home.command(&format!("ls {}", quoted_text(if invite.only { &place } else { at })));
    let watch = context.home.command(&format!("watch {}", quoted_text(&place)));
    out.note(format!("look       {ls}\n           {watch}"));
    if invite.role == Role::Write {
        let put = context.home.command(&format!("put {} '\"hello\"'", quoted_text(&format!("{}/hello", place.trim_end_matches('/')))));
        out.note(format!("write      {put}"));
    }
    Ok(())
}

/// Makes a new home that is a device of the space, and waits until it may write.
async fn become_device(context: &Context, args: &Join, invite: &Invite) -> anyhow::Result<()> {
    let home = &context.home.of_persona();
    if home.exists() {
        let title = "this invite makes a new home a device of somebody, and this home has an identity already";
        return Err(Failure::refused(title).fix("name a folder that does not exist yet: timebus --home FOLDER join LINK").into());
    }
    confirm(context, args, invite)?;
    let was_there = home.folder().exists();
    let Some(lock) = try_lock(home)? else {
        return Err(Failure::unreachable(format!("{} is in use by another timebus", home.folder().display())).into());
    };
    Keys::create_for(&home.folder().join("keys"), &invite.space).context("the keys of the new device could not be made")?;
    let local = Local::open(home, lock, context.out, PeerConfig::default()).await?;
    let name = human_name(&local.store().device());
    let network = local.enter(home, network_config(home, &args.net, false, name.clone())?).await?;
    home.set_udp_port(&network.endpoint().sockets());
    let result = ask_in(context, &local, network, invite).await;
    let device = local.store().device().to_string();
    local.close().await;
    let owner = human_name(&invite.space);
    let up = home.command("up");
    match result? {
        Answer::Granted => {
            let json = json!({"joined": true, "result": "connected", "id": invite.space.to_string(), "device": device, "name": owner});
            let owner = if invite.name.is_empty() { owner } else { printable(&invite.name) };
            let called = home.command("devices name laptop");
            context.out.result(&json, || {
                let lines = [
                    format!("this home is now a device of {owner}"),
                    format!("device  {name}   {device}"),
                    format!("start   {up}"),
                    format!("name    {called}     what you call it, on all your devices"),
                ];
                lines.join("\n")
            })
        }
        Answer::Waiting(why) => {
            let json = json!({"joined": true, "result": "waiting", "id": invite.space.to_string(), "device": device, "name": owner, "why": why});
            context.out.result(&json, || format!("waiting for the other device: {why}\nstart it there; then `{up}` here goes on by itself"))
        }
        Answer::Refused(why) => {
            // Nothing but new keys that nobody knows was in it.
            let kept = if was_there { std::fs::remove_dir_all(home.folder().join("keys")) } else { std::fs::remove_dir_all(home.folder()) };
            if let Err(error) = kept {
                tracing::warn!(%error, "the new home was not removed");
            }
            Err(Failure::refused(format!("the invite was refused: {why}"))
                .fix("make a new one with `timebus devices add`; nothing was kept here")
                .into())
        }
    }
}

/// What came of asking to be a device.
enum Answer {
    Granted,
    Waiting(String),
    Refused(String),
}

async fn ask_in(context: &Context, local: &Local, network: &Network, invite: &Invite) -> anyhow::Result<Answer> {
    let (space, node) = (invite.space, invite.node);
    let joined = Event::Join { space, node, addresses: invite.addresses.clone(), token: invite.token };
    network.wish(joined).await?;
    let deadline = Instant::now() + PATIENCE;
    let mut changed = network.changed();
    let mut progress = Progress { out: context.out, last: String::new() };
    loop {
        changed.borrow_and_update();
        let status = network.ask(move |node| node.space(&space)).await?;
        if let Some(why) = status.invite.clone().filter(|_| !status.is_waiting) {
            return Ok(Answer::Refused(why));
        }
        let json = serde_json::to_string(&status).context("how it is cannot be told")?;
        let json = crate::value::parse(json.as_bytes()).context("how it is cannot be told")?;
        let rights = local.store().rights(&space);
        if rights.is_some_and(|rights| rights.device_grant(&local.store().device()).is_some()) && text(&json, "state") == Some("live") {
            return Ok(Answer::Granted);
        }
        let words = match status.is_waiting {
            true => of_space(&json, now_ms()),
            false => "let in; everything is coming".to_owned(),
        };
        if Instant::now() > deadline {
            return Ok(Answer::Waiting([vec![words], problem(&json)].concat().join("\n")));
        }
        progress.say(words);
        // A grant shows in the store before or after the node tells of a change.
        let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timebus_identity::SecretKey;
    use timebus_store::path::Path;

    fn invite(role: Role, name: &str) -> Invite {
        Invite {
            node: SecretKey::from_seed([1; 32]).public(),
            addresses: vec!["192.168.1.7:4433".into()],
            space: SecretKey::from_seed([2; 32]).public(),
            token: [7; 16],
            role,
            path: Path::parse("/wall").expect("a path"),
            only: false,
            bytes_max: 0,
            depth: 0,
            expires_ms: 1_800_000_000_000,
            name: name.into(),
            app: None,
            paint: "hi\u{1b}[2J".into(),
            whose: None,
        }
    }

    #[test]
    fn a_card_says_what_is_given_and_shows_the_key_behind_a_name() {
        let text = card(&invite(Role::Write, "Alice")).join("\n");
        let key = human_name(&SecretKey::from_seed([2; 32]).public());
        for part in ["Alice", &key, "write at and below /wall", "192.168.1.7:4433", "hi\u{fffd}"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!card(&invite(Role::Read, "Alice")).join("\n").contains("write at"));
        assert!(card(&invite(Role::Device, "Alice")).join("\n").contains("becomes a device"));
    }

    #[test]
    fn a_card_of_a_guest_says_whose_the_space_is() {
        let key = human_name(&SecretKey::from_seed([2; 32]).public());
        let of = |whose: Option<&str>| card(&Invite { whose: whose.map(str::to_owned), ..invite(Role::Write, "Bob") }).join("\n");
        assert!(of(None).contains(&format!("from   Bob   whose key is called {key}")) && !of(None).contains("and not of"));
        let alices = of(Some("Alice"));
        assert!(alices.contains(&format!("of Alice (as the link says, whose key is called {key}), and not of Bob")), "{alices}");
        assert!(!alices.contains("from   Bob   whose"), "{alices}");
        assert!(of(Some("")).contains(&format!("of {key}, and not of Bob")), "{}", of(Some("")));
    }

    #[test]
    fn no_card_shows_the_secret() {
        let invite = invite(Role::Read, "Alice");
        let shown = format!("{}{}", card(&invite).join("\n"), card_json(&invite));
        assert!(!shown.contains(&invite.payload()) && !shown.contains("07070707"));
    }
}
