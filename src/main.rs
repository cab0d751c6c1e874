//! The `genkan` program: the library's command line, and nothing else.

use std::process::ExitCode;

/// A call makes a few dozen small allocations, often freed by another thread than made them:
/// this costs a tenth less of the whole than the C library's allocator (`make bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    genkan::cli::main(std::env::args_os())
}
