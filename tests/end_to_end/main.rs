//! Promises to users, held against the real program: real processes on free
//! ports, with real data folders.

mod durability;
mod support;
