-- Transitions of alerts. Few rows, looked at for longer than logs: a year from arrival. Partitions by month of
-- arrival for the same reasons as in `logs`.
CREATE TABLE IF NOT EXISTS alerts
(
    time DateTime64(3) CODEC(Delta, ZSTD(1)) COMMENT 'when the transition happened',
    host LowCardinality(String),
    alert_name LowCardinality(String),
    state LowCardinality(String) COMMENT 'firing or resolved',
    severity LowCardinality(String),
    labels Map(LowCardinality(String), String),
    annotations Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    value Nullable(Float64) COMMENT 'NULL where the expression gave NaN or an infinity',
    active_at DateTime64(3) CODEC(Delta, ZSTD(1)) COMMENT 'when the expression first held',
    resolved_at Nullable(DateTime64(3)),
    fingerprint String COMMENT 'the same over the life of an alert',
    event_id String COMMENT 'the same for every delivery of the same transition',
    ingested_at DateTime DEFAULT now() CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ingested_at)
ORDER BY time
TTL ingested_at + toIntervalDay(365)
SETTINGS
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1,
    non_replicated_deduplication_window = 10000
COMMENT 'utilizer: transitions of alerts'
