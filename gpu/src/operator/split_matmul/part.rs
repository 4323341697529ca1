//! A weight in pieces of whole tiles, each small enough to bind.

use super::pack::{Packed, ROWS};
use crate::{Error, Gpu};

/// Some tiles of a weight on the device: codes, scales, zero points, and their rows of the left factor.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The first tile, and how many.
    pub(super) base: usize,
    pub(super) tiles: usize,
    pub(super) codes: wgpu::Buffer,
    pub(super) scales: wgpu::Buffer,
    pub(super) zeros: wgpu::Buffer,
    pub(super) left: wgpu::Buffer,
}

impl Part {
    /// All of `tiles`, in as few parts as the device's bindings allow. `left` is `[tiles][terms][16]`.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when one tile is larger than a binding, and whatever the device reports.
    pub(super) fn upload(
        gpu: &Gpu,
        packed: &Packed,
        tiles: usize,
        left: &[f32],
        terms: usize,
    ) -> Result<Vec<Self>, Error> {
        let zeros = if packed.zeros.is_empty() { 0 } else { packed.groups * ROWS / 4 };
        // Words of a tile.
        let sizes = [packed.lines * ROWS * packed.words, packed.groups * ROWS, zeros, terms * ROWS]
            .map(|words| words.max(1));
        let limit = gpu.limits().binding_bytes.min(gpu.limits().buffer_bytes) / 4;
        let limit = usize::try_from(limit.min(u64::from(u32::MAX))).unwrap_or(usize::MAX);
        let fit = sizes.iter().map(|&words| limit / words).min().unwrap_or(0).max(1);
        let mut parts = Vec::new();
        let mut base = 0;
        while base < tiles || parts.is_empty() {
            let count = fit.min(tiles - base);
            parts.push(Self {
                base,
                tiles: count,
                codes: gpu.storage(
                    "codes",
                    piece(&packed.codes, packed.lines * ROWS * packed.words, base, count),
                )?,
                scales: gpu.storage("scales", piece(&packed.scales, packed.groups * ROWS, base, count))?,
                zeros: gpu.storage("zero points", piece(&packed.zeros, zeros, base, count))?,
                left: gpu.storage("left factor", piece(left, terms * ROWS, base, count))?,
            });
            base += count.max(1);
        }
        Ok(parts)
    }

    /// Only a left factor, `[tiles][terms][16]`.
    ///
    /// # Errors
    /// As [`Part::upload`].
    pub(super) fn whole(gpu: &Gpu, tiles: usize, left: &[f32]) -> Result<Self, Error> {
        let empty = || gpu.storage::<u32>("codes", &[]);
        let (codes, scales, zeros) = (empty()?, empty()?, empty()?);
        Ok(Self { base: 0, tiles, codes, scales, zeros, left: gpu.storage("left factor", left)? })
    }

    /// Bytes that a product reads of it.
    pub(super) fn device_bytes(&self) -> u64 {
        [&self.codes, &self.scales, &self.zeros, &self.left].iter().map(|part| part.size()).sum()
    }
}

/// `count` tiles of `size` entries from tile `base` on; empty when there are none.
fn piece<T>(all: &[T], size: usize, base: usize, count: usize) -> &[T] {
    all.get(base * size..(base + count) * size).unwrap_or_default()
}
