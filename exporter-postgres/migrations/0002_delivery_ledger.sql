-- Which records of which host are in this database. Written in the transaction that writes their rows: a record that
-- comes twice makes its rows once, whichever member gets it. See docs/ledger.md.
CREATE TABLE delivery_ledger (
    host TEXT COLLATE "C" NOT NULL,
    boot TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    -- Numbers of records whose rows are here, or which made none.
    committed INT8MULTIRANGE NOT NULL DEFAULT '{}',
    -- Numbers that the host declared lost, and which are not here.
    lost INT8MULTIRANGE NOT NULL DEFAULT '{}',
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (host, boot, kind)
-- Rows change with each batch: room in each page keeps the new versions beside the old, and the index as it is.
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- How far the ids of a table were at a time: what has a smaller one had arrived by then. Retention counts from arrival
-- where a row's own time may be anything.
CREATE TABLE retention_marks (
    table_name TEXT NOT NULL,
    taken_at TIMESTAMPTZ NOT NULL,
    id BIGINT NOT NULL,
    PRIMARY KEY (table_name, taken_at)
);
