//! scikit-learn's handwritten digits: 1797 records of 64 pixels (0 to 16) and a label, in a fixed random order. The file is
//! the one of quant's example of the same name, which scripts/digits.py wrote.

use rankbit_linalg::faer::Mat;

/// Bytes of a record.
const RECORD: usize = 65;
/// The first records are for training, the others for tests.
const TRAIN: usize = 1200;

/// Images of 8 × 8 and what they show.
pub(crate) struct Digits {
    /// `[images, 64]`, from −1 to 1.
    pub(crate) pixels: Mat<f32>,
    /// 0 to 9.
    pub(crate) labels: Vec<usize>,
}

/// The images for training, and the others.
pub(crate) fn digits() -> (Digits, Digits) {
    let bytes = include_bytes!("../../../quant/examples/digits/digits.bin");
    let (train, test) = bytes.split_at(TRAIN * RECORD);
    let read = |bytes: &[u8]| {
        let records: Vec<&[u8]> = bytes.chunks_exact(RECORD).collect();
        Digits {
            pixels: Mat::from_fn(records.len(), RECORD - 1, |i, j| f32::from(records[i][j]) / 8.0 - 1.0),
            labels: records.iter().map(|record| usize::from(record[RECORD - 1])).collect(),
        }
    };
    (read(train), read(test))
}
