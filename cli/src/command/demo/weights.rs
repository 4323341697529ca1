//! The matrices that the command carries: three of a real sentence encoder, in f16 (see NOTICE).

use rankbit::linalg::faer::MatRef;
use safetensors::{Dtype, SafeTensors};

use crate::error::Error;

static BYTES: &[u8] = include_bytes!("../../../assets/demo.safetensors");

/// One embedded matrix.
pub(crate) struct Weight {
    /// Its name in the checkpoint.
    pub(crate) name: String,
    /// Outputs.
    pub(crate) rows: usize,
    /// Inputs.
    pub(crate) cols: usize,
    /// Its entries, row by row.
    pub(crate) values: Vec<f32>,
}

impl Weight {
    /// As a matrix.
    pub(crate) fn view(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.cols)
    }
}

/// The embedded matrices, in a fixed order.
pub(crate) fn embedded() -> Result<Vec<Weight>, Error> {
    let broken = |reason: String| Error::Machine { what: "the embedded weights".to_owned(), reason };
    let file = SafeTensors::deserialize(BYTES).map_err(|e| broken(e.to_string()))?;
    let mut weights = Vec::new();
    for (name, tensor) in file.iter() {
        let (Dtype::F16, &[rows, cols]) = (tensor.dtype(), tensor.shape()) else {
            return Err(broken(format!("{name} is not an f16 matrix")));
        };
        let value = |pair: &[u8]| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
        let values = tensor.data().chunks_exact(2).map(value).collect();
        weights.push(Weight { name: name.to_owned(), rows, cols, values });
    }
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(weights)
}
