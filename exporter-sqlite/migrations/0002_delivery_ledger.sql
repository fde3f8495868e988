-- Which records of which host are in this file, written in the transaction that writes their rows. The sets are JSON,
-- [[from, to], …], both ends included. See docs/ledger.md.
CREATE TABLE delivery_ledger (
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    kind TEXT NOT NULL,
    committed TEXT NOT NULL CHECK (json_valid(committed)),
    lost TEXT NOT NULL CHECK (json_valid(lost)),
    updated_at TEXT NOT NULL,
    PRIMARY KEY (host, boot, kind)
) WITHOUT ROWID;

-- How far the ids of a table were at a time: what has a smaller one had arrived by then. Retention counts from arrival
-- where a row's own time may be anything.
CREATE TABLE retention_marks (
    table_name TEXT NOT NULL,
    taken_at TEXT NOT NULL,
    id INTEGER NOT NULL,
    PRIMARY KEY (table_name, taken_at)
) WITHOUT ROWID;
