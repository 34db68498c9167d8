//! The `ficus` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ficus::cli::main()
}
