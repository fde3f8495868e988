#!/usr/bin/env bash
# BRIN or B-tree on recap_system_metrics.recorded_at: what each costs to fill and what it saves in questions.
#
#   tools/bench-recorded-at-index.sh [ROWS]       (default 2000000, over 8 day partitions)
#
# Starts a PostgreSQL of its own in a temporary folder with the exporter's schema, fills it by COPY in
# transactions of 5,000 rows, and asks the questions that dashboards ask, each three times (the best counts).
set -euo pipefail
cd "$(dirname "$0")/.."

rows=${1:-2000000}
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[[ -x $bin/initdb ]] || { echo "PostgreSQL is missing: apt-get install postgresql" >&2; exit 1; }

folder=$(mktemp -d)
as=()
if ((EUID == 0)); then
    chown postgres "$folder"
    as=(runuser -u postgres --)
fi
trap '"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate -s stop || true; rm -rf "$folder"' EXIT
cd "$folder"
"${as[@]}" "$bin/initdb" -D "$folder/data" -A trust -U postgres >"$folder/log"
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -s -w -l "$folder/server.log" \
    -o "-k $folder -c listen_addresses='' -c max_wal_size=4GB -c jit=off" start
sql() { psql -X -q -v ON_ERROR_STOP=1 -h "$folder" -U postgres -d "$1" "${@:2}"; }

migration=$OLDPWD/exporter-postgres/migrations
for kind in brin btree; do
    sql postgres -c "CREATE DATABASE $kind"
    cat "$migration"/*.sql | sql "$kind"
    if [[ $kind == brin ]]; then
        sql brin -c "DROP INDEX recap_system_metrics_recorded_at" \
            -c "CREATE INDEX recap_system_metrics_recorded_at ON recap_system_metrics USING brin (recorded_at)"
    fi
    for day in 0 1 2 3 4 5 6 7; do
        echo "SELECT format('CREATE TABLE d$day PARTITION OF recap_system_metrics FOR VALUES FROM (%L) TO (%L)',
            date_trunc('day', now()) - interval '$((7 - day)) days', date_trunc('day', now()) - interval '$((6 - day)) days') \\gexec"
    done | sql "$kind" -f -
done

# 40 gauges of 100 hosts a moment, spread over the days; the same file for both.
sql brin -c "COPY (SELECT 'host:web-' || n % 100, (ARRAY['cpu','memory','disk','network'])[1 + n % 4],
    'gauge_' || n % 40, random() * 100, jsonb_build_object('host', 'web-' || n % 100),
    date_trunc('day', now()) - interval '7 days' + (n / 4000) * (interval '8 days' / ($rows / 4000 + 1))
    FROM generate_series(0, $rows - 1) AS n) TO STDOUT CSV" >"$folder/rows.csv"
split -l 5000 "$folder/rows.csv" "$folder/part."
for part in "$folder"/part.*; do
    echo "\\copy recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at) FROM '$part' CSV"
done >"$folder/fill.sql"

echo "| | fill, rows/s | index bytes | last hour of a gauge, ms | 7-day average per stage, ms | newest 20 rows, ms |"
echo "|---|---|---|---|---|---|"
for kind in brin btree; do
    begun=$(date +%s%N)
    sql "$kind" -f "$folder/fill.sql"
    speed=$((rows * 1000 / (($(date +%s%N) - begun) / 1000000)))
    sql "$kind" -c "VACUUM ANALYZE recap_system_metrics"
    bytes=$(sql "$kind" -At -c "SELECT sum(pg_relation_size(i.indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_am a ON a.oid = c.relam JOIN pg_attribute t ON t.attrelid = i.indexrelid AND t.attnum = 1
        WHERE t.attname = 'recorded_at' AND c.relkind = 'i'")
    best() {
        for _ in 1 2 3; do
            printf '\\timing on\n%s;\n' "$1" | sql "$kind" -At -f - | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
        done | sort -n | head -n 1
    }
    hour=$(best "SELECT recorded_at, metric_value FROM recap_system_metrics WHERE job_id = 'host:web-7' AND metric_name = 'gauge_7'
        AND recorded_at > date_trunc('day', now()) + interval '23 hours' ORDER BY recorded_at DESC")
    week=$(best "SELECT stage, avg(metric_value) FROM recap_system_metrics WHERE metric_name = 'gauge_7'
        AND recorded_at > now() - interval '7 days' GROUP BY stage")
    newest=$(best "SELECT * FROM recap_system_metrics ORDER BY recorded_at DESC LIMIT 20")
    echo "| $kind | $speed | $bytes | $hour | $week | $newest |"
done
