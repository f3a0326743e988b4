//! Who is on the other side of a link that others opened, where there is not room for all.

use timebus_identity::PublicKey;

use super::book::Source;
use super::{Act, LinkId, Linked, Node, id_of, proves, speaks_for};
use crate::link::Standing;
use crate::sync::{Remote, Replica, Role};

/// Links of one key whose rights count. A peer has one, and for a moment two; more keep others out in the name of one.
const LINKS_OF_KEY: usize = 4;

impl Node {
    /// Says who a peer is, if that is another than was said last.
    pub(super) fn stand(&mut self, link: LinkId, store: &dyn Replica, acts: &mut Vec<Act>) {
        let Some(linked) = self.links.get(&link).filter(|linked| linked.role == Role::Responder) else { return };
        let Some(remote) = &linked.remote else { return };
        let standing = self.standing(linked, remote, store);
        if standing != linked.standing {
            acts.push(Act::Stand { link, standing });
            if let Some(linked) = self.links.get_mut(&link) {
                linked.standing = standing;
            }
        }
    }

    fn standing(&self, linked: &Linked, remote: &Remote, store: &dyn Replica) -> Standing {
        if speaks_for(remote, &self.config.space, store) {
            return Standing::Own;
        }
        let has = |other: &Linked, key: &PublicKey| other.remote.as_ref().is_some_and(|remote| remote.keys.contains(key));
        let links = |key: &PublicKey| self.links.values().filter(|other| other.role == Role::Responder && has(other, key)).count();
        let is_one = || remote.keys.iter().all(|key| links(key) <= LINKS_OF_KEY);
        if self.is_known(&id_of(remote, linked.node), remote, store) && is_one() {
            Standing::Known
        } else if remote.keys.iter().any(|key| store.is_member(key)) && is_one() {
            Standing::Member
        } else if linked.channels.is_empty() {
            Standing::Nobody
        } else {
            Standing::Reader
        }
    }

    /// Whether the owner knows a peer: he typed its address, gave it an invite or took one of it, or it is a friend's beyond doubt.
    fn is_known(&self, id: &PublicKey, remote: &Remote, store: &dyn Replica) -> bool {
        let is_met = self.book.contacts.get(id).is_some_and(|contact| contact.source >= Source::Typed);
        let is_friend = self.book.petnames.contains_key(&remote.space) || self.book.following.contains_key(&remote.space);
        is_met || is_friend && proves(remote, &remote.space, store)
    }
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::grant::Actions;

    use super::super::{Book, Config, Event, Outbox};
    use super::*;
    use crate::held::Held;
    use crate::sync::frame::Redemption;
    use crate::sync::{Binding, RedeemAnswer};
    use crate::whose::tests::{grant_key, open, tell};

    const NOW_MS: u64 = 1_800_000_000_000;

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }

    /// What is said of whoever opens a link with these keys.
    fn come(node: &mut Node, link: u8, space: PublicKey, keys: &[PublicKey], replica: &dyn Replica) -> Option<Standing> {
        let (binding, nonce, way) = (Binding([0; 32]), [0; 32], String::new());
        let (role, prove) = (Role::Responder, Box::new(|_: &[u8]| Vec::new()));
        node.handle(NOW_MS, Event::LinkUp { link: link.into(), node: Some(key(link)), called: None, role, binding, nonce, prove, way }, replica);
        let remote = Remote { node: key(link), space, keys: keys.to_vec(), name: String::new(), addresses: vec![] };
        let mut acts = Vec::new();
        node.ready(link.into(), remote, NOW_MS, replica, &mut acts);
        said(&acts)
    }

    fn said(acts: &[Act]) -> Option<Standing> {
        acts.iter().rev().find_map(|act| if let Act::Stand { standing, .. } = act { Some(*standing) } else { None })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_somebody_proves_says_who_he_is_and_not_what_he_says() {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        grant_key(&alice, key(100), Actions::READ).await;
        // Bob's space is here, and says which device he has.
        grant_key(&bob, bob.device(), Actions::ALL).await;
        tell(&bob, &bob.space(), &alice).await;
        let replica = Held::now(&alice, [0; 16], NOW_MS);
        let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), true, 8, false);
        let config = Config { node: key(1), space: alice.space(), device: alice.device(), name, is_offline, links_max, has_feeds };
        let mut node = Node::new(config, Book::default(), Outbox::default());
        let mut at = 2..;
        let mut link = || at.next().expect("one more");
        assert_eq!(come(&mut node, link(), alice.space(), &[alice.device()], &replica), Some(Standing::Own));
        assert_eq!(come(&mut node, link(), alice.space(), &[key(101)], &replica), None, "who says that he is the owner");
        assert_eq!(come(&mut node, link(), key(102), &[key(102)], &replica), None);
        assert_eq!(come(&mut node, link(), key(102), &[key(100)], &replica), Some(Standing::Member));
        // A friend is one who proves it.
        node.book.petnames.insert(bob.space(), "bob".to_owned());
        assert_eq!(come(&mut node, link(), bob.space(), &[bob.device()], &replica), Some(Standing::Known));
        assert_eq!(come(&mut node, link(), bob.space(), &[key(103)], &replica), None);
        let friend = key(104);
        node.book.petnames.insert(friend, "carol".to_owned());
        assert_eq!(come(&mut node, link(), friend, &[key(105)], &replica), None, "a space that is not here is anybody's");
        assert_eq!(come(&mut node, link(), friend, &[friend], &replica), Some(Standing::Known));
        // The owner has typed where it is.
        let typed = link();
        node.book.meet(key(typed), Source::Typed, &[], NOW_MS);
        assert_eq!(come(&mut node, typed, key(106), &[key(106)], &replica), Some(Standing::Known));
        // An invite is taken.
        let guest = link();
        assert_eq!(come(&mut node, guest, key(107), &[key(107)], &replica), None);
        let answer = RedeemAnswer { result: Redemption::Granted, space: alice.space(), text: String::new() };
        let acts = node.handle(NOW_MS, Event::RedeemAnswer { link: guest.into(), answer }, &replica);
        assert_eq!(said(&acts), Some(Standing::Known));
    }

    /// One guest comes again and again, each time with another key of a machine.
    #[tokio::test(flavor = "multi_thread")]
    async fn one_key_has_some_links_and_no_more() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let alice = open(home.path());
        grant_key(&alice, key(100), Actions::READ).await;
        let replica = Held::now(&alice, [0; 16], NOW_MS);
        let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), true, 8, false);
        let config = Config { node: key(1), space: alice.space(), device: alice.device(), name, is_offline, links_max, has_feeds };
        let mut node = Node::new(config, Book::default(), Outbox::default());
        let came: Vec<_> = (2..8).map(|link| come(&mut node, link, key(101), &[key(100)], &replica)).collect();
        assert_eq!(came, [[Some(Standing::Member); LINKS_OF_KEY].as_slice(), &[None, None]].concat());
    }
}
