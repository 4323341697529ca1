//! The images: 1797 records of 64 pixels (0 to 16) and a label, as scripts/digits.py wrote them.

/// Bytes of a record.
const RECORD: usize = 65;
/// The first records are for training and calibration, the others for tests.
const TRAIN: usize = 1200;

/// Images of 8 × 8 and what they show.
pub(super) struct Digits {
    /// 64 pixels an image, row by row.
    pub(super) pixels: Vec<u8>,
    /// 0 to 9.
    pub(super) labels: Vec<usize>,
}

/// The images that the network was trained with, and the others.
pub(super) fn digits() -> (Digits, Digits) {
    let bytes = include_bytes!("digits.bin");
    let (train, test) = bytes.split_at(TRAIN * RECORD);
    let read = |records: &[u8]| {
        let records = || records.chunks_exact(RECORD);
        Digits {
            pixels: records().flat_map(|record| &record[..RECORD - 1]).copied().collect(),
            labels: records().map(|record| usize::from(record[RECORD - 1])).collect(),
        }
    };
    (read(train), read(test))
}

impl Digits {
    /// The first images.
    pub(super) fn first(&self, count: usize) -> Self {
        Self { pixels: self.pixels[..64 * count].to_vec(), labels: self.labels[..count].to_vec() }
    }

    /// How many of `classes` are right.
    pub(super) fn right(&self, classes: &[usize]) -> usize {
        self.labels.iter().zip(classes).filter(|(label, class)| label == class).count()
    }
}
