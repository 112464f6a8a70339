//! What the benches share: a server, a client, the machine, and the report.

pub mod client;
pub mod machine;
pub mod plot;
pub mod report;
pub mod server;
pub mod tls;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Of 64 and of 512 bytes.
pub const SHORT_VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub fn long_value() -> String {
    SHORT_VALUE.repeat(8)
}
