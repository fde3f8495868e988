//! Chains as an agent makes them, and what may be done to them in a store.

use std::collections::BTreeMap;

use wire::chain::{Chain, HASH, Hash, Line, SEQ};
use wire::messages::{AuditLoss, Level, LogRecord};
use wire::{HostName, Timestamp};

use super::walk::{Found, Known, Link, Walk};
use crate::logs::row::Row;

fn host() -> HostName {
    "web-01".parse().unwrap()
}

/// The rows of a chain of so many records.
fn rows(count: u64) -> Vec<Row> {
    let mut chain = Chain::new(host(), "b1".parse().unwrap(), None);
    let mut records: Vec<LogRecord> = (1..=count)
        .map(|n| LogRecord {
            timestamp: Timestamp::from_millis(1_790_000_000_000 + n as i64),
            level: Level::Info,
            level_original: None,
            service_name: "sudo".to_owned(),
            message: format!("command {n}"),
            latency_ms: n.is_multiple_of(2).then_some(n as f64 / 3.0),
            logger: String::new(),
            environment: String::new(),
            category: "audit".to_owned(),
            trace_id: String::new(),
            request_id: String::new(),
            fields: BTreeMap::from([("user".to_owned(), "root".to_owned())]),
        })
        .collect();
    chain.add(&mut records);
    records.into_iter().map(stored).collect()
}

fn stored(record: LogRecord) -> Row {
    let (field_names, field_values) = record.fields.into_iter().unzip();
    Row {
        timestamp: record.timestamp,
        level: record.level.to_string(),
        level_original: record.level.to_string(),
        service_name: record.service_name,
        message: record.message,
        latency_ms: record.latency_ms,
        host: "web-01".to_owned(),
        logger: String::new(),
        environment: String::new(),
        category: record.category,
        trace_id: String::new(),
        request_id: String::new(),
        field_names,
        field_values,
        event_id: "e".to_owned(),
        ingested_at: record.timestamp,
    }
}

fn set(row: &mut Row, name: &str, value: &str) {
    let place = row.field_names.iter().position(|of| of == name).unwrap();
    row.field_values[place] = value.to_owned();
}

fn hash(row: &Row) -> Hash {
    row.field(HASH).unwrap().parse().unwrap()
}

/// As someone would who knows how hashes are made.
fn rehash(row: &mut Row, before: &Hash) {
    let fields: BTreeMap<String, String> = row.fields().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let hash = Line {
        host: &row.host,
        timestamp: row.timestamp,
        level: &row.level,
        level_original: &row.level_original,
        service_name: &row.service_name,
        message: &row.message,
        latency_ms: row.latency_ms,
        logger: &row.logger,
        environment: &row.environment,
        category: &row.category,
        trace_id: &row.trace_id,
        request_id: &row.request_id,
        fields: &fields,
    }
    .hash(before);
    set(row, HASH, &hash.to_string());
}

/// With the end of the chain known, as the agent tells it.
fn known(rows: &[Row]) -> Known {
    let last = rows.last().unwrap();
    let seq = last.field(SEQ).unwrap().parse().unwrap();
    Known { anchors: BTreeMap::from([(seq, hash(last))]), ..Known::default() }
}

fn walk(mut rows: Vec<Row>, known: Known) -> Found {
    rows.sort_by_key(|row| row.field(SEQ).and_then(|seq| seq.parse::<u64>().ok()).unwrap_or_default());
    let mut walk = Walk::new(known);
    rows.into_iter().for_each(|row| walk.row(Link::new(row)));
    walk.end()
}

#[test]
fn a_chain_that_nobody_touched_is_intact() {
    let rows = rows(10);
    let found = walk(rows.clone(), known(&rows));
    assert!(!found.has_faults() && found.missing_first.is_none() && found.missing_last.is_none());
    assert_eq!((found.rows, found.first, found.last, found.hash, found.beyond), (10, 1, 10, hash(&rows[9]), 0));
    let found = walk(rows.clone(), known(&rows[..7]));
    assert_eq!((found.has_faults(), found.beyond), (false, 3));
}

#[test]
fn each_change_of_a_row_is_found() {
    let whole = rows(10);
    let changes: [fn(&mut Row); 9] = [
        |row| row.message.push('x'),
        |row| row.timestamp = row.timestamp.plus(std::time::Duration::from_millis(1)),
        |row| row.latency_ms = None,
        |row| row.level = "DEBUG".to_owned(),
        |row| set(row, "user", "nobody"),
        |row| set(row, HASH, &"0".repeat(64)),
        |row| set(row, HASH, "gone"),
        |row| row.trace_id.push('x'),
        // A second value under a name that is there, which one reader sees and the other does not.
        |row| {
            row.field_names.insert(0, "user".to_owned());
            row.field_values.insert(0, "nobody".to_owned());
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut rows = whole.clone();
        change(&mut rows[3]);
        let found = walk(rows, known(&whole));
        assert!(
            found.altered.contains(&4) && found.altered.iter().all(|seq| [4, 5].contains(seq)),
            "{number}: {found:?}"
        );
    }
    // Whoever makes the hash anew breaks the next one, and whoever makes all of them anew the end.
    let mut rows = whole.clone();
    rows[3].message.push('x');
    rehash(&mut rows[3], &hash(&whole[2]));
    assert_eq!(walk(rows.clone(), known(&whole)).altered, [5].into());
    for place in 4..10 {
        let before = hash(&rows[place - 1]);
        rehash(&mut rows[place], &before);
    }
    let found = walk(rows.clone(), known(&whole));
    assert_eq!((found.altered.len(), found.forged), (0, [10].into()));
    assert!(!walk(rows, Known::default()).has_faults(), "which nobody can tell without the end");
}

#[test]
fn rows_that_are_gone_are_named() {
    let whole = rows(10);
    let without = |gone: &[u64]| {
        let left: Vec<Row> =
            (1..).zip(whole.clone()).filter(|(seq, _)| !gone.contains(seq)).map(|(_, row)| row).collect();
        walk(left, known(&whole))
    };
    let found = without(&[4, 5, 8]);
    assert_eq!((found.missing, found.unchecked), (vec![(4, 5), (8, 8)], [6, 9].into()));
    assert!(found.altered.is_empty());
    assert_eq!(without(&[1, 2]).missing_first, Some((1, 2)));
    assert_eq!(without(&[9, 10]).missing_last, Some((9, 10)));
    assert_eq!(without(&(1..=10).collect::<Vec<_>>()).missing_first, Some((1, 10)));
    // What changes its number leaves a gap where it was.
    let mut rows = whole.clone();
    set(&mut rows[9], SEQ, "x");
    let found = walk(rows, known(&whole));
    assert_eq!((found.inserted, found.missing_last), (vec![0], Some((10, 10))));
}

#[test]
fn what_the_agent_gave_up_is_told_apart_and_the_rest_is_checked() {
    let whole = rows(10);
    let lost = vec![AuditLoss { from: 4, to: 5, hash: hash(&whole[4]) }];
    let left = |altered: bool| {
        let mut left: Vec<Row> = whole[..3].iter().chain(&whole[5..]).cloned().collect();
        if altered {
            left[3].message.push('x');
        }
        walk(left, Known { lost: lost.clone(), ..known(&whole) })
    };
    let found = left(false);
    assert_eq!((found.has_faults(), found.lost, found.unchecked.len()), (false, vec![(4, 5)], 0));
    assert_eq!(left(true).altered, [6].into());
    // Of a longer gap the rest is missing.
    let rows: Vec<Row> = whole[..2].iter().chain(&whole[6..]).cloned().collect();
    let found = walk(rows, Known { lost, ..known(&whole) });
    assert_eq!((found.missing, found.lost), (vec![(3, 3), (6, 6)], vec![(4, 5)]));
}

#[test]
fn rows_that_were_put_in_or_copied_are_found() {
    let whole = rows(5);
    let mut rows = whole.clone();
    rows.push(whole[2].clone());
    let found = walk(rows.clone(), known(&whole));
    assert_eq!((found.has_faults(), found.doubles), (false, 1), "a tier that lost its disk writes a row again");
    rows[5].message = "nothing happened".to_owned();
    let found = walk(rows, known(&whole));
    assert_eq!((found.inserted, found.altered.len(), found.doubles), (vec![3], 0, 0));
    let mut rows = whole.clone();
    let mut more = whole[4].clone();
    set(&mut more, SEQ, "6");
    rows.push(more);
    assert_eq!(walk(rows, known(&whole)).altered, [6].into());
}

#[test]
fn rows_that_changed_places_are_found() {
    let whole = rows(10);
    // What they say.
    let mut rows = whole.clone();
    (rows[2].message, rows[6].message) = (whole[6].message.clone(), whole[2].message.clone());
    (rows[2].timestamp, rows[6].timestamp) = (whole[6].timestamp, whole[2].timestamp);
    let found = walk(rows, known(&whole));
    assert_eq!((found.moved, found.altered.len()), (vec![(3, 7), (7, 3)], 0));
    // Their numbers.
    let mut rows = whole.clone();
    set(&mut rows[2], SEQ, "7");
    set(&mut rows[6], SEQ, "3");
    let found = walk(rows, known(&whole));
    assert_eq!((found.moved, found.altered.len()), (vec![(3, 7), (7, 3)], 0));
}
