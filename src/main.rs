//! The `ficus` binary.

use std::process::ExitCode;

/// Reading a large directory is mostly making small texts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ficus::cli::main()
}
