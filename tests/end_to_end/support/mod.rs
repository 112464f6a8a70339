//! What the tests share: the program as a process, and a plain HTTP client.

pub mod http;
pub mod program;

pub use http::{Answer, Client, Request};
pub use program::{Dev, Output, secret, tenure};
