//! `__metadata__.rankbit`: what each compressed tensor was, and how it was compressed.

use std::collections::BTreeMap;

use rankbit::lowrank::split::file;
use rankbit::quant::Group;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The metadata entry that holds the records.
pub(crate) const KEY: &str = "rankbit";

/// Version of the file form that this program writes and the highest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Version of this program.
pub(crate) const RANKBIT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Name under which part `part` of tensor `tensor` is stored.
pub(crate) fn part_name(tensor: &str, part: &str) -> String {
    format!("{tensor}.rankbit.{part}")
}

/// Every record of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Records {
    /// Version of the file form.
    pub(crate) format_version: u32,
    /// The program that wrote it.
    pub(crate) rankbit_version: String,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// The compressed tensors, by their original names.
    pub(crate) tensors: BTreeMap<String, Record>,
    /// Tensors that only changed their element type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rest: BTreeMap<String, Rest>,
}

/// One compressed tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its original shape.
    pub(crate) shape: Vec<usize>,
    /// What its parts mean.
    pub(crate) split: file::Header,
    /// How the split was found.
    pub(crate) recipe: Value,
    /// The method's name.
    pub(crate) method: String,
    /// The format's name, when it has a quantized term.
    pub(crate) format: Option<String>,
    /// Who shares a scale.
    pub(crate) group: Option<GroupName>,
    /// Rank of the low-rank term.
    pub(crate) rank: Option<usize>,
    /// Its original element type.
    pub(crate) source_dtype: Dtype,
    /// ‖W − Ŵ‖ / ‖W‖ of the f32 reconstruction.
    pub(crate) relative_error: Option<f64>,
    /// The same under the calibration's metric.
    pub(crate) metric_error: Option<f64>,
    /// SHA-256 of its original bytes.
    pub(crate) source_sha256: String,
    /// SHA-256 of the calibration that it was fitted and measured under; see scripts/capture.py for its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moments_sha256: Option<String>,
    /// Seed of its random numbers, before its name is mixed in.
    pub(crate) seed: u64,
    /// What was changed from what was asked.
    pub(crate) warnings: Vec<String>,
    /// Whether it was left alone by the method and only stored in fewer bits (`--rest q8_0`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rest: bool,
}

/// A tensor that only changed its element type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rest {
    /// Its original element type.
    pub(crate) source_dtype: Dtype,
}

/// A group as written in flags and files: a number, `row`, `tensor`, or rows and columns as in `128x128`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum GroupName {
    /// Entries of a row.
    Size(u32),
    /// `row`, `tensor` or `128x128`.
    Name(String),
}

impl From<Group> for GroupName {
    fn from(group: Group) -> Self {
        match group {
            Group::Size(size) => Self::Size(size),
            Group::Row => Self::Name("row".to_owned()),
            Group::Tensor => Self::Name("tensor".to_owned()),
            Group::Block { rows, cols } => Self::Name(format!("{rows}x{cols}")),
        }
    }
}

impl std::fmt::Display for GroupName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Records {
    /// The records of a metadata string, or why it holds none that this program can read.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let Version { format_version } = serde_json::from_str(text)
            .map_err(|error| format!("metadata entry '{KEY}' is not valid: {error}"))?;
        if format_version > u64::from(FORMAT_VERSION) {
            return Err(format!(
                "format version {format_version} is newer than this rankbit reads ({FORMAT_VERSION})"
            ));
        }
        serde_json::from_str(text).map_err(|error| format!("metadata entry '{KEY}' is not valid: {error}"))
    }
}

/// The name of the bias beside a weight: `x.bias` for `x.weight`.
pub(crate) fn bias_name(weight: &str) -> Option<String> {
    Some(format!("{}bias", weight.strip_suffix("weight")?))
}

/// The name of the weight beside a bias.
pub(crate) fn weight_name(bias: &str) -> Option<String> {
    Some(format!("{}weight", bias.strip_suffix("bias")?))
}
