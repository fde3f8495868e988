#!/usr/bin/env python3
"""What the agent costs at one sample a second, beside node_exporter in the same run.

    tools/bench-agent.py [SECONDS]        (default 60; `make bench` builds the agent first)

Both are scraped once a second over a new connection. The agent also reads all processes and publishes over MQTT to a
mosquitto of its own. CPU time is the sum over all threads of /proc/PID/task/*/schedstat, which counts nanoseconds; it
swings with what else the machine does, so read the ratios. node_exporter runs with the collectors that the agent has,
and once with its defaults. Needs mosquitto and prometheus-node-exporter (Debian's packages).
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
AGENT = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"), "release", "utilizer-agent")
COLLECTORS = "cpu diskstats filesystem loadavg meminfo netdev pressure stat time uname vmstat".split()


def need(program, package):
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin")
    if not path:
        sys.exit(f"{program} is missing: apt-get install {package}")
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition):
    end = time.time() + 20
    while not condition():
        if time.time() > end:
            sys.exit(f"{what} did not come up within 20 s")
        time.sleep(0.05)


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def cpu_ms(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e6


def status(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read()


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    mosquitto = need("mosquitto", "mosquitto")
    exporter = need("prometheus-node-exporter", "prometheus-node-exporter")
    if not os.path.exists(AGENT):
        sys.exit(f"{AGENT} is missing: cargo build --release -p utilizer-agent")
    folder = tempfile.mkdtemp()
    running = []

    def start(name, command, port, **environment):
        log = open(os.path.join(folder, name + ".log"), "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment}, cwd=folder)
        running.append(process)
        wait_for(name, lambda: answers(port))
        return process.pid, port

    try:
        mqtt = free_port()
        with open(os.path.join(folder, "mosquitto.conf"), "w") as f:
            f.write(f"listener {mqtt} 127.0.0.1\nallow_anonymous true\n" + ("user root\n" if os.getuid() == 0 else ""))
        start("mosquitto", [mosquitto, "-c", os.path.join(folder, "mosquitto.conf")], mqtt)

        def agent(name, enabled):
            port = free_port()
            config = os.path.join(folder, name + ".toml")
            with open(config, "w") as f:
                f.write(f'host = "{name}"\ninterval = "1s"\n[serve]\nlisten = "127.0.0.1:{port}"\n[mqtt]\nenabled = {enabled}\n')
                f.write(f'url = "mqtt://127.0.0.1:{mqtt}"\n')
            return start(name, [AGENT, "--config", config], port)

        def node_exporter(name, *switches):
            port = free_port()
            return start(name, [exporter, f"--web.listen-address=127.0.0.1:{port}", *switches], port)

        same = ["--collector.disable-defaults"] + [f"--collector.{name}" for name in COLLECTORS]
        programs = {
            "utilizer-agent (all it does, MQTT)": agent("bench-mqtt", "true"),
            "node_exporter, same collectors": node_exporter("same", *same),
            "node_exporter, default": node_exporter("default"),
        }
        for _ in range(5):  # warm
            for _, port in programs.values():
                scrape(port)
            time.sleep(1)
        before = {name: cpu_ms(pid) for name, (pid, _) in programs.items()}
        begun = time.time()
        sizes = {}
        for second in range(seconds):
            for name, (_, port) in programs.items():
                sizes[name] = scrape(port)
            time.sleep(max(0, begun + second + 1 - time.time()))
        processes = sum(entry.isdigit() for entry in os.listdir("/proc"))
        print(f"{seconds} s, one scrape a second, {processes} processes, {os.cpu_count()} cores\n")
        print("| program | CPU-ms/s | to the same collectors | RSS MiB | threads | samples |")
        print("|---|---|---|---|---|---|")
        base = None
        rows = []
        for name, (pid, _) in programs.items():
            cost = (cpu_ms(pid) - before[name]) / seconds
            if name == "node_exporter, same collectors":
                base = cost
            samples = sum(1 for line in sizes[name].splitlines() if line and not line.startswith(b"#"))
            rows.append((name, cost, status(pid, "VmRSS") / 1024, status(pid, "Threads"), samples))
        for name, cost, rss, threads, samples in rows:
            print(f"| {name} | {cost:.2f} | {cost / base:.2f} | {rss:.1f} | {threads} | {samples} |")
        print(f"\nagent binary: {os.path.getsize(AGENT) / 1e6:.1f} MB")
    finally:
        for process in running:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
