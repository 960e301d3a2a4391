//! A process that is one end of a load: started from this same program, heard line by line, ended
//! when its guard is dropped.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::{Serialize, de::DeserializeOwned};

use super::{Part, Task};

/// A running end of a load.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    words: BufReader<ChildStdout>,
    /// Where it hears what it is to do; `None` once it is to end.
    ear: Option<ChildStdin>,
}

impl Worker {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When there can be no such process.
    pub fn start(netns: &Path, cpu: usize, part: Part) -> Result<Self> {
        let task = Task {
            netns: netns.to_owned(),
            cpu,
            part,
        };
        // Before whatever else this machine does; it is measured with, not against.
        let mut child = Command::new("nice")
            .args(["-n", "-20"])
            .arg(env::current_exe().context("the bench has no path")?)
            .arg("work")
            .arg(serde_json::to_string(&task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start an end of a load")?;
        let words = child.stdout.take().context("a load has no output")?;
        Ok(Self {
            words: BufReader::new(words),
            ear: child.stdin.take(),
            child,
        })
    }

    /// Tells it what to do.
    ///
    /// # Errors
    ///
    /// It does not listen; then what it says is why.
    pub fn tell(&mut self, word: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(word)? + "\n";
        let told = self.ear.as_mut().map(|ear| ear.write_all(line.as_bytes()));
        match told {
            Some(Ok(())) => Ok(()),
            _ => bail!("{}", self.last_words()),
        }
    }

    /// Lets it end.
    pub fn tell_no_more(&mut self) {
        self.ear = None;
    }

    /// Waits for its next word.
    ///
    /// # Errors
    ///
    /// What it says went wrong.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.words.read_line(&mut line)?;
        if line.is_empty() {
            bail!("{}", self.last_words());
        }
        serde_json::from_str(&line).context("a load says something else than expected")
    }

    fn last_words(&mut self) -> String {
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // Without its reason there still is the way it ended.
            let _ = stderr.read_to_string(&mut said);
        }
        let ended = self.child.wait();
        match ended {
            Ok(status) => format!("a load ended with {status}: {}", said.trim()),
            Err(error) => format!("a load is lost: {error}"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a word to whoever started this process.
///
/// # Errors
///
/// When nobody hears it.
pub fn say(word: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(word)?);
    Ok(())
}
