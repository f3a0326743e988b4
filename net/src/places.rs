//! Places for those who come: who gets one when there are few, and who has to leave for it.
//!
//! Anybody may come, and who comes has proven nothing yet. So a stranger never keeps anybody out: who comes when all
//! places are taken gets that of somebody of whom nothing is known either, from where most of them are. Who is known by
//! what he proves then gets the place of whoever is known less.
//!
//! Deliberately not here: what is proven, and what is done with who has to leave.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::peer::lock;

/// For so many places there is one more for who comes and has not said yet who he is.
const SPARE_PART: usize = 16;
/// What says in an IPv6 address whose it is.
const NETWORK_BITS: u128 = !0 << 64;

/// What somebody is who has a place. A later one gets the place of an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing is known of him, and he has nothing from here. He leaves for whoever comes.
    #[default]
    Nobody,
    /// A stranger who reads what anybody may.
    Reader,
    /// Something is granted to him in a space that is here.
    Member,
    /// The owner knows him, or he took an invite of the owner's.
    Known,
    /// The owner, with another device. There is always a place for him.
    Own,
}

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// For all who are more than [`Standing::Nobody`], but the owner.
    pub(crate) max: usize,
    /// How many more may come until it is known who they are.
    pub(crate) spare: usize,
    /// For all [`Standing::Reader`]s.
    pub(crate) readers_max: usize,
    /// For all strangers from one address, but those of this machine.
    pub(crate) strangers_of_one_max: usize,
}

/// Places, and who has them. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

/// One place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    places: Places,
    out: Arc<Notify>,
}

#[derive(Debug)]
struct Shared {
    room: Room,
    inner: Mutex<Inner>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// In the order in which they came.
    taken: BTreeMap<u64, Taken>,
    /// How many strangers are from where.
    strangers: HashMap<Option<IpAddr>, usize>,
    /// How many there are of each standing.
    counts: [usize; 5],
}

#[derive(Debug)]
struct Taken {
    from: Option<IpAddr>,
    standing: Standing,
    /// What is being done for him.
    busy: Arc<AtomicU64>,
    out: Arc<Notify>,
}

impl Room {
    /// Room for so many, and for some more until it is known who they are.
    pub(crate) fn of(max: usize) -> Self {
        Self { max, spare: max.div_ceil(SPARE_PART), readers_max: max, strangers_of_one_max: usize::MAX }
    }
}

impl Places {
    pub(crate) fn new(room: Room) -> Self {
        Self(Arc::new(Shared { room, inner: Mutex::default(), left: Notify::new() }))
    }

    /// A place for somebody who comes from an address, or over some relay, and for whom something is being done as long as
    /// `busy` is not 0. `None` when as many strangers as may be from there are all being served.
    pub(crate) fn come(&self, from: Option<IpAddr>, busy: &Arc<AtomicU64>) -> Option<Place> {
        let Room { max, spare, strangers_of_one_max, .. } = self.0.room;
        let from = from.map(neighbourhood);
        let mut inner = lock(&self.0.inner);
        let is_bounded = from.is_some_and(|from| !from.is_loopback());
        if is_bounded && inner.strangers.get(&from).is_some_and(|count| *count >= strangers_of_one_max) {
            inner.put_out(|taken| taken.standing == Standing::Nobody && taken.from == from)?;
        } else if inner.count() >= max + spare {
            inner.put_out(|taken| taken.standing == Standing::Nobody)?;
        }
        Some(self.take(&mut inner, from, busy, Standing::Nobody))
    }

    /// A place for the owner.
    pub(crate) fn owner(&self, busy: &Arc<AtomicU64>) -> Place {
        self.take(&mut lock(&self.0.inner), None, busy, Standing::Own)
    }

    /// How many places are taken, but for those of the owner.
    pub(crate) fn taken(&self) -> usize {
        lock(&self.0.inner).count()
    }

    /// Whether so many places are taken that it begins to matter who comes.
    pub(crate) fn is_crowded(&self) -> bool {
        self.taken() >= self.0.room.max / 2
    }

    /// Waits until all have left.
    pub(crate) async fn until_empty(&self) {
        loop {
            let left = self.0.left.notified();
            if lock(&self.0.inner).taken.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn take(&self, inner: &mut Inner, from: Option<IpAddr>, busy: &Arc<AtomicU64>, standing: Standing) -> Place {
        let (id, out) = (inner.next, Arc::new(Notify::new()));
        inner.next += 1;
        inner.add(from, standing);
        inner.taken.insert(id, Taken { from, standing, busy: Arc::clone(busy), out: Arc::clone(&out) });
        Place { id, places: self.clone(), out }
    }
}

impl Place {
    /// Says what whoever has the place is, as far as is known now. `false` if he cannot stay as that, or has no place any more.
    pub(crate) fn stand(&self, standing: Standing) -> bool {
        let Room { max, readers_max, .. } = self.places.0.room;
        let mut inner = lock(&self.places.0.inner);
        let Some((before, from)) = inner.taken.get(&self.id).map(|taken| (taken.standing, taken.from)) else { return false };
        if before == Standing::Nobody && standing > before && standing < Standing::Own {
            let settled = inner.count() - inner.counts[Standing::Nobody as usize];
            let is_room = settled < max || inner.put_out(|taken| taken.standing > Standing::Nobody && taken.standing < standing).is_some();
            if !is_room || standing == Standing::Reader && inner.counts[Standing::Reader as usize] >= readers_max {
                return false;
            }
        }
        inner.sub(from, before);
        inner.add(from, standing);
        if let Some(taken) = inner.taken.get_mut(&self.id) {
            taken.standing = standing;
        }
        true
    }

    /// Waits until somebody else gets this place. One alone may wait.
    pub(crate) async fn put_out(&self) {
        self.out.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.0.inner).remove(self.id);
        self.places.0.left.notify_waiters();
    }
}

impl Inner {
    /// How many there are, but for the owner.
    fn count(&self) -> usize {
        self.counts[..Standing::Own as usize].iter().sum()
    }

    fn add(&mut self, from: Option<IpAddr>, standing: Standing) {
        self.counts[standing as usize] += 1;
        if is_stranger(standing) {
            *self.strangers.entry(from).or_default() += 1;
        }
    }

    fn sub(&mut self, from: Option<IpAddr>, standing: Standing) {
        self.counts[standing as usize] -= 1;
        if is_stranger(standing)
            && let Some(count) = self.strangers.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.strangers.remove(&from);
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Taken> {
        let taken = self.taken.remove(&id)?;
        self.sub(taken.from, taken.standing);
        Some(taken)
    }

    /// Frees the place of one of those: of who is known least, from where most strangers are, who is not being served, and has
    /// been there longest.
    fn put_out(&mut self, is_one: impl Fn(&Taken) -> bool) -> Option<()> {
        let from = |taken: &Taken| if is_stranger(taken.standing) { self.strangers.get(&taken.from).copied().unwrap_or(0) } else { 0 };
        let order = |(id, taken): &(&u64, &Taken)| (taken.standing, Reverse(from(taken)), taken.busy.load(Ordering::Relaxed) > 0, **id);
        let id = *self.taken.iter().filter(|(_, taken)| is_one(taken)).min_by_key(order)?.0;
        self.remove(id)?.out.notify_one();
        Some(())
    }
}

fn is_stranger(standing: Standing) -> bool {
    standing <= Standing::Reader
}

/// The address, or for IPv6 the network that one customer of a provider has: he may have any of its addresses.
fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK_BITS)),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    fn idle() -> Arc<AtomicU64> {
        Arc::default()
    }

    /// Which of these have to leave; whoever is asked is told once.
    fn out(places: &[&Place]) -> Vec<bool> {
        use futures_util::FutureExt as _;
        places.iter().map(|place| place.put_out().now_or_never().is_some()).collect()
    }

    #[test]
    fn strangers_keep_nobody_out() {
        let places = Places::new(Room::of(16));
        // All from one address, and more than there is room for: they put out each other.
        let crowd: Vec<Place> = (0..40).map(|_| places.come(address(1), &idle()).expect("a place")).collect();
        assert_eq!(places.taken(), 17);
        assert_eq!(out(&crowd.iter().collect::<Vec<_>>()).iter().filter(|out| **out).count(), 23);
        // Who comes from elsewhere stays while they go on.
        let other = places.come(address(2), &idle()).expect("a place");
        let more: Vec<Place> = (0..40).map(|_| places.come(address(1), &idle()).expect("a place")).collect();
        assert_eq!(out(&[&other]), [false]);
        // Of one address, who came first goes first.
        assert_eq!(out(&[&more[0], &more[39]]), [true, false]);
        // Who is known stays although he comes from where they are.
        let friend = places.come(address(1), &idle()).expect("a place");
        assert!(friend.stand(Standing::Known));
        let _more: Vec<Place> = (0..40).map(|_| places.come(address(1), &idle()).expect("a place")).collect();
        assert_eq!(out(&[&friend]), [false]);
        assert_eq!(places.taken(), 17);
    }

    #[test]
    fn who_is_known_gets_the_place_of_who_is_known_less() {
        let places = Places::new(Room::of(4));
        let come = |standing: Standing| {
            let place = places.come(address(1), &idle()).expect("a place");
            let stays = place.stand(standing);
            (place, stays)
        };
        let readers: Vec<Place> = (0..4).map(|_| come(Standing::Reader)).map(|(place, stays)| stays.then_some(place).expect("room")).collect();
        // Strangers do not take each other's places: who reads goes on reading.
        let (fifth, stays) = come(Standing::Reader);
        assert!(!stays && fifth.stand(Standing::Nobody));
        drop(fifth);
        let members: Vec<Place> = (0..4).map(|_| come(Standing::Member)).map(|(place, stays)| stays.then_some(place).expect("room")).collect();
        assert_eq!(out(&readers.iter().collect::<Vec<_>>()), [true; 4]);
        assert!(!come(Standing::Member).1);
        let known: Vec<Place> = (0..4).map(|_| come(Standing::Known)).map(|(place, stays)| stays.then_some(place).expect("room")).collect();
        assert_eq!(out(&members.iter().collect::<Vec<_>>()), [true; 4]);
        assert!(!come(Standing::Known).1);
        // For the owner there is always a place, and he takes that of nobody.
        let own: Vec<Place> = (0..4).map(|_| come(Standing::Own)).map(|(place, stays)| stays.then_some(place).expect("room")).collect();
        assert_eq!((places.taken(), out(&known.iter().collect::<Vec<_>>())), (4, vec![false; 4]));
        drop((readers, members, known, own));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn strangers_from_one_address_have_some_places_and_no_more() {
        let places = Places::new(Room { readers_max: 6, strangers_of_one_max: 4, ..Room::of(8) });
        let busy = Arc::new(AtomicU64::new(1));
        let served = places.come(address(1), &busy).expect("a place");
        let crowd: Vec<Place> = (0..4).map(|_| places.come(address(1), &idle()).expect("a place")).collect();
        assert_eq!(places.taken(), 4);
        // Who is being served leaves last.
        assert_eq!(out(&[&served, &crowd[0], &crowd[1], &crowd[2], &crowd[3]]), [false, true, false, false, false]);
        assert!([&served, &crowd[1], &crowd[2], &crowd[3]].iter().all(|place| place.stand(Standing::Reader)));
        assert!(places.come(address(1), &idle()).is_none(), "they all read");
        // Programs of this machine may be the owner's, and what stands before the peer for many.
        let near: Vec<Place> = (0..5).map(|_| places.come(Some(IpAddr::from([127, 0, 0, 1])), &idle()).expect("a place")).collect();
        assert_eq!(near.iter().filter(|place| place.stand(Standing::Reader)).count(), 2, "six readers in all");
        let owner = places.owner(&idle());
        assert_eq!(places.taken(), 9);
        drop(owner);
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let of = |text: &str| neighbourhood(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::2"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert!(of("::1").is_loopback() && of("::ffff:127.0.0.1").is_loopback());
    }
}
