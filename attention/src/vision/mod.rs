//! Light attentions of vision networks: gates and one dense module over the pixels of an image, forward and gradient.
//!
//! | item | what it does | cost for n pixels, c channels |
//! |---|---|---|
//! | [`polarized()`], [`polarized_gradient`] | a gate for each channel and one for each pixel | c²·n |
//! | [`position()`], [`position_gradient`] | softmax attention between all pixels, as a residual | c²·n + c·n² |
//!
//! Images are strided [`View`]s of shape `[batch, height, width, channels]`: one stored channels first has strides
//! `[c·h·w, w, 1, h·w]`. Weights of layers are `[1, 1, out, in]`, vectors `[1, 1, 1, len]`. Operands and their gradients are
//! the same struct, filled with views or with tensors.

mod polarized;
mod position;
mod tape;

use alloc::{vec, vec::Vec};

use num_traits::Float;

pub use polarized::{Arrangement, Polarized, polarized, polarized_gradient};
pub use position::{Position, position, position_gradient};
use tape::{Matrix, Tape, Var};

use crate::{Element, Error, Tensor, View};

/// An operand, its name, and the shape it has to have.
struct Operand<'a, T> {
    what: &'static str,
    view: View<'a, T>,
    expected: [usize; 4],
}

/// Checks operands, the first of them the image.
fn check<T: Element>(operands: &[Operand<'_, T>]) -> Result<(), Error> {
    for &Operand { what, view, expected } in operands {
        let found = view.shape();
        if found != expected {
            return Err(Error::ShapeMismatch { what, expected, found });
        }
    }
    operands.iter().try_for_each(|operand| operand.view.check_finite(operand.what))
}

/// Entries of one batch entry as a matrix whose rows are the last dimension.
fn matrix<T: Element>(view: View<'_, T>, batch: usize) -> Matrix<T> {
    let [_, height, width, columns] = view.shape();
    let mut data = vec![T::from_f64(0.0); height * width * columns];
    if columns > 0 {
        for (i, line) in data.chunks_exact_mut(columns).enumerate() {
            view.copy_line(batch, i / width, i % width, line);
        }
    }
    Matrix { rows: height * width, columns, data }
}

/// A block on each image of a batch: its output, of the image's shape.
fn forward<T: Element>(
    operands: &[Operand<'_, T>],
    block: impl Fn(&mut Tape<T>, &[Var]) -> Result<Var, Error>,
) -> Result<Tensor<T>, Error> {
    check(operands)?;
    let Some(image) = operands.first() else { return Tensor::zeros([0; 4]) };
    let mut output = Vec::new();
    each_image(operands, block, |_, tape, last| {
        output.extend_from_slice(&tape.value(last).data);
        Ok(())
    })?;
    Tensor::from_vec(output, image.expected)
}

/// Gradients of `Σ upstream·output` by every operand; those of weights are sums over the batch, in order.
fn backward<T: Element, const N: usize>(
    operands: &[Operand<'_, T>; N],
    upstream: View<'_, T>,
    block: impl Fn(&mut Tape<T>, &[Var]) -> Result<Var, Error>,
) -> Result<[Tensor<T>; N], Error> {
    check(operands)?;
    let expected = operands[0].expected;
    check(&[Operand { what: "output gradient", view: upstream, expected }])?;
    let mut sums: Vec<Tensor<T>> = vec![];
    for operand in operands {
        sums.push(Tensor::zeros(operand.expected)?);
    }
    each_image(operands, block, |batch, tape, _| {
        let found = tape.gradients(matrix(upstream, batch), 0..N)?;
        for (i, (sum, by)) in sums.iter_mut().zip(found).enumerate() {
            let first = if i == 0 { batch * by.data.len() } else { 0 };
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
    block: impl Fn(&mut Tape<T>, &[Var]) -> Result<Var, Error>,
    mut collect: impl FnMut(usize, &Tape<T>, Var) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(image) = operands.first() else { return Ok(()) };
    if image.expected.contains(&0) {
        return Ok(());
    }
    for batch in 0..image.expected[0] {
        let mut tape = Tape::new();
        let leaves: Vec<Var> = operands
            .iter()
            .enumerate()
            .map(|(i, operand)| tape.leaf(matrix(operand.view, if i == 0 { batch } else { 0 })))
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
