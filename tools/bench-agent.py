#!/usr/bin/env python3
"""What the agent costs at one sample a second, beside its peers in the same run.

    tools/bench-agent.py [SECONDS [SLEEPERS]]     (default 60 and 500; `make bench` builds the agent first)

All run at once, each reads the host once a second, and whoever is scraped is scraped once a second over one connection that
stays open, as Prometheus does. First with the machine's own processes, then with SLEEPERS more that sleep.

CPU time is the sum over all threads of /proc/PID/task/*/schedstat, which counts nanoseconds. It swings with what else the
machine does, so each figure is the median of slices of the time, and ratios within one run are what counts. Targets are the
project's own.

Needs Debian's mosquitto, prometheus-node-exporter, prometheus-process-exporter, collectd-core, libmosquitto1, sysstat,
openssl, and a C compiler for tools/probe.c.
"""

import http.client
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
AGENT = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"), "release", "utilizer-agent")
CATALOGUE = os.path.join(ROOT, "agent/src/collectors/mod.rs")
SLICES = 6
WARM_SECONDS = 6


def need(program, package):
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin:/usr/lib/sysstat")
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


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def thread_cpu_ms(pid):
    times = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                times[task] = int(f.read().split()[0]) / 1e6
        except FileNotFoundError:
            pass  # a thread that ended meanwhile
    return times


def status(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


def collectors():
    """Every collector's name, and whether it runs by default, from the agent's catalogue."""
    with open(CATALOGUE) as f:
        text = f.read()
    body = re.search(r"pub const CATALOGUE.*?=\s*&\[(.*?)\];", text, re.S).group(1)
    processes = re.search(r'pub const PROCESSES: &str = "(\w+)"', text)
    if processes:
        body = body.replace("PROCESSES", f'"{processes.group(1)}"')
    found = [(name, default == "true") for name, default in re.findall(r'\(\s*"(\w+)",\s*(true|false)\s*\)', body)]
    if not found:
        sys.exit(f"{CATALOGUE} has no catalogue that this script understands")
    return found


class Program:
    """A running program, and what it has cost."""

    def __init__(self, name, process, port=None, tls=False):
        self.name, self.process, self.pid = name, process, process.pid
        self.port, self.tls, self.connection = port, tls, None
        self.samples = self.bytes = None
        self.known, self.total = {}, 0.0

    def scrape(self):
        if self.port is None:
            return
        if self.connection is None:
            if self.tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
            else:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            self.connection.request("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4"})
            body = self.connection.getresponse().read()
        except (http.client.HTTPException, OSError):
            self.connection.close()
            self.connection = None
            return
        self.bytes = len(body)
        self.samples = sum(1 for line in body.splitlines() if line and not line.startswith(b"#"))

    def cpu_ms(self):
        """All threads since the start; one that ended counts as far as it was seen."""
        if self.process.poll() is not None:
            sys.exit(f"{self.name} has ended by itself, with {self.process.returncode}")
        now = thread_cpu_ms(self.pid)
        self.total += sum(ms - self.known.get(task, 0.0) for task, ms in now.items())
        self.known = now
        return self.total


class Bench:
    def __init__(self, folder):
        self.folder, self.running = folder, []

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w") as f:
                f.write(text)
        return path

    def start(self, name, command, port=None, scraped=True, tls=False):
        log = open(self.path(re.sub(r"\W+", "-", name) + ".log"), "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)
        self.running.append(process)
        if port:
            def up():
                if process.poll() is not None:
                    with open(log.name, errors="replace") as f:
                        sys.exit(f"{name} ended at its start:\n{f.read()}")
                return listens(port)
            wait_for(name, up)
        return Program(name, process, port if scraped else None, tls)

    def mosquitto(self):
        port = free_port()
        user = "user root\n" if os.getuid() == 0 else ""
        config = self.path("mosquitto.conf", f"listener {port} 127.0.0.1\nallow_anonymous true\n{user}")
        self.start("mosquitto", [need("mosquitto", "mosquitto"), "-c", config], port)
        return port

    def agent(self, name, broker=None, everything=False, processes=False, tls=False):
        port = free_port()
        known = collectors()
        lines = [f'host = "bench-{port}"', 'interval = "1s"', "[serve]", f'listen = "127.0.0.1:{port}"']
        if tls:
            lines.append(f'web_config_file = "{self.web_config()}"')
        lines.append("[mqtt]")
        lines += [f'url = "mqtt://127.0.0.1:{broker}"'] if broker else ["enabled = false"]
        lines += ["[spool]", f'directory = "{self.path(f"spool-{port}")}"']
        lines.append("[collectors]")
        if everything:
            lines.append(f"enable = {[collector for collector, default in known if not default]}".replace("'", '"'))
        elif not processes:
            lines.append('disable = ["processes"]')
        config = self.path(f"agent-{port}.toml", "\n".join(lines) + "\n")
        return self.start(name, [AGENT, "--config", config], port, tls=tls)

    def web_config(self):
        key, certificate = self.path("key.pem"), self.path("certificate.pem")
        subprocess.run(
            [need("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True)
        return self.path("web.yml", f"tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n")

    def node_exporter(self, name, *switches):
        port = free_port()
        program = need("prometheus-node-exporter", "prometheus-node-exporter")
        return self.start(name, [program, f"--web.listen-address=127.0.0.1:{port}", *switches], port)

    def process_exporter(self, name):
        port = free_port()
        program = need("prometheus-process-exporter", "prometheus-process-exporter")
        config = self.path("process-exporter.yml", 'process_names:\n  - name: "{{.Comm}}:{{.PID}}"\n    cmdline: [".*"]\n')
        return self.start(name, [program, f"-web.listen-address=127.0.0.1:{port}", f"-config.path={config}"], port)

    def collectd(self, name, broker, processes):
        program = need("collectd", "collectd-core libmosquitto1")
        plugins = "cpu df disk interface load memory swap vmem uptime".split() + ["processes"] * processes
        text = f'BaseDir "{self.folder}"\nTypesDB "/usr/share/collectd/types.db"\nInterval 1\nFQDNLookup false\n'
        text += f'PIDFile "{self.path(f"collectd-{processes}.pid")}"\n'
        text += "".join(f"LoadPlugin {plugin}\n" for plugin in plugins + ["mqtt"])
        text += f'<Plugin mqtt>\n<Publish "bench">\nHost "127.0.0.1"\nPort {broker}\nClientId "collectd-{processes}"\n'
        text += "</Publish>\n</Plugin>\n"
        if processes:
            text += '<Plugin processes>\nProcessMatch "all" ".*"\n</Plugin>\n'
        return self.start(name, [program, "-f", "-C", self.path(f"collectd-{processes}.conf", text)])

    def sadc(self, name):
        return self.start(name, [need("sadc", "sysstat"), "-S", "ALL", "1", self.path("sa")])

    def probe(self, name, *arguments):
        program = self.path("probe")
        if not os.path.exists(program):
            compiler = need("cc", "gcc")
            subprocess.run([compiler, "-O2", "-o", program, os.path.join(ROOT, "tools/probe.c")], check=True)
        return self.start(name, [program, *arguments])

    def sleepers(self, count):
        for _ in range(count):
            self.running.append(subprocess.Popen(["sleep", "infinity"], stdin=subprocess.DEVNULL))

    def stop(self):
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


def spend(programs, seconds):
    """Scrapes once a second for so long, each program at its own part of the second."""
    begun = time.time()
    scraped = [program for program in programs if program.port]
    for second in range(seconds):
        for place, program in enumerate(scraped):
            time.sleep(max(0, begun + second + place / max(1, len(scraped)) - time.time()))
            program.scrape()
    time.sleep(max(0, begun + seconds - time.time()))


def measure(programs, seconds):
    """CPU-ms a second of each program: the median over slices."""
    slices = min(SLICES, seconds)
    costs = {program.name: [] for program in programs}
    for _ in range(slices):
        before, begun = {program.name: program.cpu_ms() for program in programs}, time.time()
        spend(programs, seconds // slices)
        elapsed = time.time() - begun
        for program in programs:
            costs[program.name].append((program.cpu_ms() - before[program.name]) / elapsed)
    return {name: statistics.median(values) for name, values in costs.items()}


def process_count():
    return sum(entry.isdigit() for entry in os.listdir("/proc"))


def table(programs, costs, base):
    print("| program | CPU-ms/s | to node_exporter | RSS MiB | threads | samples |")
    print("|---|---|---|---|---|---|")
    for program in programs:
        cost = costs[program.name]
        rss, threads = status(program.pid, "VmRSS") / 1024, status(program.pid, "Threads")
        samples = program.samples if program.samples is not None else "–"
        print(f"| {program.name} | {cost:.2f} | {cost / costs[base]:.3f} | {rss:.1f} | {threads} | {samples} |")
    print()


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    sleepers = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    if not os.path.exists(AGENT):
        sys.exit(f"{AGENT} is missing: cargo build --release -p utilizer-agent")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What is started gets what a service gets, whatever the developer's shell allows.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    # Ctrl-C and a kill end what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = tempfile.mkdtemp()
    bench = Bench(folder)
    try:
        broker = bench.mosquitto()
        plain = bench.agent("utilizer-agent, node_exporter's default collectors")
        installed = bench.agent("utilizer-agent, its defaults (with processes), MQTT", broker, processes=True)
        full = bench.agent("utilizer-agent, everything, MQTT", broker, everything=True)
        secure = bench.agent("utilizer-agent, everything, MQTT, TLS", broker, everything=True, tls=True)
        node = bench.node_exporter("node_exporter, its defaults")
        states = bench.node_exporter("node_exporter, processes too", "--collector.processes")
        with_processes = bench.collectd("collectd, MQTT, processes", broker, True)
        without = bench.collectd("collectd, MQTT", broker, False)
        sadc = bench.sadc("sadc")
        probe = bench.probe("C probe")
        floor = bench.probe("C probe without processes", "host")
        always = [plain, installed, full, secure, node, states, with_processes, without, sadc, probe, floor]
        # It works only when scraped, and so much that it would disturb the others: scraped for itself, after them.
        per_process = bench.process_exporter("process-exporter, each process")

        def round_of(name):
            spend(always, WARM_SECONDS)
            count = process_count()
            costs = measure(always, seconds)
            spend([per_process], 2)
            costs |= measure([per_process], max(2, seconds // 6))
            print(f"{name}: {count} processes, {seconds} s, {os.cpu_count()} cores\n")
            table(always + [per_process], costs, node.name)
            return count, costs

        few, at_few = round_of("The machine's own processes")
        bench.sleepers(sleepers)
        many, at_many = round_of(f"{sleepers} more")

        def verdict(what, value, most, unit=""):
            print(f"- {what}: {value:.3f}{unit}, wanted at most {most:.3f}{unit}: {'yes' if value <= most else 'NO'}")

        def each(program):
            return (at_many[program.name] - at_few[program.name]) / max(1, many - few) * 1000

        verdict("node_exporter's defaults, to node_exporter", at_few[plain.name] / at_few[node.name], 1 / 8)
        verdict(f"its defaults with MQTT, to collectd, {few} processes", at_few[installed.name] / at_few[with_processes.name], 1 / 3)
        verdict(f"its defaults with MQTT, to collectd, {many} processes", at_many[installed.name] / at_many[with_processes.name], 1 / 4)
        verdict(f"everything with MQTT, to collectd, {few} processes", at_few[full.name] / at_few[with_processes.name], 1 / 3)
        verdict(f"everything with MQTT, to collectd, {many} processes", at_many[full.name] / at_many[with_processes.name], 1 / 4)
        verdict(f"a process more ({each(full):.1f} µs), to the C probe ({each(probe):.1f} µs)", each(full) / each(probe), 1.3)
        verdict("RSS, everything with MQTT and TLS", status(secure.pid, "VmRSS") / 1024, 6, " MiB")
        verdict("binary", os.path.getsize(AGENT) / (1 << 20), 5, " MiB")
        print(f"- to the floor: defaults {at_few[plain.name] / at_few[floor.name]:.1f} times the C probe without processes, "
              f"everything {at_few[full.name] / at_few[probe.name]:.1f} and {at_many[full.name] / at_many[probe.name]:.1f} "
              "times the one with")
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
