#!/usr/bin/env python3
"""Lines of a file on their way to the broker, beside rsyslog's imfile and omfwd with a disk queue, in one run.

    tools/bench-logs.py [LINES]     (default 1,000,000 lines of an application, about 110 bytes each)

Each program finds the whole file at its start and is pinned to one core; the broker, or the program that takes rsyslog's lines,
has another one. Measured are the lines a second until the last one has arrived and, of the program alone, CPU microseconds a
line and its largest memory. utilizer-agent keeps everything in its spool before it goes (synced every half second), and frees
it when the broker has it. rsyslog is measured with `queue.type="Disk"`, which also puts each line on the disk first, and with a
queue in memory that goes to disk only in need.

Needs a release build of the agent, mosquitto, and Debian's rsyslog. Files and spools lie in a temporary folder.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
CORES = sorted(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")

AGENT = """
host = "bench"
interval = "1h"
[serve]
listen = "127.0.0.1:{listen}"
[mqtt]
url = "mqtt://127.0.0.1:{port}"
[spool]
directory = "{folder}/spool"
max_bytes = "4GiB"
[[logs]]
name = "bench"
files = ["{folder}/app.log"]
format = "{form}"
"""

RSYSLOG = """
global(workDirectory="{folder}")
module(load="imfile" mode="inotify")
template(name="line" type="string" string="%msg%\\n")
ruleset(name="out") {{
    action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" template="line"
           queue.type="{queue}" queue.filename="queue" queue.maxDiskSpace="4g" queue.size="2000000" queue.saveOnShutdown="on"
           action.resumeRetryCount="-1")
}}
input(type="imfile" File="{folder}/app.log" Tag="bench" ruleset="out")
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_and_memory(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / TICK, int(peak.split()[1]) / 1024


def start(command, core, log):
    with open(log, "ab") as file:
        prefix = ["taskset", "-c", str(core), "setpriv", "--pdeathsig", "KILL", "--"]
        return subprocess.Popen([*prefix, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def say(name, seconds, cpu, peak):
    print(f"{name:34} {LINES / seconds:>10,.0f} lines/s {cpu / LINES * 1e6:>7.2f} us CPU a line {peak:>7.1f} MiB at most", flush=True)


def agent(folder, form):
    port, listen = free_port(), free_port()
    with open(f"{folder}/mosquitto.conf", "w", encoding="ascii") as file:
        file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    with open(f"{folder}/agent.toml", "w", encoding="ascii") as file:
        file.write(AGENT.format(folder=folder, port=port, listen=listen, form=form))
    mosquitto = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    broker = start([mosquitto, "-c", f"{folder}/mosquitto.conf"], CORES[-1], f"{folder}/broker.log")
    time.sleep(0.5)
    begun = time.monotonic()
    process = start([f"{ROOT}/target/release/utilizer-agent", "--config", f"{folder}/agent.toml"], CORES[0], f"{folder}/log")

    def metric(page, series):
        return next((float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(series + " ")), 0.0)

    while True:
        time.sleep(0.1)
        if process.poll() is not None or time.monotonic() > begun + 600:
            sys.exit(f"the agent came to no end: {open(f'{folder}/log', encoding='utf-8').read()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{listen}/metrics", timeout=5) as answer:
                page = answer.read().decode()
        except OSError:
            continue
        read = metric(page, 'utilizer_agent_logs_lines_total{input="bench"}')
        made = metric(page, 'utilizer_records_total{kind="logs"}')
        taken = metric(page, 'utilizer_records_acknowledged_total{kind="logs"}')
        if read >= LINES and made > 0 and taken >= made:
            break
    seconds = time.monotonic() - begun
    say(f"utilizer-agent, {form}", seconds, *cpu_and_memory(process.pid))
    stop(process)
    stop(broker)


def rsyslog(folder, queue):
    server = socket.create_server(("127.0.0.1", 0))
    arrived = threading.Event()

    def take():
        connection, _ = server.accept()
        count = 0
        while count < LINES:
            piece = connection.recv(1 << 20)
            if not piece:
                return
            count += piece.count(b"\n")
        arrived.set()

    os.sched_setaffinity(0, {CORES[-1]})
    threading.Thread(target=take, daemon=True).start()
    with open(f"{folder}/rsyslog.conf", "w", encoding="ascii") as file:
        file.write(RSYSLOG.format(folder=folder, port=server.getsockname()[1], queue=queue))
    daemon = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin")
    begun = time.monotonic()
    process = start([daemon, "-n", "-f", f"{folder}/rsyslog.conf", "-i", f"{folder}/rsyslog.pid"], CORES[0], f"{folder}/log")
    if not arrived.wait(900):
        sys.exit(f"rsyslog came to no end: {open(f'{folder}/log', encoding='utf-8').read()[-2000:]}")
    seconds = time.monotonic() - begun
    say(f"rsyslog, queue.type={queue}", seconds, *cpu_and_memory(process.pid))
    stop(process)
    server.close()


def main():
    if not shutil.which("rsyslogd", path="/usr/sbin:/usr/bin"):
        sys.exit("rsyslog is not installed; install it with: apt-get install rsyslog")
    with tempfile.TemporaryDirectory(prefix="utilizer-bench-logs-") as root:
        source = f"{root}/app.log"
        with open(source, "w", encoding="ascii") as file:
            for number in range(LINES):
                file.write(
                    f"2026-11-22T10:{number // 60000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}Z INFO orders.service - order {number} "
                    f"was taken in {number % 97} ms by worker {number % 8}\n"
                )
        print(f"{LINES:,} lines, {os.path.getsize(source) / LINES:.0f} bytes each", flush=True)
        for name, measure in (
            ("a", lambda folder: agent(folder, "plain")),
            ("b", lambda folder: agent(folder, "auto")),
            ("c", lambda folder: rsyslog(folder, "Disk")),
            ("d", lambda folder: rsyslog(folder, "LinkedList")),
        ):
            folder = f"{root}/{name}"
            os.mkdir(folder)
            os.link(source, f"{folder}/app.log")
            measure(folder)
            shutil.rmtree(folder)


main()
