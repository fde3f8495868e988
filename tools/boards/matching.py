"""MATCHING: the host, the way from the edge to the data, how fast and how right. Prometheus' metrics, and logs of the
edge functions."""

from grafana import (LEVELS, NOT_ONE, NOT_ZERO, Board, ch, ch_values, gauge, heatmap, high, label_values, painted, prom,
    series, source, stat,
                     states, table)
from system import latencies

FOLDER = "MATCHING"
TAGS = ["utilizer", "matching"]

JOB = 'job=~"$job"'
CPU, MEMORY, DISK = high(85, 90), high(80, 95), high(85, 95)
OF_SERVICES = "$__timeFilter(timestamp) AND service_name IN (${service:sqlstring})"
ERRORS = f"""sum(rate(adult_matching_requests_total{{status=~"5..",{JOB}}}[$__rate_interval])) /
sum(rate(adult_matching_requests_total{{{JOB}}}[$__rate_interval]))"""


def boards():
    return [system(), integration(), performance()]


def _job():
    return [source("prometheus"), label_values("job", "Job", 'label_values({__name__=~"adult_matching_.+"}, job)')]


def system():
    board = Board("matching-system", "1 System", FOLDER, TAGS, _job(),
                  "The host under the backend, its database, its load.", since="now-3h")
    board.row(
        "Now",
        gauge("CPU", "percent", prom("max(adult_matching_system_cpu_percent)"), steps=CPU),
        gauge("Memory", "percent", prom("max(adult_matching_system_memory_percent)"), steps=MEMORY),
        gauge("Fullest disk", "percent", prom("max(adult_matching_system_disk_percent)"), steps=DISK),
        stat("DB connections", "short", prom(f"sum(adult_matching_db_connections{{{JOB}}})"), h=6),
        stat("Requests", "reqps", prom(f"sum(rate(adult_matching_requests_total{{{JOB}}}[$__rate_interval]))"), h=6),
        stat("Firing alerts", "short", prom('count(ALERTS{alertstate="firing"}) or vector(0)'), h=6, steps=NOT_ZERO),
    ).row(
        "Host",
        series("CPU", "percent", prom("adult_matching_system_cpu_percent", "{{instance}}"), steps=CPU, minimum=0,
               maximum=100,
               desc="By the recording rules of config/examples/matching."),
        series("Memory", "percent", prom("adult_matching_system_memory_percent", "{{instance}}"), steps=MEMORY,
               minimum=0, maximum=100),
        series("Disks", "percent",
               prom("max by (instance, mountpoint) (adult_matching_system_disk_percent)",
                    "{{instance}} {{mountpoint}}"),
               steps=DISK, minimum=0, maximum=100),
    ).row(
        "Database and requests",
        series("DB connections", "short",
               prom(f"sum by (instance) (adult_matching_db_connections{{{JOB}}})", "{{instance}}"),
               prom("sum(pg_stat_activity_count)", "PostgreSQL, by a probe"), w=12, minimum=0),
        series("Requests by status", "reqps",
               prom(f"sum by (status) (rate(adult_matching_requests_total{{{JOB}}}[$__rate_interval]))",
                                                   "{{status}}"), w=12, stack=True, minimum=0),
    )
    return board


def integration():
    board = Board("matching-integration", "2 Integration", FOLDER, TAGS, [*_job(), source("clickhouse"), ch_values(
        "service", "Service",
        "SELECT DISTINCT service_name FROM logs WHERE $__timeFilter(timestamp) ORDER BY service_name")],
        "Whether edge functions, backend, model and data belong together still.", since="now-6h")
    board.row(
        "Now",
        stat("Endpoints down", "short", prom("count(probe_success == 0) or vector(0)"), steps=NOT_ZERO),
        stat("Backends down", "short", prom(f"count(up{{{JOB}}} == 0) or vector(0)"), steps=NOT_ZERO),
        stat("Model loaded", "short", prom(f"count(adult_matching_ml_model_accuracy{{{JOB}}}) or vector(0)"),
             steps=NOT_ONE, spark=False,
             desc="Backends that show an accuracy of their model."),
        stat("Edge requests in 2 h", "short", prom(f"sum(increase(adult_matching_edge_requests_total{{{JOB}}}[2h]))"),
             steps=NOT_ONE,
             desc="None means that the flow of data stands still."),
        stat("Edge errors", "percentunit",
             prom(f"""sum(rate(adult_matching_edge_errors_total{{{JOB}}}[$__rate_interval]))
             / sum(rate(adult_matching_edge_requests_total{{{JOB}}}[$__rate_interval]))"""), steps=high(0.05, 0.1)),
        stat("End-to-end test", "short", prom(f"min(adult_matching_e2e_test_success{{{JOB}}})"), steps=NOT_ONE,
             spark=False, desc="1: passed."),
    ).row(
        "Edge functions",
        series("Requests", "reqps",
               prom(f"sum by (function) (rate(adult_matching_edge_requests_total{{{JOB}}}[$__rate_interval]))",
                    "{{function}}"),
               minimum=0),
        series("Duration", "ms",
               prom(f"avg by (__name__, function) ({{__name__=~\"adult_matching_edge_.+_duration_ms\",{JOB}}})",
                                      "{{__name__}} {{function}}"), minimum=0),
        series("Errors", "reqps",
               prom(f"sum by (function) (rate(adult_matching_edge_errors_total{{{JOB}}}[$__rate_interval]))",
                    "{{function}}"),
               minimum=0),
        series("Lines of functions by level", "short",
               ch(f"""SELECT $__timeInterval(timestamp) AS time, level AS metric, count() AS lines
               FROM logs WHERE {OF_SERVICES} GROUP BY time, metric ORDER BY time""", "timeseries"), w=12, bars=True,
               stack=True,
               overrides=painted(LEVELS)),
        table("Most frequent errors",
              ch(f"""SELECT service_name AS service, message, count() AS occurrence, max(timestamp) AS last FROM logs
              WHERE {OF_SERVICES} AND level IN ('ERROR', 'FATAL') GROUP BY service, message ORDER BY occurrence DESC
              LIMIT 10""")),
    ).row(
        "Backend, ML pipeline, data flow",
        states("Backends", prom(f"max by (job, instance) (up{{{JOB}}})", "{{job}} {{instance}}"), w=12, h=6),
        states("Endpoints", prom("max by (probe) (probe_success)", "{{probe}}"), w=12, h=6),
        series("Model's accuracy", "percentunit",
               prom(f"min by (instance) (adult_matching_ml_model_accuracy{{{JOB}}})", "{{instance}}"),
               minimum=0, maximum=1),
        series("Time of a recommendation", "s", prom(f"""histogram_quantile(0.95, sum by (le)
               (rate(adult_matching_recommendation_latency_seconds_bucket{{{JOB}}}[$__rate_interval])))""", "p95"),
               minimum=0),
        series("Data that came through", "short",
               prom(f"sum(increase(adult_matching_edge_requests_total{{{JOB}}}[2h]))", "requests in 2 hours"),
               minimum=0),
    )
    return board


def performance():
    quantile = f"histogram_quantile(%s, sum by (le) (rate(adult_matching_request_duration_seconds_bucket{{{JOB}}}[$__rate_interval])))"
    board = Board("matching-performance", "3 Performance", FOLDER, TAGS, [*_job(), source("clickhouse"), ch_values(
        "service", "Service",
        "SELECT DISTINCT service_name FROM logs WHERE $__timeFilter(timestamp) ORDER BY service_name")],
        "How fast, how much, how often wrong.", since="now-6h")
    board.row(
        "Now",
        stat("Response time, p95", "s", prom(quantile % "0.95"), w=6, steps=high(2, 5)),
        stat("Requests", "reqps", prom(f"sum(rate(adult_matching_requests_total{{{JOB}}}[$__rate_interval]))"), w=6),
        stat("Share of errors", "percentunit", prom(ERRORS), w=6, steps=high(0.05, 0.1),
             desc="Answers with a status of 500 and more."),
        stat("Model's accuracy", "percentunit", prom(f"min(adult_matching_ml_model_accuracy{{{JOB}}})"), w=6,
             decimals=1),
    ).row(
        "Response time",
        heatmap("How response time is distributed", "s", prom(f"""sum by (le) (increase(
                adult_matching_request_duration_seconds_bucket{{{JOB}}}[$__rate_interval]))""", "{{le}}")),
        series("Quantiles", "s", prom(quantile % "0.5", "p50"), prom(quantile % "0.95", "p95"),
               prom(quantile % "0.99", "p99"), w=12,
               steps=high(2, 5), minimum=0),
        latencies(OF_SERVICES),
        series("Recommendations", "s", *(prom(f"""histogram_quantile({q}, sum by (le)
               (rate(adult_matching_recommendation_latency_seconds_bucket{{{JOB}}}[$__rate_interval])))""",
               f"p{q * 100:.0f}")
               for q in (0.5, 0.95, 0.99)), w=12, minimum=0),
    ).row(
        "Throughput, errors, accuracy",
        series("Throughput", "reqps",
               prom(f"sum by (instance) (rate(adult_matching_requests_total{{{JOB}}}[$__rate_interval]))",
                    "{{instance}}"),
               minimum=0),
        series("Share of errors", "percentunit", prom(ERRORS, "5xx"), steps=high(0.05, 0.1), minimum=0),
        series("Model's accuracy", "percentunit",
               prom(f"min by (instance) (adult_matching_ml_model_accuracy{{{JOB}}})", "{{instance}}"),
               minimum=0, maximum=1),
    )
    return board
