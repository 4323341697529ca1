//! Hostile storage: whatever the indices, metadata and sizes, a sparse matrix is refused or it works. See
//! `rankbit_kit::fuzz`.

use crate::common::normal;
use rankbit_kit::fuzz::{Source, run};
use rankbit_linalg::faer::Mat;
use rankbit_quant::simd::Level;
use rankbit_quant::{FloatFormat, Floats, Group, Quantized, part_lengths, scheme};
use rankbit_sparse::matmul::{Prepared, apply_block, reference};
use rankbit_sparse::storage::hardware::{self, Word};
use rankbit_sparse::storage::{BlockIndices, NmLengths};
use rankbit_sparse::{
    BlockMatrix, Mask, NmMatrix, NmPattern, Pattern, SparseMatrix, Values, criterion, select,
};

/// More values than this are not worth a case's time.
const MOST: usize = 1 << 14;

fn any_pattern(source: &mut Source) -> NmPattern {
    let number = |value: usize| u32::try_from(value).expect("small");
    let of = if source.one_in(2) { source.pick(&[2, 4, 8, 16, 32]) } else { 2 + number(source.below(31)) };
    let keep = if source.one_in(2) { 1 + number(source.below(2)) } else { 1 + number(source.below(32)) };
    NmPattern::new(keep.min(of), of).expect("in range")
}

fn any_format(source: &mut Source) -> FloatFormat {
    source.pick(&[
        FloatFormat::F32,
        FloatFormat::F16,
        FloatFormat::Bf16,
        FloatFormat::E4m3,
        FloatFormat::Dyadic,
    ])
}

/// Sensible floats, mostly; sometimes a few more or less than asked for.
fn any_floats(source: &mut Source, len: usize) -> Floats {
    let len = if source.one_in(12) { source.below(2 * len + 2) } else { len };
    let special = source.one_in(4);
    let values: Vec<f32> = (0..len)
        .map(|_| if special { source.float() } else { source.float().clamp(-2.0, 2.0) })
        .map(|value| if value.is_nan() && !special { 0.0 } else { value })
        .collect();
    let format = if source.one_in(8) { any_format(source) } else { FloatFormat::F32 };
    Floats::encode(&values, format)
}

/// `len` packed indices: those of a real mask, damaged; or any bytes.
fn any_indices(source: &mut Source, shape: (usize, usize), pattern: NmPattern, len: usize) -> Vec<u8> {
    if source.one_in(3) {
        return source.bytes(len);
    }
    let weight = normal(shape.0, shape.1, &format!("{}", source.below(50)));
    let scores = criterion::magnitude(weight.as_ref()).expect("finite");
    let mask = select(scores.as_ref(), &Pattern::Nm(pattern)).expect("a mask");
    let format = rankbit_sparse::ValueFormat::Float(FloatFormat::F32);
    let (matrix, _) = NmMatrix::new(weight.as_ref(), &mask, pattern, &format).expect("a matrix");
    let mut indices = matrix.indices().to_vec();
    if source.one_in(2) {
        source.damage(&mut indices);
    }
    indices
}

fn any_shape(source: &mut Source) -> (usize, usize) {
    (source.below(7), if source.one_in(3) { 32 * source.below(9) } else { source.below(90) })
}

/// Kept values of a matrix `[rows, kept]`.
fn any_values(source: &mut Source, (rows, kept): (usize, usize)) -> Option<Values> {
    if source.one_in(2) {
        return Some(Values::Floats(any_floats(source, rows * kept)));
    }
    let scheme = source.pick(&[scheme::INT4, scheme::UINT4, scheme::NF4, scheme::Q8_0, scheme::INT8]);
    let scheme = if scheme.owns_scales() { scheme } else { scheme.with_group(Group::Size(16)) };
    let shape = if source.one_in(12) { (source.below(7), source.below(40)) } else { (rows, kept) };
    let lengths = part_lengths(shape, &scheme).ok()?;
    let (codes, zeros) = (source.bytes(lengths.codes), source.bytes(lengths.zeros));
    let scales = Floats::encode(&vec![0.5; lengths.scales], scheme.scale_format);
    Some(Values::Quantized(Quantized::from_parts(shape, scheme, codes, scales, zeros).ok()?))
}

/// The bits, but for NaN, whose payload is nobody's business.
fn bits(matrix: &Mat<f32>) -> Vec<u32> {
    matrix
        .col_iter()
        .flat_map(|column| {
            column.iter().map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() }).collect::<Vec<_>>()
        })
        .collect()
}

/// Everything that reading an N:M matrix does.
fn exercise(matrix: &NmMatrix, source: &mut Source) {
    let (out, features) = matrix.shape();
    if out.max(features) > MOST {
        // Without rows there may be any number of columns, and the other way round.
        assert!(out == 0 || features == 0);
        return;
    }
    let dense = matrix.reconstruct();
    let mut row = vec![f32::NAN; features];
    for i in 0..out {
        matrix.row_into(i, &mut row).expect("a row that exists");
        assert!((0..features).all(|j| row[j].to_bits() == dense[(i, j)].to_bits() || row[j].is_nan()));
    }
    assert!(matrix.row_into(out, &mut row).is_err());
    let mask = matrix.mask();
    mask.check(matrix.pattern()).expect("no more than the pattern keeps");
    assert_eq!(mask.count(), out * matrix.kept_per_row());
    assert!((0..out).all(|i| (0..features).all(|j| mask.contains(i, j) || dense[(i, j)] == 0.0)));
    let again = NmMatrix::from_parts(
        matrix.shape(),
        matrix.pattern(),
        matrix.values().clone(),
        matrix.indices().to_vec(),
    );
    assert_eq!(again.as_ref(), Ok(matrix));
    let tokens = source.below(7);
    let x = Mat::from_fn(tokens, features, |_, _| source.float().clamp(-2.0, 2.0));
    assert_eq!(reference::apply(matrix, x.as_ref()).expect("its own shape").shape(), (tokens, out));
    let prepared = Prepared::new(matrix).expect("small");
    let run = |level: Level| {
        level.run(|| {
            let mut y = Mat::zeros(tokens, out);
            prepared.apply_into(x.as_ref(), y.as_mut()).expect("its own shape");
            bits(&y)
        })
    };
    assert!(run(Level::Portable).is_some());
    // All of them fuse the product and the sum.
    let wide: Vec<_> =
        Level::ALL.into_iter().filter(|level| *level != Level::Portable).filter_map(run).collect();
    assert!(wide.windows(2).all(|pair| pair[0] == pair[1]));
    for word in [Word::Bits16, Word::Bits32] {
        if let Ok(metadata) = hardware::metadata(matrix, word) {
            let back = hardware::from_metadata(matrix.shape(), matrix.values().clone(), &metadata, word);
            assert_eq!(back.as_ref(), Ok(matrix));
        }
    }
}

#[test]
fn fuzz_nm_indices() {
    run("fuzz_nm_indices", 3000, |source| {
        let (pattern, shape) = (any_pattern(source), any_shape(source));
        let lengths = NmLengths::new(shape, pattern).expect("small");
        let Some(values) = any_values(source, (shape.0, lengths.kept)) else { return };
        let indices = any_indices(source, shape, pattern, lengths.indices);
        if source.one_in(12) {
            // Sizes that only claim to be there.
            let claimed = (source.size(), source.size());
            if let Ok(lengths) = NmLengths::new(claimed, pattern) {
                let found = NmMatrix::from_parts(claimed, pattern, values, indices.clone());
                assert!(found.is_err() || lengths.indices == indices.len());
            }
            return;
        }
        if let Ok(matrix) = NmMatrix::from_parts(shape, pattern, values, indices) {
            exercise(&matrix, source);
        }
    });
}

#[test]
fn fuzz_metadata() {
    run("fuzz_metadata", 2000, |source| {
        let word = source.pick(&[Word::Bits16, Word::Bits32]);
        let shape = match source.below(6) {
            0 => (source.size(), source.size()),
            _ => (16 * source.below(5), 32 * source.below(5)),
        };
        let entries = shape.0.saturating_mul(shape.1);
        if entries > MOST {
            assert!(
                hardware::from_metadata(shape, Values::Floats(Floats::F32(Vec::new())), &[], word).is_err()
            );
            return;
        }
        let values = Values::Floats(any_floats(source, entries / 2));
        let mut metadata = if source.one_in(2) {
            // Nibbles that are all right.
            (0..entries / 8).map(|_| source.pick(&[0x4_u8, 0x8, 0x9, 0xC, 0xD, 0xE]) * 0x11).collect()
        } else {
            source.bytes(entries / 8)
        };
        if source.one_in(3) {
            source.damage(&mut metadata);
        }
        if let Ok(matrix) = hardware::from_metadata(shape, values, &metadata, word) {
            assert_eq!(hardware::metadata(&matrix, word).as_ref(), Ok(&metadata));
            exercise(&matrix, source);
        }
    });
}

#[test]
fn fuzz_blocks() {
    run("fuzz_blocks", 3000, |source| {
        let (shape, block) = (any_shape(source), (1 + source.below(4), 1 + source.below(5)));
        let (down, across) = (shape.0.div_ceil(block.0), shape.1.div_ceil(block.1));
        // Rising columns in every row of blocks, then damage.
        let (mut starts, mut columns) = (vec![0_u32], Vec::new());
        for _ in 0..down {
            columns.extend((0..across).filter(|_| source.one_in(3)).filter_map(|j| u16::try_from(j).ok()));
            starts.push(u32::try_from(columns.len()).expect("small"));
        }
        let values = any_floats(source, columns.len() * block.0 * block.1);
        let wrong = |source: &mut Source| u32::try_from(source.size()).unwrap_or(u32::MAX);
        if source.one_in(3) && !starts.is_empty() {
            let at = source.below(starts.len());
            starts[at] = wrong(source);
        }
        if source.one_in(3) && !columns.is_empty() {
            let at = source.below(columns.len());
            columns[at] = u16::try_from(wrong(source)).unwrap_or(u16::MAX);
        }
        match source.below(8) {
            0 => starts.truncate(source.below(starts.len() + 1)),
            1 => columns.push(source.byte().into()),
            _ => {}
        }
        let (shape, block) = match source.below(12) {
            0 => ((source.size(), source.size()), block),
            1 => (shape, (source.size(), source.size())),
            _ => (shape, block),
        };
        let columns = match source.below(16) {
            0 => BlockIndices::U32(columns.into_iter().map(u32::from).collect()),
            _ => BlockIndices::U16(columns),
        };
        let Ok(matrix) = BlockMatrix::from_parts(shape, block, starts, columns, values) else { return };
        let (out, features) = matrix.shape();
        if out.saturating_mul(features) > MOST || out.max(features) > MOST {
            return;
        }
        let dense = matrix.reconstruct();
        let mut row = vec![f32::NAN; features];
        for i in 0..out {
            matrix.row_into(i, &mut row).expect("a row that exists");
            assert!((0..features).all(|j| row[j].to_bits() == dense[(i, j)].to_bits()));
        }
        let x = Mat::from_fn(2, features, |_, _| source.float().clamp(-2.0, 2.0));
        assert_eq!(apply_block(&matrix, x.as_ref()).expect("its own shape").shape(), (2, out));
        let stored = SparseMatrix::Block(matrix);
        assert!(stored.stored_bits() >= 32 && (0.0..).contains(&stored.density()));
        assert_eq!(Mask::of_nonzeros(stored.reconstruct().as_ref()), Mask::of_nonzeros(dense.as_ref()));
    });
}
