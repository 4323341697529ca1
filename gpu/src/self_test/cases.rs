//! The table of cases.

use crate::Error;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::{
    Activation, Code, ColumnParts, FloatFormat, Floats, Group, Outliers, Permutation, Quantized, Rate,
    Rounder, Scheme, Smooth, Transform, Trellis, ZeroPoint, pack, part_lengths, quantize, scheme,
};
use rankbit_sparse::{NmPattern, Pattern, SparseMatrix, ValueFormat, criterion, select};

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Case {
    pub(super) shape: (usize, usize),
    scheme: Option<Scheme>,
    rank: usize,
    pub(super) tokens: usize,
    smooth: bool,
    permute: bool,
    sparse: Option<(NmPattern, FloatFormat)>,
    bias: bool,
    activation: Activation,
}

/// Formats whose codes, scales and zero points are drawn, not fitted.
const ALL_CODES: [Option<&str>; 3] = [Some("int4"), Some("uint4"), Some("nf4")];

/// Shapes around the tile (16 rows, 8 columns), ones and primes.
const SHAPES: [(usize, usize); 13] = [
    (1, 1),
    (1, 64),
    (15, 7),
    (16, 8),
    (17, 9),
    (31, 63),
    (32, 64),
    (33, 65),
    (37, 131),
    (64, 127),
    (5, 257),
    (113, 48),
    (67, 300),
];
const ACTIVATIONS: [Activation; 8] = [
    Activation::INT8,
    Activation::integer(8, Group::Size(64)),
    Activation::INT4,
    Activation::integer(8, Group::Size(32)),
    Activation::integer(6, Group::Size(24)),
    Activation::integer(8, Group::Size(8)),
    Activation::integer(4, Group::Row),
    Activation::integer(4, Group::Size(16)),
];
const TOKENS: [usize; 8] = [1, 2, 3, 5, 8, 9, 17, 37];
const RANKS: [usize; 4] = [0, 1, 16, 33];
const GROUPS: [Group; 9] = [
    Group::Size(64),
    Group::Size(16),
    Group::Row,
    Group::Size(5),
    Group::Tensor,
    Group::Size(24),
    Group::Size(1),
    Group::Size(100),
    Group::Size(32),
];

/// The table: every shape with every format and number of tokens, the rest in rotation.
pub(super) fn cases() -> Vec<Case> {
    let patterns: Vec<NmPattern> = [(2, 4), (1, 8), (4, 8), (3, 5), (1, 2), (17, 32)]
        .iter()
        .filter_map(|&(n, m)| NmPattern::new(n, m).ok())
        .collect();
    let sparse = |turn: usize| {
        let pattern = patterns.get(turn / 4 % patterns.len().max(1)).filter(|_| turn % 4 == 1)?;
        Some((*pattern, [FloatFormat::F16, FloatFormat::F32, FloatFormat::Bf16][turn / 8 % 3]))
    };
    // Inputs as they are, what is beside the weight by the turn.
    let floats = |turn: usize, shape, scheme, rank, tokens| Case {
        shape,
        scheme: Some(scheme),
        rank,
        tokens,
        smooth: turn % 5 < 2,
        permute: turn % 7 < 3,
        sparse: sparse(turn),
        bias: turn % 6 == 1,
        activation: Activation::Float,
    };
    let formats = [scheme::INT4, scheme::UINT4, scheme::NF4];
    let scales = [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16];
    let mut cases = Vec::new();
    let mut turn = 0;
    for shape in SHAPES {
        for tokens in TOKENS {
            for format in formats {
                let group = GROUPS[turn % GROUPS.len()];
                let scale = scales[turn / 2 % scales.len()];
                let rank = RANKS[turn / 3 % RANKS.len()].min(shape.0).min(shape.1);
                let scheme = format.with_group(group).with_scale_format(scale);
                cases.push(floats(turn, shape, scheme, rank, tokens));
                turn += 1;
            }
        }
    }
    // Vector codes: every code at every shape, with and without a second thread's tokens, rank and transform.
    for (index, scheme) in vector_schemes().into_iter().enumerate() {
        for (at, shape) in SHAPES.into_iter().enumerate() {
            let tokens = [1, 9, 2, 5][(index + at) % 4];
            let rank = RANKS[turn % RANKS.len()].min(shape.0).min(shape.1);
            let scheme = scheme.with_scale_format(scales[turn % scales.len()]);
            cases.push(floats(turn, shape, scheme, rank, tokens));
            turn += 1;
        }
    }
    // The other formats, on shapes that blocks of 32 divide; all of them with quantized inputs, too.
    let vectors = [scheme::TRELLIS3, scheme::E8P];
    let [int, uint, _] = formats;
    let bytes = [scheme::INT8, scheme::UINT8];
    let eights =
        [int, uint, scheme::NF4, bytes[0], bytes[1]].map(|format| format.with_group(Group::Size(16)));
    let sixties = [int, uint, bytes[0], bytes[1]].map(|format| format.with_group(Group::Size(64)));
    for (index, scheme) in other_schemes().into_iter().chain(eights).chain(sixties).chain(vectors).enumerate()
    {
        for (at, shape) in [(1, 32), (33, 64), (17, 320), (48, 96), (67, 160)].into_iter().enumerate() {
            let tokens = [1, 3, 12, 2, 17, 70, 66][(index + at) % 7];
            let rank = RANKS[turn % RANKS.len()].min(shape.0);
            let (smooth, permute) = (turn % 5 < 2, turn % 7 < 3);
            let policy = ACTIVATIONS[(index + at) % ACTIVATIONS.len()];
            // Groups of inputs lie beside whole groups of the weight only.
            let whole = scheme.block_len().is_some()
                || matches!(scheme.group, Group::Size(size) if size % 8 == 0)
                || scheme.group == Group::Row;
            let policy = if whole { policy } else { Activation::INT8 };
            for activation in [Activation::Float, policy] {
                let (scheme, sparse, bias) = (Some(scheme), sparse(turn), turn % 2 == 1);
                cases.push(Case { shape, scheme, rank, tokens, smooth, permute, sparse, bias, activation });
                turn += 1;
            }
        }
    }
    // One term alone, none at all.
    for (scheme, rank) in [(Some(scheme::NF4), 0), (None, 7), (None, 0)] {
        for tokens in [1, 17] {
            let (smooth, permute) = (rank > 0, rank == 0);
            for sparse in [None, sparse(1), sparse(8 + 1)] {
                let bias = sparse.is_none();
                let (shape, activation) = ((33, 65), Activation::INT8);
                cases.push(Case { shape, scheme, rank, tokens, smooth, permute, sparse, bias, activation });
            }
        }
    }
    cases
}

/// Fewer bits, all tables, small floats, blocks.
fn other_schemes() -> Vec<Scheme> {
    let groups = [scheme::INT3, scheme::INT2, scheme::UINT3, scheme::UINT2, scheme::NF3, scheme::AF4];
    let groups = groups.into_iter().zip(GROUPS).map(|(scheme, group)| scheme.with_group(group));
    let fixed =
        [scheme::BNB_FP4, scheme::NF2, scheme::NF4_DQ, scheme::BINARY, scheme::TERNARY, scheme::MXFP4];
    let bits = |bits, signed| Code::Int { bits, signed };
    let wide =
        [(5, true), (6, true), (7, false), (5, false)].into_iter().zip(GROUPS).map(|((n, signed), group)| {
            let scheme = if signed { scheme::INT8 } else { scheme::UINT8 };
            Scheme { code: bits(n, signed), ..scheme }.with_group(group)
        });
    groups
        .chain(fixed)
        .chain(wide)
        .chain([scheme::NVFP4, scheme::Q4_0, scheme::Q8_0, scheme::IQ4_NL])
        .collect()
}

/// Trellises of every rate and several windows, a rate for each column, the lattices.
fn vector_schemes() -> Vec<Scheme> {
    let trellis = |window, rate| Scheme { code: Code::Trellis(Trellis { window, rate }), ..scheme::TRELLIS2 };
    let rates = (1..=8).map(|rate| trellis(12, Rate::Uniform(rate)));
    let windows = [8, 9, 15, 16].map(|window| trellis(window, Rate::Uniform(3)));
    let budgets = [trellis(12, Rate::budget(3.0)), trellis(8, Rate::budget(3.0))];
    let lattices = [scheme::E8P, scheme::E8P3, scheme::E8P4];
    rates.chain(windows).chain(budgets).chain(lattices).collect()
}

/// A matrix of vector codes drawn from `random`: every code, rates from 0 to 8, scales of columns from 0 on, outliers
/// in every tenth entry or so.
fn vector_base(shape: (usize, usize), scheme: &Scheme, random: &mut Stream) -> Result<Quantized, Error> {
    let (out, features) = shape;
    let byte = |random: &mut Stream| u8::try_from(random.next_below(256)).unwrap_or(0);
    let rates: Vec<u8> = match scheme.code {
        Code::Trellis(Trellis { rate: Rate::Budget(_), .. }) => {
            (0..features).map(|_| byte(random) % 9).collect()
        }
        _ => Vec::new(),
    };
    // Around 1, and some 0.
    let column_scales = (0..features).map(|_| if byte(random) < 20 { 0 } else { 112 + byte(random) / 8 });
    let column_scales = column_scales.collect();
    let places = (0..u32::try_from(out * features).unwrap_or(0)).filter(|_| random.next_below(10) == 0);
    let places: Vec<u32> = places.collect();
    let values = Floats::encode(&normal(random, places.len()), scheme.scale_format);
    let outliers = Outliers::new(places, values)?;
    let columns = ColumnParts::new(shape, scheme, column_scales, rates, outliers)?;
    let codes = match scheme.code {
        Code::Trellis(_) => columns.stream_bytes(),
        _ => part_lengths(shape, scheme)?.codes,
    };
    let codes = (0..codes).map(|_| byte(random)).collect();
    let scales = Floats::encode(&normal(random, out), scheme.scale_format);
    Ok(Quantized::from_vector_parts(shape, *scheme, codes, scales, columns)?)
}

impl Case {
    pub(super) fn name(&self) -> String {
        let base = match &self.scheme {
            None => "no base".to_owned(),
            Some(s) => {
                let name = match s.code {
                    Code::Trellis(Trellis { window, rate: Rate::Uniform(rate) }) => {
                        format!("trellis{rate} of {window} bits")
                    }
                    Code::Trellis(Trellis { window, .. }) => format!("trellis of {window} bits"),
                    _ => s.name().unwrap_or("?").to_owned(),
                };
                format!("{name} {:?} scales {}", s.group, s.scale_format.name())
            }
        };
        let smooth = if self.smooth { " smoothed" } else { "" };
        let permuted = if self.permute { " permuted" } else { "" };
        let sparse = match self.sparse {
            Some((pattern, format)) => format!(" and {pattern} {}", format.name()),
            None => String::new(),
        };
        let bias = if self.bias { " and a bias" } else { "" };
        let inputs =
            if self.activation.is_float() { String::new() } else { format!(", inputs {}", self.activation) };
        let ((out, features), rank, tokens) = (self.shape, self.rank, self.tokens);
        format!("{out}x{features} {base} rank {rank} tokens {tokens}{smooth}{permuted}{sparse}{bias}{inputs}")
    }

    /// A split with every code, zero points and scales of either sign, drawn from the case's own stream.
    pub(super) fn split(&self, random: &mut Stream) -> Result<Split, Error> {
        let (out, features) = self.shape;
        let base = match &self.scheme {
            None => None,
            Some(scheme) if scheme.code.is_vector() => Some(vector_base(self.shape, scheme, random)?),
            Some(scheme) if !ALL_CODES.contains(&scheme.name()) => {
                let weight = normal(random, out * features);
                let weight = MatRef::from_row_major_slice(&weight, out, features);
                Some(quantize(weight, scheme, Rounder::Nearest)?.quantized)
            }
            Some(scheme) => {
                let lengths = part_lengths(self.shape, scheme)?;
                let mut codes = Vec::with_capacity(lengths.codes);
                let mut packed = vec![0; pack::packed_len(features, 4).unwrap_or(0)];
                for _ in 0..out {
                    let row: Vec<u8> = (0..features).map(|_| nibble(random)).collect();
                    pack::pack(&row, 4, &mut packed);
                    codes.extend_from_slice(&packed);
                }
                let scales: Vec<f32> = normal(random, lengths.scales);
                let mut zeros = vec![0; lengths.zeros];
                if scheme.zero == ZeroPoint::Integer {
                    let points: Vec<u8> = (0..lengths.scales).map(|_| nibble(random)).collect();
                    pack::pack(&points, 4, &mut zeros);
                }
                let scales = Floats::encode(&scales, scheme.scale_format);
                Some(Quantized::from_parts(self.shape, *scheme, codes, scales, zeros)?)
            }
        };
        let low_rank = if self.rank == 0 {
            None
        } else {
            let mut factor = |rows: usize, cols: usize| {
                Factor::new((rows, cols), Floats::encode(&normal(random, rows * cols), FloatFormat::F16))
            };
            Some(LowRank::new(factor(out, self.rank)?, factor(self.rank, features)?)?)
        };
        let smooth = if self.smooth {
            let factors: Vec<f32> = normal(random, features).iter().map(|x| x.abs() + 0.05).collect();
            Some(Smooth::new(Floats::encode(&factors, FloatFormat::F32))?)
        } else {
            None
        };
        let permutation = if self.permute {
            Some(Permutation::falling(
                &normal(random, features).into_iter().map(f64::from).collect::<Vec<_>>(),
            )?)
        } else {
            None
        };
        let sparse = match self.sparse {
            Some((pattern, format)) => Some(sparse(random, self.shape, pattern, format)?),
            None => None,
        };
        let transform = Transform::new(features, smooth, permutation, None)?;
        let transform = Some(transform).filter(|t| !t.is_identity());
        let split = Split::new(self.shape, transform, base, low_rank)?.with_sparse(sparse)?;
        let split = split.with_activation(self.activation)?;
        Ok(if self.bias { split.with_bias(normal(random, out))? } else { split })
    }
}

/// Normal values at random places, a few of them too small for a normal f16.
fn sparse(
    random: &mut Stream,
    (out, features): (usize, usize),
    pattern: NmPattern,
    format: FloatFormat,
) -> Result<SparseMatrix, rankbit_lowrank::Error> {
    let values = normal(random, out * features);
    let scores = normal(random, out * features);
    let scores = MatRef::from_row_major_slice(&scores, out, features);
    let mask = select(criterion::magnitude(scores)?.as_ref(), &Pattern::Nm(pattern))?;
    let weight = Mat::from_fn(out, features, |i, j| {
        values[i * features + j] * if (i + j) % 7 == 3 { 2.0_f32.powi(-20) } else { 1.0 }
    });
    let format = ValueFormat::Float(format);
    Ok(SparseMatrix::new(weight.as_ref(), &mask, &Pattern::Nm(pattern), &format)?.0)
}

fn nibble(random: &mut Stream) -> u8 {
    u8::try_from(random.next_below(16)).unwrap_or(0)
}

pub(super) fn normal(random: &mut Stream, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    random.fill_normal(&mut values);
    values
}
