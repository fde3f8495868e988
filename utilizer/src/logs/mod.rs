//! `utilizer logs`: looks into the table `logs` of a store.

mod cleanup;
pub mod clickhouse;
mod filter;
mod row;
mod search;
mod sqlite;
mod stats;
mod store;
pub mod verify;

use std::process::ExitCode;

use clap::Subcommand;

pub use filter::{Filter, FilterArgs};
pub use row::Row;
pub use store::{Store, StoreArgs};

use crate::command::CommandError;

/// What `utilizer logs` is asked for.
#[derive(Debug, Subcommand)]
pub enum LogsCommand {
    /// Find log lines, the newest first.
    ///
    /// Words are found whole and in upper or lower case; a line must have them all. Without a time, lines of the last 24 hours
    /// are looked at; where a trace or request id is asked for, all. On a terminal a line is `time host LEVEL service
    /// message`, times in UTC; in a pipe it is a JSON object.
    #[command(after_long_help = "Examples:\n  \
        utilizer logs search refused --level warn --since 2h\n  \
        utilizer logs search --service 'check*' --grep 'user=7 ' --limit 20\n  \
        utilizer logs search --trace-id 4bf92f3577b34da6a3ce929d0e0e4736\n  \
        utilizer logs search payment --clickhouse https://ch.example:8443 --user reader --password-file /etc/ch.pw\n  \
        utilizer logs search --sqlite ~/.local/share/utilizer/utilizer.db   the store of `utilizer up`")]
    Search(search::SearchArgs),
    /// Count lines by level, by service with errors and latencies, and by hour.
    ///
    /// Whole hours are counted: the first one is that in which the time asked for begins. Errors are lines of ERROR and
    /// FATAL. In a pipe the answer is one JSON object.
    #[command(after_long_help = "Examples:\n  \
        utilizer logs stats --since 7d\n  \
        utilizer logs stats --service checkout --from 2026-11-21T00:00:00Z --to 2026-11-22T00:00:00Z\n  \
        utilizer logs stats --since 1d | jq '.services[] | select(.error_rate > 0.05)'")]
    Stats(stats::StatsArgs),
    /// Write log lines out, the oldest first, without holding them.
    #[command(after_long_help = "Examples:\n  \
        utilizer logs export --since 30d --category audit --format csv > audit.csv\n  \
        utilizer logs export --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z | zstd > november.ndjson.zst")]
    Export(search::ExportArgs),
    /// Delete old log lines before their time; says only what would go unless --yes is given.
    ///
    /// Age counts from arrival in the store. Lines of the category `audit` stay for --audit-retention, unless --force-audit
    /// is given.
    #[command(after_long_help = "Examples:\n  \
        utilizer logs cleanup --older-than 7d --category debug\n  \
        utilizer logs cleanup --older-than 14d --host 'test-*' --yes")]
    Cleanup(cleanup::CleanupArgs),
    /// Verify the hash chains of audit records: finds what was altered, taken out, put in or moved.
    ///
    /// Each run of an agent has a chain. How far it goes, agents keep retained on the broker, which those who can write into the
    /// store can't write: without --mqtt or --heads, a chain that was cut off at its end or made anew as a whole is not
    /// found out. Exit code 1: something is wrong. In a pipe a JSON object for each chain is written, which --heads reads.
    #[command(after_long_help = "Examples:\n  \
        utilizer logs verify --mqtt mqtt://broker.example\n  \
        utilizer logs verify 'web-*' --mqtt mqtts://broker.example --ca-file ca.pem --json > heads-november.ndjson\n  \
        utilizer logs verify --heads heads-october.ndjson")]
    Verify(Box<verify::VerifyArgs>),
}

/// Runs a subcommand of `utilizer logs`.
pub async fn run(command: LogsCommand) -> Result<ExitCode, CommandError> {
    match command {
        LogsCommand::Search(args) => search::search(args).await.map(|()| ExitCode::SUCCESS),
        LogsCommand::Export(args) => search::export(args).await.map(|()| ExitCode::SUCCESS),
        LogsCommand::Stats(args) => stats::run(args).await.map(|()| ExitCode::SUCCESS),
        LogsCommand::Cleanup(args) => cleanup::run(args).await.map(|()| ExitCode::SUCCESS),
        LogsCommand::Verify(args) => verify::run(*args).await,
    }
}
