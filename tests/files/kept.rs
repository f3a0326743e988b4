use super::{BINARY, bytes, files, put};
use crate::peer::Peer;

/// Pulls the plug at many moments of an upload: what was acknowledged is there, and nothing else is left.
#[test]
fn a_crash_leaves_the_file_or_nothing() {
    let mut peer = Peer::start();
    let mut kept = 0;
    for round in 0..6u64 {
        let path = format!("/file-{round}");
        let whole = bytes(1_000_000, round);
        let mut client = peer.connect();
        client.ask("PUT", &path, &[BINARY, ("Content-Length", "1000000")], "");
        let cut = [0, 65_000, 500_000, 999_999, 1_000_000, 1_000_000][round as usize];
        client.write(&whole[..cut]);
        let acknowledged = round == 5 && client.answer(false).is_some_and(|answer| answer.status == 200);
        peer = Peer::start_in(peer.kill());
        let answer = peer.send("GET", &path, &[], "");
        if acknowledged {
            assert_eq!(answer.status, 200);
        }
        if answer.status == 200 {
            assert!(answer.body == whole, "round {round}");
            kept += 1;
        } else {
            answer.problem(404);
        }
        let whole_files = files(peer.home()).iter().filter(|file| file.extension().is_none()).count();
        // Bytes may be there before the change that names them; never the other way round.
        assert!(whole_files >= kept && whole_files <= kept + 2, "{:?}", files(peer.home()));
        assert!(!files(peer.home()).iter().any(|file| file.components().any(|part| part.as_os_str() == "new")));
    }
    assert!(kept >= 1);
}

#[test]
fn a_file_is_there_after_a_crash_right_behind_its_acknowledgement() {
    let peer = Peer::start();
    put(&peer, "/x", &bytes(2_000_000, 99));
    let peer = Peer::start_in(peer.kill());
    assert!(peer.send("GET", "/x", &[], "").body == bytes(2_000_000, 99));
}
