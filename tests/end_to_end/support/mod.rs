//! What the tests share: the program as a process, the server in this process,
//! and a plain HTTP client.

pub mod bench;
pub mod http;
pub mod inside;
pub mod linearizable;
pub mod program;
pub mod serve;
pub mod tokens;

pub use http::{Answer, Client, Request};
pub use inside::{Inside, Operated};
pub use program::{Dev, Output, secret, tenure};
pub use serve::{Serve, ended, eventually, init, maintain, signal};
