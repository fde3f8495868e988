"""DAYTRADE: the accuracy watch, the ML service, the data, the business. Prometheus' metrics, and logs with their
latencies.

Shares (accuracy, quality, rates of success, coverage) are between 0 and 1, durations in seconds.
"""

from grafana import (LEVELS, NOT_ZERO, Board, bars, ch, ch_values, gauge, high, label_values, low, painted, prom,
    series, source, stat,
                     states, table)
from system import latencies

FOLDER = "DAYTRADE"
TAGS = ["utilizer", "daytrade"]

# The service promises this.
ACCURACY = [(None, "red"), (0.93, "green")]
JOB = 'job=~"$job"'
OF_SERVICES = "$__timeFilter(timestamp) AND service_name IN (${service:sqlstring})"
SERVICES = 'job=~"ml-service|data-service|scheduler-service|postgresql|redis"'


def boards():
    return [overview(), ml(), quality(), business()]


def _variables(metric, logs=False):
    variables = [source("prometheus"), label_values("job", "Job", f"label_values({metric}, job)")]
    if logs:
        variables += [source("clickhouse"), ch_values("service", "Service", """SELECT DISTINCT service_name FROM logs
                      WHERE $__timeFilter(timestamp) ORDER BY service_name""")]
    return variables


def accuracy(title="Accuracy", expr=None, **more):
    expr = expr or f"min(ml_ensemble_accuracy{{{JOB}}})"
    return gauge(title, "percentunit", prom(expr), steps=ACCURACY, minimum=0.8, maximum=1, decimals=2, **more)


def overview():
    board = Board("daytrade-overview", "1 Overview", FOLDER, TAGS,
                  _variables('{__name__=~"ml_.+|data_.+|scheduler_.+"}', logs=True),
                  "Whether the ensemble keeps its 93 %, and whether everything that it needs is up.", since="now-3h")
    board.row(
        "Accuracy",
        accuracy("Accuracy now", desc="At least 93 %.", h=8),
        series("Accuracy against 93 %", "percentunit", prom(f"min(ml_ensemble_accuracy{{{JOB}}})", "ensemble"), w=12,
               steps=ACCURACY,
               minimum=0.8, maximum=1),
        stat("Kept its 93 %", "percentunit",
             prom(f"avg_over_time((min(ml_ensemble_accuracy{{{JOB}}}) >= bool 0.93)[$__range:1m])"), h=8,
             steps=[(None, "red"), (0.95, "green")],
             desc="Share of the time range; more than 95 % of a month are promised."),
        stat("Confidence", "percentunit", prom(f"avg(ml_prediction_confidence{{{JOB}}})"), h=8),
    ).row(
        "Services",
        states("Up", prom(f"max by (job) (up{{{SERVICES}}})", "{{job}}"),
               prom("max by (probe) (probe_success)", "{{probe}}"), w=16,
               desc="Scraped services, and what probes ask."),
        stat("Services down", "short", prom(f"count(max by (job) (up{{{SERVICES}}}) == 0) or vector(0)"),
             steps=NOT_ZERO, h=8),
        stat("Firing alerts", "short", prom('count(ALERTS{alertstate="firing"}) or vector(0)'), steps=NOT_ZERO, h=8),
    ).row(
        "Predictions",
        series("Response time", "s", prom(f"avg(ml_prediction_duration{{{JOB}}})", "mean"),
               prom(f"max(ml_prediction_duration{{{JOB}}})", "slowest"),
               steps=[(None, "green"), (0.5, "red")], minimum=0, desc="Below half a second."),
        series("Requests", "reqps", prom(f"sum by (job) (ml_prediction_throughput{{{JOB}}})", "{{job}}"), minimum=0),
        series("Share of errors", "percentunit",
               ch(f"""SELECT $__timeInterval(timestamp) AS time, service_name AS metric,
               countIf(level IN ('ERROR', 'FATAL')) / count() AS share FROM logs WHERE {OF_SERVICES}
               GROUP BY time, metric ORDER BY time""", "timeseries"), minimum=0,
               desc="Of the lines that each service logs."),
    ).row(
        "Resources",
        series("CPU", "percent", prom("node_cpu_usage", "{{instance}}"), steps=high(85, 95), minimum=0, maximum=100,
               desc="By the recording rules of config/examples/daytrade."),
        series("Memory", "percent", prom("node_memory_usage", "{{instance}}"), steps=high(90, 95), minimum=0,
               maximum=100),
        series("Disks", "percent",
               prom("max by (instance, mountpoint) (node_disk_usage)", "{{instance}} {{mountpoint}}"), minimum=0,
               maximum=100),
        series("Network", "Bps", prom("node_network_io", "{{instance}}"), minimum=0,
               desc="Received and sent together."),
        series("PostgreSQL", "short",
               prom(f"sum(postgresql_connections{{{JOB}}}) or sum(pg_stat_activity_count)", "connections"), minimum=0,
               desc="As the application counts them, else as a probe does."),
        series("Redis", "bytes", prom(f"sum(redis_memory_usage{{{JOB}}}) or sum(redis_memory_used_bytes)", "memory"),
               minimum=0),
    ).row(
        "Workflows",
        stat("Active workflows", "short", prom(f"sum(scheduler_active_workflows{{{JOB}}})")),
        stat("Tasks succeed", "percentunit", prom(f"min(scheduler_task_success_rate{{{JOB}}})"), steps=low(0.98),
             decimals=1, desc="At least 98 %."),
        stat("Queue", "short", prom(f"sum(scheduler_queue_length{{{JOB}}})")),
        series("Task time", "s", prom(f"max by (job) (scheduler_task_duration{{{JOB}}})", "{{job}}"), w=12, h=4,
               minimum=0),
    )
    return board


def ml():
    board = Board("daytrade-ml", "2 ML service", FOLDER, TAGS, _variables('{__name__=~"ml_.+"}', logs=True),
                  "Models side by side, and how the service does.", since="now-12h")
    board.row(
        "Models",
        bars("Performance by model", "percentunit",
             prom(f"max by (model) (ml_model_performance{{{JOB}}})", "{{model}}"), rows=False,
             minimum=0, maximum=1, steps=ACCURACY),
        series("Performance over time", "percentunit",
               prom(f"max by (model) (ml_model_performance{{{JOB}}})", "{{model}}"), w=16, minimum=0.5,
               maximum=1, steps=ACCURACY, table=True, right=True),
        series("Accuracy and its trend", "percentunit", prom(f"min(ml_ensemble_accuracy{{{JOB}}})", "accuracy"),
               prom(f"avg_over_time(min(ml_ensemble_accuracy{{{JOB}}})[1d:5m])", "mean of a day"), w=12, steps=ACCURACY,
               minimum=0.8, maximum=1),
        series("Trend as the service has it", "short", prom(f"avg by (job) (ml_accuracy_trend{{{JOB}}})", "{{job}}"),
               w=12),
    ).row(
        "Response time",
        series("Prediction", "s", prom(f"avg(ml_prediction_duration{{{JOB}}})", "mean"),
               prom(f"max(quantile_over_time(0.95, ml_prediction_duration{{{JOB}}}[$__rate_interval]))",
                    "p95 over time"),
               steps=[(None, "green"), (0.5, "red")], minimum=0, w=12),
        latencies(f"{OF_SERVICES}"),
        table("By service", ch(f"""SELECT service_name AS service, count() AS requests, quantile(0.5)(latency_ms) AS
        p50,
              quantile(0.95)(latency_ms) AS p95, quantile(0.99)(latency_ms) AS p99 FROM logs
              WHERE {OF_SERVICES} AND latency_ms IS NOT NULL GROUP BY service ORDER BY p99 DESC"""),
              units={"p50": "ms", "p95": "ms", "p99": "ms"}, desc="From the lines' prediction_time."),
        series("Throughput and confidence", "short",
               prom(f"sum(ml_prediction_throughput{{{JOB}}})", "predictions per second"),
               prom(f"avg(ml_prediction_confidence{{{JOB}}})", "confidence"), w=12, minimum=0),
    ).row(
        "Memory and CPU",
        series("Memory of the service", "percentunit",
               prom(f"max by (job, instance) (ml_memory_usage{{{JOB}}})", "{{job}} {{instance}}"),
               w=12, minimum=0, maximum=1, steps=[(None, "green"), (0.9, "red")], desc="Below 90 %."),
        series("CPU of the service", "percentunit",
               prom(f"max by (job, instance) (ml_cpu_usage{{{JOB}}})", "{{job}} {{instance}}"),
               w=12, minimum=0, maximum=1, steps=[(None, "green"), (0.8, "red")], desc="Below 80 %."),
    ).row(
        "Errors",
        series("Lines by level", "short",
               ch(f"""SELECT $__timeInterval(timestamp) AS time, level AS metric, count() AS lines
               FROM logs WHERE {OF_SERVICES} AND level != 'DEBUG' GROUP BY time, metric ORDER BY time""", "timeseries"),
               w=12, bars=True, stack=True,
               overrides=painted(LEVELS)),
        table("Most frequent errors",
              ch(f"""SELECT message, any(logger) AS logger, count() AS occurrence, max(timestamp) AS last FROM logs
              WHERE {OF_SERVICES} AND level IN ('ERROR', 'FATAL') GROUP BY message ORDER BY occurrence DESC LIMIT
              10""")),
    )
    return board


def quality():
    quality_steps = low(0.8, 0.9)
    board = Board("daytrade-data", "3 Data quality", FOLDER, TAGS,
                  _variables('{__name__=~"data_.+|symbol_.+|market_.+"}'),
                  "Whether the data is good, whole and fresh.", since="now-12h")
    board.row(
        "Now",
        gauge("Quality", "percentunit", prom(f"min(data_quality_score{{{JOB}}})"), maximum=1, steps=quality_steps,
              desc="At least 80 %."),
        gauge("Fetches succeed", "percentunit", prom(f"min(data_fetch_success_rate{{{JOB}}})"), maximum=1,
              steps=low(0.95), desc="At least 95 %."),
        gauge("Selection efficiency", "percentunit", prom(f"avg(symbol_selection_efficiency{{{JOB}}})"), maximum=1),
        stat("Since the last update", "s", prom(f"max(data_freshness{{{JOB}}})"), h=6, steps=high(300, 900)),
        stat("Market data lags", "s", prom(f"max(market_data_lag{{{JOB}}})"), h=6, steps=high(5, 30)),
        stat("Active symbols", "short", prom(f"sum(data_symbols_active{{{JOB}}})"), h=6),
    ).row(
        "Quality",
        series("Quality", "percentunit",
               prom(f"min by (job, instance) (data_quality_score{{{JOB}}})", "{{job}} {{instance}}"), w=12,
               minimum=0, maximum=1, steps=quality_steps),
        series("Missing values", "percentunit",
               prom(f"max by (job, instance) (data_completeness{{{JOB}}})", "{{job}} {{instance}}"), w=12,
               minimum=0, maximum=1, desc="data_completeness is the share of values that are missing."),
    ).row(
        "Freshness and fetching",
        series("Since the last update", "s",
               prom(f"max by (job, instance) (data_freshness{{{JOB}}})", "{{job}} {{instance}}"), minimum=0),
        series("Market data lags", "s",
               prom(f"max by (job, instance) (market_data_lag{{{JOB}}})", "{{job}} {{instance}}"), minimum=0),
        series("Fetches succeed", "percentunit",
               prom(f"min by (job, instance) (data_fetch_success_rate{{{JOB}}})", "{{job}} {{instance}}"),
               minimum=0, maximum=1, steps=low(0.95)),
        series("A fetch takes", "s",
               prom(f"max by (job, instance) (data_fetch_duration{{{JOB}}})", "{{job}} {{instance}}"), minimum=0),
        series("Selector: efficiency", "percentunit",
               prom(f"avg by (job, instance) (symbol_selection_efficiency{{{JOB}}})", "{{job}} {{instance}}"),
               minimum=0, maximum=1),
        series("Selector: active symbols", "short",
               prom(f"sum by (job, instance) (data_symbols_active{{{JOB}}})", "{{job}} {{instance}}"), minimum=0),
    )
    return board


def business():
    kept = "avg_over_time((min(ml_ensemble_accuracy{%s}) >= bool 0.93)[%s:10m])"
    mean = "avg_over_time(min(ml_ensemble_accuracy{%s})[%s:10m])"
    board = Board("daytrade-business", "4 Business", FOLDER, TAGS,
                  _variables('{__name__=~"ml_.+|scheduler_.+|automation_.+|workflow_.+"}'),
                  "What was promised, and what was kept. Prometheus must keep a month.", since="now-7d", refresh="5m")
    spans = (("Day", "1d"), ("Week", "7d"), ("Month", "30d"))
    board.row(
        "Accuracy",
        *(accuracy(f"{name}: accuracy", mean % (JOB, span), w=4) for name, span in spans),
        *(stat(f"{name}: kept its 93 %", "percentunit", prom(kept % (JOB, span)), h=6,
               steps=[(None, "red"), (0.95, "green")], decimals=1)
          for name, span in spans),
        series("Mean accuracy", "percentunit", *(prom(mean % (JOB, span), name.lower()) for name, span in spans), w=24,
               steps=ACCURACY,
               minimum=0.8, maximum=1),
    ).row(
        "Predictions",
        stat("Predictions", "short", prom(f"sum_over_time(sum(ml_prediction_throughput{{{JOB}}})[$__range:1m]) * 60"),
             w=6, spark=False,
             desc="In the time range, from the throughput at each minute."),
        stat("Per second", "reqps", prom(f"avg_over_time(sum(ml_prediction_throughput{{{JOB}}})[$__range:1m])"), w=6,
             spark=False),
        stat("Confidence", "percentunit", prom(f"avg_over_time(avg(ml_prediction_confidence{{{JOB}}})[$__range:1m])"),
             w=6, spark=False),
        stat("Response time, p95", "s",
             prom(f"quantile_over_time(0.95, max(ml_prediction_duration{{{JOB}}})[$__range:1m])"), w=6, spark=False,
             steps=[(None, "green"), (0.5, "red")], desc="Below half a second."),
        series("Throughput", "reqps", prom(f"sum(ml_prediction_throughput{{{JOB}}})", "predictions"), w=12, minimum=0),
        series("Confidence over time", "percentunit", prom(f"avg(ml_prediction_confidence{{{JOB}}})", "mean"), w=12, minimum=0,
               maximum=1),
    ).row(
        "Automation",
        gauge("Coverage", "percentunit", prom(f"avg(automation_coverage{{{JOB}}})"), maximum=1),
        gauge("Workflows' efficiency", "percentunit", prom(f"avg(workflow_efficiency{{{JOB}}})"), maximum=1),
        gauge("Kept to the schedule", "percentunit", prom(f"avg(schedule_adherence{{{JOB}}})"), maximum=1),
        series("Automation", "percentunit", prom(f"avg(automation_coverage{{{JOB}}})", "coverage"),
               prom(f"avg(workflow_efficiency{{{JOB}}})", "efficiency"),
               prom(f"avg(schedule_adherence{{{JOB}}})", "schedule"), w=12, h=6,
               minimum=0, maximum=1),
    ).row(
        "Promises",
        table("SLA and SLO", *_promises(), w=24, h=8,
              units={"Availability of the services": "percentunit", "93 % kept in a month": "percentunit",
              "Response time, p95": "s", "Tasks succeed": "percentunit"},
              transformations=[{"id": "merge", "options": {}}], hide=["Time"],
              rename={"Value #A": "Availability of the services", "Value #B": "93 % kept in a month",
                      "Value #C": "Response time, p95",
                      "Value #D": "Tasks succeed"},
              paint={"Availability of the services": low(0.999), "93 % kept in a month": low(0.95),
                     "Response time, p95": high(0.5, 0.5),
                     "Tasks succeed": low(0.98)},
              desc="Promised: 99.9 % available, accuracy kept for more than 95 % of a month, p95 below 500 ms, 98 % of the tasks."),
        states("Services up", prom(f"max by (job) (up{{{SERVICES}}})", "{{job}}"), h=6),
    )
    return board


def _promises():
    return (prom(f"avg(avg_over_time(up{{{SERVICES}}}[30d]))", instant=True),
            prom(f"avg_over_time((min(ml_ensemble_accuracy{{{JOB}}}) >= bool 0.93)[30d:10m])", instant=True),
            prom(f"quantile_over_time(0.95, max(ml_prediction_duration{{{JOB}}})[30d:10m])", instant=True),
            prom(f"min(avg_over_time(scheduler_task_success_rate{{{JOB}}}[30d]))", instant=True))
