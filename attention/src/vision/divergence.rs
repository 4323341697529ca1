//! The divergence of two normal distributions with independent entries, and its balanced gradient.
//!
//! ```text
//! KL(N(μ, σ²) ‖ N(μ', σ'²)) = ln(σ'/σ) + (σ² + (μ - μ')²)/(2·σ'²) - ½        of each entry, ≥ 0, and 0 where both are equal
//! balanced  w·KL(stop(posterior) ‖ prior) + (1 - w)·KL(posterior ‖ stop(prior)):  the same value; the gradient by the prior counts w
//!           times, the one by the posterior 1 - w times
//! ```
//! Sources: Jiang et al., VBReg, CVPR 2023, arXiv 2304.01514; the balance is that of Hafner, Lillicrap, Norouzi, Ba, *DreamerV2*,
//! ICLR 2021, arXiv 2010.02193, equation 7, with w = 0.8.

use alloc::vec::Vec;

use num_traits::Float;

use super::operands::operands;
use super::{Operand, check};
use crate::tensor::each;
use crate::{Element, Error, Tensor, View};

operands! {
    /// Two normal distributions (`X` a view) or the gradients by their parameters (`X` a tensor), all of one shape.
    Normals {
        /// μ.
        posterior_mean,
        /// σ, positive.
        posterior_deviation,
        /// μ'.
        prior_mean,
        /// σ', positive.
        prior_deviation,
    }
}

/// Each entry's parameters in f64.
fn entries<T: Element>(normals: &Normals<View<'_, T>>) -> Result<Vec<[f64; 4]>, Error> {
    let shape = normals.posterior_mean.shape();
    check(&normals.named(4, [shape; 4]))?;
    let [b, h, n, dim] = shape;
    let views = normals.into_array();
    let mut found = Vec::new();
    for (b, h, i) in each(b, h, n) {
        for k in 0..dim {
            let entry = views.map(|view| view.at([b, h, i, k]).to_f64());
            let least = entry[1].min(entry[3]);
            if least <= 0.0 {
                let (what, requirement) = ("deviation", "positive");
                return Err(Error::InvalidOption { what, requirement, found: least });
            }
            found.push(entry);
        }
    }
    Ok(found)
}

/// That no value left the range of T; the row of one that did.
fn finite<T: Element>(data: Vec<T>, shape: [usize; 4]) -> Result<Tensor<T>, Error> {
    let [_, heads, n, dim] = shape;
    if let Some(at) = data.iter().position(|x| !Float::is_finite(*x)) {
        let row = at / dim.max(1);
        return Err(Error::Overflow { batch: row / n / heads, head: row / n % heads, token: row % n });
    }
    Tensor::from_vec(data, shape)
}

/// KL of each entry, in the shape of the operands; see [`Normals`]'s module.
///
/// # Errors
/// [`Error::ShapeMismatch`] when shapes differ, [`Error::NonFinite`] for NaN and infinities, [`Error::InvalidOption`] for a
/// deviation that is not positive, [`Error::Overflow`] when a value leaves the range of T.
pub fn divergence<T: Element>(normals: &Normals<View<'_, T>>) -> Result<Tensor<T>, Error> {
    let entry = |[mean, deviation, other, wide]: [f64; 4]| {
        let (ratio, gap) = (deviation / wide, (mean - other) / wide);
        // ½·(r² - 1) - ln r without the cancellation at r = 1.
        let r = ratio - 1.0;
        T::from_f64(0.5 * r * (r + 2.0) - Float::ln_1p(r) + 0.5 * gap * gap)
    };
    finite(entries(normals)?.into_iter().map(entry).collect(), normals.posterior_mean.shape())
}

/// Gradients of `Σ upstream·divergence`, those by the prior times `balance`, those by the posterior times `1 - balance`.
/// `None` is the plain gradient.
///
/// # Errors
/// As [`divergence`], for an `upstream` of another shape, and for a balance outside 0 … 1.
pub fn divergence_gradient<T: Element>(
    normals: &Normals<View<'_, T>>,
    balance: Option<f64>,
    upstream: View<'_, T>,
) -> Result<Normals<Tensor<T>>, Error> {
    let (shape, entries) = (normals.posterior_mean.shape(), entries(normals)?);
    check(&[Operand::image("output gradient", upstream, shape)])?;
    if let Some(balance) = balance.filter(|balance| !(0.0..=1.0).contains(balance)) {
        return Err(Error::InvalidOption { what: "balance", requirement: "in 0 … 1", found: balance });
    }
    let (prior, posterior) = balance.map_or((1.0, 1.0), |balance| (balance, 1.0 - balance));
    let mut parts: [Vec<T>; 4] = core::array::from_fn(|_| Vec::with_capacity(entries.len()));
    let [b, h, n, dim] = shape;
    let places = each(b, h, n).flat_map(|(b, h, i)| (0..dim).map(move |k| [b, h, i, k]));
    for (&[mean, deviation, other, wide], at) in entries.iter().zip(places) {
        let (up, gap, ratio) = (upstream.at(at).to_f64(), (mean - other) / wide, deviation / wide);
        let by = [
            posterior * gap / wide,
            posterior * (ratio - 1.0) * (ratio + 1.0) / deviation,
            -prior * gap / wide,
            prior * (1.0 - ratio * ratio - gap * gap) / wide,
        ];
        parts.iter_mut().zip(by).for_each(|(part, by)| part.push(T::from_f64(up * by)));
    }
    let [a, b, c, d] = parts.map(|part| finite(part, shape));
    Ok(Normals::from_array([a?, b?, c?, d?]))
}
