//! linalg
#![no_std]
extern crate alloc;
