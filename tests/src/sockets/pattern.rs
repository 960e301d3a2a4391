//! What transfers are made of, so that nothing that is lost, doubled or out of place goes unseen.

use std::{
    io::{self, Read, Write as _},
    net::TcpStream,
    sync::LazyLock,
};

/// A block of bytes, over and over again, is what transfers are made of. Its length is a prime, so
/// that nothing that is lost, doubled or out of place goes unseen.
fn block() -> &'static [u8] {
    const LEN: usize = 65_521;
    static BLOCK: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..LEN).map(|at| (at ^ (at >> 8)) as u8).collect());
    &BLOCK
}

/// What of the pattern stands between two offsets, up to the end of its block.
fn pattern(from: usize, to: usize) -> &'static [u8] {
    let start = from % block().len();
    &block()[start..block().len().min(start + (to - from))]
}

/// Writes the bytes of the pattern from one offset to another.
pub(super) fn send_pattern(mut stream: &TcpStream, from: usize, to: usize) -> io::Result<()> {
    let mut sent = from;
    while sent < to {
        let chunk = pattern(sent, to);
        stream.write_all(chunk)?;
        sent += chunk.len();
    }
    Ok(())
}

/// Reads `count` bytes of the pattern and returns how many blocks were not what they should be.
pub(super) fn take_pattern(reader: &mut impl Read, count: usize) -> io::Result<usize> {
    let (mut taken, mut broken) = (0, 0);
    let mut buffer = vec![0; block().len()];
    while taken < count {
        let expected = pattern(taken, count);
        let got = &mut buffer[..expected.len()];
        reader.read_exact(got)?;
        broken += usize::from(got != expected);
        taken += expected.len();
    }
    Ok(broken)
}

/// A reader that calls back once, when so many bytes were read.
pub(super) struct Offset<'a, F: FnOnce()> {
    pub stream: &'a TcpStream,
    pub left: usize,
    pub at_half: Option<F>,
}

impl<F: FnOnce()> Read for Offset<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(buffer)?;
        self.left = self.left.saturating_sub(got);
        if self.left == 0
            && let Some(at_half) = self.at_half.take()
        {
            at_half();
        }
        Ok(got)
    }
}
