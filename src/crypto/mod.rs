//! Keys, and the one form in which anything is stored.
//!
//! ```text
//! KEK ─ HKDF "wrap"   ─► wraps each tenant's DEKs and anchor keys
//!     ─ HKDF "check"  ─► proves the KEK before it is used
//!     ─ HKDF "system" ─► the keyring's own ledger
//!     ─ HKDF "backup" ─► authenticates one backup
//! anchor seed ─ HKDF "index", "ledger", "audit" ─► what outlives a tenant's DEKs
//! DEK ─ HKDF(salt, binding) ─► one AES-256-GCM key per stored value
//! ```
//!
//! docs/keys.md has all of it as formulas, from which another program can be written.
//!
//! Guarantees: a ciphertext opens only under the binding it was made for; any
//! altered or truncated byte is [`Undecryptable`], never a panic or another
//! plaintext; no key type can be printed, cloned or serialized. It knows nothing
//! of rows, tenants' names or files.

mod audit;
mod audit_signature;
mod envelope;
mod gathering;
mod kek_origin;
mod kept;
mod keys;
mod offline_copy;
mod passphrase;
mod ring;
mod shamir;
mod webhook;

pub use self::ring::{SignatureScheme, SignerKey, random, sha256, verify_signature};
pub use audit::{AuditKey, BlockDigest, Commitment, OpenedEntry};
pub use audit_signature::{AuditKeyFormatError, AuditPublicKey, AuditSigner};
pub use envelope::{
    Binding, Dek, DekSet, DekState, ENVELOPE_OVERHEAD, EnvelopeStamp, OldDeks, Purpose,
    Undecryptable,
};
pub use gathering::{Gathered, Gathering, ShareError};
pub use kek_origin::{Argon2Params, KekOrigin, KekRecord, KekWay, ShareSet, UnknownOrigin};
pub use kept::{Kept, keys_are_locked, lock_keys};
pub use keys::{
    AnchorKeys, ApiKeyMac, ApiKeyTag, AuditNames, ChainKey, IndexKey, Kek, KekFormatError,
    LedgerKey, StoreId, StoreKeys,
};
pub use offline_copy::{CopyBinding, CopyError, decrypt_copy, encrypt_copy};
pub use passphrase::{DeriveError, Passphrase, PassphraseError};
pub use shamir::{NoSuchSet, Share, ShareFormatError, Uncombinable, combine, split};
pub use webhook::{WebhookKey, WebhookKeyError};
