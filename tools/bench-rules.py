#!/usr/bin/env python3
"""How soon an alert is out, beside Prometheus, and what an agent with 100 rules takes.

    tools/bench-rules.py [REPETITIONS]     (default 36; `make bench-rules` builds what it needs first)

The agent samples and evaluates once a second, and Prometheus scrapes a page of this script and evaluates the same rule once
a second. A value is set at a random moment and taken back when both have said so.

Of the agent: the time from the sample that crosses (the time of the reading in which it stands, from the message of the
same interval) to the arrival of the transition over MQTT, as mosquitto_sub prints it; and from the change of the file on.
Of Prometheus: the time from the scrape that found the value until /api/v1/alerts, asked every 10 ms, says firing; and from
the change on. Each includes what each takes to see the value: half an interval on average.

Needs Debian's mosquitto, mosquitto-clients and prometheus.
"""

import http.server
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
AGENT = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"), "release", "utilizer-agent")
REPETITIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 36
# Both spread groups over the interval by their names.
GROUPS = 10
RULE = "groups:\n" + "".join(
    f"- name: g{at}\n  interval: 1s\n  rules:\n  - {{alert: High{at}, expr: t_value > 10}}\n" for at in range(GROUPS)
)


def need(program, package):
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin")
    if not path:
        sys.exit(f"{program} is missing: apt-get install {package}")
    return path


def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def wait_for(what, condition, seconds=30, pause=0.005):
    end = time.time() + seconds
    while True:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        if time.time() > end:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(pause)


class Page(http.server.BaseHTTPRequestHandler):
    """What Prometheus scrapes: the value, and when it was first seen."""

    value, crossed = 0, None

    def do_GET(self):
        if Page.value > 10 and Page.crossed is None:
            Page.crossed = time.time()
        body = f"t_value {Page.value}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def hundred():
    """Alerts as hosts have them."""
    rules = []
    for at in range(100):
        expr = [
            f"node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.{at:02}1",
            f"sum without (cpu, mode) (rate(node_cpu_seconds_total{{mode!=\"idle\"}}[5m])) > {at + 100}",
            f"predict_linear(node_filesystem_avail_bytes[1h], {at}) < 0 and node_filesystem_readonly == 0",
            f"node_load1 > {at + 1000}",
            f"rate(node_network_receive_errs_total[{at + 2}m]) > 1",
        ][at % 5]
        rules.append(f"  - {{alert: A{at}, expr: '{expr}', for: 5m, annotations: {{summary: '{{{{ $value }}}}'}}}}\n")
    return "groups:\n- name: g\n  rules:\n" + "".join(rules)


def rss(pid):
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}


def table(name, values):
    values = sorted(1000 * value for value in values)
    p99 = values[min(len(values) - 1, round(0.99 * (len(values) - 1)))]
    print(f"{name:58} median {statistics.median(values):5.0f}  p99 {p99:5.0f}  max {values[-1]:5.0f} ms")


def main():
    folder = tempfile.mkdtemp(prefix="bench-rules-")
    running = []

    def path(name, text=None):
        full = os.path.join(folder, name)
        if text is not None:
            with open(full + ".new", "w") as file:
                file.write(text)
            os.rename(full + ".new", full)
        return full

    def start(*command, **keys):
        child = subprocess.Popen(command, stderr=open(path("log"), "a"), **keys)
        running.append(child)
        return child

    def agent(name, rules, interval):
        spool, textfiles = path(f"{name}-spool"), path(name)
        os.makedirs(textfiles, exist_ok=True)
        config = path(
            f"{name}.toml",
            f'host = "{name}"\ninterval = "{interval}"\n[serve]\nlisten = "127.0.0.1:0"\n[path]\ntextfile = "{textfiles}"\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker}"\n[spool]\ndirectory = "{spool}"\n[rules]\nfiles = ["{rules}"]\n',
        )
        return start(AGENT, "--config", config, stdout=subprocess.DEVNULL)

    try:
        broker, page, web = free_port(), free_port(), free_port()
        start(need("mosquitto", "mosquitto"), "-p", str(broker))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", page), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rules = path("rule.yml", RULE)
        times = "{scrape_interval: 1s, evaluation_interval: 1s}"
        path(
            "prometheus.yml",
            f"global: {times}\nrule_files: [{rules}]\nscrape_configs:\n- job_name: node\n  static_configs:\n"
            f"  - targets: ['127.0.0.1:{page}']\n",
        )
        start(
            need("prometheus", "prometheus"),
            f"--config.file={path('prometheus.yml')}",
            f"--storage.tsdb.path={path('tsdb')}",
            f"--web.listen-address=127.0.0.1:{web}",
            stdout=subprocess.DEVNULL,
        )
        wait_for("Prometheus", lambda: get(f"http://127.0.0.1:{web}/-/ready"))
        listen = start(
            need("mosquitto_sub", "mosquitto-clients"),
            *("-V", "5", "-p", str(broker), "-q", "1", "-F", "%U %t %p", "-t", "utilizer/v1/telemetry/bench/alerts"),
            *("-t", "utilizer/v1/telemetry/bench/metrics"),
            stdout=subprocess.PIPE,
            text=True,
        )
        alerts, readings = [], []

        def hear():
            for line in listen.stdout:
                at, topic, payload = line.split(" ", 2)
                message = json.loads(payload)
                if topic.endswith("/alerts"):
                    alerts.append((float(at), message))
                else:
                    when = time.mktime(time.strptime(message["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
                    readings.append(when + float("0" + message["time"][19:].rstrip("Z") or 0))

        threading.Thread(target=hear, daemon=True).start()
        many = agent("many", path("hundred.yml", hundred()), "10s")
        agent("bench", rules, "1s")
        wait_for("the agent", lambda: readings)

        def both(value):
            Page.value, Page.crossed = value, None
            path("bench/value.prom", f"t_value {value}\n")
            return time.time()

        def firing():
            found = json.loads(get(f"http://127.0.0.1:{web}/api/v1/alerts"))["data"]["alerts"]
            return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

        both(0)
        ours, ours_all, theirs, theirs_all = [], [], [], []
        for _ in range(REPETITIONS):
            time.sleep(random.random())
            alerts.clear()
            begun = both(20)
            seen = {}
            while len(alerts) < GROUPS or len(seen) < GROUPS:
                for name in firing():
                    seen.setdefault(name, time.time())
                time.sleep(0.01)
                if time.time() > begun + 20:
                    sys.exit("no alerts within 20 s")
            theirs += [at - Page.crossed for at in seen.values()]
            theirs_all += [at - begun for at in seen.values()]
            # The reading that has the value: the first one after the change.
            sampled = min(when for when in readings if when >= begun)
            ours += [at - sampled for at, _ in alerts]
            ours_all += [at - begun for at, _ in alerts]
            both(0)
            wait_for("the end", lambda: len(alerts) == 2 * GROUPS and not firing())
        print(f"{REPETITIONS} times {GROUPS} alerts, sampled or scraped and evaluated once a second")
        table("agent: from the sample to the transition over MQTT", ours)
        table("Prometheus: from the scrape to firing in /api/v1/alerts", theirs)
        table("agent: from the change of the file on", ours_all)
        table("Prometheus: from the change of the page on", theirs_all)
        print(f"agent with 100 rules, 10 s: {rss(many.pid)} MiB")
    finally:
        for child in reversed(running):
            child.terminate()
        for child in running:
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
