-- Rights on utilizer's database in ClickHouse, for an administrator to run once:
--
--   clickhouse-client --multiquery < grants.sql
--
-- before them make the tables, as a user who may do everything:
--
--   utilizer-exporter-clickhouse migrate
--
-- Then make users and give each one role, such as
--
--   CREATE USER exporter IDENTIFIED BY '...'; GRANT utilizer_writer TO exporter;
--
-- Another database than `utilizer` has its name in every line.

-- Writes, and changes nothing that is there. What it reads tells which rows of an insert arrived; when a version of the
-- exporter brings changes of the tables, or [retention] changes, `migrate` is run by an administrator.
CREATE ROLE IF NOT EXISTS utilizer_writer;
GRANT INSERT ON utilizer.logs TO utilizer_writer;
GRANT INSERT ON utilizer.alerts TO utilizer_writer;
GRANT SELECT(host, event_id, timestamp, ingested_at) ON utilizer.logs TO utilizer_writer;
GRANT SELECT(host, event_id, time, ingested_at) ON utilizer.alerts TO utilizer_writer;
GRANT SELECT ON utilizer.utilizer_schema_migrations TO utilizer_writer;

-- Reads: for `utilizer logs search`, `stats`, `export` and `verify`, Grafana, and people.
CREATE ROLE IF NOT EXISTS utilizer_reader;
GRANT SELECT ON utilizer.logs TO utilizer_reader;
GRANT SELECT ON utilizer.alerts TO utilizer_reader;
GRANT SELECT ON utilizer.otel_logs TO utilizer_reader;
GRANT SELECT ON utilizer.logs_hourly TO utilizer_reader;

-- Deletes: for `utilizer logs cleanup`. Nobody has it who has no need of it: audit records are lines like others.
CREATE ROLE IF NOT EXISTS utilizer_cleaner;
GRANT SELECT, ALTER DELETE ON utilizer.logs TO utilizer_cleaner;
