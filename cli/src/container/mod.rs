//! The safetensors container: a header checked before anything trusts it, reads by position, atomic writes.

pub(crate) mod checkpoint;
pub(crate) mod convert;
#[cfg(test)]
mod fuzz;
pub(crate) mod header;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod writer;

/// Bytes moved at a time when data are copied or converted.
pub(crate) const CHUNK: usize = 4 << 20;
