-- Finds the rows of one batch, which all say the same second of arrival, without reading the day: a part sorted by
-- time has its arrivals nearly in order. New parts have it at once; old ones are read as before until they are merged.
ALTER TABLE logs ADD INDEX IF NOT EXISTS by_arrival ingested_at TYPE minmax GRANULARITY 1
