//! community: spaces of many people, with members, a board and rules of their own.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::{Value as Serde, json};

use crate::Context;
use crate::cli::{Answer, Community, CommunityVerb, RuleArgs, Switch};
use crate::client::{JSON, Request, open_running};
use crate::clock::{now_ms, span};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::standing::{of_space, short, table};
use crate::value::{Json, compact, counted, items, member, number, text};

/// How often it is looked whether others have what goes to them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(context: &Context, args: Community) -> anyhow::Result<()> {
    match args.verb.unwrap_or(CommunityVerb::List) {
        CommunityVerb::List => list(context).await,
        CommunityVerb::New { title, called, petname, rules } => {
            let mut wish = told_rules(&rules);
            wish["title"] = title.into();
            wish["name"] = called.into();
            wish["petname"] = petname.into();
            new(context, &wish).await
        }
        CommunityVerb::Join(args) => super::join::run(context, args).await,
        CommunityVerb::Leave { name, now, yes } => leave(context, &name, now, yes).await,
        CommunityVerb::Show { name } => show(context, &name).await,
        CommunityVerb::Members { name } => members(context, &name).await,
        CommunityVerb::Board { name, limit } => board(context, &name, limit).await,
        CommunityVerb::Post { name, text } => post(context, &name, &text).await,
        CommunityVerb::Dht { name, answer, bind, port } => {
            let part = if answer == Switch::On { json!({"bind": bind.to_string(), "port": port}) } else { json!(false) };
            let told = send(context, &name, "", &json!({ "part": part })).await?;
            say(context, &told, || match answer {
                Switch::On => format!("this peer takes part in the DHT of {}; `timebus community show` tells where it listens", title(&told)),
                Switch::Off => format!("this peer takes no part in the DHT of {}", title(&told)),
            })
        }
        CommunityVerb::Set { name, called, told, title, dht, rules } => {
            let mut wish = told_rules(&rules);
            if !dht.is_empty() {
                wish["dht"] = dht.into();
            }
            wish["name"] = called.into();
            wish["told"] = told.map(|answer| answer == Answer::Yes).into();
            wish["title"] = title.into();
            let told = send(context, &name, "", &wish).await?;
            if context.out.json {
                return Ok(context.out.line(compact(&told))?);
            }
            describe(context, &told)
        }
        CommunityVerb::Offer { size, name } => offer(context, size, name).await,
        CommunityVerb::Placement { name } => placement(context, &name).await,
        CommunityVerb::Organizer { name, who } => {
            let told = send(context, &name, "/organizer", &json!({"who": who})).await?;
            say(context, &told, || format!("{} organizes it, too", printable(text(&told, "organizer").unwrap_or("?"))))
        }
        CommunityVerb::Remove { name, who } => {
            let told = send(context, &name, "/remove", &json!({"who": who})).await?;
            say(context, &told, || format!("{} is no member any more; what is written stays", printable(text(&told, "removed").unwrap_or("?"))))
        }
    }
}

fn told_rules(rules: &RuleArgs) -> Serde {
    let mut wish = json!({});
    if let Some(about) = &rules.about {
        wish["about"] = about.as_str().into();
    }
    if let Some(board) = rules.board {
        wish["board"] = board.word().into();
    }
    let numbers = [("guests", rules.guests.map(u32::from)), ("replicas", rules.copies.map(u32::from)), ("away_h", rules.away)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        wish[name] = number.into();
    }
    wish
}

/// A part of `/.sys` about a community.
fn part(name: &str, part: &str) -> String {
    format!("/.sys/communities/{}{part}", crate::target::encode(name))
}

async fn ask(context: &Context, name: &str, part: &str) -> anyhow::Result<Json> {
    let (_session, mut client) = open_running(context).await?;
    client.json(Request::get(self::part(name, part))).await
}

async fn send(context: &Context, name: &str, part: &str, body: &Serde) -> anyhow::Result<Json> {
    let (_session, mut client) = open_running(context).await?;
    client.json(Request::post(self::part(name, part)).body(JSON, body.to_string())?).await
}

/// Prints what came as JSON, or words.
fn say(context: &Context, told: &Json, words: impl FnOnce() -> String) -> anyhow::Result<()> {
    match context.out.json {
        true => Ok(context.out.line(compact(told))?),
        false => Ok(context.out.line(words())?),
    }
}

/// What a community is called.
fn title(told: &Json) -> String {
    printable(text(told, "title").or_else(|| text(told, "petname")).unwrap_or_else(|| text(told, "community").unwrap_or("?")))
}

/// What it is called in paths.
fn at(told: &Json) -> String {
    format!("@{}", printable(text(told, "petname").or_else(|| text(told, "community")).unwrap_or("?")))
}

fn standing(told: &Json) -> &'static str {
    match text(told, "you") {
        Some("organizer") => "you organize it",
        Some("member") => "you are a member",
        Some("waiting") => "you are not let in yet",
        Some("elsewhere") => "another machine of yours is in it and lets this one in when both run; else ask for a new invite",
        _ => "you are no member",
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let told = client.json(Request::get("/.sys/communities")).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    let all = items(&told, "communities");
    if all.is_empty() {
        out.note("you are in no community; `timebus community new TITLE` founds one, an invite lets you into another's");
        return Ok(());
    }
    let row = |one: &Json| {
        let (members, connected) = (number(one, "members").unwrap_or(0), number(one, "connected").unwrap_or(0));
        vec![
            title(one),
            at(one),
            standing(one).to_owned(),
            format!("as {}", printable(text(one, "name").unwrap_or("?"))),
            format!("{}, {connected} connected", counted(members as usize, "member")),
        ]
    };
    table(&all.iter().map(row).collect::<Vec<_>>()).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}

async fn new(context: &Context, wish: &Serde) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let told = client.json(Request::post("/.sys/communities").body(JSON, wish.to_string())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    out.line(format!("founded    {}, and you organize it as {}", title(&told), printable(text(&told, "name").unwrap_or("?"))))?;
    let home = &context.home;
    out.note(format!("key        {}", text(&told, "community").unwrap_or("?")));
    out.note(format!("let in     {}", home.command(&format!("invite --to {} --can member", quoted_text(&at(&told))))));
    out.note(format!("write      {}", home.command(&format!("community post {} 'Welcome'", quoted_text(at(&told).trim_start_matches('@'))))));
    Ok(())
}

async fn show(context: &Context, name: &str) -> anyhow::Result<()> {
    let told = ask(context, name, "").await?;
    if context.out.json {
        return Ok(context.out.line(compact(&told))?);
    }
    describe(context, &told)
}

fn describe(context: &Context, told: &Json) -> anyhow::Result<()> {
    let out = context.out;
    out.line(format!("{}   {}", title(told), at(told)))?;
    out.line(format!("key        {}", text(told, "community").unwrap_or("?")))?;
    out.line(format!("you        {}, as {}", standing(told), printable(text(told, "name").unwrap_or("?"))))?;
    if text(told, "you") == Some("waiting")
        && let Some(status) = member(told, "status")
    {
        out.line(format!("           {}", of_space(status, now_ms())))?;
    }
    let (members, connected) = (number(told, "members").unwrap_or(0), number(told, "connected").unwrap_or(0));
    out.line(format!("members    {members}, {connected} connected with you now"))?;
    let Some(rules) = member(told, "rules").filter(|rules| matches!(rules, Json::Object(_))) else { return Ok(()) };
    if let Some(about) = text(rules, "about").filter(|about| !about.is_empty()) {
        printable(about).lines().try_for_each(|line| out.line(format!("about      {line}")))?;
    }
    let board = if text(rules, "board") == Some("organizers") { "organizers write on the board" } else { "members write on the board" };
    let guests = match number(rules, "guests").unwrap_or(0) {
        0 => "organizers let people in".to_owned(),
        levels => format!("members let people in, {}", crate::verbs::invite::levels(levels)),
    };
    out.line(format!("rules      {board}; {guests}"))?;
    let (copies, away) = (number(rules, "replicas").unwrap_or(0), number(rules, "away_h").unwrap_or(0));
    out.line(format!("           {copies} copies of everything with members who offer storage; who is away for {away} h does not count"))?;
    let first: Vec<String> = items(rules, "dht").iter().filter_map(crate::value::string).map(printable).collect();
    let listens = member(told, "dht").and_then(|part| text(part, "listens"));
    match (first.is_empty(), listens, matches!(member(told, "dht"), Some(Json::Object(_)))) {
        (true, ..) => {}
        (_, Some(at), _) => out.line(format!("dht        you take part, at {at}; first nodes: {}", first.join(", ")))?,
        (_, None, true) => {
            let problem = member(told, "dht").and_then(|part| text(part, "problem"));
            out.line(format!("dht        you want to take part; {}", printable(problem.unwrap_or("it is about to begin"))))?;
        }
        (_, None, false) => out.line(format!("dht        you take no part; first nodes: {}", first.join(", ")))?,
    }
    if let Some(handing) = member(told, "handing").filter(|handing| matches!(handing, Json::Object(_))) {
        let leaves = if member(handing, "leaves") == Some(&Json::Bool(true)) { ", then you leave" } else { "" };
        out.line(format!("handing    {}{leaves}; it ends in {} at the latest", handed(handing), hours(told)))?;
    }
    if let Some(says) = uncounted(told) {
        out.line(format!("machines   {says}"))?;
    }
    if let Some(says) = short_of_room(told) {
        out.line(format!("room       {says}"))?;
    }
    if let Some(says) = not_kept(told) {
        out.line(format!("not kept   {says}"))?;
    }
    unshown(told).try_for_each(|line| out.line(format!("unshown    {line}")))?;
    if member(told, "told") == Some(&Json::Bool(true)) {
        out.line("told       who hears where your peer is, hears that you are in it")?;
    }
    Ok(())
}

async fn members(context: &Context, name: &str) -> anyhow::Result<()> {
    let told = ask(context, name, "/members").await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    let is = |one: &Json, name| member(one, name) == Some(&Json::Bool(true));
    let row = |one: &Json| {
        let seen = number(one, "seen_ms").unwrap_or(0);
        let state = match (is(one, "you"), is(one, "connected"), seen) {
            (true, ..) => "you".to_owned(),
            (_, true, _) => "connected".to_owned(),
            (_, _, 0) => "never met".to_owned(),
            (_, _, seen) => format!("last seen {} ago", span(now_ms().saturating_sub(seen))),
        };
        let by = text(one, "by").map_or_else(String::new, |by| format!("by {}", printable(by)));
        let stores = match number(one, "stores").unwrap_or(0) {
            0 => String::new(),
            bytes => format!("holds up to {}", indicatif::DecimalBytes(bytes)),
        };
        let role = if is(one, "organizer") { "organizer" } else { "member" };
        vec![printable(text(one, "name").unwrap_or("?")), short(text(one, "key").unwrap_or("?")), role.to_owned(), state, by, stores]
    };
    table(&items(&told, "members").iter().map(row).collect::<Vec<_>>()).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}

async fn board(context: &Context, name: &str, limit: u16) -> anyhow::Result<()> {
    let told = ask(context, name, &format!("/board?limit={limit}")).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    let notices = items(&told, "notices");
    if notices.is_empty() {
        out.note("nothing is on the board");
    }
    for notice in notices {
        let by = printable(text(notice, "by").unwrap_or("somebody"));
        let ago = number(notice, "at_ms").map_or_else(String::new, |at| format!(", {} ago", span(now_ms().saturating_sub(at))));
        out.line(format!("{by}{ago}"))?;
        printable(text(notice, "text").unwrap_or("")).lines().try_for_each(|line| out.line(format!("  {line}")))?;
    }
    if let Some(count) = number(&told, "left_out").filter(|count| *count > 0) {
        out.note(format!("{} of whom you muted or blocked left out", counted(count as usize, "notice")));
    }
    Ok(())
}

async fn post(context: &Context, name: &str, text: &str) -> anyhow::Result<()> {
    let told = send(context, name, "/board", &json!({ "text": text })).await?;
    say(context, &told, || "on the board; members see it as soon as they are reached".to_owned())
}

async fn offer(context: &Context, size: u64, name: Option<String>) -> anyhow::Result<()> {
    let name = match name {
        Some(name) => name,
        None => only(context).await?,
    };
    let told = send(context, &name, "", &json!({"stores": size})).await?;
    if let Some(says) = uncounted(&told).filter(|_| size > 0) {
        context.out.note(says);
    }
    say(context, &told, || match size {
        0 => match member(&told, "handing") {
            Some(Json::Object(_)) => format!(
                "nothing new is held here for {}; what is stays until others have it, for {} at most (`timebus community show` tells how far that is)",
                title(&told),
                hours(&told)
            ),
            _ => format!("nothing is held here for {} any more", title(&told)),
        },
        size if member(&told, "kept_back") == Some(&Json::Bool(true)) => format!(
            "{} are offered to {} and do not count, since its files do not go on to others from here: `timebus files share {} yes` lets them",
            indicatif::DecimalBytes(size),
            title(&told),
            at(&told)
        ),
        size if number(&told, "room").is_some_and(|room| room < size) => format!(
            "up to {} are held here for {}; as there is room for {} now, no more counts until there is",
            indicatif::DecimalBytes(size),
            title(&told),
            indicatif::DecimalBytes(number(&told, "room").unwrap_or(0))
        ),
        size => format!("up to {} are held here for {}", indicatif::DecimalBytes(size), title(&told)),
    })
}

/// The one community that the owner is in.
async fn only(context: &Context) -> anyhow::Result<String> {
    let (_session, mut client) = open_running(context).await?;
    let told = client.json(Request::get("/.sys/communities")).await?;
    match items(&told, "communities") {
        [one] => Ok(text(one, "community").unwrap_or_default().to_owned()),
        [] => Err(Failure::refused("you are in no community").fix("`timebus community new TITLE` founds one").into()),
        _ => Err(Failure::usage("you are in several communities").fix("say which: timebus community offer SIZE COMMUNITY").into()),
    }
}

async fn placement(context: &Context, name: &str) -> anyhow::Result<()> {
    let told = ask(context, name, "/placement").await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    let size = |of: &Json, name| indicatif::DecimalBytes(number(of, name).unwrap_or(0)).to_string();
    let is = |of: &Json, name| member(of, name) == Some(&Json::Bool(true));
    let log = member(&told, "log").cloned().unwrap_or(Json::Null);
    let members = number(&log, "members").unwrap_or(0);
    out.line(format!(
        "log        {}, with all of {}",
        counted(number(&log, "changes").unwrap_or(0) as usize, "change"),
        counted(members as usize, "member")
    ))?;
    let (files, copies, under) =
        (number(&told, "files_total").unwrap_or(0), number(&told, "replicas").unwrap_or(0), number(&told, "under").unwrap_or(0));
    let lack = match under {
        0 => "all of them where they belong".to_owned(),
        under => format!("{under} with fewer copies than that"),
    };
    out.line(format!("files      {files}, {copies} copies of each: {lack}"))?;
    let machine = |one: &Json| {
        let state = if is(one, "you") {
            "you"
        } else if is(one, "away") {
            "away, does not count"
        } else if is(one, "connected") {
            "connected"
        } else {
            "not connected"
        };
        let load = format!("{}, {} of {}", counted(number(one, "files").unwrap_or(0) as usize, "file"), size(one, "bytes"), size(one, "stores"));
        vec![printable(text(one, "name").unwrap_or("?")), short(text(one, "node").unwrap_or("?")), state.to_owned(), load]
    };
    table(&items(&told, "machines").iter().map(machine).collect::<Vec<_>>()).iter().try_for_each(|line| out.line(line.trim_end()))?;
    unshown(&told).try_for_each(|line| out.line(format!("unshown    {line}")))?;
    let holder = |of: &Json| {
        let mark = match text(of, "state") {
            Some("holds") => "",
            Some("lacks") => " (lacks it)",
            Some("unshown") => " (says so, and could not show it)",
            _ => " (not asked)",
        };
        format!("{}{mark}", printable(text(of, "name").unwrap_or("?")))
    };
    let with = |one: &Json| items(one, "holders").iter().map(holder).collect::<Vec<_>>().join(", ");
    let file = |one: &Json| {
        let note = if is(one, "under") { "too few copies" } else { "" };
        vec![printable(text(one, "path").unwrap_or("?")), size(one, "bytes"), with(one), note.to_owned()]
    };
    table(&items(&told, "files").iter().map(file).collect::<Vec<_>>()).iter().try_for_each(|line| out.line(line.trim_end()))?;
    let lack = match number(&told, "spaces_under").unwrap_or(0) {
        0 => "all of them where they belong, as far as is known".to_owned(),
        under => format!("{under} with fewer copies than that"),
    };
    let spaces = number(&told, "spaces_total").unwrap_or(0);
    out.line(format!("spaces     {spaces} of members, {copies} copies of each beside their own machines: {lack}"))?;
    let space = |one: &Json| {
        let of = items(one, "of").iter().filter_map(crate::value::string).map(printable).collect::<Vec<_>>().join(", ");
        let bytes = number(one, "bytes").map_or_else(|| "not here".to_owned(), |bytes| indicatif::DecimalBytes(bytes).to_string());
        let note = if is(one, "under") { "too few copies" } else { "" };
        vec![of, short(text(one, "space").unwrap_or("?")), bytes, with(one), note.to_owned()]
    };
    table(&items(&told, "spaces").iter().map(space).collect::<Vec<_>>()).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}

/// Who says that he holds something there, and could not show it.
pub(crate) fn unshown(told: &Json) -> impl Iterator<Item = String> {
    items(told, "unshown").iter().filter_map(|one| text(one, "says")).map(printable)
}

/// That less counts of what this machine offers there than it does, as there is no room for it.
pub(crate) fn short_of_room(told: &Json) -> Option<String> {
    let (stores, counts) = (number(told, "stores")?, number(told, "counts")?);
    let is_kept_back = member(told, "kept_back") == Some(&Json::Bool(true));
    (counts < stores && !is_kept_back).then(|| {
        let [stores, counts] = [stores, counts].map(indicatif::DecimalBytes);
        format!("of {stores} that this machine offers {counts} count, as there is no room for more: free space, or `timebus community offer` less")
    })
}

/// Files that are placed with this machine and that it cannot keep.
pub(crate) fn not_kept(told: &Json) -> Option<String> {
    let not_kept = member(told, "not_kept").filter(|not_kept| matches!(not_kept, Json::Object(_)))?;
    let files = counted(number(not_kept, "files").unwrap_or(0) as usize, "file");
    Some(printable(&format!("{files} that communities place with this machine cannot be kept: {}", text(not_kept, "why").unwrap_or("?"))))
}

/// That machines of the owner's offer something there and do not count.
fn uncounted(told: &Json) -> Option<String> {
    let over = items(told, "uncounted");
    let is_own = over.iter().any(|one| member(one, "you") == Some(&Json::Bool(true)));
    let which = match over.len() {
        0 => return None,
        1 if is_own => "this one does not".to_owned(),
        1 => format!("{} does not", short(text(&over[0], "node").unwrap_or("?"))),
        count if is_own => format!("this one and {} do not", counted(count - 1, "other")),
        count => format!("{count} others do not"),
    };
    Some(format!(
        "of one member eight machines count, those that said last that they are there: {which}; `timebus community offer 0` on one that is to give way"
    ))
}

/// What others are still to get.
fn handed(handing: &Json) -> String {
    let count = |name| number(handing, name).unwrap_or(0);
    let nowhere = match count("nowhere") {
        0 => String::new(),
        files => format!("; nobody has room for {}", counted(files as usize, "file")),
    };
    match count("files") {
        0 => format!("others have what is held here{nowhere}"),
        files => {
            let bytes = indicatif::DecimalBytes(count("bytes"));
            format!("{}, {bytes}, still to get to others{nowhere}", counted(files as usize, "file"))
        }
    }
}

/// How long handing over takes at most.
fn hours(told: &Json) -> String {
    let until = member(told, "handing").and_then(|handing| number(handing, "until_ms")).unwrap_or(0);
    span(until.saturating_sub(now_ms()))
}

async fn leave(context: &Context, name: &str, now: bool, yes: bool) -> anyhow::Result<()> {
    let out = context.out;
    let here = ask(context, name, "").await?;
    if !yes && member(&here, "only_organizer") == Some(&Json::Bool(true)) {
        confirm_end(context, &title(&here))?;
    }
    let key = text(&here, "community").unwrap_or(name).to_owned();
    let mut told = send(context, &key, "/leave", &json!({"now": now, "sure": true})).await?;
    if member(&told, "left") != Some(&Json::Bool(true)) {
        match until_left(context, &key).await? {
            Some(is_told) => {
                let handing = member(&told, "handing").cloned().unwrap_or(Json::Null);
                told = crate::value::object([
                    ("community", Json::String(key.as_str().into())),
                    ("title", member(&told, "title").cloned().unwrap_or(Json::Null)),
                    ("left", Json::Bool(true)),
                    ("told", Json::Bool(is_told)),
                    ("handing", handing),
                ]);
            }
            None => {
                return say(context, &told, || {
                    format!(
                        "your peer goes on, and leaves when others have it; `{}` leaves at once, `{}` stays",
                        context.home.command(&format!("community leave {} --now", quoted_text(name))),
                        context.home.command(&format!("community offer SIZE {}", quoted_text(name)))
                    )
                });
            }
        }
    }
    let nowhere = member(&told, "handing").and_then(|handing| number(handing, "nowhere")).unwrap_or(0);
    if nowhere > 0 {
        out.note(format!("nobody there had room for {} that you held; it stays here", counted(nowhere as usize, "file")));
    }
    let is_told = member(&told, "told") == Some(&Json::Bool(true));
    say(context, &told, || match is_told {
        true => format!("you left {}; what is here of it stays", title(&told)),
        false => {
            format!("you left {}; nobody who is in it could be told so far, they hear of it when one of them reads your peer again", title(&told))
        }
    })
}

/// Says what follows when the only organizer leaves, and asks.
fn confirm_end(context: &Context, title: &str) -> anyhow::Result<()> {
    let what = format!("you are the only organizer of {title}: once you are gone, nobody can change its rules, remove anybody or make organizers");
    let other = format!("make somebody an organizer before: {}", context.home.command("community organizer COMMUNITY WHO"));
    let stdin = std::io::stdin();
    if context.out.json || !stdin.is_terminal() {
        return Err(Failure::usage(what).fix(format!("{other}; or add --yes")).into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{what}\n{other}\nleave all the same? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::BufRead::read_line(&mut stdin.lock(), &mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::refused("you did not leave").into()),
    }
}

/// Waits until the peer has left, and tells how far that is; `None` if it is not waited for any longer. Says whether somebody in it
/// heard of it.
async fn until_left(context: &Context, key: &str) -> anyhow::Result<Option<bool>> {
    let mut stop = std::pin::pin!(super::up::stop_signal()?);
    let mut said = String::new();
    loop {
        let here = ask(context, key, "").await?;
        match member(&here, "handing") {
            Some(handing @ Json::Object(_)) => {
                let now = handed(handing);
                if now != said {
                    context.out.note(format!("{now} (for {} at most; Ctrl-C: your peer goes on by itself)", hours(&here)));
                    said = now;
                }
            }
            _ => match member(&here, "left_told") {
                Some(Json::Bool(is_told)) => return Ok(Some(*is_told)),
                // The owner stays after all.
                _ => return Err(Failure::refused("you did not leave: something is offered to it again").into()),
            },
        }
        tokio::select! {
            () = &mut stop => return Ok(None),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
