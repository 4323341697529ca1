//! The header of a safetensors file, parsed defensively.
//!
//! ```text
//! file = length: u64 (little-endian) · header: JSON object, padded with spaces · data
//! header = { "__metadata__": { string: string }, name: { "dtype", "shape", "data_offsets": [begin, end] } }
//! ```
//! The format's own rules are enforced: at most 100 MB of header, no duplicate names, sizes that agree with dtype
//! and shape, and data that cover the rest of the file without a gap or an overlap.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use safetensors::Dtype;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The largest header that the format allows.
pub(crate) const MAX_LENGTH: u64 = 100_000_000;

/// The header entry that is no tensor.
pub(crate) const METADATA: &str = "__metadata__";

/// One tensor of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tensor {
    /// Its name.
    pub(crate) name: String,
    /// Its element type.
    pub(crate) dtype: Dtype,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Where its data begin, counted from the beginning of the file.
    pub(crate) start: u64,
    /// Bytes of its data.
    pub(crate) len: u64,
}

impl Tensor {
    /// Rows and columns when it is a matrix: two dimensions, or four with a 1×1 kernel.
    pub(crate) fn as_matrix(&self) -> Option<(usize, usize)> {
        match *self.shape.as_slice() {
            [rows, cols] | [rows, cols, 1, 1] => Some((rows, cols)),
            _ => None,
        }
    }

    /// Number of elements. The header's check made sure that it fits.
    pub(crate) fn elements(&self) -> u64 {
        self.shape.iter().map(|&side| side as u64).product()
    }
}

/// All tensors, in the order of their data, and the file's metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Header {
    /// The tensors.
    pub(crate) tensors: Vec<Tensor>,
    /// `__metadata__`.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Parses `json`; the data begin at `data_start` and are `data_len` bytes long.
///
/// The error is a sentence that names the tensor and the offset.
pub(crate) fn parse(json: &[u8], data_start: u64, data_len: u64) -> Result<Header, String> {
    let text = std::str::from_utf8(json)
        .map_err(|error| format!("header is not UTF-8 at offset {}", 8 + error.valid_up_to()))?;
    if !text.starts_with('{') {
        return Err("header is not JSON: it must begin with '{' at offset 8".to_owned());
    }
    let raw: RawHeader = serde_json::from_str(text).map_err(|error| match error.line() {
        1 => format!("header is not valid at offset {}: {error}", error.column().saturating_add(7)),
        _ => format!("header is not valid: {error}"),
    })?;
    let mut tensors = Vec::with_capacity(raw.tensors.len());
    for (name, raw) in raw.tensors {
        let tensor = raw.check(name, data_start, data_len)?;
        tensors.push(tensor);
    }
    tensors.sort_by(|a, b| (a.start, a.len, &a.name).cmp(&(b.start, b.len, &b.name)));
    check_cover(&tensors, data_start, data_len)?;
    Ok(Header { tensors, metadata: raw.metadata })
}

/// Data must lie one after another, from the first byte to the last.
fn check_cover(tensors: &[Tensor], data_start: u64, data_len: u64) -> Result<(), String> {
    let mut end = data_start;
    let mut before = "the header";
    for tensor in tensors {
        let Tensor { name, start, .. } = tensor;
        let begin = start.saturating_sub(data_start);
        let expected = end - data_start;
        if *start < end {
            return Err(format!(
                "tensor '{name}' begins at data offset {begin} and overlaps '{before}', which ends at {expected}"
            ));
        }
        if *start > end {
            return Err(format!(
                "tensor '{name}' begins at data offset {begin}, but '{before}' ends at {expected}: bytes between \
                 them belong to no tensor"
            ));
        }
        // In range: each tensor's end was checked against the end of the file.
        end = start + tensor.len;
        before = name;
    }
    let covered = end - data_start;
    if covered == data_len {
        Ok(())
    } else {
        Err(format!("the data are {data_len} bytes long, but tensors cover only {covered}"))
    }
}

/// One entry as written.
#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawTensor {
    fn check(self, name: String, data_start: u64, data_len: u64) -> Result<Tensor, String> {
        let Self { dtype, shape, data_offsets: (begin, end) } = self;
        let dtype: Dtype = serde_json::from_value(dtype.clone().into())
            .map_err(|_| format!("tensor '{name}': unknown dtype '{dtype}'"))?;
        if begin > end || end > data_len {
            return Err(format!(
                "tensor '{name}': data offsets {begin} to {end} are out of range (the data are {data_len} bytes long)"
            ));
        }
        let too_large = || format!("tensor '{name}': the size of shape {shape:?} overflows");
        let elements =
            shape.iter().try_fold(1_u64, |product, &side| product.checked_mul(side)).ok_or_else(too_large)?;
        let bits = elements.checked_mul(dtype.bitsize() as u64).ok_or_else(too_large)?;
        if bits % 8 != 0 || bits / 8 != end - begin {
            return Err(format!(
                "tensor '{name}': data offsets {begin} to {end} hold {} bytes, but {dtype} {shape:?} takes {}",
                end - begin,
                bits.div_ceil(8)
            ));
        }
        let sides: Result<Vec<usize>, _> = shape.iter().map(|&side| usize::try_from(side)).collect();
        let sides = sides.map_err(|_| too_large())?;
        Ok(Tensor { dtype, shape: sides, start: data_start + begin, len: end - begin, name })
    }
}

/// The header as written, names checked for duplicates.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader { tensors: Vec::new(), metadata: BTreeMap::new() };
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("'{name}' appears twice")));
                    }
                    if name == METADATA {
                        header.metadata = map.next_value_seed(Strings)?;
                    } else {
                        let tensor = map
                            .next_value()
                            .map_err(|error| A::Error::custom(format!("tensor '{name}': {error}")))?;
                        header.tensors.push((name, tensor));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// An object of strings without duplicate keys.
struct Strings;

impl<'de> DeserializeSeed<'de> for Strings {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Strings {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut strings = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map
                .next_value()
                .map_err(|error| A::Error::custom(format!("{METADATA} entry '{key}': {error}")))?;
            if strings.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("{METADATA} entry '{key}' appears twice")));
            }
        }
        Ok(strings)
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, parse};

    fn header(json: &str, data_len: u64) -> Result<Header, String> {
        parse(json.as_bytes(), 8 + json.len() as u64, data_len)
    }

    #[test]
    fn tensors_come_in_the_order_of_their_data() {
        let json = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
                       "a":{"dtype":"F16","shape":[1,2,1,1],"data_offsets":[0,4]},"__metadata__":{"k":"v"}}  "#;
        let header = header(json, 12).expect("valid");
        let names: Vec<&str> = header.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(header.tensors[0].as_matrix(), Some((1, 2)));
        assert_eq!(header.tensors[1].start, 8 + json.len() as u64 + 4);
        assert_eq!(header.metadata["k"], "v");
    }

    #[test]
    fn an_empty_file_and_empty_tensors_are_fine() {
        assert_eq!(header("{}", 0), Ok(Header::default()));
        let json = r#"{"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]}}"#;
        assert_eq!(header(json, 0).map(|h| h.tensors[0].elements()), Ok(0));
    }

    #[test]
    fn each_violation_is_named() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let cases = [
            ("[]".to_owned(), 0, "must begin with"),
            ("{".to_owned(), 0, "not valid"),
            (r#"{"__metadata__":{"a":1}}"#.to_owned(), 0, "entry 'a'"),
            (r#"{"__metadata__":{"a":"1","a":"2"}}"#.to_owned(), 0, "'a' appears twice"),
            (one("F33", "[1]", "[0,4]"), 4, "unknown dtype 'F33'"),
            (one("F32", "[1]", "[0,4]"), 3, "out of range"),
            (one("F32", "[1]", "[4,0]"), 4, "out of range"),
            (one("F32", "[1]", "[0,4]"), 5, "cover only 4"),
            (one("F32", "[2]", "[0,4]"), 4, "takes 8"),
            (one("F32", "[4294967296,4294967296]", "[0,4]"), 4, "overflows"),
            (one("F32", "[2305843009213693951]", "[0,4]"), 4, "overflows"),
            (one("F4", "[3]", "[0,2]"), 2, "takes 2"),
            (one("F32", "[-1]", "[0,4]"), 4, "tensor 'a'"),
            (one("F32", "[1]", "[4,8]"), 8, "belong to no tensor"),
        ];
        for (json, data_len, expected) in cases {
            let error = header(&json, data_len).expect_err(&json);
            assert!(error.contains(expected), "{json}: {error}");
        }
        let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        let twice = header(&format!(r#"{{"a":{entry},"a":{entry}}}"#), 4).expect_err("duplicate");
        assert!(twice.contains("'a' appears twice"), "{twice}");
        let overlap = header(&format!(r#"{{"a":{entry},"b":{entry}}}"#), 4).expect_err("overlap");
        assert!(overlap.contains("overlaps"), "{overlap}");
    }
}
