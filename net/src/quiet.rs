//! A peer that is about to be restarted takes no new writes for a while, so that others have all that it acknowledged before it
//! goes. What had begun before goes on to its end, but for what may take for ever and can go on later: uploads in parts, and files of
//! guests, are cut off; and of what guests write nothing has begun before all of it is here.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::peer::{Peer, lock};
use crate::problem::Problem;

/// For so long at most at a time: whoever asked for it may be gone.
pub(crate) const QUIET_MAX: Duration = Duration::from_secs(60);

/// Whether a peer takes writes, and how many are under way. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quiet(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    until: Option<Instant>,
    writing: usize,
    cut: Arc<Notify>,
}

/// A request that may write, until it is answered.
#[derive(Debug)]
pub(crate) struct Writing(Quiet);

impl Quiet {
    /// Begins something that may write.
    ///
    /// # Errors
    ///
    /// 503 `quiet` as long as nothing new is taken.
    pub(crate) fn begin(&self) -> Result<Writing, Problem> {
        let mut state = lock(&self.0);
        if state.until.is_some_and(|until| Instant::now() < until) {
            let detail = "it gives what it has to others before that, so that nothing that it acknowledged is missing meanwhile";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "quiet", "this peer is about to be restarted and takes nothing new", detail)
                .with_fix("try again in a moment, or write to another peer of the same space"));
        }
        state.writing += 1;
        Ok(Writing(self.clone()))
    }

    /// Whether something new is taken, of somebody who has no say here: it is not waited for.
    ///
    /// # Errors
    ///
    /// As [`Quiet::begin`].
    pub(crate) fn look(&self) -> Result<(), Problem> {
        self.begin().map(drop)
    }

    /// Told as long as the peer is quiet: what comes slowly from a guest is not waited for.
    pub(crate) fn cut(&self) -> Arc<Notify> {
        Arc::clone(&lock(&self.0).cut)
    }

    /// Takes nothing new for so long from now on, or everything again. Answers how many are still under way that began before.
    fn be_quiet(&self, time: Option<Duration>) -> usize {
        let mut state = lock(&self.0);
        state.until = time.map(|time| Instant::now() + time.min(QUIET_MAX));
        if time.is_some() {
            state.cut.notify_waiters();
        }
        state.writing
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        lock(&self.0.0).writing -= 1;
    }
}

/// Whether a request may write. What stops a peer, or makes it quiet, does not.
pub(crate) fn may_write(method: &Method, segments: &[String]) -> bool {
    let part = segments.first().is_some_and(|first| first == ".sys").then(|| segments.get(1)).flatten();
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !part.is_some_and(|part| part == "quiet" || part == "down")
}

/// Makes a peer and its personas quiet, or takes that back. Answers how many requests that may write are still under way.
pub(crate) fn be_quiet(peer: &Peer, time: Option<Duration>) -> usize {
    let be_quiet = |peer: &Peer| {
        let writing = peer.quiet.be_quiet(time);
        if time.is_some() {
            peer.uploads.cut();
        }
        writing
    };
    peer.all_personas().iter().map(|(_, persona)| be_quiet(persona)).sum::<usize>() + be_quiet(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_began_goes_on_and_nothing_new_begins_for_a_while() {
        let quiet = Quiet::default();
        let (one, other) = (quiet.begin().expect("taken"), quiet.begin().expect("taken"));
        assert_eq!(quiet.be_quiet(Some(Duration::from_secs(10))), 2);
        drop(one);
        let refused = quiet.begin().expect_err("refused");
        assert_eq!((refused.status, refused.kind), (StatusCode::SERVICE_UNAVAILABLE, "quiet"));
        assert_eq!(quiet.be_quiet(Some(Duration::MAX)), 1, "who was refused does not count");
        drop(other);
        assert_eq!(quiet.be_quiet(Some(Duration::MAX)), 0);
        tokio::time::advance(QUIET_MAX - Duration::from_millis(1)).await;
        assert!(quiet.begin().is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(quiet.begin().is_ok(), "whoever asked for it may be gone");
        quiet.be_quiet(Some(QUIET_MAX));
        quiet.be_quiet(None);
        assert!(quiet.begin().is_ok(), "it is not restarted after all");
    }

    #[test]
    fn what_reads_and_what_stops_it_is_answered() {
        let is_refused = |method: Method, path: &str| may_write(&method, &path.split('/').map(str::to_owned).collect::<Vec<_>>());
        assert!(is_refused(Method::PUT, "x") && is_refused(Method::POST, ".sys/grant") && is_refused(Method::PATCH, ".sys/uploads/1"));
        assert!(is_refused(Method::PUT, "quiet") && is_refused(Method::PUT, "x/.sys/down") && is_refused(Method::DELETE, ""));
        assert!(!is_refused(Method::GET, "x") && !is_refused(Method::POST, ".sys/down") && !is_refused(Method::POST, ".sys/quiet"));
    }
}
