//! Who acts, for what is recorded of an act.
//!
//! A permit carries it from the principal that minted it, so who was authorized and
//! who is recorded cannot differ.

use std::net::IpAddr;
use std::sync::Arc;

use super::{CredentialId, Identity};

/// Who acts, and at whose request from where.
#[derive(Debug, Clone)]
pub struct Caller {
    pub actor: Actor,
    pub origin: Origin,
}

#[derive(Debug, Clone)]
pub enum Actor {
    /// Whoever presented a credential.
    Holder(Arc<Holder>),
    /// An operator at this machine, by the user that the kernel knows.
    Local { uid: Option<u32> },
    /// The server, by itself.
    Server,
    /// Whoever presented what is no credential of ours.
    Stranger,
}

/// What a verified credential says of who presents it.
#[derive(Debug)]
pub struct Holder {
    pub id: CredentialId,
    pub identity: Identity,
}

/// The request by which somebody acts. It authorizes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its id, for whoever looks for it in logs.
    pub request: Option<Box<str>>,
    pub address: Option<IpAddr>,
}

impl Caller {
    pub fn local(uid: Option<u32>) -> Self {
        Self::of(Actor::Local { uid })
    }

    pub fn server() -> Self {
        Self::of(Actor::Server)
    }

    pub fn stranger(address: Option<IpAddr>) -> Self {
        Self { actor: Actor::Stranger, origin: Origin { request: None, address } }
    }

    pub(super) fn holder(holder: &Arc<Holder>) -> Self {
        Self::of(Actor::Holder(Arc::clone(holder)))
    }

    fn of(actor: Actor) -> Self {
        Self { actor, origin: Origin::default() }
    }
}
