//! `rankbit decompress`: a dense checkpoint from a compressed one, block of rows by block of rows.

use std::path::PathBuf;
use std::time::Instant;

use rankbit::quant::FloatFormat;
use safetensors::Dtype;

use super::{Global, bytes, check_outputs};
use crate::container::checkpoint::{Checkpoint, Entry};
use crate::container::record;
use crate::container::writer::{AtomicFile, Spec, file_order, header_bytes};
use crate::container::{CHUNK, convert};
use crate::error::Error;
use crate::output::print;
use crate::progress::Progress;

/// Arguments of `decompress`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The compressed checkpoint.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The dense checkpoint (safetensors).
    #[arg(short, long, value_name = "DENSE")]
    output: PathBuf,
    /// Element type of the tensors that were compressed; 'source' gives every tensor the type it once had. A value
    /// that the type's range does not hold is an error.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Target,
}

/// `--dtype`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Target {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// As the tensor was before.
    Source,
}

/// How one tensor is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Byte for byte.
    Copy,
    /// Decoded to this format.
    Decode(FloatFormat),
    /// From f16 back to f64.
    Widen,
}

/// Runs `decompress`.
pub(crate) fn run(args: &Args, global: Global) -> Result<(), Error> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&args.input)?;
    check_outputs(&[&args.input], &[&args.output])?;
    if checkpoint.records().is_none() {
        return Err(Error::input(&args.input, "is not compressed by rankbit"));
    }
    let mut ways = Vec::new();
    let mut specs = Vec::new();
    for entry in checkpoint.entries() {
        let (way, dtype) = way(&checkpoint, entry, args.dtype)?;
        ways.push(way);
        specs.push(spec(&checkpoint, entry, dtype)?);
    }
    let order = file_order(&specs);
    let mut metadata = checkpoint.reader().header().metadata.clone();
    metadata.remove(record::KEY);
    let ordered: Vec<&Spec> = order.iter().filter_map(|&i| specs.get(i)).collect();
    let mut file = AtomicFile::create(&args.output)?;
    file.write(&header_bytes(&ordered, &metadata, &args.output)?)?;
    let progress = Progress::new(specs.iter().map(|spec| spec.len).sum(), global.quiet);
    for &i in &order {
        let (Some(entry), Some(&way), Some(spec)) = (checkpoint.entries().get(i), ways.get(i), specs.get(i))
        else {
            continue;
        };
        progress.start(&entry.name);
        write(&checkpoint, entry, way, &mut file)?;
        progress.add(spec.len);
    }
    progress.finish();
    let size = file.commit()?;
    if global.quiet {
        return Ok(());
    }
    print(&format!(
        "{} → {} in {:.1} s\n",
        bytes(checkpoint.reader().len()),
        bytes(size),
        start.elapsed().as_secs_f64()
    ))
}

/// How an entry is written and what type it gets.
fn way(checkpoint: &Checkpoint, entry: &Entry, target: Target) -> Result<(Way, Dtype), Error> {
    let name = &entry.name;
    let source = |dtype: Dtype| match convert::float_format(dtype) {
        Some(format) => Ok((Way::Decode(format), dtype)),
        None if dtype == Dtype::F64 => Ok((Way::Widen, dtype)),
        None => Err(checkpoint.reader().tensor_error(name, format!("its record claims that it was {dtype}"))),
    };
    if let Some(record) = checkpoint.record(name) {
        return match target {
            Target::F32 => Ok((Way::Decode(FloatFormat::F32), Dtype::F32)),
            Target::F16 => Ok((Way::Decode(FloatFormat::F16), Dtype::F16)),
            Target::Bf16 => Ok((Way::Decode(FloatFormat::Bf16), Dtype::BF16)),
            Target::Source => match source(record.source_dtype)? {
                (Way::Decode(format), dtype) => Ok((Way::Decode(format), dtype)),
                _ => Err(checkpoint.reader().tensor_error(name, "its record claims that it was F64")),
            },
        };
    }
    let rest = checkpoint.records().and_then(|records| records.rest.get(name));
    let dtype = checkpoint.reader().find(name).map_or(Dtype::U8, |tensor| tensor.dtype);
    match rest {
        Some(rest) if target == Target::Source && dtype == Dtype::F16 => source(rest.source_dtype),
        // A bias that a split adds to is another one now.
        _ => match convert::float_format(dtype).filter(|_| checkpoint.shifting(name).is_some()) {
            Some(format) => Ok((Way::Decode(format), dtype)),
            None => Ok((Way::Copy, dtype)),
        },
    }
}

/// The tensor as it will be written.
fn spec(checkpoint: &Checkpoint, entry: &Entry, dtype: Dtype) -> Result<Spec, Error> {
    let too_large = || checkpoint.reader().tensor_error(&entry.name, "its decompressed size overflows");
    let elements = entry.shape.iter().try_fold(1_u64, |product, &side| product.checked_mul(side as u64));
    let len = match checkpoint.reader().find(&entry.name) {
        Some(tensor) if tensor.dtype == dtype => Some(tensor.len),
        _ => elements.and_then(|elements| elements.checked_mul(convert::alignment(dtype))),
    };
    // The sum over all tensors must stay a file offset.
    let len = len.filter(|&len| len < 1 << 56).ok_or_else(too_large)?;
    Ok(Spec { name: entry.name.clone(), dtype, shape: entry.shape.clone(), len })
}

/// Appends one tensor to `file`.
fn write(checkpoint: &Checkpoint, entry: &Entry, way: Way, file: &mut AtomicFile) -> Result<(), Error> {
    let reader = checkpoint.reader();
    if way == Way::Copy {
        let Some(tensor) = reader.find(&entry.name) else { return Ok(()) };
        return reader.stream(tensor, |bytes| file.write(bytes));
    }
    let Some(values) = checkpoint.values(entry)? else { return Ok(()) };
    let blocks = values.blocks();
    let (rows, cols) = rows_and_columns(&entry.shape);
    let step = (CHUNK / (4 * cols.max(1))).max(1);
    let mut block = Vec::new();
    let mut encoded = Vec::new();
    let mut first = 0;
    while first < rows {
        let count = step.min(rows - first);
        block.resize(count * cols, 0.0);
        blocks.read(first, cols, &mut block)?;
        encoded.clear();
        match way {
            Way::Decode(format) => convert::extend_bytes(format, &block, &mut encoded).map_err(|at| {
                let (row, col) = (first + at / cols.max(1), at % cols.max(1));
                let format = format.name();
                let reason = format!("[{row}, {col}] is out of the range of {format}: take another --dtype");
                reader.tensor_error(&entry.name, reason)
            })?,
            Way::Widen | Way::Copy => {
                encoded.extend(block.iter().flat_map(|&value| f64::from(value).to_le_bytes()));
            }
        }
        file.write(&encoded)?;
        first += count;
    }
    Ok(())
}

/// Any shape as a matrix: the first side, and all others together. Without elements there are no rows, whatever the
/// other sides claim.
pub(super) fn rows_and_columns(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        _ if shape.contains(&0) => (0, 0),
        [rows, others @ ..] => (*rows, others.iter().product()),
    }
}
