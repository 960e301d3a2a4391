//! A file of lines, each a JSON value, that grows at its end: a note costs what it says, not what was
//! noted before. What the lines mean is for others to know.
//!
//! Nothing here waits for the disk unless it is asked to. A kill leaves whole lines and at most one
//! without an end, which counts as never written, and so does what a power cut left as zeros.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Error, Result,
    files::{Doing as _, read_bytes, write_at_once, write_durably},
};

/// The end of such a file, where the next line comes.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// Open from the first line that is appended.
    file: Option<File>,
    /// How many bytes of it are whole lines.
    length: u64,
    /// How many of them are the first line.
    first: u64,
}

impl Log {
    /// The lines of the file at `path`, and its end; without a line where there is no file.
    pub fn open<T: DeserializeOwned>(path: &Path) -> Result<(Vec<T>, Self)> {
        Self::open_with(path, &mut Err)
    }

    /// As [`Self::open`], without the lines that can't be read; what is wrong with each.
    pub fn open_readable<T: DeserializeOwned>(path: &Path) -> Result<(Vec<T>, Vec<Error>, Self)> {
        let mut unreadable = Vec::new();
        let (lines, log) = Self::open_with(path, &mut |error| {
            unreadable.push(error);
            Ok(())
        })?;
        Ok((lines, unreadable, log))
    }

    fn open_with<T: DeserializeOwned>(
        path: &Path,
        unreadable: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<(Vec<T>, Self)> {
        let (lines, first, length) = parse(path, unreadable)?;
        let log = Self {
            path: path.to_owned(),
            file: None,
            length,
            first,
        };
        Ok((lines, log))
    }

    /// How many bytes of it are whole lines.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many of them are the first line.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Waits until all of it is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        let synced = self.end().and_then(File::sync_data);
        synced.doing(|| format!("write {}", self.path.display()))
    }

    /// Takes away what stands behind the first `length` bytes, which are whole lines. Gives those
    /// that stay.
    pub fn cut<T: DeserializeOwned>(&mut self, length: u64) -> Result<Vec<T>> {
        self.file = None;
        self.length = length;
        let cut = self.end().map(drop);
        cut.doing(|| format!("write {}", self.path.display()))?;
        let (lines, log) = Self::open(&self.path)?;
        *self = log;
        Ok(lines)
    }

    /// Has one line in the place of all, in one step that a power cut can't undo.
    pub fn replace_durably<T: Serialize>(&mut self, line: &T) -> Result<()> {
        let mut bytes = line_of(&self.path, line)?;
        bytes.push(b'\n');
        self.file = None;
        write_durably(&self.path, &bytes)?;
        (self.first, self.length) = (bytes.len() as u64, bytes.len() as u64);
        Ok(())
    }

    /// Appends a line.
    pub fn append<T: Serialize>(&mut self, line: &T) -> Result<()> {
        let mut bytes = line_of(&self.path, line)?;
        bytes.push(b'\n');
        let appended = self.end().and_then(|mut file| file.write_all(&bytes));
        if appended.is_err() {
            // Opened anew it has whole lines only.
            self.file = None;
        }
        appended.doing(|| format!("write {}", self.path.display()))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Has other lines in the place of all, in one step.
    pub fn replace<T: Serialize>(&mut self, lines: &[T]) -> Result<()> {
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend(line_of(&self.path, line)?);
            bytes.push(b'\n');
        }
        self.file = None;
        write_at_once(&self.path, &bytes)?;
        self.length = bytes.len() as u64;
        Ok(())
    }

    /// The file, with nothing behind the last whole line.
    fn end(&mut self) -> std::io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).open(&self.path)?;
                file.set_len(self.length)?;
                file
            }
        };
        Ok(self.file.insert(file))
    }
}

fn line_of<T: Serialize>(path: &Path, line: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(line).map_err(|source| malformed(path, source))
}

fn malformed(path: &Path, source: serde_json::Error) -> Error {
    Error::Malformed {
        path: path.to_owned(),
        source,
    }
}

/// The whole lines of a file.
pub(super) fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    Ok(parse(path, &mut Err)?.0)
}

/// The whole lines of a file, how many bytes the first one is, and how many all of them.
fn parse<T: DeserializeOwned>(
    path: &Path,
    unreadable: &mut dyn FnMut(Error) -> Result<()>,
) -> Result<(Vec<T>, u64, u64)> {
    let Some(bytes) = read_bytes(path)? else {
        return Ok((Vec::new(), 0, 0));
    };
    let (mut lines, mut first, mut length) = (Vec::new(), 0, 0);
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") || line.contains(&0) {
            break;
        }
        match serde_json::from_slice(line) {
            Ok(line) => lines.push(line),
            Err(source) => unreadable(Error::MalformedLine {
                path: path.to_owned(),
                line: index + 1,
                source,
            })?,
        }
        length += line.len() as u64;
        if index == 0 {
            first = length;
        }
    }
    Ok((lines, first, length))
}

/// The first line of a file, if it has a whole one.
pub(super) fn first_line<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    use std::io::{BufRead as _, BufReader, ErrorKind};
    let reading = || format!("read {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.doing(reading)?,
    };
    let mut line = Vec::new();
    let mut reader = BufReader::new(file);
    reader.read_until(b'\n', &mut line).doing(reading)?;
    if !line.ends_with(b"\n") || line.contains(&0) {
        return Ok(None);
    }
    let line = serde_json::from_slice(&line);
    line.map(Some).map_err(|source| malformed(path, source))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(path: &Path) -> Vec<u32> {
        lines(path).unwrap()
    }

    #[test]
    fn lines_are_appended_and_give_way_to_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (none, mut log) = Log::open::<u32>(&path).unwrap();
        assert_eq!((none, first_line::<u32>(&path).unwrap()), (vec![], None));
        log.replace(&[1]).unwrap();
        log.append(&2).unwrap();
        log.append(&3).unwrap();
        assert_eq!(written(&path), [1, 2, 3]);
        assert_eq!(log.length, fs::metadata(&path).unwrap().len());
        log.replace(&[4]).unwrap();
        log.append(&5).unwrap();
        assert_eq!(written(&path), [4, 5]);
        assert_eq!(first_line(&path).unwrap(), Some(4));
    }

    #[test]
    fn what_has_no_end_was_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for cut in ["1\n2\n3", "1\n2\n\0\0\0", "1\n2\n\0\0\n9\n"] {
            fs::write(&path, cut).unwrap();
            let (there, mut log) = Log::open::<u32>(&path).unwrap();
            assert_eq!(there, [1, 2], "{cut:?}");
            log.append(&7).unwrap();
            assert_eq!(written(&path), [1, 2, 7], "{cut:?}");
        }
        fs::write(&path, "1\nx\n3\n").unwrap();
        let error = Log::open::<u32>(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}:2: ", path.display())),
            "{error}"
        );
        let (there, unreadable, _) = Log::open_readable::<u32>(&path).unwrap();
        assert_eq!((there, unreadable.len()), (vec![1, 3], 1));
    }
}
