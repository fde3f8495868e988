//! The ledger's rows. There is one writer at a time, so that nothing needs to be locked. See docs/ledger.md.

use std::collections::BTreeMap;

use delivery::Identity;
use delivery::ledger::{Entry, Key, MOST_SEQ};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, params};
use wire::messages::Loss;
use wire::{BootId, HostName, Ranges, Timestamp};

/// The entries that a transaction has to do with, read when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct Book(BTreeMap<Key, Entry>);

impl Book {
    /// Books a record; `false` if its rows are there already.
    pub(crate) fn commit(&mut self, connection: &Connection, identity: &Identity) -> Result<bool, Error> {
        Ok(self.entry(connection, identity.key())?.commit(identity.seq))
    }

    /// Books a loss.
    pub(crate) fn lose(&mut self, connection: &Connection, host: &HostName, loss: &Loss) -> Result<(), Error> {
        let key = Key { host: host.clone(), boot: loss.boot.clone(), kind: loss.kind };
        self.entry(connection, key)?.lose(loss.from, loss.to.min(MOST_SEQ));
        Ok(())
    }

    /// Writes all that was asked for.
    pub(crate) fn write(&self, connection: &Connection, now: Timestamp) -> Result<(), Error> {
        let mut upsert = connection.prepare_cached(
            "INSERT INTO delivery_ledger (host, boot, kind, committed, lost, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (host, boot, kind) DO UPDATE SET
                 committed = excluded.committed, lost = excluded.lost, updated_at = excluded.updated_at",
        )?;
        let now = now.to_string();
        for (Key { host, boot, kind }, Entry { committed, lost }) in &self.0 {
            upsert.execute(params![host.as_str(), boot.as_str(), kind.as_str(), text(committed), text(lost), now])?;
        }
        Ok(())
    }

    fn entry(&mut self, connection: &Connection, key: Key) -> Result<&mut Entry, Error> {
        use std::collections::btree_map::Entry::{Occupied, Vacant};
        Ok(match self.0.entry(key) {
            Occupied(known) => known.into_mut(),
            Vacant(missing) => {
                let Key { host, boot, kind } = missing.key();
                let mut select = connection.prepare_cached(
                    "SELECT committed, lost FROM delivery_ledger WHERE host = ?1 AND boot = ?2 AND kind = ?3",
                )?;
                let row = select.query_row(params![host.as_str(), boot.as_str(), kind.as_str()], |row| entry(row, 0));
                missing.insert(row.optional()?.unwrap_or_default())
            }
        })
    }
}

/// The entries of these hosts.
pub(crate) fn entries(connection: &Connection, hosts: &[HostName]) -> Result<Vec<(Key, Entry)>, Error> {
    let mut select =
        connection.prepare_cached("SELECT boot, kind, committed, lost FROM delivery_ledger WHERE host = ?1")?;
    let mut entries = Vec::new();
    for host in hosts {
        let mut rows = select.query([host.as_str()])?;
        while let Some(row) = rows.next()? {
            let (boot, kind) = (row.get_ref(0)?.as_str()?.parse(), row.get_ref(1)?.as_str()?.parse());
            // Names that are none of ours were put there by someone else.
            if let (Ok(boot), Ok(kind)) = (boot, kind) {
                entries.push((Key { host: host.clone(), boot, kind }, entry(row, 2)?));
            }
        }
    }
    Ok(entries)
}

/// Removes what nobody needs any longer; gives how many entries. A run is gone if a status of a later run does not name
/// it: `delivery::ledger::gone`. Of a host whose status is not known, nothing is removed.
pub(crate) fn forget(
    connection: &mut Connection,
    untouched_since: Timestamp,
    named: &[(HostName, BootId)],
) -> Result<u64, Error> {
    let transaction = connection.transaction()?;
    transaction.execute_batch("CREATE TEMP TABLE named (host TEXT, boot TEXT, PRIMARY KEY (host, boot))")?;
    {
        let mut insert = transaction.prepare("INSERT OR IGNORE INTO named (host, boot) VALUES (?1, ?2)")?;
        for (host, boot) in named {
            insert.execute([host.as_str(), boot.as_str()])?;
        }
    }
    let forgotten = transaction.execute(
        "DELETE FROM delivery_ledger AS l WHERE l.updated_at < ?1
             AND l.boot < (SELECT max(n.boot) FROM named AS n WHERE n.host = l.host)
             AND NOT EXISTS (SELECT 1 FROM named AS n WHERE n.host = l.host AND n.boot = l.boot)",
        [untouched_since.to_string()],
    )?;
    transaction.execute_batch("DROP TABLE named")?;
    transaction.commit()?;
    Ok(forgotten as u64)
}

fn entry(row: &Row<'_>, first: usize) -> Result<Entry, Error> {
    let ranges = |column: usize| -> Result<Ranges, Error> {
        serde_json::from_str(row.get_ref(column)?.as_str()?)
            .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
    };
    Ok(Entry { committed: ranges(first)?, lost: ranges(first + 1)? })
}

fn text(ranges: &Ranges) -> String {
    // Pairs of numbers always have a text.
    serde_json::to_string(ranges).unwrap_or_default()
}
