//! An FLV file that grows by whole tags, and is corrected in place.
//!
//! Wherever its writer stops, the file plays: a crash leaves the tags that the system has, a disk that is full has the
//! piece of a tag taken away again. Its length stands as 0 in its metadata until the end is known, which players take for
//! "look at the last tag".

use punchcast::media::flv;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct FlvFile {
    file: File,
    /// Bytes of header and whole tags.
    whole: u64,
    /// Where the metadata has the length.
    duration_at: Option<u64>,
    /// The latest timestamp, in milliseconds.
    end: u32,
}

impl FlvFile {
    /// A file that is empty.
    pub(super) const fn new(file: File) -> Self {
        Self { file, whole: 0, duration_at: None, end: 0 }
    }

    /// Appends the header, or whole tags; where that fails, none of them is left in the file.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // Should this fail, too, what was said of a file that ends within a tag holds.
            let _ = self.file.set_len(self.whole);
            return Err(error);
        }
        self.whole += bytes.len() as u64;
        Ok(())
    }

    /// Appends one tag of that time; where it has the file's length so far behind its beginning, that is filled in later.
    pub(super) fn append_tag(
        &mut self,
        bytes: &[u8],
        timestamp: u32,
        duration: Option<usize>,
    ) -> io::Result<()> {
        let begin = self.whole;
        self.append(bytes)?;
        self.end = self.end.max(timestamp);
        self.duration_at = duration.map(|within| begin + within as u64).or(self.duration_at);
        Ok(())
    }

    /// Says anew what the file holds.
    pub(super) fn set_flags(&mut self, flags: u8) -> io::Result<()> {
        self.correct(flv::Writer::FLAGS_OFFSET, &[flags])
    }

    /// Writes the file's length into its metadata: nothing more comes.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let Some(at) = self.duration_at else { return Ok(()) };
        self.correct(at, &(f64::from(self.end) / 1e3).to_be_bytes())
    }

    fn correct(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(bytes)?;
        self.file.seek(SeekFrom::Start(self.whole)).map(drop)
    }
}
