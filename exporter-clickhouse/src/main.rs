//! `utilizer-exporter-clickhouse`: logs and alerts from the broker into ClickHouse.

mod file;

use std::process::ExitCode;

use exporter::cli;

fn main() -> ExitCode {
    cli::main::<file::Configuration>()
}
