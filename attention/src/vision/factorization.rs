//! Factorization self-attention (FaSA): a global group of channels sees the image reduced, local groups see one window that is the
//! mean of all, near or spread out.
//!
//! ```text
//! X: n×c, pixels in rows, channels in groups [g | near | far]       Q = X·W_qᵀ + b_q, in the same groups
//!
//! global   Z = LN(X_g in tiles of R×R · reductionᵀ)      [K V] = Z·pairᵀ        V += V ∗ local     one head
//! local    L = (X_local ∗ depthwise)·pointwiseᵀ          mirrored to multiples of s = D·(M - 1) + 1
//!          F[k] = mean over the windows of M×M pixels, D apart, at steps of s, of their pixel k           M²×group
//!          [K V] = (F·mixᵀ)·pairᵀ in each head           V += V ∗ local     `heads` heads     D = 1 (near), R (far)
//!
//! Y = [softmax(τ·Q·Kᵀ)·V of each group]·outputᵀ + bias,  τ = 1/√(channels of a head); every layer and kernel with its bias
//! ```
//! Groups take 2, 7 and 7 sixteenths of the channels, or 1 and 7 eighths and no far group when R = 1. Every pixel attends to M² + n/R²
//! places. Kernels are 3×3 with zeros beyond the grid.
//!
//! Cost: `n·c·(M² + n/R²)·4 + 6·n·c²` flops forward, about; never an n×n matrix, though time n² where R = 1.
//!
//! Source: Qin et al., *FaViT: Factorization Vision Transformer*, arXiv 2312.08614. Two deviations of its released code: it fuses
//! windows by a pooling that mixes channels where there is more than one window (here: the mean, as the paper says), and takes the
//! local groups' queries head by head, so its rows of W_q come in another order.

use alloc::{vec, vec::Vec};

use super::operands::operands;
use super::operation::{Heads, Rows, mirrored};
use super::tape::{Tape, Var};
use super::{Operand, backward, divides, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`factorization`] (`X` a view) or their gradients (`X` a tensor). Shapes are in terms of the groups: `g` global
    /// channels, `n` near ones, `f` far ones (0 when R = 1), `l = n + f`, and `h` heads.
    Factorization {
        /// X: `[batch, height, width, c]`.
        image,
        /// W_q: `[1, 1, c, c]`.
        query,
        /// b_q: `[1, 1, 1, c]`.
        query_bias,
        /// `[g, R, R, g]`.
        reduction,
        /// `[1, 1, 1, g]`.
        reduction_bias,
        /// `[1, 1, 1, g]`.
        norm_scale,
        /// `[1, 1, 1, g]`.
        norm_shift,
        /// Keys, then values: `[1, 1, 2·g, g]`.
        global_pair,
        /// `[1, 1, 1, 2·g]`.
        global_pair_bias,
        /// `[g, 3, 3, 1]`.
        global_local,
        /// `[1, 1, 1, g]`.
        global_local_bias,
        /// `[l, 3, 3, 1]`.
        depthwise,
        /// `[1, 1, 1, l]`.
        depthwise_bias,
        /// `[1, 1, l, l]`.
        pointwise,
        /// `[1, 1, 1, l]`.
        pointwise_bias,
        /// `[1, 1, n/h, n/h]`.
        near_mix,
        /// `[1, 1, 1, n/h]`.
        near_mix_bias,
        /// Keys, then values: `[1, 1, 2·n/h, n/h]`.
        near_pair,
        /// `[1, 1, 1, 2·n/h]`.
        near_pair_bias,
        /// `[n, 3, 3, 1]`.
        near_local,
        /// `[1, 1, 1, n]`.
        near_local_bias,
        /// `[1, 1, f/h, f/h]`.
        far_mix,
        /// `[1, 1, 1, f/h]`.
        far_mix_bias,
        /// Keys, then values: `[1, 1, 2·f/h, f/h]`.
        far_pair,
        /// `[1, 1, 1, 2·f/h]`.
        far_pair_bias,
        /// `[f, 3, 3, 1]`.
        far_local,
        /// `[1, 1, 1, f]`.
        far_local_bias,
        /// `[1, 1, c, c]`.
        output,
        /// `[1, 1, 1, c]`.
        output_bias,
    }
}

/// Options of [`factorization`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorizationOptions {
    /// Heads of a local group, dividing its channels.
    pub heads: usize,
    /// M: side of a window in pixels taken, at least 1.
    pub window: usize,
    /// R: side of a tile of the global group and distance of the far group's pixels, at least 1.
    pub reduction: usize,
}

impl Default for FactorizationOptions {
    /// The source's, of its first stage.
    fn default() -> Self {
        Self { heads: 1, window: 7, reduction: 8 }
    }
}

impl FactorizationOptions {
    /// Channels of the three groups.
    fn groups(&self, channels: usize) -> [usize; 3] {
        match self.reduction {
            1 => [channels / 8, channels / 8 * 7, 0],
            _ => [channels / 16 * 2, channels / 16 * 7, channels / 16 * 7],
        }
    }

    /// Checks all of it against an image.
    fn check(&self, [_, height, width, c]: [usize; 4]) -> Result<(), Error> {
        let outside = |what, requirement, found: usize| {
            Err(Error::InvalidOption { what, requirement, found: found as f64 })
        };
        let parts = if self.reduction == 1 { 8 } else { 16 };
        if !c.is_multiple_of(parts) {
            return outside("channels", "a multiple of 16, or of 8 where the reduction is 1", c);
        }
        divides("heads", self.heads, self.groups(c)[1])?;
        if self.window == 0 {
            return outside("window", "at least 1", 0);
        }
        if [height, width, c].contains(&0) {
            return Ok(());
        }
        let least = height.min(width);
        if self.reduction == 0 || self.reduction > least {
            return outside("reduction", "at least 1 and at most the image's sides", self.reduction);
        }
        for dilation in [1, self.reduction] {
            let step = (self.window - 1).checked_mul(dilation).and_then(|step| step.checked_add(1));
            for side in [height, width] {
                // The end lies below twice the side, so it can be mirrored.
                let end = step.and_then(|step| side.checked_next_multiple_of(step));
                if end.is_none_or(|end| end >= side.saturating_mul(2)) {
                    return outside(
                        "window",
                        "small enough for the image to be mirrored to whole windows",
                        self.window,
                    );
                }
            }
        }
        Ok(())
    }
}

impl<'a, T: Element> Factorization<View<'a, T>> {
    fn operands(&self, options: &FactorizationOptions) -> Result<[Operand<'a, T>; 29], Error> {
        let image = self.image.shape();
        options.check(image)?;
        let (c, r, [g, near, far]) = (image[3], options.reduction, options.groups(image[3]));
        let row = |len: usize| [1, 1, 1, len];
        let layer = |out: usize, len: usize| [1, 1, out, len];
        let kernel = |len: usize| [len, 3, 3, 1];
        let local = near + far;
        let mut shapes = [image; 29];
        let layers = [layer(c, c), [g, r, r, g]].into_iter();
        let pairs = layers.zip([c, g]).chain([(row(g), g), (layer(2 * g, g), 2 * g), (kernel(g), g)]);
        let pairs = pairs.chain([(kernel(local), local), (layer(local, local), local)]);
        let groups = [near, far].into_iter().flat_map(|len| {
            let one = len / options.heads.max(1);
            [(layer(one, one), one), (layer(2 * one, one), 2 * one), (kernel(len), len)]
        });
        let pairs = pairs.chain(groups).chain([(layer(c, c), c)]);
        for (to, (weight, bias)) in shapes[1..].chunks_exact_mut(2).zip(pairs) {
            to.copy_from_slice(&[weight, row(bias)]);
        }
        Ok(self.named(1, shapes))
    }
}

const EPSILON: f64 = 1e-5;

/// Attention of all queries to the keys and values of one group, the values with what their neighbors add.
fn seen<T: Element>(
    tape: &mut Tape<T>,
    [query, key, value]: [Var; 3],
    heads: usize,
    (grid, kernel, bias): ([usize; 2], Var, Var),
) -> Result<Var, Error> {
    let near = tape.convolved(value, kernel, &Rows::around(grid, [3, 3]));
    let near = tape.sum(near, bias);
    let value = tape.sum(value, near);
    let dim = tape.value(query).columns / heads.max(1);
    let scale = 1.0 / num_traits::Float::sqrt(dim as f64);
    tape.heads([query, key, value], Heads { windows: 1, heads, scale, bias: None, mask: None })
}

/// The mean of all windows of `side`×`side` pixels, `dilation` apart.
fn fused<T: Element>(
    tape: &mut Tape<T>,
    pixels: Var,
    [height, width]: [usize; 2],
    side: usize,
    dilation: usize,
) -> Var {
    let step = dilation * (side - 1) + 1;
    // Along one axis: for each place of a window, that of every window.
    let line = |len: usize| -> Vec<Vec<usize>> {
        let places = mirrored(len, len.next_multiple_of(step));
        (0..side).map(|k| places.clone().skip(k * dilation).step_by(step).collect()).collect()
    };
    let (down, across) = (line(height), line(width));
    let mut from = vec![];
    for rows in &down {
        for columns in &across {
            from.extend(rows.iter().flat_map(|i| columns.iter().map(move |j| i * width + j)));
        }
    }
    let windows = tape.gather(pixels, Rows::each(from));
    tape.means(windows, side * side)
}

fn block<T: Element>(
    tape: &mut Tape<T>,
    leaves: &[Var],
    [_, height, width, c]: [usize; 4],
    options: &FactorizationOptions,
) -> Result<Var, Error> {
    let (&[x, query, query_bias, reduction, reduction_bias, norm_scale, norm_shift], rest) =
        leaves.split_first_chunk().ok_or(Error::TooLarge { what: "the list of operands" })?;
    let &[
        pair,
        pair_bias,
        local,
        local_bias,
        depthwise,
        depthwise_bias,
        pointwise,
        pointwise_bias,
        ref groups @ ..,
        output,
        output_bias,
    ] = rest
    else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let ([g, near, far], grid, r) = (options.groups(c), [height, width], options.reduction);
    let queries = tape.layer(x, query, query_bias);
    // The global group.
    let own = tape.columns(x, 0, g);
    let tiles = tape.convolved(own, reduction, &Rows::tiles(grid, r));
    let tiles = tape.sum(tiles, reduction_bias);
    let normal = tape.normalize(tiles, EPSILON);
    let normal = tape.times(normal, norm_scale);
    let normal = tape.sum(normal, norm_shift);
    let both = tape.layer(normal, pair, pair_bias);
    let parts = [tape.columns(queries, 0, g), tape.columns(both, 0, g), tape.columns(both, g, g)];
    let mut found = vec![seen(tape, parts, 1, ([height / r, width / r], local, local_bias))?];
    // The local groups.
    let own = tape.columns(x, g, near + far);
    let own = tape.convolved(own, depthwise, &Rows::around(grid, [3, 3]));
    let own = tape.sum(own, depthwise_bias);
    let own = tape.layer(own, pointwise, pointwise_bias);
    let (side, heads) = (options.window, options.heads);
    for ((weights, dilation), (first, len)) in
        groups.chunks_exact(6).zip([1, r]).zip([(0, near), (near, far)])
    {
        let &[mix, mix_bias, pair, pair_bias, local, local_bias] = weights else { continue };
        if len == 0 {
            continue;
        }
        let group = tape.columns(own, first, len);
        let window = fused(tape, group, grid, side, dilation);
        let apart = tape.reshaped(window, side * side * heads);
        let mixed = tape.layer(apart, mix, mix_bias);
        let both = tape.layer(mixed, pair, pair_bias);
        let halves = [0, len / heads].map(|from| {
            let half = tape.columns(both, from, len / heads);
            tape.reshaped(half, side * side)
        });
        let [key, value] = halves;
        let query = tape.columns(queries, g + first, len);
        found.push(seen(tape, [query, key, value], heads, ([side, side], local, local_bias))?);
    }
    let all = tape.joined(found);
    Ok(tape.layer(all, output, output_bias))
}

/// Factorization self-attention; see the formula at [`Factorization`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for channels that do not split, heads that do not divide a local group, a reduction larger than the
/// image and windows that it cannot be mirrored to, [`Error::Overflow`] when scores leave the range of T.
pub fn factorization<T: Element>(
    operands: &Factorization<View<'_, T>>,
    options: &FactorizationOptions,
) -> Result<Tensor<T>, Error> {
    let shape = operands.image.shape();
    forward(&operands.operands(options)?, shape, |tape, leaves| block(tape, leaves, shape, options))
}

/// Gradients of `Σ upstream·output` of [`factorization`] by each operand.
///
/// # Errors
/// As [`factorization`], and for an `upstream` that has not the image's shape.
pub fn factorization_gradient<T: Element>(
    operands: &Factorization<View<'_, T>>,
    options: &FactorizationOptions,
    upstream: View<'_, T>,
) -> Result<Factorization<Tensor<T>>, Error> {
    let shape = operands.image.shape();
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, shape, options);
    backward(&operands.operands(options)?, shape, upstream, run).map(Factorization::from_array)
}
