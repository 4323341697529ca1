//! Tests of rankbit-gpu. They need an adapter (Mesa's lavapipe will do); without one they fail.

mod activation;
mod backends;
mod choices;
mod device;
mod encode;
mod log_bessel;
mod parts;
mod shaders;
mod split_matmul;
