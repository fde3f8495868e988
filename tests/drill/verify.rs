//! What the stores hold, beside what was pushed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::Outcome;
use crate::load::{Answer, Load, Push, Pushed, mark};
use crate::world::World;

/// How often each number of a host is in the store.
type Counts = BTreeMap<u64, u64>;

/// The finding about one host and kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) accepted: u64,
    pub(crate) stored: u64,
    /// Accepted and not there, in pushes of which there are no more than the host declared lost.
    pub(crate) declared: u64,
    /// Accepted, and neither there nor declared.
    pub(crate) lost: Vec<u64>,
    /// Stored more than once.
    pub(crate) double: Vec<u64>,
    /// Refused, and there all the same.
    pub(crate) refused_but_stored: Vec<u64>,
    /// Stored, though nobody pushed it.
    pub(crate) unknown: Vec<u64>,
}

impl Finding {
    /// Whether all is as promised.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.double.is_empty() && self.refused_but_stored.is_empty() && self.unknown.is_empty()
    }
}

/// Accepted records that are neither in the store yet nor declared lost, over all hosts.
pub(crate) fn missing(world: &World, loads: &[Load]) -> Outcome<usize> {
    Ok(findings(world, loads)?.values().map(|finding| finding.lost.len()).sum())
}

/// The finding of each host and kind.
pub(crate) fn findings(world: &World, loads: &[Load]) -> Outcome<BTreeMap<(String, Push), Finding>> {
    let stored = stored(world)?;
    let declared = declared_pushes(world)?;
    let empty = Counts::new();
    let mut findings = BTreeMap::new();
    for load in loads {
        let account = load.account();
        for kind in [Push::Logs, Push::Pipeline] {
            let of_kind: Vec<Pushed> = account.iter().copied().filter(|pushed| pushed.kind == kind).collect();
            let counts = stored.get(&(load.host.clone(), kind)).unwrap_or(&empty);
            let declared = declared.get(&(load.host.clone(), kind)).copied().unwrap_or_default();
            findings.insert((load.host.clone(), kind), judge(&of_kind, counts, declared));
        }
    }
    Ok(findings)
}

/// `declared` is how many pushes of the host were declared lost and are not there.
fn judge(account: &[Pushed], counts: &Counts, declared: u64) -> Finding {
    let mut finding = Finding { stored: counts.values().sum(), ..Finding::default() };
    let mut pushed_numbers = BTreeSet::new();
    // Accepted pushes of which nothing is there. What is there in part was never one record, or torn.
    let mut gone: Vec<Pushed> = Vec::new();
    for pushed in account {
        let numbers = pushed.first..=pushed.last;
        pushed_numbers.extend(numbers.clone());
        let (there, missing): (Vec<u64>, Vec<u64>) = numbers.clone().partition(|number| counts.contains_key(number));
        match pushed.answer {
            Answer::Accepted => {
                finding.accepted += numbers.count() as u64;
                if there.is_empty() {
                    gone.push(*pushed);
                } else {
                    finding.lost.extend(missing);
                }
            }
            Answer::Refused(_) => finding.refused_but_stored.extend(there),
            Answer::Unknown => {}
        }
    }
    let numbers = gone.iter().flat_map(|pushed| pushed.first..=pushed.last);
    if gone.len() as u64 <= declared {
        finding.declared = numbers.count() as u64;
    } else {
        // Which of them were declared is not known: all are shown.
        finding.lost.extend(numbers);
    }
    finding.double = counts.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number).collect();
    finding.unknown = counts.keys().filter(|number| !pushed_numbers.contains(number)).copied().collect();
    finding
}

/// Numbers by host and run.
type Numbers = BTreeMap<(String, String), BTreeSet<u64>>;

/// What hosts declared of their logs in their statuses, as a client that knows nothing of us heard them.
fn declared_logs(world: &World) -> Numbers {
    let mut declared = Numbers::new();
    for status in world.statuses() {
        let Some(host) = status["host"].as_str() else { continue };
        for loss in status["dropped"].as_array().into_iter().flatten() {
            if let (Some(boot), Some("logs"), Some(from), Some(to)) =
                (loss[0].as_str(), loss[1].as_str(), loss[2].as_u64(), loss[3].as_u64())
            {
                declared.entry((host.to_owned(), boot.to_owned())).or_default().extend(from..=to);
            }
        }
    }
    declared
}

/// The log messages of the agents that are in ClickHouse, by the ids of their lines: RUN-NUMBER-LINE.
fn stored_logs(world: &World) -> Outcome<Numbers> {
    let text = world.clickhouse(
        "SELECT DISTINCT host, extract(event_id, '^(.*-[0-9]+)-[0-9]+$') FROM logs WHERE service_name = 'drill' \
         FORMAT TabSeparated",
    )?;
    let mut stored = Numbers::new();
    for line in text.lines() {
        let row = (|| {
            let (host, event) = line.split_once('\t')?;
            let (boot, number) = event.rsplit_once('-')?;
            Some(((host.to_owned(), boot.to_owned()), number.parse().ok()?))
        })();
        let (run, number) = row.ok_or_else(|| format!("ClickHouse said {line:?}"))?;
        stored.entry(run).or_default().insert(number);
    }
    Ok(stored)
}

/// How many messages of logs are neither there nor declared lost, below the last one of their run that is either.
pub(crate) fn holes_in_logs(world: &World) -> Outcome<u64> {
    let mut known = stored_logs(world)?;
    for (run, numbers) in declared_logs(world) {
        if world.hosts.contains(&run.0) {
            known.entry(run).or_default().extend(numbers);
        }
    }
    Ok(known.values().map(|numbers| numbers.last().copied().unwrap_or_default() - numbers.len() as u64).sum())
}

/// How many pushes of each host were declared lost and are not there.
fn declared_pushes(world: &World) -> Outcome<BTreeMap<(String, Push), u64>> {
    let mut pushes: BTreeMap<(String, Push), u64> = BTreeMap::new();
    let stored = stored_logs(world)?;
    for (run, numbers) in declared_logs(world) {
        let there = stored.get(&run);
        let gone = numbers.iter().filter(|number| !there.is_some_and(|there| there.contains(number))).count();
        *pushes.entry((run.0, Push::Logs)).or_default() += gone as u64;
    }
    let ledger = world.postgres(
        "SELECT host, sum((SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(lost) r)) FROM delivery_ledger \
         WHERE kind = 'pipeline' GROUP BY host",
    )?;
    for line in ledger.lines() {
        let row = line.split_once('|').and_then(|(host, count)| Some((host.to_owned(), count.parse().ok()?)));
        let (host, count) = row.ok_or_else(|| format!("PostgreSQL said {line:?}"))?;
        pushes.insert((host, Push::Pipeline), count);
    }
    Ok(pushes)
}

fn stored(world: &World) -> Outcome<BTreeMap<(String, Push), Counts>> {
    let mut stored: BTreeMap<(String, Push), Counts> = BTreeMap::new();
    let records = world.postgres(
        "SELECT job_id, metric_value::bigint, count(*) FROM recap_system_metrics \
         WHERE stage = 'drill' AND metric_name = 'number' GROUP BY 1, 2",
    )?;
    let lines = world.clickhouse(
        "SELECT host, extract(message, ' ([0-9]+)$') AS number, count() FROM logs WHERE service_name = 'drill' \
         GROUP BY host, number FORMAT TabSeparated",
    )?;
    let hosts = |host: &String| (mark(host), host.clone());
    let marks: BTreeMap<String, String> = world.hosts.iter().map(hosts).collect();
    for (kind, text, parting) in [(Push::Pipeline, records, '|'), (Push::Logs, lines, '\t')] {
        for line in text.lines() {
            let mut fields = line.split(parting);
            let row = (|| {
                let host = fields.next()?;
                let host = marks.get(host).cloned().unwrap_or_else(|| host.to_owned());
                Some((host, fields.next()?.parse().ok()?, fields.next()?.parse::<u64>().ok()?))
            })();
            let (host, number, count) = row.ok_or_else(|| format!("the store said {line:?}"))?;
            *stored.entry((host, kind)).or_default().entry(number).or_default() += count;
        }
    }
    Ok(stored)
}

/// Metrics messages, which nobody pushes: their numbers stand in PostgreSQL's ledger, one row of `memory_percent` each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metrics {
    /// Numbers booked as committed.
    pub(crate) committed: u64,
    /// Numbers of any kind that are neither committed nor declared lost, below the last one of their boot.
    pub(crate) holes: u64,
    /// Rows of `memory_percent`: as many as there are numbers committed, if none was written twice.
    pub(crate) rows: u64,
    /// Runs of agents.
    pub(crate) boots: u64,
}

/// What the ledger says of the metrics of all hosts, and the rows.
pub(crate) fn metrics(world: &World) -> Outcome<Metrics> {
    let whole = "SELECT kind, committed, lost FROM delivery_ledger";
    let sizes = format!(
        "WITH ledger AS ({whole}), spans AS (\
           SELECT kind, \
             (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(committed) r) AS committed, \
             (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(committed + lost) r) AS known, \
             upper(committed + lost) - 1 AS last FROM ledger) \
         SELECT coalesce(sum(committed) FILTER (WHERE kind = 'metrics'), 0), coalesce(sum(last - known), 0), \
           count(*) FILTER (WHERE kind = 'metrics') FROM spans"
    );
    let rows = "SELECT count(*) FROM recap_system_metrics \
                WHERE metric_name = 'memory_percent' AND stage = 'memory' AND job_id LIKE 'host:%'";
    let numbers = |sql: &str| -> Outcome<Vec<u64>> {
        let text = world.postgres(sql)?;
        text.trim().split('|').map(|field| field.parse().map_err(|_| format!("{sql}: {text:?}"))).collect()
    };
    let (ledger, rows) = (numbers(&sizes)?, numbers(rows)?);
    let at = |of: &[u64], index: usize| of.get(index).copied().unwrap_or_default();
    Ok(Metrics { committed: at(&ledger, 0), holes: at(&ledger, 1), boots: at(&ledger, 2), rows: at(&rows, 0) })
}

/// Declared losses: numbers of records, by kind, as the ledger of PostgreSQL has them.
pub(crate) fn declared(world: &World) -> Outcome<BTreeMap<String, u64>> {
    let text = world.postgres(
        "SELECT kind, sum((SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(lost) r)) FROM delivery_ledger \
         GROUP BY kind",
    )?;
    let mut declared = BTreeMap::new();
    for line in text.lines() {
        let (kind, count) = line.split_once('|').ok_or_else(|| format!("the store said {line:?}"))?;
        declared.insert(kind.to_owned(), count.parse().map_err(|_| format!("the store said {line:?}"))?);
    }
    Ok(declared)
}

/// The first numbers of a list.
pub(crate) fn some(numbers: &[u64]) -> String {
    let mut text = String::new();
    for number in numbers.iter().take(10) {
        // Writing into a String can't fail.
        let _ = write!(text, " {number}");
    }
    if numbers.len() > 10 { text + " …" } else { text }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn pushed(first: u64, last: u64, answer: Answer) -> Pushed {
        Pushed { kind: Push::Logs, first, last, at: Instant::now(), answer }
    }

    #[test]
    fn what_is_missing_or_there_twice_or_never_accepted_is_found() {
        let account = [
            pushed(1, 3, Answer::Accepted),
            pushed(4, 5, Answer::Unknown),
            pushed(6, 6, Answer::Refused(503)),
            pushed(7, 7, Answer::Accepted),
        ];
        let counts = Counts::from([(1, 1), (2, 2), (3, 1), (5, 1), (7, 1)]);
        let finding = judge(&account, &counts, 0);
        assert_eq!((finding.accepted, finding.stored), (4, 6));
        assert_eq!((&finding.lost[..], &finding.double[..]), (&[][..], &[2][..]));
        let finding = judge(&account, &Counts::from([(1, 1), (3, 1), (6, 1), (7, 1), (9, 1)]), 1);
        assert_eq!(
            (&finding.lost[..], &finding.refused_but_stored[..], &finding.unknown[..]),
            (&[2][..], &[6][..], &[9][..])
        );
        let stored = Counts::from([(1, 1), (2, 1), (3, 1)]);
        assert_eq!(judge(&account, &stored, 0).lost, [7]);
        let finding = judge(&account, &stored, 1);
        assert!(finding.is_clean() && finding.declared == 1, "{finding:?}");
    }
}
