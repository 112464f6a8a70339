//! Promises to users, held against the real program: real processes on free
//! ports, with real data folders.

mod input;
mod matrix;
mod support;
mod windows;
