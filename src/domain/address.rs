//! Addresses of other servers, as an operator or such a server names them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An absolute address (RFC 3986) with `https`, or with `http` on loopback: what
/// is fetched from it decides who gets in, and plain HTTP off the machine would
/// let the network decide.
///
/// It is kept as it was written. The alphabet is narrow enough for every reader to
/// take the same host from it, and for it to stand in a header as it is: no user,
/// no fragment, no quotes, commas, semicolons or backslashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebAddress(Box<str>);

/// Why a text is not such an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebAddressError {
    #[error("must be an absolute address, such as https://login.example.org")]
    Shape,
    #[error("must begin with https://; plain http is for this machine's loopback alone")]
    Plain,
}

const ENCRYPTED: &str = "https://";
const PLAIN: &str = "http://";

impl WebAddress {
    pub const MAX_LEN: usize = 2_048;

    pub fn parse(text: &str) -> Result<Self, WebAddressError> {
        let plain = text.starts_with(PLAIN);
        let rest = text.strip_prefix(ENCRYPTED).or_else(|| text.strip_prefix(PLAIN));
        let rest = rest.filter(|_| text.len() <= Self::MAX_LEN).ok_or(WebAddressError::Shape)?;
        let (authority, path) = split_authority(rest);
        let host = host(authority).ok_or(WebAddressError::Shape)?;
        if !path.bytes().all(may_follow_authority) {
            return Err(WebAddressError::Shape);
        }
        if plain && !is_loopback(host) {
            return Err(WebAddressError::Plain);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what travels is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.starts_with(ENCRYPTED)
    }

    /// Whether it is on this machine, whatever a resolver says.
    pub fn is_loopback(&self) -> bool {
        let rest = self.0.strip_prefix(ENCRYPTED).or_else(|| self.0.strip_prefix(PLAIN));
        host(split_authority(rest.unwrap_or_default()).0).is_some_and(is_loopback)
    }

    pub fn has_query(&self) -> bool {
        self.0.contains('?')
    }

    /// Whether it is a host and a port, and nothing below.
    pub fn is_origin(&self) -> bool {
        let rest = self.0.strip_prefix(ENCRYPTED).or_else(|| self.0.strip_prefix(PLAIN));
        matches!(split_authority(rest.unwrap_or_default()).1, "" | "/")
    }

    /// Without its query.
    pub fn before_query(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }
}

fn split_authority(rest: &str) -> (&str, &str) {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    rest.split_at_checked(end).unwrap_or((rest, ""))
}

/// The host of `host[:port]`.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    };
    let named = |host: &str| {
        let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        !host.is_empty() && host.len() <= 253 && host.bytes().all(in_name)
    };
    let is_host = bracketed(host).map_or_else(|| named(host), |ip| ip.parse::<Ipv6Addr>().is_ok());
    (is_host && port.is_none_or(is_port)).then_some(host)
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// Of path and query: what RFC 3986 has, without what means something in a header
/// or in a policy.
fn may_follow_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/%?:@!$&()*+=".contains(&byte)
}

/// Names that a resolver could lead elsewhere are none, but for `localhost`
/// (RFC 6761, 6.3).
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || bracketed(host)
            .and_then(|ip| ip.parse::<Ipv6Addr>().ok())
            .is_some_and(|ip| ip.is_loopback())
}

impl FromStr for WebAddress {
    type Err = WebAddressError;

    fn from_str(text: &str) -> Result<Self, WebAddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_https_address_is_kept_as_it_was_written() {
        for text in [
            "https://login.example.org",
            "https://login.example.org/",
            "https://login.example.org:8443/realms/main",
            "https://login.example.org/keys?policy=b2c_1&v=2",
            "https://[2001:db8::1]:443/a%20b",
            "https://LOGIN.example.org/~a/@b",
        ] {
            let address = WebAddress::parse(text).unwrap();
            assert_eq!(address.as_str(), text);
            assert!(address.is_encrypted());
            assert_eq!(address.has_query(), text.contains('?'));
        }
        let address = WebAddress::parse("https://a.example/b?c=d").unwrap();
        assert_eq!(address.before_query(), "https://a.example/b");
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for text in [
            "http://127.0.0.1:1/a",
            "http://127.9.9.9",
            "http://[::1]:80/",
            "http://localhost:3000",
            "http://LOCALHOST",
        ] {
            assert!(!WebAddress::parse(text).unwrap().is_encrypted(), "{text}");
        }
        for text in [
            "http://login.example.org",
            "http://10.0.0.1",
            "http://[2001:db8::1]",
            "http://127.1",
            "http://0x7f.0.0.1",
            "http://2130706433",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org",
        ] {
            assert_eq!(WebAddress::parse(text), Err(WebAddressError::Plain), "{text}");
        }
    }

    #[test]
    fn what_readers_could_take_for_different_hosts_is_refused() {
        for text in [
            "",
            "login.example.org",
            "ftp://login.example.org",
            "HTTPS://login.example.org",
            "https:/login.example.org",
            "https://",
            "https:///path",
            "https://user@login.example.org",
            "https://user:password@login.example.org",
            "http://127.0.0.1@evil.example",
            "http://127.0.0.1\\@evil.example/",
            "https://a.example\\b",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:",
            "https://a.example:+1",
            "https://a.example/#part",
            "https://a.example/;x",
            "https://a.example/,x",
            "https://a.example/'x'",
            "https://a.example/\"x\"",
            "https://a.example/a b",
            "https://a.example/\n",
            "https://ä.example",
            "https://[::1",
            "https://::1/",
            "https://[::1]x",
        ] {
            assert_eq!(WebAddress::parse(text), Err(WebAddressError::Shape), "{text}");
        }
        let long = format!("https://a.example/{}", "a".repeat(WebAddress::MAX_LEN));
        assert_eq!(WebAddress::parse(&long), Err(WebAddressError::Shape));
    }
}
