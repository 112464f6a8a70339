//! The model.
pub struct MemoryStore;
