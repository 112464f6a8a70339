//! Promises to users, held against the real program: real processes on free
//! ports, with real data folders.

mod api;
mod cli;
mod dev;
mod durability;
mod input;
mod load;
mod matrix;
mod support;
mod time;
mod tls;
mod windows;
