//! Whose address a request comes from.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use actix_web::http::header::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An address, or a network in CIDR notation (`10.0.0.0/8`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// As 128 bits; an IPv4 address stands at its mapped place (`::ffff:a.b.c.d`).
    address: u128,
    prefix: u32,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an IP address or a network such as 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let (bits, offset) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let prefix: u32 = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(NotANetwork);
        }
        Ok(Self { address: as_bits(address), prefix: prefix + offset })
    }
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = self.address ^ as_bits(address);
        self.prefix == 0 || differing.leading_zeros() >= self.prefix
    }
}

fn as_bits(address: IpAddr) -> u128 {
    let wide: Ipv6Addr = match address {
        IpAddr::V4(narrow) => narrow.to_ipv6_mapped(),
        IpAddr::V6(wide) => wide,
    };
    u128::from(wide)
}

/// The peer's address, unless the peer is a trusted proxy: then the rightmost
/// address of `X-Forwarded-For` that is not one. What stands further left was
/// written by whoever sent the request, and is not believed.
pub(super) fn of(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer?;
    if !is_trusted(peer) {
        return Some(peer);
    }
    let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).collect();
    let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    let mut nearest = peer;
    for hop in hops {
        // Something that is no address: nothing beyond it is known.
        let Ok(address) = hop.trim().parse() else { break };
        nearest = address;
        if !is_trusted(address) {
            break;
        }
    }
    Some(nearest)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        of(Some(peer.parse().unwrap()), &headers, &trusted).unwrap().to_string()
    }

    #[test]
    fn a_stranger_is_who_connects() {
        assert_eq!(client("1.2.3.4", &["9.9.9.9"], &[]), "1.2.3.4");
        assert_eq!(client("1.2.3.4", &["9.9.9.9"], &["10.0.0.0/8"]), "1.2.3.4");
    }

    #[test]
    fn a_proxy_speaks_for_its_client_and_no_further() {
        let trusted = &["10.0.0.0/8", "::1"];
        assert_eq!(client("10.0.0.1", &["9.9.9.9, 8.8.8.8"], trusted), "8.8.8.8");
        assert_eq!(client("10.0.0.1", &["9.9.9.9", "8.8.8.8, 10.1.1.1"], trusted), "8.8.8.8");
        assert_eq!(client("::1", &["2001:db8::1"], trusted), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["10.2.2.2"], trusted), "10.2.2.2");
        assert_eq!(client("10.0.0.1", &[], trusted), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["9.9.9.9, nonsense"], trusted), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["\u{e4}"], trusted), "10.0.0.1");
    }

    #[test]
    fn networks_have_edges() {
        let network: Network = "192.168.4.0/22".parse().unwrap();
        let inside = |text: &str| network.contains(text.parse().unwrap());
        assert!(inside("192.168.7.255") && !inside("192.168.8.0") && !inside("192.168.3.255"));
        assert!(inside("::ffff:192.168.5.1"));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Network>().unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!("::/0".parse::<Network>().unwrap().contains("2001:db8::1".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0", "10.0.0.0/", "a/8", "10.0.0.0/-1"] {
            assert_eq!(bad.parse::<Network>(), Err(NotANetwork), "{bad}");
        }
    }
}
