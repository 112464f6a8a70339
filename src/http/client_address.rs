//! Whose address a request comes from.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::domain::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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
}
