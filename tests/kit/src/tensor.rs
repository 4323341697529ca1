//! The float tensors of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};

use crate::Error;

/// Tensors by their name in the checkpoint.
pub type Tensors = BTreeMap<String, Tensor>;

/// A row-major tensor in `f32`. Cloning shares the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its side lengths.
    pub shape: Vec<usize>,
    /// As many values as the shape's product.
    pub values: Arc<[f32]>,
}

/// Reads every `f32`, `f16` and `bf16` tensor of a safetensors file; tensors of other types are left out.
///
/// # Errors
/// [`Error::NotFetched`] when there is no such file, [`Error::Io`] when it cannot be read, [`Error::Format`]
/// when it is not a safetensors file.
pub fn read_tensors(path: &Path) -> Result<Tensors, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::reading(path, source))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::Format { path: path.to_path_buf(), reason: error.to_string() })?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values: Arc<[f32]> = match view.dtype() {
            Dtype::F32 => decode(data, f32::from_le_bytes),
            Dtype::F16 => decode(data, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => decode(data, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            _ => continue,
        };
        tensors.insert(name, Tensor { shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

fn decode<const N: usize>(data: &[u8], one: impl Fn([u8; N]) -> f32) -> Arc<[f32]> {
    data.as_chunks::<N>().0.iter().map(|&bytes| one(bytes)).collect()
}
