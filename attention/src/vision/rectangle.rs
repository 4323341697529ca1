//! Rectangle windows: half of the channels see wide windows of pixels, half tall ones, every other block shifted.
//!
//! ```text
//! X: n×c, pixels in rows     [Q K V] = X·Wᵀ + b     first half of the channels: windows H×W, second half: W×H
//! O = softmax(τ·Q·Kᵀ + B) V  in each window and head, τ = 1/√(c/heads)     Y = ([O_wide O_tall] + V ∗ D + d)·W_oᵀ + b_o
//! ```
//! B depends on the offset of two pixels alone: query at (y, x), key at (y', x') of a window take entry
//! `(y - y' + H - 1)·(2·W - 1) + x - x' + W - 1` of the table, which [`offset_bias`](super::offset_bias()) makes. D is a kernel of
//! 3×3 for each channel,
//! zeros beyond the image. With `shift` the windows lie half a window down and right and wrap around the image, so windows at the
//! border hold pixels of opposite sides; with `mask` these do not see each other (Swin's rule).
//!
//! Cost: `8·n·c² + 4·n·H·W·c + 18·n·c` flops forward; no n×n matrix, memory of order `n·c + heads·(H·W)²`.
//!
//! Source: Li, Zhang, Liu, Zhu, *Feature Modulation Transformer: Cross-Refinement of Global Representation via
//! High-Frequency Prior for Image Super-Resolution* (CRAFT), ICCV 2023, arXiv 2308.05022: H×W = 4×16, the released network without
//! the mask. Normalization before and the perceptron after it are the caller's.

use alloc::vec::Vec;

use super::operands::operands;
use super::operation::{Heads, Rows};
use super::tape::{Tape, Var};
use super::{Operand, backward, divides, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`rectangle_windows`] (`X` a view) or their gradients (`X` a tensor).
    RectangleWindows {
        /// X: `[batch, height, width, c]`, sides multiples of both sides of a window.
        image,
        /// W: `[1, 1, 3·c, c]`: queries, keys, values.
        projection,
        /// b: `[1, 1, 1, 3·c]`.
        projection_bias,
        /// B of the wide windows: `[1, 1, heads/2, (2·H - 1)·(2·W - 1)]`.
        wide_table,
        /// B of the tall windows: `[1, 1, heads/2, (2·W - 1)·(2·H - 1)]`.
        tall_table,
        /// D: `[c, 3, 3, 1]`.
        local,
        /// d: `[1, 1, 1, c]`.
        local_bias,
        /// W_o: `[1, 1, c, c]`.
        output,
        /// b_o: `[1, 1, 1, c]`.
        output_bias,
    }
}

/// Options of [`rectangle_windows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RectangleOptions {
    /// Heads of both halves: even, dividing the channels.
    pub heads: usize,
    /// Height and width of a wide window, in pixels; the tall one has them swapped.
    pub window: [usize; 2],
    /// Whether windows lie half a window further down and right.
    pub shift: bool,
    /// Whether pixels that only the wrap brings together are hidden from each other.
    pub mask: bool,
}

impl Default for RectangleOptions {
    /// The released network's, of a block without shift.
    fn default() -> Self {
        Self { heads: 6, window: [4, 16], shift: false, mask: false }
    }
}

impl<'a, T: Element> RectangleWindows<View<'a, T>> {
    fn operands(&self, options: &RectangleOptions) -> Result<[Operand<'a, T>; 9], Error> {
        let image = self.image.shape();
        let [_, height, width, c] = image;
        let heads = options.heads;
        if heads == 0 || !heads.is_multiple_of(2) {
            let requirement = "even and at least 2";
            return Err(Error::InvalidOption { what: "heads", requirement, found: heads as f64 });
        }
        divides("heads", heads, c)?;
        let entries = table_len(options.window)?;
        for side in options.window {
            if !height.is_multiple_of(side) || !width.is_multiple_of(side) {
                let requirement = "a divisor of the image's sides";
                return Err(Error::InvalidOption { what: "window", requirement, found: side as f64 });
            }
        }
        let (row, table) = ([1, 1, 1, c], [1, 1, heads / 2, entries]);
        let three = c.checked_mul(3).ok_or(Error::TooLarge { what: "the projection" })?;
        let shapes =
            [image, [1, 1, three, c], [1, 1, 1, three], table, table, [c, 3, 3, 1], row, [1, 1, c, c], row];
        Ok(self.named(1, shapes))
    }
}

/// `(2·H - 1)·(2·W - 1)` for sides of at least 1.
pub(super) fn table_len(window: [usize; 2]) -> Result<usize, Error> {
    let mut entries = 1_usize;
    for side in window {
        if side == 0 {
            return Err(Error::InvalidOption { what: "window", requirement: "at least 1", found: 0.0 });
        }
        let twice = side.checked_mul(2).map(|twice| twice - 1);
        let product = twice.and_then(|twice| entries.checked_mul(twice));
        entries = product.ok_or(Error::TooLarge { what: "the window" })?;
    }
    Ok(entries)
}

/// Windows of one shape over an image.
struct Windows {
    image: [usize; 2],
    window: [usize; 2],
    shift: [usize; 2],
}

impl Windows {
    /// Pixels of all windows, before the wrap: `[windows][pixels of a window]`, as places of the shifted image.
    fn places(&self) -> impl Iterator<Item = [usize; 2]> {
        let [[height, width], [down, across]] = [self.image, self.window];
        let corners =
            (0..height / down).flat_map(move |i| (0..width / across).map(move |j| [i * down, j * across]));
        corners.flat_map(move |[y, x]| (0..down).flat_map(move |i| (0..across).map(move |j| [y + i, x + j])))
    }

    /// The same as pixels of the image.
    fn pixels(&self) -> Vec<usize> {
        let [[height, width], [down, right]] = [self.image, self.shift];
        self.places().map(|[y, x]| (y + down) % height * width + (x + right) % width).collect()
    }

    /// Who sees whom: pixels of one window that lie on the same side of the wrap.
    fn mask(&self) -> Vec<bool> {
        let region = |[y, x]: [usize; 2]| {
            [(y, 0), (x, 1)]
                .map(|(at, axis)| at + self.shift[axis] >= self.image[axis] && self.shift[axis] > 0)
        };
        let regions: Vec<[bool; 2]> = self.places().map(region).collect();
        let windows = regions.chunks_exact(self.window.iter().product());
        windows.flat_map(|window| window.iter().flat_map(|a| window.iter().map(move |b| a == b))).collect()
    }

    /// Entry of the table for each pair of pixels of a window.
    fn offsets(&self) -> Vec<usize> {
        let [down, across] = self.window;
        let pixels = || (0..down).flat_map(move |i| (0..across).map(move |j| [i, j]));
        let entry = |[y, x]: [usize; 2], [b, a]: [usize; 2]| {
            (y + down - 1 - b) * (2 * across - 1) + x + across - 1 - a
        };
        pixels().flat_map(|query| pixels().map(move |key| entry(query, key))).collect()
    }
}

fn block<T: Element>(
    tape: &mut Tape<T>,
    leaves: &[Var],
    [_, height, width, c]: [usize; 4],
    options: &RectangleOptions,
) -> Result<Var, Error> {
    let &[x, projection, projection_bias, wide, tall, local, local_bias, output, output_bias] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let product = tape.linear(x, projection);
    let all = tape.sum(product, projection_bias);
    let (half, [rows, columns]) = (c / 2, options.window);
    let mut halves = Vec::with_capacity(2);
    for (i, (table, window)) in [(wide, [rows, columns]), (tall, [columns, rows])].into_iter().enumerate() {
        let shift = if options.shift { window.map(|side| side / 2) } else { [0, 0] };
        let windows = Windows { image: [height, width], window, shift };
        let pixels = windows.pixels();
        let parts = [0, 1, 2].map(|part| {
            let part = tape.columns(all, part * c + i * half, half);
            tape.gather(part, Rows::each(pixels.iter().copied()))
        });
        // The table's entries in rows, one row for each pair, and back.
        let entries = tape.value(table).columns;
        let by_offset = tape.swapped(table, entries);
        let by_pair = tape.gather(by_offset, Rows::each(windows.offsets()));
        let bias = tape.swapped(by_pair, options.heads / 2);
        let how = Heads {
            windows: height * width / (rows * columns),
            heads: options.heads / 2,
            scale: 1.0 / num_traits::Float::sqrt((c / options.heads) as f64),
            bias: Some(bias),
            mask: (options.mask && options.shift).then(|| windows.mask()),
        };
        let seen = tape.heads(parts, how)?;
        let mut back = pixels.clone();
        pixels.iter().enumerate().for_each(|(i, &pixel)| back[pixel] = i);
        halves.push(tape.gather(seen, Rows::each(back)));
    }
    let seen = tape.joined(halves);
    let values = tape.columns(all, 2 * c, c);
    let near = tape.convolved(values, local, &Rows::around([height, width], [3, 3]));
    let near = tape.sum(near, local_bias);
    let sum = tape.sum(seen, near);
    let product = tape.linear(sum, output);
    Ok(tape.sum(product, output_bias))
}

/// Attention in rectangle windows; see the formula at [`RectangleWindows`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for heads that are odd or do not divide the channels and windows that do not divide the image,
/// [`Error::Overflow`] when scores leave the range of T.
pub fn rectangle_windows<T: Element>(
    operands: &RectangleWindows<View<'_, T>>,
    options: &RectangleOptions,
) -> Result<Tensor<T>, Error> {
    let shape = operands.image.shape();
    forward(&operands.operands(options)?, shape, |tape, leaves| block(tape, leaves, shape, options))
}

/// Gradients of `Σ upstream·output` of [`rectangle_windows`] by each operand.
///
/// # Errors
/// As [`rectangle_windows`], and for an `upstream` that has not the image's shape.
pub fn rectangle_windows_gradient<T: Element>(
    operands: &RectangleWindows<View<'_, T>>,
    options: &RectangleOptions,
    upstream: View<'_, T>,
) -> Result<RectangleWindows<Tensor<T>>, Error> {
    let shape = operands.image.shape();
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, shape, options);
    backward(&operands.operands(options)?, shape, upstream, run).map(RectangleWindows::from_array)
}
