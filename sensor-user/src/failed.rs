//! Addresses that the proxy could not connect to.

use std::net::{IpAddr, SocketAddr};

use gnomon_sensor_abi::{AF_INET, AF_INET6, FailedKey};

/// An address that could not be connected to, with the user and namespace. What fails for one user may be open to another, as
/// filters may go by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failed {
    /// The cookie of the program's network namespace, as in [`crate::Owner::netns`].
    pub netns: u64,
    /// The program's original destination.
    pub address: SocketAddr,
    /// The program's user.
    pub uid: u32,
}

impl Failed {
    pub(crate) fn raw(self) -> FailedKey {
        let mut words = [0; 4];
        let family = match self.address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                words[0] = u32::from_ne_bytes(ip.octets());
                AF_INET
            }
            IpAddr::V6(ip) => {
                for (word, octets) in words.iter_mut().zip(ip.octets().as_chunks::<4>().0) {
                    *word = u32::from_ne_bytes(*octets);
                }
                AF_INET6
            }
        };
        FailedKey { netns: self.netns, words, port: self.address.port(), family, uid: self.uid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_spelled_as_the_kernel_half_spells_it_and_a_mapped_one_is_ipv4() {
        let raw = |address: &str| Failed { netns: 7, address: address.parse().unwrap(), uid: 1000 }.raw();
        let v4 = raw("127.0.0.2:443");
        assert_eq!((v4.words, v4.port, v4.family), ([0x7f00_0002_u32.to_be(), 0, 0, 0], 443, AF_INET));
        assert_eq!(raw("[::ffff:127.0.0.2]:443"), v4);
        let v6 = raw("[2001:db8::1]:443");
        assert_eq!((v6.words, v6.family), ([0x2001_0db8_u32.to_be(), 0, 0, 1_u32.to_be()], AF_INET6));
    }
}
