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

/// Numbers below `count`, scattered and the same in every run.
pub fn scattered(connection: usize, number: usize, count: usize) -> usize {
    let mixed = (connection << 40 | number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) % count
}
