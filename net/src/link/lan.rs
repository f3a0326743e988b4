//! Finding peers on the local network by multicast DNS.
//!
//! What is heard there anybody can have said. It is taken for a hint where a peer might be, never for a relay: a
//! neighbour shall not choose which servers we contact.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use iroh::address_lookup::{AddrFilter, AddressLookup, EndpointData, EndpointInfo, Error, Item};
use iroh::{EndpointId, TransportAddr};
use iroh_mdns_address_lookup::MdnsAddressLookup;

/// Addresses believed of one peer.
const ADDRESSES_MAX: usize = 16;

/// Says where this peer is, and looks for others.
#[derive(Clone, Debug)]
pub(super) struct LanLookup(MdnsAddressLookup);

impl LanLookup {
    /// Starts for peers that use the same service name.
    ///
    /// # Errors
    ///
    /// When there is no network that takes multicast.
    pub(super) fn start(service: &str, id: EndpointId) -> Result<Self, String> {
        let mdns = MdnsAddressLookup::builder().service_name(service).addr_filter(AddrFilter::ip_only()).build(id);
        mdns.map(Self).map_err(|error| in_words(&format!("{error:#}")))
    }
}

/// Why the local network cannot be searched, for people. What the system says of a machine without any says little to them.
pub(super) fn in_words(problem: &str) -> String {
    let lower = problem.to_lowercase();
    let is_without = ["unreachable", "no such device", "not available", "no interface", "os error"].iter().any(|part| lower.contains(part));
    match is_without {
        true => "this machine is connected to no network, or to one on which machines cannot call out to all others".to_owned(),
        false => problem.to_owned(),
    }
}

impl LanLookup {
    /// Where a peer says on the local network that it is, if it does within the time.
    pub(super) async fn find(&self, id: EndpointId, patience: Duration) -> Vec<SocketAddr> {
        let Some(mut found) = self.resolve(id) else { return Vec::new() };
        match tokio::time::timeout(patience, found.next()).await {
            Ok(Some(Ok(item))) => item.endpoint_info().ip_addrs().copied().collect(),
            _ => Vec::new(),
        }
    }
}

impl AddressLookup for LanLookup {
    fn publish(&self, data: &EndpointData) {
        self.0.publish(data);
    }

    fn resolve(&self, id: EndpointId) -> Option<BoxStream<'static, Result<Item, Error>>> {
        let found = self.0.resolve(id)?;
        Some(Box::pin(found.map(|item| item.map(|item| only_sockets(&item)))))
    }
}

/// What was found, without relays.
fn only_sockets(item: &Item) -> Item {
    let sockets = item.endpoint_info().ip_addrs().take(ADDRESSES_MAX).map(|address| TransportAddr::Ip(*address));
    let data = EndpointData::from_iter(sockets);
    Item::new(EndpointInfo::from_parts(item.endpoint_id(), data), item.provenance(), item.last_updated())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believes_no_neighbour_about_relays() {
        let id = iroh::SecretKey::from_bytes(&[7; 32]).public();
        let mut data = EndpointData::from_iter([TransportAddr::Ip(([192, 168, 1, 8], 7007).into())]);
        data.add_relay_url("https://evil.example".parse().expect("a URL"));
        let item = only_sockets(&Item::new(EndpointInfo::from_parts(id, data), "mdns", None));
        let addresses: Vec<_> = item.endpoint_info().addrs().cloned().collect();
        assert_eq!(addresses, [TransportAddr::Ip(([192, 168, 1, 8], 7007).into())]);
    }

    #[test]
    fn a_machine_without_a_network_is_told_of_in_plain_words() {
        for raw in ["Network is unreachable (os error 101)", "could not join: No such device (os error 19)"] {
            let words = in_words(raw);
            assert!(words.contains("connected to no network") && !words.contains("os error"), "{words}");
        }
        assert_eq!(in_words("the name is too long"), "the name is too long");
    }
}
