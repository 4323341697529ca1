//! Column scales: one byte each, in steps of a sixteenth of an octave.
//!
//! ```text
//! code 0: scale 0        code c: ts = 2^((c − 128)/16),   from 2^−7.94 to 2^7.94
//! ```
//! Scales are rounded before anything is divided by them, so that rounding (2 % at most) costs second order only. A
//! column's scale is relative to its rows' scales and therefore at most √in.

use num_traits::Float;

/// 2^(i/16).
const STEPS: [f32; 16] = [
    1.0,
    1.044_273_8,
    1.090_507_7,
    1.138_788_6,
    1.189_207_1,
    1.241_857_8,
    1.296_839_6,
    1.354_255_5,
    core::f32::consts::SQRT_2,
    1.476_826_2,
    1.542_210_8,
    1.610_490_3,
    1.681_792_8,
    1.756_252_2,
    1.834_008_1,
    1.915_206_6,
];

/// The scale of a code.
pub fn value(code: u8) -> f32 {
    if code == 0 {
        return 0.0;
    }
    let step = STEPS[usize::from(code % 16)];
    // 2^(⌊c/16⌋ − 8): a normal f32.
    step * f32::from_bits((u32::from(code / 16) + 119) << 23)
}

/// The code of the scale nearest to `scale` in its logarithm; 0 for what is not positive.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and clamped to 1 ..= 255")]
pub fn nearest(scale: f64) -> u8 {
    if scale > 0.0 { (Float::round(Float::log2(scale) * 16.0).clamp(-127.0, 127.0) + 128.0) as u8 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_steps_of_a_sixteenth_octave() {
        assert_eq!((value(0), value(128), value(144), value(112)), (0.0, 1.0, 2.0, 0.5));
        for code in 1..=u8::MAX {
            let exact = ((f64::from(code) - 128.0) / 16.0).exp2();
            assert!((f64::from(value(code)) / exact - 1.0).abs() < 1e-7, "{code}");
            assert_eq!(nearest(exact), code);
            assert_eq!(nearest(exact * 1.02), code);
        }
        assert_eq!((nearest(0.0), nearest(1e-30), nearest(1e30), nearest(f64::NAN)), (0, 1, 255, 0));
    }
}
