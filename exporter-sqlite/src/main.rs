//! `utilizer-exporter-sqlite`: telemetry from the broker into SQLite.

use std::process::ExitCode;

use exporter::cli;
use utilizer_exporter_sqlite::Configuration;

fn main() -> ExitCode {
    cli::main::<Configuration>()
}
