-- Lines by hour, as the projection `hourly` has them. Times before 1970 and after 2106 count to the first and last hour that
-- DateTime holds. Of several rows the quantiles are quantilesTDigestMerge(0.5, 0.95, 0.99)(latency), the count sum(count).
CREATE VIEW IF NOT EXISTS logs_hourly AS
SELECT
    toStartOfHour(timestamp, 'UTC') AS hour,
    host,
    service_name,
    level,
    category,
    count() AS count,
    count(latency_ms) AS latency_count,
    quantilesTDigestState(0.5, 0.95, 0.99)(latency_ms) AS latency
FROM logs
GROUP BY
    hour,
    host,
    service_name,
    level,
    category
COMMENT 'utilizer: log lines by hour'
