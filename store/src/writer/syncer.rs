//! The syncing thread: makes groups durable and tells everybody what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};

use timebus_identity::{PublicKey, SecretKey, Signable as _, Verified};
use tokio::sync::oneshot;

use super::{Job, Offered, WriteError, Written};
use crate::change::Change;
use crate::ids::GrantId;
use crate::keyspace::Staged;
use crate::log::{Appender, Form, Place};
use crate::pipeline::Space;
use crate::store::{Inner, Stated, StorageError};
use crate::update::Update;

/// Why a group did not become durable.
pub(crate) struct Failure {
    pub(super) message: Arc<str>,
    /// Whether the log was brought back to where it was, so that later writes may be tried.
    pub(super) recovered: bool,
}

pub(super) enum Reply {
    Written(oneshot::Sender<Result<Written, WriteError>>, Written),
    Offered(oneshot::Sender<Result<Offered, WriteError>>, Offered),
    Stated(oneshot::Sender<Result<Vec<GrantId>, WriteError>>, Vec<GrantId>),
}

/// A change on its way to the log.
pub(super) enum Entry {
    Own(Change),
    Other(Verified<Change>),
}

/// What becomes durable at once.
#[derive(Default)]
pub(crate) struct Group {
    pub(super) entries: Vec<(Place, u64, Entry, Form)>,
    pub(super) updates: Vec<Arc<Update>>,
    pub(super) replies: Vec<Reply>,
    pub(super) staged: Arc<Staged>,
    /// Spaces that statements were made in, with what holds after them.
    pub(super) stated: BTreeMap<Space, Option<Stated>>,
    /// Who wrote in which spaces.
    pub(super) wrote: BTreeSet<(PublicKey, PublicKey)>,
    /// Where the log stands without this group.
    pub(super) start: Place,
}

/// The syncing thread.
pub(crate) struct Syncer {
    pub(crate) inner: Arc<Inner>,
    pub(crate) appender: Appender,
    /// Bytes written since the last sync.
    pub(crate) bytes: u64,
    pub(crate) to_decider: Sender<Job>,
}

impl Syncer {
    pub(crate) fn run(mut self, groups: &Receiver<Group>) {
        loop {
            let received = match self.inner.feeds.due() {
                None => groups.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => groups.recv_timeout(at.saturating_duration_since(std::time::Instant::now())),
            };
            let group = match received {
                Ok(group) => group,
                Err(RecvTimeoutError::Timeout) => {
                    self.inner.feeds.announce_due();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let result = self.append(&group).and_then(|()| self.sync(&group)).and_then(|()| self.commit(&group));
            if !self.finish(group, result) {
                return;
            }
        }
    }

    /// Writes the records of a group to the log.
    pub(crate) fn append(&mut self, group: &Group) -> Result<(), StorageError> {
        let mut buffer = Vec::new();
        let mut start: Option<Place> = None;
        for (place, a, entry, form) in &group.entries {
            if let Some(begun) = start
                && (begun.segment != place.segment || buffer.len() > 8 * 1024 * 1024)
            {
                self.appender.write(begun, &buffer)?;
                self.bytes += buffer.len() as u64;
                buffer.clear();
                start = None;
            }
            start.get_or_insert(*place);
            match entry {
                Entry::Own(change) => form.frame(*a, change, &self.inner.device.sign(&change.signing_message()), &mut buffer),
                Entry::Other(change) => form.frame(*a, change, change.signature(), &mut buffer),
            }
        }
        if let Some(begun) = start {
            self.appender.write(begun, &buffer)?;
            self.bytes += buffer.len() as u64;
        }
        Ok(())
    }

    /// Makes the records of a group durable.
    pub(crate) fn sync(&mut self, group: &Group) -> Result<(), StorageError> {
        if group.entries.is_empty() {
            return Ok(());
        }
        let began = std::time::Instant::now();
        self.appender.sync()?;
        self.inner.stats.synced(group.entries.len() as u64, std::mem::take(&mut self.bytes), began.elapsed());
        Ok(())
    }

    /// Commits the rows of a group.
    pub(crate) fn commit(&mut self, group: &Group) -> Result<(), StorageError> {
        self.inner.tables.commit(&group.staged)
    }

    /// Tells everybody what became of a group. Answers whether there is still a decider.
    pub(crate) fn finish(&mut self, group: Group, result: Result<(), StorageError>) -> bool {
        let outcome = match result {
            Ok(()) => {
                let last = group.entries.last().map_or(0, |(_, a, ..)| *a);
                self.inner.publish(group.stated, group.wrote, &group.updates, last);
                for reply in group.replies {
                    match reply {
                        Reply::Written(reply, written) => drop(reply.send(Ok(written))),
                        Reply::Offered(reply, offered) => drop(reply.send(Ok(offered))),
                        Reply::Stated(reply, grants) => drop(reply.send(Ok(grants))),
                    }
                }
                Ok(())
            }
            Err(error) => {
                let message: Arc<str> = error.to_string().into();
                tracing::error!(%error, "the disk refused a write");
                // Out of space: cut off what was half written, and later writes may be tried. Any other
                // failure leaves the file in a state nobody knows, so it is not written again.
                let full = matches!(&error, StorageError::Io(error) if is_full(error));
                let recovered = full && self.appender.rewind(group.start).is_ok();
                self.bytes = 0;
                for reply in group.replies {
                    fail(reply, &message);
                }
                Err(Failure { message, recovered })
            }
        };
        self.to_decider.send(Job::Synced(outcome)).is_ok()
    }
}

pub(super) fn fail(reply: Reply, message: &Arc<str>) {
    let error = || WriteError::ReadOnly(Arc::clone(message));
    match reply {
        Reply::Written(reply, _) => drop(reply.send(Err(error()))),
        Reply::Offered(reply, _) => drop(reply.send(Err(error()))),
        Reply::Stated(reply, _) => drop(reply.send(Err(error()))),
    }
}

pub(crate) fn encode_own(change: &Change, device: &SecretKey) -> Vec<u8> {
    let signature = device.sign(&change.signing_message());
    let mut out = Vec::with_capacity(change.encoded_len());
    change.write(&signature, &mut out);
    out
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge)
}
