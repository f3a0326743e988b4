//! invite: a link that lets somebody in, and what it means.

use std::io::{IsTerminal as _, Write as _};

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::{Value as Serde, json};

use crate::Context;
use crate::amounts::Lifetime;
use crate::cli::{Answer, Invite, Role};
use crate::client::{JSON, Request, open_running};
use crate::clock::{now_ms, span, utc};
use crate::home::quoted_text;
use crate::output::{Output, printable};
use crate::value::{Json, compact, items, member, number, string, text};

pub(crate) async fn run(context: &Context, args: Invite) -> anyhow::Result<()> {
    let role = match args.can {
        Role::Read => "read",
        Role::Write => "write",
        Role::Member => "member",
    };
    let (space, path) = args.to.split();
    let path = path.to_string();
    let wish = json!({
        "role": role,
        "path": path,
        "space": space,
        "whole": args.whole,
        "depth": args.guests,
        "uses": args.uses,
        "bytes_max": args.quota.unwrap_or(0),
        "expires_ms": expiry(args.expires),
        "note": args.note,
        "paint": args.hello,
    });
    public(context, args.public).await?;
    let made = make(context, &wish).await?;
    let only = member(&made, "only") == Some(&Json::Bool(true));
    let whose = space.as_ref().map_or_else(|| "your space".to_owned(), |space| format!("the space of {}", printable(space)));
    let reading = match only {
        true => format!("read {path} and what is below it, now and from now on, and nothing else of {whose}"),
        false => format!("read all of {whose} that is not kept apart, and everything new in it"),
    };
    let may = match args.can {
        Role::Read => reading,
        Role::Member => "be a member of this community: read all of it, carry a name there, and write on its board if its rules say so".to_owned(),
        Role::Write => format!("{reading}, and {}", writing(&path, args.quota)),
    };
    let mut words = vec![format!("for        {}, {}", bearers(args.uses), until(&made)), format!("may        {may}")];
    if path != "/" && space.is_none() && !only {
        words.push(format!(
            "note       {path} limits only writing; `{}` makes it a path of its own",
            context.home.command(&format!("private {}", quoted_text(&path)))
        ));
    }
    if only {
        words.push("note       the names of all paths that you keep apart, and who may read what, are seen by all whom you let in".to_owned());
    }
    words.push(match number(&made, "depth").unwrap_or(0) {
        0 => "guests     they may bring nobody".to_owned(),
        depth => format!("guests     they may let others in to the same, {}; `--guests 0` does not allow that", levels(depth)),
    });
    words.push(format!("take back  {}", context.home.command(&format!("invites revoke {}", text(&made, "id").unwrap_or_default()))));
    print(context, &made, &words, args.qr)
}

/// Asks once whether public relays may be used: before that nobody beyond the local network is contacted. Whoever cannot
/// be asked has not said yes.
async fn public(context: &Context, answer: Option<Answer>) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let peers = client.json(Request::get("/.sys/peers")).await?;
    let state = member(&peers, "public");
    let is_possible = state.and_then(|state| member(state, "possible")) == Some(&Json::Bool(true));
    let was_asked = matches!(state.and_then(|state| member(state, "allowed")), Some(Json::Bool(_)));
    let answer = match answer {
        Some(answer) => answer,
        None if was_asked || !is_possible || !can_ask(context) => return Ok(()),
        None => ask()?,
    };
    let body = json!({"allowed": answer == Answer::Yes}).to_string();
    client.json(Request::post("/.sys/public").body(JSON, body)?).await?;
    Ok(())
}

fn can_ask(context: &Context) -> bool {
    !context.out.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn ask() -> anyhow::Result<Answer> {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "Shall people outside your network reach you, too?")?;
    writeln!(stderr, "Public relays then pass on what you say to each other. They see your address and whom you talk to, but not what is said.")?;
    writeln!(stderr, "Without them only your own network works, and addresses that lead to you. `timebus invite --public yes|no` changes it.")?;
    write!(stderr, "Use public relays? [y/N] ")?;
    stderr.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let is_yes = matches!(line.trim().to_lowercase().as_str(), "y" | "yes");
    Ok(if is_yes { Answer::Yes } else { Answer::No })
}

/// When something ends that begins now; Unix milliseconds, 0 for never.
pub(crate) fn expiry(lifetime: Lifetime) -> u64 {
    match lifetime {
        Lifetime::Ms(ms) => now_ms().saturating_add(ms),
        Lifetime::Forever => 0,
    }
}

/// Has the peer make an invite.
pub(crate) async fn make(context: &Context, wish: &Serde) -> anyhow::Result<Json> {
    let (_session, mut client) = open_running(context).await?;
    client.json(Request::post("/.sys/invites").body(JSON, wish.to_string())?).await
}

/// Prints a link on stdout, and beside it what it means.
pub(crate) fn print(context: &Context, made: &Json, words: &[String], wants_qr: bool) -> anyhow::Result<()> {
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(made))?);
    }
    let link = text(made, "link").unwrap_or_default();
    out.line(link)?;
    out.flush()?;
    let http_link = text(made, "http_link");
    if wants_qr || Output::is_terminal(out) {
        qr(out, http_link.unwrap_or(link));
    }
    out.note("");
    http_link
        .iter()
        .for_each(|link| out.note(format!("  browser    {link}\n             any browser opens it; there they can also get this program")));
    words.iter().for_each(|line| out.note(format!("  {line}")));
    reach(made).iter().for_each(|line| out.note(format!("  {line}")));
    Ok(())
}

fn qr(out: Output, link: &str) {
    // Little is lost on the way from a screen to a camera, and a smaller code is easier to read.
    if let Ok(code) = QrCode::with_error_correction_level(link, EcLevel::L) {
        // Most terminals are dark, and what is drawn on them is light.
        out.note(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build());
    }
}

/// Where the bearer will look for this peer, with a warning if that cannot work.
fn reach(made: &Json) -> Vec<String> {
    let addresses: Vec<&str> = items(made, "addresses").iter().filter_map(string).collect();
    let is_near = |address: &&str| address.parse::<timebus_net::link::address::Address>().is_ok_and(|address| address.is_loopback());
    if addresses.is_empty() {
        return vec![
            "warning    nobody can reach this peer: it has no address, so the link leads nowhere for now".to_owned(),
            "           start it without --offline, then make another invite".to_owned(),
        ];
    }
    let mut lines = vec![format!("reached at {}", addresses.join("  "))];
    if addresses.iter().all(is_near) {
        lines.push("warning    only programs on this machine can reach that".to_owned());
        lines.push(
            "           for others connect this machine to a network and start the peer with no --udp that is for this machine alone,".to_owned(),
        );
        lines.push("           or use `--relay` or a forwarded port".to_owned());
    }
    lines
}

fn bearers(uses: u64) -> String {
    match uses {
        1 => "whoever has the link first, once".to_owned(),
        uses => format!("the first {uses} who use the link"),
    }
}

/// How far guests may bring guests.
pub(crate) fn levels(depth: u64) -> String {
    match depth {
        1 => "who may bring nobody in turn".to_owned(),
        depth => format!("and those again, {depth} levels in all"),
    }
}

/// Until when an invite can be taken.
pub(crate) fn until(made: &Json) -> String {
    match number(made, "expires_ms").unwrap_or(0) {
        0 => "until you take it back".to_owned(),
        at => format!("for {}, until {}", span(at.saturating_sub(now_ms()).saturating_add(999)), utc(at)),
    }
}

/// What writing is allowed, in words.
pub(crate) fn writing(path: &str, quota: Option<u64>) -> String {
    let place = match path {
        "/" => "write everywhere in it".to_owned(),
        path => format!("write at and below {path}"),
    };
    match quota.filter(|quota| *quota > 0) {
        Some(quota) => format!("{place}, up to {}", indicatif::DecimalBytes(quota)),
        None => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_warned_of() {
        let made = |addresses: &str| crate::value::parse(format!(r#"{{"addresses":{addresses}}}"#).as_bytes()).expect("JSON");
        assert!(reach(&made("[]"))[0].contains("nobody can reach this peer"));
        assert!(reach(&made(r#"["127.0.0.1:7","[::1]:7"]"#)).join(" ").contains("only programs on this machine"));
        assert_eq!(reach(&made(r#"["127.0.0.1:7","192.168.1.7:7"]"#)).len(), 1);
    }

    #[test]
    fn rights_are_told_in_plain_words() {
        assert_eq!(writing("/", None), "write everywhere in it");
        assert_eq!(writing("/wall", Some(50_000_000)), "write at and below /wall, up to 50.00 MB");
    }
}
