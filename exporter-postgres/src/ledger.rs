//! The ledger's rows: locked in sorted order, asked, booked. See docs/ledger.md.

use std::collections::{BTreeMap, HashMap};

use delivery::Identity;
use delivery::ledger::{Entry, Key, MOST_SEQ};
use exporter::rows::Record;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};
use wire::messages::Loss;
use wire::{BootId, HostName, Ranges, Timestamp};

use crate::time::system_time;

/// Locks the rows in sorted order, so that two members that write records of the same hosts wait for each other and
/// never in a circle, and says of each which of the numbers in `$4` it has. A row that someone else held is read anew
/// when it is free.
const TAKE: &str = "SELECT k.place, (l.committed * k.numbers::int8multirange)::text
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS k (host, boot, kind, numbers, place)
    JOIN delivery_ledger AS l ON l.host = k.host AND l.boot = k.boot AND l.kind = k.kind
    ORDER BY l.host, l.boot, l.kind FOR UPDATE OF l";

/// Adds to both sets. What is committed is not lost, whichever came first.
const BOOK: &str = "UPDATE delivery_ledger AS l SET
        committed = l.committed + d.committed::int8multirange,
        lost = CASE WHEN isempty(l.lost) AND d.lost = '{}' THEN l.lost
            ELSE l.lost + d.lost::int8multirange - (l.committed + d.committed::int8multirange) END,
        updated_at = now()
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS d (host, boot, kind, committed, lost)
    WHERE l.host = d.host AND l.boot = d.boot AND l.kind = d.kind";

/// Makes the rows that are missing, in sorted order too. In a transaction of its own, before the one that needs them: it
/// holds nothing that others wait for while it waits itself.
const MAKE: &str = "INSERT INTO delivery_ledger (host, boot, kind)
    SELECT k.host, k.boot, k.kind FROM unnest($1::text[], $2::text[], $3::text[]) AS k (host, boot, kind)
    ORDER BY k.host COLLATE \"C\", k.boot COLLATE \"C\", k.kind COLLATE \"C\"
    ON CONFLICT (host, boot, kind) DO NOTHING";

const ENTRIES: &str = "SELECT host, boot, kind, committed::text, lost::text FROM delivery_ledger
    WHERE host = ANY ($1::text[])";

/// Bounded, and past rows that someone works with: it waits for nobody.
/// A run is gone if a status of a later run does not name it: `delivery::ledger::gone`.
const FORGET: &str = "DELETE FROM delivery_ledger WHERE (host, boot, kind) IN (
        SELECT l.host, l.boot, l.kind FROM delivery_ledger AS l
        JOIN (SELECT n.host, max(n.boot COLLATE \"C\") AS latest, array_agg(n.boot) AS boots
              FROM unnest($2::text[], $3::text[]) AS n (host, boot) GROUP BY n.host) AS said ON said.host = l.host
        WHERE l.updated_at < $1 AND l.boot COLLATE \"C\" < said.latest AND NOT l.boot = ANY (said.boots)
        LIMIT 10000 FOR UPDATE OF l SKIP LOCKED)";

/// The statements, prepared on one connection.
#[derive(Debug)]
pub(crate) struct Ledger {
    take: Statement,
    book: Statement,
}

/// What is to be booked, by key in sorted order.
#[derive(Debug, Default)]
pub(crate) struct Bookings<'a> {
    keys: BTreeMap<Name<'a>, Entry>,
    /// Of the records in order: key, number, and the record's place.
    records: Vec<(Name<'a>, u64, usize)>,
}

/// Host, boot and kind.
type Name<'a> = (&'a str, &'a str, &'static str);

impl<'a> Bookings<'a> {
    /// All records that have an identity. The second result: places of records that stand in the batch before.
    pub(crate) fn of(records: &[&'a Record]) -> (Self, Vec<usize>) {
        let (mut bookings, mut twice) = (Self::default(), Vec::new());
        for (place, record) in records.iter().enumerate() {
            let origin = &record.origin;
            let (Some(boot), Some(seq)) = (&origin.boot, origin.numbered()) else { continue };
            let key = (origin.host.as_str(), boot.as_str(), origin.kind.as_str());
            if bookings.keys.entry(key).or_default().commit(seq) {
                bookings.records.push((key, seq, place));
            } else {
                twice.push(place);
            }
        }
        (bookings, twice)
    }

    /// Records without rows, and losses.
    pub(crate) fn book(committed: &'a [Identity], lost: &'a [(HostName, Loss)]) -> Self {
        let mut bookings = Self::default();
        for Identity { host, boot, kind, seq } in committed {
            let entry = bookings.keys.entry((host.as_str(), boot.as_str(), kind.as_str())).or_default();
            entry.commit((*seq).min(MOST_SEQ));
        }
        for (host, Loss { boot, kind, from, to, .. }) in lost {
            let entry = bookings.keys.entry((host.as_str(), boot.as_str(), kind.as_str())).or_default();
            entry.lose(*from, (*to).min(MOST_SEQ));
        }
        bookings
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn keys(&self) -> [Vec<&'a str>; 3] {
        let keys = self.keys.keys();
        [keys.clone().map(|k| k.0).collect(), keys.clone().map(|k| k.1).collect(), keys.map(|k| k.2).collect()]
    }
}

impl Ledger {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, Error> {
        let (take, book) = tokio::try_join!(client.prepare(TAKE), client.prepare(BOOK))?;
        Ok(Self { take, book })
    }

    /// Within a transaction of the isolation READ COMMITTED: locks the rows and books all; the result are the places of
    /// the records that were booked before. `None`: rows were missing, [`make`] them first.
    ///
    /// The statements go in one way to the server and back.
    pub(crate) async fn take(&self, client: &Client, bookings: &Bookings<'_>) -> Result<Option<Vec<usize>>, Error> {
        let [hosts, boots, kinds] = bookings.keys();
        let committed: Vec<String> = bookings.keys.values().map(|entry| text(&entry.committed)).collect();
        let lost: Vec<String> = bookings.keys.values().map(|entry| text(&entry.lost)).collect();
        let take: [&(dyn ToSql + Sync); 4] = [&hosts, &boots, &kinds, &committed];
        let book: [&(dyn ToSql + Sync); 5] = [&hosts, &boots, &kinds, &committed, &lost];
        // In this order, which is that of the requests on the connection.
        let (taken, _) = tokio::try_join!(biased; client.query(&self.take, &take), client.execute(&self.book, &book))?;
        if taken.len() < bookings.keys.len() {
            return Ok(None);
        }
        let keys: Vec<Name<'_>> = bookings.keys.keys().copied().collect();
        let mut known: HashMap<Name<'_>, Ranges> = HashMap::new();
        for row in taken {
            let (place, numbers) = (row.try_get::<_, i64>(0)?, row.try_get::<_, &str>(1)?);
            if numbers != NONE {
                let place = usize::try_from(place).unwrap_or_default().saturating_sub(1);
                known.extend(keys.get(place).map(|key| (*key, ranges(numbers))));
            }
        }
        let is_known = |key: &Name<'_>, seq| known.get(key).is_some_and(|numbers| numbers.contains(seq));
        let known = bookings.records.iter().filter(|(key, seq, _)| is_known(key, *seq)).map(|(.., place)| *place);
        Ok(Some(known.collect()))
    }
}

/// Makes the rows that [`Ledger::take`] missed.
pub(crate) async fn make(client: &Client, bookings: &Bookings<'_>) -> Result<(), Error> {
    let [hosts, boots, kinds] = bookings.keys();
    client.execute(MAKE, &[&hosts, &boots, &kinds]).await.map(drop)
}

/// The entries of these hosts.
pub(crate) async fn entries(client: &Client, hosts: &[HostName]) -> Result<Vec<(Key, Entry)>, Error> {
    let mut entries = Vec::new();
    for hosts in hosts.chunks(1000) {
        let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
        for row in client.query(ENTRIES, &[&names]).await? {
            let [host, boot, kind, committed, lost] = [0, 1, 2, 3, 4].map(|column| row.try_get::<_, &str>(column));
            // Names that are none of ours were put there by someone else.
            if let (Ok(host), Ok(boot), Ok(kind)) = (host?.parse(), boot?.parse(), kind?.parse()) {
                let entry = Entry { committed: ranges(committed?), lost: ranges(lost?) };
                entries.push((Key { host, boot, kind }, entry));
            }
        }
    }
    Ok(entries)
}

/// Removes what nobody needs any longer; gives how many rows.
pub(crate) async fn forget(
    client: &Client,
    untouched_since: Timestamp,
    named: &[(HostName, BootId)],
) -> Result<u64, Error> {
    let hosts: Vec<&str> = named.iter().map(|(host, _)| host.as_str()).collect();
    let boots: Vec<&str> = named.iter().map(|(_, boot)| boot.as_str()).collect();
    client.execute(FORGET, &[&system_time(untouched_since), &hosts, &boots]).await
}

/// A multirange without ranges.
const NONE: &str = "{}";

/// As PostgreSQL writes a multirange: `{[1,41),[42,43)}`.
fn text(ranges: &Ranges) -> String {
    let mut text = "{".to_owned();
    for (from, to) in ranges.iter() {
        let comma = if text.len() > 1 { "," } else { "" };
        text.push_str(&format!("{comma}[{from},{})", to.min(MOST_SEQ) + 1));
    }
    text.push('}');
    text
}

/// What [`text`] writes, which is how the server shows ranges of whole numbers.
fn ranges(text: &str) -> Ranges {
    let mut ranges = Ranges::default();
    for range in text.trim_matches(['{', '}']).split(")") {
        let bounds = range.trim_start_matches([',', '[']).split_once(',');
        if let Some((Ok(from), Ok(end))) = bounds.map(|(from, end)| (from.parse::<u64>(), end.parse::<u64>())) {
            ranges.insert_range(from, end.saturating_sub(1));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_and_read() {
        let mut set = Ranges::default();
        assert_eq!((text(&set), ranges("{}")), ("{}".to_owned(), set.clone()));
        set.insert_range(1, 40);
        set.insert(42);
        assert_eq!(text(&set), "{[1,41),[42,43)}");
        set.insert_range(MOST_SEQ - 1, u64::MAX);
        assert_eq!(text(&set), "{[1,41),[42,43),[9223372036854775805,9223372036854775807)}");
        let read = ranges(&text(&set));
        assert_eq!(read.iter().collect::<Vec<_>>(), [(1, 40), (42, 42), (MOST_SEQ - 1, MOST_SEQ)]);
    }
}
