#!/usr/bin/env python3
"""How soon somebody is told of an alert, beside Prometheus with Alertmanager, and what an agent with many alerts takes.

    tools/bench-notify.py [REPETITIONS] [ALERTS]     (default 36 and 10000; `make bench-notify` builds what it needs first)

The agent samples and evaluates once a second, and Prometheus scrapes a page of this script and evaluates the same rule once
a second. Both have a route with `group_wait` 0 to a webhook, which this script serves. A value is set at a random moment,
and taken back when both have said so. An Alertmanager gathers the end of an alert for `group_interval`, so that only
beginnings are compared.

Memory: agents whose textfile has a series an alert, with one interval and
everything else as it is installed: without a route, with all alerts in one group, and with a group each (to a receiver that
takes them); and the time from the file's change to the last request, for the one group.

Needs Debian's prometheus and prometheus-alertmanager.
"""

import http.server
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

spec = importlib.util.spec_from_file_location("rules", os.path.join(os.path.dirname(os.path.abspath(__file__)), "bench-rules.py"))
rules = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rules)

REPETITIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 36
ALERTS = int(sys.argv[2]) if len(sys.argv) > 2 else 10000


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes notifications: which way they came, when, and what they say."""

    protocol_version = "HTTP/1.1"
    heard = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Hook.heard.append((self.path, time.time(), json.loads(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def when(text):
    """Seconds since 1970 of an RFC 3339 time."""
    found = re.fullmatch(r"(\d+-\d+-\d+T\d+:\d+:\d+)(\.\d+)?Z", text)
    return time.mktime(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(found[2] or 0)


def serve(handler):
    port = rules.free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return port


def main():
    folder = tempfile.mkdtemp(prefix="bench-notify-")
    running = []

    def path(name, text=None):
        full = os.path.join(folder, name)
        if text is not None:
            with open(full + ".new", "w") as file:
                file.write(text)
            os.rename(full + ".new", full)
        return full

    def start(*command):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(path("log"), "a"))
        running.append(child)
        return child

    def stop(child):
        child.terminate()
        child.wait()
        running.remove(child)

    def agent(name, rule_file, series, route):
        os.makedirs(path(name), exist_ok=True)
        told = f"[notify.route]\n{route}\n[[notify.receivers]]\nname = 'hook'\n[[notify.receivers.webhook]]\n" + (
            f"url = 'http://127.0.0.1:{hook}/{name}'\n"
        )
        config = path(
            f"{name}.toml",
            f'host = "{name}"\ninterval = "1s"\n[serve]\nlisten = "127.0.0.1:0"\n[path]\ntextfile = "{path(name)}"\n'
            f'[mqtt]\nenabled = false\n[spool]\ndirectory = "{path(name + "-spool")}"\n[rules]\n'
            f'files = ["{rule_file}"]\nmax_series = {series}\n' + (told if route else ""),
        )
        return start(rules.AGENT, "--config", config)

    try:
        hook, page, web, alertmanager = serve(Hook), serve(rules.Page), rules.free_port(), rules.free_port()
        rule_file = path("rule.yml", "groups:\n- name: g\n  interval: 1s\n  rules:\n  - {alert: High, expr: t_value > 10}\n")
        path(
            "alertmanager.yml",
            "route: {receiver: hook, group_wait: 0s, group_interval: 1s}\nreceivers:\n- name: hook\n  webhook_configs:\n"
            f"  - url: http://127.0.0.1:{hook}/alertmanager\n",
        )
        start(
            rules.need("prometheus-alertmanager", "prometheus-alertmanager"),
            f"--config.file={path('alertmanager.yml')}",
            f"--storage.path={path('alertmanager')}",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            "--cluster.listen-address=",
        )
        path(
            "prometheus.yml",
            f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rule_file}]\nscrape_configs:\n"
            f"- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{page}']\nalerting:\n  alertmanagers:\n"
            f"  - static_configs:\n    - targets: ['127.0.0.1:{alertmanager}']\n",
        )
        start(
            rules.need("prometheus", "prometheus"),
            f"--config.file={path('prometheus.yml')}",
            f"--storage.tsdb.path={path('tsdb')}",
            f"--web.listen-address=127.0.0.1:{web}",
        )
        rules.wait_for("Prometheus", lambda: rules.get(f"http://127.0.0.1:{web}/-/ready"))
        rules.wait_for("Alertmanager", lambda: rules.get(f"http://127.0.0.1:{alertmanager}/-/ready"))
        here = agent("agent", rule_file, 10000, "receiver = 'hook'\ngroup_wait = '0s'\ngroup_interval = '1s'")

        def both(value):
            rules.Page.value = value
            path("agent/value.prom", f"t_value {value}\n")
            return time.time()

        both(0)
        time.sleep(5)
        ours, ours_all, theirs, theirs_all = [], [], [], []

        def heard(way, state):
            return [(at, body) for to, at, body in list(Hook.heard) if to == way and body["status"] == state]

        for _ in range(REPETITIONS):
            time.sleep(random.random())
            Hook.heard.clear()
            begun = both(20)
            for way, sampled, changed in (("/agent", ours, ours_all), ("/alertmanager", theirs, theirs_all)):
                at, body = rules.wait_for(way, lambda: heard(way, "firing"))[0]
                sampled.append(at - when(body["alerts"][0]["startsAt"]))
                changed.append(at - begun)
            both(0)
            for way in ("/agent", "/alertmanager"):
                # The scrape that ends it has to be posted, and the group's interval to pass.
                rules.wait_for(f"{way}: the end", lambda: heard(way, "resolved"), seconds=60)
        print(f"{REPETITIONS} alerts, sampled or scraped and evaluated once a second, group_wait 0")
        rules.table("agent: from the evaluation to the request", ours)
        rules.table("Prometheus and Alertmanager: the same", theirs)
        rules.table("agent: from the change of the file on", ours_all)
        rules.table("Prometheus and Alertmanager: of the page", theirs_all)
        print(f"agent with that one rule: {rules.rss(here.pid)} MiB")
        for child in list(running):
            stop(child)

        ways = {
            "quiet": "receiver = 'hook'",
            "routeless": "",
            "one": "receiver = 'hook'\ngroup_wait = '0s'\ngroup_by = ['alertname']",
            "each": "receiver = 'hook'\ngroup_wait = '0s'\ngroup_by = ['...']",
        }
        for name, route in ways.items():
            Hook.heard.clear()
            child = agent(name, rule_file, 4 * ALERTS, route)
            os.makedirs(path(name), exist_ok=True)
            text = "".join(f't_value{{at="{at}"}} %d\n' for at in range(ALERTS))
            path(f"{name}/value.prom", text.replace("%d", "0"))
            time.sleep(10)
            before = rules.rss(child.pid)
            if name == "quiet":
                print(f"{ALERTS} series, none over the threshold: {before} MiB")
            else:
                begun = time.time()
                path(f"{name}/value.prom", text.replace("%d", "20"))
                if name == "one":
                    told = lambda: any(
                        len(body["alerts"]) + body["truncatedAlerts"] >= ALERTS for _, _, body in list(Hook.heard)
                    )
                    rules.wait_for("all alerts", told, seconds=120)
                    print(f"all {ALERTS} alerts told of {time.time() - begun:.2f} s after the change of the file, in "
                          f"{len(Hook.heard)} requests")
                time.sleep(60)
                print(f"{ALERTS} alerts, {name}: {rules.rss(child.pid)} MiB; {len(Hook.heard)} requests")
            stop(child)
    finally:
        for child in reversed(running):
            child.terminate()
        for child in running:
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


main()
