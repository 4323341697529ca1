//! The kernels on AVX2 and AVX-512.
//!
//! **Panel**: R rows × C vectors of tokens in registers, R·C = 8.
//! ```text
//! per slot s, row i:  column = base[s] + (indices_i & mask);  indices_i >>= b
//!                     acc[i][c] += broadcast(value[s][row i]) · panel[column][c]      c = 0 … C−1
//! ```
//! One load per multiply-add, and both pipes take one a cycle; the broadcast and the address ride along.
//!
//! **Few**: the 16 rows of a tile in one vector (two on AVX2), T tokens.
//! ```text
//! per slot s:  acc[t] += value[s] · shuffle(x_t[base[s] … base[s] + W − 1], indices & mask);  indices >>= b
//! ```
//! W = 4 shuffles inside 128-bit lanes by the low two bits of each index, W = 8, 16, 32 across a vector or two.
//!
//! # Safety
//! All kernels rest on what [`Prepared::new`](super::Prepared::new) made of a checked matrix:
//! - `tile` has `plan.tile()` lines, chunk c from line `c·(chunk + 1)`;
//! - for every slot `base[s] + index < in`, and rows past the end have index 0;
//! - `panel` has `in·width` entries, `x` has rows of `stride = in + SLACK` with `SLACK = 32 ≥ W`;
//! - the instruction set was detected before ([`Kernels::current`](super::instructions::Kernels)).

use super::prepared::{Line, Plan, ROWS, Sums};
use core::arch::x86_64::*;
use core::ops::Range;

/// The same number, about which the compiler knows nothing: else it computes the addresses of several rows in one
/// vector and takes them apart again on the ports that the multiply-adds need.
#[inline(always)]
fn opaque(mut index: u32) -> u32 {
    // SAFETY: no instruction at all.
    unsafe {
        core::arch::asm!("/* {0:e} */", inout(reg) index, options(pure, nomem, nostack, preserves_flags))
    };
    index
}

/// The panel kernel and its entry for one vector type.
macro_rules! panel_kernel {
    ($entry:ident, $kernel:ident, $features:literal, $lanes:literal, $vector:ty,
     $load:ident, $store:ident, $set:ident, $fma:ident, $zero:ident) => {
        /// Sixteen rows, `width` tokens (1, 2 or 4 vectors), some chunks.
        pub(super) fn $entry(plan: &Plan, tile: &[Line], chunks: Range<usize>, width: usize, work: Sums<'_>) {
            let Sums { panel, sums } = work;
            assert!(sums.len() == ROWS * width && tile.len() == plan.tile() && chunks.end <= plan.chunks());
            assert!(panel.len() >= (plan.bases.last().map_or(0, |base| *base as usize + 1)) * width);
            // SAFETY: the instruction set was detected by the caller (`Prepared::apply_into`); lengths are asserted
            // above, and the module's invariants bound every column.
            unsafe {
                match width / $lanes {
                    1 => $kernel::<8, 1>(plan, tile, chunks, panel, sums),
                    2 => $kernel::<4, 2>(plan, tile, chunks, panel, sums),
                    _ => $kernel::<2, 4>(plan, tile, chunks, panel, sums),
                }
            }
        }

        /// # Safety
        /// See the module; `panel` and `sums` are of width C vectors.
        #[target_feature(enable = $features)]
        unsafe fn $kernel<const R: usize, const C: usize>(
            plan: &Plan,
            tile: &[Line],
            chunks: Range<usize>,
            panel: &[f32],
            sums: &mut [f32],
        ) {
            const LANES: usize = $lanes;
            let width = C * LANES;
            let (bits, mask, bases) = (plan.bits, plan.mask(), plan.bases.as_ptr());
            let x = panel.as_ptr();
            for top in (0..ROWS).step_by(R) {
                let mut acc: [[$vector; C]; R] = [[$zero(); C]; R];
                for i in 0..R {
                    for c in 0..C {
                        // SAFETY: `sums` has ROWS·width entries and top + i < ROWS.
                        acc[i][c] = unsafe { $load(sums.as_ptr().add((top + i) * width + c * LANES)) };
                    }
                }
                for chunk in chunks.clone() {
                    let first = chunk * (plan.chunk + 1);
                    let lines = &tile[first..(first + plan.chunk + 1).min(tile.len())];
                    let mut indices: [u32; R] = core::array::from_fn(|i| lines[0].0[top + i]);
                    let mut slot = chunk * plan.chunk;
                    for line in &lines[1..] {
                        // SAFETY: a tile has as many value lines as `bases` has slots.
                        let base = unsafe { *bases.add(slot) };
                        slot += 1;
                        for i in 0..R {
                            let column = (base + opaque(indices[i] & mask)) as usize;
                            indices[i] >>= bits;
                            let value = $set(f32::from_bits(line.0[top + i]));
                            for c in 0..C {
                                // SAFETY: column < in, and the panel has in·width entries.
                                let tokens = unsafe { $load(x.add(column * width + c * LANES)) };
                                acc[i][c] = $fma(value, tokens, acc[i][c]);
                            }
                        }
                    }
                }
                for i in 0..R {
                    for c in 0..C {
                        // SAFETY: as the load above.
                        unsafe { $store(sums.as_mut_ptr().add((top + i) * width + c * LANES), acc[i][c]) };
                    }
                }
            }
        }
    };
}

panel_kernel!(
    panel_512,
    rows_512,
    "avx512f,avx512dq",
    16,
    __m512,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_setzero_ps
);
panel_kernel!(
    panel_256,
    rows_256,
    "avx2,fma",
    8,
    __m256,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_setzero_ps
);

/// The entry of a vector kernel: one instance per number of tokens and width of the shuffle.
macro_rules! few_tokens {
    ($kernel:ident, $w:literal, $plan:ident, $tile:ident, $x:ident, $stride:ident, $sums:ident) => {
        match $sums.len() {
            // SAFETY: the instruction set was detected by the caller (`Prepared::apply_into`), lengths are asserted by
            // the function around.
            1 => unsafe { $kernel::<1, $w>($plan, $tile, $x, $stride, $sums) },
            // SAFETY: as above.
            2 => unsafe { $kernel::<2, $w>($plan, $tile, $x, $stride, $sums) },
            // SAFETY: as above.
            3 => unsafe { $kernel::<3, $w>($plan, $tile, $x, $stride, $sums) },
            // SAFETY: as above; there are at least four sums or none.
            4 => unsafe { $kernel::<4, $w>($plan, $tile, $x, $stride, $sums) },
            _ => {}
        }
    };
}

macro_rules! few_entry {
    ($entry:ident, $kernel:ident) => {
        /// Sixteen rows, up to four tokens: `sums[t][row]`.
        pub(super) fn $entry(plan: &Plan, tile: &[Line], x: &[f32], stride: usize, sums: &mut [[f32; ROWS]]) {
            assert!(tile.len() == plan.tile() && x.len() >= sums.len() * stride);
            assert!(stride >= plan.bases.last().map_or(0, |base| *base as usize) + super::prepared::SLACK);
            match plan.of {
                ..=4 => few_tokens!($kernel, 4, plan, tile, x, stride, sums),
                5..=8 => few_tokens!($kernel, 8, plan, tile, x, stride, sums),
                9..=16 => few_tokens!($kernel, 16, plan, tile, x, stride, sums),
                _ => few_tokens!($kernel, 32, plan, tile, x, stride, sums),
            }
        }
    };
}

few_entry!(few_512, tile_512);
few_entry!(few_256, tile_256);

/// # Safety
/// See the module; `sums` has T entries, W is at least the pattern's M.
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn tile_512<const T: usize, const W: usize>(
    plan: &Plan,
    tile: &[Line],
    x: &[f32],
    stride: usize,
    sums: &mut [[f32; ROWS]],
) {
    let mut acc = [_mm512_setzero_ps(); T];
    let bits = _mm512_set1_epi32(plan.bits.cast_signed());
    let mask = _mm512_set1_epi32(plan.mask().cast_signed());
    let mut slot = 0;
    for lines in tile.chunks(plan.chunk + 1) {
        // SAFETY: a line is 64 bytes.
        let mut indices = unsafe { _mm512_loadu_si512(lines.as_ptr().cast()) };
        for line in &lines[1..] {
            let index = _mm512_and_si512(indices, mask);
            indices = _mm512_srlv_epi32(indices, bits);
            // SAFETY: a line is 64 bytes.
            let values = unsafe { _mm512_loadu_ps(line.0.as_ptr().cast()) };
            // SAFETY: a tile has as many value lines as `bases` has slots.
            let base = unsafe { *plan.bases.as_ptr().add(slot) } as usize;
            slot += 1;
            for (t, acc) in acc.iter_mut().enumerate() {
                // SAFETY: base + W ≤ in + SLACK = stride, and x has T rows of stride.
                let chosen = unsafe {
                    let x = x.as_ptr().add(t * stride + base);
                    match W {
                        4 => _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(x)), index),
                        8 => _mm512_permutexvar_ps(index, _mm512_broadcast_f32x8(_mm256_loadu_ps(x))),
                        16 => _mm512_permutexvar_ps(index, _mm512_loadu_ps(x)),
                        _ => _mm512_permutex2var_ps(_mm512_loadu_ps(x), index, _mm512_loadu_ps(x.add(16))),
                    }
                };
                *acc = _mm512_fmadd_ps(values, chosen, *acc);
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), acc) };
    }
}

/// # Safety
/// See the module; `sums` has T entries, W is at least the pattern's M.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_256<const T: usize, const W: usize>(
    plan: &Plan,
    tile: &[Line],
    x: &[f32],
    stride: usize,
    sums: &mut [[f32; ROWS]],
) {
    let mut acc = [[_mm256_setzero_ps(); 2]; T];
    let bits = _mm256_set1_epi32(plan.bits.cast_signed());
    let mask = _mm256_set1_epi32(plan.mask().cast_signed());
    let mut slot = 0;
    for lines in tile.chunks(plan.chunk + 1) {
        let first: *const __m256i = lines.as_ptr().cast();
        // SAFETY: a line is 64 bytes, two vectors.
        let mut indices = unsafe { [_mm256_loadu_si256(first), _mm256_loadu_si256(first.add(1))] };
        for line in &lines[1..] {
            // SAFETY: a tile has as many value lines as `bases` has slots.
            let base = unsafe { *plan.bases.as_ptr().add(slot) } as usize;
            slot += 1;
            for (half, indices) in indices.iter_mut().enumerate() {
                let index = _mm256_and_si256(*indices, mask);
                *indices = _mm256_srlv_epi32(*indices, bits);
                // SAFETY: a line is 64 bytes, and half is 0 or 1.
                let values = unsafe { _mm256_loadu_ps(line.0.as_ptr().cast::<f32>().add(8 * half)) };
                for (t, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: base + W ≤ in + SLACK = stride, and x has T rows of stride.
                    let chosen = unsafe {
                        let x = x.as_ptr().add(t * stride + base);
                        match W {
                            4 => {
                                let x = _mm_loadu_ps(x);
                                _mm256_permutevar_ps(_mm256_set_m128(x, x), index)
                            }
                            8 => _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), index),
                            _ => _mm256_i32gather_ps::<4>(x, index),
                        }
                    };
                    acc[half] = _mm256_fmadd_ps(values, chosen, acc[half]);
                }
            }
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (half, acc) in acc.into_iter().enumerate() {
            // SAFETY: sixteen floats, and half is 0 or 1.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(8 * half), acc) };
        }
    }
}
