//! What of a server can be changed while it serves.

use std::time::Duration;

use crate::domain::Network;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// For a whole body, counted from when its request was accepted.
    pub body_timeout: Duration,
    /// Who may say in `X-Forwarded-For` for whom it speaks.
    pub trusted_proxies: Vec<Network>,
}
