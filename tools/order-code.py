#!/usr/bin/env python3
"""Finds the functions of utilizer-agent that run all the time, and writes them to agent/often.ld for the linker.

    tools/order-code.py [SECONDS]     (default 75; x86-64 Linux; `make order-code` builds the agent with symbols first)

The agent runs with all collectors, MQTT, TLS and one scrape a second. After its start a breakpoint is put on the entry of each
function, and taken away when it is hit: what was hit is what the agent needs from then on. Some sources are read every
thirtieth pass only, so it takes more than half a minute. A new connection in the middle is counted among what is needed.

Names stand without the hashes that change with each compiler and dependency, so that one may stand for several functions.
"""

import bisect
import ctypes
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOOLS = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(os.path.dirname(TOOLS), "agent", "often.ld")
PEEKUSER, POKEUSER, CONT, SEIZE, INTERRUPT = 3, 6, 7, 0x4206, 0x4207
TRACE_CLONE, EXIT_KILL = 0x8, 0x100000
INSTRUCTION_POINTER = 16 * 8  # in struct user of x86-64
BREAKPOINT = b"\xcc"
ALL_THREADS = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long] * 4


def functions(binary):
    """Names by address."""
    found = {}
    for line in subprocess.run(["readelf", "-sW", binary], capture_output=True, text=True, check=True).stdout.splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[3] == "FUNC" and fields[6] != "UND" and int(fields[2], 0):
            found.setdefault(int(fields[1], 16), []).append(fields[7])
    return found


class Watched:
    """A process with a breakpoint on each of these offsets from where it is loaded."""

    def __init__(self, pid, binary, offsets):
        self.pid = pid
        with open(f"/proc/{pid}/maps") as f:
            self.base = min(int(line.split("-")[0], 16) for line in f if line.rstrip().endswith(binary))
        self.offsets, self.hit = sorted(offsets), set()
        self.memory = open(f"/proc/{pid}/mem", "r+b", buffering=0)
        threads = [int(task) for task in os.listdir(f"/proc/{pid}/task")]
        for thread in threads:
            libc.ptrace(SEIZE, thread, 0, TRACE_CLONE | EXIT_KILL)
            libc.ptrace(INTERRUPT, thread, 0, 0)
            os.waitpid(thread, ALL_THREADS)
        self.original = {offset: self.swap(offset, BREAKPOINT) for offset in self.offsets}
        for thread in threads:
            libc.ptrace(CONT, thread, 0, 0)

    def swap(self, offset, byte):
        self.memory.seek(self.base + offset)
        before = self.memory.read(1)
        self.memory.seek(self.base + offset)
        self.memory.write(byte)
        return before

    def run(self, seconds):
        end = time.time() + seconds
        while time.time() < end:
            try:
                thread, status = os.waitpid(-1, ALL_THREADS | os.WNOHANG)
            except ChildProcessError:
                return
            if thread == 0:
                time.sleep(0.0005)
            elif os.WIFSTOPPED(status):
                libc.ptrace(CONT, thread, 0, self.stopped(thread, status))

    def end(self):
        """Its threads are buried by who watches them: nobody else can wait for it before."""
        os.kill(self.pid, signal.SIGKILL)
        gone = None
        while gone != self.pid:
            gone, status = os.waitpid(-1, ALL_THREADS)
            gone = None if os.WIFSTOPPED(status) else gone

    def stopped(self, thread, status):
        """The signal to go on with."""
        reason, event = os.WSTOPSIG(status), status >> 16
        if event or reason == signal.SIGSTOP:
            return 0
        if reason != signal.SIGTRAP:
            return reason
        at = (libc.ptrace(PEEKUSER, thread, INSTRUCTION_POINTER, 0) & (1 << 64) - 1) - 1
        offset = at - self.base
        place = bisect.bisect_left(self.offsets, offset)
        if self.offsets[place:place + 1] == [offset]:
            if offset not in self.hit:
                self.hit.add(offset)
                self.swap(offset, self.original[offset])
            libc.ptrace(POKEUSER, thread, INSTRUCTION_POINTER, at)
        return 0


def pattern(name):
    """For the linker: without what changes from one build to the next."""
    name = re.sub(r"17h[0-9a-f]{16}E$", "17h*", name)
    name = re.sub(r"Cs[0-9A-Za-z]+_(?=[0-9])", "Cs*_", name) if name.startswith("_R") else name
    return re.sub(r"\.llvm\.[0-9]+$", "*", name)


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 75
    spec = importlib.util.spec_from_file_location("bench", os.path.join(TOOLS, "bench-agent.py"))
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    names = functions(tools.AGENT)
    if len(names) < 1000:
        sys.exit(f"{tools.AGENT} has no symbols: make order-code")
    folder = tempfile.mkdtemp()
    bench = tools.Bench(folder)
    try:
        agent = bench.agent("agent", bench.mosquitto(), everything=True, tls=True)
        tools.spend([agent], 5)
        # Scraped from another process: this one must never wait while the agent stands still.
        scraper = os.fork()
        if scraper == 0:
            agent.connection = None
            while True:
                tools.spend([agent], 1)
        time.sleep(2)
        watched = Watched(agent.pid, tools.AGENT, names)
        watched.run(seconds)
        os.kill(scraper, signal.SIGKILL)
        watched.end()
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    patterns = sorted({pattern(name) for offset in watched.hit for name in names[offset]})
    with open(OUT, "w") as f:
        f.write("/* Written by tools/order-code.py: the functions that run all the time. See build.rs. */\n")
        f.write("SECTIONS\n{\n  .text.often :\n  {\n")
        f.writelines(f"    *(.text.{name})\n" for name in patterns)
        f.write("  }\n}\nINSERT BEFORE .text;\n")
    print(f"{len(watched.hit)} of {len(names)} functions, {len(patterns)} names, in {OUT}")


if __name__ == "__main__":
    main()
