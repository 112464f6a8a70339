//! With which issuers people can sign in at Swagger UI, and what the document and
//! the page are because of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::domain::{Scope, WebAddress};

use super::openapi::Docs;

/// One issuer's way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub authorization: WebAddress,
    /// Without it there is no authorization code to redeem.
    pub token: Option<WebAddress>,
    pub client_id: Option<String>,
    /// The issuer's words, and the scope that each means.
    pub scopes: BTreeMap<String, Scope>,
}

/// What is offered now, by the issuers' places in the configuration. The page is
/// made when that changes, and not for each who looks at it.
#[derive(Default)]
pub(super) struct SignIn {
    offers: Mutex<BTreeMap<usize, Offer>>,
    docs: RwLock<Arc<Docs>>,
}

impl SignIn {
    pub fn offer(&self, place: usize, offer: Offer) {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        if offers.get(&place) == Some(&offer) {
            return;
        }
        offers.insert(place, offer);
        let docs = Arc::new(Docs::with(&offers));
        *self.docs.write().unwrap_or_else(PoisonError::into_inner) = docs;
    }

    pub fn docs(&self) -> Arc<Docs> {
        Arc::clone(&self.docs.read().unwrap_or_else(PoisonError::into_inner))
    }
}
