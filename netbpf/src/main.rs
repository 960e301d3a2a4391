//! The `netbpf` command.

use std::process::ExitCode;

use clap::Parser as _;
use netbpf::{cli::Cli, commands, display, error};

fn main() -> ExitCode {
    let cli = Cli::parse();
    display::start_logging(&cli);
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", display::failure(&failure));
            ExitCode::from(error::exit_code(&failure))
        }
    }
}
