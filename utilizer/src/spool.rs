//! `utilizer spool inspect`: what an agent or exporter has on its disk.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};
use spool::LogReport;

use crate::command::CommandError;
use crate::terminal::{plain, plain_json};

/// What `utilizer spool` is asked for.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// Tell what is in a spool: records, segments, ages, gaps, what was set aside.
    ///
    /// Reads and checks every record and changes nothing, also while the spool is in use or when it is damaged. Exit code 1:
    /// records are damaged or missing, or files were set aside.
    #[command(after_long_help = "Examples:\n  \
        utilizer spool inspect /var/lib/utilizer/spool\n  \
        utilizer spool inspect --json /var/lib/utilizer/spool | jq '.logs[] | {dir, records}'")]
    Inspect(InspectArgs),
}

/// What `utilizer spool inspect` is asked for.
#[derive(Debug, ClapArgs)]
pub struct InspectArgs {
    /// The spool: a folder with segments, or with such folders in it.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs a subcommand of `utilizer spool`.
pub fn run(command: &SpoolCommand) -> Result<ExitCode, CommandError> {
    let SpoolCommand::Inspect(InspectArgs { dir, json }) = command;
    let report = spool::inspect(dir)
        .map_err(|error| CommandError::Failed(format!("can't read the spool in {}: {error}", dir.display())))?;
    let damaged = report.logs.iter().any(|log| !log.gaps.is_empty() || !log.bad_files.is_empty());
    let text = if *json {
        let logs: Vec<Value> = report.logs.iter().map(as_json).collect();
        plain_json(json!({"logs": logs}).to_string()) + "\n"
    } else {
        report.to_string().lines().map(|line| plain(line).into_owned() + "\n").collect()
    };
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))?;
    Ok(if damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn as_json(log: &LogReport) -> Value {
    let bad: Vec<String> = log.bad_files.iter().map(|path| path.display().to_string()).collect();
    json!({
        "dir": log.dir.display().to_string(),
        "first": log.first,
        "next": log.next,
        "segments": log.segments,
        "bytes": log.bytes,
        "records": log.records,
        "body_bytes": log.body_bytes,
        "oldest_appended_ms": log.appended_ms.map(|(oldest, _)| oldest),
        "newest_appended_ms": log.appended_ms.map(|(_, newest)| newest),
        "gaps": log.gaps,
        "torn_bytes": log.torn_bytes,
        "bad_files": bad,
    })
}
