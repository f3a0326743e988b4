//! The bytes below a websocket: what comes in, and what waits to go out.
//!
//! A thousand idle sockets should cost little, so a socket keeps no buffer while nothing is under way: reading borrows
//! one from the stack, and what is written is shared with others where it can be.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::BATCH_BYTES;
use crate::server::Watched;

/// What is longer is not copied to stand beside others: it may be shared by many sockets.
const COPIED_BYTES_MAX: usize = 16 * 1024;
/// Read at once.
const READ_BYTES: usize = 8 * 1024;

/// What carries a socket.
enum Io {
    Tcp(TcpStream),
    /// Inside of the process, or over HTTP/2.
    Other(Box<TokioIo<Upgraded>>),
}

/// A connection that became a websocket.
pub(super) struct Wire {
    io: Io,
    /// What was read and not taken.
    inbox: Bytes,
    /// What is being written.
    outbox: Bytes,
    /// What is written after that.
    behind: VecDeque<Bytes>,
    /// Bytes that the system has taken.
    taken: u64,
}

impl Wire {
    pub(super) fn new(upgraded: Upgraded) -> Self {
        let (io, inbox) = match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<Watched<TcpStream>>>(upgraded) {
            Ok(parts) => (Io::Tcp(parts.io.into_inner().into_inner()), parts.read_buf),
            Err(upgraded) => (Io::Other(Box::new(TokioIo::new(upgraded))), Bytes::new()),
        };
        Self { io, inbox, outbox: Bytes::new(), behind: VecDeque::new(), taken: 0 }
    }

    /// Whether everything was handed to the system.
    pub(super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Puts bytes behind those that wait.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.outbox.is_empty() {
            self.outbox = bytes;
            return;
        }
        let last = self.behind.back_mut().unwrap_or(&mut self.outbox);
        if bytes.len() > COPIED_BYTES_MAX || last.len() > BATCH_BYTES {
            self.behind.push_back(bytes);
        } else {
            let mut both = BytesMut::with_capacity(last.len() + bytes.len());
            both.extend_from_slice(last);
            both.extend_from_slice(&bytes);
            *last = both.freeze();
        }
    }

    /// How much waits.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.outbox.len() + self.behind.iter().map(Bytes::len).sum::<usize>()
    }

    /// Bytes that were written so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Writes what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.outbox.is_empty() {
            let written = match &mut self.io {
                Io::Tcp(stream) => ready!(Pin::new(stream).poll_write(cx, &self.outbox))?,
                Io::Other(stream) => ready!(Pin::new(stream).poll_write(cx, &self.outbox))?,
            };
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.taken += written as u64;
            self.outbox.advance(written);
            if self.outbox.is_empty() {
                self.outbox = self.behind.pop_front().unwrap_or_default();
            }
        }
        // Empty bytes may still hold what they were cut from.
        self.outbox = Bytes::new();
        match &mut self.io {
            Io::Tcp(_) => Poll::Ready(Ok(())),
            Io::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        match &mut self.io {
            Io::Tcp(stream) => ready!(Pin::new(stream).poll_read(cx, &mut room))?,
            Io::Other(stream) => ready!(Pin::new(stream).poll_read(cx, &mut room))?,
        }
        self.inbox = Bytes::copy_from_slice(room.filled());
        Poll::Ready(Ok(()))
    }
}

/// A wire while a task looks at it, as the protocol wants it: what would wait is an error.
pub(super) struct Now<'a, 'b> {
    pub(super) wire: &'a mut Wire,
    pub(super) cx: &'a mut Context<'b>,
}

impl Read for Now<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.wire.inbox.is_empty() {
            match self.wire.poll_fill(self.cx) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Err(ErrorKind::WouldBlock.into()),
            }
        }
        let count = self.wire.inbox.len().min(out.len());
        self.wire.inbox.copy_to_slice(&mut out[..count]);
        if self.wire.inbox.is_empty() {
            self.wire.inbox = Bytes::new();
        }
        Ok(count)
    }
}

impl Write for Now<'_, '_> {
    /// Takes everything. The protocol writes answers to pings and the goodbye, and reads nothing more before they are
    /// written, so this stays short.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.wire.push(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
