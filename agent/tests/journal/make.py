#!/usr/bin/env python3
"""Writes entries in the journal's export format. The two files here were made of 120 of them with systemd 252:

    ./make.py 120 | /usr/lib/systemd/systemd-journal-remote -o compact.journal -
    ./make.py 120 | SYSTEMD_JOURNAL_COMPACT=0 /usr/lib/systemd/systemd-journal-remote -o regular.journal -
    gzip -9n compact.journal regular.journal
"""

import struct
import sys


def field(name, value):
    value = value if isinstance(value, bytes) else value.encode()
    out = sys.stdout.buffer
    if any(byte < 32 for byte in value):
        out.write(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
    else:
        out.write(name.encode() + b"=" + value + b"\n")


for i in range(1, int(sys.argv[1]) + 1):
    field("__REALTIME_TIMESTAMP", str(1790000000000000 + i * 1000))
    field("__MONOTONIC_TIMESTAMP", str(i * 1000))
    field("_BOOT_ID", "1" * 32)
    field("_MACHINE_ID", "0123456789abcdef0123456789abcdef")
    field("_HOSTNAME", "web-01")
    field("_TRANSPORT", "stdout")
    field("_SYSTEMD_UNIT", "shop.service" if i % 2 else "ssh.service")
    field("SYSLOG_IDENTIFIER", "python3" if i % 2 else "sshd")
    field("_PID", str(1000 + i % 5))
    field("PRIORITY", str([6, 6, 4, 6, 3][i % 5]))
    if i % 50 == 10:
        # Long enough to be compressed.
        trace = f'Traceback (most recent call last):\n  File "x.py", line {i}\nValueError: long '
        field("MESSAGE", trace + f"abcdefgh{i}" * 400)
    elif i % 50 == 20:
        field("MESSAGE", b"bin\x00\xff\x01 %d" % i)
    else:
        field("MESSAGE", f"line {i}")
    if i % 10 == 3:
        field("TAG", "one")
        field("TAG", "two")
    sys.stdout.buffer.write(b"\n")
