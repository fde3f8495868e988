//! `utilizer-exporter-postgres`: telemetry from the broker into PostgreSQL.

use std::process::ExitCode;

use exporter::cli;
use utilizer_exporter_postgres::Configuration;

fn main() -> ExitCode {
    cli::main::<Configuration>()
}
