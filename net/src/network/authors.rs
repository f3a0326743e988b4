//! Who it is that writes here or takes an invite, as far as that is known.

use timebus_identity::PublicKey;
use timebus_store::store::Store;

use crate::ledger::{Author, Relation};
use crate::node::book::Book;
use crate::whose::spaces_of;

/// What is known of whoever signs with a key, as it is counted: a guest's other devices are his, and have the room that he has.
/// A key to which something was handed on need not be named by anybody's space, and such keys are made at will. `guest` says of
/// those who took an invite whose devices they say that they are.
pub(super) fn counted_as(store: &Store, book: &Book, guest: impl Fn(&PublicKey) -> Option<PublicKey>, key: &PublicKey) -> Author {
    if guest(key).is_none()
        && spaces_of(store, key, false).is_empty()
        && let Some(first) = crate::devices::first(store, key)
    {
        return author_of(store, book, guest(&first), &first);
    }
    author_of(store, book, guest(key), key)
}

/// What is known of whoever signs with a key. `guest` is whose device it is by its own word, if it took an invite: that counts
/// only of somebody who is not known here, since of others it shows in their spaces.
pub(super) fn author_of(store: &Store, book: &Book, guest: Option<PublicKey>, key: &PublicKey) -> Author {
    if store.is_own_device(key) {
        return Author { person: store.space(), relation: Relation::Own };
    }
    let is_friend = |who: &PublicKey| is_friend(book, who);
    let spaces = spaces_of(store, key, false);
    let of_space = spaces.iter().copied().find(is_friend).or(spaces.first().copied());
    let said = guest.filter(|space| store.rights(space).is_none() && !is_friend(space));
    let person = of_space.or(said).unwrap_or(*key);
    let relation = if is_friend(&person) {
        Relation::Friend
    } else if guest.is_some() {
        Relation::Invited
    } else {
        Relation::Stranger
    };
    Author { person, relation }
}

/// Whose device it is that takes an invite, by what it says: of whom something is known nobody says just so that he is he.
pub(super) fn guest_of(store: &Store, book: &Book, device: &PublicKey, said: PublicKey) -> PublicKey {
    let is_known = is_friend(book, &said) || store.rights(&said).is_some();
    if is_known && !spaces_of(store, device, false).contains(&said) { *device } else { said }
}

fn is_friend(book: &Book, who: &PublicKey) -> bool {
    book.petnames.contains_key(who) || book.following.contains_key(who)
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::grant::Actions;
    use timebus_store::store::{Config, lock_home};

    use super::*;
    use crate::whose::tests::{grant_key, open, tell};

    /// A guest says that he is somebody whom the owner knows, to have his room.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_is_nobody_who_is_known_by_his_own_word() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
        let [guest, friend, unknown] = [1, 2, 3].map(|n| SecretKey::from_seed([n; 32]).public());
        let mut book = Book::default();
        book.petnames.insert(friend, "bob".to_owned());
        let author = |said| author_of(&store, &book, said, &guest);
        for said in [friend, store.space()] {
            assert_eq!(author(Some(said)), Author { person: guest, relation: Relation::Invited });
        }
        // Who is not known here is whose device he says that he is, if he is the first who says so.
        assert_eq!(author(Some(unknown)), Author { person: unknown, relation: Relation::Invited });
        assert_eq!(author(None), Author { person: guest, relation: Relation::Stranger });
        let whose = [friend, store.space(), unknown].map(|said| guest_of(&store, &book, &guest, said));
        assert_eq!(whose, [guest, guest, unknown], "and that is what is written down of him");
        assert_eq!(guest_of(&store, &book, &store.device(), store.space()), store.space());
        assert_eq!(author_of(&store, &book, None, &friend), Author { person: friend, relation: Relation::Friend });
    }

    /// Bob, whose space is held here, hands on what he may to keys that he made.
    #[tokio::test(flavor = "multi_thread")]
    async fn keys_to_which_a_guest_hands_on_what_he_may_have_his_room() {
        use timebus_store::grant::{Audience, Grant, Scope, Timelines};
        use timebus_store::op::Op;
        use timebus_store::writer::Statement;

        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let made = SecretKey::from_seed([66; 32]).public();
        let grant = |key: PublicKey, depth: u8, label: &str| {
            let (audience, scope, timelines) = (Audience::Key(key), Scope::everything(), Timelines::Main);
            let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | if depth > 0 { Actions::GRANT.0 } else { 0 });
            let (bytes_max, change_bytes_max, not_after_ms) = (0, 0, 0);
            Op::Grant(Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label: label.into() })
        };
        let given = alice.state(Statement::Ops(vec![grant(bob.device(), 1, "")]), 1).await.expect("granted");
        tell(&alice, &alice.space(), &bob).await;
        let there = bob.held(&alice.space()).expect("held");
        let handed = Statement::Ops(vec![grant(made, 0, &format!("device:{}", &made.to_string()[..16]))]);
        bob.state_as(there, given[0], handed, 1).await.expect("handed on");
        tell(&bob, &alice.space(), &alice).await;
        tell(&bob, &bob.space(), &alice).await;
        let guest = |key: &PublicKey| (*key == bob.device()).then(|| bob.space());
        let bobs = counted_as(&alice, &Book::default(), guest, &bob.device());
        assert_eq!(bobs, Author { person: bob.device(), relation: Relation::Invited });
        assert_eq!(counted_as(&alice, &Book::default(), guest, &made), bobs);
    }

    /// Bob hands something on to Carol, of whom nothing is known here but what Alice granted to her. Her room stays hers.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_is_counted_as_a_guest_who_gives_him_something() {
        use timebus_store::grant::{Audience, Grant, Scope, Timelines};
        use timebus_store::op::Op;
        use timebus_store::writer::Statement;

        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let [carol, hers] = [66, 67].map(|n| SecretKey::from_seed([n; 32]).public());
        let grant = |key: PublicKey, depth: u8| {
            let (audience, scope, timelines) = (Audience::Key(key), Scope::everything(), Timelines::Main);
            let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | if depth > 0 { Actions::GRANT.0 } else { 0 });
            let (bytes_max, change_bytes_max, not_after_ms) = (0, 0, 0);
            let label = format!("device:{}", &key.to_string()[..16]).into();
            Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label }
        };
        let plain = |key: PublicKey, depth: u8| Op::Grant(Grant { label: "".into(), ..grant(key, depth) });
        let given = alice.state(Statement::Ops(vec![plain(bob.device(), 1), plain(carol, 0)]), 1).await.expect("granted");
        tell(&alice, &alice.space(), &bob).await;
        let there = bob.held(&alice.space()).expect("held");
        for key in [carol, hers] {
            bob.state_as(there, given[0], Statement::Ops(vec![Op::Grant(grant(key, 0))]), 1).await.expect("handed on");
        }
        tell(&bob, &alice.space(), &alice).await;
        let counted = |key: &PublicKey| counted_as(&alice, &Book::default(), |_| None, key).person;
        assert_eq!(counted(&carol), carol);
        assert_eq!(counted(&hers), bob.device(), "who has nothing else is his");
        // Nor when her key has one more name here, so that the order is another one.
        alice.state(Statement::Ops(vec![plain(hers, 0)]), 1).await.expect("granted");
        assert_eq!(counted(&hers), hers);
    }

    /// A device that wrote nothing yet may be of each who says so. It is that of a friend, if one of them is.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_device_is_a_friends_if_a_friend_says_so() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, one, other] = homes.each_ref().map(|home| open(home.path()));
        let device = SecretKey::from_seed([1; 32]).public();
        for owner in [&one, &other] {
            grant_key(owner, device, Actions::ALL).await;
            tell(owner, &owner.space(), &alice).await;
        }
        for friend in [one.space(), other.space()] {
            let mut book = Book::default();
            book.petnames.insert(friend, "bob".to_owned());
            assert_eq!(author_of(&alice, &book, None, &device), Author { person: friend, relation: Relation::Friend });
        }
    }
}
