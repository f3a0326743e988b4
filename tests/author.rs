//! Somebody who has a space and writes at home, without a peer of their own.

use serde_json::Value;
use timebus_identity::{SecretKey, Verified, hash};
use timebus_store::change::Change;
use timebus_store::engine::{Engine, MemoryHome};
use timebus_store::grant::{Actions, Audience, Grant, Scope, Timelines};
use timebus_store::json::{Json, Limits};
use timebus_store::op::Op;
use timebus_store::path::Path;
use timebus_store::store::{Config, Store};
use timebus_store::writer::{Action, Condition, Request, Statement};

/// Keys come of the name, and what is written is for everybody to read.
pub(crate) struct Author {
    engine: Engine,
    /// Changes that were handed on, of rights and of values.
    brought: [u64; 2],
}

impl Author {
    pub(crate) fn new(name: &str, now_ms: u64) -> Self {
        let key = |what: &str| SecretKey::from_seed(hash("social author", &[name.as_bytes(), what.as_bytes()]));
        let mut home = MemoryHome::new(key("root"), &key("next"), key("device"));
        let mut engine = Engine::open(&mut home, &Config::default(), now_ms).expect("a new home opens");
        // What people say is for everybody. Who has it is a matter of who asks for it.
        let public = Grant {
            audience: Audience::Anyone,
            scope: Scope::everything(),
            timelines: Timelines::All,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0),
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth: 0,
            label: "public".into(),
        };
        let store = engine.store().clone();
        let stated = engine.finish(async move { store.state(Statement::Ops(vec![Op::Grant(public)]), now_ms).await });
        stated.expect("the engine answers").expect("the owner may");
        Self { engine, brought: [0; 2] }
    }

    /// What is written, and what was.
    pub(crate) fn store(&self) -> &Store {
        self.engine.store()
    }

    pub(crate) fn put(&mut self, path: &str, value: &Value, time_ms: u64) {
        let request = Request {
            space: None,
            path: Path::parse(path).expect("a path"),
            action: Action::Put(Json::parse(value.to_string().as_bytes(), Limits::default()).expect("JSON")),
            parents: None,
            label: None,
            condition: Condition::None,
            time_ms,
            durable: true,
            may_name: None,
        };
        let store = self.engine.store().clone();
        self.engine.finish(async move { store.write(request).await }).expect("the engine answers").expect("the owner may write");
    }

    /// What was written since the last time.
    pub(crate) fn news(&mut self) -> Vec<Verified<Change>> {
        self.engine.settle();
        let store = self.engine.store();
        let (own, rows) = (store.own(), store.snapshot());
        let mut news = Vec::new();
        for (t, brought) in [own.auth(), own.main()].into_iter().zip(&mut self.brought) {
            for change in store.changes(&rows, t, *brought + 1) {
                let (a, _) = change.expect("memory does not fail");
                *brought = a;
                let record = store.record(&rows, t, a).expect("memory does not fail");
                news.push(Change::decode(&record).expect("a change").verify().expect("its author signed it"));
            }
        }
        news
    }
}
