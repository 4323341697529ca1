//! Light attentions of vision networks: gates, windows, references and dense modules, forward and gradient.
//!
//! | item | what it does | cost for n pixels, c channels |
//! |---|---|---|
//! | [`polarized()`], [`polarized_gradient`] | a gate for each channel and one for each pixel | c²·n |
//! | [`released_parallel`], [`released_sequential`], … | the same as its authors' code has it | c²·n |
//! | [`ela()`], [`ela_gradient`] | ELA: a gate for each row and one for each column | c·n |
//! | [`rectangle_windows`], [`offset_bias()`], … | CRAFT: wide and tall windows, shifted or not, and their table of biases | c²·n + c·n·window |
//! | [`high_frequency()`], … | CRAFT: a residual of a kernel's and a local maximum's view | c²·n |
//! | [`hybrid_fusion()`], … | CRAFT: channels mixed by what a second image has in common with them | c²·n |
//! | [`rank_block()`], … | RAVLT: rank-augmented attention with its convolutions and perceptron | c²·n |
//! | [`factorization()`], … | FaSA: heads that see the image reduced, or one mean window | c²·n + c·n·(window + n/R²) |
//! | [`references()`], … | MRefSR: weighs, pixel by pixel, what aligned reference images hold | c²·n·references |
//! | [`compatible()`], [`variational()`], [`divergence()`], … | VBReg: pairs of points see each other by how rigidly they move; random embeddings | c·n² |
//! | [`inliers()`], [`seed_maps`], … | VBReg: the rigid motion that votes of attention maps agree on | seeds·n·maps |
//! | [`position()`], [`position_gradient`] | softmax attention between all pixels, as a residual | c²·n + c·n² |
//!
//! Images are strided [`View`]s of shape `[batch, height, width, channels]`: one stored channels first has strides
//! `[c·h·w, w, 1, h·w]`. Weights of layers are `[1, 1, out, in]`, vectors `[1, 1, 1, len]`. Operands and their gradients are
//! the same struct, filled with views or with tensors. Kernels of convolutions are `[out, height, width, in/groups]`: one stored
//! as PyTorch does, `[out, in/groups, height, width]`, has strides `[in/groups·h·w, w, 1, h·w]`.
//!
//! ```
//! use rankbit_attention::View;
//! use rankbit_attention::vision::{Ela, ela, ela_gradient};
//! // 2×3 pixels of 2 channels; kernels of 3 taps, each for its own channel.
//! let pixels: Vec<f32> = (0..12_u8).map(|i| f32::from(i) / 4.0 - 1.0).collect();
//! let (taps, ones, zeros) = ([0.25_f32, 0.5, 0.25, 0.0, 1.0, 0.0], [1.0_f32; 2], [0.0_f32; 2]);
//! let operands = Ela {
//!     image: View::contiguous(&pixels, [1, 2, 3, 2])?,
//!     kernel: View::contiguous(&taps, [2, 1, 3, 1])?,
//!     norm_scale: View::contiguous(&ones, [1, 1, 1, 2])?,
//!     norm_shift: View::contiguous(&zeros, [1, 1, 1, 2])?,
//! };
//! let output = ela(&operands, 2)?;
//! // Gates only weaken.
//! assert!(output.as_slice().iter().zip(&pixels).all(|(y, x)| y.abs() <= x.abs()));
//! assert_eq!(ela_gradient(&operands, 2, output.view())?.kernel.shape(), [2, 1, 3, 1]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

pub mod compatible;
pub mod divergence;
pub mod ela;
pub mod factorization;
pub mod high_frequency;
pub mod hybrid_fusion;
pub mod inliers;
pub mod offset_bias;
mod operands;
mod operation;
pub mod polarized;
pub mod position;
pub mod rank_block;
pub mod rectangle;
pub mod references;
pub mod released;
mod tape;
pub mod variational;

use alloc::{vec, vec::Vec};
use core::ops::Range;

use num_traits::Float;

pub use compatible::{Compatible, Correspondences, compatible, compatible_gradient};
pub use divergence::{Normals, divergence, divergence_gradient};
pub use ela::{Ela, ela, ela_gradient};
pub use factorization::{Factorization, FactorizationOptions, factorization, factorization_gradient};
pub use high_frequency::{HighFrequency, high_frequency, high_frequency_gradient};
pub use hybrid_fusion::{HybridFusion, hybrid_fusion, hybrid_fusion_gradient};
pub use inliers::{Inliers, Motion, SearchOptions, consensus, inliers, seed_maps, seeds, wilson};
pub use offset_bias::{OffsetBias, offset_bias, offset_bias_gradient};
pub use polarized::{Arrangement, Polarized, polarized, polarized_gradient};
pub use position::{Position, position, position_gradient};
pub use rank_block::{RankBlock, RankBlockOptions, rank_block, rank_block_gradient};
pub use rectangle::{RectangleOptions, RectangleWindows, rectangle_windows, rectangle_windows_gradient};
pub use references::{References, references, references_gradient};
pub use released::{
    ReleasedParallel, ReleasedSequential, released_parallel, released_parallel_gradient, released_sequential,
    released_sequential_gradient,
};
use tape::{Matrix, Tape, Var};
pub use variational::{LatentColumns, Variational, variational, variational_gradient};

use crate::tensor::each;
use crate::{Element, Error, Tensor, View};

/// An operand, its name, and the shape it has to have.
struct Operand<'a, T> {
    what: &'static str,
    view: View<'a, T>,
    expected: [usize; 4],
    /// Whether each image of the batch has its own.
    each: bool,
}

impl<'a, T> Operand<'a, T> {
    /// One for each image of the batch.
    fn image(what: &'static str, view: View<'a, T>, expected: [usize; 4]) -> Self {
        Self { what, view, expected, each: true }
    }
}

/// Checks operands.
fn check<T: Element>(operands: &[Operand<'_, T>]) -> Result<(), Error> {
    for &Operand { what, view, expected, .. } in operands {
        let found = view.shape();
        if found != expected {
            return Err(Error::ShapeMismatch { what, expected, found });
        }
    }
    operands.iter().try_for_each(|operand| operand.view.check_finite(operand.what))
}

/// That `parts` is at least 1 and divides `whole`, which may be 0.
fn divides(what: &'static str, parts: usize, whole: usize) -> Result<(), Error> {
    if parts > 0 && whole.is_multiple_of(parts) || whole == 0 {
        return Ok(());
    }
    Err(Error::InvalidOption { what, requirement: "a divisor of the channels", found: parts as f64 })
}

/// Entries of the given batch entries as a matrix whose rows are the last dimension.
fn matrix<T: Element>(view: View<'_, T>, batches: Range<usize>) -> Matrix<T> {
    let [_, height, width, columns] = view.shape();
    let rows = batches.len() * height * width;
    let mut data = vec![T::from_f64(0.0); rows * columns];
    if columns > 0 {
        for ((b, i, j), line) in batches
            .flat_map(|b| each(1, height, width).map(move |(_, i, j)| (b, i, j)))
            .zip(data.chunks_exact_mut(columns))
        {
            view.copy_line(b, i, j, line);
        }
    }
    Matrix { rows, columns, data }
}

/// A block on each image of a batch: its output, of the given shape.
fn forward<T: Element>(
    operands: &[Operand<'_, T>],
    shape: [usize; 4],
    block: impl Fn(&mut Tape<T>, &[Var]) -> Result<Var, Error>,
) -> Result<Tensor<T>, Error> {
    check(operands)?;
    let mut output = Vec::new();
    each_image(operands, shape, block, |_, tape, last| {
        output.extend_from_slice(&tape.value(last).data);
        Ok(())
    })?;
    Tensor::from_vec(output, shape)
}

/// Gradients of `Σ upstream·output` by every operand; those of weights are sums over the batch, in order.
fn backward<T: Element, const N: usize>(
    operands: &[Operand<'_, T>; N],
    shape: [usize; 4],
    upstream: View<'_, T>,
    block: impl Fn(&mut Tape<T>, &[Var]) -> Result<Var, Error>,
) -> Result<[Tensor<T>; N], Error> {
    check(operands)?;
    check(&[Operand::image("output gradient", upstream, shape)])?;
    let mut sums: Vec<Tensor<T>> = vec![];
    for operand in operands {
        sums.push(Tensor::zeros(operand.expected)?);
    }
    each_image(operands, shape, block, |batch, tape, _| {
        let found = tape.gradients(matrix(upstream, batch..batch + 1), 0..N)?;
        for ((sum, by), operand) in sums.iter_mut().zip(found).zip(operands) {
            let first = if operand.each { batch * by.data.len() } else { 0 };
            for (sum, by) in sum.as_mut_slice()[first..].iter_mut().zip(by.data) {
                *sum += by;
            }
            if !sum.as_slice().iter().all(|x| Float::is_finite(*x)) {
                return Err(Error::Overflow { batch, head: 0, token: 0 });
            }
        }
        Ok(())
    })?;
    sums.try_into().map_err(|_| Error::TooLarge { what: "the list of operands" })
}

/// Runs the block on each image, checks that its output is finite, and shows it to `collect`.
fn each_image<T: Element>(
    operands: &[Operand<'_, T>],
    shape: [usize; 4],
    block: impl Fn(&mut Tape<T>, &[Var]) -> Result<Var, Error>,
    mut collect: impl FnMut(usize, &Tape<T>, Var) -> Result<(), Error>,
) -> Result<(), Error> {
    if shape.contains(&0) {
        return Ok(());
    }
    for batch in 0..shape[0] {
        let mut tape = Tape::new();
        let leaves: Vec<Var> = operands
            .iter()
            .map(|operand| {
                let all = 0..operand.expected[0];
                tape.leaf(matrix(operand.view, if operand.each { batch..batch + 1 } else { all }))
            })
            .collect();
        let place = |error| match error {
            Error::Overflow { token, .. } => Error::Overflow { batch, head: 0, token },
            other => other,
        };
        let last = block(&mut tape, &leaves).map_err(place)?;
        let value = tape.value(last);
        if let Some(at) = value.data.iter().position(|x| !Float::is_finite(*x)) {
            return Err(Error::Overflow { batch, head: 0, token: at / value.columns.max(1) });
        }
        collect(batch, &tape, last).map_err(place)?;
    }
    Ok(())
}
