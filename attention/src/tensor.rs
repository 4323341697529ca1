//! Four-dimensional operands: strided [`View`]s in, contiguous [`Tensor`]s out.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use rankbit_linalg::Scalar;

use crate::Error;

/// A read-only view of shape `[batch, heads, tokens, head_dim]` into a slice, any strides (in elements, 0 repeats).
///
/// ```
/// use rankbit_attention::View;
/// // Stored as [batch, tokens, heads, head_dim]: 1 x 3 x 2 x 4.
/// let data: Vec<f32> = (0..24_u8).map(f32::from).collect();
/// let view = View::new(&data, [1, 2, 3, 4], [24, 4, 8, 1])?;
/// assert_eq!(view.get([0, 1, 2, 3]), Some(23.0));
/// assert!(View::new(&data, [1, 2, 4, 4], [24, 4, 8, 1]).is_err());
/// # Ok::<(), rankbit_attention::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    data: &'a [T],
    shape: [usize; 4],
    strides: [usize; 4],
}

impl<'a, T: Copy> View<'a, T> {
    /// A view of `data`.
    ///
    /// # Errors
    /// [`Error::ViewOutOfRange`] when an entry would lie outside `data`, [`Error::TooLarge`] when the number of entries
    /// overflows.
    pub fn new(data: &'a [T], shape: [usize; 4], strides: [usize; 4]) -> Result<Self, Error> {
        let outside = Error::ViewOutOfRange { shape, strides, len: data.len() };
        if len(shape)? > 0 {
            let mut last = 0_usize;
            for (&size, stride) in shape.iter().zip(strides) {
                let reach = stride.checked_mul(size - 1).ok_or_else(|| outside.clone())?;
                last = last.checked_add(reach).ok_or_else(|| outside.clone())?;
            }
            if last >= data.len() {
                return Err(outside);
            }
        }
        Ok(Self { data, shape, strides })
    }

    /// A view of `data` in row-major order.
    ///
    /// # Errors
    /// As [`View::new`].
    pub fn contiguous(data: &'a [T], shape: [usize; 4]) -> Result<Self, Error> {
        len(shape)?;
        let [_, heads, tokens, dim] = shape.map(|size| size.max(1));
        let plane = tokens.checked_mul(dim).ok_or(Error::TooLarge { what: "a tensor" })?;
        let batch = plane.checked_mul(heads).ok_or(Error::TooLarge { what: "a tensor" })?;
        Self::new(data, shape, [batch, plane, dim, 1])
    }

    /// `[batch, heads, tokens, head_dim]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Distances between neighbours along each dimension, in elements.
    pub fn strides(&self) -> [usize; 4] {
        self.strides
    }

    /// The entry at `index`, or `None` outside the shape.
    pub fn get(&self, index: [usize; 4]) -> Option<T> {
        let inside = index.iter().zip(self.shape).all(|(&i, size)| i < size);
        inside.then(|| self.at(index))
    }

    /// The entry at `index`, which lies inside the shape.
    #[inline]
    pub(crate) fn at(&self, index: [usize; 4]) -> T {
        self.data[self.offset(index)]
    }

    /// The shape with every dimension that is repeated (stride 0) once: how many values there are.
    pub(crate) fn distinct(&self) -> [usize; 4] {
        core::array::from_fn(|i| if self.strides[i] == 0 { self.shape[i].min(1) } else { self.shape[i] })
    }

    /// Some batch entries and heads of the shape.
    pub(crate) fn part(self, batch: Range<usize>, heads: Range<usize>) -> Self {
        let first = self.offset([batch.start, heads.start, 0, 0]);
        let [_, _, tokens, dim] = self.shape;
        // A view without entries may begin anywhere.
        let data = self.data.get(first..).unwrap_or(&[]);
        Self { data, shape: [batch.len(), heads.len(), tokens, dim], strides: self.strides }
    }

    /// Some columns of the last dimension.
    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        let data = self.data.get(columns.start * self.strides[3]..).unwrap_or(&[]);
        let [batch, heads, tokens, _] = self.shape;
        Self { data, shape: [batch, heads, tokens, columns.len()], strides: self.strides }
    }

    /// Every value that the view may reach, when its last dimension is stored without gaps.
    pub(crate) fn lines(&self) -> Option<&'a [T]> {
        (self.strides[3] == 1).then_some(self.data)
    }

    /// Index of an entry of the shape in the slice.
    #[inline]
    pub(crate) fn offset(&self, index: [usize; 4]) -> usize {
        index.iter().zip(self.strides).map(|(i, stride)| i * stride).sum()
    }

    /// The last dimension at `[batch, head, token]` when it is stored without gaps.
    #[inline]
    pub(crate) fn line(&self, batch: usize, head: usize, token: usize) -> Option<&'a [T]> {
        let from = self.offset([batch, head, token, 0]);
        (self.strides[3] == 1).then(|| &self.data[from..from + self.shape[3]])
    }

    /// Copies the last dimension at `[batch, head, token]`; `to` has its length.
    #[inline]
    pub(crate) fn copy_line(&self, batch: usize, head: usize, token: usize, to: &mut [T]) {
        match self.line(batch, head, token) {
            Some(line) => to.copy_from_slice(line),
            None => {
                let from = self.offset([batch, head, token, 0]);
                for (i, to) in to.iter_mut().enumerate() {
                    *to = self.data[from + i * self.strides[3]];
                }
            }
        }
    }
}

impl<T: Scalar> View<'_, T> {
    /// All entries in row-major order.
    pub(crate) fn to_vec(self) -> Vec<T> {
        let [batch, heads, tokens, dim] = self.shape;
        if self.shape.contains(&0) {
            return Vec::new();
        }
        let mut data = vec![T::from_f64(0.0); batch * heads * tokens * dim];
        for (line, (b, h, t)) in data.chunks_exact_mut(dim).zip(each(batch, heads, tokens)) {
            self.copy_line(b, h, t, line);
        }
        data
    }

    /// That every entry is finite.
    pub(crate) fn check_finite(&self, what: &'static str) -> Result<(), Error> {
        let [batch, heads, tokens, dim] = self.shape;
        if dim == 0 {
            return Ok(());
        }
        for (b, h, t) in each(batch, heads, tokens) {
            let finite = match self.line(b, h, t) {
                Some(line) => all_finite(line),
                None => (0..dim).all(|i| num_traits::Float::is_finite(self.at([b, h, t, i]))),
            };
            if !finite {
                let bad = |&i: &usize| !num_traits::Float::is_finite(self.at([b, h, t, i]));
                let i = (0..dim).find(bad).unwrap_or(0);
                return Err(Error::NonFinite { what, index: [b, h, t, i] });
            }
        }
        Ok(())
    }
}

/// Whether every value is finite: `0·x` is 0 exactly then, and the sum stays 0.
#[inline]
fn all_finite<T: Scalar>(values: &[T]) -> bool {
    let zero = T::from_f64(0.0);
    let mut sums = [zero; 16];
    let chunks = values.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += x * zero;
        }
    }
    rest.iter().fold(sums.iter().fold(zero, |a, &b| a + b), |a, &x| a + x * zero) == zero
}

/// All `(batch, head, token)` in order.
pub(crate) fn each(batch: usize, heads: usize, tokens: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch).flat_map(move |b| (0..heads).flat_map(move |h| (0..tokens).map(move |t| (b, h, t))))
}

/// An owned tensor of shape `[batch, heads, tokens, head_dim]` in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T> {
    data: Vec<T>,
    shape: [usize; 4],
}

impl<T: Copy> Tensor<T> {
    /// From values in row-major order.
    ///
    /// # Errors
    /// [`Error::ViewOutOfRange`] when the number of values is not that of the shape.
    pub fn from_vec(data: Vec<T>, shape: [usize; 4]) -> Result<Self, Error> {
        if len(shape)? != data.len() {
            return Err(Error::ViewOutOfRange { shape, strides: [0; 4], len: data.len() });
        }
        Ok(Self { data, shape })
    }

    /// `[batch, heads, tokens, head_dim]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The values in row-major order.
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// The values in row-major order.
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }

    /// All of it as a view.
    pub fn view(&self) -> View<'_, T> {
        let [_, heads, tokens, dim] = self.shape;
        View { data: &self.data, shape: self.shape, strides: [heads * tokens * dim, tokens * dim, dim, 1] }
    }

    /// The values, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T: Scalar> Tensor<T> {
    /// All zeros.
    pub(crate) fn zeros(shape: [usize; 4]) -> Result<Self, Error> {
        Ok(Self { data: vec![T::from_f64(0.0); len(shape)?], shape })
    }

    /// The last dimension at `[batch, head, token]`.
    #[inline]
    pub(crate) fn line_mut(&mut self, batch: usize, head: usize, token: usize) -> &mut [T] {
        let [_, heads, tokens, dim] = self.shape;
        let from = ((batch * heads + head) * tokens + token) * dim;
        &mut self.data[from..from + dim]
    }
}

/// Number of entries of a shape.
pub(crate) fn len(shape: [usize; 4]) -> Result<usize, Error> {
    // An empty dimension empties the tensor, however long the others are: no index is computed then.
    if shape.contains(&0) {
        return Ok(0);
    }
    let product = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    product.filter(|&len| isize::try_from(len).is_ok()).ok_or(Error::TooLarge { what: "a tensor" })
}
