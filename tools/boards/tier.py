"""Boards of the way that records take, and of alerts."""

from grafana import (LEVELS, NOT_ZERO, Board, bars, high, label_values, painted, pg, pg_values, pie, prom, series,
    source, stat, states,
    table)

FOLDER = "utilizer"
TAGS = ["utilizer", "utilizer-system"]

AGENT = 'instance=~"$instance"'
TIER = 'job=~"$exporter"'


def boards():
    return [tier(), alerts()]


def tier():
    board = Board("utilizer-tier", "Tier", FOLDER, TAGS, [
        source("prometheus"),
        label_values("instance", "Host", "label_values(utilizer_build_info, instance)"),
        label_values("exporter", "Exporter", "label_values(utilizer_exporter_sink_ready, job)"),
    ], "Whether records reach the stores: from the hosts' disks over the broker to the exporters' rows. Prometheus must scrape the agents "
       "and the exporters.")
    board.row(
        "Now",
        stat("Agents", "short", prom(f"count(utilizer_build_info{{{AGENT}}})"), spark=False),
        stat("Agents without broker", "short", prom(f"count(utilizer_mqtt_connected{{{AGENT}}} == 0) or vector(0)"),
             steps=NOT_ZERO),
        stat("Groups waited for in vain", "short",
             prom(f"count(count by (group) (utilizer_group_online{{{AGENT}}} == 0)) or vector(0)"),
             steps=NOT_ZERO, desc="Groups of exporters that look offline to some host."),
        stat("Stores that take nothing", "short",
             prom(f"count(utilizer_exporter_sink_ready{{{TIER}}} == 0) or vector(0)"), steps=NOT_ZERO),
        stat("Oldest record on a host", "s", prom(f"max(utilizer_spool_oldest_seconds{{{AGENT}}})"),
             steps=high(300, 3600)),
        stat("Lag of the stores", "s", prom(f"max(utilizer_exporter_spool_oldest_age_seconds{{{TIER}}})"),
             steps=high(60, 300),
             desc="Age of the oldest record that an exporter has and did not write yet."),
        stat("Records lost", "short", prom(f"sum(increase(utilizer_records_dropped_total{{{AGENT}}}[$__range]))"),
             steps=NOT_ZERO,
             desc="Given up and declared by agents, in the time range."),
        stat("Dead letters", "short", prom(f"sum(increase(utilizer_exporter_dead_letters_total{{{TIER}}}[$__range]))"),
             steps=NOT_ZERO,
             desc="Messages and rows that no store can take, in the time range."),
        stat("Rows per second", "cps",
             prom(f"sum(rate(utilizer_exporter_rows_written_total{{{TIER}}}[$__rate_interval]))")),
        stat("Records per second", "cps", prom(f"sum(rate(utilizer_records_total{{{AGENT}}}[$__rate_interval]))")),
        stat("Sent again", "percentunit",
             prom(f"""sum(rate(utilizer_records_retransmitted_total{{{AGENT}}}[$__rate_interval]))
             / sum(rate(utilizer_records_acknowledged_total{{{AGENT}}}[$__rate_interval]))"""), steps=high(0.05, 0.2),
             desc="Share of the publishes that repeat one."),
        stat("Firing alerts", "short", prom(f"sum(utilizer_agent_alerts{{alertstate=\"firing\",{AGENT}}})"),
             steps=NOT_ZERO),
    ).row(
        "Agents: spools",
        series("Records waiting", "short", prom(f"sum by (kind) (utilizer_spool_records{{{AGENT}}})", "{{kind}}"),
               stack=True, minimum=0,
               desc="On the disks of all hosts chosen, until every group has them."),
        series("Spools that are fullest", "percentunit",
               prom(f"""topk(10, sum by (instance) (utilizer_spool_bytes{{{AGENT}}})
               / max by (instance) (utilizer_spool_limit_bytes{{{AGENT}}}))""", "{{instance}}"), minimum=0, maximum=1,
               steps=high(0.5, 0.8)),
        series("Oldest record", "s",
               prom(f"topk(10, max by (instance) (utilizer_spool_oldest_seconds{{{AGENT}}}))", "{{instance}}"),
               minimum=0),
        series("Records", "cps",
               prom(f"sum by (kind) (rate(utilizer_records_total{{{AGENT}}}[$__rate_interval]))", "{{kind}}"),
               minimum=0),
        series("Freed", "cps",
               prom(f"sum by (kind) (rate(utilizer_records_freed_total{{{AGENT}}}[$__rate_interval]))", "{{kind}}"),
               minimum=0, desc="Records that every group has. Over time as many as are made."),
        series("Given up or refused", "cps",
               prom(f"sum by (kind) (rate(utilizer_records_dropped_total{{{AGENT}}}[$__rate_interval]))",
                    "{{kind}} given up"),
               prom(f"sum by (kind) (rate(utilizer_records_refused_total{{{AGENT}}}[$__rate_interval]))",
                    "{{kind}} refused"), minimum=0),
    ).row(
        "Exporters",
        states("Store takes writes",
               prom(f"min by (job, instance) (utilizer_exporter_sink_ready{{{TIER}}})", "{{job}} {{instance}}"), w=12,
               h=6),
        states("Broker", prom(f"min by (job, instance) (utilizer_exporter_mqtt_connected{{{TIER}}})",
            "{{job}} {{instance}}"), w=12, h=6),
        series("Rows", "cps",
               prom(f"sum by (job, table) (rate(utilizer_exporter_rows_written_total{{{TIER}}}[$__rate_interval]))",
                                   "{{job}} {{table}}"), minimum=0),
        series("Messages", "cps",
               prom(f"sum by (job, kind) (rate(utilizer_exporter_messages_received_total{{{TIER}}}[$__rate_interval]))",
                                       "{{job}} {{kind}}"), minimum=0),
        series("A write takes", "s", prom(f"""histogram_quantile(0.5, sum by (job, le)
               (rate(utilizer_exporter_write_duration_seconds_bucket{{{TIER}}}[$__rate_interval])))""", "{{job}} p50"),
               prom(f"""histogram_quantile(0.99, sum by (job, le)
               (rate(utilizer_exporter_write_duration_seconds_bucket{{{TIER}}}[$__rate_interval])))""", "{{job}} p99"),
               minimum=0),
        series("Records in their spools", "short",
               prom(f"sum by (job) (utilizer_exporter_spool_records{{{TIER}}})", "{{job}}"), minimum=0),
        series("Lag", "s", prom(f"max by (job) (utilizer_exporter_spool_oldest_age_seconds{{{TIER}}})", "{{job}}"),
               minimum=0,
               steps=high(60, 300)),
        series("Retries, duplicates, refusals", "cps",
               prom(f"sum by (job) (rate(utilizer_exporter_retries_total{{{TIER}}}[$__rate_interval]))",
                    "{{job}} retries"),
               prom(f"sum by (job) (rate(utilizer_exporter_duplicates_total{{{TIER}}}[$__rate_interval]))",
                    "{{job}} duplicates"),
               prom(f"sum by (job) (rate(utilizer_exporter_refused_total{{{TIER}}}[$__rate_interval]))",
                    "{{job}} refused"), minimum=0),
        series("A sync of the spool takes", "s", prom(f"""histogram_quantile(0.99, sum by (job, le)
               (rate(utilizer_exporter_spool_sync_duration_seconds_bucket{{{TIER}}}[$__rate_interval])))""",
               "{{job}} p99"), minimum=0),
        series("Dead letters", "short",
               prom(f"""sum by (job, reason) (increase(utilizer_exporter_dead_letters_total{{{TIER}}}[$__rate_interval]))
               > 0 or sum by (job) (0 * utilizer_exporter_sink_ready{{{TIER}}})""", "{{job}} {{reason}}"), minimum=0),
        series("Declared lost by hosts", "short",
               prom(f"sum by (reason) (increase(utilizer_exporter_lost_total{{{TIER}}}[$__rate_interval]))",
                                                       "{{reason}}"), minimum=0),
    ).row(
        "Agents: lines of logs",
        series("Lines by level", "cps",
               prom(f"sum by (level) (rate(utilizer_log_lines_total{{{AGENT}}}[$__rate_interval]))",
               "{{level}}"), minimum=0, stack=True, desc="Of all inputs and of what is pushed, before any is left out.",
               overrides=painted(LEVELS)),
        series("Left out on purpose", "cps",
               prom(f"sum by (why) (rate(utilizer_log_left_out_total{{{AGENT}}}[$__rate_interval]))",
               "{{why}}"), minimum=0, desc="By rules, sampling and limits of [[logs]]."),
        series("Strange lines", "cps",
               prom(f"sum by (input) (rate(utilizer_log_strange_lines_total{{{AGENT}}}[$__rate_interval]))",
                    "{{input}} not in its format"),
               prom(f"sum by (time) (rate(utilizer_log_bad_times_total{{{AGENT}}}[$__rate_interval]))",
                    "time: {{time}}"),
               prom(f"sum(rate(utilizer_log_redacted_total{{{AGENT}}}[$__rate_interval]))", "with something hidden"),
               minimum=0),
        series("Files not read yet", "bytes",
               prom(f"sum by (input) (utilizer_agent_logs_behind_bytes{{{AGENT}}})", "{{input}}"), w=12, h=6, minimum=0,
               desc="Bytes of [[logs]] files that are not on the host's own disk for sending."),
        series("Failed logins and other users' rights", "short",
               prom(f"sum by (instance) (increase(utilizer_log_failed_logins_total{{{AGENT}}}[$__rate_interval]))",
                    "{{instance}} failed logins"),
               prom(f"sum by (instance) (increase(utilizer_log_privilege_escalations_total{{{AGENT}}}[$__rate_interval]))",
                    "{{instance}} sudo and su"), w=12, h=6, bars=True, minimum=0,
               desc="Where an input counts them: `failed_logins` and `sudo` of [[logs]]."),
    ).row(
        "Agents: what they cost",
        series("CPU", "percentunit", prom(f"""topk(10, rate(process_cpu_seconds_total{{{AGENT}}}[$__rate_interval])
               and on (job, instance) utilizer_build_info)""", "{{instance}}"), minimum=0,
               desc="Share of one processor."),
        series("Memory", "bytes", prom(f"""topk(10, process_resident_memory_bytes{{{AGENT}}}
               and on (job, instance) utilizer_build_info)""", "{{instance}}"), minimum=0),
        series("A pass takes", "s",
               prom(f"topk(10, utilizer_sampler_pass_duration_seconds{{{AGENT}}})", "{{instance}}"), minimum=0),
        series("Collectors that fail", "short",
               prom(f"count by (collector) (utilizer_collector_success{{{AGENT}}} == 0) or vector(0)",
                                                     "{{collector}}"), minimum=0, desc="Hosts by collector."),
        series("Slowest collectors", "s",
               prom(f"topk(10, max by (collector) (utilizer_collector_duration_seconds{{{AGENT}}}))",
                                               "{{collector}}"), minimum=0),
        series("Rules", "s", prom(f"topk(10, rate(utilizer_agent_rule_evaluation_seconds_total{{{AGENT}}}[$__rate_interval]))", "{{instance}}"),
               minimum=0, desc="Time per second that evaluations take."),
    )
    return board


def alerts():
    rows = """$__timeFilter(time) AND host IN (${host:sqlstring}) AND severity IN (${severity:sqlstring})"""
    board = Board("utilizer-alerts", "Alerts", FOLDER, TAGS, [
        source("postgres"), source("prometheus"),
        pg_values("host", "Host", "SELECT DISTINCT host FROM alerts ORDER BY host"),
        pg_values("severity", "Severity", "SELECT DISTINCT severity FROM alerts ORDER BY severity"),
    ], "What fires, what fired, and how notifications went. From PostgreSQL's alerts and the agents' own metrics.",
    since="now-24h")
    latest = f"""SELECT DISTINCT ON (fingerprint) fingerprint, state, time, host, severity, alert_name, annotations,
    active_at
                 FROM alerts WHERE {rows} AND state IN ('firing', 'resolved') ORDER BY fingerprint, time DESC, id
                 DESC"""
    board.row(
        "Now",
        stat("Firing", "short", pg(f"SELECT count(*) AS firing FROM ({latest}) AS latest WHERE state = 'firing'"),
             steps=NOT_ZERO, spark=False,
             desc="Alerts whose last transition in the time range was their beginning."),
        stat("Critical", "short",
             pg(f"SELECT count(*) AS critical FROM ({latest}) AS latest WHERE state = 'firing' AND severity = 'critical'"),
             steps=NOT_ZERO, spark=False),
        stat("Began", "short", pg(f"SELECT count(*) AS began FROM alerts WHERE {rows} AND state = 'firing'"),
             spark=False,
             desc="In the time range."),
        stat("Last, median", "s",
             pg(f"""SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - active_at)) AS
             seconds
             FROM alerts WHERE {rows} AND state = 'resolved' AND resolved_at IS NOT NULL"""), spark=False),
        stat("Notifications waiting", "short", prom("sum(utilizer_notify_waiting) or vector(0)"), steps=high(5, 50)),
        stat("Notifications given up", "short",
             prom("sum(increase(utilizer_notify_given_up_total[$__range])) or vector(0)"), steps=NOT_ZERO),
    ).row(
        "What fires",
        table("Firing", pg(f"""SELECT active_at AS since, severity, alert_name AS alert, host, annotations->>'summary'
        AS summary,
              annotations->>'action' AS action FROM ({latest}) AS latest WHERE state = 'firing'
              ORDER BY array_position(ARRAY['critical', 'warning', 'info'], severity), active_at DESC"""), w=24,
              widths={"since": 170, "severity": 90, "host": 140}),
    ).row(
        "What fired",
        series("Beginnings", "short",
               pg(f"""SELECT $__timeGroupAlias(time, $__interval), severity AS metric, count(*) AS alerts
               FROM alerts WHERE {rows} AND state = 'firing' GROUP BY 1, 2 ORDER BY 1""", series=True), w=12, bars=True,
               stack=True,
               interval="5m"),
        pie("By host", "short", pg(f"""SELECT host, count(*) AS alerts FROM alerts WHERE {rows} AND state = 'firing'
            GROUP BY host ORDER BY alerts DESC LIMIT 10""")),
        bars("Most frequent", "short",
             pg(f"""SELECT alert_name AS alert, count(*) AS alerts FROM alerts WHERE {rows} AND state = 'firing'
             GROUP BY alert_name ORDER BY alerts DESC LIMIT 10"""), w=6),
        table("Transitions", pg(f"""SELECT time, state, severity, alert_name AS alert, host, value,
        annotations->>'summary' AS summary
              FROM alerts WHERE {rows} ORDER BY time DESC LIMIT 200"""), w=24, h=10,
              widths={"time": 170, "state": 90, "severity": 90, "host": 140}),
    ).row(
        "Notifications",
        series("Sent", "cps",
               prom("sum by (integration) (rate(utilizer_notify_sent_total[$__rate_interval]))", "{{integration}}"),
               minimum=0,
               desc="By agents with [notify]."),
        series("Tried again", "cps",
               prom("sum by (integration) (rate(utilizer_notify_retries_total[$__rate_interval]))", "{{integration}}"),
               minimum=0),
        states("Agents reach their broker", prom("min by (instance) (utilizer_mqtt_connected)", "{{instance}}"), w=8),
    )
    return board
