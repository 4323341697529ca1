//! lowrank
#![no_std]
extern crate alloc;
