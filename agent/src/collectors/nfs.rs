//! What this machine asks of NFS servers, from `/proc/net/rpc/nfs`.

use crate::collectors::rpc::{Numbers, Shown, Source, Statistics};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::snapshot::{Families, MetricType};

use MetricType::Counter;
use Numbers::{Each, One, Procedures};

const VERSION_2: &[&str] = &[
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove",
    "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];

const VERSION_3: &[&str] = &[
    "Null",
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

/// In the order of Linux's client, which is not that of the protocol.
const VERSION_4: &[&str] = &[
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

const FAMILIES: &[Shown] = &[
    Shown {
        name: "node_nfs_packets_total",
        help: "Total NFSd network packets (sent+received) by protocol type.",
        kind: Counter,
        sources: &[Source { line: "net", numbers: Each(1, "protocol", &["udp", "tcp"]) }],
    },
    Shown {
        name: "node_nfs_connections_total",
        help: "Total number of NFSd TCP connections.",
        kind: Counter,
        sources: &[Source { line: "net", numbers: One(3) }],
    },
    Shown {
        name: "node_nfs_rpcs_total",
        help: "Total number of RPCs performed.",
        kind: Counter,
        sources: &[Source { line: "rpc", numbers: One(0) }],
    },
    Shown {
        name: "node_nfs_rpc_retransmissions_total",
        help: "Number of RPC transmissions performed.",
        kind: Counter,
        sources: &[Source { line: "rpc", numbers: One(1) }],
    },
    Shown {
        name: "node_nfs_rpc_authentication_refreshes_total",
        help: "Number of RPC authentication refreshes performed.",
        kind: Counter,
        sources: &[Source { line: "rpc", numbers: One(2) }],
    },
    Shown {
        name: "node_nfs_requests_total",
        help: "Number of NFS procedures invoked.",
        kind: Counter,
        sources: &[
            Source { line: "proc2", numbers: Procedures("2", VERSION_2) },
            Source { line: "proc3", numbers: Procedures("3", VERSION_3) },
            Source { line: "proc4", numbers: Procedures("4", VERSION_4) },
        ],
    },
];

/// See the module.
pub(crate) struct Nfs(Statistics);

impl Nfs {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self(Statistics::new(host.proc("net/rpc/nfs"), FAMILIES))
    }
}

impl Collector for Nfs {
    fn name(&self) -> &'static str {
        "nfs"
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

    const TEXT: &str = "net 50 5 45 3\nrpc 8000 17 8011\nproc3 3 1 404 29\nproc4 2 0 12\n";

    #[test]
    fn a_line_that_a_kernel_lacks_is_missing() {
        let out = shown(FAMILIES, TEXT.as_bytes()).unwrap();
        assert_eq!(value(&out, "node_nfs_packets_total", &[("protocol", "tcp")]), Some(45.0));
        assert_eq!(out.single("node_nfs_connections_total"), Some(3.0));
        assert_eq!(out.single("node_nfs_rpc_retransmissions_total"), Some(17.0));
        let requests = |method, proto| value(&out, "node_nfs_requests_total", &[("method", method), ("proto", proto)]);
        assert_eq!(requests("GetAttr", "3"), Some(404.0));
        assert_eq!(requests("Read", "4"), Some(12.0));
        // An older kernel has fewer procedures, and may know nothing of a version.
        assert_eq!(requests("Commit", "3"), None);
        assert_eq!(requests("GetAttr", "2"), None);
    }

    #[test]
    fn what_a_newer_kernel_has_is_passed_over() {
        let many = format!("{TEXT}proc4 75{}\nnew 1.5 x\n", " 7".repeat(75));
        let out = shown(FAMILIES, many.as_bytes()).unwrap();
        let of_4 = out.samples("node_nfs_requests_total").iter().filter(|s| s.labels.get("proto") == Some("4"));
        assert_eq!(of_4.count(), VERSION_4.len());
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for end in 0..TEXT.len() {
            let cut = &TEXT[..end];
            assert!(shown(FAMILIES, cut.as_bytes()).is_err() || cut.ends_with('\n'), "{cut:?}");
        }
        for bad in [
            &b"\xff\xfe\x00\n"[..],
            b"other 1 2\n",
            b"net\n",
            b"net 1 2 3\n",
            b"net 1 2 3 x\n",
            b"rpc 1 18446744073709551616 3\n",
            b"rpc 1 -2 3\n",
            b"proc3 22 1 2\n",
            b"proc3 18446744073709551615 1 2\n",
            b"proc4 1 2 3\n",
        ] {
            assert!(shown(FAMILIES, bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
