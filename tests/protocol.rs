//! Bytes on the wire: malformed, slow, large, pipelined requests, and HTTP/2.

mod braid;
mod limits;
mod raw;
mod text;
mod two;
