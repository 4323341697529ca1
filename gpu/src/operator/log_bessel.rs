//! `ln I_v(x)` and `ln K_v(x)` of many pairs in f32 on the device. Twins: [`rankbit_linalg::special::log_bessel_i`] and
//! [`log_bessel_k`](rankbit_linalg::special::log_bessel_k).
//!
//! **Accuracy:** with `s = hypot(v, x)` and `u = 2⁻²⁴`,
//!
//! ```text
//! |Δ| ≤ 32·u·(1 + s + v·|ln(x/(v + s))|)
//! ```
//!
//! where the sum is what one rounding of v and x alone moves the value by. WGSL lets devices compute logarithms,
//! exponentials and roots to a few units in the last place; the factor leaves room for that.

use crate::buffer::{GUARD, narrow};
use crate::dispatch;
use crate::operator::nonlinearity::Nonlinearity;
use crate::pipeline::{BESSEL_THREADS, BesselParams, Kernel};
use crate::{Error, Gpu};
use rankbit_linalg::special::{log_bessel_i, log_bessel_k};

/// Largest order and argument that the kernel takes; the smallest argument is its normal range.
const LARGEST: f32 = 1e35;
const SMALLEST: f32 = 1e-37;

/// Whether the kernel's formulas hold.
fn ordinary(v: f32, x: f32) -> bool {
    (0.0..=LARGEST).contains(&v) && (SMALLEST..=LARGEST).contains(&x)
}

impl Gpu {
    /// `ln I_v(x)` of each pair, with `orders` as long as `xs` or a single one. Bound of the error, and domain beyond the
    /// kernel's (zeros, NaN, infinities, subnormal or enormous numbers, which the CPU twin computes): the twin's, rounded
    /// to f32.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), rankbit_gpu::Error> {
    /// let values = rankbit_gpu::Gpu::new()?.log_bessel_i(&[100.3], &[50.0, 500.0])?;
    /// assert!((values[0] + 36.27253).abs() < 1e-3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of orders, [`Error::LimitExceeded`] when the pairs are more than the
    /// device can bind, and whatever the device reports.
    pub fn log_bessel_i(&self, orders: &[f32], xs: &[f32]) -> Result<Vec<f32>, Error> {
        self.log_bessel(true, orders, xs, 0)
    }

    /// `ln K_v(x)` of each pair; any sign of v. Otherwise as [`Gpu::log_bessel_i`].
    ///
    /// # Errors
    /// As [`Gpu::log_bessel_i`].
    pub fn log_bessel_k(&self, orders: &[f32], xs: &[f32]) -> Result<Vec<f32>, Error> {
        let orders: Vec<f32> = orders.iter().map(|v| v.abs()).collect();
        self.log_bessel(false, &orders, xs, 0)
    }

    /// With `guard` words behind the result that must come back as they were.
    pub(crate) fn log_bessel(
        &self,
        first: bool,
        orders: &[f32],
        xs: &[f32],
        guard: u64,
    ) -> Result<Vec<f32>, Error> {
        if orders.len() != xs.len() && orders.len() != 1 {
            let (expected, found) = ((xs.len(), 1), (orders.len(), 1));
            return Err(Error::ShapeMismatch { what: "orders", expected, found });
        }
        if xs.is_empty() {
            return Ok(Vec::new());
        }
        let stride = u32::from(orders.len() != 1);
        let params = BesselParams { count: narrow("pairs", xs.len())?, stride, unused: 0, reserved: 0 };
        // What the kernel cannot take becomes 1 there.
        let device_orders: Vec<f32> =
            orders.iter().map(|&v| if ordinary(v, 1.0) { v } else { 1.0 }).collect();
        let device_xs: Vec<f32> = xs.iter().map(|&x| if ordinary(0.0, x) { x } else { 1.0 }).collect();
        let params = self.uniform("parameters", params)?;
        let device_orders = self.storage("orders", &device_orders)?;
        let device_xs = self.storage("arguments", &device_xs)?;
        let words = xs.len() as u64;
        let out = self.scratch("result", words.saturating_add(guard))?;
        if guard > 0 {
            let size = usize::try_from(out.size() / 4).unwrap_or(0);
            self.write("result", &out, &vec![GUARD; size])?;
        }
        let groups = words.div_ceil(u64::from(BESSEL_THREADS));
        let buffers = [&params, &device_orders, &device_xs, &out];
        let step = self.dispatch(Kernel::LogBessel { first }, Nonlinearity::None, groups, &buffers)?;
        self.scoped("log-Bessel functions", |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
            dispatch::encode(&[step], &mut encoder);
            queue.submit([encoder.finish()]);
        })?;
        let mut values: Vec<f32> = self.read("result", &out, words.saturating_add(guard))?;
        let twin = if first { log_bessel_i } else { log_bessel_k };
        let order = |at: usize| orders.get(if stride == 0 { 0 } else { at }).copied().unwrap_or(f32::NAN);
        for (at, (value, &x)) in values.iter_mut().zip(xs).enumerate() {
            let v = order(at);
            if !ordinary(v, x) {
                #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
                let rounded = twin(f64::from(v), f64::from(x)) as f32;
                *value = rounded;
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is written behind the result.
    #[test]
    fn nothing_stray_is_written() {
        let gpu = Gpu::new().expect("these tests need a GPU adapter; Mesa's lavapipe will do");
        for count in [1, 63, 64, 65, 1000] {
            let xs = vec![2.0f32; count];
            let values = gpu.log_bessel(true, &[1.5], &xs, 512).expect("a product");
            assert!(values.iter().take(count).all(|value| value.is_finite()));
            let guards = values.iter().skip(count);
            assert_eq!(guards.clone().count(), 512);
            assert!(guards.into_iter().all(|value| value.to_bits() == GUARD), "{count}");
        }
    }
}
