//! Places of those who watch `/v1/events`. It needs no key, so whoever has none gets a share of the places only, and each address a
//! few of them: nobody on the network locks out those who have a key.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::serve::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::pairing::network;

/// At a time, and how many of them may be without a key.
const WATCHERS: usize = 32;
const STRANGERS: usize = 24;

/// Of one address (of IPv6: one network), without a key: the tabs of a browser.
const OF_ONE_ADDRESS: usize = 8;

/// All places.
#[derive(Debug)]
pub(super) struct Watchers {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Default for Watchers {
    fn default() -> Self {
        let places = |number| Arc::new(Semaphore::new(number));
        Self { all: places(WATCHERS), strangers: places(STRANGERS), addresses: Arc::default() }
    }
}

/// One place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _stranger: Option<(OwnedSemaphorePermit, OfAddress)>,
}

impl Watchers {
    /// A place for somebody at that address, who has shown a key that counts or has not.
    ///
    /// # Errors
    /// [`Refusal::Busy`] where there is none for such a one.
    pub(super) fn enter(&self, address: IpAddr, has_key: bool) -> Result<Place, Refusal> {
        let busy = || Refusal::Busy { who: "watchers", retry_after: Duration::from_secs(10) };
        let place = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().map_err(|_| busy());
        let stranger = match has_key {
            true => None,
            false => {
                Some((place(&self.strangers)?, OfAddress::enter(&self.addresses, network(address)).ok_or_else(busy)?))
            }
        };
        Ok(Place { _all: place(&self.all)?, _stranger: stranger })
    }
}

/// One of an address's places.
#[derive(Debug)]
struct OfAddress {
    address: IpAddr,
    all: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl OfAddress {
    fn enter(all: &Arc<Mutex<HashMap<IpAddr, usize>>>, address: IpAddr) -> Option<Self> {
        let mut addresses = lock(all);
        let places = addresses.entry(address).or_default();
        // One that is new has none yet, and is never refused: no entry without a place stays.
        (*places < OF_ONE_ADDRESS).then(|| *places += 1)?;
        Some(Self { address, all: all.clone() })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut addresses = lock(&self.all);
        if let Some(places) = addresses.get_mut(&self.address) {
            *places -= 1;
            if *places == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

fn lock(addresses: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_lock_out_neither_each_other_nor_those_with_a_key() {
        let watchers = Watchers::default();
        let address = |number: u8| IpAddr::from([10, 0, 0, number]);
        let mut places: Vec<Place> = (0..OF_ONE_ADDRESS).map(|_| watchers.enter(address(1), false).unwrap()).collect();
        assert!(watchers.enter(address(1), false).is_err());
        assert!(watchers.enter(address(1), true).is_ok(), "a key is no stranger, wherever it is shown");
        for number in 2.. {
            match watchers.enter(address(number), false) {
                Ok(place) => places.push(place),
                Err(_) => break,
            }
        }
        assert_eq!(places.len(), STRANGERS);
        let known: Vec<Place> = (STRANGERS..WATCHERS).map(|_| watchers.enter(address(9), true).unwrap()).collect();
        assert!(watchers.enter(address(9), true).is_err());
        drop((places, known));
        assert!(lock(&watchers.addresses).is_empty());
        assert!(watchers.enter(address(1), false).is_ok());
    }
}
