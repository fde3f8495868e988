#!/usr/bin/env python3
"""rsyslog's disk queue with RELP under ten of the faults of `make drill`: how many lines are lost, and how many doubled.

    tools/bench-relp.py [SECONDS [RATE]]     (default 120 s of numbered lines, 200 a second)

A program hands numbered lines to an rsyslog by RELP and waits for the answer to each, so that a line counts as accepted only
when the daemon says that it has it, as an agent's answer to a push does. That rsyslog keeps them in a disk queue, written
through for each line (`queue.type="Disk"`, `queue.checkpointInterval="1"`, `queue.syncQueueFiles="on"`), and sends them by
RELP, with endless retries, to a second one, which writes a file before it answers (`queue.type="Direct"`). Faults come one
after the other: kill -9, SIGSTOP, the network between the two down, the disk of either full. Then everything is healed, and
the file is compared with the account.

Both run in namespaces of their own, with their files in a temporary folder: nothing of the system's rsyslog is touched. Needs
root, and Debian's rsyslog, rsyslog-relp and iproute2.
"""

import collections
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SENDER = "10.213.8.1"
RECEIVER = "10.213.8.2"
INPUT, OUTPUT = 20514, 20515
MARK = re.compile(r"number (\d+)\b")

SENDER_CONFIG = """
global(workDirectory="{folder}")
module(load="imrelp")
module(load="omrelp")
ruleset(name="out" queue.type="Disk" queue.filename="queue" queue.checkpointInterval="1" queue.syncQueueFiles="on"
        queue.saveOnShutdown="on") {{
    action(type="omrelp" target="{target}" port="{output}" template="RSYSLOG_ForwardFormat" timeout="10"
           action.resumeRetryCount="-1" action.resumeInterval="1" action.resumeIntervalMax="1")
}}
input(type="imrelp" port="{input}" ruleset="out" keepAlive="on")
"""

RECEIVER_CONFIG = """
global(workDirectory="{folder}")
module(load="imrelp")
template(name="line" type="string" string="%msg%\\n")
ruleset(name="in" queue.type="Direct") {{
    action(type="omfile" file="{folder}/lines" template="line" action.resumeRetryCount="-1" action.resumeInterval="1")
}}
input(type="imrelp" port="{output}" ruleset="in" keepAlive="on")
"""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


class Daemon:
    """An rsyslogd with a small disk of its own, perhaps in another network."""

    def __init__(self, name, root, config, network=None):
        self.name, self.network, self.process = name, network, None
        self.folder = os.path.join(root, name)
        os.mkdir(self.folder)
        run("mount", "-t", "tmpfs", "-o", "size=64m", "none", self.folder)
        self.config = os.path.join(root, f"{name}.conf")
        self.pid_file = os.path.join(root, f"{name}.pid")
        self.log = os.path.join(root, f"{name}.log")
        with open(self.config, "w", encoding="ascii") as file:
            file.write(config.format(folder=self.folder, target=RECEIVER, input=INPUT, output=OUTPUT))

    def start(self):
        if os.path.exists(self.pid_file):
            os.remove(self.pid_file)
        enter = ["nsenter", "--net", "--target", str(self.network)] if self.network else []
        daemon = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin")
        command = [*enter, "setpriv", "--pdeathsig", "KILL", "--", daemon, "-n", "-f", self.config, "-i", self.pid_file]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def fill(self):
        with open(os.path.join(self.folder, "ballast"), "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def empty(self):
        os.remove(os.path.join(self.folder, "ballast"))


class Relp:
    """As much of RELP's client side as it takes: one command at a time, and its answer."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=5)
        self.buffer, self.number = b"", 0
        self.ask(b"open", b"relp_version=0\nrelp_software=bench\ncommands=syslog")

    def ask(self, command, data):
        self.number += 1
        head = b"%d %s %d" % (self.number, command, len(data))
        self.socket.sendall(head + (b" " + data if data else b"") + b"\n")
        while True:
            frame = re.match(rb"(\d+) (\w+) (\d+)(?: |(?=\n))", self.buffer)
            if frame and len(self.buffer) > frame.end() + int(frame[3]):
                body = self.buffer[frame.end() : frame.end() + int(frame[3])]
                self.buffer = self.buffer[frame.end() + int(frame[3]) + 1 :]
                if frame[2] == b"serverclose":
                    raise ConnectionError("the daemon closes")
                if frame[2] == b"rsp" and int(frame[1]) == self.number:
                    return body
                continue
            more = self.socket.recv(4096)
            if not more:
                raise ConnectionError("the daemon is gone")
            self.buffer += more


class Load(threading.Thread):
    """Hands in numbered lines; never one twice."""

    def __init__(self, rate):
        super().__init__(daemon=True)
        self.rate, self.over = rate, threading.Event()
        # When each line was accepted, by its number.
        self.accepted, self.unanswered, self.next = {}, set(), 1

    def run(self):
        relp = None
        while not self.over.wait(1 / self.rate):
            number = self.next
            try:
                relp = relp or Relp(("127.0.0.1", INPUT))
            except OSError:
                continue  # The line was not offered: its number is still free.
            self.next += 1
            line = f"<13>2026-01-01T00:00:00Z host bench: number {number} {'x' * 150}"
            try:
                taken = relp.ask(b"syslog", line.encode()).startswith(b"200")
            except OSError:
                taken, relp = False, None
            if taken:
                self.accepted[number] = time.time()
            else:
                self.unanswered.add(number)


def faults(sender, receiver):
    """What is done, and what undoes it."""

    def killed(*daemons):
        return lambda: [daemon.kill() for daemon in daemons], lambda: [daemon.start() for daemon in daemons]

    def stopped(daemon):
        return lambda: daemon.signal(signal.SIGSTOP), lambda: daemon.signal(signal.SIGCONT)

    def cut():
        run("ip", "link", "set", "sender", "down")

    def join():
        run("ip", "link", "set", "sender", "up")

    return [
        ("kill -9 of the receiver", 2, *killed(receiver)),
        ("kill -9 of the sender", 2, *killed(sender)),
        ("receiver stopped", 8, *stopped(receiver)),
        ("network down", 8, cut, join),
        ("kill -9 of the sender while the network is down", 4, lambda: (cut(), time.sleep(3), sender.kill()),
         lambda: (sender.start(), time.sleep(1), join())),
        ("sender stopped", 6, *stopped(sender)),
        ("receiver's disk full", 6, receiver.fill, receiver.empty),
        ("sender's disk full while the network is down", 6, lambda: (cut(), sender.fill()),
         lambda: (sender.empty(), time.sleep(1), join())),
        ("kill -9 of the sender with its disk full", 3, lambda: (cut(), sender.fill(), time.sleep(2), sender.kill()),
         lambda: (sender.empty(), sender.start(), time.sleep(1), join())),
        ("kill -9 of both", 2, *killed(sender, receiver)),
    ]


def main():
    if os.geteuid():
        sys.exit("tools/bench-relp.py makes namespaces: run it as root")
    if not shutil.which("rsyslogd", path="/usr/sbin:/usr/bin"):
        sys.exit("rsyslogd is missing: apt-get install --no-install-recommends rsyslog rsyslog-relp")
    if "--inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "--mount", "--net", "--", sys.executable, *sys.argv, "--inside"])
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    seconds, rate = (numbers + [120, 200][len(numbers) :])[:2]

    root = tempfile.mkdtemp(prefix="bench-relp-")
    holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--net", "--", "sleep", "infinity"])
    time.sleep(0.5)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "sender", "type", "veth", "peer", "name", "receiver", "netns", str(holder.pid))
    run("ip", "address", "add", f"{SENDER}/24", "dev", "sender")
    run("ip", "link", "set", "sender", "up")
    for words in (["address", "add", f"{RECEIVER}/24", "dev", "receiver"], ["link", "set", "receiver", "up"]):
        run("nsenter", "--net", "--target", str(holder.pid), "ip", *words)
    receiver = Daemon("receiver", root, RECEIVER_CONFIG, holder.pid)
    sender = Daemon("sender", root, SENDER_CONFIG)
    for daemon in (receiver, sender):
        daemon.start()
    load = Load(rate)
    load.start()

    plan = faults(sender, receiver)
    dice = random.Random(1)
    pause = max(1.0, (seconds - sum(lasts for _, lasts, _, _ in plan)) / (len(plan) + 1))
    path = os.path.join(receiver.folder, "lines")

    def account():
        text = open(path, encoding="utf-8", errors="replace").read() if os.path.exists(path) else ""
        return collections.Counter(int(number) for number in MARK.findall(text))

    begun, moments = time.time(), []
    print(f"{len(plan)} faults in {seconds} s, {rate} lines a second")
    for name, lasts, begin, end in plan:
        time.sleep(pause * dice.uniform(0.7, 1.3))
        print(f"  {time.time() - begun:6.1f} s  {name}, for {lasts} s", flush=True)
        moments.append((time.time(), name))
        begin()
        time.sleep(lasts)
        end()
        for daemon in (sender, receiver):
            if daemon.process.poll() is not None:
                print(f"           {daemon.name} ended by itself with {daemon.process.returncode}; started again")
                daemon.start()
    time.sleep(pause)
    load.over.set()
    load.join(timeout=30)
    # Until nothing more comes for 15 s, two minutes at most.
    last, since, healed = -1, time.time(), time.time()
    while time.time() - since < 15 and time.time() - healed < 120:
        size = os.path.getsize(path)
        if size != last:
            last, since = size, time.time()
        time.sleep(0.5)
    counts = account()
    lost = load.accepted.keys() - counts.keys()
    double = [number for number, count in counts.items() if count > 1]
    print(f"accepted {len(load.accepted)}, unanswered {len(load.unanswered)}, arrived {len(counts)}")
    print(f"lost {len(lost)}, double {len(double)} (copies too many: {sum(counts[n] - 1 for n in double)})")
    by_fault = collections.Counter()
    for number in lost:
        # What was accepted up to two seconds before a fault can still be in its way.
        before = [name for at, name in moments if at - 2 <= load.accepted[number]]
        by_fault[before[-1] if before else "no fault yet"] += 1
    for name, count in by_fault.most_common():
        print(f"  {count} of the lost were accepted during or after: {name}")
    left = [name for name in os.listdir(sender.folder) if name.startswith("queue")]
    print(f"files left in the sender's queue: {sorted(left)}")
    for daemon in (sender, receiver):
        daemon.kill()
    holder.kill()
    if os.environ.get("KEEP"):
        shutil.copytree(sender.folder, os.path.join(root, "sender-kept"))
        print(f"kept in {root}")
    else:
        for daemon in (sender, receiver):
            run("umount", daemon.folder)
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
