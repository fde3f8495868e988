//! Space and inodes of each mounted file system.
//!
//! Which mounts there are comes from `/proc/1/mountinfo`: the host's view, not that of the agent's own sandbox. How
//! full they are is asked by a worker thread at interval passes only, since a dead server behind a mount makes the
//! question hang; scrapes show the last answers.

mod mounts;
mod prober;

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{HostRoot, KeptFile, ReadError};
use crate::pattern::Pattern;
use crate::snapshot::{Families, Labels};
use mounts::Mount;
use prober::{Answer, Prober};

/// How long an interval pass waits for answers; the healthy come within microseconds. Later ones are shown from the
/// next pass on.
const PATIENCE: Duration = Duration::from_millis(100);

/// The list of mounts is read so often even if the kernel says that it is the same: it does not say when a file system
/// turns read-only after an error.
const PASSES: u32 = 5;

/// `[collectors.filesystem]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a mount may take to answer before it is shown as hung.
    #[serde(with = "daemon::config::duration")]
    pub mount_timeout: Duration,
    /// Show only mount points that match.
    pub mount_points_include: Pattern,
    /// Show no mount points that match.
    pub mount_points_exclude: Pattern,
    /// Show only types that match.
    pub fs_types_include: Pattern,
    /// Show no types that match; those that hold nothing to run full by default.
    pub fs_types_exclude: Pattern,
}

impl Default for Settings {
    /// node_exporter's.
    fn default() -> Self {
        Self {
            mount_timeout: Duration::from_secs(5),
            mount_points_include: Pattern::default(),
            mount_points_exclude: Pattern::fixed(
                r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
            ),
            fs_types_include: Pattern::default(),
            fs_types_exclude: Pattern::fixed(concat!(
                "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|erofs|fusectl|hugetlbfs|iso9660|",
                "mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
            )),
        }
    }
}

/// A mount that is shown.
struct Shown {
    mount: Mount,
    labels: Labels,
    /// For `node_filesystem_mount_info`.
    mount_labels: Labels,
    /// The labels with the error's text, made when there is an error.
    error_labels: Option<(String, Labels)>,
    answer: Option<Answer>,
}

/// See the module.
pub(crate) struct Filesystem {
    host: HostRoot,
    settings: Settings,
    mountinfo: KeptFile,
    own_mountinfo: KeptFile,
    /// Passes for which the kernel's word that nothing changed was taken.
    unread: u32,
    /// The text that `shown` was made from: mounts change rarely.
    text: Vec<u8>,
    shown: Vec<Shown>,
    /// Where each of `shown` is seen from here.
    points: Vec<OsString>,
    prober: Prober,
    error: Option<CollectError>,
    /// The last refresh failed.
    failing: bool,
}

impl Filesystem {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self {
            host: host.clone(),
            settings: settings.clone(),
            mountinfo: KeptFile::telling(host.proc("1/mountinfo")),
            own_mountinfo: KeptFile::listing(host.proc("self/mountinfo")),
            unread: 0,
            text: Vec::new(),
            shown: Vec::new(),
            points: Vec::new(),
            prober: Prober::new(settings.mount_timeout),
            error: None,
            failing: false,
        }
    }

    /// Brings `shown` up to date with the list of mounts.
    fn read_mounts(&mut self) -> Result<(), CollectError> {
        let Self { host, settings, mountinfo, own_mountinfo, unread, text, shown, .. } = self;
        // No text: it could not be read or parsed the last time.
        if !text.is_empty() && *unread < PASSES && mountinfo.is_unchanged() {
            *unread += 1;
            return Ok(());
        }
        *unread = 0;
        let changed = |file: &mut KeptFile, text: &mut Vec<u8>| {
            file.read(|now| {
                let changed = now != text.as_slice();
                if changed {
                    text.clear();
                    text.extend_from_slice(now);
                }
                changed
            })
        };
        let (changed, path) = match changed(mountinfo, text) {
            Ok(changed) => (changed, mountinfo.path()),
            // In a container of its own without the host's procfs there may be no process 1 that may be looked at.
            Err(first) => match changed(own_mountinfo, text) {
                Ok(changed) => (changed, own_mountinfo.path()),
                Err(ReadError::Io { .. }) => return Err(first.into()),
                Err(other) => return Err(other.into()),
            },
        };
        if !changed {
            return Ok(());
        }
        let mounts = match mounts::parse(text, host, settings) {
            Ok(mounts) => mounts,
            Err(error) => {
                let error = CollectError::malformed(path)(error);
                // Not to be taken for known at the next pass.
                text.clear();
                shown.clear();
                self.points.clear();
                return Err(error);
            }
        };
        let mut before: HashMap<Mount, Shown> = shown.drain(..).map(|one| (one.mount.clone(), one)).collect();
        *shown = mounts
            .into_iter()
            .map(|mount| {
                before.remove(&mount).unwrap_or_else(|| Shown {
                    labels: Labels::new([
                        ("device", &*mount.device),
                        ("fstype", &*mount.fstype),
                        ("mountpoint", &*mount.mountpoint.to_string_lossy()),
                    ]),
                    mount_labels: Labels::new([
                        ("device", &*mount.device),
                        ("major", &*mount.numbers.0.to_string()),
                        ("minor", &*mount.numbers.1.to_string()),
                        ("mountpoint", &*mount.mountpoint.to_string_lossy()),
                    ]),
                    mount,
                    error_labels: None,
                    answer: None,
                })
            })
            .collect();
        self.points = self.shown.iter().map(|one| self.host.at_root(&one.mount.mountpoint).into()).collect();
        Ok(())
    }

    fn refresh(&mut self) -> Result<(), CollectError> {
        self.read_mounts()?;
        self.prober.ask(&self.points, PATIENCE)?;
        for (one, point) in self.shown.iter_mut().zip(&self.points) {
            one.set(self.prober.answer(point));
        }
        Ok(())
    }
}

impl Shown {
    fn set(&mut self, answer: Option<&Answer>) {
        match answer {
            None | Some(Ok(_)) => self.error_labels = None,
            Some(Err(error)) if self.error_labels.as_ref().is_some_and(|(text, _)| text == error) => {}
            Some(Err(error)) => {
                let pairs = self.labels.iter().chain([("device_error", error.as_str())]);
                let labels = Labels::owned(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                self.error_labels = Some((error.clone(), labels));
            }
        }
        self.answer = answer.cloned();
    }
}

impl Collector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn begin(&mut self, pass: Pass) {
        // After a failure a scrape asks too: else it would show answers from before as if all were well, and tell the log
        // that the collector works again.
        if pass == Pass::Interval || self.failing {
            self.error = self.refresh().err();
            self.failing = self.error.is_some();
        }
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let answered = || self.shown.iter().filter_map(|one| Some((one, one.answer.as_ref()?)));
        let space = || answered().filter_map(|(one, answer)| Some((one, answer.as_ref().ok()?)));

        out.gauge("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.");
        space().for_each(|(one, space)| out.push(&one.labels, space.available));
        out.gauge(
            "node_filesystem_device_error",
            "Whether an error occurred while getting statistics for the given device.",
        );
        for (one, answer) in answered() {
            let labels = one.error_labels.as_ref().map_or(&one.labels, |(_, labels)| labels);
            out.push(labels, f64::from(answer.is_err()));
        }
        out.gauge("node_filesystem_files", "Filesystem total file nodes.");
        space().for_each(|(one, space)| out.push(&one.labels, space.files));
        out.gauge("node_filesystem_files_free", "Filesystem total free file nodes.");
        space().for_each(|(one, space)| out.push(&one.labels, space.files_free));
        out.gauge("node_filesystem_free_bytes", "Filesystem free space in bytes.");
        space().for_each(|(one, space)| out.push(&one.labels, space.free));
        out.gauge("node_filesystem_mount_info", "Filesystem mount information.");
        space().for_each(|(one, _)| out.push(&one.mount_labels, 1.0));
        out.gauge("node_filesystem_readonly", "Filesystem read-only status.");
        answered().for_each(|(one, _)| out.push(&one.labels, f64::from(one.mount.readonly)));
        out.gauge("node_filesystem_size_bytes", "Filesystem size in bytes.");
        space().for_each(|(one, space)| out.push(&one.labels, space.size));
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(mountinfo: &str) -> (tempfile::TempDir, HostRoot) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/1")).unwrap();
        std::fs::create_dir_all(dir.path().join("root/data")).unwrap();
        std::fs::write(dir.path().join("proc/1/mountinfo"), mountinfo).unwrap();
        let host = HostRoot { proc: dir.path().join("proc"), root: dir.path().join("root"), ..HostRoot::default() };
        (dir, host)
    }

    fn run(collector: &mut Filesystem, pass: Pass) -> Families {
        let mut out = Families::default();
        collector.begin(pass);
        collector.collect(&mut out).unwrap();
        out
    }

    /// Passes until every mount has an answer: how long that takes is the machine's business.
    fn run_until_answered(collector: &mut Filesystem) -> Families {
        loop {
            let out = run(collector, Pass::Interval);
            if collector.shown.iter().all(|one| one.answer.is_some()) {
                return out;
            }
        }
    }

    #[test]
    fn a_mount_is_read_below_the_root_and_a_lost_one_is_an_error() {
        let (_dir, host) = host(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /data ro - xfs /dev/sdb rw\n3 1 8:3 / /lost rw - xfs /dev/sdc rw\n",
        );
        let mut collector = Filesystem::new(&host, &Settings::default());
        let out = run_until_answered(&mut collector);
        assert_eq!(out.samples("node_filesystem_size_bytes").len(), 2);
        let errors = out.samples("node_filesystem_device_error");
        assert_eq!(errors.iter().map(|s| s.value).collect::<Vec<_>>(), [0.0, 0.0, 1.0]);
        assert_eq!(errors[0].labels.get("device_error"), None);
        assert_eq!(errors[2].labels.get("device_error"), Some("no such file or directory"));
        let readonly: Vec<_> = out.samples("node_filesystem_readonly").iter().map(|s| s.value).collect();
        assert_eq!(readonly, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn scrapes_show_the_last_interval() {
        let (dir, host) = host("2 1 8:2 / /data rw - xfs /dev/sdb rw\n");
        let mut collector = Filesystem::new(&host, &Settings::default());
        assert!(run(&mut collector, Pass::Scrape).is_empty());
        run_until_answered(&mut collector);
        std::fs::remove_dir(dir.path().join("root/data")).unwrap();
        let out = run(&mut collector, Pass::Scrape);
        assert_eq!(out.samples("node_filesystem_size_bytes").len(), 1);
    }

    #[test]
    fn a_broken_list_fails_until_it_is_whole() {
        let (dir, host) = host("broken");
        let mut collector = Filesystem::new(&host, &Settings::default());
        for pass in [Pass::Interval, Pass::Scrape, Pass::Interval] {
            collector.begin(pass);
            let error = collector.collect(&mut Families::default()).unwrap_err();
            assert!(error.to_string().contains("1/mountinfo does not read as expected"), "{error}");
        }
        std::fs::write(dir.path().join("proc/1/mountinfo"), "2 1 8:2 / /data rw - xfs /dev/sdb rw\n").unwrap();
        assert!(!run_until_answered(&mut collector).is_empty());
    }

    #[test]
    fn the_own_view_serves_where_the_hosts_can_not_be_had() {
        let (dir, host) = host("");
        std::fs::remove_file(dir.path().join("proc/1/mountinfo")).unwrap();
        let mut collector = Filesystem::new(&host, &Settings::default());
        collector.begin(Pass::Interval);
        let error = collector.collect(&mut Families::default()).unwrap_err();
        assert!(error.to_string().contains("1/mountinfo"), "{error}");

        std::fs::create_dir(dir.path().join("proc/self")).unwrap();
        let point = dir.path().join("root/data");
        let text = format!("2 1 8:2 / {} rw - xfs /dev/sdb rw\n", point.display());
        std::fs::write(dir.path().join("proc/self/mountinfo"), text).unwrap();
        let out = run_until_answered(&mut collector);
        // Seen here below the root, shown as the host knows it.
        assert_eq!(out.samples("node_filesystem_size_bytes")[0].labels.get("mountpoint"), Some("/data"));
    }
}
