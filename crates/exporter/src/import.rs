//! Taking over the ledgers of other members, when the number of shards changes.
//!
//! A host sends a record again if the confirmation got lost, or if it was away; the member that is now responsible for it has
//! to know what the one before has written. So each new member starts with the union of all old ledgers.

use std::fmt;
use std::path::{Path, PathBuf};

use delivery::ledger::Ledger;
use spool::Log;

use crate::beside::{Beside, load};
use crate::tier::spool_options;

/// What was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Imported {
    /// From how many ledgers.
    ledgers: usize,
    /// Entries that they have.
    entries: usize,
    /// Entries that there are now.
    all: usize,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ledgers, entries, all } = self;
        write!(f, "took over {entries} entries of {ledgers} ledgers; this one has {all} now")
    }
}

/// Unites the ledger beside a spool with those of other folders. Nothing is written before all of them were read; once more
/// it changes nothing. The folders stay as they are.
pub(crate) fn import(spool: &Path, max_bytes: u64, folders: &[PathBuf]) -> Result<Imported, String> {
    let open = Log::open(spool, spool_options(max_bytes));
    let (log, _) = open.map_err(|error| format!("{error}; the exporter must not run while ledgers are imported"))?;
    let mut own = Beside::open(&spool.join("ledger"), log.reader(), log.next())?;
    let mut union = Ledger::default();
    let mut imported = Imported { ledgers: 0, entries: 0, all: 0 };
    for folder in folders {
        let missing = |error| format!("can't read {}: {error}", folder.display());
        let folder = folder.canonicalize().map_err(missing)?;
        // The same member may go on, as another part of more.
        let is_own = |own: &Path| own.canonicalize().is_ok_and(|own| own == folder);
        if is_own(spool) || is_own(own.folder()) {
            continue;
        }
        let ledger = drained(&folder)?;
        imported.ledgers += 1;
        imported.entries += ledger.iter().len();
        union.unite(&ledger);
    }
    imported.all = own.unite(&union).map_err(|error| {
        format!("can't write the ledger in {}: {error}; nothing was imported", own.folder().display())
    })?;
    Ok(imported)
}

/// The ledger of a member that has nothing left to write.
fn drained(folder: &Path) -> Result<Ledger, String> {
    let inner = folder.join("ledger");
    let is_spool = inner.is_dir();
    let beside = if is_spool { &inner } else { folder };
    if !is_ledger(beside) {
        return Err(format!(
            "{} is no spool of an exporter and no ledger: it has no ledger.state and no segments",
            folder.display()
        ));
    }
    let (_log, ledger, state) = load(beside)?;
    let drain = "start its exporter as it was, let it write what it has, and stop it";
    if state.fixed.is_some() {
        return Err(format!("a batch of {} was on its way: {drain}", folder.display()));
    }
    if is_spool {
        let options = spool::Options { reserve_bytes: 0, ..spool_options(0) };
        let (spool, _) = Log::open(folder, options).map_err(|error| error.to_string())?;
        let left = spool.next() - spool.first().max(state.below).min(spool.next());
        if left > 0 {
            return Err(format!("{left} records wait in {}: {drain}", folder.display()));
        }
    }
    Ok(ledger)
}

fn is_ledger(folder: &Path) -> bool {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    names.into_iter().any(|path| path.extension().is_some_and(|ending| ending == "seg" || ending == "state"))
}

#[cfg(test)]
mod tests {
    use delivery::Identity;
    use wire::Kind;

    use super::*;
    use crate::rows::{Origin, Record, Rows};

    fn identity(host: &str, seq: u64) -> Identity {
        Identity { host: host.parse().unwrap(), boot: "b1".parse().unwrap(), kind: Kind::Logs, seq }
    }

    /// A member's spool with these records written, and so many waiting.
    fn member(folder: &Path, written: &[(&str, u64)], waiting: usize) {
        let (mut log, _) = Log::open(folder, spool_options(1 << 20)).unwrap();
        for _ in 0..written.len() + waiting {
            log.append(b"", b"record").unwrap();
        }
        log.sync().unwrap();
        let mut beside = Beside::open(&folder.join("ledger"), log.reader(), log.next()).unwrap();
        let records: Vec<Identity> = written.iter().map(|(host, seq)| identity(host, *seq)).collect();
        beside.book(&records, written.len() as u64).unwrap();
    }

    fn entries(folder: &Path) -> Vec<(String, Vec<(u64, u64)>)> {
        let (_log, ledger, _) = load(&folder.join("ledger")).unwrap();
        let pairs = ledger.iter().map(|(key, entry, _)| (key.host.to_string(), entry.committed.iter().collect()));
        pairs.collect()
    }

    #[test]
    fn the_union_of_old_ledgers_is_taken_over_and_once_more_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [old, other, own] = ["old", "other", "own"].map(|name| folder.path().join(name));
        member(&old, &[("a", 1), ("a", 2), ("b", 7)], 0);
        member(&other, &[("a", 3), ("c", 9)], 0);
        member(&own, &[("a", 5)], 2);
        // One of them by its ledger alone, as it may come from another machine; and itself.
        let folders = [old, other.join("ledger"), own.clone()];
        for _ in 0..2 {
            let imported = import(&own, 1 << 20, &folders).unwrap();
            assert_eq!(imported, Imported { ledgers: 2, entries: 4, all: 3 });
            let pairs = [("a", vec![(1, 3), (5, 5)]), ("b", vec![(7, 7)]), ("c", vec![(9, 9)])];
            assert_eq!(entries(&own), pairs.map(|(host, ranges)| (host.to_owned(), ranges)));
        }
        // What the member had to write is still to be written, and what comes again is known.
        let (log, _) = Log::open(&own, spool_options(1 << 20)).unwrap();
        let mut beside = Beside::open(&own.join("ledger"), log.reader(), log.next()).unwrap();
        assert_eq!(beside.written_below(), 1);
        let origin = Origin { host: "c".parse().unwrap(), kind: Kind::Logs, boot: "b1".parse().ok(), seq: Some(9) };
        beside.fix(&[1], &[Record { origin, rows: Rows::Logs(crate::lines::LogRows::default()) }]);
        assert_eq!(beside.fixed.step(), delivery::fixed::Step::Book { from: 1, to: 2 });
    }

    #[test]
    fn what_is_in_use_or_not_drained_or_no_ledger_is_refused_and_nothing_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let [good, waits, own, empty] = ["good", "waits", "own", "empty"].map(|name| folder.path().join(name));
        member(&good, &[("a", 1)], 0);
        member(&waits, &[("b", 1)], 3);
        member(&own, &[], 0);
        std::fs::create_dir(&empty).unwrap();
        let refused = |other: &Path| import(&own, 1 << 20, &[good.clone(), other.to_owned()]).unwrap_err();
        assert!(refused(&waits).contains("3 records wait in"), "{}", refused(&waits));
        assert!(refused(&empty).contains("no ledger.state"), "{}", refused(&empty));
        assert!(refused(&folder.path().join("nowhere")).contains("nowhere"));
        for running in [&waits, &own] {
            let _log = Log::open(running, spool_options(1 << 20)).unwrap();
            let _ledger = Log::open(&running.join("ledger"), spool::Options::default()).unwrap();
            assert!(refused(&waits).contains("is in use by another process"), "{}", refused(&waits));
        }
        assert!(entries(&own).is_empty());
        assert!(import(&own, 1 << 20, std::slice::from_ref(&good)).is_ok());
    }
}
