//! What the tests share: the program as a process, the server in this process,
//! and a plain HTTP client.

pub mod bench;
pub mod fake_issuer;
pub mod faulty_fs;
pub mod gate;
pub mod guide;
pub mod http;
pub mod identity_provider;
pub mod inside;
pub mod keys;
pub mod linearizable;
pub mod machine;
pub mod program;
pub mod random;
pub mod receiver;
pub mod serve;
pub mod tenants;
pub mod terminal;
pub mod tokens;
pub mod writers;

pub use gate::Gate;
pub use http::{Answer, Client, Request};
pub use inside::{ApiKey, Inside, Issued, Operated};
pub use machine::Machine;
pub use program::{Dev, Output, Starting, secret, tenure};
pub use random::Random;
pub use receiver::{Receiver, Reply as ReceiverReply};
pub use serve::{Serve, ended, eventually, init, maintain, signal, store_in};
pub use tenants::Tenants;
pub use terminal::Terminal;
pub use writers::{Writers, quiet, two_tenants};
