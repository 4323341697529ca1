//! The kernels on AVX2 and on AVX-512 with VNNI.
//!
//! ```text
//! per step s:  shuffle = places of its four slots, in each row's lane of 32 bits
//!              xs      = window s of the inputs, shuffled                   (one shuffle for each of its windows)
//!              acc    += codes·xs,   plain += 1·xs                          in each lane
//! block end:   dot = acc − centre·plain;  sum += (dot [+ zero·plain])·(scale·input scale)
//! ```
//! Codes are unsigned and inputs signed, as the instructions want. The sum of the chosen inputs takes the codes' offset off
//! again, and the zero points.
//!
//! AVX2 adds pairs of products in 16 bits and lets them wrap: `Σ (code − 8)·x` of a block's 16 pairs is at most
//! 16·2·8·127 = 32512, so it comes out right whatever happened on the way. 8-bit codes are two such sums, of their halves.
//! `vpmaddubsw` saturates, but 2·15·127 is far below 2¹⁵. AVX-512 adds four products in 32 bits.
//!
//! # Safety
//! Kernels rest on what [`PreparedCodes::new`](super::PreparedCodes::new) and [`Inputs::new`](super::Inputs) made:
//! - a tile has `plan.tile_lines()` lines, which the entries check;
//! - every token has `groups·blocks·block_window` bytes of windows and `groups` scales, which the entries check;
//! - the instruction set was detected before ([`Kernels::current`](super::Kernels)).

use super::inputs::Inputs;
use super::layout::{Coding, FIRST, LINE, Line, Plan, ROWS, SECOND, WINDOW};
use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// The scale lines and the block loop of one tile; the macro's modules differ in the width of their vectors.
macro_rules! kernels {
    ($width:ident, $features:literal, $parts:literal) => {
        mod $width {
            use super::super::layout::{STEPS, code_line, index_line};
            use super::*;
            use $crate::matmul::codes::x86::vectors::$width::*;

            /// Shuffle bytes of a step from a line's bits.
            macro_rules! byte_places {
                ($bits:expr, $mask:expr, $bases:expr) => {
                    or(and($bits, $mask), $bases)
                };
            }

            /// # Safety
            /// See the module; there are T sums, and C, W and WIDE are the plan's.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn tile<const T: usize, const C: u8, const W: usize, const WIDE: bool>(
                plan: &Plan,
                tile: &[Line],
                windows: [*const u8; T],
                scales: [&[f32]; T],
                plains: [&[[i16; 2]]; T],
                sums: &mut [[f32; ROWS]],
            ) {
                let mut totals = [[zero_floats(); T]; $parts];
                let bases =
                    splat_u32(u32::from_le_bytes(core::array::from_fn(|lane| plan.lane_base(lane).1)));
                let walk = splat_u32(u32::from(FIRST) | u32::from(SECOND) << 16);
                let block_lines = plan.block_lines();
                let mut at: *const Line = tile.as_ptr();
                let mut head = at;
                let (mut window, mut block) = (0, 0);
                for group in 0..plan.groups {
                    if group % 2 == 0 {
                        head = at;
                        // SAFETY: before every two groups of a tile there are the lines of their heads.
                        at = unsafe { at.add(plan.head_lines()) };
                    }
                    for _ in 0..plan.blocks {
                        if T > 2 {
                            // Computing is longer than reading now, and the prefetcher of the processor stops at pages.
                            for line in 0..block_lines {
                                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line).cast());
                            }
                        }
                        for part in 0..$parts {
                            let mut acc = [Sums::<WIDE>::zero(); T];
                            // One step: its number, where its shuffle bytes come from, which half of the code line.
                            macro_rules! step {
                                ($step:expr, $places:expr) => {{
                                    let step: usize = $step;
                                    let places = $places;
                                    // SAFETY: a block has a line of codes for every step or two.
                                    let codes = unsafe {
                                        let codes = load(at.add(code_line(C, WIDE, step)), part);
                                        match (WIDE, step % 2) {
                                            (true, _) => codes,
                                            (false, 0) => and(codes, splat(0x0F)),
                                            _ => and(right::<4>(codes), splat(0x0F)),
                                        }
                                    };
                                    for t in 0..T {
                                        // SAFETY: a block has W windows of 16 bytes for every step.
                                        let xs = unsafe {
                                            let from = windows[t].add(window + step * W * WINDOW);
                                            match (C, W) {
                                                (ALL, _) => splat_window(from),
                                                (_, 1) => shuffle(splat_window(from), places),
                                                (_, 2) => upper_half(
                                                    shuffle(splat_window(from), places),
                                                    splat_window(from.add(WINDOW)),
                                                    places,
                                                ),
                                                _ => four(
                                                    core::array::from_fn(|w| {
                                                        splat_window(from.add(w * WINDOW))
                                                    }),
                                                    places,
                                                ),
                                            }
                                        };
                                        acc[t].add(codes, xs, C != ALL);
                                    }
                                }};
                            }
                            let index = |line: usize| {
                                // SAFETY: the block has as many lines of indices as its coding reads here.
                                unsafe { load(at.add(index_line(C, WIDE, line)), part) }
                            };
                            match C {
                                PAIRS => {
                                    let mut bits = [index(0), index(1), index(2)];
                                    let mask = splat_u32(0xE000_E000);
                                    let last = or(
                                        or(
                                            left::<15>(bits[0]),
                                            and(left::<14>(bits[1]), splat_u32(0x4000_4000)),
                                        ),
                                        and(left::<13>(bits[2]), splat_u32(0x2000_2000)),
                                    );
                                    for double in 0..2 {
                                        for step in 0..6 {
                                            let place = high_product(and(bits[step % 3], mask), walk);
                                            bits[step % 3] = left::<3>(bits[step % 3]);
                                            step!(6 * double + step, place);
                                        }
                                    }
                                    for step in 0..3 {
                                        step!(12 + step, high_product(and(bits[step], mask), walk));
                                    }
                                    step!(15, high_product(last, walk));
                                }
                                TWO => {
                                    let mask = splat(3);
                                    for line in 0..4 {
                                        let mut bits = index(line);
                                        for step in 0..4 {
                                            step!(4 * line + step, byte_places!(bits, mask, bases));
                                            bits = right::<2>(bits);
                                        }
                                    }
                                }
                                THREE => {
                                    let mask = splat(7);
                                    for eight in 0..2 {
                                        let bits =
                                            [index(3 * eight), index(3 * eight + 1), index(3 * eight + 2)];
                                        for line in 0..3 {
                                            let low = byte_places!(bits[line], mask, bases);
                                            step!(8 * eight + 2 * line, low);
                                            let high = byte_places!(right::<3>(bits[line]), mask, bases);
                                            step!(8 * eight + 2 * line + 1, high);
                                        }
                                        let low = and(right::<6>(bits[0]), splat(3));
                                        let high = and(right::<4>(bits[2]), splat(4));
                                        step!(8 * eight + 6, or(or(low, high), bases));
                                        let low = and(right::<6>(bits[1]), splat(3));
                                        let high = and(right::<5>(bits[2]), splat(4));
                                        step!(8 * eight + 7, or(or(low, high), bases));
                                    }
                                }
                                FOUR => {
                                    let mask = splat(15);
                                    for line in 0..8 {
                                        let bits = index(line);
                                        step!(2 * line, byte_places!(bits, mask, bases));
                                        step!(2 * line + 1, byte_places!(right::<4>(bits), mask, bases));
                                    }
                                }
                                _ => {
                                    for step in 0..STEPS {
                                        step!(step, bases);
                                    }
                                }
                            }
                            // SAFETY: a head has the scales of its two groups, and the zero points where there are any.
                            let weight = unsafe {
                                if plan.full_scales {
                                    load_floats(head.add(group % 2).cast(), part)
                                } else {
                                    load_halves(head.cast::<u16>().add(ROWS * (group % 2)), part)
                                }
                            };
                            for t in 0..T {
                                if C == ALL {
                                    acc[t].set_plain(plains[t][block]);
                                }
                                let (dot, plain) = acc[t].finish();
                                let mut value = floats(dot);
                                if plan.zeros {
                                    // SAFETY: as above.
                                    let zero = unsafe {
                                        load_floats(head.add(plan.head_lines() - 2 + group % 2).cast(), part)
                                    };
                                    value = sum(value, product(zero, floats(plain)));
                                }
                                let scale = product(weight, splat_float(scales[t][group]));
                                totals[part][t] = sum(totals[part][t], product(value, scale));
                            }
                        }
                        // SAFETY: the block's lines lie in the tile.
                        at = unsafe { at.add(block_lines) };
                        window += plan.block_window();
                        block += 1;
                    }
                }
                for (t, sums) in sums.iter_mut().enumerate().take(T) {
                    for part in 0..$parts {
                        // SAFETY: sixteen floats, which the parts share.
                        unsafe { store_floats(sums.as_mut_ptr(), part, totals[part][t]) };
                    }
                }
            }
        }
    };
}

/// Lines that are asked for ahead.
const AHEAD: usize = 64;

/// [`Coding`] as the parameter of a kernel.
const ALL: u8 = Coding::All as u8;
const PAIRS: u8 = Coding::Pairs as u8;
const TWO: u8 = Coding::Two as u8;
const THREE: u8 = Coding::Three as u8;
const FOUR: u8 = Coding::Four as u8;

mod vectors;

kernels!(v256, "avx2,fma,f16c", 2);
kernels!(v512, "avx512f,avx512dq,avx512bw,avx512vnni", 1);

macro_rules! entry {
    ($entry:ident, $width:ident) => {
        /// The sums of one tile and the tokens `first ..`, as many as there are sums (at most 4): `sums[t][row]`.
        pub(super) fn $entry(plan: &Plan, tile: &[Line], inputs: &Inputs, first: usize, sums: &mut [[f32; ROWS]]) {
            assert!(tile.len() == plan.tile_lines());
            match sums.len() {
                1 => $width::<1>(plan, tile, inputs, first, sums),
                2 => $width::<2>(plan, tile, inputs, first, sums),
                3 => $width::<3>(plan, tile, inputs, first, sums),
                4 => $width::<4>(plan, tile, inputs, first, sums),
                _ => {}
            }
        }

        fn $width<const T: usize>(plan: &Plan, tile: &[Line], inputs: &Inputs, first: usize, sums: &mut [[f32; ROWS]]) {
            let size = plan.groups * plan.blocks * plan.block_window() / LINE;
            let windows = core::array::from_fn(|t| {
                let windows = inputs.windows(first + t);
                assert!(windows.len() == size);
                windows.as_ptr().cast()
            });
            let scales = core::array::from_fn(|t| inputs.scales(first + t));
            assert!(scales.iter().all(|scales| scales.len() == plan.groups));
            let plains = core::array::from_fn(|t| inputs.plains(first + t));
            macro_rules! run {
                ($c:expr, $w:literal) => {
                    // SAFETY: lengths were checked here, the instruction set by the caller (`PreparedCodes::apply_into`);
                    // the parameters are the plan's.
                    unsafe {
                        if plan.wide {
                            $width::tile::<T, { $c }, $w, true>(plan, tile, windows, scales, plains, sums)
                        } else {
                            $width::tile::<T, { $c }, $w, false>(plan, tile, windows, scales, plains, sums)
                        }
                    }
                };
            }
            match (plan.coding, plan.windows) {
                (Coding::All, _) => run!(ALL, 1),
                (Coding::Pairs, _) => run!(PAIRS, 1),
                (Coding::Two, _) => run!(TWO, 1),
                (Coding::Three, 1) => run!(THREE, 1),
                (Coding::Three, _) => run!(THREE, 2),
                (Coding::Four, 1) => run!(FOUR, 1),
                (Coding::Four, 2) => run!(FOUR, 2),
                (Coding::Four, _) => run!(FOUR, 4),
            }
        }
    };
}

entry!(tile_256, v256);
entry!(tile_512, v512);
