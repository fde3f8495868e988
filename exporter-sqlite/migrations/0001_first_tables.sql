-- The tables and columns of the PostgreSQL exporter. Times are RFC 3339 text in UTC with milliseconds, which SQLite's
-- date functions read and which sorts as it counts; objects are JSON text, which its JSON functions read.
CREATE TABLE recap_system_metrics (
    id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL CHECK (length(job_id) <= 100),
    stage TEXT NOT NULL CHECK (length(stage) <= 50),
    metric_name TEXT NOT NULL CHECK (length(metric_name) <= 100),
    metric_value REAL NOT NULL,
    metadata TEXT CHECK (metadata IS NULL OR json_valid(metadata)),
    recorded_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX recap_system_metrics_job_stage ON recap_system_metrics (job_id, stage);
CREATE INDEX recap_system_metrics_recorded_at ON recap_system_metrics (recorded_at);

CREATE TABLE admin_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_type TEXT NOT NULL CHECK (length(job_type) <= 50),
    parameters TEXT NOT NULL CHECK (json_valid(parameters)),
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'completed', 'failed')),
    created_by TEXT CHECK (length(created_by) <= 100),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    started_at TEXT,
    completed_at TEXT,
    error_message TEXT,
    result TEXT CHECK (result IS NULL OR json_valid(result))
);
CREATE INDEX admin_jobs_status_created_at ON admin_jobs (status, created_at);

CREATE TABLE logs (
    timestamp TEXT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL')),
    level_original TEXT NOT NULL,
    service_name TEXT NOT NULL,
    message TEXT NOT NULL,
    latency_ms REAL,
    host TEXT NOT NULL,
    logger TEXT NOT NULL,
    environment TEXT NOT NULL,
    category TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fields TEXT NOT NULL CHECK (json_valid(fields)),
    event_id TEXT NOT NULL,
    ingested_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX logs_timestamp ON logs (timestamp);
CREATE INDEX logs_ingested_at ON logs (ingested_at);

-- One row per transition of an alert.
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    host TEXT NOT NULL,
    alert_name TEXT NOT NULL,
    state TEXT NOT NULL,
    severity TEXT NOT NULL,
    labels TEXT NOT NULL CHECK (json_valid(labels)),
    annotations TEXT NOT NULL CHECK (json_valid(annotations)),
    value REAL,
    active_at TEXT NOT NULL,
    resolved_at TEXT,
    fingerprint TEXT NOT NULL,
    event_id TEXT NOT NULL
);
CREATE INDEX alerts_time ON alerts (time);
CREATE INDEX alerts_fingerprint_time ON alerts (fingerprint, time);

-- The last state that each host published.
CREATE TABLE hosts (
    host TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    version TEXT NOT NULL,
    boot TEXT NOT NULL,
    interval_seconds REAL,
    inventory TEXT CHECK (inventory IS NULL OR json_valid(inventory)),
    seen_at TEXT NOT NULL
);
