-- As for the logs.
ALTER TABLE alerts ADD INDEX IF NOT EXISTS by_arrival ingested_at TYPE minmax GRANULARITY 1
