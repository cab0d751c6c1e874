//! The `genkan` program: the library's command line, and nothing else.

use std::process::ExitCode;

/// It gives memory back to the system when it is quiet, by a thread of its own.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    genkan::cli::main(std::env::args_os())
}
