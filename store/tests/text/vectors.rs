//! Cases with the text that diamond-types gives, made by others.

use serde_json::Value;
use timebus_store::op::TextEdit;
use timebus_store::text::{Budget, TextObject};

use crate::dice::Dice;
use crate::history::{At, History, Text, edit};
use crate::traces::data;

/// A case of the conformance file: parents are numbers of events.
fn conformance_case(case: &Value) -> History {
    let mut history = History::default();
    let mut place: Vec<At> = Vec::new();
    for txn in case["txns"].as_array().expect("transactions") {
        let parents: Vec<At> =
            txn["parents"].as_array().expect("parents").iter().map(|event| place[event.as_u64().expect("number") as usize]).collect();
        let edits: Vec<TextEdit> = txn["ops"]
            .as_array()
            .expect("ops")
            .iter()
            .map(|op| edit(op[0].as_u64().expect("position") as usize, op[1].as_u64().expect("count") as usize, op[2].as_str().expect("text")))
            .collect();
        let op = history.say(0, txn["agent"].as_str().expect("name"), txn["seqStart"].as_u64().expect("number"), &parents, edits);
        place.extend((1..=history.end(op).1).map(|event| (op, event)));
    }
    history
}

#[test]
fn gives_the_text_of_every_conformance_case_in_any_order() {
    let Some(cases) = data("dt-conformance.json.gz") else { return };
    let mut dice = Dice::new(1);
    for (number, case) in cases.as_array().expect("cases").iter().enumerate() {
        let history = conformance_case(case);
        let end = case["endContent"].as_str().expect("text");
        let straight: Vec<usize> = (0..history.said.len()).collect();
        assert_eq!(history.deliver(&straight, 1).text(), end, "case {number}");
        assert_eq!(history.deliver(&straight, straight.len()).text(), end, "case {number}, at once");
        assert_eq!(history.deliver(&history.shuffled(&mut dice), 1 + dice.below(5)).text(), end, "case {number}, shuffled");
    }
}

/// `[4:6]`.
fn range(text: &str) -> (u64, u64) {
    let (start, end) = text.trim_matches(['[', ']']).split_once(':').expect("a range");
    (start.parse().expect("a number"), end.parse().expect("a number"))
}

#[test]
fn gives_text_and_patches_of_every_version_of_the_vectors() {
    let Some(cases) = data("dt-vectors-even.json.gz") else { return };
    for (number, case) in cases.as_array().expect("cases").iter().enumerate() {
        let mut object = TextObject::new();
        let mut history = History::default();
        let mut versions: Vec<At> = Vec::new();
        let tip = case["tip_text"].as_str().expect("text");
        for update in case["updates"].as_array().expect("updates") {
            let version = update["version"][0].as_str().expect("a version");
            let (agent, seq) = version.rsplit_once('-').expect("agent and number");
            let base: Vec<At> = update["parents"]
                .as_array()
                .expect("parents")
                .iter()
                .map(|parent| {
                    let (agent, seq) = parent.as_str().and_then(|parent| parent.rsplit_once('-')).expect("agent and number");
                    let (change, event) = object.find_event(agent, seq.parse().expect("a number")).expect("known");
                    (history.said.iter().position(|said| said.op.change == change).expect("known"), event)
                })
                .collect();
            let mut shift = 0;
            let edits: Vec<TextEdit> = update["patches"]
                .as_array()
                .expect("patches")
                .iter()
                .map(|patch| {
                    let (start, end) = range(patch["range"].as_str().expect("a range"));
                    let ins = patch["content"].as_str().expect("text");
                    let edit = TextEdit { pos: (start as i64 + shift) as u64, del: end - start, ins: ins.into() };
                    shift += ins.chars().count() as i64 - (end - start) as i64;
                    edit
                })
                .collect();
            let seq: u64 = seq.parse().expect("a number");
            let seq_first = seq + 1 - crate::history::events(&edits);
            let op = history.say(agent.len() + usize::from(agent.as_bytes()[0]), agent, seq_first, &base, edits);
            history.admit(&mut object, op).expect("valid");
            object.merge(&mut Budget::unlimited());
            versions.push(history.end(op));
        }
        assert_eq!(object.text(), tip, "case {number}");
        let mut names: Vec<String> = object
            .version()
            .iter()
            .map(|(change, event)| object.event_name(change, *event).expect("known"))
            .map(|name| format!("{}-{}", name.agent, name.seq))
            .collect();
        names.sort();
        assert_eq!(serde_json::json!(names), case["tip_version"], "case {number}");
        for (at, (op, event)) in versions.iter().enumerate() {
            let version = [(history.said[*op].op.change, *event)];
            let text = object.text_at(&version, &mut Budget::unlimited()).expect("known");
            assert_eq!(text, case["text_at"][at].as_str().expect("text"), "case {number}, version {at}");
            let patches = object.patches_since(&version, &mut Budget::unlimited()).expect("known");
            let mut text = Text::new(&text);
            text.apply(&patches);
            assert_eq!(text.to_string(), tip, "case {number}, patches since version {at}");
            let absolute: Vec<(String, String)> =
                timebus_store::text::splices(&patches).iter().map(|(range, ins)| (format!("[{}:{}]", range.start, range.end), ins.clone())).collect();
            // The vectors also list places where something came and went.
            let told = case["patches_to_tip"][at].as_array().expect("patches").iter();
            let told: Vec<&Value> = told
                .filter(|patch| !(patch[1] == "" && range(patch[0].as_str().expect("a range")).0 == range(patch[0].as_str().expect("a range")).1))
                .collect();
            assert_eq!(serde_json::json!(absolute), serde_json::json!(told), "case {number}, ranges since version {at}");
        }
    }
}
