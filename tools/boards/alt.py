"""ALT: the recap pipeline, its classification, jobs, hosts and logs. Rows of PostgreSQL, and ClickHouse's logs."""

from grafana import (NOT_ZERO, STATUSES, Board, bars, ch, gauge, high, low, painted, pg, pg_values, pie, series, source,
    stat, table, text)
from system import CHOSEN, latencies, log_variables

FOLDER = "ALT"
TAGS = ["utilizer", "alt"]

IN_RANGE = "$__timeFilter(recorded_at)"
# What jobs report, and not what hosts do.
OF_JOBS = f"{IN_RANGE} AND job_id NOT LIKE 'host:%' AND stage IN (${{stage:sqlstring}})"


def boards():
    return [recap(), classification(), system(), jobs(), logs()]


def recap():
    board = Board("alt-recap", "Recap overview", FOLDER, TAGS,
                  [source("postgres"), pg_values("stage", "Stage", """SELECT DISTINCT stage
        FROM recap_system_metrics WHERE job_id NOT LIKE 'host:%' AND $__timeFilter(recorded_at) ORDER BY stage""")],
        "The newest runs of the pipeline, how they ended, and how long their stages took.", since="now-24h")
    board.row(
        "In the time range",
        stat("Runs", "short", pg(f"SELECT count(DISTINCT job_id) AS runs FROM recap_system_metrics WHERE {OF_JOBS}"),
             spark=False),
        stat("Articles", "short", pg(f"""SELECT sum(metric_value) AS articles FROM recap_system_metrics
             WHERE {OF_JOBS} AND metric_name = 'articles_processed'"""), spark=False),
        stat("Mean processing time", "ms", pg(f"""SELECT avg(metric_value) AS mean FROM recap_system_metrics
             WHERE {OF_JOBS} AND metric_name = 'processing_time_ms'"""), spark=False, desc="Of a stage."),
        stat("Clusters", "short", pg(f"""SELECT sum(metric_value) AS clusters FROM recap_system_metrics
             WHERE {OF_JOBS} AND metric_name = 'clusters_created'"""), spark=False),
        stat("Silhouette", "short", pg(f"""SELECT avg(metric_value) AS silhouette FROM recap_system_metrics
             WHERE {OF_JOBS} AND metric_name = 'silhouette_score'"""), spark=False, decimals=2, steps=low(0.25, 0.5),
             desc="How well the clusters are apart: 1 is best."),
        stat("Admin jobs failed", "short",
             pg("SELECT count(*) AS failed FROM admin_jobs WHERE status = 'failed' AND $__timeFilter(created_at)"),
             spark=False, steps=NOT_ZERO),
    ).row(
        "Jobs",
        table("Recent jobs", pg(f"""SELECT job_id, min(recorded_at) AS first, max(recorded_at) AS last,
              count(DISTINCT stage) AS stages, sum(metric_value) FILTER (WHERE metric_name = 'articles_processed') AS
              articles,
              sum(metric_value) FILTER (WHERE metric_name = 'processing_time_ms') AS "processing time"
              FROM recap_system_metrics WHERE {OF_JOBS} GROUP BY job_id ORDER BY last DESC LIMIT 50"""), w=16, h=10,
              units={"processing time": "ms"}),
        pie("Status distribution", "short", pg("""SELECT status, count(*) AS jobs FROM admin_jobs
            WHERE $__timeFilter(created_at) GROUP BY status ORDER BY jobs DESC"""), w=8, h=10, colors=STATUSES,
            desc="Of the admin jobs created in the time range."),
    ).row(
        "Processing time",
        bars("By stage", "ms", pg(f"""SELECT stage, avg(metric_value) AS mean FROM recap_system_metrics
             WHERE {OF_JOBS} AND metric_name = 'processing_time_ms' GROUP BY stage ORDER BY mean DESC"""),
             desc="Mean in the time range."),
        series("Over time", "ms",
               pg(f"""SELECT $__timeGroupAlias(recorded_at, $__interval), stage AS metric, avg(metric_value) AS mean
               FROM recap_system_metrics WHERE {OF_JOBS} AND metric_name = 'processing_time_ms' GROUP BY 1, 2 ORDER BY
               1""", series=True),
               minimum=0, interval="1m"),
        series("Articles processed", "short",
               pg(f"""SELECT $__timeGroupAlias(recorded_at, $__interval), stage AS metric, sum(metric_value) AS articles
               FROM recap_system_metrics WHERE {OF_JOBS} AND metric_name = 'articles_processed' GROUP BY 1, 2 ORDER BY
               1""", series=True),
               bars=True, stack=True, minimum=0, interval="5m"),
    )
    return board


def classification():
    of_all = f"{IN_RANGE} AND stage = 'classification' AND metadata->>'genre' IS NULL"

    def newest(name):
        return pg(f"""SELECT metric_value AS value FROM recap_system_metrics WHERE {of_all} AND metric_name = '{name}'
                  ORDER BY recorded_at DESC LIMIT 1""")

    def trend(name):
        return pg(f"""SELECT $__timeGroupAlias(recorded_at, 1d), '{name}' AS metric, avg(metric_value) AS mean FROM
        recap_system_metrics
                  WHERE {of_all} AND metric_name = '{name}' GROUP BY 1 ORDER BY 1""", series=True)

    board = Board("alt-classification", "Classification metrics", FOLDER, TAGS, [source("postgres")],
                  "How well articles are classified. A row with `metadata.genre` is about one genre, `metadata.confusion` has a matrix.",
                  since="now-30d", refresh="5m")
    board.row(
        "Newest",
        gauge("F1", "percentunit", newest("f1_score"), maximum=1, steps=low(0.7, 0.8), h=8),
        gauge("Accuracy", "percentunit", newest("accuracy"), maximum=1, steps=low(0.7, 0.8), h=8),
        bars("F1 by genre", "percentunit", pg(f"""SELECT genre, f1 FROM (
             SELECT DISTINCT ON (metadata->>'genre') metadata->>'genre' AS genre, metric_value AS f1 FROM
             recap_system_metrics
             WHERE {IN_RANGE} AND stage = 'classification' AND metric_name = 'f1_score' AND metadata->>'genre' IS NOT
             NULL
             ORDER BY metadata->>'genre', recorded_at DESC) AS newest ORDER BY f1 DESC"""), minimum=0, maximum=1,
             steps=low(0.7, 0.8), w=16),
    ).row(
        "Where it errs",
        table("Confusion matrix",
              pg(f"""WITH newest AS (SELECT metadata->'confusion' AS confusion FROM recap_system_metrics
              WHERE {IN_RANGE} AND stage = 'classification' AND metadata->'confusion' IS NOT NULL ORDER BY recorded_at
              DESC LIMIT 1)
              SELECT confusion->'labels'->>(actual.place - 1)::int AS actual, confusion->'labels'->>(predicted.place -
              1)::int AS predicted,
              predicted.articles::float AS articles
              FROM newest, jsonb_array_elements(confusion->'counts') WITH ORDINALITY AS actual(counts, place),
              jsonb_array_elements_text(actual.counts) WITH ORDINALITY AS predicted(articles, place)
              ORDER BY actual.place, predicted.place"""), w=12, h=10,
              desc="Rows: what an article is. Columns: what it was taken for.",
              transformations=[{"id": "groupingToMatrix", "options": {"rowField": "actual", "columnField": "predicted",
                                                                      "valueField": "articles",
                                                                      "emptyValue": "zero"}}]),
        series("Articles classified", "short",
               pg(f"""SELECT $__timeGroupAlias(recorded_at, 1d), 'articles' AS metric, sum(metric_value) AS articles
               FROM recap_system_metrics WHERE {of_all} AND metric_name = 'articles_classified' GROUP BY 1 ORDER BY
               1""", series=True),
               w=12, h=10, bars=True, minimum=0),
    ).row(
        "Trend",
        series("F1 and accuracy", "percentunit", trend("f1_score"), trend("accuracy"), w=12, minimum=0, maximum=1,
               desc="Mean of each day."),
        series("F1 by genre", "percentunit",
               pg(f"""SELECT $__timeGroupAlias(recorded_at, 1d), metadata->>'genre' AS metric, avg(metric_value) AS mean
               FROM recap_system_metrics WHERE {IN_RANGE} AND stage = 'classification' AND metric_name = 'f1_score'
               AND metadata->>'genre' IS NOT NULL GROUP BY 1, 2 ORDER BY 1""", series=True), w=12, minimum=0,
               maximum=1),
    )
    return board


def system():
    own = f"{IN_RANGE} AND job_id IN (${{host:sqlstring}})"

    def newest(stage, name):
        return pg(f"""SELECT avg(metric_value) AS value FROM (
                  SELECT DISTINCT ON (job_id, metadata) metric_value FROM recap_system_metrics
                  WHERE {own} AND stage = '{stage}' AND metric_name = '{name}'
                  ORDER BY job_id, metadata, recorded_at DESC) AS newest""")

    def over_time(stage, name, label="replace(job_id, 'host:', '')"):
        return pg(f"""SELECT $__timeGroupAlias(recorded_at, $__interval), {label} AS metric, avg(metric_value) AS value
                  FROM recap_system_metrics WHERE {own} AND stage = '{stage}' AND metric_name = '{name}' GROUP BY 1, 2
                  ORDER BY 1""", series=True)

    of_gpu = "concat(replace(job_id, 'host:', ''), ' ', metadata->>'gpu')"
    board = Board("alt-system", "System metrics", FOLDER, TAGS, [source("postgres"), pg_values(
        "host", "Host", "SELECT host AS __text, 'host:' || host AS __value FROM hosts ORDER BY host")],
        "CPU, GPU, memory and processes from recap_system_metrics, one row a minute by default. A host without a GPU has no rows of one.")
    board.row(
        "Now",
        gauge("CPU", "percent", newest("cpu", "cpu_percent"), steps=high(80, 90)),
        gauge("Memory", "percent", newest("memory", "memory_percent"), steps=high(85, 95)),
        gauge("GPU", "percent", newest("gpu", "gpu_load"), desc="Mean of the GPUs; empty without one."),
        gauge("GPU memory", "percent", newest("gpu", "gpu_memory_percent"), steps=high(90, 97),
              desc="Empty without a GPU."),
        stat("Memory used", "bytes", newest("memory", "memory_used_bytes"), h=6, spark=False),
        stat("Memory there is", "bytes", newest("memory", "memory_total_bytes"), h=6, spark=False),
    ).row(
        "Over time",
        series("CPU", "percent", over_time("cpu", "cpu_percent"), minimum=0, maximum=100, interval="1m"),
        series("Memory", "percent", over_time("memory", "memory_percent"), minimum=0, maximum=100, interval="1m"),
        series("GPU", "percent", over_time("gpu", "gpu_load", of_gpu), minimum=0, maximum=100, interval="1m",
               desc="Empty without a GPU."),
        series("Disks", "percent",
               over_time("disk", "disk_percent", "concat(replace(job_id, 'host:', ''), ' ', metadata->>'mountpoint')"),
               minimum=0, maximum=100, interval="1m"),
        series("Network, received", "Bps", over_time("network", "network_receive_bytes_per_second",
               "concat(replace(job_id, 'host:', ''), ' ', metadata->>'device')"), minimum=0, interval="1m"),
        series("GPU memory", "bytes", over_time("gpu", "gpu_memory_used_bytes", of_gpu), minimum=0, interval="1m",
               desc="Empty without a GPU."),
    ).row(
        "Processes",
        table("Processes", pg(f"""WITH newest AS (SELECT job_id, max(recorded_at) AS at FROM recap_system_metrics
              WHERE {own} AND stage = 'process' GROUP BY job_id)
              SELECT replace(job_id, 'host:', '') AS host, (metadata->>'pid')::bigint AS pid, metadata->>'name' AS name,
              max(metric_value) FILTER (WHERE metric_name = 'cpu_percent') AS cpu,
              max(metric_value) FILTER (WHERE metric_name = 'memory_percent') AS memory
              FROM recap_system_metrics JOIN newest USING (job_id) WHERE recorded_at = at AND stage = 'process' AND
              {own}
              GROUP BY 1, 2, 3 ORDER BY cpu DESC NULLS LAST LIMIT 20"""), w=24, h=10,
              units={"cpu": "percent", "memory": "percent", "pid": "none"},
              desc="The twenty busiest of the newest interval; one processor is 100. Needs `[rows] processes = true` at the exporter."),
    )
    return board


def jobs():
    created = "$__timeFilter(created_at) AND job_type IN (${type:sqlstring})"
    waits = "coalesce(started_at, $__timeTo()::timestamptz) - created_at"
    board = Board("alt-jobs", "Job queue", FOLDER, TAGS, [source("postgres"), pg_values(
        "type", "Type", "SELECT DISTINCT job_type FROM admin_jobs ORDER BY job_type"), text("search", "Text")],
        "Admin jobs: what waits, what runs, what failed and why. Creating and retrying is the API's, not Grafana's.",
        since="now-7d")
    board.row(
        "Now",
        *(stat(status.capitalize(), "short",
               pg(f"SELECT count(*) AS jobs FROM admin_jobs WHERE {created} AND status = '{status}'"), w=4,
               spark=False, steps=NOT_ZERO if status == "failed" else [(None, color)]) for status,
               color in STATUSES.items()),
        stat("Longest wait", "s", pg(f"""SELECT coalesce(max(extract(epoch FROM {waits})), 0) AS seconds FROM admin_jobs
             WHERE {created} AND status = 'pending'"""), spark=False, steps=high(300, 3600)),
        stat("Takes, median", "s",
             pg(f"""SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - started_at))
             AS seconds
             FROM admin_jobs WHERE {created} AND completed_at IS NOT NULL AND started_at IS NOT NULL"""), spark=False),
    ).row(
        "Queue",
        table("Pending and running",
              pg(f"""SELECT id, job_type AS type, status, created_by AS by, created_at AS created,
              extract(epoch FROM {waits}) AS waited, parameters::text AS parameters
              FROM admin_jobs WHERE {created} AND status IN ('pending', 'running') ORDER BY created_at"""), w=24,
              units={"waited": "s", "id": "none"},
              widths={"id": 80, "type": 120, "status": 100, "by": 120, "created": 170, "waited": 110}),
        table("Failed", pg(f"""SELECT id, job_type AS type, created_by AS by, created_at AS created, completed_at AS
        ended,
              error_message AS error, parameters::text AS parameters, result::text AS result FROM admin_jobs
              WHERE {created} AND status = 'failed' AND strpos(coalesce(error_message, ''), ${{search:sqlstring}}) > 0
              ORDER BY created_at DESC LIMIT 100"""), w=24, units={"id": "none"},
              widths={"id": 80, "type": 120, "by": 120, "created": 170, "ended": 170}),
    ).row(
        "Over time",
        series("Created, by status now", "short",
               pg(f"""SELECT $__timeGroupAlias(created_at, $__interval), status AS metric, count(*) AS jobs
               FROM admin_jobs WHERE {created} GROUP BY 1, 2 ORDER BY 1""", series=True), w=12, bars=True, stack=True,
               interval="1h",
               overrides=painted(STATUSES)),
        table("By type", pg(f"""SELECT job_type AS type, count(*) AS jobs, count(*) FILTER (WHERE status = 'failed') AS
        failed,
              avg(extract(epoch FROM completed_at - started_at)) AS takes, max(created_at) AS newest
              FROM admin_jobs WHERE {created} GROUP BY job_type ORDER BY jobs DESC"""), w=12, units={"takes": "s"}),
    )
    return board


def logs():
    board = Board("alt-logs", "Log analysis", FOLDER, TAGS, log_variables(),
                  "The three questions to the logs: errors an hour, latency, frequent errors.",
                  since="now-24h", refresh="1m")
    board.row(
        "Errors",
        series("Error rate by hour", "percent", ch(f"""SELECT toStartOfHour(timestamp) AS time, 'errors' AS metric,
               countIf(level = 'ERROR') / count() * 100 AS error_rate FROM logs WHERE {CHOSEN} GROUP BY time ORDER BY
               time""", "timeseries"),
               w=12, minimum=0, steps=high(1, 5)),
        series("Errors and lines by hour", "short",
               ch(f"""SELECT toStartOfHour(timestamp) AS time, if(level = 'ERROR', 'errors', 'others') AS metric,
               count() AS lines FROM logs WHERE {CHOSEN} GROUP BY time, metric ORDER BY time""", "timeseries"), w=12,
               bars=True, stack=True,
               overrides=painted({"errors": "#f2495c", "others": "#73bf69"})),
        table("Frequent errors",
              ch(f"""SELECT message, count() AS occurrence FROM logs WHERE {CHOSEN} AND level = 'ERROR'
              GROUP BY message ORDER BY occurrence DESC LIMIT 10"""), w=24, widths={"occurrence": 120}),
    ).row(
        "Latency",
        table("By service", ch(f"""SELECT service_name, quantile(0.5)(latency_ms) AS p50, quantile(0.95)(latency_ms) AS
        p95,
              quantile(0.99)(latency_ms) AS p99 FROM logs WHERE {CHOSEN} AND latency_ms IS NOT NULL
              GROUP BY service_name ORDER BY p99 DESC"""), units={"p50": "ms", "p95": "ms", "p99": "ms"}),
        latencies(CHOSEN),
        series("p95 by service", "ms",
               ch(f"""SELECT $__timeInterval(timestamp) AS time, service_name AS metric, quantile(0.95)(latency_ms) AS
               p95
               FROM logs WHERE {CHOSEN} AND latency_ms IS NOT NULL GROUP BY time, metric ORDER BY time""",
               "timeseries"), w=24, minimum=0),
    )
    return board
