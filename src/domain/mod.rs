//! The words of the store: names, values, windows, scopes and time.
//!
//! A value of any of these types is valid because it exists: each is parsed
//! once, at the edge, and passed on parsed. This module knows nothing of bytes
//! on disk, of HTTP, or of how a secret is encrypted.

mod address;
mod cause;
mod limit;
mod name;
mod network;
mod scope;
mod texts;
mod time;
mod unit;
mod value;
mod window;

pub use address::{WebAddress, WebAddressError};
pub use cause::root_cause;
pub use limit::{Bound, OwnLimits, Rate, TenantLimits};
pub use name::{
    ByName, NameError, NamePrefix, RepeatedName, SecretName, SecretNames, SecretNaming, TenantId,
    TenantName,
};
pub use network::{Network, NetworkError, Source};
pub use scope::{Operation, Scope, ScopeError, ScopeSet};
pub use texts::Texts;
pub use time::{Clock, ClockReading, Floor, Now, TimeError, Timestamp};
pub use unit::{ByteSize, ByteSizeError, TimeSpan, TimeSpanError};
pub use value::SecretValue;
pub use window::{EmptyWindow, ValidityWindow, WindowState};
