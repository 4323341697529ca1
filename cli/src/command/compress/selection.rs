//! Which tensors a plan or `--rest q8_0` takes from those that names and shapes select.

use std::collections::HashMap;
use std::path::Path;

use rankbit::lowrank::plan::Planned;
use rankbit::quant::scheme;

use super::budget::{Allocation, PlanFile};
use crate::container::convert;
use crate::container::reader::Reader;
use crate::error::Error;
use crate::select::{Chosen, Skipped};

/// The recipes of a plan that was read, by index. Tensors that it does not name are left alone.
pub(super) fn planned(
    file: PlanFile,
    path: &Path,
    reader: &Reader,
    chosen: &mut Vec<Chosen>,
    skipped: &mut Vec<Skipped>,
) -> Result<Allocation, Error> {
    let loss = file.loss();
    let mut named: HashMap<String, Planned> = HashMap::new();
    for planned in file.tensors() {
        let name = planned.name.clone();
        if named.insert(name.clone(), planned).is_some() {
            return Err(Error::tensor(path, &name, "is named twice"));
        }
    }
    let mut tensors = HashMap::new();
    for candidate in std::mem::take(chosen) {
        let tensor = reader.header().tensors.get(candidate.index);
        match tensor.and_then(|tensor| Some((tensor, named.remove(&tensor.name)?))) {
            None => skipped.push(Skipped { index: candidate.index, reason: "not in the plan".to_owned() }),
            Some((tensor, planned)) if planned.weights != tensor.elements() => {
                let reason = format!("has {} weights, {} in the plan", tensor.elements(), planned.weights);
                return Err(Error::tensor(path, &tensor.name, reason));
            }
            Some((_, planned)) => {
                tensors.insert(candidate.index, planned);
                chosen.push(candidate);
            }
        }
    }
    if let Some(name) = named.keys().min() {
        return Err(Error::tensor(path, name, "is no matrix of the input that is compressed"));
    }
    skipped.sort_by_key(|skipped| skipped.index);
    Ok(Allocation { tensors, loss, budget: None })
}

/// Takes out of `skipped` the matrices that q8_0 can hold.
pub(super) fn as_q8_0(reader: &Reader, skipped: &mut Vec<Skipped>) -> Vec<(Chosen, String)> {
    let mut rest = Vec::new();
    skipped.retain(|skipped| {
        let shape = reader.header().tensors.get(skipped.index).and_then(|tensor| {
            convert::float_format(tensor.dtype)?;
            tensor.as_matrix()
        });
        let fits = |&(rows, _): &(usize, usize)| rows > 0;
        match shape.filter(fits).filter(|&shape| shape.1 > 0 && scheme::Q8_0.grouping(shape).is_ok()) {
            Some(shape) => {
                rest.push((Chosen { index: skipped.index, shape }, skipped.reason.clone()));
                false
            }
            None => true,
        }
    });
    rest
}
