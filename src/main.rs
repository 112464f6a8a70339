//! The `tenure` binary; everything is in the library.

use std::process::ExitCode;

use tenure::cli::WipingAllocator;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    tenure::cli::main()
}
