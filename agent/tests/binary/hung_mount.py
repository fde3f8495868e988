"""A file system whose server never answers: what a dead NFS server is to whoever asks how full it is.

    hung_mount.py DIRECTORY        mounts it there, says "mounted", and hangs until it is killed

FUSE by hand over /dev/fuse. The server answers the kernel's greeting and reads nothing more. A request that it had read could
not be given up by a process that is killed; one that waits to be read can.
"""

import ctypes
import os
import signal
import stat
import struct
import sys

FUSE_INIT = 26
IN_HEADER = "<IIQQIIII"
OUT_HEADER = "<IiQ"
INIT_OUT = "<IIIIHHIIHHI7I"

# Not to outlive a test by much, whatever becomes of it.
signal.alarm(300)
try:
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except FileNotFoundError:
        # A container without the node may have the right to make one.
        node = sys.argv[1] + ".fuse"
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(10, 229))
        device = os.open(node, os.O_RDWR)
        os.unlink(node)
except OSError as error:
    sys.exit(f"hung_mount: can not open /dev/fuse: {error}; load it with: modprobe fuse, or give the container "
             "--device /dev/fuse --cap-add SYS_ADMIN")
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"nowhere:/export", sys.argv[1].encode(), b"fuse", 0, options) != 0:
    sys.exit(f"hung_mount: can not mount a FUSE file system: {os.strerror(ctypes.get_errno())}")
request = os.read(device, 1 << 16)
_, opcode, unique, *_ = struct.unpack_from(IN_HEADER, request)
assert opcode == FUSE_INIT, opcode
major, minor, readahead = struct.unpack_from("<III", request, struct.calcsize(IN_HEADER))
answer = struct.pack(INIT_OUT, major, min(minor, 31), readahead, 0, 0, 0, 4096, 1, 0, 0, 0, *[0] * 7)
os.write(device, struct.pack(OUT_HEADER, struct.calcsize(OUT_HEADER) + len(answer), 0, unique) + answer)
print("mounted", flush=True)
signal.pause()
