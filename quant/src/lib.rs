//! quant
#![no_std]
extern crate alloc;
