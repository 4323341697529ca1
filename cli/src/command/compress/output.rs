//! Assembles the compressed file: parts from the spill, everything else straight from the input.

use std::collections::BTreeMap;

use rankbit::lowrank::split::file::{Part, PartType};
use safetensors::Dtype;

use super::rest;
use crate::container::convert;
use crate::container::header::Tensor;
use crate::container::reader::Reader;
use crate::container::record::{self, part_name};
use crate::container::writer::{AtomicFile, Spec, Spill, file_order, header_bytes};
use crate::error::Error;

/// Where a tensor's bytes come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The input, byte for byte.
    Input(usize),
    /// The input, as f16.
    AsF16(usize),
    /// The spill, from this offset.
    Spill(u64),
}

/// What the output will hold, in the input's order.
pub(crate) struct Output {
    specs: Vec<Spec>,
    sources: Vec<Source>,
    spill: Spill,
}

impl Output {
    /// Nothing yet.
    pub(crate) const fn new(spill: Spill) -> Self {
        Self { specs: Vec::new(), sources: Vec::new(), spill }
    }

    /// A tensor that is left alone.
    pub(crate) fn keep(&mut self, index: usize, tensor: &Tensor) {
        let Tensor { name, dtype, shape, len, .. } = tensor.clone();
        self.specs.push(Spec { name, dtype, shape, len });
        self.sources.push(Source::Input(index));
    }

    /// A tensor that becomes f16.
    pub(crate) fn convert(&mut self, index: usize, tensor: &Tensor) {
        let Tensor { name, shape, .. } = tensor.clone();
        self.specs.push(Spec { name, dtype: Dtype::F16, shape, len: 2 * tensor.elements() });
        self.sources.push(Source::AsF16(index));
    }

    /// A compressed tensor: its parts go to the spill.
    pub(crate) fn compressed(&mut self, name: &str, parts: Vec<Part>) -> Result<(), Error> {
        for part in parts {
            let dtype = match part.element {
                PartType::U8 => Dtype::U8,
                PartType::Float(format) => convert::dtype(format),
            };
            let start = self.spill.push(&part.bytes)?;
            self.specs.push(Spec {
                name: part_name(name, part.name),
                dtype,
                shape: part.shape,
                len: part.bytes.len() as u64,
            });
            self.sources.push(Source::Spill(start));
        }
        Ok(())
    }

    /// Writes header and data, and puts the file in place. Returns its size.
    pub(crate) fn write(self, reader: &Reader, records: String, mut file: AtomicFile) -> Result<u64, Error> {
        let Self { specs, sources, spill } = self;
        let spill = spill.into_reader();
        let mut metadata: BTreeMap<String, String> = reader.header().metadata.clone();
        metadata.insert(record::KEY.to_owned(), records);
        let order = file_order(&specs);
        let ordered: Vec<&Spec> = order.iter().filter_map(|&i| specs.get(i)).collect();
        file.write(&header_bytes(&ordered, &metadata, reader.path())?)?;
        for &i in &order {
            let (Some(spec), Some(&source)) = (specs.get(i), sources.get(i)) else { continue };
            match source {
                Source::Spill(start) => spill.copy(start, spec.len, &mut file)?,
                Source::Input(index) | Source::AsF16(index) => {
                    let Some(tensor) = reader.header().tensors.get(index) else { continue };
                    if matches!(source, Source::AsF16(_)) {
                        rest::copy_as_f16(reader, tensor, &mut file)?;
                    } else {
                        reader.stream(tensor, |bytes| file.write(bytes))?;
                    }
                }
            }
        }
        file.commit()
    }
}
