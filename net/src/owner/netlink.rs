//! One exact question to the kernel about one TCP socket, by `NETLINK_SOCK_DIAG` (sock_diag(7)).
//!
//! The tables in `/proc` answer the same, but the kernel walks its whole hash table for each reading, which takes
//! milliseconds; this takes microseconds.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const FLAG_REQUEST: u16 = 1;
const PROTOCOL_TCP: u8 = 6;
const REQUEST_BYTES: usize = 72;
/// Places in the answer: `nlmsghdr` (16) and `inet_diag_msg` (72).
const STATE_AT: usize = 17;
const UID_AT: usize = 80;
const INODE_AT: usize = 84;
const ANSWER_BYTES_MIN: usize = 88;

/// A socket as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) state: u8,
    pub(super) uid: u32,
    pub(super) inode: u32,
}

/// Asks about the socket whose own address is `own` and whose other end is `other`; `None` if there is none.
pub(super) fn describe(own: SocketAddr, other: SocketAddr) -> io::Result<Option<Described>> {
    let Some(request) = request(own, other) else { return Ok(None) };
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(netlink::SOCK_DIAG))?;
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 512];
    // The kernel answers while it takes the request, so there is nothing to wait for.
    let (len, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    Ok(parse(&answer[..len]))
}

/// `nlmsghdr ‖ inet_diag_req_v2`; `None` for addresses of two families.
fn request(own: SocketAddr, other: SocketAddr) -> Option<[u8; REQUEST_BYTES]> {
    let mut bytes = [0u8; REQUEST_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &(REQUEST_BYTES as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &FLAG_REQUEST.to_ne_bytes());
    put(17, &[PROTOCOL_TCP]);
    put(20, &u32::MAX.to_ne_bytes()); // any state
    put(24, &own.port().to_be_bytes());
    put(26, &other.port().to_be_bytes());
    put(64, &[0xff; 8]); // no cookie
    match (own.ip().to_canonical(), other.ip().to_canonical()) {
        (IpAddr::V4(own), IpAddr::V4(other)) => {
            put(16, &[AddressFamily::INET.as_raw() as u8]);
            put(28, &own.octets());
            put(44, &other.octets());
        }
        (IpAddr::V6(own), IpAddr::V6(other)) => {
            put(16, &[AddressFamily::INET6.as_raw() as u8]);
            put(28, &own.octets());
            put(44, &other.octets());
        }
        _ => return None,
    }
    Some(bytes)
}

fn parse(answer: &[u8]) -> Option<Described> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != SOCK_DIAG_BY_FAMILY || answer.len() < ANSWER_BYTES_MIN {
        return None;
    }
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    Some(Described { state: answer[STATE_AT], uid: number(UID_AT)?, inode: number(INODE_AT)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_names_the_owner_of_a_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
            let own = client.local_addr().expect("address");
            let other = client.peer_addr().expect("address");
            let found = describe(own, other).expect("asked").expect("found");
            assert_eq!(Some(found.uid), super::super::current_uid());
            assert_ne!(found.inode, 0);
            drop(client);
            let unused = SocketAddr::new(own.ip(), 1);
            assert_eq!(describe(unused, other).expect("asked"), None);
        }
    }

    #[test]
    fn short_answers_are_no_answers() {
        for len in 0..ANSWER_BYTES_MIN {
            assert_eq!(parse(&vec![20; len]), None);
        }
    }
}
