//! The commands of daily use, as a user types them: against a real server, on a
//! terminal where they behave differently there.

mod desk;
mod get;
mod render;
mod run;

pub use desk::Desk;
