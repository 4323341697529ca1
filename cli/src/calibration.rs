//! The calibration file: what flows into each layer, loaded tensor by tensor.
//!
//! | entry | shape | |
//! |---|---|---|
//! | `T` | `[tokens, in]`, f32, f16 or bf16 | activations, reduced to moments on the way |
//! | `T.gram` | `[in, in]`, f64 or f32 | XᵀX / tokens |
//! | `T.absmax`, `T.mean_abs`, `T.mean` | `[in]`, float | |
//! | `T.sample` | `[n, in]`, float | |
//! | `T.row_weight` | `[out]`, float | what an error of each output counts; any scale |
//! | `T.tokens` | one i64 | |
//! | `__metadata__.alias` | JSON object | tensor → the tensor that holds its input's moments |

use std::collections::BTreeMap;
use std::path::Path;

use rankbit::linalg::faer::{Mat, MatRef};
use rankbit::linalg::{MomentKinds, MomentParts, Moments};
use safetensors::Dtype;
use sha2::{Digest as _, Sha256};

use crate::container::header::Tensor;
use crate::container::reader::{Reader, hexadecimal};
use crate::container::{CHUNK, convert};
use crate::error::Error;

/// Rows of raw activations that are kept, for searches that try quantized inputs.
const SAMPLE: usize = 256;

/// An open calibration file.
pub(crate) struct Calibration {
    reader: Reader,
    alias: BTreeMap<String, String>,
}

/// What a method cannot do without.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Needs {
    /// Largest magnitudes.
    pub(crate) absmax: bool,
    /// A Gram matrix.
    pub(crate) metric: bool,
    /// Mean magnitudes.
    pub(crate) mean_abs: bool,
    /// Means.
    pub(crate) mean: bool,
    /// Weights of rows.
    pub(crate) row_weight: bool,
}

/// The parts of one tensor's moments that the file holds.
#[derive(Default)]
struct Found<'a> {
    raw: Option<&'a Tensor>,
    gram: Option<&'a Tensor>,
    absmax: Option<&'a Tensor>,
    mean_abs: Option<&'a Tensor>,
    mean: Option<&'a Tensor>,
    sample: Option<&'a Tensor>,
    tokens: Option<&'a Tensor>,
    /// Belongs to the outputs, so it is the tensor's own and never its alias's.
    row_weight: Option<&'a Tensor>,
}

impl Calibration {
    /// Opens the file and reads its aliases.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let reader = Reader::open(path)?;
        let alias = match reader.header().metadata.get("alias") {
            None => BTreeMap::new(),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Error::input(path, format!("metadata entry 'alias' is no JSON object of strings: {error}"))
            })?,
        };
        Ok(Self { reader, alias })
    }

    /// Checks by the header alone that the file has what a tensor `[out, in]` needs, in the right shapes. Returns
    /// whether it has anything for the tensor.
    pub(crate) fn check(&self, name: &str, shape: (usize, usize), needs: Needs) -> Result<bool, Error> {
        let Some((owner, found)) = self.find(name)? else {
            return match needs == Needs::default() {
                true => Ok(false),
                false => Err(self.reader.tensor_error(name, "has no calibration, which the method needs")),
            };
        };
        self.check_shapes(&found, shape)?;
        if needs.row_weight && found.row_weight.is_none() {
            let reason = format!("'{name}.row_weight' is missing, which the method needs");
            return Err(self.reader.tensor_error(name, reason));
        }
        let missing = if found.raw.is_some() {
            None
        } else if needs.absmax && found.absmax.is_none() {
            Some("absmax")
        } else if needs.mean_abs && found.mean_abs.is_none() {
            Some("mean_abs")
        } else if needs.mean && found.mean.is_none() {
            Some("mean")
        } else if needs.metric && found.gram.is_none() {
            Some("gram")
        } else {
            None
        };
        match missing {
            None => Ok(true),
            Some(part) => Err(self
                .reader
                .tensor_error(name, format!("'{owner}.{part}' is missing, which the method needs"))),
        }
    }

    /// That the file has nothing for any of the `count` tensors to compress.
    pub(crate) fn of_another(&self, count: usize) -> Error {
        let entry = self.reader.header().tensors.first().map(|tensor| tensor.name.as_str());
        let reason = match entry {
            None => format!("an empty file, no calibration for any of the {count} tensors: capture it again"),
            Some(entry) => format!(
                "no calibration for any of the {count} tensors (it has '{entry}'): \
                 give the file that was captured of this checkpoint"
            ),
        };
        Error::input(self.reader.path(), reason)
    }

    /// Whether the file weighs the outputs of `name`, as gradient-weighted statistics do.
    pub(crate) fn weighs_rows(&self, name: &str) -> bool {
        self.reader.find(&format!("{name}.row_weight")).is_some()
    }

    /// Whether the file has the Gram matrix of a tensor's inputs, or the inputs themselves.
    pub(crate) fn has_gram(&self, name: &str) -> Result<bool, Error> {
        Ok(self.find(name)?.is_some_and(|(_, found)| found.raw.or(found.gram).is_some()))
    }

    /// SHA-256 of what the file has for a tensor: the bytes of activations, `gram`, `absmax`, `mean_abs`, `mean`, `sample`,
    /// `tokens` and `row_weight`, those present, in this order. `None` when the file has nothing.
    pub(crate) fn sha256(&self, name: &str) -> Result<Option<String>, Error> {
        let Some((_, found)) = self.find(name)? else { return Ok(None) };
        let Found { raw, gram, absmax, mean_abs, mean, sample, tokens, row_weight } = found;
        let mut hash = Sha256::new();
        for tensor in [raw, gram, absmax, mean_abs, mean, sample, tokens, row_weight].into_iter().flatten() {
            self.reader.stream(tensor, |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
        }
        Ok(Some(hexadecimal(&hash.finalize())))
    }

    /// The moments of a tensor's input; `None` when the file has none.
    pub(crate) fn load(&self, name: &str, shape: (usize, usize)) -> Result<Option<Moments>, Error> {
        let Some((owner, found)) = self.find(name)? else { return Ok(None) };
        self.check_shapes(&found, shape)?;
        let width = shape.1;
        let fail =
            |error: rankbit::linalg::Error| self.reader.tensor_error(owner, format!("calibration: {error}"));
        let row_weight = found.row_weight.map(|tensor| self.shares(tensor)).transpose()?;
        if let Some(raw) = found.raw {
            let moments = self.reduce(raw, width)?;
            return match row_weight {
                None => Ok(Some(moments)),
                Some(_) => {
                    let parts = MomentParts { row_weight, ..moments.parts().clone() };
                    Moments::from_parts(width, parts).map(Some).map_err(fail)
                }
            };
        }
        let parts = MomentParts {
            tokens: found.tokens.map(|tensor| self.tokens(tensor)).transpose()?,
            gram: found.gram.map(|tensor| self.matrix(tensor, width)).transpose()?,
            second_moment: None,
            absmax: found.absmax.map(|tensor| self.values(tensor)).transpose()?.map(|v| narrow(&v)),
            mean_abs: found.mean_abs.map(|tensor| self.values(tensor)).transpose()?,
            mean: found.mean.map(|tensor| self.values(tensor)).transpose()?,
            sample: found.sample.map(|tensor| self.sample(tensor, width)).transpose()?,
            row_weight,
        };
        Moments::from_parts(width, parts).map(Some).map_err(fail)
    }

    /// What the file holds for `name`, itself or through its alias, and under which name.
    fn find<'a>(&'a self, name: &'a str) -> Result<Option<(&'a str, Found<'a>)>, Error> {
        let row_weight = self.reader.find(&format!("{name}.row_weight"));
        let own = self.found(name);
        let (owner, found) = match (own, self.alias.get(name)) {
            (Some(found), _) => (name, Some(found)),
            (None, Some(owner)) => {
                let Some(found) = self.found(owner) else {
                    let reason = format!("its alias '{owner}' has no calibration");
                    return Err(self.reader.tensor_error(name, reason));
                };
                (owner.as_str(), Some(found))
            }
            (None, None) => (name, None),
        };
        // Weights of rows are calibration by themselves: a table has no inputs.
        let found = found.or(row_weight.map(|_| Found::default()));
        Ok(found.map(|found| (owner, Found { row_weight, ..found })))
    }

    /// The moments stored under `owner`; `None` when there are none.
    fn found(&self, owner: &str) -> Option<Found<'_>> {
        let part = |part: &str| self.reader.find(&format!("{owner}.{part}"));
        let found = Found {
            raw: self.reader.find(owner),
            gram: part("gram"),
            absmax: part("absmax"),
            mean_abs: part("mean_abs"),
            mean: part("mean"),
            sample: part("sample"),
            tokens: part("tokens"),
            row_weight: None,
        };
        let any = [found.raw, found.gram, found.absmax, found.mean_abs, found.mean, found.sample];
        any.iter().any(Option::is_some).then_some(found)
    }

    /// Shapes and element types, each error naming the entry.
    fn check_shapes(&self, found: &Found<'_>, (rows, cols): (usize, usize)) -> Result<(), Error> {
        let wrong = |tensor: &Tensor, expected: String| {
            let Tensor { dtype, shape, .. } = tensor;
            Err(self.reader.tensor_error(&tensor.name, format!("{dtype} {shape:?}, expected {expected}")))
        };
        for tensor in [found.raw, found.sample].into_iter().flatten() {
            if tensor.shape.len() != 2
                || tensor.shape.get(1) != Some(&cols)
                || convert::float_format(tensor.dtype).is_none()
            {
                return wrong(tensor, format!("floats [tokens, {cols}]"));
            }
        }
        if let Some(tensor) = found.gram
            && (tensor.shape != [cols, cols] || !is_float(tensor.dtype))
        {
            return wrong(tensor, format!("floats [{cols}, {cols}]"));
        }
        let vectors = [found.absmax, found.mean_abs, found.mean].map(|tensor| (tensor, cols));
        for (tensor, len) in vectors.into_iter().chain([(found.row_weight, rows)]) {
            if let Some(tensor) = tensor
                && (tensor.elements() != len as u64 || !is_float(tensor.dtype))
            {
                return wrong(tensor, format!("{len} floats"));
            }
        }
        match found.tokens {
            Some(tensor) if tensor.dtype != Dtype::I64 || tensor.elements() != 1 => {
                wrong(tensor, "one I64".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Moments of raw activations, a block of rows at a time.
    fn reduce(&self, tensor: &Tensor, width: usize) -> Result<Moments, Error> {
        let mut moments = Moments::new(width, MomentKinds { gram: true, sample: SAMPLE });
        let tokens = tensor.shape.first().copied().unwrap_or(0);
        let Some(format) = convert::float_format(tensor.dtype) else { return Ok(moments) };
        // Many rows at once: each update passes over the whole Gram matrix.
        let rows = (CHUNK / (4 * width.max(1))).max(256);
        let mut block = Vec::new();
        let mut first = 0;
        while first < tokens {
            let count = rows.min(tokens - first);
            block.resize(count * width, 0.0);
            self.reader.values_at(tensor, format, first as u64 * width as u64, &mut block)?;
            let view = MatRef::from_row_major_slice(&block, count, width);
            moments.update(view).map_err(|error| {
                self.reader.tensor_error(&tensor.name, format!("rows from {first}: {error}"))
            })?;
            first += count;
        }
        if moments.tokens() == 0 {
            return Err(self.reader.tensor_error(&tensor.name, "holds no activations"));
        }
        Ok(moments)
    }

    /// All values of a float tensor.
    fn values(&self, tensor: &Tensor) -> Result<Vec<f64>, Error> {
        let mut values = Vec::new();
        self.for_each(tensor, |value| values.push(value))?;
        Ok(values)
    }

    /// Row weights as shares: divided by their sum, so that with a gradient-weighted Gram matrix, whose tokens count by the
    /// gradients of all outputs together, errors have one unit in all layers.
    fn shares(&self, tensor: &Tensor) -> Result<Vec<f64>, Error> {
        let mut values = self.values(tensor)?;
        let sum: f64 = values.iter().sum();
        if sum > 0.0 && sum.is_finite() {
            values.iter_mut().for_each(|value| *value /= sum);
        }
        Ok(values)
    }

    /// A square matrix.
    fn matrix(&self, tensor: &Tensor, side: usize) -> Result<Mat<f64>, Error> {
        let mut matrix = Mat::zeros(side, side);
        let mut at = 0;
        self.for_each(tensor, |value| {
            matrix[(at / side, at % side)] = value;
            at += 1;
        })?;
        Ok(matrix)
    }

    /// A sample of rows.
    fn sample(&self, tensor: &Tensor, width: usize) -> Result<Mat<f32>, Error> {
        let rows = tensor.shape.first().copied().unwrap_or(0);
        let values = narrow(&self.values(tensor)?);
        Ok(MatRef::from_row_major_slice(&values, rows, width).to_owned())
    }

    /// The token count.
    fn tokens(&self, tensor: &Tensor) -> Result<u64, Error> {
        let bytes = self.reader.bytes(tensor)?;
        let tokens = bytes.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
        match u64::try_from(tokens) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(self
                .reader
                .tensor_error(&tensor.name, format!("{tokens} tokens: moments need at least one"))),
        }
    }

    /// Hands over each value of a tensor of f64, f32, f16 or bf16.
    fn for_each(&self, tensor: &Tensor, mut take: impl FnMut(f64)) -> Result<(), Error> {
        let Some(format) = convert::float_format(tensor.dtype) else {
            return self.reader.stream(tensor, |bytes| {
                let (words, _) = bytes.as_chunks::<8>();
                words.iter().for_each(|word| take(f64::from_le_bytes(*word)));
                Ok(())
            });
        };
        let mut values = Vec::new();
        self.reader.stream(tensor, |bytes| {
            values.resize(bytes.len() / format.bytes(), 0.0);
            convert::to_f32(format, bytes, &mut values);
            values.iter().for_each(|&value| take(f64::from(value)));
            Ok(())
        })
    }
}

/// Whether the moments take values of this type.
const fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64) || convert::float_format(dtype).is_some()
}

/// Each value to nearest in f32.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is this function's purpose")]
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
