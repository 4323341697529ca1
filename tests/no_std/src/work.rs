//! One piece of real work per crate; `None` when a result is not what it must be.

use alloc::vec::Vec;
use rankbit_attention::{Axis, ExactOptions, NeighborhoodOptions, View, exact, neighborhood};
use rankbit_linalg::faer::Mat;
use rankbit_linalg::lasso::{LassoOptions, lambda_max, lasso};
use rankbit_linalg::tucker::{Tensor, tucker};
use rankbit_linalg::{
    ErrorFeedback, Hadamard, KrylovOptions, LduOptions, Method, Metric, MomentKinds, Moments, Pivoting,
    RandomizedOptions, RobustOptions, Shrinkage, Sketch, Stream, StreamingSvd, SweepOptions, certify,
    grassmann, knapsack, krylov, ldu, randomized, robust_pca, special, to_tolerance, truncated, weighted,
    weighted_both,
};
use rankbit_lowrank::split::file::{self, Header, PartView};
use rankbit_lowrank::{Fit, Input, fit, preset};
use rankbit_quant::{FloatFormat, Rounder, matmul, quantize, scheme};
use rankbit_sparse::matmul::Prepared;
use rankbit_sparse::prune::{AdmmOptions, SparseGptOptions, admm, sparse_gpt};
use rankbit_sparse::{NmMatrix, NmPattern, Pattern, ValueFormat};

/// A matrix of rank 3 and a little noise.
fn weight(out: usize, inputs: usize) -> Mat<f32> {
    let mut stream = Stream::new(1, "weight");
    let mut factor = |rows: usize, cols: usize| Mat::from_fn(rows, cols, |_, _| stream.next_normal() as f32);
    let (left, right, noise) = (factor(out, 3), factor(3, inputs), factor(out, inputs));
    &left * &right + scaled(&noise, 0.05)
}

fn scaled(a: &Mat<f32>, by: f32) -> Mat<f32> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| by * a[(i, j)])
}

/// ‖a - b‖ / ‖b‖.
fn difference(a: &Mat<f32>, b: &Mat<f32>) -> f32 {
    (a - b).norm_l2() / b.norm_l2()
}

fn moments(inputs: usize) -> Option<Moments> {
    let mut stream = Stream::new(2, "activations");
    let mut moments = Moments::new(inputs, MomentKinds { gram: true, sample: 0 });
    let x = Mat::from_fn(96, inputs, |_, j| stream.next_normal() as f32 * if j % 5 == 0 { 8.0 } else { 1.0 });
    moments.update(x.as_ref()).ok()?;
    Some(moments)
}

/// Every way to a rank of 3 finds the matrix again, and a rank above the smaller side is refused.
pub fn linalg() -> Option<()> {
    let w = weight(40, 56);
    let exact = truncated(w.as_ref(), 3).ok()?.reconstruct();
    let sketched = randomized(w.as_ref(), 3, &RandomizedOptions::default()).ok()?.reconstruct();
    let root = moments(56)?.metric().ok()?.root(1e-6).ok()?;
    let aware = weighted(w.as_ref(), 3, &root, &Method::default()).ok()?.product();
    let left = Metric::identity().root(0.0).ok()?;
    let both = weighted_both(w.as_ref(), 3, &left, &root, &Method::default()).ok()?.product();
    let space = krylov(w.as_ref(), 3, &KrylovOptions::default()).ok()?;
    let enough =
        to_tolerance(w.as_ref(), 0.05, &KrylovOptions { sketch: Sketch::Hadamard, ..Default::default() });
    let enough = enough.ok()?;
    let first = truncated(w.as_ref().subrows(0, 30), 3).ok()?;
    let updated = first.append_rows(w.as_ref().subrows(30, 10), 3).ok()?.reconstruct();
    let mut stream = StreamingSvd::new(56, 8).ok()?;
    stream.push(w.as_ref()).ok()?;
    let streamed = stream.finish::<f32>(3).ok()?;
    let seen = &w * &streamed.v * streamed.v.transpose();
    let found = [exact, sketched, aware, both, space.reconstruct(), enough.reconstruct(), updated, seen];
    let close = found.iter().all(|found| difference(found, &w) < 0.05);
    (close && enough.rank() == 3 && truncated(w.as_ref(), 41).is_err()).then_some(())
}

/// The other rooms of linalg, each by what defines it.
pub fn linalg_rooms() -> Option<()> {
    let w = weight(24, 32);
    // Elimination, tensors, a rotation and its inverse.
    let whole = LduOptions { pivoting: Pivoting::Rook, rank: None };
    let eliminated = difference(&ldu(w.as_ref(), &whole).ok()?.reconstruct(), &w) < 1e-4;
    let entries: Vec<f32> = w.row_iter().flat_map(|row| row.iter()).copied().collect();
    let tensor = Tensor::new(&[24, 4, 8], &entries).ok()?;
    let core = tucker(&tensor, &[Some(5), None, Some(8)], 3).ok()?;
    let mut turned = entries.clone();
    let rotation = Hadamard::new(32).with_signs(1);
    rotation.forward_slice(&mut turned).ok()?;
    rotation.inverse_slice(&mut turned).ok()?;
    let back = turned.iter().zip(&entries).all(|(a, b)| (a - b).abs() < 1e-5);
    // Subspaces, sparse solutions, low rank plus sparse, error feedback.
    let x = Mat::<f64>::from_fn(24, 6, |i, j| f64::from(w[(i, j)]));
    let basis = grassmann::orthonormalize(x.as_ref()).ok()?;
    let same = grassmann::distance(basis.as_ref(), basis.as_ref()).ok()? < 1e-7;
    let y: Vec<f64> = (0..24).map(|i| x[(i, 1)] - 2.0 * x[(i, 4)]).collect();
    let options = LassoOptions::default();
    let strongest = lambda_max(x.as_ref(), &y, &options).ok()?;
    let sparse = lasso(x.as_ref(), &y, 0.01 * strongest, &options).ok()?;
    let terms = robust_pca(x.as_ref(), &RobustOptions::default()).ok()?;
    let gram = moments(32)?;
    let feedback = ErrorFeedback::new(gram.gram().ok()?, &SweepOptions::default()).ok()?;
    let mut nearest = |_: usize, target: &[f64], projected: &mut [f64]| {
        for (q, v) in projected.iter_mut().zip(target) {
            *q = (v * 4.0 + 0.5) as i64 as f64 / 4.0;
        }
    };
    let swept = feedback.sweep(w.as_ref(), &mut nearest).ok()?;
    let shrunk = gram.shrunk(Shrinkage::LedoitWolf).ok()?;
    // Special functions: a closed form, both sides of a zero, a bound, a certificate; a knapsack.
    let half = special::log_bessel_k(0.5, 1.0) - (0.225_791_352_644_727_4 - 1.0);
    let mut batch = [0.0; 2];
    special::log_bessel_k_batch(&[0.0], &[0.45, 0.47], &mut batch).ok()?;
    let bound = special::clopper_pearson_lower(10, 10, 0.05).ok()?;
    let radius = certify::joint_radius((0.9, 0.8), (0.5, 0.5));
    let choices = [knapsack::Choice { cost: 3, loss: 1.0 }, knapsack::Choice { cost: 1, loss: 4.0 }];
    let chosen = knapsack::minimize(&[choices, choices], 4).ok()?;
    let first = eliminated && core.relative_error < 0.5 && back && same && sparse.converged;
    let second = terms.residual <= 1e-6 && swept.error.is_finite() && shrunk.weight <= 1.0;
    let third = half.abs() < 1e-15 && batch[0] > 0.0 && batch[1] < 0.0 && bound < 1.0 && radius > 0.0;
    (first && second && third && chosen.choices.len() == 2).then_some(())
}

/// The product from packed codes is that of the decoded matrix, and 4 bits are close to the original.
pub fn quant() -> Option<()> {
    let (w, x) = (weight(40, 56), weight(5, 56));
    for scheme in [scheme::INT4, scheme::UINT4, scheme::NF4] {
        let quantized = quantize(w.as_ref(), &scheme, Rounder::Nearest).ok()?.quantized;
        let decoded = quantized.dequantize();
        let product = matmul::apply(&quantized, x.as_ref()).ok()?;
        if difference(&decoded, &w) > 0.2 || difference(&product, &(&x * decoded.transpose())) > 1e-5 {
            return None;
        }
    }
    quantize(Mat::from_fn(2, 2, |_, _| f32::NAN).as_ref(), &scheme::INT4, Rounder::Nearest).err().map(drop)
}

fn svdquant(w: &Mat<f32>) -> Option<Fit> {
    let recipe = preset::svdquant(preset::SvdQuant {
        scheme: scheme::UINT4,
        rounder: Rounder::Nearest,
        rank: 4,
        factors: FloatFormat::F16.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 4,
    });
    let moments = moments(w.ncols())?;
    fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&moments) }).ok()
}

/// Smoothing, low rank and 4 bits together: the product is that of the reconstruction, close to the original's.
pub fn lowrank() -> Option<()> {
    let (w, x) = (weight(40, 56), weight(5, 56));
    let Fit { split, info } = svdquant(&w)?;
    let product = split.apply(x.as_ref()).ok()?;
    let of_reconstruction = &x * split.reconstruct().transpose();
    let close = difference(&product, &of_reconstruction) < 1e-4 && info.relative_error < 0.02;
    // There is no clock without std, and the fit says so.
    (close && info.seconds.is_none()).then_some(())
}

/// Header and parts, through JSON and bytes, give the same split; a missing part is refused.
pub fn file() -> Option<()> {
    let split = svdquant(&weight(40, 56))?.split;
    let (header, parts) = file::write(&split);
    let header = Header::from_json(&header.to_json().ok()?).ok()?;
    let find = |name: &str| {
        let part = parts.iter().find(|part| part.name == name)?;
        Some(PartView { element: part.element, shape: &part.shape, bytes: &part.bytes })
    };
    let same = file::read(&header, find).ok()? == split;
    let refused = file::read(&header, |name| if name == "left" { None } else { find(name) }).is_err();
    (same && refused).then_some(())
}

/// The same types under the facade's names.
pub fn facade() -> Option<()> {
    use rankbit::{linalg, lowrank, quant};
    let w = weight(24, 32);
    let singular_values = linalg::singular_values(w.as_ref()).ok()?;
    let recipe = lowrank::preset::lorc(quant::scheme::INT4, 2, quant::FloatFormat::F16);
    let fit = lowrank::fit(w.as_ref(), &recipe, &lowrank::Input { name: "w", moments: None }).ok()?;
    (singular_values.len() == 24 && fit.info.relative_error < 0.1).then_some(())
}

/// 2:4 by two methods, the second better; the product is that of the stored matrix; a pattern of nothing is refused.
pub fn sparse() -> Option<()> {
    let (w, x, moments) = (weight(40, 56), weight(7, 56), moments(56)?);
    let (gram, nm) = (moments.gram().ok()?, NmPattern::TWO_OF_FOUR);
    let plain = sparse_gpt(w.as_ref(), gram, &Pattern::Nm(nm), &SparseGptOptions::default()).ok()?;
    let pruned = admm(w.as_ref(), gram, &Pattern::Nm(nm), &AdmmOptions::default()).ok()?;
    let format = ValueFormat::Float(FloatFormat::F16);
    let (stored, _) = NmMatrix::new(pruned.weight.as_ref(), &pruned.mask, nm, &format).ok()?;
    let product = Prepared::new(&stored).ok()?.apply(x.as_ref()).ok()?;
    let close = difference(&product, &(&x * stored.reconstruct().transpose())) < 1e-5;
    (close && pruned.error <= plain.error && NmPattern::new(0, 4).is_err()).then_some(())
}

/// A window over all tokens is exact attention; a window longer than its axis is refused.
pub fn attention() -> Option<()> {
    let mut data = [0.0_f32; 2 * 12 * 4];
    Stream::new(3, "tokens").fill_normal(&mut data);
    let x = View::contiguous(&data, [1, 2, 12, 4]).ok()?;
    let options = NeighborhoodOptions::default();
    let whole = exact(x, x, x, &ExactOptions::default()).ok()?.output;
    let windows = neighborhood(x, x, x, &[Axis::new(3, 3), Axis::new(4, 4)], &options).ok()?.output;
    let close = whole.as_slice().iter().zip(windows.as_slice()).all(|(a, b)| (a - b).abs() < 1e-5);
    (close && neighborhood(x, x, x, &[Axis::new(12, 13)], &options).is_err()).then_some(())
}
