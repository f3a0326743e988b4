//! What a subscriber may rely on, over Braid, server-sent events, JSON lines and websocket.

mod contract;
mod crowd;
mod presence;
mod resume;
mod slow;
mod watcher;
mod websocket;
mod windows;
mod worked_out;
