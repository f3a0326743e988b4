//! stub
/// stub
#[derive(Debug)]
pub struct SnapshotError;
