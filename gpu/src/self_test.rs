//! The kernels held to their CPU twins on a real device, over one table of cases.
//!
//! Used by the tests and by `rankbit gpu --self-test`, so that a user's device is checked exactly as ours was.

use crate::pipeline::THREADS;
use crate::{Error, Gpu};
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_lowrank::split::matmul::reference;
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::{
    Code, ColumnParts, FloatFormat, Floats, Group, Outliers, Permutation, Quantized, Rate, Scheme, Smooth,
    Transform, Trellis, ZeroPoint, pack, part_lengths, scheme,
};
use rankbit_sparse::{NmPattern, Pattern, SparseMatrix, ValueFormat, criterion, select};

/// Guard words behind every buffer that a kernel writes: more than a workgroup could overrun by.
const GUARD_WORDS: u64 = 4096;

/// One case's outcome.
#[derive(Clone, PartialEq, Debug)]
pub struct CaseResult {
    /// Shape, format, group, rank, tokens.
    pub name: String,
    /// Largest `|Δ| / bound` over the entries; at most 1 when correct, NaN when an entry was not a number.
    pub worst: f64,
    /// What else went wrong: a stray write.
    pub fault: Option<String>,
}

impl CaseResult {
    /// Whether every entry is within its bound and nothing else was written.
    pub fn passed(&self) -> bool {
        self.fault.is_none() && self.worst <= 1.0
    }
}

/// The outcome of [`self_test`].
#[derive(Clone, PartialEq, Debug)]
pub struct SelfTestReport {
    /// The adapter's name.
    pub adapter: String,
    /// Every case, in the table's order.
    pub cases: Vec<CaseResult>,
}

impl SelfTestReport {
    /// Whether every case passed (and there were any).
    pub fn passed(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(CaseResult::passed)
    }

    /// The cases that did not pass.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.passed())
    }

    /// Largest `|Δ| / bound` of all cases; NaN when any case has one.
    pub fn worst(&self) -> f64 {
        self.cases.iter().fold(0.0, |worst, case| {
            if case.worst.is_nan() || case.worst > worst { case.worst } else { worst }
        })
    }
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Case {
    shape: (usize, usize),
    scheme: Option<Scheme>,
    rank: usize,
    tokens: usize,
    smooth: bool,
    permute: bool,
    sparse: Option<(NmPattern, FloatFormat)>,
}

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
fn cases() -> Vec<Case> {
    let patterns: Vec<NmPattern> = [(2, 4), (1, 8), (4, 8), (3, 5), (1, 2), (17, 32)]
        .iter()
        .filter_map(|&(n, m)| NmPattern::new(n, m).ok())
        .collect();
    let sparse = |turn: usize| {
        let pattern = patterns.get(turn / 4 % patterns.len().max(1)).filter(|_| turn % 4 == 1)?;
        Some((*pattern, [FloatFormat::F16, FloatFormat::F32, FloatFormat::Bf16][turn / 8 % 3]))
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
                let scheme = Some(format.with_group(group).with_scale_format(scale));
                let (smooth, permute) = (turn % 5 < 2, turn % 7 < 3);
                cases.push(Case { shape, scheme, rank, tokens, smooth, permute, sparse: sparse(turn) });
                turn += 1;
            }
        }
    }
    // Vector codes: every code at every shape, with and without a second thread's tokens, rank and transform.
    for (index, scheme) in vector_schemes().into_iter().enumerate() {
        for (at, shape) in SHAPES.into_iter().enumerate() {
            let tokens = [1, 9, 2, 5][(index + at) % 4];
            let rank = RANKS[turn % RANKS.len()].min(shape.0).min(shape.1);
            let scheme = Some(scheme.with_scale_format(scales[turn % scales.len()]));
            let (smooth, permute) = (turn % 5 < 2, turn % 7 < 3);
            cases.push(Case { shape, scheme, rank, tokens, smooth, permute, sparse: sparse(turn) });
            turn += 1;
        }
    }
    // One term alone, none at all.
    for (scheme, rank) in [(Some(scheme::NF4), 0), (None, 7), (None, 0)] {
        for tokens in [1, 17] {
            let (smooth, permute) = (rank > 0, rank == 0);
            for sparse in [None, sparse(1), sparse(8 + 1)] {
                cases.push(Case { shape: (33, 65), scheme, rank, tokens, smooth, permute, sparse });
            }
        }
    }
    cases
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
    fn name(&self) -> String {
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
        let ((out, features), rank, tokens) = (self.shape, self.rank, self.tokens);
        format!("{out}x{features} {base} rank {rank} tokens {tokens}{smooth}{permuted}{sparse}")
    }

    /// A split with every code, zero points and scales of either sign, drawn from the case's own stream.
    fn split(&self, random: &mut Stream) -> Result<Split, Error> {
        let (out, features) = self.shape;
        let base = match &self.scheme {
            None => None,
            Some(scheme) if scheme.code.is_vector() => Some(vector_base(self.shape, scheme, random)?),
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
        Ok(Split::new(self.shape, transform, base, low_rank)?.with_sparse(sparse)?)
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

fn normal(random: &mut Stream, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    random.fill_normal(&mut values);
    values
}

/// Runs every case on `gpu`, with the workgroups of software drivers and of hardware, and compares each entry with the CPU reference.
///
/// ```text
/// |Δ| ≤ γ·|X|·(|Q̃·Tᵀ| + |L|·|R| + |S|)ᵀ + in·2⁻¹²⁶,   γ = K·u/(1 - K·u),  K = in + r + 9,  u = 2⁻²⁴
/// ```
/// with the magnitudes of outliers beside those of what they are added to. The last term covers devices that flush subnormal products to zero. Written buffers are filled with NaN
/// before the run and are longer than needed; a changed word past the logical end fails the case.
///
/// # Errors
/// Whatever the device reports; a wrong result is not an error but a failed case.
pub fn self_test(gpu: &Gpu) -> Result<SelfTestReport, Error> {
    let mut results = Vec::new();
    for threads in THREADS {
        let gpu = gpu.with_threads(threads);
        for case in cases() {
            results.push(run(&gpu, &case)?);
        }
    }
    Ok(SelfTestReport { adapter: gpu.adapter().name.clone(), cases: results })
}

fn run(gpu: &Gpu, case: &Case) -> Result<CaseResult, Error> {
    let name = case.name();
    let mut random = Stream::new(0, &name);
    let split = case.split(&mut random)?;
    let values = normal(&mut random, case.tokens * case.shape.1);
    let x = MatRef::from_row_major_slice(&values, case.tokens, case.shape.1);
    let name = format!("{name}, workgroups of {}", gpu.threads());
    let linear = gpu.upload(&split)?;
    let workspace = linear.guarded_workspace(case.tokens, GUARD_WORDS)?;
    let y = workspace.apply(x)?;
    let fault = workspace
        .overwritten_guard()?
        .map(|(what, word)| format!("{what}: word {word} past the end was overwritten"));
    let worst = worst_ratio(&split, x, &y)?;
    Ok(CaseResult { name, worst, fault })
}

/// Largest `|Δ| / bound`, NaN when any entry is.
fn worst_ratio(split: &Split, x: MatRef<'_, f32>, y: &Mat<f32>) -> Result<f64, Error> {
    let expected = reference::apply(split, x)?;
    let bound = bounds(split, x)?;
    let mut worst = 0.0_f64;
    for t in 0..y.nrows() {
        for o in 0..y.ncols() {
            let ratio = (f64::from(y[(t, o)]) - f64::from(expected[(t, o)])).abs() / bound[(t, o)];
            if ratio.is_nan() || ratio > worst {
                worst = ratio;
            }
            if worst.is_nan() {
                return Ok(worst);
            }
        }
    }
    Ok(worst)
}

/// The bound of [`self_test`] for every entry.
fn bounds(split: &Split, x: MatRef<'_, f32>) -> Result<Mat<f64>, Error> {
    let ((out, features), tokens) = (split.shape(), x.nrows());
    let k = (features + split.rank() + 9) as f64 * 2.0_f64.powi(-24);
    let gamma = k / (1.0 - k);
    let least = features.max(1) as f64 * f64::from(f32::MIN_POSITIVE);
    let mut weight = Mat::<f64>::zeros(out, features);
    let mut row = vec![0.0; features];
    let factors = split.low_rank().map(|term| (term.left().to_f32(), term.right().to_f32()));
    for o in 0..out {
        row.fill(0.0);
        if let Some(base) = split.base() {
            base.row_into(o, &mut row)?;
            // An outlier and the value it is added to may cancel: each counts, and neither is above their sum and it.
            let positions = base.columns().map_or(&[][..], |columns| columns.outliers().positions());
            for (index, &at) in positions.iter().enumerate() {
                let (column, value) =
                    (at as usize / out, base.columns().map(|c| c.outliers().values().get(index)));
                if let Some(value) = value.filter(|_| at as usize % out == o) {
                    row[column] = row[column].abs() + 2.0 * value.abs();
                }
            }
        }
        if let Some(transform) = split.transform() {
            transform.transpose(&mut row)?;
        }
        let mut kept = vec![0.0; features];
        if let Some(sparse) = split.sparse() {
            sparse.row_into(o, &mut kept).map_err(rankbit_lowrank::Error::from)?;
        }
        for (j, &value) in row.iter().enumerate() {
            weight[(o, j)] = f64::from(value).abs() + f64::from(kept[j]).abs();
            if let Some((left, right)) = &factors {
                for i in 0..split.rank() {
                    let (l, r) = (left[o * split.rank() + i], right[i * features + j]);
                    weight[(o, j)] += (f64::from(l) * f64::from(r)).abs();
                }
            }
        }
    }
    Ok(Mat::from_fn(tokens, out, |t, o| {
        let size: f64 = (0..features).map(|j| f64::from(x[(t, j)]).abs() * weight[(o, j)]).sum();
        gamma * size + least
    }))
}
