//! Promises to users, held against the real program: real processes on free
//! ports, with real data folders.

mod cli;
mod dev;
mod durability;
mod support;
mod time;
mod tls;
