//! A section of ours in a text file that others write too: everything between two marker lines.
//!
//! The file is written in place, for whoever has it mounted elsewhere, as `ip netns exec` has, must
//! see the change.

use std::{fs, io, path::Path};

use super::error::{Doing, Result};

const BEGIN: &str = "# BEGIN netbpf: this section is rewritten";
const END: &str = "# END netbpf";

/// The section in the file at `path`; `None` where there is none.
pub fn read(path: &Path) -> Result<Option<String>> {
    let text = text_of(path)?.unwrap_or_default();
    Ok(split(&text).map(|(_, section, _)| section.to_owned()))
}

/// Makes `section`, whole lines, the section of the file at `path`, which is made if it is missing.
/// Its directory has to be there.
pub fn write(path: &Path, section: &str) -> Result<()> {
    let text = text_of(path)?.unwrap_or_default();
    let (before, after) = match split(&text) {
        Some((before, _, after)) => (before, after),
        None => (text.as_str(), ""),
    };
    // A last line without its end would swallow the marker.
    let end = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let text = format!("{before}{end}{BEGIN}\n{section}{END}\n{after}");
    fs::write(path, text).doing(|| format!("write {}", path.display()))
}

/// Takes the section away, and the file with it when nothing else is in it.
pub fn remove(path: &Path) -> Result<()> {
    let Some(text) = text_of(path)? else {
        return Ok(());
    };
    let Some((before, _, after)) = split(&text) else {
        return Ok(());
    };
    let rest = format!("{before}{after}");
    if rest.is_empty() {
        return fs::remove_file(path).doing(|| format!("remove {}", path.display()));
    }
    fs::write(path, rest).doing(|| format!("write {}", path.display()))
}

fn text_of(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read {}", path.display())),
    }
}

/// What stands before the section, in it, and after it. One that somebody cut the end from goes to
/// the end of the file.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let begin = line_at(text, BEGIN)?;
    let (before, from) = text.split_at(begin);
    let inside = from.split_once('\n').map_or("", |(_, inside)| inside);
    let Some(end) = line_at(inside, END) else {
        return Some((before, inside, ""));
    };
    let (section, from) = inside.split_at(end);
    let after = from.split_once('\n').map_or("", |(_, after)| after);
    Some((before, section, after))
}

/// Where the line begins that is `wanted`.
fn line_at(text: &str, wanted: &str) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == wanted {
            return Some(start);
        }
        start += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_stay_and_the_file_goes_when_it_was_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "10.0.0.1 a\n").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("10.0.0.1 a\n"));
        remove(&path).unwrap();
        assert!(!path.exists());

        fs::write(&path, "127.0.0.1 localhost").unwrap();
        write(&path, "10.0.0.1 a\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}10.9.9.9 theirs\n")).unwrap();
        write(&path, "10.0.0.2 b\n10.0.0.3 c\n").unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!(
                "127.0.0.1 localhost\n{BEGIN}\n10.0.0.2 b\n10.0.0.3 c\n{END}\n10.9.9.9 theirs\n"
            )
        );
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "127.0.0.1 localhost\n10.9.9.9 theirs\n"
        );
    }
}
