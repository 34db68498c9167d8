//! How often each client address asks, in memory that never grows: nothing is inserted, so nothing has to be evicted, and
//! a flood from made-up addresses finds no table to fill.
//!
//! An address counts in the cell that a hash points to. Two addresses may share one: then they share its quota. Nobody
//! outside can tell who shares with whom, because the hash has a random key for each process.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};

use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};

use super::rate::{Limiter, Monotonic, Quota, wait};

/// Of 8 bytes each. While n addresses are at their limit, any other one shares its cell with one of them with a probability
/// of n in a million: also who has a whole /48, 65536 networks of the kind that counts as one address, stops less than one
/// in 16 others, and has to send 65536 times the rate for it.
const CELLS: u64 = 1 << 20;

/// What is left of each address' quota.
pub struct Addresses(Limiter<Origin, Cells>);

/// What counts as one address: IPv6 clients have at least 64 bits to themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

struct Cells {
    cells: Box<[InMemoryState]>,
    hash: RandomState,
}

impl Addresses {
    /// All quotas are full.
    pub fn new(quota: Quota) -> Self {
        let cells = (0..CELLS).map(|_| InMemoryState::default()).collect();
        Self(Limiter::new(quota, Cells { cells, hash: RandomState::new() }, Monotonic::start()))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// When it is one too many: whole seconds after which to try again, 1 to 60.
    pub fn take(&self, address: IpAddr) -> Result<(), u32> {
        self.0.check_key(&Origin::of(address)).map_err(|early| wait(&early, self.0.clock()))
    }
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl StateStore for Cells {
    type Key = Origin;

    fn measure_and_replace<T, F, E>(&self, origin: &Origin, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let at = usize::try_from(self.hash.hash_one(origin) % CELLS).unwrap_or_default();
        self.cells[at].measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn addresses(burst: u32) -> Addresses {
        Addresses::new(Quota::per_hour(NonZeroU32::MIN).allow_burst(NonZeroU32::new(burst).unwrap()))
    }

    fn take(addresses: &Addresses, text: &str) -> Result<(), u32> {
        addresses.take(text.parse().unwrap())
    }

    #[test]
    fn each_address_has_a_quota_of_its_own() {
        let addresses = addresses(2);
        for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
            assert_eq!([take(&addresses, address), take(&addresses, address)], [Ok(()), Ok(())], "{address}");
            assert_eq!(take(&addresses, address), Err(60), "{address}");
        }
    }

    #[test]
    fn one_network_of_64_bits_is_one_address_and_a_mapped_one_is_ipv4() {
        let addresses = addresses(1);
        for same in [
            &["2001:db8::1", "2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff"][..],
            &["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"],
        ] {
            assert_eq!(take(&addresses, same[0]), Ok(()));
            assert!(same.iter().all(|address| take(&addresses, address).is_err()), "{same:?}");
        }
        assert_eq!(take(&addresses, "2001:db8:0:1::1"), Ok(()));
        // The first 64 bits of it are those of a mapped address, which is something else.
        assert_eq!(take(&addresses, "::1"), Ok(()));
    }

    #[test]
    fn a_million_addresses_take_no_memory_and_few_share_a_cell() {
        let addresses = addresses(1);
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let let_in =
            (first..first + 1_000_000).filter(|bits| addresses.take(Ipv4Addr::from(*bits).into()).is_ok());
        // As many as a million throws hit of 2^20 cells: 644 thousand, give or take four hundred.
        let let_in = let_in.count();
        assert!((640_000..648_000).contains(&let_in), "{let_in}");
        assert_eq!(size_of_val(&*addresses.0.into_state_store().cells), 8 << 20);
    }
}
