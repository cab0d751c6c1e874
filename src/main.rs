//! The `genkan` program: the library's command line, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    genkan::cli::main(std::env::args_os())
}
