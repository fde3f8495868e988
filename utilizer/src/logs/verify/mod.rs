//! `utilizer logs verify`: walks along the hash chains of audit records.

mod heads;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use daemon::config::duration;
use serde_json::json;
use wire::chain::{BEFORE, BOOT, CATEGORY};
use wire::{Timestamp, Topic};

pub use walk::{Found, Known, Link, Walk};

use super::clickhouse::{ClickHouse, Conditions};
use super::filter::{Filter, Order};
use super::row::{COLUMNS, Row};
use super::store::{Store, StoreArgs};
use crate::command::{BrokerArgs, CommandError, Identity, leave};
use crate::fleet::Watch;
use crate::glob;
use crate::terminal::{Colour, Paint, plain, plain_json};
use heads::{Heads, began};

/// Ranges of numbers that are told one by one.
const MOST_TOLD: usize = 20;

/// What `utilizer logs verify` is asked for.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Hosts by name, or by patterns with * and ?; all hosts if none is given.
    #[arg(value_name = "HOST|PATTERN")]
    hosts: Vec<String>,
    /// Files with messages of telemetry/HOST/audit, or with what this command wrote earlier, an object a line.
    #[arg(long, value_name = "FILE")]
    heads: Vec<PathBuf>,
    /// The store keeps audit records this long. What is missing at the beginning of chains that are older is taken as expired.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration::parse)]
    retention: Duration,
    /// Records this young may still be on their way into the store.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    grace: Duration,
    /// Audit records that are in no chain are right: from programs that publish without an agent, or from before agents chained.
    #[arg(long)]
    allow_unchained: bool,
    /// One JSON object a chain, also on a terminal.
    #[arg(long)]
    json: bool,
    /// The longest time to wait for the broker's answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    store: StoreArgs,
}

/// The broker, where agents say how far their chains go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Broker")]
struct Broker {
    /// The broker that keeps how far chains go: mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS.
    #[arg(long = "mqtt", value_name = "URL")]
    mqtt: Option<String>,
    #[command(flatten)]
    identity: Identity,
}

impl Broker {
    fn broker(&self) -> Option<BrokerArgs> {
        self.mqtt.clone().map(|url| BrokerArgs { url, identity: self.identity.clone() })
    }
}

/// A chain and what was found of it.
#[derive(Debug)]
struct Verdict {
    host: String,
    boot: String,
    found: Found,
    /// What is missing at the beginning and at the end, and whether that is right.
    expired: Option<(u64, u64)>,
    on_the_way: Option<(u64, u64)>,
    gone: Vec<(u64, u64)>,
    anchored: bool,
}

impl Verdict {
    fn is_intact(&self) -> bool {
        !self.found.has_faults() && self.gone.is_empty()
    }
}

/// Verifies.
pub(super) async fn run(args: VerifyArgs) -> Result<ExitCode, CommandError> {
    let store = args.store.open()?;
    let now = Timestamp::from(SystemTime::now());
    let mut heads = Heads::default();
    for file in &args.heads {
        heads.file(file)?;
    }
    if let Some(broker) = args.broker.broker() {
        let mut watch = Watch::of(&broker, "logs-verify", vec![Topic::all_audit_heads()], args.timeout).await?;
        leave(&watch.client, &mut watch.events).await;
        watch.fleet.tell_unreadable();
        std::mem::take(&mut watch.fleet.audit).into_values().for_each(|said| heads.message(said));
    }
    let wanted = |host: &str| args.hosts.is_empty() || args.hosts.iter().any(|pattern| glob::fits(pattern, host));
    heads.0.retain(|(host, _), _| wanted(host));
    let anchored = !heads.0.is_empty();

    let Chains { mut names, unchained } = chains(&store, &args.hosts, &mut heads).await?;
    names.extend(heads.0.keys().cloned());
    let mut verdicts = Vec::new();
    for (host, boot) in names {
        let known = heads.0.get(&(host.clone(), boot.clone())).cloned().unwrap_or_default();
        let mut walk = Walk::new(known.clone());
        rows(&store, &host, &boot, &mut |row| walk.row(Link::new(row))).await?;
        verdicts.push(judge(host, boot, walk.end(), &known, now, &args));
    }
    tell(&verdicts, unchained, anchored, &args)?;
    let fine = verdicts.iter().all(Verdict::is_intact) && (unchained == 0 || args.allow_unchained);
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is missing at a chain's ends is right under circumstances.
fn judge(host: String, boot: String, mut found: Found, known: &Known, now: Timestamp, args: &VerifyArgs) -> Verdict {
    let (mut expired, mut on_the_way, mut gone) = (None, None, Vec::new());
    if let Some(first) = found.missing_first.take() {
        let old = began(&boot).or(known.latest).is_some_and(|began| began < now.minus(args.retention));
        let young = found.rows == 0 && known.latest.is_some_and(|latest| latest > now.minus(args.grace));
        match (old, young) {
            (true, _) => expired = Some(first),
            (false, true) => on_the_way = Some(first),
            (false, false) => gone.push(first),
        }
    }
    if let Some(last) = found.missing_last.take() {
        // Of a head in a file nobody knows when it was.
        let young = known.latest.is_some_and(|latest| latest > now.minus(args.grace));
        if young { on_the_way = Some(last) } else { gone.push(last) }
    }
    let anchored = !known.anchors.is_empty();
    Verdict { host, boot, found, expired, on_the_way, gone, anchored }
}

/// The chains in a store, by host and run, and the audit records in none.
struct Chains {
    names: BTreeSet<(String, String)>,
    unchained: u64,
}

async fn chains(store: &Store, hosts: &[String], heads: &mut Heads) -> Result<Chains, CommandError> {
    let mut chains = Chains { names: BTreeSet::new(), unchained: 0 };
    match store {
        Store::ClickHouse(server) => {
            let conditions = Conditions::of(&Filter::audit(hosts.to_vec()));
            let query = format!(
                "SELECT host, fields['{BOOT}'] AS boot, toString(count()), groupUniqArray(10)(fields['{BEFORE}']) \
                 FROM logs{} GROUP BY host, boot",
                conditions.text()
            );
            let found: Vec<(String, String, String, Vec<String>)> = server.all(&query, &conditions).await?;
            for (host, boot, count, before) in found {
                before.iter().filter(|text| !text.is_empty()).for_each(|text| heads.before(&host, text));
                if boot.is_empty() {
                    chains.unchained += count.parse::<u64>().unwrap_or_default();
                } else {
                    chains.names.insert((host, boot));
                }
            }
        }
        Store::Sqlite(_) => {
            let filter = Filter::audit(hosts.to_vec());
            let each = &mut |row: Row| {
                if let Some(before) = row.field(BEFORE) {
                    heads.before(&row.host, before);
                }
                match row.field(BOOT).filter(|boot| !boot.is_empty()) {
                    Some(boot) => drop(chains.names.insert((row.host.clone(), boot.to_owned()))),
                    None => chains.unchained += 1,
                }
                Ok(())
            };
            store.rows(&filter, Order::Oldest, None, each).await?;
        }
    }
    Ok(chains)
}

/// The rows of a chain, by their number.
async fn rows(store: &Store, host: &str, boot: &str, each: &mut (dyn FnMut(Row) + Send)) -> Result<(), CommandError> {
    match store {
        Store::ClickHouse(server) => of_clickhouse(server, host, boot, each).await,
        Store::Sqlite(_) => {
            let mut rows = Vec::new();
            let filter = Filter::audit(vec![host.to_owned()]);
            let keep = &mut |row: Row| {
                if row.field(BOOT) == Some(boot) {
                    rows.push(row);
                }
                Ok(())
            };
            store.rows(&filter, Order::Oldest, None, keep).await?;
            rows.sort_by_cached_key(|row| Link::new(row.clone()).seq);
            rows.into_iter().for_each(each);
            Ok(())
        }
    }
}

async fn of_clickhouse(
    server: &ClickHouse,
    host: &str,
    boot: &str,
    each: &mut (dyn FnMut(Row) + Send),
) -> Result<(), CommandError> {
    let mut conditions = Conditions::default();
    let values = [CATEGORY, host, boot].map(|value| ("String", value.to_owned()));
    conditions.add(&format!("category = $ AND host = $ AND fields['{BOOT}'] = $"), values);
    let query = format!(
        "SELECT {COLUMNS} FROM logs{} ORDER BY toUInt64OrZero(fields['chain.seq']), ingested_at, event_id",
        conditions.text()
    );
    server
        .ask(&query, &conditions, &mut |row| {
            each(row);
            Ok(())
        })
        .await
}

fn tell(verdicts: &[Verdict], unchained: u64, anchored: bool, args: &VerifyArgs) -> Result<(), CommandError> {
    let mut stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let text = if args.json || !terminal {
        verdicts.iter().map(|verdict| plain_json(as_json(verdict)) + "\n").collect()
    } else {
        let paint = Paint::new(terminal, |name| std::env::var(name).ok());
        as_text(verdicts, paint)
    };
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))?;
    let mut stderr = std::io::stderr();
    if unchained > 0 {
        let fault = if args.allow_unchained { "" } else { "; --allow-unchained takes that as right" };
        let _ = writeln!(stderr, "{unchained} audit records are in no chain{fault}");
    }
    if !anchored {
        let _ = writeln!(
            stderr,
            "without --mqtt or --heads it is not known how far chains go: what was cut off at an end, or made anew as a \
             whole, is not found"
        );
    }
    if verdicts.is_empty() && unchained == 0 {
        let _ = writeln!(stderr, "there are no audit records");
    }
    Ok(())
}

fn as_json(verdict: &Verdict) -> String {
    let Verdict { host, boot, found, expired, on_the_way, gone, anchored } = verdict;
    let missing: Vec<&(u64, u64)> = found.missing.iter().chain(gone).collect();
    json!({
        "host": host, "boot": boot, "intact": verdict.is_intact(), "rows": found.rows, "first": found.first,
        "last": found.last, "hash": found.hash, "altered": found.altered, "missing": missing, "lost": found.lost,
        "inserted": found.inserted, "moved": found.moved, "forged": found.forged, "doubles": found.doubles,
        "unchecked": found.unchecked, "beyond_head": found.beyond, "expired": expired, "on_the_way": on_the_way,
        "has_head": anchored,
    })
    .to_string()
}

/// For people.
fn as_text(verdicts: &[Verdict], paint: Paint) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let Verdict { host, boot, found, expired, on_the_way, gone, anchored } = verdict;
        let state =
            if verdict.is_intact() { paint.on(Colour::Green, "intact") } else { paint.on(Colour::Alarm, "NOT INTACT") };
        let host = paint.on(Colour::Blue, plain(host));
        text += &format!(
            "{host} run {}: {} records, {} to {}: {state}\n",
            plain(boot),
            found.rows,
            found.first,
            found.last
        );
        let missing: Vec<(u64, u64)> = found.missing.iter().chain(gone).copied().collect();
        let mut line = |what: &str, numbers: String| {
            if !numbers.is_empty() {
                text += &format!("  {what}: {numbers}\n");
            }
        };
        let single = |numbers: &mut dyn Iterator<Item = u64>| ranges(&numbers.map(|n| (n, n)).collect::<Vec<_>>());
        line("altered", single(&mut found.altered.iter().copied()));
        line("missing", ranges(&missing));
        line("inserted beside the right one (0: without a number)", single(&mut found.inserted.iter().copied()));
        let moved: Vec<String> =
            found.moved.iter().take(MOST_TOLD).map(|(at, from)| format!("{at} holds what was {from}")).collect();
        line("moved", moved.join(", "));
        line("made anew, the hash is not the one that the agent told", single(&mut found.forged.iter().copied()));
        line("given up by the agent, which told so", ranges(&found.lost));
        line("expired", ranges(expired.as_slice()));
        line("still on the way, or missing", ranges(on_the_way.as_slice()));
        line("behind a gap, so that their content can't be checked", single(&mut found.unchecked.iter().copied()));
        if found.doubles > 0 {
            line("there more than once, as after the loss of an exporter's disk", found.doubles.to_string());
        }
        if found.beyond > 0 {
            line("beyond what the agent has told", found.beyond.to_string());
        }
        if !anchored {
            line("its end is not known from elsewhere", found.last.to_string());
        }
    }
    text
}

/// `1 to 3, 7`
fn ranges(ranges: &[(u64, u64)]) -> String {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for &(from, to) in ranges {
        match joined.last_mut().filter(|last| last.1 + 1 == from) {
            Some(last) => last.1 = to,
            None => joined.push((from, to)),
        }
    }
    let text = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from} to {to}") };
    let mut told: Vec<String> = joined.iter().take(MOST_TOLD).map(text).collect();
    if joined.len() > MOST_TOLD {
        told.push(format!("and {} more", joined.len() - MOST_TOLD));
    }
    told.join(", ")
}
