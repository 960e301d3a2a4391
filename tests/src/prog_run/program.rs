//! One program, run by `BPF_PROG_TEST_RUN`.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    time::Duration,
};

use aya::programs::{ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions};

/// What a program returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// `TCX_NEXT`: to the next program, then the stack or the wire.
    Next,
    /// `TC_ACT_REDIRECT`: taken by a redirect helper.
    Redirect,
    /// `TC_ACT_SHOT`: dropped.
    Shot,
}

impl Action {
    /// Reads a return value.
    ///
    /// # Panics
    ///
    /// When it is none that our programs may return.
    pub(super) fn of(value: u32) -> Self {
        match value as i32 {
            -1 => Self::Next,
            7 => Self::Redirect,
            2 => Self::Shot,
            other => panic!("a program returned {other}"),
        }
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Program(SchedClassifier);

/// What a program is told beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The interface whose hook runs.
    pub ifindex: u32,
    /// The interface by which the packet came into the host; 0: the host made it.
    pub ingress: u32,
    /// The packet's mark.
    pub mark: u32,
}

/// The size of `struct __sk_buff`, and where in it the fields stand that a test run takes
/// (`linux/bpf.h`).
mod sk_buff {
    pub const SIZE: usize = 192;
    pub const MARK: usize = 8;
    pub const INGRESS_IFINDEX: usize = 36;
    pub const IFINDEX: usize = 40;
}

impl Context {
    /// As the kernel takes it.
    fn bytes(self) -> [u8; sk_buff::SIZE] {
        let mut bytes = [0; sk_buff::SIZE];
        let mut put = |at: usize, value: u32| {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(sk_buff::MARK, self.mark);
        put(sk_buff::INGRESS_IFINDEX, self.ingress);
        put(sk_buff::IFINDEX, self.ifindex);
        bytes
    }
}

impl Program {
    /// A program by its pin.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pinned(path: &Path) -> Self {
        Self(SchedClassifier::from_pin(path).expect("the program is pinned"))
    }

    /// What the kernel says about it.
    ///
    /// # Panics
    ///
    /// When it says nothing.
    pub fn info(&self) -> ProgramInfo {
        self.0.info().expect("a program that is loaded")
    }

    /// Runs it once: what it returned, the packet's bytes, the packet's mark.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn run(&self, context: Context, bytes: &[u8]) -> (Action, Vec<u8>, u32) {
        let ctx_in = context.bytes();
        let (mut ctx_out, mut data_out) = ([0; sk_buff::SIZE], vec![0; bytes.len() + 256]);
        let result = self.0.test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut data_out),
            ctx_in: Some(&ctx_in),
            ctx_out: Some(&mut ctx_out),
            ..TestRunOptions::new()
        });
        let result = match result {
            Ok(result) => result,
            Err(error) => panic!("the kernel refuses {} bytes: {error:?}", bytes.len()),
        };
        data_out.truncate(result.data_size_out as usize);
        let mark = &ctx_out[sk_buff::MARK..sk_buff::MARK + 4];
        let mark = u32::from_ne_bytes(mark.try_into().expect("four bytes"));
        (Action::of(result.return_value), data_out, mark)
    }

    /// It, for maps that hold programs.
    ///
    /// # Panics
    ///
    /// When it is not loaded.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd().expect("a program that is loaded").as_fd()
    }

    /// Runs it so many times in one call, each time on what the run before left; the mean time of
    /// a run, and what the last one returned.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn time(&self, context: Context, bytes: &[u8], times: u32) -> (Duration, Action) {
        let result = self.0.test_run(TestRunOptions {
            data_in: Some(bytes),
            ctx_in: Some(&context.bytes()),
            repeat: times,
            ..TestRunOptions::new()
        });
        let result = result.expect("the kernel runs a program repeatedly");
        (result.duration, Action::of(result.return_value))
    }
}
