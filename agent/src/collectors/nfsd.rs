//! What the kernel's NFS server is asked, from `/proc/net/rpc/nfsd`.

use crate::collectors::rpc::{Numbers, Shown, Source, Statistics};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::{Families, MetricType};

use MetricType::{Counter, Gauge};
use Numbers::{Each, One, Procedure, Procedures};

const VERSION_2: &[&str] = &[
    "", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove", "Rename",
    "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];

const VERSION_3: &[&str] = &[
    "",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

/// By the numbers that RFC 7530 gives the operations, from 0. Those of later minor versions are not shown.
const VERSION_4: &[&str] = &[
    "",
    "",
    "",
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];

const FAMILIES: &[Shown] = &[
    Shown {
        name: "node_nfsd_reply_cache_hits_total",
        help: "Total number of NFSd Reply Cache hits (client lost server response).",
        kind: Counter,
        sources: &[Source { line: "rc", numbers: One(0) }],
    },
    Shown {
        name: "node_nfsd_reply_cache_misses_total",
        help: "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
        kind: Counter,
        sources: &[Source { line: "rc", numbers: One(1) }],
    },
    Shown {
        name: "node_nfsd_reply_cache_nocache_total",
        help: "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
        kind: Counter,
        sources: &[Source { line: "rc", numbers: One(2) }],
    },
    Shown {
        name: "node_nfsd_file_handles_stale_total",
        help: "Total number of NFSd stale file handles",
        kind: Counter,
        sources: &[Source { line: "fh", numbers: One(0) }],
    },
    Shown {
        name: "node_nfsd_disk_bytes_read_total",
        help: "Total NFSd bytes read.",
        kind: Counter,
        sources: &[Source { line: "io", numbers: One(0) }],
    },
    Shown {
        name: "node_nfsd_disk_bytes_written_total",
        help: "Total NFSd bytes written.",
        kind: Counter,
        sources: &[Source { line: "io", numbers: One(1) }],
    },
    Shown {
        name: "node_nfsd_server_threads",
        help: "Total number of NFSd kernel threads that are running.",
        kind: Gauge,
        sources: &[Source { line: "th", numbers: One(0) }],
    },
    Shown {
        name: "node_nfsd_read_ahead_cache_size_blocks",
        help: "How large the read ahead cache is in blocks.",
        kind: Gauge,
        sources: &[Source { line: "ra", numbers: One(0) }],
    },
    Shown {
        name: "node_nfsd_read_ahead_cache_not_found_total",
        help: "Total number of NFSd read ahead cache not found.",
        kind: Counter,
        sources: &[Source { line: "ra", numbers: One(11) }],
    },
    Shown {
        name: "node_nfsd_packets_total",
        help: "Total NFSd network packets (sent+received) by protocol type.",
        kind: Counter,
        sources: &[Source { line: "net", numbers: Each(1, "proto", &["udp", "tcp"]) }],
    },
    Shown {
        name: "node_nfsd_connections_total",
        help: "Total number of NFSd TCP connections.",
        kind: Counter,
        sources: &[Source { line: "net", numbers: One(3) }],
    },
    Shown {
        name: "node_nfsd_rpc_errors_total",
        help: "Total number of NFSd RPC errors by error type.",
        kind: Counter,
        sources: &[Source { line: "rpc", numbers: Each(2, "error", &["fmt", "auth", "cInt"]) }],
    },
    Shown {
        name: "node_nfsd_server_rpcs_total",
        help: "Total number of NFSd RPCs.",
        kind: Counter,
        sources: &[Source { line: "rpc", numbers: One(0) }],
    },
    Shown {
        name: "node_nfsd_requests_total",
        help: "Total number NFSd Requests by method and protocol.",
        kind: Counter,
        sources: &[
            Source { line: "proc2", numbers: Procedures("2", VERSION_2) },
            Source { line: "proc3", numbers: Procedures("3", VERSION_3) },
            Source { line: "proc4ops", numbers: Procedures("4", VERSION_4) },
            Source { line: "wdeleg_getattr", numbers: Procedure("4", "WdelegGetattr") },
        ],
    },
];

/// See the module.
pub(crate) struct Nfsd(Statistics);

impl Nfsd {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self(Statistics::new(host.proc("net/rpc/nfsd"), FAMILIES))
    }
}

impl Collector for Nfsd {
    fn name(&self) -> &'static str {
        "nfsd"
    }

    fn begin(&mut self, pass: Pass) {
        self.0.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        self.0.collect(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::rpc::{shown, value};

    const TEXT: &str = "rc 1 6 900\nfh 9 0 0 0 0\nio 40960 8192\nth 8 0 0.000 0.000\nnet 910 1 909 6\n\
                        rpc 907 6 1 2 3\nproc4 2 2 700\nproc4ops 5 0 0 0 77 2\nwdeleg_getattr 16\n";

    #[test]
    fn operations_have_the_numbers_of_the_protocol() {
        let out = shown(FAMILIES, TEXT.as_bytes()).unwrap();
        let requests = |method| value(&out, "node_nfsd_requests_total", &[("method", method), ("proto", "4")]);
        assert_eq!(requests("Access"), Some(77.0));
        assert_eq!(requests("Close"), Some(2.0));
        assert_eq!(requests("Commit"), None, "an older kernel does not count it");
        assert_eq!(requests("WdelegGetattr"), Some(16.0));
        assert_eq!(out.samples("node_nfsd_requests_total").len(), 3);
        assert_eq!(VERSION_4.iter().position(|name| *name == "RelLockOwner"), Some(39));
        assert_eq!(out.single("node_nfsd_server_threads"), Some(8.0));
        assert_eq!(value(&out, "node_nfsd_rpc_errors_total", &[("error", "cInt")]), Some(3.0));
        assert_eq!(out.single("node_nfsd_read_ahead_cache_size_blocks"), None, "newer kernels have no such cache");
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for end in 0..TEXT.len() {
            let cut = &TEXT[..end];
            assert!(shown(FAMILIES, cut.as_bytes()).is_err() || cut.ends_with('\n'), "{cut:?}");
        }
        for bad in [
            &b"\x00\x01\n"[..],
            b"rc 1 2\n",
            b"th x\n",
            b"ra 16 0 0 0 0 0 0 0 0 0 0\n",
            b"io 1 99999999999999999999\n",
            b"proc4ops 3 1 2\n",
            b"proc4ops\n",
            b"wdeleg_getattr\n",
        ] {
            assert!(shown(FAMILIES, bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
