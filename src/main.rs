//! The `genkan` program: the library's command line, and nothing else.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// It gives memory back to the system when it is quiet, by a thread of its own.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    genkan::cli::main(std::env::args_os())
}
