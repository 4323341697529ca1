//! Buffers whose sizes are checked before wgpu sees them.

use crate::{Error, Gpu};
use bytemuck::Pod;
use std::sync::mpsc;

/// Words that fill scratch and guard the end of outputs in tests: a NaN, so that nothing unwritten passes.
pub(crate) const GUARD: u32 = 0x7FC0_DEAD;

/// Product of sizes as u64; [`u64::MAX`] when it overflows, which no limit lets pass.
pub(crate) fn product(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1, |total: u64, &size| total.saturating_mul(size as u64))
}

/// `value` as the u32 that a kernel's parameters hold.
pub(crate) fn narrow(what: &'static str, value: usize) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::LimitExceeded {
        what,
        needed: value as u64,
        limit: u64::from(u32::MAX),
    })
}

impl Gpu {
    /// Bytes of a storage buffer of `words` 32-bit words: never empty (an empty binding is invalid), a whole
    /// number of vec4s, within the device's limits, and with indices that fit 32 bits.
    fn storage_bytes(&self, what: &'static str, words: u64) -> Result<u64, Error> {
        let limits = self.limits();
        let limit = limits.binding_bytes.min(limits.buffer_bytes).min(u64::from(u32::MAX).saturating_mul(4));
        let needed = words.max(1).saturating_mul(4).checked_next_multiple_of(16).unwrap_or(u64::MAX);
        if needed > limit { Err(Error::LimitExceeded { what, needed, limit }) } else { Ok(needed) }
    }

    fn create(
        &self,
        what: &'static str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        self.scoped(what, |device, _| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size,
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// A storage buffer of `words` 32-bit words that kernels write.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] and whatever the device reports.
    pub(crate) fn scratch(&self, what: &'static str, words: u64) -> Result<wgpu::Buffer, Error> {
        let size = self.storage_bytes(what, words)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        self.create(what, size, usage)
    }

    /// A storage buffer holding `values` (32-bit words or vectors of them).
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] and whatever the device reports.
    pub(crate) fn storage<T: Pod>(&self, what: &'static str, values: &[T]) -> Result<wgpu::Buffer, Error> {
        let size = self.storage_bytes(what, (size_of_val(values) / 4) as u64)?;
        let buffer = self.create(what, size, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST)?;
        self.write(what, &buffer, values)?;
        Ok(buffer)
    }

    /// A uniform buffer holding `value`.
    pub(crate) fn uniform<T: Pod>(&self, what: &'static str, value: T) -> Result<wgpu::Buffer, Error> {
        let size = size_of::<T>() as u64;
        let buffer = self.create(what, size, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
        self.write(what, &buffer, &[value])?;
        Ok(buffer)
    }

    /// Writes `values` to the start of `buffer`, which must be long enough.
    pub(crate) fn write<T: Pod>(
        &self,
        what: &'static str,
        buffer: &wgpu::Buffer,
        values: &[T],
    ) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        self.scoped(what, |_, queue| queue.write_buffer(buffer, 0, bytemuck::cast_slice(values)))
    }

    /// The first `words` 32-bit words of `buffer`, once the device has finished with it.
    pub(crate) fn read<T: Pod>(
        &self,
        what: &'static str,
        buffer: &wgpu::Buffer,
        words: u64,
    ) -> Result<Vec<T>, Error> {
        if words == 0 {
            return Ok(Vec::new());
        }
        let bytes = words.saturating_mul(4);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.create(what, bytes, usage)?;
        let (sender, receiver) = mpsc::channel();
        self.scoped(what, |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
            queue.submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                // The receiver outlives the wait below; without one nobody asks.
                drop(sender.send(result));
            });
        })?;
        self.wait(what)?;
        let rejected = |reason: String| Error::Rejected { what, reason };
        receiver
            .try_recv()
            .map_err(|_| rejected("the buffer was never mapped".to_owned()))?
            .map_err(|error| rejected(error.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|error| rejected(error.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }

    /// The grid of `total` workgroups, folded into two dimensions.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when two dimensions do not hold them, or 32 bits do not number them.
    pub(crate) fn grid(&self, total: u64) -> Result<[u32; 2], Error> {
        let side = u64::from(self.limits().groups_per_dimension).max(1);
        let limit = side.saturating_mul(side).min(u64::from(u32::MAX) - side);
        let exceeded = Error::LimitExceeded { what: "workgroups of a dispatch", needed: total, limit };
        if total > limit {
            return Err(exceeded);
        }
        let x = total.min(side).max(1);
        match (u32::try_from(x), u32::try_from(total.div_ceil(x))) {
            (Ok(x), Ok(y)) => Ok([x, y]),
            _ => Err(exceeded),
        }
    }
}
