-- Log lines. Choices with their reasons; the numbers come from a million synthetic lines in the 26.9 engine.
--
-- Partitions: the day of arrival. A line carries any time it likes (1970, 2099), so partitions by `timestamp` would
-- multiply with bad clocks; the day of arrival gives one partition per insert, and retention drops whole parts.
-- TTL: counts from arrival too. By `timestamp` the first merge would delete every line that is loaded late.
-- The exporter keeps the TTL equal to its configuration; what stands here is the default.
-- ORDER BY: everything asks for a time range first, newest first. (service_name, timestamp) took 14 % more room and
-- read twice the granules for such a range.
-- Codecs: ZSTD(1) takes 54 % of what LZ4 takes, Delta takes the sorted times from 152 to 10 kB.
-- Indexes: a trace id then reads 4 of 123 granules for 1 % more room, a word of a message 5 of 123 for 8 %; a text
-- index took 30 %.
CREATE TABLE IF NOT EXISTS logs
(
    timestamp DateTime64(3) CODEC(Delta, ZSTD(1)) COMMENT 'when the line was written, by its own account',
    level LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'DEBUG, INFO, WARN, ERROR or FATAL',
    service_name LowCardinality(String) CODEC(ZSTD(1)),
    message String CODEC(ZSTD(1)),
    latency_ms Nullable(Float64) CODEC(ZSTD(1)),
    host LowCardinality(String) CODEC(ZSTD(1)),
    logger LowCardinality(String) CODEC(ZSTD(1)),
    environment LowCardinality(String) CODEC(ZSTD(1)),
    category LowCardinality(String) CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    request_id String CODEC(ZSTD(1)),
    fields Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'everything else that the line carried',
    event_id String CODEC(ZSTD(1)) COMMENT 'the same for every delivery of the same line',
    level_original LowCardinality(String) CODEC(ZSTD(1)) COMMENT 'the level as the line had it, such as CRITICAL',
    ingested_at DateTime DEFAULT now() CODEC(Delta, ZSTD(1)) COMMENT 'when it arrived here, which retention counts from',
    INDEX by_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_word message TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(ingested_at)
ORDER BY timestamp
TTL ingested_at + toIntervalDay(30)
SETTINGS
    -- Whole parts only, so that retention rewrites nothing.
    ttl_only_drop_parts = 1,
    -- A changed TTL recomputes when parts end, without rewriting them.
    materialize_ttl_recalculate_only = 1,
    -- How many inserts back a repeated insert_deduplication_token is recognized: over two hours at one a second.
    non_replicated_deduplication_window = 10000
COMMENT 'utilizer: log lines'
