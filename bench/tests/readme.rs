//! The README's figures are those of the report that is kept.

use std::{fs, path::Path};

use netbpf_bench::report::kept;

#[test]
fn the_readme_says_what_the_kept_report_says() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(here.join("../README.md")).expect("the README");
    let report = here.join("kept/report.json");
    let section = if report.exists() {
        kept::section(&kept::read(&report).expect("the report that is kept"))
    } else {
        kept::NOTHING.to_owned()
    };
    let follows = kept::with_section(&readme, &section).expect("a place in the README");
    assert!(
        readme == follows,
        "`cargo xtask bench readme` writes what follows from bench/kept/report.json; here it is\n\
         {section}"
    );
}
