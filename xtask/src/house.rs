//! The house rules that neither rustfmt nor clippy knows, checked on every file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A pattern that has no place in a source file, and what to do instead. The patterns are put
/// together here, so that this file keeps the rules itself.
const FORBIDDEN: [(&str, &str); 8] = [
    (concat!("#[", "allow("), "use `expect` with a reason"),
    (concat!("#![", "allow("), "use `expect` with a reason"),
    (
        concat!("#[", "ignore"),
        "decide at run time and say why the test can't run",
    ),
    (concat!("todo", "!("), "finish it or leave it out"),
    (concat!("unimplemented", "!("), "finish it or leave it out"),
    (concat!("FIX", "ME"), "open an issue"),
    (concat!("TO", "DO"), "open an issue"),
    (concat!("XX", "X:"), "open an issue"),
];

/// Ways of waiting for time to pass, where a test must wait for a condition.
const SLEEPS: [&str; 3] = [
    concat!("thread::", "sleep"),
    concat!("time::", "sleep"),
    concat!("sleep(", "Duration"),
];

/// Where people's home directories are: a path below one leads nowhere on other machines.
const HOMES: [&str; 3] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];

/// Directories that hold no file of ours.
const LEFT_OUT: [&str; 2] = [".git", "target"];

/// Names every breach of a rule by file and line.
pub fn check(workspace: &Path) -> Result<()> {
    eprintln!("xtask: house rules");
    let mut breaches = Vec::new();
    for file in files(workspace, Path::new(""))? {
        // A file that is not text has no lines to check.
        let Ok(text) = fs::read_to_string(workspace.join(&file)) else {
            continue;
        };
        breaches.extend(breaches_in(&file, &text, workspace));
    }
    for breach in &breaches {
        eprintln!("  {breach}");
    }
    if !breaches.is_empty() {
        bail!("{} breaches of the house rules", breaches.len());
    }
    Ok(())
}

/// Every file below the directory, as a path relative to the workspace; what git or cargo keeps
/// for itself is left out.
fn files(workspace: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let place = workspace.join(directory);
    let entries =
        fs::read_dir(&place).with_context(|| format!("failed to list {}", place.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("failed to list {}", place.display()))?;
        let path = directory.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_file() => found.push(path),
            Ok(kind)
                if kind.is_dir() && !LEFT_OUT.iter().any(|name| entry.file_name() == *name) =>
            {
                found.extend(files(workspace, &path)?);
            }
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

fn breaches_in(file: &Path, text: &str, workspace: &Path) -> Vec<String> {
    let mut breaches = Vec::new();
    let is_source = file.extension().is_some_and(|extension| extension == "rs");
    if is_source && !text.starts_with("//!") {
        breaches.push(format!(
            "{}:1: start with `//!`: what it holds, what it never does",
            file.display()
        ));
    }
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}", file.display(), number + 1);
        breaches
            .extend(source_breaches(file, line, is_source).map(|rule| format!("{place}: {rule}")));
        breaches.extend(path_breach(line, workspace).map(|rule| format!("{place}: {rule}")));
    }
    breaches
}

fn source_breaches(file: &Path, line: &str, is_source: bool) -> impl Iterator<Item = String> {
    let forbidden = FORBIDDEN
        .iter()
        .filter(move |(pattern, _)| is_source && line.contains(pattern))
        .map(|(pattern, remedy)| format!("`{pattern}`: {remedy}"));
    let is_test = is_source && file.iter().any(|part| part == "tests");
    let sleeps = SLEEPS
        .iter()
        .filter(move |pattern| is_test && line.contains(**pattern))
        .map(|pattern| format!("`{pattern}`: wait for a condition"));
    forbidden.chain(sleeps)
}

fn path_breach(line: &str, workspace: &Path) -> Option<String> {
    let names_checkout = workspace
        .to_str()
        .is_some_and(|path| path.len() > 1 && line.contains(path));
    let names_home = HOMES.iter().any(|home| line.contains(home));
    (names_checkout || names_home).then(|| "a path of one machine".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(file: &str, text: &str) -> usize {
        breaches_in(Path::new(file), text, Path::new("/checkout/netbpf")).len()
    }

    #[test]
    fn a_source_without_its_opening_comment_is_named() {
        assert_eq!(breaches("a.rs", "use std::fs;\n"), 1);
        assert_eq!(breaches("a.rs", "//! Holds a.\n"), 0);
        assert_eq!(breaches("a.toml", "a = 1\n"), 0);
    }

    #[test]
    fn a_sleep_is_named_in_tests_only() {
        let text = concat!("//! Waits.\nthread::", "sleep(a_while);\n");
        assert_eq!(breaches("tests/src/wait.rs", text), 1);
        assert_eq!(breaches("netbpf/src/wait.rs", text), 0);
    }

    #[test]
    fn a_path_of_one_machine_is_named_in_every_file() {
        assert_eq!(breaches("README.md", "see /checkout/netbpf/README.md\n"), 1);
        assert_eq!(
            breaches("README.md", concat!("see /ho", "me/someone/x\n")),
            1
        );
        assert_eq!(breaches("README.md", "see /run/netns/web\n"), 0);
    }
}
