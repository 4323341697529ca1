//! The command, run as a user runs it.

mod activations;
mod bad_input;
mod best;
mod budget;
mod calibration;
mod compare_inspect;
mod compensation;
mod demo;
mod gpu;
#[cfg(target_os = "linux")]
mod memory;
mod output_safety;
mod real_compensation;
mod real_network;
mod real_sparsity;
mod report;
mod round_trip;
mod sparsity;
mod support;
