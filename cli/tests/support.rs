//! Files written and read by hand, independent of the program, and runs of the program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use half::{bf16, f16};
use serde_json::{Map, Value, json};

/// A safetensors file in the making.
#[derive(Clone, Default)]
pub(crate) struct Checkpoint {
    pub(crate) tensors: Vec<Stored>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// One tensor as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    /// Its values as f64.
    pub(crate) fn values(&self) -> Vec<f64> {
        let pair = |c: &[u8]| [c[0], c[1]];
        match self.dtype.as_str() {
            "F32" => self
                .bytes
                .chunks_exact(4)
                .map(|c| f64::from(f32::from_le_bytes(c.try_into().expect("four bytes"))))
                .collect(),
            "F16" => self.bytes.chunks_exact(2).map(|c| f16::from_le_bytes(pair(c)).to_f64()).collect(),
            "BF16" => self.bytes.chunks_exact(2).map(|c| bf16::from_le_bytes(pair(c)).to_f64()).collect(),
            other => panic!("no values of {other}"),
        }
    }
}

impl Checkpoint {
    pub(crate) fn raw(mut self, name: &str, dtype: &str, shape: &[usize], bytes: Vec<u8>) -> Self {
        self.tensors.push(Stored {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
            bytes,
        });
        self
    }

    pub(crate) fn f32(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(name, "F32", shape, bytes)
    }

    pub(crate) fn f64(self, name: &str, shape: &[usize], values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(name, "F64", shape, bytes)
    }

    pub(crate) fn f16(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        self.raw(name, "F16", shape, bytes)
    }

    pub(crate) fn bf16(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        self.raw(name, "BF16", shape, bytes)
    }

    pub(crate) fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        if !self.metadata.is_empty() {
            header.insert("__metadata__".to_owned(), json!(self.metadata));
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            let begin = data.len();
            data.extend_from_slice(&tensor.bytes);
            let entry =
                json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
            header.insert(tensor.name.clone(), entry);
        }
        container(&Value::Object(header).to_string(), &data)
    }

    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).expect("a written checkpoint");
    }

    pub(crate) fn find(&self, name: &str) -> &Stored {
        self.tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .unwrap_or_else(|| panic!("tensor {name} is there"))
    }

    /// Reads a file with the safetensors crate.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("a readable file");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a file that the crate accepts");
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("metadata");
        let tensors = file
            .iter()
            .map(|(name, view)| Stored {
                name: name.to_owned(),
                dtype: view.dtype().to_string(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            })
            .collect();
        let metadata = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        Self { tensors, metadata }
    }
}

/// Length prefix, header, data.
pub(crate) fn container(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Values of about `scale`, with a few larger ones, the same for the same seed.
pub(crate) fn noise(count: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bits = (state >> 48) as u16;
        f32::from(bits) / 65536.0 - 0.5
    };
    (0..count).map(|_| (uniform() + uniform() + uniform() + uniform()) * scale).collect()
}

/// A folder for one test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Names of everything in it.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("a readable folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// The program with arguments.
pub(crate) fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rankbit"));
    command.args(args);
    command
}

/// Runs the program.
pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Output {
    command(args).output().expect("the program starts")
}

/// Runs `compress IN -o OUT` with more arguments.
pub(crate) fn compress(input: &Path, output: &Path, more: &[&str]) -> Output {
    let mut command = command::<&str>(&["compress"]);
    command.arg(input).arg("-o").arg(output).args(more);
    command.output().expect("the program starts")
}

/// Runs the program and expects success; returns standard output.
pub(crate) fn succeed(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Expects an exit code and every one of `words` in the first line of standard error.
pub(crate) fn fail(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "stderr: {stderr}");
    assert!(output.stdout.is_empty(), "an error prints nothing on stdout");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let line = stderr.lines().next().unwrap_or_default();
    for word in words {
        assert!(line.contains(word), "'{word}' is not in: {stderr}");
    }
}

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a readable report")).expect("valid JSON")
}
