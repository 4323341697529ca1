//! Writes files that are whole or not there: a temporary file in the same folder, synced, then renamed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tempfile::NamedTempFile;

use super::{convert, header};
use crate::error::Error;

/// A file being written. Dropped before [`AtomicFile::commit`], it leaves nothing behind; a killed run leaves a
/// file named `.NAME.rankbit-XXXXXX.tmp`, and `NAME` as it was.
pub(crate) struct AtomicFile {
    target: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Begins a file that will take `path`'s place.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let old = std::fs::metadata(path).ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            return Err(Error::usage(format!("{}: exists and is not a file", path.display())));
        }
        let target = follow(path).map_err(|error| Error::write(path, &error))?;
        let name = target
            .file_name()
            .ok_or_else(|| Error::usage(format!("{}: not the name of a file", path.display())))?;
        let prefix = format!(".{}.rankbit-", name.to_string_lossy());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // As any other new file: the process's umask takes its part.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder(&target)).map_err(|error| Error::write(path, &error))?;
        if let Some(old) = old {
            file.as_file().set_permissions(old.permissions()).map_err(|error| Error::write(path, &error))?;
        }
        Ok(Self { target, file: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Appends `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| Error::write(&self.target, &error))
    }

    /// Makes the file durable and puts it in place. Returns its size.
    pub(crate) fn commit(self) -> Result<u64, Error> {
        let Self { target, file } = self;
        let fail = |error: io::Error| Error::write(&target, &error);
        let file = file.into_inner().map_err(|error| fail(error.into_error()))?;
        file.as_file().sync_all().map_err(fail)?;
        let size = file.as_file().metadata().map_err(fail)?.len();
        file.persist(&target).map_err(|error| fail(error.error))?;
        sync_folder(folder(&target)).map_err(fail)?;
        Ok(size)
    }
}

/// Where a file written to `path` belongs: links are followed, also to a file that does not exist yet, so that the
/// file behind a link is replaced and not the link.
pub(crate) fn follow(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match std::fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        match std::fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

/// The folder that holds `path`.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename durable, where folders can be synced at all.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(path).and_then(|folder| folder.sync_all()) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// One tensor to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: String,
    /// Its element type.
    pub(crate) dtype: Dtype,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Bytes of its data.
    pub(crate) len: u64,
}

/// Indices of `specs` in the order in which they are written: wider elements first, so that every tensor lies
/// on a multiple of its element's size; among equals as they come.
pub(crate) fn file_order(specs: &[Spec]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|&i| specs.get(i).map(|spec| std::cmp::Reverse(convert::alignment(spec.dtype))));
    order
}

/// Length prefix and header of a file with `specs` in this order.
pub(crate) fn header_bytes(
    specs: &[&Spec],
    metadata: &BTreeMap<String, String>,
    path: &Path,
) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(&HeaderJson { specs, metadata }).map_err(|error| Error::Machine {
        what: "writing the header".to_owned(),
        reason: error.to_string(),
    })?;
    let padded = json.len().next_multiple_of(8);
    if padded as u64 > header::MAX_LENGTH {
        return Err(Error::input(
            path,
            format!("the header would take {padded} bytes, more than the format allows"),
        ));
    }
    let mut bytes = Vec::with_capacity(8 + padded);
    bytes.extend_from_slice(&(padded as u64).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.resize(8 + padded, b' ');
    Ok(bytes)
}

struct HeaderJson<'a> {
    specs: &'a [&'a Spec],
    metadata: &'a BTreeMap<String, String>,
}

impl Serialize for HeaderJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Entry<'a> {
            dtype: Dtype,
            shape: &'a [usize],
            data_offsets: [u64; 2],
        }
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(header::METADATA, self.metadata)?;
        }
        let mut begin = 0;
        for spec in self.specs {
            let end = begin + spec.len;
            let entry = Entry { dtype: spec.dtype, shape: &spec.shape, data_offsets: [begin, end] };
            map.serialize_entry(&spec.name, &entry)?;
            begin = end;
        }
        map.end()
    }
}

/// Compressed parts until their places in the file are known: appended in order, read back by position. The
/// file has no name, so that a killed run leaves nothing of it.
pub(crate) struct Spill {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Spill {
    /// Begins a spill in the folder of `target`, which will need the room anyway.
    pub(crate) fn create(target: &Path) -> Result<Self, Error> {
        let path = target.to_owned();
        let file = tempfile::tempfile_in(folder(target)).map_err(|error| Error::write(target, &error))?;
        Ok(Self { path, file, len: 0 })
    }

    /// Appends `bytes` and returns where they begin.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let start = self.len;
        self.file.write_all(bytes).map_err(|error| Error::write(&self.path, &error))?;
        self.len += bytes.len() as u64;
        Ok(start)
    }

    /// Everything is written: from now on it is read.
    pub(crate) fn into_reader(self) -> SpillReader {
        SpillReader { path: self.path, file: super::reader::PositionedFile::new(self.file) }
    }
}

/// Reads a [`Spill`] back.
pub(crate) struct SpillReader {
    path: PathBuf,
    file: super::reader::PositionedFile,
}

impl SpillReader {
    /// Copies `len` bytes from `start` to the end of `file`.
    pub(crate) fn copy(&self, start: u64, len: u64, file: &mut AtomicFile) -> Result<(), Error> {
        let mut chunk = vec![0; usize::try_from(len).map_or(super::CHUNK, |len| len.min(super::CHUNK))];
        let mut done = 0;
        while done < len {
            let count = usize::try_from(len - done).map_or(chunk.len(), |left| left.min(chunk.len()));
            let chunk = &mut chunk[..count];
            self.file.read_exact_at(chunk, start + done).map_err(|error| Error::write(&self.path, &error))?;
            file.write(chunk)?;
            done += count as u64;
        }
        Ok(())
    }
}
