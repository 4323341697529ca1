//! Damaged files: opened and read to the end, or refused. See `rankbit_kit::fuzz`.

use std::collections::BTreeMap;
use std::path::Path;

use rankbit::linalg::faer::Mat;
use rankbit::lowrank::split::file;
use rankbit::lowrank::{Fit, Input, fit, preset};
use rankbit::quant::{FloatFormat, Rounder, scheme};
use rankbit::sparse::{NmPattern, Pattern, ValueFormat};
use rankbit_kit::fuzz::{Source, run};
use safetensors::Dtype;

use super::checkpoint::Checkpoint;
use super::convert;
use super::record::{self, Record, Records, part_name};
use super::writer::{self, Spec};

/// A file with a compressed matrix and a few plain tensors, as the command writes it.
fn intact(source: &mut Source) -> Vec<u8> {
    let (rows, cols) = (1 + source.below(5), 32 * (1 + source.below(9)));
    let weight = Mat::from_fn(rows, cols, |_, _| source.float().clamp(-2.0, 2.0));
    let weight = Mat::from_fn(rows, cols, |i, j| if weight[(i, j)].is_nan() { 0.0 } else { weight[(i, j)] });
    let (name, mut scheme) = source.pick(&scheme::NAMED);
    if scheme.block_len().is_some_and(|len| !cols.is_multiple_of(usize::try_from(len).unwrap_or(1))) {
        scheme = scheme::INT4;
    }
    let rank = source.below(rows + 1);
    let recipe = match rank {
        0 if source.one_in(3) => preset::magnitude(
            Pattern::Nm(NmPattern::TWO_OF_FOUR),
            source.pick(&[
                ValueFormat::Float(FloatFormat::F16),
                ValueFormat::Scheme(scheme::INT4, Rounder::Nearest),
            ]),
        ),
        0 => preset::rtn(scheme),
        _ => preset::lorc(scheme, rank, FloatFormat::F16),
    };
    let Fit { split, .. } =
        fit(weight.as_ref(), &recipe, &Input { name: "w", moments: None }).expect("a finite matrix");
    let (header, parts) = file::write(&split);
    let record = Record {
        shape: vec![rows, cols],
        split: header,
        recipe: serde_json::to_value(&recipe).expect("a plain value"),
        method: "rtn".to_owned(),
        format: Some(name.to_owned()),
        group: None,
        rank: None,
        source_dtype: Dtype::F32,
        relative_error: Some(0.5),
        metric_error: None,
        source_sha256: String::new(),
        moments_sha256: None,
        seed: 0,
        warnings: Vec::new(),
        rest: false,
    };
    let records = Records {
        format_version: record::FORMAT_VERSION,
        rankbit_version: record::RANKBIT_VERSION.to_owned(),
        seed: 0,
        tensors: BTreeMap::from([("w".to_owned(), record)]),
        rest: BTreeMap::new(),
    };
    let mut tensors: Vec<(Spec, Vec<u8>)> = parts
        .into_iter()
        .map(|part| {
            let dtype = match part.element {
                file::PartType::U8 => Dtype::U8,
                file::PartType::Float(format) => convert::dtype(format),
            };
            let len = part.bytes.len() as u64;
            (Spec { name: part_name("w", part.name), dtype, shape: part.shape, len }, part.bytes)
        })
        .collect();
    for (name, dtype, size) in [("bias", Dtype::F32, 4), ("half", Dtype::F16, 2), ("ids", Dtype::I64, 8)] {
        let bytes = source.bytes(rows * size);
        tensors
            .push((Spec { name: name.to_owned(), dtype, shape: vec![rows], len: bytes.len() as u64 }, bytes));
    }
    let specs: Vec<Spec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let order = writer::file_order(&specs);
    let ordered: Vec<&Spec> = order.iter().map(|&i| &specs[i]).collect();
    let text = serde_json::to_string(&records).expect("plain values");
    let metadata = BTreeMap::from([(record::KEY.to_owned(), text)]);
    let mut bytes = writer::header_bytes(&ordered, &metadata, Path::new("fuzz")).expect("a small header");
    for i in order {
        bytes.extend_from_slice(&tensors[i].1);
    }
    bytes
}

/// Damage in the header, with or without a length prefix that still fits, or anywhere.
fn damage(source: &mut Source, mut bytes: Vec<u8>) -> Vec<u8> {
    if source.one_in(3) {
        source.damage(&mut bytes);
        return bytes;
    }
    let length = bytes.first_chunk::<8>().map_or(0, |prefix| u64::from_le_bytes(*prefix));
    let end = 8 + usize::try_from(length).expect("a header in memory");
    let (mut json, data) = (bytes[8..end].to_vec(), &bytes[end..]);
    source.damage(&mut json);
    let length = if source.one_in(16) { source.next() } else { json.len() as u64 };
    [&length.to_le_bytes()[..], &json, data].concat()
}

/// Reads every value of the file at `path`; whether there was nothing to complain about.
fn read(path: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    let mut all = true;
    for entry in checkpoint.entries() {
        match checkpoint.values(entry) {
            Ok(Some(values)) => {
                let cols = entry.shape.get(1).copied().unwrap_or(1);
                let rows = entry.shape.first().copied().unwrap_or(1).min(3);
                let mut out = vec![0.0; rows * cols];
                all &= entry.shape.len() > 2 || values.blocks().read(0, cols, &mut out).is_ok();
            }
            Ok(None) => {}
            Err(_) => all = false,
        }
    }
    all
}

#[test]
fn fuzz_containers() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("file.safetensors");
    run("fuzz_containers", 60, |source| {
        let bytes = intact(source);
        std::fs::write(&path, &bytes).expect("a writable folder");
        assert!(read(&path), "an intact file");
        for _ in 0..8 {
            let bytes = damage(source, bytes.clone());
            std::fs::write(&path, &bytes).expect("a writable folder");
            read(&path);
        }
    });
}
