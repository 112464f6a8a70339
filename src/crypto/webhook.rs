//! The key under which messages to a receiver elsewhere are signed.
//!
//! The scheme is that of Standard Webhooks 1.0.0 (`v1`, symmetric):
//!
//! ```text
//! signature = "v1," ‖ base64(HMAC-SHA256(key, id ‖ "." ‖ timestamp ‖ "." ‖ body))
//! ```
//!
//! with an id that holds no dot, so that the parts are unambiguous. The key is shared with
//! the receiver and opens nothing stored.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::ring::Mac;

/// How a key begins as text.
const PREFIX: &str = "whsec_";
/// Bytes a key may have; as the convention says.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// Shared with one receiver.
pub struct WebhookKey(Mac);

/// Why a text is no such key. It tells nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must hold whsec_ and 24 to 64 bytes in base64; 'openssl rand -base64 32' makes them")]
pub struct WebhookKeyError;

impl WebhookKey {
    /// `whsec_` and base64, with white space around it.
    pub fn parse(text: &str) -> Result<Self, WebhookKeyError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(WebhookKeyError)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| WebhookKeyError)?);
        if !LENGTHS.contains(&bytes.len()) {
            return Err(WebhookKeyError);
        }
        Ok(Self(Mac::of_any_length(&bytes)))
    }

    /// The signature of a message, as its header says it. `id` must hold no dot.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let timestamp = timestamp.to_string();
        let tag = self.0.tag(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
        format!("v1,{}", STANDARD.encode(tag))
    }

    /// What stands for a name where it is not to be told: whoever has the key can make
    /// it of a name, and nobody a name of it. No signed message begins so: ids have no
    /// dot and are not `name`.
    pub fn hide(&self, tenant: &str, name: &str) -> String {
        let parts = [b"name.", tenant.as_bytes(), b"/", name.as_bytes()];
        hex::encode(self.0.tag(&parts))
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the convention's reference libraries.
    #[test]
    fn a_message_is_signed_as_other_programs_sign_it() {
        let key = WebhookKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature =
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for text in
            ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short, &long]
        {
            assert_eq!(WebhookKey::parse(text).err(), Some(WebhookKeyError), "{text}");
        }
        let key = WebhookKey::parse(&format!("whsec_{}", STANDARD.encode([7; 64]))).unwrap();
        assert_eq!(format!("{key:?}"), "WebhookKey(..)");
        assert!(!WebhookKeyError.to_string().contains("MfKQ"));
    }

    #[test]
    fn a_hidden_name_is_another_for_each_tenant_and_key() {
        let key = |byte: u8| {
            WebhookKey::parse(&format!("whsec_{}", STANDARD.encode([byte; 32]))).unwrap()
        };
        let hidden = key(1).hide("acme", "db");
        assert_eq!(hidden, key(1).hide("acme", "db"));
        assert!(hidden.len() == 64 && !hidden.contains("db-"));
        assert_ne!(hidden, key(1).hide("beta", "db"));
        assert_ne!(hidden, key(2).hide("acme", "db"));
    }
}
