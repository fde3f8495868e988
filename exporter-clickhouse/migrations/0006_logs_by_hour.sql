-- Counts and latencies by hour. A projection is a part of each part of the table: it is written with its rows or not at all,
-- an insert that is recognized as a repetition adds nothing to it, and what retention or a deletion takes goes from it too.
-- A materialised view with a table of its own would lack the rows of an insert that ended between the two.
-- The server takes it for queries that group by no more than these columns and ask for these functions; the view
-- logs_hourly does.
ALTER TABLE logs ADD PROJECTION IF NOT EXISTS hourly
(
    SELECT
        toStartOfHour(timestamp, 'UTC'),
        host,
        service_name,
        level,
        category,
        count(),
        count(latency_ms),
        quantilesTDigestState(0.5, 0.95, 0.99)(latency_ms)
    GROUP BY
        toStartOfHour(timestamp, 'UTC'),
        host,
        service_name,
        level,
        category
)
