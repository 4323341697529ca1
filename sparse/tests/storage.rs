//! Storage: what is kept comes back, bit for bit, in the bytes that the documentation promises.

use crate::common::{common_nm, nm, normal, view};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::Mat;
use rankbit_quant::{FloatFormat, Floats, Group, Rounder, scheme};
use rankbit_sparse::storage::hardware::{self, Word};
use rankbit_sparse::storage::{BlockIndices, NmLengths};
use rankbit_sparse::{
    BlockMatrix, Error, Mask, NmMatrix, NmPattern, Pattern, ValueFormat, Values, criterion, select,
};

const F32: ValueFormat = ValueFormat::Float(FloatFormat::F32);
const TWO: NmPattern = NmPattern::TWO_OF_FOUR;

fn masked(weight: &Mat<f32>, pattern: NmPattern) -> Mask {
    select(criterion::magnitude(weight.as_ref()).unwrap().as_ref(), &Pattern::Nm(pattern)).unwrap()
}

proptest! {
    #[test]
    fn a_masked_matrix_comes_back_bit_for_bit(weight in matrix(0..=5, 0..=70), pattern in nm()) {
        let weight = view(&weight).to_owned();
        let (rows, cols) = weight.shape();
        let mask = masked(&weight, pattern);
        let (stored, widened) = NmMatrix::new(weight.as_ref(), &mask, pattern, &F32).unwrap();
        prop_assert_eq!(widened, None);
        let back = stored.reconstruct();
        prop_assert_eq!(&back, &mask.apply(weight.as_ref()).unwrap());
        let mut row = vec![f32::NAN; cols];
        for i in 0..rows {
            stored.row_into(i, &mut row).unwrap();
            prop_assert!((0..cols).all(|j| row[j].to_bits() == back[(i, j)].to_bits()));
        }
        // Every place of the mask, and the documented bits.
        prop_assert_eq!(stored.mask(), mask);
        let kept = pattern.kept_per_row(cols);
        let bits = rows * (32 * kept + 8 * (kept * pattern.index_bits()).div_ceil(8));
        prop_assert_eq!(stored.stored_bits(), bits as u64);
        let again = NmMatrix::from_parts(stored.shape(), pattern, stored.values().clone(), stored.indices().to_vec());
        prop_assert_eq!(again.unwrap(), stored);
    }

    /// A group with fewer non-zeros is filled up, one with more refused.
    #[test]
    fn any_sparser_mask_is_held(weight in matrix(1..=4, 1..=40), pattern in common_nm(), seed in any::<u64>()) {
        let weight = view(&weight).to_owned();
        let full = masked(&weight, pattern);
        let mask = Mask::from_fn(weight.shape(), |i, j| {
            full.contains(i, j) && (seed >> ((i * 7 + j) % 64)) & 1 == 1
        });
        let (stored, _) = NmMatrix::new(weight.as_ref(), &mask, pattern, &F32).unwrap();
        prop_assert_eq!(stored.reconstruct(), mask.apply(weight.as_ref()).unwrap());
        stored.mask().check(pattern).unwrap();
        prop_assert_eq!(stored.mask().count(), weight.nrows() * pattern.kept_per_row(weight.ncols()));
    }

    /// Any bytes: an error or a matrix that holds what its parts say, never a panic.
    #[test]
    fn hostile_indices_are_refused(
        (rows, cols) in (0_usize..4, 0_usize..20),
        pattern in common_nm(),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let lengths = NmLengths::new((rows, cols), pattern).unwrap();
        let values = Values::Floats(Floats::F32(vec![1.0; rows * lengths.kept]));
        let fits = bytes.len() == lengths.indices;
        let built = NmMatrix::from_parts((rows, cols), pattern, values.clone(), bytes);
        let refused = matches!(built, Err(Error::PartLength { .. }));
        prop_assert!(fits || refused);
        if let Ok(stored) = built {
            prop_assert_eq!(stored.mask().count(), rows * lengths.kept);
            stored.mask().check(pattern).unwrap();
        }
        // The right length, so that the indices themselves are looked at.
        let exact = vec![0xA5_u8; lengths.indices];
        if let Ok(stored) = NmMatrix::from_parts((rows, cols), pattern, values, exact) {
            prop_assert_eq!(stored.mask().count(), rows * lengths.kept);
            stored.mask().check(pattern).unwrap();
        }
    }

    #[test]
    fn blocks_come_back_bit_for_bit(
        weight in matrix(1..=9, 1..=20),
        (height, width) in (1_usize..5, 1_usize..5),
        density in 0.0..=1.0,
    ) {
        let weight = view(&weight).to_owned();
        let pattern = Pattern::Block { rows: height, cols: width, density };
        let scores = criterion::magnitude(weight.as_ref()).unwrap();
        let mask = select(scores.as_ref(), &pattern).unwrap();
        let (stored, _) = BlockMatrix::new(weight.as_ref(), &mask, (height, width), FloatFormat::F32).unwrap();
        prop_assert_eq!(stored.reconstruct(), mask.apply(weight.as_ref()).unwrap());
        let blocks = stored.columns().len();
        let down = weight.nrows().div_ceil(height);
        prop_assert_eq!(stored.stored_bits(), (32 * (down + 1) + blocks * (16 + 32 * height * width)) as u64);
        let parts = (stored.starts().to_vec(), stored.columns().clone(), stored.values().clone());
        let again = BlockMatrix::from_parts(stored.shape(), (height, width), parts.0, parts.1, parts.2);
        prop_assert_eq!(again.unwrap(), stored);
        // Unstructured: blocks of one entry hold any mask.
        let any = Mask::from_fn(weight.shape(), |i, j| (i * 5 + j * 3) % 4 == 0);
        let (csr, _) = BlockMatrix::new(weight.as_ref(), &any, (1, 1), FloatFormat::F32).unwrap();
        prop_assert_eq!(csr.reconstruct(), any.apply(weight.as_ref()).unwrap());
        prop_assert_eq!(csr.columns().len(), any.count());
    }

    #[test]
    fn hostile_blocks_are_refused(
        starts in prop::collection::vec(0_u32..6, 3),
        columns in prop::collection::vec(0_u16..6, 0..6),
    ) {
        let values = Floats::F32(vec![1.0; columns.len()]);
        let built = BlockMatrix::from_parts((2, 5), (1, 1), starts, BlockIndices::U16(columns.clone()), values);
        if let Ok(stored) = built {
            prop_assert_eq!(Mask::of_nonzeros(stored.reconstruct().as_ref()).count(), columns.len());
        }
    }
}

#[test]
fn bytes_are_as_documented() {
    // Two groups of one row: {1, 3} and {0, 2}, lowest indices first.
    let weight = Mat::from_fn(1, 8, |_, j| [0.0, 5.0, 0.0, -6.0, 7.0, 0.0, 8.0, 0.0][j]);
    let mask = Mask::of_nonzeros(weight.as_ref());
    let (stored, _) = NmMatrix::new(weight.as_ref(), &mask, TWO, &F32).unwrap();
    assert_eq!(stored.indices(), [0b10_00_11_01]);
    assert_eq!(stored.values(), &Values::Floats(Floats::F32(vec![5.0, -6.0, 7.0, 8.0])));
}

/// The rule of the common implementation for groups with fewer than two non-zeros.
#[test]
fn short_groups_are_filled_like_the_hardwares() {
    let nibble = |kept: &[usize]| {
        let mask = Mask::from_fn((1, 4), |_, j| kept.contains(&j));
        let weight = Mat::from_fn(1, 4, |_, _| 1.0_f32);
        NmMatrix::new(weight.as_ref(), &mask, TWO, &F32).map(|(stored, _)| stored.indices()[0])
    };
    let cases: [(&[usize], u8); 11] = [
        (&[], 0b1110),
        (&[3], 0b1110),
        (&[2], 0b1110),
        (&[1], 0b1101),
        (&[0], 0b1100),
        (&[0, 1], 0b0100),
        (&[0, 2], 0b1000),
        (&[1, 2], 0b1001),
        (&[0, 3], 0b1100),
        (&[1, 3], 0b1101),
        (&[2, 3], 0b1110),
    ];
    for (kept, expected) in cases {
        assert_eq!(nibble(kept).unwrap(), expected, "{kept:?}");
    }
    for crowded in [&[0, 1, 2][..], &[1, 2, 3], &[0, 1, 3], &[0, 2, 3], &[0, 1, 2, 3]] {
        assert!(matches!(nibble(crowded), Err(Error::TooManyKept { row: 0, col: 0, keep: 2, .. })));
    }
}

#[test]
fn values_go_through_any_scheme() {
    let weight = normal(16, 96, "w");
    let mask = masked(&weight, TWO);
    for scheme in [scheme::INT4, scheme::NF4, scheme::INT8, scheme::UINT4, scheme::MXFP4, scheme::Q8_0] {
        let format = ValueFormat::Scheme(scheme.with_group(scheme.group), Rounder::Nearest);
        let built = NmMatrix::new(weight.as_ref(), &mask, TWO, &format);
        // 48 kept values: blocks of 32 do not fit.
        if scheme.block_len().is_some() {
            assert!(matches!(built, Err(Error::Quant(rankbit_quant::Error::GroupSize { .. }))));
            continue;
        }
        let (stored, _) = built.unwrap();
        let Values::Quantized(quantized) = stored.values() else { panic!("few bits") };
        assert_eq!(quantized.shape(), (16, 48));
        assert_eq!(stored.stored_bits(), quantized.stored_bits() + 16 * 48 * 2);
        let back = stored.reconstruct();
        for i in 0..16 {
            for j in 0..96 {
                let expected = if mask.contains(i, j) { weight[(i, j)] } else { 0.0 };
                assert!((back[(i, j)] - expected).abs() <= 0.6, "{} {expected}", back[(i, j)]);
                assert!(mask.contains(i, j) || back[(i, j)] == 0.0);
            }
        }
    }
    // 2:4 of 4-bit codes: 3 bits per weight and the scales of 128 columns.
    let weight = normal(8, 256, "w");
    let format = ValueFormat::Scheme(scheme::INT4.with_group(Group::Size(64)), Rounder::Nearest);
    let (stored, _) = NmMatrix::new(weight.as_ref(), &masked(&weight, TWO), TWO, &format).unwrap();
    assert_eq!(stored.stored_bits(), 8 * 256 * 3 + 8 * 2 * 16);
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let weight = normal(2, 8, "w");
    let w = weight.as_ref();
    let mask = masked(&weight, TWO);
    assert!(matches!(NmMatrix::new(w, &Mask::empty((2, 7)), TWO, &F32), Err(Error::ShapeMismatch { .. })));
    let one = NmPattern::new(1, 4).unwrap();
    assert!(matches!(NmMatrix::new(w, &mask, one, &F32), Err(Error::TooManyKept { .. })));
    for format in [FloatFormat::E8m0, FloatFormat::E4m3] {
        let format = ValueFormat::Float(format);
        assert!(matches!(NmMatrix::new(w, &mask, TWO, &format), Err(Error::Unsupported { .. })));
    }
    let gptq = ValueFormat::Scheme(scheme::INT4, Rounder::gptq(false));
    assert!(matches!(NmMatrix::new(w, &mask, TWO, &gptq), Err(Error::Quant(_))));
    let spoiled = Mat::from_fn(2, 8, |i, j| if (i, j) == (1, 5) { f32::NAN } else { weight[(i, j)] });
    let all = Mask::from_fn((2, 8), |_, j| j % 4 < 2);
    let named = Error::NonFinite { what: "kept weight", row: 1, col: 5 };
    assert_eq!(NmMatrix::new(spoiled.as_ref(), &all, TWO, &F32).err(), Some(named.clone()));
    assert_eq!(BlockMatrix::new(spoiled.as_ref(), &all, (1, 1), FloatFormat::F32).err(), Some(named));
    // What is not kept may be anything.
    let none = Mask::from_fn((2, 8), |_, j| j % 4 > 1);
    NmMatrix::new(spoiled.as_ref(), &none, TWO, &F32).unwrap();
    // f16 that overflows is widened, and says so.
    let large = Mat::from_fn(1, 4, |_, _| 1e6_f32);
    let half = ValueFormat::Float(FloatFormat::F16);
    let (stored, widened) = NmMatrix::new(large.as_ref(), &masked(&large, TWO), TWO, &half).unwrap();
    assert_eq!(widened, Some(FloatFormat::F16));
    assert_eq!(stored.reconstruct()[(0, 0)], 1e6);
    let mut row = [0.0; 4];
    assert!(stored.row_into(1, &mut row).is_err() && stored.row_into(0, &mut row[..3]).is_err());
    // Values of another size, another shape, not finite.
    let parts = |values, indices: &[u8]| {
        NmMatrix::from_parts((1, 8), TWO, Values::Floats(Floats::F32(values)), indices.to_vec())
    };
    assert!(parts(vec![1.0; 4], &[0b10_00_11_01]).is_ok());
    assert!(matches!(parts(vec![1.0; 3], &[0b10_00_11_01]), Err(Error::PartLength { part: "values", .. })));
    assert!(matches!(parts(vec![f32::NAN; 4], &[0b10_00_11_01]), Err(Error::Quant(_))));
    for (byte, position) in [(0b10_00_01_01, 1), (0b10_00_01_11, 1), (0b00_00_11_01, 3)] {
        let found = parts(vec![1.0; 4], &[byte]);
        assert!(
            matches!(found, Err(Error::InvalidIndex { row: 0, position: p, .. }) if p == position),
            "{found:?}"
        );
    }
    // A short group of two entries has no place 3; padding bits are zero.
    let short =
        |byte| NmMatrix::from_parts((1, 6), TWO, Values::Floats(Floats::F32(vec![1.0; 4])), vec![byte]);
    assert!(short(0b01_00_11_01).is_ok());
    assert!(matches!(short(0b11_00_11_01), Err(Error::InvalidIndex { position: 3, .. })));
    let one = NmMatrix::from_parts((1, 4), TWO, Values::Floats(Floats::F32(vec![1.0; 2])), vec![0b0001_0100]);
    assert!(matches!(one, Err(Error::InvalidIndex { .. })));
    assert!(matches!(NmLengths::new((usize::MAX, 8), TWO), Err(Error::TooLarge { .. })));
    assert!(BlockMatrix::new(w, &mask, (0, 1), FloatFormat::F32).is_err());
    // Wider indices than needed.
    let wide = BlockMatrix::from_parts(
        (1, 4),
        (1, 1),
        vec![0, 1],
        BlockIndices::U32(vec![0]),
        Floats::F32(vec![1.0]),
    );
    assert!(matches!(wide, Err(Error::InvalidIndex { .. })));
}

#[test]
fn hardware_metadata_has_an_inverse_and_its_limits() {
    for word in [Word::Bits16, Word::Bits32] {
        let weight = normal(64, 128, "w");
        let (stored, _) = NmMatrix::new(weight.as_ref(), &masked(&weight, TWO), TWO, &F32).unwrap();
        let metadata = hardware::metadata(&stored, word).unwrap();
        let back = hardware::from_metadata(stored.shape(), stored.values().clone(), &metadata, word);
        assert_eq!(back.unwrap(), stored);
        let mut broken = metadata.clone();
        broken[7] = 0; // places {0, 0}
        let found = hardware::from_metadata(stored.shape(), stored.values().clone(), &broken, word);
        assert!(matches!(found, Err(Error::InvalidIndex { .. })));
        let short = hardware::from_metadata(stored.shape(), stored.values().clone(), &metadata[1..], word);
        assert!(matches!(short, Err(Error::PartLength { .. })));
        for (rows, cols) in [(8, 128), (64, 96), (64, 126)] {
            let weight = normal(rows, cols, "w");
            let (stored, _) = NmMatrix::new(weight.as_ref(), &masked(&weight, TWO), TWO, &F32).unwrap();
            let fits = (rows, cols) == (64, 96) && word == Word::Bits16;
            assert_eq!(hardware::metadata(&stored, word).is_ok(), fits, "{rows}×{cols} {word:?}");
        }
    }
    let pattern = NmPattern::new(1, 2).unwrap();
    let weight = normal(64, 128, "w");
    let (other, _) = NmMatrix::new(weight.as_ref(), &masked(&weight, pattern), pattern, &F32).unwrap();
    let refused = hardware::metadata(&other, Word::Bits16);
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
}

/// Sizes that only claim to be there cost neither time nor memory.
#[test]
fn no_rows_of_any_width_and_no_columns_of_any_height() {
    let none = || Values::Floats(Floats::F32(Vec::new()));
    for shape in [(0, 1 << 60), (usize::MAX, 0)] {
        let matrix = NmMatrix::from_parts(shape, TWO, none(), Vec::new()).unwrap();
        assert_eq!((matrix.shape(), matrix.stored_bits()), (shape, 0));
    }
}
