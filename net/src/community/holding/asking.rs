//! Asks machines which of the files they hold that are placed with them. What they say counts, not what is worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::Placed;
use crate::network::{Network, Stopped};
use crate::node::Event;
use crate::sync::frame::FILES_MAX;

/// How long those who are connected are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which of the files that are placed with a machine it says it holds.
pub(crate) type Said = BTreeMap<PublicKey, BTreeSet<BlobHash>>;

/// Asks those who are connected which of the files they hold that are placed with them.
///
/// # Errors
///
/// [`Stopped`].
pub(crate) async fn ask(network: &Network, space: PublicKey, files: &[&Placed], connected: &BTreeSet<PublicKey>) -> Result<Said, Stopped> {
    let mut heard = network.holdings();
    let mut said = Said::new();
    let mut waiting: BTreeMap<PublicKey, usize> = BTreeMap::new();
    for node in connected {
        let mut placed: Vec<BlobHash> = files.iter().filter(|file| file.holders.contains(node)).map(|file| file.hash).collect();
        placed.sort_unstable();
        placed.dedup();
        for files in placed.chunks(FILES_MAX) {
            network.tell(Event::AskFiles { node: *node, space, files: files.to_vec() }).await?;
            *waiting.entry(*node).or_default() += 1;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while !waiting.is_empty() {
        match tokio::time::timeout_at(deadline, heard.recv()).await {
            Ok(Ok((node, of, files))) if of == space => {
                let Some(count) = waiting.get_mut(&node) else { continue };
                *count -= 1;
                if *count == 0 {
                    waiting.remove(&node);
                }
                said.entry(node).or_default().extend(files);
            }
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) | Err(_) => break,
        }
    }
    // Of who has answered in part it is not known what he lacks.
    waiting.keys().for_each(|node| drop(said.remove(node)));
    Ok(said)
}
