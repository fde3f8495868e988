//! `utilizer logs cleanup`: deletes old lines before their time.

use std::io::Write;
use std::time::{Duration, SystemTime};

use clap::Args;
use daemon::config::duration;
use serde::Deserialize;
use wire::Timestamp;
use wire::chain::CATEGORY;

use super::clickhouse::{ClickHouse, Conditions};
use super::filter::Filter;
use super::store::StoreArgs;
use crate::command::CommandError;
use crate::terminal::{Paint, cell, plain, table};

/// The server says how a deletion goes after this at the latest.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What `utilizer logs cleanup` is asked for.
#[derive(Debug, Args)]
pub struct CleanupArgs {
    /// Lines that arrived longer ago than this, such as 30d.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    older_than: Duration,
    /// Lines of these categories; "" for those of none [default: all].
    #[arg(long, value_name = "CATEGORY", value_delimiter = ',')]
    category: Vec<String>,
    /// Lines of these services, by names or patterns.
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    service: Vec<String>,
    /// Lines of these hosts, by names or patterns.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    host: Vec<String>,
    /// Delete them.
    #[arg(long)]
    yes: bool,
    /// Lines of the category `audit` stay for this long after their arrival.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration::parse)]
    audit_retention: Duration,
    /// Delete lines of the category `audit` also before that. `utilizer logs verify` will miss them.
    #[arg(long)]
    force_audit: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// What goes, of one category and day of arrival.
#[derive(Debug, Deserialize)]
struct Part(String, String, serde_json::Value);

/// Deletes, or says what would go.
pub(super) async fn run(args: CleanupArgs) -> Result<(), CommandError> {
    let store = args.store.open()?;
    let server = store.clickhouse("`utilizer logs cleanup`")?;
    let conditions = conditions(&args, Timestamp::from(SystemTime::now()));
    let query = format!(
        "SELECT category, toString(toDate(ingested_at)) AS day, count() FROM logs{} GROUP BY category, day \
         ORDER BY category, day",
        conditions.text()
    );
    let parts: Vec<Part> = server.all(&query, &conditions).await?;
    let lines = |part: &Part| match &part.2 {
        serde_json::Value::String(text) => text.parse::<u64>().unwrap_or_default(),
        number => number.as_u64().unwrap_or_default(),
    };
    let total: u64 = parts.iter().map(lines).sum();
    let rows = parts.iter().map(|part| {
        let category = if part.0.is_empty() { "(none)".into() } else { plain(&part.0) };
        vec![cell(category), cell(plain(&part.1)), cell(lines(part).to_string())]
    });
    let mut text = String::new();
    if total > 0 {
        text = table(&["CATEGORY", "ARRIVED ON", "LINES"], rows.collect(), Paint(false));
    }
    let kept = kept_audit(server, &args).await?;
    if kept > 0 {
        text += &format!(
            "{kept} lines of the category audit stay: they arrived less than {} ago (--audit-retention)\n",
            duration::format(args.audit_retention)
        );
    }
    if total == 0 {
        text += "nothing to delete\n";
    } else if !args.yes {
        text += &format!("{total} lines of {} would go; --yes deletes them\n", server.place());
    }
    let mut stdout = std::io::stdout();
    let mut say = |text: &str| {
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))
    };
    say(&text)?;
    if total > 0 && args.yes {
        let statement = format!("ALTER TABLE logs DELETE{}", conditions.text());
        server.run_long(&statement, &conditions, "&mutations_sync=1", PATIENCE).await?;
        say(&format!("{total} lines of {} are deleted\n", server.place()))?;
    }
    Ok(())
}

/// Which lines go.
fn conditions(args: &CleanupArgs, now: Timestamp) -> Conditions {
    let seconds = |ago: Duration| (now.minus(ago).as_millis().max(0) / 1000).to_string();
    let mut conditions = Conditions::of(&filter(args));
    conditions.add("ingested_at < toDateTime($)", [("UInt32", seconds(args.older_than))]);
    if !args.force_audit {
        conditions.add(
            "(category != $ OR ingested_at < toDateTime($))",
            [("String", CATEGORY.to_owned()), ("UInt32", seconds(args.audit_retention))],
        );
    }
    conditions
}

fn filter(args: &CleanupArgs) -> Filter {
    Filter {
        services: args.service.clone(),
        hosts: args.host.clone(),
        categories: args.category.clone(),
        ..Filter::default()
    }
}

/// Audit lines that would go if they were others.
async fn kept_audit(server: &ClickHouse, args: &CleanupArgs) -> Result<u64, CommandError> {
    if args.force_audit || args.older_than >= args.audit_retention {
        return Ok(0);
    }
    let now = Timestamp::from(SystemTime::now());
    let seconds = |ago: Duration| (now.minus(ago).as_millis().max(0) / 1000).to_string();
    let mut conditions = Conditions::of(&filter(args));
    conditions.add(
        "category = $ AND ingested_at >= toDateTime($) AND ingested_at < toDateTime($)",
        [
            ("String", CATEGORY.to_owned()),
            ("UInt32", seconds(args.audit_retention)),
            ("UInt32", seconds(args.older_than)),
        ],
    );
    let query = format!("SELECT toString(count()) FROM logs{}", conditions.text());
    let counted: Vec<(String,)> = server.all(&query, &conditions).await?;
    Ok(counted.first().and_then(|(count,)| count.parse().ok()).unwrap_or_default())
}
