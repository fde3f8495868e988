-- The logs under the column names of OpenTelemetry's ClickHouse exporter, for the tools that expect them. `Timestamp`
-- keeps the precision of `timestamp`, so that conditions on it use the table's order. Severity numbers are the lowest
-- of each range in OpenTelemetry's log data model.
CREATE VIEW IF NOT EXISTS otel_logs AS
SELECT
    timestamp AS Timestamp,
    toDateTime(timestamp) AS TimestampTime,
    trace_id AS TraceId,
    fields['span_id'] AS SpanId,
    toUInt8OrZero(fields['trace_flags']) AS TraceFlags,
    if(level_original = '', level, level_original) AS SeverityText,
    transform(level, ['DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'], [5, 9, 13, 17, 21], 0)::UInt8 AS SeverityNumber,
    service_name AS ServiceName,
    message AS Body,
    '' AS ResourceSchemaUrl,
    mapFilter(
        (name, value) -> value != '',
        map('service.name', service_name, 'host.name', host, 'deployment.environment.name', environment)
    )::Map(LowCardinality(String), String) AS ResourceAttributes,
    '' AS ScopeSchemaUrl,
    logger AS ScopeName,
    '' AS ScopeVersion,
    map()::Map(LowCardinality(String), String) AS ScopeAttributes,
    mapUpdate(
        fields::Map(String, String),
        mapFilter(
            (name, value) -> value != '',
            map(
                'category', category,
                'request_id', request_id,
                'latency_ms', ifNull(toString(latency_ms), ''),
                'log.record.uid', event_id
            )
        )
    )::Map(LowCardinality(String), String) AS LogAttributes,
    '' AS EventName
FROM logs
COMMENT 'utilizer: the logs under the column names of OpenTelemetry'
