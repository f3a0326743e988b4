//! What everybody who watches one path through one window is shown, made once for all of them.
//!
//! A change to a window is told as the difference of two pages. Subscribers who keep up were shown the same page
//! before, so the page is read once for a change, and the difference made once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use timebus_store::feed::Version;
use timebus_store::json::Json;
use timebus_store::keyspace::Committed;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::update::{Edit, Step};

use super::{applied, boxed};
use crate::peer::lock;
use crate::window::{Page, Window, changes, weight};

/// A page that takes more than this is not kept for a subscriber, but read again as of the version that it was sent:
/// a subscriber must not cost as much as what it looks at.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// What a subscriber was shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The latest change in it.
    pub(super) upto: u64,
    pub(super) version: Version,
    /// `None` where nothing is, and when it is heavy.
    pub(crate) page: Option<Page>,
    /// Whether the page was too large to keep.
    pub(super) is_heavy: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Self { upto: 0, version: Arc::new([]), page: None, is_heavy: false }
    }
}

impl Shown {
    pub(super) fn json(&self) -> Option<&Json> {
        self.page.as_ref().map(|page| &page.json)
    }

    /// The same, without a page that is too large to keep.
    pub(super) fn light(self: &Arc<Self>) -> Arc<Self> {
        if self.page.as_ref().is_none_or(|page| weight(&page.json) <= KEPT_BYTES_MAX) {
            return Arc::clone(self);
        }
        Arc::new(Self { upto: self.upto, version: Arc::clone(&self.version), page: None, is_heavy: true })
    }
}

/// What turns one page into another; `None` when the other one as a whole says it better.
type Told = Arc<Option<Vec<(Vec<Step>, Edit)>>>;

type Difference = (Weak<Shown>, Weak<Shown>, Told);

/// One path through one window.
#[derive(Debug)]
pub(crate) struct View {
    space: Space,
    path: Path,
    pub(super) window: Window,
    latest: Mutex<Weak<Shown>>,
    /// The last difference made, and between which pages.
    told: Mutex<Option<Difference>>,
    views: Weak<Views>,
}

impl View {
    /// What is shown of a state.
    pub(super) fn look(&self, store: &Store, rows: &Committed) -> Result<Arc<Shown>, StorageError> {
        let upto = applied(rows)?;
        // Held while reading: whoever comes meanwhile wants the same.
        let mut latest = lock(&self.latest);
        if let Some(latest) = latest.upgrade().filter(|latest| latest.upto == upto) {
            return Ok(latest);
        }
        let page = self.window.read(store, rows, self.space, &self.path)?;
        let version = boxed(&store.version(rows, self.space, &self.path)?);
        let shown = Arc::new(Shown { upto, version, page, is_heavy: false });
        *latest = Arc::downgrade(&shown);
        Ok(shown)
    }

    /// What turns one page into another.
    pub(super) fn told(&self, before: &Arc<Shown>, after: &Arc<Shown>) -> Told {
        let is = |weak: &Weak<Shown>, shown: &Arc<Shown>| std::ptr::eq(weak.as_ptr(), Arc::as_ptr(shown));
        let mut told = lock(&self.told);
        if let Some((from, to, edits)) = &*told
            && is(from, before)
            && is(to, after)
        {
            return Arc::clone(edits);
        }
        let edits: Told = Arc::new(changes(before.json(), after.json()));
        *told = Some((Arc::downgrade(before), Arc::downgrade(after), Arc::clone(&edits)));
        edits
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(views) = self.views.upgrade() {
            let mut views = lock(&views.0);
            let key = (self.space, self.path.clone(), self.window.clone());
            if views.get(&key).is_some_and(|view| view.strong_count() == 0) {
                views.remove(&key);
            }
        }
    }
}

/// All views that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<HashMap<(Space, Path, Window), Weak<View>>>);

impl Views {
    /// The view of a path through a window, which exists as long as somebody holds it.
    pub(crate) fn open(self: &Arc<Self>, space: Space, path: &Path, window: Window) -> Arc<View> {
        let mut views = lock(&self.0);
        let key = (space, path.clone(), window);
        if let Some(view) = views.get(&key).and_then(Weak::upgrade) {
            return view;
        }
        let view = Arc::new(View {
            space,
            path: key.1.clone(),
            window: key.2.clone(),
            latest: Mutex::default(),
            told: Mutex::default(),
            views: Arc::downgrade(self),
        });
        views.insert(key, Arc::downgrade(&view));
        view
    }
}
