//! Log lines: a readable message plus fields, to standard error. No secrets, no payloads.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// A pool complains of each try at a connection that is refused; the gateway says it once, where it knows more.
const POOLS: &str = "sqlx_core::pool::inner=off";

/// Starts logging; later calls change nothing.
///
/// # Errors
/// The filter is not of the form `level` or `module=level,…`.
pub fn start(
    filter: &str,
    format: LogFormat,
) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?.add_directive(POOLS.parse()?);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
    Ok(())
}
