//! What our HTTP clients share, whomever they ask: which proxy of the environment they go
//! through, and what a failure is about. They differ in all else.

use std::error::Error;

use hyper_util::client::proxy::matcher::Matcher;

use crate::domain::WebAddress;

/// The one that the HTTP library finds in the environment (`HTTPS_PROXY`, `ALL_PROXY`,
/// `NO_PROXY`), without user and password. None for this machine's loopback, where a client
/// must be told to use none: a proxy would ask its own.
pub fn proxy_to(address: &WebAddress) -> Option<String> {
    if address.is_loopback() {
        return None;
    }
    let found = Matcher::from_system().intercept(&address.as_str().parse().ok()?)?;
    let (scheme, host) = (found.uri().scheme_str()?, found.uri().host()?);
    let port = found.uri().port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

/// Whether it is about the certificate that the server showed, and so about no proxy. An I/O
/// error holds another error beside the chain of causes, which may be an I/O error again.
pub fn distrusts(error: &(dyn Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    held.is_some_and(|held| distrusts(held)) || error.source().is_some_and(distrusts)
}
