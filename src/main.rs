//! The binary `tidegate`: reads `.env` and the command line, and does what they say.

use std::process::ExitCode;

use tidegate::cli::Cli;

/// Gives what was freed back to the system within seconds; the system's own keeps what a burst of requests took
/// (docs/decisions/061-allocator.md).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Without TLS's cryptography set once, the first TLS connection would panic.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("tidegate: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        eprintln!("tidegate: .env cannot be read: {error}");
        return ExitCode::FAILURE;
    }
    let cli = Cli::read();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tidegate: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
