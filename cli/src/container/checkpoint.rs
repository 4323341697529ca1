//! A checkpoint as a user sees it: tensors under their original names, whether compressed or not.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rankbit::lowrank::Split;
use rankbit::lowrank::split::{Rows, file};
use rankbit::quant::FloatFormat;

use super::convert;
use super::header::Tensor;
use super::reader::Reader;
use super::record::{self, Record, Records, part_name, weight_name};
use crate::error::Error;

/// An open file, compressed by rankbit or plain.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    reader: Reader,
    records: Option<Records>,
    entries: Vec<Entry>,
}

/// One tensor under its original name.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: String,
    /// Its original shape.
    pub(crate) shape: Vec<usize>,
}

impl Checkpoint {
    /// Opens `path`; a compressed file's records must agree with its tensors.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let reader = Reader::open(path)?;
        let records = match reader.header().metadata.get(record::KEY) {
            None => None,
            Some(text) => Some(Records::parse(text).map_err(|reason| Error::input(path, reason))?),
        };
        let entries = entries(&reader, records.as_ref())?;
        Ok(Self { reader, records, entries })
    }

    /// The file.
    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The records, when rankbit wrote the file.
    pub(crate) const fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    /// All tensors, in file order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The record of a compressed tensor.
    pub(crate) fn record(&self, name: &str) -> Option<&Record> {
        self.records.as_ref().and_then(|records| records.tensors.get(name))
    }

    /// The stored parts of a compressed tensor.
    pub(crate) fn parts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'static str, &'a Tensor)> {
        file::PART_NAMES
            .into_iter()
            .filter_map(move |part| Some((part, self.reader.find(&part_name(name, part))?)))
    }

    /// The values of a float tensor; `None` for another element type.
    pub(crate) fn values(&self, entry: &Entry) -> Result<Option<Values<'_>>, Error> {
        if let Some(record) = self.record(&entry.name) {
            return Ok(Some(Values::Split(Box::new(self.split(&entry.name, record)?))));
        }
        let Some(tensor) = self.reader.find(&entry.name) else { return Ok(None) };
        if let Some(shifted) = self.shifted(&entry.name)? {
            return Ok(Some(Values::Shifted(shifted)));
        }
        Ok(convert::float_format(tensor.dtype).map(|format| Values::Plain {
            reader: &self.reader,
            tensor,
            format,
        }))
    }

    /// The compressed weight whose split adds to the outputs that this plain tensor is the bias of.
    pub(crate) fn shifting(&self, name: &str) -> Option<(String, &Record)> {
        let weight = weight_name(name)?;
        let record = self.record(&weight).filter(|record| record.split.bias)?;
        let tensor = self.reader.find(name)?;
        let fits = tensor.elements() == record.split.shape.first().map_or(0, |&out| out as u64);
        (fits && convert::float_format(tensor.dtype).is_some()).then_some((weight, record))
    }

    /// A bias with what its weight's split adds.
    fn shifted(&self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        let Some((weight, record)) = self.shifting(name) else { return Ok(None) };
        let Some(tensor) = self.reader.find(name) else { return Ok(None) };
        let Some(format) = convert::float_format(tensor.dtype) else { return Ok(None) };
        let split = self.split(&weight, record)?;
        let mut values = vec![0.0; split.shape().0];
        self.reader.values_at(tensor, format, 0, &mut values)?;
        for (value, b) in values.iter_mut().zip(split.bias().unwrap_or_default()) {
            *value += b;
        }
        Ok(Some(values))
    }

    /// Loads a compressed tensor.
    fn split(&self, name: &str, record: &Record) -> Result<Split, Error> {
        let mut parts = HashMap::new();
        for (part, tensor) in self.parts(name) {
            let element = match convert::part_format(tensor.dtype) {
                Some(format) => file::PartType::Float(format),
                None if tensor.dtype == safetensors::Dtype::U8 => file::PartType::U8,
                None => {
                    let reason = format!("element type {} is not expected here", tensor.dtype);
                    return Err(self.reader.tensor_error(&tensor.name, reason));
                }
            };
            parts.insert(part, (element, tensor.shape.as_slice(), self.reader.bytes(tensor)?));
        }
        file::read(&record.split, |part| {
            let (element, shape, bytes) = parts.get(part)?;
            Some(file::PartView { element: *element, shape, bytes })
        })
        .map_err(|error| self.reader.tensor_error(name, error))
    }
}

/// Original names in file order: a compressed tensor stands where its first part does.
fn entries(reader: &Reader, records: Option<&Records>) -> Result<Vec<Entry>, Error> {
    let mut owners: HashMap<String, &str> = HashMap::new();
    for (name, record) in records.iter().flat_map(|records| &records.tensors) {
        let as_matrix = match *record.shape.as_slice() {
            [rows, cols] | [rows, cols, 1, 1] => Some([rows, cols]),
            _ => None,
        };
        if as_matrix != Some(record.split.shape) {
            let reason =
                format!("shape {:?} is not that of its split, {:?}", record.shape, record.split.shape);
            return Err(reader.tensor_error(name, reason));
        }
        if reader.find(name).is_some() {
            return Err(reader.tensor_error(name, "is stored both compressed and plain"));
        }
        let before = owners.len();
        owners.extend(file::PART_NAMES.map(|part| (part_name(name, part), name.as_str())));
        if owners.len() != before + file::PART_NAMES.len() {
            return Err(reader.tensor_error(name, "shares the name of a part with another tensor"));
        }
    }
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for tensor in &reader.header().tensors {
        match owners.get(&tensor.name) {
            None => entries.push(Entry { name: tensor.name.clone(), shape: tensor.shape.clone() }),
            Some(&owner) => {
                let record = records.and_then(|records| records.tensors.get(owner));
                if let Some(record) = record.filter(|_| seen.insert(owner)) {
                    let shape = record.shape.clone();
                    entries.push(Entry { name: owner.to_owned(), shape });
                }
            }
        }
    }
    for name in records.iter().flat_map(|records| records.tensors.keys()) {
        if !seen.contains(name.as_str()) {
            return Err(reader.tensor_error(name, "has a record but no data"));
        }
    }
    Ok(entries)
}

/// The values of one tensor, read in blocks.
pub(crate) enum Values<'a> {
    /// From a plain tensor.
    Plain {
        /// The file.
        reader: &'a Reader,
        /// The tensor.
        tensor: &'a Tensor,
        /// Its element type.
        format: FloatFormat,
    },
    /// From a compressed one.
    Split(Box<Split>),
    /// A bias, with what its weight's split adds.
    Shifted(Vec<f32>),
}

impl Values<'_> {
    /// For reading rows one block after another.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        match self {
            Values::Plain { reader, tensor, format } => Blocks::Plain { reader, tensor, format: *format },
            Values::Split(split) => Blocks::Split(split.rows()),
            Values::Shifted(values) => Blocks::Shifted(values),
        }
    }
}

/// Reads blocks of rows; from [`Values::blocks`].
pub(crate) enum Blocks<'a> {
    /// From a plain tensor.
    Plain {
        /// The file.
        reader: &'a Reader,
        /// The tensor.
        tensor: &'a Tensor,
        /// Its element type.
        format: FloatFormat,
    },
    /// From a compressed one.
    Split(Rows<'a>),
    /// From memory.
    Shifted(&'a [f32]),
}

impl Blocks<'_> {
    /// Rows `first ..` of `cols` values each into `out`, which holds whole rows.
    pub(crate) fn read(&self, first: usize, cols: usize, out: &mut [f32]) -> Result<(), Error> {
        use rayon::prelude::*;
        match self {
            Self::Plain { reader, tensor, format } => {
                reader.values_at(tensor, *format, first as u64 * cols as u64, out)
            }
            Self::Shifted(values) => {
                let start = first.saturating_mul(cols);
                let end = start.saturating_add(out.len());
                match values.get(start..end) {
                    Some(found) => out.copy_from_slice(found),
                    None => out.fill(0.0),
                }
                Ok(())
            }
            Self::Split(rows) => out
                .par_chunks_mut(cols.max(1))
                .enumerate()
                .try_for_each(|(i, row)| rows.read(first + i, row))
                .map_err(|error| Error::Machine {
                    what: "decoding a row".to_owned(),
                    reason: error.to_string(),
                }),
        }
    }
}
