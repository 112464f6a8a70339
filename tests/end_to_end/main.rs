//! Promises to users, held against the real program: real processes on free
//! ports, with real data folders.

mod api;
mod input;
mod load;
mod matrix;
mod support;
mod windows;
