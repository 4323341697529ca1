//! Where codes, indices and scales lie; see [`PreparedCodes`](super::PreparedCodes).

use crate::NmPattern;

/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Slots of a row that one step multiplies: the bytes of a lane of 32 bits.
pub(super) const LANES: usize = 4;
/// Steps of a block.
pub(super) const STEPS: usize = 16;
/// Slots of a block.
pub(super) const BLOCK: usize = LANES * STEPS;
/// Bytes of a window: what one shuffle chooses from.
pub(super) const WINDOW: usize = 16;

/// Bytes of a line.
pub(super) const LINE: usize = 64;

/// A cache line: byte `4·row + lane`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; LINE]);

/// How the places of kept values are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Coding {
    /// Nothing: every entry is kept.
    All,
    /// Two of at most four: 3 bits for both; see [`WALK`].
    Pairs,
    /// 2 bits an index.
    Two,
    /// 3 bits an index.
    Three,
    /// 4 bits an index.
    Four,
}

/// Steps of a chunk, and the lines of indices before its lines of codes: a block is read from its first byte to its last.
const fn chunk(coding: u8) -> (usize, usize) {
    const ALL: u8 = Coding::All as u8;
    const PAIRS: u8 = Coding::Pairs as u8;
    const TWO: u8 = Coding::Two as u8;
    const THREE: u8 = Coding::Three as u8;
    match coding {
        ALL => (16, 0),
        PAIRS => (16, 3),
        TWO => (4, 1),
        THREE => (8, 3),
        _ => (2, 1),
    }
}

/// Lines of a chunk.
const fn chunk_lines(coding: u8, wide: bool) -> usize {
    let (steps, indices) = chunk(coding);
    indices + if wide { steps } else { steps / 2 }
}

/// Where a block's line of indices `line` lies.
pub(super) const fn index_line(coding: u8, wide: bool, line: usize) -> usize {
    let indices = chunk(coding).1;
    if indices == 0 {
        return 0;
    }
    line / indices * chunk_lines(coding, wide) + line % indices
}

/// Where the line with the codes of a step lies.
pub(super) const fn code_line(coding: u8, wide: bool, step: usize) -> usize {
    let (steps, indices) = chunk(coding);
    let within = if wide { step % steps } else { step % steps / 2 };
    step / steps * chunk_lines(coding, wide) + indices + within
}

/// A walk that crosses every pair of four columns: code c of a pair stands for places c − 1 and c of it.
///
/// The window of a step holds the walk of its first group in bytes 0 to 7 and that of its second, reversed, in bytes 15
/// to 8, so that a multiplication turns a code into two bytes of a shuffle: `(c·2¹³·K) >> 16` is `(c − 1) + c·2⁸` for
/// [`FIRST`] and `(15 − c) + (16 − c)·2⁸` for [`SECOND`], but for bits 4 to 6 of each byte, which a shuffle does not read.
pub(super) const WALK: [u8; 8] = [3, 2, 1, 3, 0, 2, 1, 0];
/// The multiplier of the first group's codes.
pub(super) const FIRST: u16 = 0x0807;
/// The multiplier of the second group's codes.
pub(super) const SECOND: u16 = 0x7877;

/// The shuffle bytes of a step's two pairs from their codes, as the kernels compute them.
pub(super) fn walked(codes: [u16; 2]) -> [u8; LANES] {
    let bytes = |code: u16, factor: u16| {
        let product = u32::from(code & 7) << 13;
        // Below 2¹⁶·7/8.
        u16::try_from((product * u32::from(factor)) >> 16).unwrap_or(0).to_le_bytes()
    };
    let ([a, b], [c, d]) = (bytes(codes[0], FIRST), bytes(codes[1], SECOND));
    // What a shuffle looks at beside the highest bit, which is 0.
    [a, b, c, d].map(|byte| byte & 15)
}

/// The numbers of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) pattern: NmPattern,
    pub(super) cols: usize,
    /// Kept values of a row.
    pub(super) slots: usize,
    pub(super) coding: Coding,
    /// Windows of a step: 1, 2 or 4.
    pub(super) windows: usize,
    /// Bytes of a window that belong to one group of columns.
    pub(super) span: usize,
    /// Lanes that share a group of columns.
    pub(super) share: usize,
    /// Codes of 8 bits, not 4.
    pub(super) wide: bool,
    /// Scale groups of a row.
    pub(super) groups: usize,
    /// Blocks of a scale group.
    pub(super) blocks: usize,
    /// Scales are f32, not f16.
    pub(super) full_scales: bool,
    /// There are zero points.
    pub(super) zeros: bool,
}

impl Plan {
    /// How indices are stored: the coding, bytes of a window for each group of columns, lanes that share one.
    pub(super) fn coding(pattern: NmPattern) -> Option<(Coding, usize, usize)> {
        let (keep, of) = (pattern.keep(), pattern.of());
        if keep == of {
            return Some((Coding::All, LANES, LANES));
        }
        let share = if keep.is_multiple_of(4) {
            4
        } else if keep.is_multiple_of(2) {
            2
        } else {
            1
        };
        match of {
            3 | 4 if keep == 2 => Some((Coding::Pairs, 8, 2)),
            ..=4 => Some((Coding::Two, 4, share)),
            5..=8 => Some((Coding::Three, 8, share)),
            9..=16 => Some((Coding::Four, 16, share)),
            _ => None,
        }
    }

    /// Lines of a block.
    pub(super) const fn block_lines(&self) -> usize {
        code_line(self.coding as u8, self.wide, STEPS - 1) + 1
    }

    /// Lines before each two scale groups: their scales, then their zero points.
    pub(super) const fn head_lines(&self) -> usize {
        (if self.full_scales { 2 } else { 1 }) + (if self.zeros { 2 } else { 0 })
    }

    /// Line at which a scale group's first block begins, in its tile.
    pub(super) const fn group_line(&self, group: usize) -> usize {
        (group / 2 + 1) * self.head_lines() + group * self.blocks * self.block_lines()
    }

    /// Lines of a tile.
    pub(super) const fn tile_lines(&self) -> usize {
        self.groups.div_ceil(2) * self.head_lines() + self.groups * self.blocks * self.block_lines()
    }

    /// Bytes of the windows of one block.
    pub(super) const fn block_window(&self) -> usize {
        STEPS * self.windows * WINDOW
    }

    /// What the code of a zero is, so that padding counts for nothing.
    pub(super) const fn centre(&self) -> u8 {
        if self.wide { 128 } else { 8 }
    }

    /// The first of the lanes that share a lane's group of columns, counted in groups.
    const fn lane_group(&self, lane: usize) -> usize {
        lane / self.share
    }

    /// Window of a lane and the shuffle byte of its first column there.
    pub(super) const fn lane_base(&self, lane: usize) -> (usize, u8) {
        let byte = self.lane_group(lane) * self.span;
        #[expect(clippy::cast_possible_truncation, reason = "below 16")]
        (byte / WINDOW, (byte % WINDOW) as u8)
    }

    /// The column that byte `at` of a step's windows holds, if there is one. `first` is the step's first slot.
    pub(super) fn column(&self, first: usize, at: usize) -> Option<usize> {
        let (keep, of) = (self.pattern.keep(), self.pattern.of());
        let column = match self.coding {
            Coding::All => first + at % LANES,
            Coding::Pairs => {
                let (second, place) = if at < 8 { (0, at) } else { (1, 15 - at) };
                let offset = usize::from(WALK[place % 8]);
                if offset >= of {
                    return None;
                }
                (first / keep + second) * of + offset
            }
            _ => {
                let (group, offset) = (at / self.span, at % self.span);
                if group * self.share >= LANES || offset >= of {
                    return None;
                }
                (first + group * self.share) / keep * of + offset
            }
        };
        (column < self.cols).then_some(column)
    }

    /// Stores the places of a row's four slots of one step, given as offsets in their groups, in a block's lines.
    pub(super) fn set_places(&self, block: &mut [Line], step: usize, row: usize, offsets: [u8; LANES]) {
        if self.coding == Coding::Pairs {
            for (half, pair) in [[offsets[0], offsets[1]], [offsets[2], offsets[3]]].into_iter().enumerate() {
                let found = (1..8_u16).find(|&c| is_step(c, pair, half));
                self.set_pair(block, step, (row, half), found.unwrap_or(1));
            }
            return;
        }
        for (lane, offset) in offsets.into_iter().enumerate() {
            let at = LANES * row + lane;
            let mut put =
                |line: usize, shift: usize, bits: u8| block[self.index_line(line)].0[at] |= bits << shift;
            match self.coding {
                Coding::All | Coding::Pairs => {}
                Coding::Two => put(step / 4, 2 * (step % 4), offset & 3),
                Coding::Four => put(step / 2, 4 * (step % 2), offset & 15),
                Coding::Three => {
                    let (eight, r) = (step / 8 * 3, step % 8);
                    if r < 6 {
                        put(eight + r / 2, 3 * (r % 2), offset & 7);
                    } else {
                        put(eight + r - 6, 6, offset & 3);
                        put(eight + 2, r, offset >> 2 & 1);
                    }
                }
            }
        }
    }

    fn set_pair(&self, block: &mut [Line], step: usize, (row, half): (usize, usize), code: u16) {
        let mut put = |line: usize, bits: u16| {
            let at = LANES * row + 2 * half;
            for (byte, more) in block[self.index_line(line)].0[at..at + 2].iter_mut().zip(bits.to_le_bytes())
            {
                *byte |= more;
            }
        };
        match step {
            15 => (0..3).for_each(|line| put(line, code >> (2 - line) & 1)),
            _ => put(step % 3, code << (13 - 3 * (step / 3))),
        }
    }

    /// The shuffle bytes of a row's four slots of one step: the places within their windows.
    pub(super) fn shuffle(&self, block: &[Line], step: usize, row: usize) -> [u8; LANES] {
        if self.coding == Coding::Pairs {
            return walked([0, 1].map(|half| {
                let word = |line: usize| {
                    let at = LANES * row + 2 * half;
                    let bytes = &block[self.index_line(line)].0;
                    u16::from_le_bytes([bytes[at], bytes[at + 1]])
                };
                match step {
                    15 => (word(0) & 1) << 2 | (word(1) & 1) << 1 | word(2) & 1,
                    _ => word(step % 3) >> (13 - 3 * (step / 3)) & 7,
                }
            }));
        }
        core::array::from_fn(|lane| {
            let at = LANES * row + lane;
            let get = |line: usize, shift: usize| block[self.index_line(line)].0[at] >> shift;
            let offset = match self.coding {
                Coding::All | Coding::Pairs => return u8::try_from(lane).unwrap_or(0),
                Coding::Two => get(step / 4, 2 * (step % 4)) & 3,
                Coding::Four => get(step / 2, 4 * (step % 2)) & 15,
                Coding::Three => {
                    let (eight, r) = (step / 8 * 3, step % 8);
                    if r < 6 {
                        get(eight + r / 2, 3 * (r % 2)) & 7
                    } else {
                        get(eight + r - 6, 6) & 3 | (get(eight + 2, r) & 1) << 2
                    }
                }
            };
            offset + self.lane_base(lane).1
        })
    }

    /// Stores a code.
    pub(super) fn set_code(&self, block: &mut [Line], (step, row, lane): (usize, usize, usize), code: u8) {
        let byte = &mut block[code_line(self.coding as u8, self.wide, step)].0[LANES * row + lane];
        if self.wide {
            *byte = code;
        } else {
            let shift = 4 * (step % 2);
            *byte = *byte & !(15 << shift) | (code & 15) << shift;
        }
    }

    /// Reads a code.
    pub(super) fn code(&self, block: &[Line], (step, row, lane): (usize, usize, usize)) -> u8 {
        let byte = block[code_line(self.coding as u8, self.wide, step)].0[LANES * row + lane];
        if self.wide { byte } else { byte >> (4 * (step % 2)) & 15 }
    }

    fn index_line(&self, line: usize) -> usize {
        index_line(self.coding as u8, self.wide, line)
    }
}

/// Whether code `c` stands for this pair of offsets, in this order. The second group of a step walks backwards.
fn is_step(c: u16, [a, b]: [u8; 2], half: usize) -> bool {
    let c = usize::from(c);
    let (from, to) = if half == 0 { (a, b) } else { (b, a) };
    WALK[c - 1] == from && WALK[c] == to
}

/// Whether the first or second pair of offsets lies on the walk the other way round: its values have to change places.
pub(super) fn is_reversed(pair: [u8; 2], half: usize) -> bool {
    !(1..8).any(|c| is_step(c, pair, half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_crosses_every_pair() {
        for a in 0..4_u8 {
            for b in a + 1..4 {
                for half in 0..2 {
                    assert!(!is_reversed([a, b], half) || !is_reversed([b, a], half));
                }
            }
        }
        for c in 1..8_u16 {
            let code = u8::try_from(c).unwrap();
            assert_eq!(walked([c, c]), [code - 1, code, 15 - code, 16 - code]);
        }
    }

    #[test]
    fn what_is_stored_is_read() {
        for of in 2..=16 {
            for keep in 1..=of {
                let pattern = NmPattern::new(keep, of).unwrap();
                let Some((coding, span, share)) = Plan::coding(pattern) else { continue };
                let windows = (LANES / share * span).div_ceil(WINDOW).max(1);
                let (cols, slots) = (2000, pattern.kept_per_row(2000));
                let plan = Plan {
                    pattern,
                    cols,
                    slots,
                    coding,
                    windows,
                    span,
                    share,
                    wide: keep % 2 == 1,
                    groups: 1,
                    blocks: 1,
                    full_scales: false,
                    zeros: false,
                };
                let mut block = [Line([0; 64]); 24];
                let block = &mut block[..plan.block_lines()];
                let offsets = |step: usize, row: usize| -> [u8; 4] {
                    let mut places: [u8; 4] = core::array::from_fn(|lane| {
                        // Ascending inside a group, as kept values are.
                        let slot = LANES * step + lane;
                        let (of, keep) = (of as usize, keep as usize);
                        let free = of - keep;
                        u8::try_from(slot % keep + (row + step / 3) % (free + 1)).unwrap()
                    });
                    if coding == Coding::Pairs {
                        for (half, pair) in places.chunks_exact_mut(2).enumerate() {
                            if is_reversed([pair[0], pair[1]], half) {
                                pair.swap(0, 1);
                            }
                        }
                    }
                    places
                };
                for step in 0..STEPS {
                    for row in 0..ROWS {
                        let places = offsets(step, row);
                        plan.set_places(block, step, row, places);
                        for lane in 0..LANES {
                            let code = u8::try_from((step * 7 + row * 5 + lane) % 16).unwrap();
                            plan.set_code(block, (step, row, lane), code);
                        }
                    }
                }
                for step in 0..STEPS {
                    for row in 0..ROWS {
                        let shuffle = plan.shuffle(block, step, row);
                        let mut found = [0; LANES];
                        for (lane, byte) in shuffle.into_iter().enumerate() {
                            let at = plan.lane_base(lane).0 * WINDOW + usize::from(byte);
                            found[lane] = plan.column(LANES * step, at).unwrap();
                            let code = usize::from(plan.code(block, (step, row, lane)));
                            assert_eq!(code, (step * 7 + row * 5 + lane) % 16);
                        }
                        let places = offsets(step, row);
                        let expected: [usize; LANES] = core::array::from_fn(|lane| {
                            let slot = LANES * step + lane;
                            if coding == Coding::All {
                                return slot;
                            }
                            slot / keep as usize * of as usize + usize::from(places[lane])
                        });
                        assert_eq!(found, expected, "{pattern} {step} {row}");
                    }
                }
            }
        }
    }
}
