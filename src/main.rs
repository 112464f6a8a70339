//! The `tenure` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tenure::cli::main()
}
