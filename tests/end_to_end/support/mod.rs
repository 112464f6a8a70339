//! What the tests share: the program as a process, and a plain HTTP client.

pub mod http;
pub mod program;
pub mod serve;

pub use http::{Answer, Client, Request};
pub use program::{Dev, Output, secret, tenure};
pub use serve::{Serve, ended, eventually, init, maintain, signal};
