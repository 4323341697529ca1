//! Reads a safetensors file by position: never mapped, nothing beyond the header held in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rankbit::quant::FloatFormat;
use sha2::{Digest, Sha256};

use super::header::{self, Header, Tensor};
use super::{CHUNK, convert};
use crate::error::Error;

/// An open file whose header has been checked.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: PositionedFile,
    len: u64,
    header: Header,
    by_name: HashMap<String, usize>,
}

/// A whole tensor in f32.
pub(crate) struct Loaded {
    /// Its values, row-major.
    pub(crate) values: Vec<f32>,
    /// Σ w².
    pub(crate) norm_squared: f64,
    /// Hash of its bytes as they lie in the file, in hexadecimal.
    pub(crate) sha256: String,
}

impl Reader {
    /// Opens `path` and checks its header.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let read = |error: io::Error| Error::read(path, &error);
        let metadata = std::fs::metadata(path).map_err(read)?;
        if !metadata.is_file() {
            return Err(Error::input(path, "not a file"));
        }
        let file = PositionedFile::new(File::open(path).map_err(read)?);
        let len = metadata.len();
        if len < 8 {
            return Err(Error::input(path, format!("truncated: {len} bytes, too short for a header")));
        }
        let mut prefix = [0; 8];
        file.read_exact_at(&mut prefix, 0).map_err(read)?;
        let length = u64::from_le_bytes(prefix);
        if length > len - 8 {
            return Err(Error::input(
                path,
                format!("truncated: the header is {length} bytes long at offset 8, the file only {len}"),
            ));
        }
        if length > header::MAX_LENGTH {
            let max = header::MAX_LENGTH;
            return Err(Error::input(path, format!("the header is {length} bytes long, more than {max}")));
        }
        let mut json = buffer(usize::try_from(length).unwrap_or(usize::MAX), "the header")?;
        file.read_exact_at(&mut json, 8).map_err(read)?;
        let header = header::parse(&json, 8 + length, len - 8 - length)
            .map_err(|reason| Error::input(path, reason))?;
        let by_name = header.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { path: path.to_owned(), file, len, header, by_name })
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Tensors and metadata.
    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// The tensor of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).and_then(|&index| self.header.tensors.get(index))
    }

    /// Bytes `offset ..` of a tensor's data.
    pub(crate) fn read_at(&self, tensor: &Tensor, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        debug_assert!(offset + buffer.len() as u64 <= tensor.len, "reads stay inside the tensor");
        self.file
            .read_exact_at(buffer, tensor.start + offset)
            .map_err(|error| self.read_error(tensor, &error))
    }

    /// All bytes of a tensor.
    pub(crate) fn bytes(&self, tensor: &Tensor) -> Result<Vec<u8>, Error> {
        let len = usize::try_from(tensor.len).unwrap_or(usize::MAX);
        let mut bytes = buffer(len, format_args!("tensor '{}'", tensor.name))?;
        self.read_at(tensor, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Hands a tensor's bytes to `take`, at most [`CHUNK`] at a time.
    pub(crate) fn stream(
        &self,
        tensor: &Tensor,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut chunk = vec![0; usize::try_from(tensor.len).map_or(CHUNK, |len| len.min(CHUNK))];
        let mut offset = 0;
        while offset < tensor.len {
            let count =
                usize::try_from(tensor.len - offset).map_or(chunk.len(), |left| left.min(chunk.len()));
            let chunk = &mut chunk[..count];
            self.read_at(tensor, offset, chunk)?;
            take(chunk)?;
            offset += count as u64;
        }
        Ok(())
    }

    /// Elements `first .. first + out.len()` as f32.
    pub(crate) fn values_at(
        &self,
        tensor: &Tensor,
        format: FloatFormat,
        first: u64,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let size = format.bytes();
        let mut bytes = vec![0; (out.len() * size).min(CHUNK)];
        let mut at = first * size as u64;
        for values in out.chunks_mut(CHUNK / size) {
            let bytes = &mut bytes[..values.len() * size];
            self.read_at(tensor, at, bytes)?;
            convert::to_f32(format, bytes, values);
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// The whole tensor in f32, hashed and summed on the way; NaN and infinities are refused by position.
    pub(crate) fn load(&self, tensor: &Tensor, format: FloatFormat, cols: usize) -> Result<Loaded, Error> {
        let name = &tensor.name;
        let count = usize::try_from(tensor.elements()).unwrap_or(usize::MAX);
        let mut values: Vec<f32> = Vec::new();
        values.try_reserve_exact(count).map_err(|_| {
            Error::memory(format_args!("tensor '{name}'"), tensor.elements().saturating_mul(4))
        })?;
        let mut hash = Sha256::new();
        let mut norm_squared = 0.0;
        self.stream(tensor, |bytes| {
            hash.update(bytes);
            let start = values.len();
            values.resize(start + bytes.len() / format.bytes(), 0.0);
            let fresh = &mut values[start..];
            convert::to_f32(format, bytes, fresh);
            for (i, &value) in fresh.iter().enumerate() {
                if !value.is_finite() {
                    let at = start + i;
                    let (row, col) = (at / cols.max(1), at % cols.max(1));
                    let kind = if value.is_nan() { "NaN" } else { "infinite" };
                    return Err(self.tensor_error(name, format!("[{row}, {col}] is {kind}")));
                }
                norm_squared += f64::from(value) * f64::from(value);
            }
            Ok(())
        })?;
        Ok(Loaded { values, norm_squared, sha256: hexadecimal(&hash.finalize()) })
    }

    /// Bad input in one of this file's tensors.
    pub(crate) fn tensor_error(&self, name: &str, reason: impl std::fmt::Display) -> Error {
        Error::tensor(&self.path, name, reason)
    }

    fn read_error(&self, tensor: &Tensor, error: &io::Error) -> Error {
        match Error::read(&self.path, error) {
            Error::Input { reason, .. } => self.tensor_error(&tensor.name, reason),
            other => other,
        }
    }
}

/// A zeroed buffer, or an error when there is no memory for it.
fn buffer(len: usize, what: impl std::fmt::Display) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::memory(what, len as u64))?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A file that several threads read by position.
#[derive(Debug)]
pub(crate) struct PositionedFile {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

#[cfg(unix)]
impl PositionedFile {
    pub(crate) const fn new(file: File) -> Self {
        Self { file }
    }

    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

#[cfg(not(unix))]
impl PositionedFile {
    pub(crate) const fn new(file: File) -> Self {
        Self { file: std::sync::Mutex::new(file) }
    }

    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use io::{Read as _, Seek as _};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}
