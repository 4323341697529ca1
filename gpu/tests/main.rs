//! Tests of rankbit-gpu. They need an adapter (Mesa's lavapipe will do); without one they fail.

mod device;
mod log_bessel;
mod shaders;
mod split_matmul;
