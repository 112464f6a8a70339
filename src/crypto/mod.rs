//! KEK, DEKs, envelopes.
