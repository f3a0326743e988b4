//! Which OS user owns the other end of a loopback TCP connection.
//!
//! This is what lets plain `curl` work for the peer's owner and for nobody else on the machine
//! (threats H2). Linux is asked by netlink; where that is not to be had, `/proc/net/tcp` and `tcp6`
//! have one row per socket, described in the kernel's Documentation/networking/proc_net_tcp.rst.
//!
//! When in doubt the answer is "unknown", which is nobody. In particular rows without an inode are
//! ignored: they belong to sockets that no process holds any more (TIME_WAIT, a closed client), and
//! the kernel prints uid 0 for them whoever had opened them.
//!
//! Besides reading those two files it does no IO; the parser is pure.

#[cfg(target_os = "linux")]
mod netlink;

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes read of one table. A row has about 150; this is a hundred thousand sockets. Rows behind it
/// are not seen, so their owners stay unknown.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Looks at a table. The kernel prints it piece by piece, so sockets that come and go meanwhile can
/// hide a row once, but hardly three times.
const TRIES_MAX: usize = 3;

/// The uid the kernel prints for users from outside our user namespace: many people, so nobody.
const OVERFLOW_UID: u32 = 65_534;

/// The uid that owns the remote socket of an established loopback connection.
///
/// `local` is our address of the connection, `peer` the other one, both as the socket gives them.
/// `None` if one of them is not a loopback address, if the owner cannot be known, or on systems
/// other than Linux. Blocks for up to some milliseconds: ask once per connection.
///
/// # Errors
///
/// The error of opening or reading the tables.
pub fn socket_owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let is_loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
    if !cfg!(target_os = "linux") || !is_loopback(local) || !is_loopback(peer) {
        return Ok(None);
    }
    #[cfg(target_os = "linux")]
    if let Ok(described) = netlink::describe(peer, local) {
        // A socket that the kernel does not describe is gone, or in a state that nobody holds.
        return Ok(described.filter(|found| is_held(found.state) && found.inode != 0 && found.uid != OVERFLOW_UID).map(|found| found.uid));
    }
    for _ in 0..TRIES_MAX {
        let mut tables = read_table("/proc/net/tcp")?;
        match read_table("/proc/net/tcp6") {
            Ok(table) => tables.push_str(&table),
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match owner_in_tables(&tables, local, peer) {
            Owner::Absent => {}
            Owner::Unclear => return Ok(None),
            Owner::Uid(uid) => return Ok(Some(uid)),
        }
    }
    Ok(None)
}

/// The uid this process acts as, or `None` where there are none.
pub fn current_uid() -> Option<u32> {
    #[cfg(unix)]
    return Some(rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    return None;
}

fn read_table(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(TABLE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the tables say about one socket.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// No row.
    Absent,
    /// Rows that disagree, or a uid that stands for several users.
    Unclear,
    Uid(u32),
}

/// Finds the peer's row: the one whose local address is `peer` and whose remote one is `local`.
fn owner_in_tables(tables: &str, local: SocketAddr, peer: SocketAddr) -> Owner {
    let wanted = (canonical(peer), canonical(local));
    let mut found = Owner::Absent;
    for row in tables.lines().filter_map(Row::parse) {
        if (row.local, row.remote) != wanted || !row.is_held() {
            continue;
        }
        found = match found {
            Owner::Absent if row.uid != OVERFLOW_UID => Owner::Uid(row.uid),
            Owner::Uid(uid) if uid == row.uid => Owner::Uid(uid),
            _ => Owner::Unclear,
        };
    }
    found
}

/// One line of `/proc/net/tcp` or `tcp6`.
struct Row {
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
    state: u8,
    uid: u32,
    inode: u64,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        // sl local_address rem_address st tx:rx tr:tm->when retrnsmt uid timeout inode …
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = parse_address(fields.next()?)?;
        let remote = parse_address(fields.next()?)?;
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let mut fields = fields.skip(3);
        let uid = fields.next()?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        Some(Self { local, remote, state, uid, inode })
    }

    fn is_held(&self) -> bool {
        is_held(self.state) && self.inode != 0
    }
}

/// Whether a process holds an end in this state: established, or closed in one direction only.
fn is_held(state: u8) -> bool {
    const ESTABLISHED: u8 = 1;
    const FIN_WAIT1: u8 = 4;
    const FIN_WAIT2: u8 = 5;
    const CLOSE_WAIT: u8 = 8;
    matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT)
}

/// Reads `0100007F:1B5F`: an address in words of the machine's byte order, and a port.
fn parse_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address.to_canonical(), port))
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADING: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
        retrnsmt   uid  timeout inode";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("a socket address")
    }

    /// The address words of this machine, so that the tables below hold on any of them.
    fn hex(address: SocketAddr) -> String {
        let bytes = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let words: String = bytes
            .chunks_exact(4)
            .map(|chunk| {
                let word: [u8; 4] = chunk.try_into().expect("four bytes");
                format!("{:08X}", u32::from_ne_bytes(word))
            })
            .collect();
        format!("{words}:{:04X}", address.port())
    }

    fn row(local: &str, remote: &str, state: u8, uid: u32, inode: u64) -> String {
        format!(
            "\n   3: {} {} {state:02X} 00000000:00000000 00:00000000 00000000  \
             {uid:4}        0 {inode} 1 0000000000000000 20 4 30 10 -1",
            hex(addr(local)),
            hex(addr(remote)),
        )
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_a_real_line() {
        let line = "   1: 0100007F:1B5F 0100007F:C350 01 00000000:00000000 00:00000000 \
            00000000  1000        0 23456 1 0000000000000000 20 4 30 10 -1";
        let row = Row::parse(line).expect("a row");
        assert_eq!(row.local, canonical(addr("127.0.0.1:7007")));
        assert_eq!(row.remote, canonical(addr("127.0.0.1:50000")));
        assert_eq!((row.state, row.uid, row.inode), (1, 1000, 23456));
        assert!(Row::parse(HEADING).is_none());
        let mapped = parse_address("0000000000000000FFFF00000100007F:0001");
        assert_eq!(mapped, Some(canonical(addr("127.0.0.1:1"))));
        let v6 = parse_address("00000000000000000000000001000000:0001");
        assert_eq!(v6, Some(canonical(addr("[::1]:1"))));
    }

    #[test]
    fn finds_the_other_end_and_not_our_own() {
        let (ours, theirs) = ("127.0.0.1:7007", "127.0.0.1:50000");
        let table = [
            HEADING.to_owned(),
            row(ours, "0.0.0.0:0", 10, 1, 11),
            row(ours, theirs, 1, 1, 12),
            row(theirs, ours, 1, 1000, 13),
            row("127.0.0.1:50001", ours, 1, 1001, 14),
        ]
        .concat();
        let owner = |peer| owner_in_tables(&table, addr(ours), addr(peer));
        assert_eq!(owner(theirs), Owner::Uid(1000));
        assert_eq!(owner("127.0.0.1:50001"), Owner::Uid(1001));
        assert_eq!(owner("127.0.0.1:50002"), Owner::Absent);
    }

    #[test]
    fn sees_mapped_addresses_as_ipv4() {
        let table = row("[::ffff:127.0.0.1]:50000", "[::ffff:127.0.0.1]:7007", 1, 7, 1);
        for (local, peer) in [("127.0.0.1:7007", "127.0.0.1:50000"), ("[::ffff:127.0.0.1]:7007", "[::ffff:127.0.0.1]:50000")] {
            assert_eq!(owner_in_tables(&table, addr(local), addr(peer)), Owner::Uid(7));
        }
        let table = row("[::1]:50000", "[::1]:7007", 1, 8, 1);
        let owner = owner_in_tables(&table, addr("[::1]:7007"), addr("[::1]:50000"));
        assert_eq!(owner, Owner::Uid(8));
    }

    #[test]
    fn trusts_no_row_without_a_process() {
        let (ours, theirs) = ("127.0.0.1:7007", "127.0.0.1:50000");
        let owner = |table: &str| owner_in_tables(table, addr(ours), addr(theirs));
        // TIME_WAIT and orphans print uid 0 for everybody.
        assert_eq!(owner(&row(theirs, ours, 6, 0, 0)), Owner::Absent);
        assert_eq!(owner(&row(theirs, ours, 4, 0, 0)), Owner::Absent);
        assert_eq!(owner(&row(theirs, ours, 1, 0, 0)), Owner::Absent);
        assert_eq!(owner(&row(theirs, ours, 2, 5, 9)), Owner::Absent, "SYN_SENT");
        assert_eq!(owner(&row(theirs, ours, 5, 5, 9)), Owner::Uid(5), "half closed");
        let reused = row(theirs, ours, 6, 0, 0) + &row(theirs, ours, 1, 5, 9);
        assert_eq!(owner(&reused), Owner::Uid(5));
        let twice = row(theirs, ours, 1, 5, 9) + &row(theirs, ours, 8, 5, 9);
        assert_eq!(owner(&twice), Owner::Uid(5));
        let disagreeing = row(theirs, ours, 1, 5, 9) + &row(theirs, ours, 1, 6, 10);
        assert_eq!(owner(&disagreeing), Owner::Unclear);
        let outside = row(theirs, ours, 1, OVERFLOW_UID, 9);
        assert_eq!(owner(&outside), Owner::Unclear);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn knows_who_we_are() {
        use std::net::{TcpListener, TcpStream};
        for name in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(name) else {
                eprintln!("skipped: no {name}");
                continue;
            };
            let ours = listener.local_addr().expect("an address");
            let client = TcpStream::connect(ours).expect("a connection");
            let theirs = client.local_addr().expect("an address");
            let (server, _) = listener.accept().expect("a connection");
            let owner = socket_owner(ours, theirs).expect("readable tables");
            if current_uid() != Some(OVERFLOW_UID) {
                assert_eq!(owner, current_uid(), "{name}");
            }
            drop((client, server));
        }
    }

    #[test]
    fn asks_only_about_loopback() {
        let owner = |local, peer| socket_owner(addr(local), addr(peer)).expect("no IO");
        assert_eq!(owner("192.0.2.1:7007", "127.0.0.1:1"), None);
        assert_eq!(owner("127.0.0.1:7007", "192.0.2.1:1"), None);
    }

    proptest! {
        #[test]
        fn no_table_panics(table in "([0-9A-F: \n]|\\PC){0,200}") {
            let _ = owner_in_tables(&table, addr("127.0.0.1:1"), addr("127.0.0.1:2"));
        }

        #[test]
        fn finds_any_pair(
            a in any::<[u8; 4]>(),
            b in any::<[u8; 16]>(),
            port in any::<u16>(),
            uid in 0u32..60_000,
        ) {
            for ip in [IpAddr::from(a), IpAddr::from(b)] {
                let (ours, theirs) = (SocketAddr::new(ip, 7007), SocketAddr::new(ip, port));
                let table = row(&theirs.to_string(), &ours.to_string(), 1, uid, 1);
                prop_assert_eq!(owner_in_tables(&table, ours, theirs), Owner::Uid(uid));
            }
        }
    }
}
