"""Boards of any fleet: hosts, one host, GPUs, endpoints, logs."""

from grafana import (LEVELS, NOT_ONE, NOT_ZERO, Board, bars, ch, ch_values, gauge, heatmap, high, label_values, lines,
    painted, pie,
                     prom, series, source, stat, states, table, text)

FOLDER = "utilizer"
TAGS = ["utilizer", "utilizer-system"]

# Of one host, and of those that are chosen.
HOST = 'job=~"$job",instance=~"$instance"'
REAL = 'fstype!~"tmpfs|ramfs|squashfs|iso9660|overlay|devtmpfs|nsfs|fuse.*"'


def boards():
    return [hosts(), host(), gpu(), endpoints(), logs()]


def _hosts(multi):
    return [source("prometheus"), label_values("job", "Job", "label_values(node_time_seconds, job)"),
            label_values("instance", "Host", 'label_values(node_time_seconds{job=~"$job"}, instance)', multi)]


def _busy(by="instance"):
    return f"""100 * (1 - avg by ({by}) (sum without (mode) (rate(
        node_cpu_seconds_total{{mode=~"idle|iowait",{HOST}}}[$__rate_interval]))))"""


def _memory():
    return f"100 * (1 - node_memory_MemAvailable_bytes{{{HOST}}} / node_memory_MemTotal_bytes{{{HOST}}})"


def _disk():
    return f"""100 * (node_filesystem_size_bytes{{{REAL},{HOST}}} - node_filesystem_free_bytes{{{REAL},{HOST}}})
        / (node_filesystem_size_bytes{{{REAL},{HOST}}} - node_filesystem_free_bytes{{{REAL},{HOST}}}
           + node_filesystem_avail_bytes{{{REAL},{HOST}}})"""


def hosts():
    board = Board("utilizer-hosts", "Hosts", FOLDER, TAGS, _hosts(True),
                  "All hosts side by side: who is busy, full or away.")
    board.row(
        "Fleet",
        stat("Hosts up", "short", prom('sum(up{job=~"$job"})'), desc="Hosts that answer Prometheus.", steps=NOT_ONE),
        stat("Hosts down", "short", prom('count(up{job=~"$job"} == 0) or vector(0)'), steps=NOT_ZERO),
        stat("Firing alerts", "short", prom('count(ALERTS{alertstate="firing"}) or vector(0)'), steps=NOT_ZERO,
             desc="Evaluated by the agents, or by Prometheus itself."),
        stat("CPU", "percent", prom(f"avg({_busy()})"), steps=high(75, 90), desc="Mean of the hosts chosen."),
        stat("Memory", "percent", prom(f"avg({_memory()})"), steps=high(80, 95), desc="Mean of the hosts chosen."),
        stat("Fullest file system", "percent", prom(f"max({_disk()})"), steps=high(80, 90)),
    ).row(
        "Hosts",
        table(
            "Now",
            prom(f"max by (instance) ({_busy()})", instant=True),
            prom(f"max by (instance) ({_memory()})", instant=True),
            prom(f"max by (instance) ({_disk()})", instant=True),
            prom(f"max by (instance) (node_load1{{{HOST}}})", instant=True),
            prom(f"sum by (instance) (rate(node_network_receive_bytes_total{{device!=\"lo\",{HOST}}}[$__rate_interval]))", instant=True),
            prom(f"sum by (instance) (rate(node_network_transmit_bytes_total{{device!=\"lo\",{HOST}}}[$__rate_interval]))", instant=True),
            prom(f"max by (instance) (time() - node_boot_time_seconds{{{HOST}}})", instant=True),
            w=24, h=10, desc="A click on a host opens its board.",
            transformations=[{"id": "merge", "options": {}}], hide=["Time"],
            rename={"instance": "Host", "Value #A": "CPU", "Value #B": "Memory", "Value #C": "Fullest file system",
                    "Value #D": "Load", "Value #E": "Received", "Value #F": "Sent", "Value #G": "Up since"},
            units={"CPU": "percent", "Memory": "percent", "Fullest file system": "percent", "Received": "Bps",
                   "Sent": "Bps",
                   "Up since": "dtdurations"},
            paint={"CPU": high(75, 90), "Memory": high(80, 95), "Fullest file system": high(80, 90)}, sort="CPU",
            links={"Host": ("Open the host", "/d/utilizer-host?var-instance=${__value.raw}&${__url_time_range}")},
        ),
    ).row(
        "Over time",
        series("CPU", "percent", prom(_busy(), "{{instance}}"), maximum=100, minimum=0),
        series("Memory", "percent", prom(_memory(), "{{instance}}"), maximum=100, minimum=0),
        series("Fullest file system", "percent", prom(f"max by (instance) ({_disk()})", "{{instance}}"), maximum=100,
               minimum=0),
        states("Answers Prometheus", prom('up{job=~"$job",instance=~"$instance"}', "{{instance}}")),
    )
    return board


def host():
    board = Board("utilizer-host", "Host", FOLDER, TAGS, _hosts(False),
                  "One host in detail, from node_exporter's metrics and the agent's own.")
    top = """topk(10, max by (name, pid) (%s{%s}))"""
    board.row(
        "Now",
        gauge("CPU", "percent", prom(_busy()), steps=high(75, 90),
              desc="All processors are 100; waiting for disks counts as idle."),
        gauge("Memory", "percent", prom(_memory()), steps=high(80, 95), desc="What is not available to programs."),
        gauge("Fullest file system", "percent", prom(f"max({_disk()})"), steps=high(80, 90), desc="As df has it."),
        stat("Load", "short", prom(f"node_load1{{{HOST}}}"), h=6, desc="Processes that run or wait, mean of a minute."),
        stat("Processors", "short", prom(f'count(count by (cpu) (node_cpu_seconds_total{{{HOST}}}))'), h=6,
             spark=False),
        stat("Up since", "dtdurations", prom(f"time() - node_boot_time_seconds{{{HOST}}}"), h=6, spark=False),
    ).row(
        "CPU",
        series("CPU by mode", "percentunit",
               prom(f"""sum by (mode) (rate(node_cpu_seconds_total{{mode!="idle",{HOST}}}[$__rate_interval]))
               / scalar(count(count by (cpu) (node_cpu_seconds_total{{{HOST}}})))""", "{{mode}}"), stack=True,
               minimum=0),
        series("CPU of each processor", "percent", prom(_busy("cpu"), "{{cpu}}"), maximum=100, minimum=0),
        series("Load", "short", prom(f"node_load1{{{HOST}}}", "1 min"), prom(f"node_load5{{{HOST}}}", "5 min"),
               prom(f"node_load15{{{HOST}}}", "15 min"),
               prom(f"count(count by (cpu) (node_cpu_seconds_total{{{HOST}}}))", "processors")),
        series("Waiting for CPU, disks and memory", "percentunit",
               prom(f"rate(node_pressure_cpu_waiting_seconds_total{{{HOST}}}[$__rate_interval])", "CPU"),
               prom(f"rate(node_pressure_io_waiting_seconds_total{{{HOST}}}[$__rate_interval])", "disks"),
               prom(f"rate(node_pressure_memory_waiting_seconds_total{{{HOST}}}[$__rate_interval])", "memory"), w=12,
               desc="Share of time in which some task waited (PSI; kernels without it have none)."),
        series("Switches, interrupts and new processes", "ops",
               prom(f"rate(node_context_switches_total{{{HOST}}}[$__rate_interval])", "context switches"),
               prom(f"rate(node_intr_total{{{HOST}}}[$__rate_interval])", "interrupts"),
               prom(f"rate(node_forks_total{{{HOST}}}[$__rate_interval])", "new processes"), w=12),
    ).row(
        "Memory",
        series("Memory", "bytes",
               prom(f"node_memory_MemTotal_bytes{{{HOST}}} - node_memory_MemAvailable_bytes{{{HOST}}}", "used"),
               prom(f"node_memory_MemAvailable_bytes{{{HOST}}} - node_memory_MemFree_bytes{{{HOST}}}",
                    "cache that can go"),
               prom(f"node_memory_MemFree_bytes{{{HOST}}}", "free"), stack=True, minimum=0),
        series("Swap", "bytes",
               prom(f"node_memory_SwapTotal_bytes{{{HOST}}} - node_memory_SwapFree_bytes{{{HOST}}}", "used"),
               prom(f"node_memory_SwapTotal_bytes{{{HOST}}}", "there is"), minimum=0, desc="0 on a host without swap."),
        series("Pages", "ops",
               prom(f"rate(node_vmstat_pgmajfault{{{HOST}}}[$__rate_interval])", "read from disk because of a fault"),
               prom(f"rate(node_vmstat_pswpin{{{HOST}}}[$__rate_interval])", "swapped in"),
               prom(f"rate(node_vmstat_pswpout{{{HOST}}}[$__rate_interval])", "swapped out"),
               prom(f"rate(node_vmstat_oom_kill{{{HOST}}}[$__rate_interval])", "killed for memory")),
    ).row(
        "Disks",
        bars("File systems", "percent", prom(f"max by (mountpoint) ({_disk()})", "{{mountpoint}}"), rows=False,
             steps=high(80, 90),
             minimum=0, maximum=100),
        series("Free space", "bytes",
               prom(f"max by (mountpoint) (node_filesystem_avail_bytes{{{REAL},{HOST}}})", "{{mountpoint}}"),
               minimum=0),
        series("Free inodes", "percentunit", prom(f"""max by (mountpoint) (node_filesystem_files_free{{{REAL},{HOST}}}
               / (node_filesystem_files{{{REAL},{HOST}}} > 0))""", "{{mountpoint}}"), minimum=0, maximum=1),
        series("Read and written", "Bps",
               prom(f"rate(node_disk_read_bytes_total{{{HOST}}}[$__rate_interval])", "{{device}} read"),
               prom(f"-rate(node_disk_written_bytes_total{{{HOST}}}[$__rate_interval])", "{{device}} written"),
               desc="Written is drawn downwards."),
        series("Time of a request", "s",
               prom(f"""rate(node_disk_read_time_seconds_total{{{HOST}}}[$__rate_interval])
                    / (rate(node_disk_reads_completed_total{{{HOST}}}[$__rate_interval]) > 0)""", "{{device}} read"),
               prom(f"""rate(node_disk_write_time_seconds_total{{{HOST}}}[$__rate_interval])
                    / (rate(node_disk_writes_completed_total{{{HOST}}}[$__rate_interval]) > 0)""",
                    "{{device}} written")),
        series("Disks busy", "percentunit",
               prom(f"rate(node_disk_io_time_seconds_total{{{HOST}}}[$__rate_interval])", "{{device}}"),
               minimum=0, desc="Share of time with a request under way; fast disks do several at once."),
    ).row(
        "Network",
        series("Received and sent", "Bps",
               prom(f"rate(node_network_receive_bytes_total{{device!=\"lo\",{HOST}}}[$__rate_interval])",
                    "{{device}} received"),
               prom(f"-rate(node_network_transmit_bytes_total{{device!=\"lo\",{HOST}}}[$__rate_interval])",
                    "{{device}} sent"),
               desc="Sent is drawn downwards."),
        series("Errors and drops", "pps",
               prom(f"""sum by (device) (rate(node_network_receive_errs_total{{{HOST}}}[$__rate_interval])
                    + rate(node_network_transmit_errs_total{{{HOST}}}[$__rate_interval]))""", "{{device}} errors"),
               prom(f"""sum by (device) (rate(node_network_receive_drop_total{{{HOST}}}[$__rate_interval])
                    + rate(node_network_transmit_drop_total{{{HOST}}}[$__rate_interval]))""", "{{device}} dropped")),
        series("TCP", "short", prom(f"node_netstat_Tcp_CurrEstab{{{HOST}}}", "connections"),
               prom(f"rate(node_netstat_Tcp_RetransSegs{{{HOST}}}[$__rate_interval])",
                    "segments sent again, per second"),
               prom(f"rate(node_netstat_TcpExt_ListenOverflows{{{HOST}}}[$__rate_interval])",
                    "refused for a full queue, per second")),
    ).row(
        "Processes",
        bars("CPU", "percent", prom(top % ("utilizer_process_cpu_percent", HOST), "{{name}} ({{pid}})", True), h=10,
             desc="The ten busiest over the agent's last interval; one processor is 100."),
        bars("Memory", "bytes",
             prom(top % ("utilizer_process_resident_memory_bytes", HOST), "{{name}} ({{pid}})", True), h=10),
        series("Processes and open files", "short", prom(f"node_procs_running{{{HOST}}}", "running"),
               prom(f"node_procs_blocked{{{HOST}}}", "waiting for disks"),
               prom(f"node_filefd_allocated{{{HOST}}}", "open files"), h=10),
    ).row(
        "The agent",
        stat("Collectors that fail", "short", prom(f"count(utilizer_collector_success{{{HOST}}} == 0) or vector(0)"),
             steps=NOT_ZERO),
        stat("Broker", "short", prom(f"utilizer_mqtt_connected{{{HOST}}}"), steps=NOT_ONE, spark=False,
             desc="1: connected."),
        stat("Records waiting", "short", prom(f"sum(utilizer_spool_records{{{HOST}}})"),
             desc="On the host's disk, until every store has them."),
        stat("A pass takes", "s", prom(f"utilizer_sampler_pass_duration_seconds{{{HOST}}}")),
        stat("Its memory", "bytes", prom(f"process_resident_memory_bytes{{{HOST}}}")),
        stat("Its CPU", "percentunit", prom(f"rate(process_cpu_seconds_total{{{HOST}}}[$__rate_interval])"),
             decimals=3),
    )
    return board


def gpu():
    own = 'job=~"$job",instance=~"$instance",GPU_I_ID=""'
    legend = "{{instance}} {{gpu}}"
    board = Board("utilizer-gpu", "GPUs", FOLDER, TAGS, [
        source("prometheus"), label_values("job", "Job", "label_values(utilizer_gpu_load, job)"),
        label_values("instance", "Host", 'label_values(utilizer_gpu_load{job=~"$job"}, instance)')],
        "NVIDIA's GPUs by dcgm-exporter's names; AMD's have load and memory only. Empty where no host has a GPU.")
    board.row(
        "Now",
        stat("GPUs", "short", prom(f"count(utilizer_gpu_load{{{HOST}}})"), spark=False),
        stat("Away from their bus", "short", prom(f"count(utilizer_gpu_up{{{HOST}}} == 0) or vector(0)"),
             steps=NOT_ZERO,
             desc="They were there and answer no more."),
        gauge("Load", "percent", prom(f"avg(utilizer_gpu_load{{{HOST}}})"), h=4, desc="Mean of all."),
        gauge("Memory", "percent", prom(f"""100 * sum(utilizer_gpu_memory_used_bytes{{{HOST}}})
              / sum(utilizer_gpu_memory_total_bytes{{{HOST}}})"""), h=4, steps=high(90, 97)),
        stat("Hottest", "celsius", prom(f"max(utilizer_gpu_temperature_celsius{{{HOST}}})"), steps=high(85, 92)),
        stat("Power", "watt", prom(f"sum(utilizer_gpu_power_watts{{{HOST}}})")),
    ).row(
        "Each GPU",
        table("Now", prom(f"max by (instance, gpu, name) (utilizer_gpu_load{{{HOST}}})", instant=True),
              prom(f"max by (instance, gpu, name) (utilizer_gpu_memory_percent{{{HOST}}})", instant=True),
              prom(f"max by (instance, gpu, name) (utilizer_gpu_temperature_celsius{{{HOST}}})", instant=True),
              prom(f"max by (instance, gpu, name) (utilizer_gpu_power_watts{{{HOST}}})", instant=True), w=24,
              transformations=[{"id": "merge", "options": {}}], hide=["Time"],
              rename={"instance": "Host", "gpu": "GPU", "name": "Model", "Value #A": "Load", "Value #B": "Memory",
                      "Value #C": "Temperature", "Value #D": "Power"},
              units={"Load": "percent", "Memory": "percent", "Temperature": "celsius", "Power": "watt"},
              paint={"Memory": high(90, 97), "Temperature": high(85, 92)}, sort="Load"),
        series("Load", "percent", prom(f"utilizer_gpu_load{{{HOST}}}", legend), minimum=0, maximum=100),
        series("Memory", "bytes", prom(f"utilizer_gpu_memory_used_bytes{{{HOST}}}", legend), minimum=0),
        series("Temperature", "celsius", prom(f"utilizer_gpu_temperature_celsius{{{HOST}}}", legend),
               steps=high(85, 92)),
        series("Power", "watt", prom(f"utilizer_gpu_power_watts{{{HOST}}}", legend), minimum=0),
    ).row(
        "NVIDIA",
        series("Clock of the processors", "rotmhz", prom(f"DCGM_FI_DEV_SM_CLOCK{{{own}}}", legend), desc="Megahertz."),
        series("Encoder and decoder", "percent", prom(f"DCGM_FI_DEV_ENC_UTIL{{{own}}}", legend + " encoder"),
               prom(f"DCGM_FI_DEV_DEC_UTIL{{{own}}}", legend + " decoder"), minimum=0, maximum=100),
        series("Slowed down", "percentunit",
               prom(f"rate(DCGM_FI_DEV_THERMAL_VIOLATION{{{own}}}[$__rate_interval]) / 1e9", legend + " by heat"),
               prom(f"rate(DCGM_FI_DEV_POWER_VIOLATION{{{own}}}[$__rate_interval]) / 1e9", legend + " by power"),
               minimum=0,
               desc="Share of time; DCGM counts nanoseconds."),
        series("Memory errors", "short", prom(f"DCGM_FI_DEV_ECC_SBE_VOL_TOTAL{{{own}}}", legend + " corrected"),
               prom(f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{own}}}", legend + " not corrected")),
        table("XID errors", prom(f"sum by (instance, gpu, xid) (increase(utilizer_gpu_xid_errors_total{{{HOST}}}[$__range]))", instant=True),
              w=8, hide=["Time"], rename={"instance": "Host", "gpu": "GPU", "xid": "XID", "Value": "In the time range"},
              desc="What the driver reported. NVIDIA's documentation says what each number means."),
        bars("Memory by process", "bytes",
             prom(f"topk(10, max by (instance, gpu, name, pid) (utilizer_gpu_process_memory_bytes{{{HOST}}}))",
             "{{name}} ({{pid}})", True)),
    )
    return board


def endpoints():
    probes = 'probe=~"$probe"'
    board = Board("utilizer-endpoints", "Endpoints", FOLDER, TAGS, [
        source("prometheus"), label_values("probe", "Probe", "label_values(probe_success, probe)")],
        "What the agents' probes find, and whether scraped applications answer. Needs [[probe]] tables: docs/probes.md.")
    board.row(
        "Now",
        stat("Answer", "short", prom(f"count(probe_success{{{probes}}} == 1) or vector(0)")),
        stat("Do not answer", "short", prom(f"count(probe_success{{{probes}}} == 0) or vector(0)"), steps=NOT_ZERO),
        stat("Slowest", "s", prom(f"max(probe_duration_seconds{{{probes}}})"), steps=high(1, 3)),
        stat("First certificate ends in", "s", prom(f"min(probe_ssl_earliest_cert_expiry{{{probes}}}) - time()"),
             spark=False,
             steps=low_days(), desc="Of all probes that speak TLS."),
        stat("Targets up", "short", prom("sum(up)"),
             desc="What Prometheus scrapes."),
        stat("Targets down", "short", prom("count(up == 0) or vector(0)"), steps=NOT_ZERO),
    ).row(
        "Probes",
        states("Answer as they should", prom(f"max by (probe, target) (probe_success{{{probes}}})", "{{probe}}")),
        series("Duration", "s", prom(f"max by (probe) (probe_duration_seconds{{{probes}}})", "{{probe}}"), table=True,
               right=True, w=12),
        series("Where HTTP spends it", "s",
               prom(f"avg by (phase) (probe_http_duration_seconds{{{probes}}})", "{{phase}}"), stack=True, w=12),
        table("Endpoints", prom(f"max by (probe, kind, target) (probe_success{{{probes}}})", instant=True),
              prom(f"max by (probe, kind, target) (probe_duration_seconds{{{probes}}})", instant=True),
              prom(f"max by (probe, kind, target) (avg_over_time(probe_success{{{probes}}}[$__range]))", instant=True),
              prom(f"max by (probe, kind, target) (probe_http_status_code{{{probes}}})", instant=True), w=24,
              transformations=[{"id": "merge", "options": {}}], hide=["Time"],
              rename={"probe": "Probe", "kind": "Kind", "target": "Target", "Value #A": "Answers",
                      "Value #B": "Duration",
                      "Value #C": "Available", "Value #D": "HTTP status"},
              units={"Duration": "s", "Available": "percentunit"},
              paint={"Answers": NOT_ONE, "Available": [(None, "red"), (0.999, "green")]},
              desc="Available: share of the time range in which it answered."),
    ).row(
        "Servers that are asked",
        series("PostgreSQL: connections", "short", prom("sum by (state) (pg_stat_activity_count)", "{{state}}"),
               stack=True,
               desc="By a probe of kind postgres."),
        series("Redis: memory", "bytes", prom("redis_memory_used_bytes", "{{probe}}"), minimum=0,
               desc="By a probe of kind redis."),
        series("Redis: operations", "ops", prom("redis_instantaneous_ops_per_sec", "{{probe}}"), minimum=0),
    )
    return board


def low_days():
    """Red within three days, orange within two weeks."""
    return [(None, "red"), (3 * 86400, "orange"), (14 * 86400, "green")]


# Where a choice is "All", the plugin asks nothing of that column.
CHOSEN = """$__timeFilter(timestamp)
        AND $__conditionalAll(service_name IN (${service:sqlstring}), $service)
        AND $__conditionalAll(host IN (${host:sqlstring}), $host)
        AND $__conditionalAll(level IN (${level:sqlstring}), $level)
        AND $__conditionalAll(category IN (${category:sqlstring}), $category)
        AND positionCaseInsensitive(message, ${search:sqlstring}) > 0
        AND startsWith(trace_id, ${trace:sqlstring})"""


def log_variables():
    def column(name, label, of):
        return ch_values(name, label, f"SELECT DISTINCT {of} FROM logs WHERE $__timeFilter(timestamp) ORDER BY {of}")
    return [source("clickhouse"), column("service", "Service", "service_name"), column("host", "Host", "host"),
            column("level", "Level", "level"), column("category", "Category", "category"), text("search", "Text"),
            text("trace", "Trace")]


def logs():
    board = Board("utilizer-logs", "Logs", FOLDER, TAGS, log_variables(),
                  "Lines of logs in ClickHouse: how many, how bad, how slow, and the lines.",
                  since="now-1h")
    board.row(
        "Now",
        stat("Lines", "short", ch(f"SELECT count() AS lines FROM logs WHERE {CHOSEN}")),
        stat("Errors", "short", ch(f"SELECT countIf(level IN ('ERROR', 'FATAL')) AS errors FROM logs WHERE {CHOSEN}"),
             steps=NOT_ZERO),
        stat("Share of errors", "percentunit", ch(f"""SELECT countIf(level IN ('ERROR', 'FATAL')) / count() AS share
             FROM logs WHERE {CHOSEN} HAVING count() > 0"""), steps=high(0.01, 0.05)),
        stat("Services", "short", ch(f"SELECT uniq(service_name) AS services FROM logs WHERE {CHOSEN}")),
        stat("Latency, p95", "ms", ch(f"""SELECT quantile(0.95)(latency_ms) AS p95 FROM logs
             WHERE {CHOSEN} AND latency_ms IS NOT NULL HAVING count() > 0""")),
        stat("Arrive after", "s",
             ch(f"""SELECT quantile(0.95)(greatest(dateDiff('second', timestamp, ingested_at), 0)) AS seconds
             FROM logs WHERE {CHOSEN} HAVING count() > 0"""),
             desc="Between a line's own time and its row, p95; old files that are read late count too."),
    ).row(
        "How many",
        series("Lines by level", "short",
               ch(f"""SELECT $__timeInterval(timestamp) AS time, level AS metric, count() AS lines
               FROM logs WHERE {CHOSEN} GROUP BY time, metric ORDER BY time""", "timeseries"), w=24, bars=True,
               stack=True,
               overrides=painted(LEVELS)),
        series("Share of errors", "percentunit",
               ch(f"""SELECT $__timeInterval(timestamp) AS time, service_name AS metric,
               countIf(level IN ('ERROR', 'FATAL')) / count() AS share FROM logs WHERE {CHOSEN}
               GROUP BY time, metric ORDER BY time""", "timeseries"), w=12, minimum=0, steps=high(0.01, 0.05),
               desc="By service."),
        pie("Lines by service", "short",
            ch(f"""SELECT service_name AS service, count() AS lines FROM logs WHERE {CHOSEN}
            GROUP BY service ORDER BY lines DESC LIMIT 12"""), w=12),
    ).row(
        "How slow",
        table("Latency by service",
              ch(f"""SELECT service_name AS service, count() AS requests, quantile(0.5)(latency_ms) AS p50,
              quantile(0.95)(latency_ms) AS p95, quantile(0.99)(latency_ms) AS p99 FROM logs
              WHERE {CHOSEN} AND latency_ms IS NOT NULL GROUP BY service ORDER BY p99 DESC"""),
              units={"p50": "ms", "p95": "ms", "p99": "ms"}),
        latencies(CHOSEN),
    ).row(
        "What",
        table("Most frequent errors",
              ch(f"""SELECT message, any(service_name) AS service, count() AS occurrence, max(timestamp) AS last
              FROM logs WHERE {CHOSEN} AND level IN ('ERROR', 'FATAL') GROUP BY message ORDER BY occurrence DESC LIMIT
              20"""),
              w=24, widths={"occurrence": 120, "service": 180, "last": 180}),
        lines("Lines", ch(f"""SELECT timestamp, message AS body, level, mapUpdate(CAST(fields,
        'Map(String, String)'),
              map('service', service_name, 'host', host, 'logger', logger, 'category', category, 'trace_id', trace_id,
              'request_id', request_id, 'event_id', event_id)) AS labels
              FROM logs WHERE {CHOSEN} ORDER BY timestamp DESC LIMIT 500""", "logs"), desc="The newest 500."),
    )
    return board


def latencies(condition):
    """How long requests took, in steps that double."""
    return heatmap("How latency is distributed", "ms", ch(f"""SELECT $__timeInterval(timestamp) AS time,
        leftPad(toString(exp2(ceil(log2(greatest(assumeNotNull(latency_ms), 1))))), 7, ' ') AS metric, count() AS
        requests FROM logs
        WHERE {condition} AND latency_ms IS NOT NULL GROUP BY time, metric ORDER BY time, metric""", "timeseries"),
        name="${__field.labels.metric}",
        desc="A row has the requests that took at most so many milliseconds, and more than the row below.")
