//! From planar codes and GGUF blocks to tiles.
//!
//! Codes that are no whole multiples in 8 bits are decoded and rounded, 64 columns at a time:
//! `q = rne(ŵ/s)`, s = max|ŵ|/127 rounded to f16 where that is a normal number: `|ŵ − s·q| ≤ s/2·(1 + 2⁻⁴)`.

use super::layout::{Kind, Line, Plan, ROWS, STEP, Shift, Sizes};
use crate::{Code, Error, FloatFormat, Layout, Quantized, ZeroPoint, pack};
use alloc::{vec, vec::Vec};
use half::f16;

/// Groups are cut to this many columns where all share one scale.
const WIDEST: usize = 256;
/// Columns under one scale where weights are rounded to 8 bits.
const ROUNDED: usize = 64;
/// Columns of a group at most: its sums fit 32 bits.
const LARGEST: usize = 1 << 15;

const PRODUCT: &str = "the prepared product";

pub(super) fn unsupported(reason: &'static str) -> Error {
    Error::Unsupported { format: PRODUCT, reason }
}

/// The plan of a matrix and its lines.
pub(super) fn prepare(weight: &Quantized) -> Result<(Plan, Vec<Line>), Error> {
    let source = Source::new(weight)?;
    let plan = source.plan()?;
    let lines = plan.tiles().checked_mul(plan.tile_lines());
    let lines = lines
        .filter(|lines| lines.checked_mul(size_of::<Line>()).is_some_and(|b| isize::try_from(b).is_ok()));
    let mut lines = vec![Line([0; 64]); lines.ok_or(Error::TooLarge { what: "prepared matrix" })?];
    let mut codes = vec![0; weight.shape().1];
    for (tile, lines) in lines.chunks_exact_mut(plan.tile_lines().max(1)).enumerate() {
        for row in 0..ROWS {
            source.row(&plan, tile * ROWS + row, row, lines, &mut codes);
        }
    }
    Ok((plan, lines))
}

/// A matrix, and how its codes become those of a plan.
struct Source<'a> {
    weight: &'a Quantized,
    kind: Kind,
    /// By code.
    recode: [u8; 256],
    values: [i8; 16],
    exact: [f32; 16],
    factor: f32,
    shift: Shift,
    /// Columns that share a scale.
    size: usize,
    /// Scales and codes of the weight rounded to 8 bits, `[out][groups]` and `[out][in]`.
    rounded: Option<(Vec<f32>, Vec<u8>)>,
}

impl<'a> Source<'a> {
    fn new(weight: &'a Quantized) -> Result<Self, Error> {
        let scheme = weight.scheme();
        let code = scheme.code;
        let size = match scheme.layout {
            Layout::Planar => weight.grouping().size,
            Layout::Block(block) => block.run_len(),
        };
        let shift = match scheme.zero {
            ZeroPoint::None => Shift::None,
            ZeroPoint::Min => Shift::Min,
            ZeroPoint::Integer | ZeroPoint::Float(_) | ZeroPoint::Fraction { .. } => Shift::Zero,
        };
        let mut source = Self {
            weight,
            kind: Kind::Nibbles,
            recode: [0; 256],
            values: core::array::from_fn(|code| i8::try_from(code).unwrap_or(0) - 8),
            exact: core::array::from_fn(|code| code as f32 - 8.0),
            factor: 1.0,
            shift,
            size,
            rounded: None,
        };
        match code {
            Code::Int { bits, signed } => {
                let centre: u8 = if bits <= 4 { 8 } else { 128 };
                source.kind = if bits <= 4 { Kind::Nibbles } else { Kind::Bytes };
                let added = if signed { centre - (1 << (bits.clamp(2, 8) - 1)) } else { 0 };
                source.recode = core::array::from_fn(|code| code.to_le_bytes()[0].wrapping_add(added));
            }
            Code::Table(_) | Code::MiniFloat(_) | Code::Fixed if code.bits() <= 4 => source.table(),
            Code::Table(_) | Code::MiniFloat(_) | Code::Fixed if source.whole() => {}
            Code::Table(_) | Code::MiniFloat(_) | Code::Fixed | Code::Trellis(_) | Code::Lattice(_) => {
                source.round()?;
            }
        }
        Ok(source)
    }

    /// 4-bit codes by table, rounded to whole numbers.
    fn table(&mut self) {
        let code = self.weight.scheme().code;
        self.kind = Kind::Table;
        self.exact = core::array::from_fn(|at| code.value(at.to_le_bytes()[0]));
        (self.values, self.factor) = whole_table(&self.exact);
        self.recode = core::array::from_fn(|at| at.to_le_bytes()[0]);
    }

    /// Codes of more bits whose numbers are whole multiples of a power of two; `false` when they are not.
    fn whole(&mut self) -> bool {
        let code = self.weight.scheme().code;
        let count = 1_usize << code.bits().min(8);
        let value = |at: usize| code.value(at.to_le_bytes()[0]);
        let fits = |unit: f32| {
            (0..count).all(|at| {
                let multiple = value(at) / unit;
                multiple.abs() <= 128.0 && multiple > -129.0 && multiple < 128.0 && whole(multiple).is_some()
            })
        };
        let units = (0..9).map(|shift| 1.0 / f32::from(1_u16 << shift));
        let Some(unit) = units.into_iter().find(|&unit| fits(unit)) else { return false };
        self.kind = Kind::Bytes;
        self.factor = unit;
        for (at, recode) in self.recode.iter_mut().enumerate().take(count) {
            *recode = whole(value(at) / unit).unwrap_or(0).to_le_bytes()[0] ^ 0x80;
        }
        true
    }

    /// The weight itself in 8 bits.
    fn round(&mut self) -> Result<(), Error> {
        let (out, features) = self.weight.shape();
        let len = out.checked_mul(features).ok_or(Error::TooLarge { what: "prepared matrix" })?;
        let mut values = vec![0.0; len];
        self.weight.dequantize_into(&mut values)?;
        let (mut scales, mut codes) = (Vec::new(), vec![0; len]);
        for (values, codes) in values.chunks(features.max(1)).zip(codes.chunks_mut(features.max(1))) {
            for (values, codes) in values.chunks(ROUNDED).zip(codes.chunks_mut(ROUNDED)) {
                let scale = rounded_scale(values.iter().fold(0.0, |top: f32, w| top.max(w.abs())) / 127.0);
                for (code, w) in codes.iter_mut().zip(values) {
                    let q = if scale > 0.0 { (w / scale).clamp(-127.0, 127.0) } else { 0.0 };
                    let q = whole(crate::code::int::round_ties_even(q)).unwrap_or(0);
                    *code = q.to_le_bytes()[0] ^ 0x80;
                }
                scales.push(scale);
            }
        }
        (self.kind, self.shift, self.size) = (Kind::Bytes, Shift::None, ROUNDED);
        self.rounded = Some((scales, codes));
        Ok(())
    }

    fn plan(&self) -> Result<Plan, Error> {
        let shape = self.weight.shape();
        let size = self.size;
        let group =
            if size >= shape.1 || size.is_multiple_of(WIDEST) { size.min(WIDEST) } else { size }.max(1);
        if group > LARGEST {
            return Err(unsupported("scale groups of more than 32768 columns"));
        }
        let largest = self.values.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
        let (offset, chain) = match self.kind {
            Kind::Nibbles => (8, 64),
            // Chains: n·2·127·largest ≤ 32767 for n pairs, of four columns each.
            Kind::Table if largest <= 32 => {
                let pairs = 32767 / (2 * 127 * usize::from(largest).max(1));
                (i32::from(largest), (pairs * 4 / STEP * STEP).min(64))
            }
            Kind::Table | Kind::Bytes => (128, 0),
        };
        let mut plan = Plan {
            shape,
            kind: self.kind,
            values: self.values,
            offset,
            exact: self.exact,
            factor: self.factor,
            rounded: self.rounded.is_some(),
            group,
            groups: shape.1.div_ceil(group),
            chain,
            head: FloatFormat::F16,
            shift: self.shift,
            sizes: Sizes::default(),
        };
        plan.head = self.head(&plan);
        Ok(plan.sized())
    }

    /// The narrowest format that holds every scale and shift.
    fn head(&self, plan: &Plan) -> FloatFormat {
        let fits = |format: FloatFormat| {
            (0..plan.shape.0).all(|row| {
                (0..plan.groups).all(|group| {
                    let (scale, shift) = self.floats(plan, row, group);
                    [scale, shift].iter().all(|v| format.round(f64::from(*v)).to_bits() == v.to_bits())
                })
            })
        };
        [FloatFormat::F16, FloatFormat::Bf16].into_iter().find(|&f| fits(f)).unwrap_or(FloatFormat::F32)
    }

    /// Scale, and zero point or minimum, of a group of the plan.
    fn floats(&self, plan: &Plan, row: usize, group: usize) -> (f32, f32) {
        if let Some((scales, _)) = &self.rounded {
            return (scales[row * plan.groups + group], 0.0);
        }
        let column = group * plan.group;
        match self.weight.scheme().layout {
            Layout::Planar => {
                let group = column / self.weight.grouping().size;
                (self.weight.scale(row, group), self.weight.zero_point(row, group))
            }
            Layout::Block(block) => {
                let len = self.weight.grouping().size;
                let bytes = &self.weight.row_codes(row)[column / len * block.bytes()..][..block.bytes()];
                block.run(bytes, column % len / block.run_len())
            }
        }
    }

    /// Row `row` of the matrix as row `at` of a tile.
    fn row(&self, plan: &Plan, row: usize, at: usize, tile: &mut [Line], codes: &mut [u8]) {
        let exists = row < plan.shape.0;
        if let Some((_, rounded)) = self.rounded.as_ref().filter(|_| exists) {
            codes.copy_from_slice(&rounded[row * codes.len()..][..codes.len()]);
        } else if exists {
            match self.weight.scheme().layout {
                Layout::Planar => {
                    pack::unpack(self.weight.row_codes(row), self.weight.scheme().code.bits(), codes)
                }
                Layout::Block(block) => {
                    let blocks = self.weight.row_codes(row).chunks_exact(block.bytes());
                    for (bytes, codes) in blocks.zip(codes.chunks_mut(self.weight.grouping().size)) {
                        block.codes(bytes, codes);
                    }
                }
            }
        }
        for group in 0..plan.groups {
            let (scale, shift) = if exists { self.floats(plan, row, group) } else { (0.0, 0.0) };
            plan.set_head(tile, (group, at), scale, shift);
            let columns = group * plan.group..((group + 1) * plan.group).min(plan.shape.1);
            let stored = if exists { &codes[columns] } else { &[] };
            for column in 0..plan.columns(group) {
                let recoded = |&code: &u8| if plan.rounded { code } else { self.recode[usize::from(code)] };
                let code = stored.get(column).map_or(plan.filler(), recoded);
                plan.set_code(tile, (group, at, column), code);
            }
        }
    }
}

/// `scale` as f16 where that is a normal number.
fn rounded_scale(scale: f32) -> f32 {
    let short = f16::from_f32(scale);
    if short.is_normal() { short.to_f32() } else { scale }
}

/// `x` as a whole number of 8 bits, if it is one.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and the result is compared")]
fn whole(x: f32) -> Option<i8> {
    let near = x as i8;
    (f32::from(near) == x).then_some(near)
}

/// Whole numbers of at most 127 and a unit: exact where a unit of 1/64 or more makes them whole, else the pair of least
/// squared error among units 1/c, c in sixteenths from 63 to 127 over the largest number.
fn whole_table(exact: &[f32; 16]) -> ([i8; 16], f32) {
    let largest = exact.iter().fold(0.0_f32, |top, v| top.max(v.abs()));
    for shift in 0..7_u8 {
        let unit = 1.0 / f32::from(1_u16 << shift);
        if largest / unit <= 127.0 && exact.iter().all(|v| whole(v / unit).is_some()) {
            return (exact.map(|v| whole(v / unit).unwrap_or(0)), unit);
        }
    }
    let mut best = (f64::INFINITY, [0; 16], 1.0);
    for sixteenths in 63 * 16..=127 * 16_u16 {
        let unit = largest * 16.0 / f32::from(sixteenths);
        let values = exact
            .map(|v| whole(crate::code::int::round_ties_even((v / unit).clamp(-127.0, 127.0))).unwrap_or(0));
        let terms = values.iter().zip(exact).map(|(&t, &v)| f64::from(t) * f64::from(unit) - f64::from(v));
        let error: f64 = terms.map(|e| e * e).sum();
        if error < best.0 {
            best = (error, values, unit);
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::whole_table;
    use crate::code::table::{BNB_FP4, NF4};

    #[test]
    fn tables_are_near_their_whole_numbers() {
        for (table, bound) in [(NF4, 0.004), (BNB_FP4, 0.005_3)] {
            let (values, unit) = whole_table(&table);
            for (t, v) in values.iter().zip(table) {
                assert!((f32::from(*t) * unit - v).abs() < bound, "{t} {unit} {v}");
            }
        }
        let doubled = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let signed = core::array::from_fn(|i| if i < 8 { doubled[i] } else { -doubled[i - 8] });
        let (values, unit) = whole_table(&signed);
        assert_eq!((values[7], values[15], unit), (12, -12, 0.5));
    }
}
