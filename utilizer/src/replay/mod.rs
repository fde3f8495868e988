//! `utilizer check rules --replay`: what would have fired, from the history in a store.
//!
//! Each host by itself, as its agent would have: rows become the series that they came from, go into a window, and the
//! groups are evaluated at their own times. Rows are read in the order of time and never kept, so that a history may be of
//! any length.

mod history;
mod host;
mod report;
mod series;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args as ClapArgs;
use daemon::config::duration;
use rules::Rules;
use rules::ast::Millis;
use utilizer_agent::rules::RulesSection;
use wire::Timestamp;

use self::history::{History, Wanted};
use self::host::{Host, Plan};
use self::report::Report;
use crate::agent::moment;
use crate::command::CommandError;
use crate::glob;
use crate::up;

/// Episodes that are told one by one.
const MOST_EPISODES: usize = 10_000;

/// What a replay is asked for.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Replay")]
pub struct ReplayArgs {
    /// Tell what would have fired over this time, such as 7d, from the history of hosts in a store.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with_all = ["test", "metrics"])]
    replay: Option<Duration>,
    /// The history is in this SQLite file [default: that of `utilizer up`].
    #[arg(long, value_name = "FILE", requires = "replay")]
    sqlite: Option<PathBuf>,
    /// The history is in this PostgreSQL database: postgres://USER@HOST:PORT/DATABASE. The password may stand in the
    /// variable PGPASSWORD. TLS is not spoken.
    #[arg(long, value_name = "URL", requires = "replay", conflicts_with = "sqlite")]
    postgres: Option<String>,
    /// Hosts by name, or by patterns with * and ?; all hosts if none is given.
    #[arg(long, value_name = "HOST|PATTERN", requires = "replay", value_delimiter = ',')]
    host: Vec<String>,
    /// Until when: seconds since 1970, or a time like 2026-01-31T12:00:00Z [default: the newest reading].
    #[arg(long, value_name = "TIME", requires = "replay", value_parser = moment)]
    at: Option<Timestamp>,
    /// How often groups are evaluated that do not say so (`rules.interval` of the agents).
    #[arg(long, value_name = "DURATION", requires = "replay", default_value = "10s", value_parser = duration::parse)]
    interval: Duration,
    /// The label `job` of what hosts measure (`rules.job` of the agents) [default: node].
    #[arg(long, value_name = "NAME", requires = "replay")]
    job: Option<String>,
    /// One JSON object a line.
    #[arg(long, requires = "replay")]
    json: bool,
}

impl ReplayArgs {
    /// The time that is asked about, if any is.
    pub fn range(&self) -> Option<Duration> {
        self.replay
    }
}

/// What there is to tell, and whether all is well.
pub async fn run(rules: Rules, range: Duration, args: &ReplayArgs) -> Result<(String, bool), CommandError> {
    if range.is_zero() || args.interval.is_zero() {
        return Err(CommandError::Usage("--replay and --interval must be longer than 0s".to_owned()));
    }
    let variable = |name: &str| std::env::var(name).ok();
    let history = match &args.postgres {
        Some(url) => History::postgres(url, variable("PGPASSWORD")).await?,
        None => {
            let file = args.sqlite.clone();
            History::sqlite(file.unwrap_or_else(|| up::default_data_dir(variable).join(up::DATABASE)))?
        }
    };
    let told = tell(&history, rules, range, args).await;
    history.close().await;
    told
}

async fn tell(
    history: &History,
    rules: Rules,
    range: Duration,
    args: &ReplayArgs,
) -> Result<(String, bool), CommandError> {
    let nothing = |what: &str| CommandError::Failed(format!("{} has no history {what}", history.place));
    let until = match args.at {
        Some(at) => at.as_millis(),
        // A host whose clock is wrong must not turn everybody's history into the past.
        None => {
            let now = Timestamp::from(SystemTime::now()).as_millis();
            history.newest(now).await?.ok_or_else(|| nothing("of any host"))?
        }
    };
    let from = until.saturating_sub(millis(range));
    let mut hosts = history.hosts(from, until).await?;
    hosts.retain(|host| args.host.is_empty() || args.host.iter().any(|pattern| glob::fits(pattern, host)));
    if hosts.is_empty() {
        let (from, until) = (Timestamp::from_millis(from), Timestamp::from_millis(until));
        return Err(nothing(&format!("of such hosts from {from} to {until}; --at and --replay choose another time")));
    }
    let names = series::names(&rules);
    let plan = Plan {
        needs: rules.needs(),
        recorded: report::made(&rules),
        interval: millis(args.interval),
        job: args.job.clone().unwrap_or_else(|| RulesSection::default().job),
        from,
        until,
        rules,
    };
    let mut report = Report::new(&plan, &history.place, hosts.len());
    for name in &hosts {
        let room = MOST_EPISODES.saturating_sub(report.episodes());
        let mut host = Host::new(&plan, name, room).map_err(|error| CommandError::Failed(error.to_string()))?;
        let wanted = Wanted { host: name, after: plan.begin(), until, names: names.as_deref() };
        history.each(wanted, &mut |row| host.add(row)).await?;
        report.add(name, host.end());
    }
    let text = if args.json { report.as_json() } else { report.as_text() };
    Ok((text, report.is_good()))
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
