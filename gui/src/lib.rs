//! timebus gui.
