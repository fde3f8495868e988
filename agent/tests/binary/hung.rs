//! A mount that hangs: a FUSE file system whose server does not answer, in a mount namespace of the agent's own.

use std::path::Path;

use test_servers::wait_for;

use super::support::{Agent, Setup};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/binary/hung_mount.py");

/// An agent that sees the mount. Its process namespace is its own as well, so that process 1, whose mounts are shown, has
/// this one. A machine that allows none of it fails the test: it must not be skipped.
fn beside_a_hung_mount(setup: Setup, point: &Path) -> Agent {
    let point = point.display();
    let script = format!(
        "python3 {SERVER} {point} > {point}.said & server=$!; \
         until [ -s {point}.said ]; do kill -0 $server || exit 99; sleep 0.02; done; exec \"$@\""
    );
    let mut unshare = vec!["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !rustix::process::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let agent = setup.run_by(&[&unshare[..], &["sh", "-c", &script, "sh"]].concat()).start();
    wait_for("the agent serves in its namespaces", || {
        let log = agent.log();
        let refused = ["hung_mount: ", "unshare: ", "python3: "].iter().find(|begin| log.contains(**begin));
        assert!(
            refused.is_none(),
            "the test of a hung mount needs python3 and the right to mount a FUSE file system in a namespace (root, or user \
             namespaces, and /dev/fuse): {log}"
        );
        log.contains("serving on http://").then_some(())
    });
    agent
}

/// The lines of the family for this mount.
fn lines(agent: &Agent, family: &str, point: &Path) -> Vec<String> {
    let mount = format!("mountpoint=\"{}\"", point.display());
    let answer = agent.get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.lines().filter(|line| line.starts_with(family) && line.contains(&mount)).map(str::to_owned).collect()
}

#[test]
fn a_mount_that_hangs_is_an_error_and_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().join("hung");
    std::fs::create_dir(&point).unwrap();
    let settings = toml::Table::from_iter([("mount_timeout".to_owned(), "200ms".into())]);
    let agent = beside_a_hung_mount(Setup::new().set("collectors.filesystem", settings), &point);

    let hung = wait_for("the mount is shown as hung", || {
        lines(&agent, "node_filesystem_device_error{", &point).into_iter().find(|line| line.ends_with(" 1"))
    });
    assert!(hung.contains(r#"fstype="fuse""#) && hung.contains("device_error=\""), "{hung}");
    assert_eq!(lines(&agent, "node_filesystem_size_bytes{", &point), [""; 0]);
    // Everything else goes on.
    let passes = agent.metric("utilizer_sampler_passes_total").unwrap();
    agent.metric_becomes("utilizer_sampler_passes_total", |now| now >= passes + 10.0);
    assert_eq!(agent.metric(r#"utilizer_collector_success{collector="filesystem"}"#), Some(1.0));
    assert_eq!(agent.metric(r#"utilizer_collector_success{collector="loadavg"}"#), Some(1.0));
    assert_eq!(agent.get("/readyz").status, 200, "{}", agent.log());
}

#[test]
fn a_sampler_that_hangs_is_not_ready_and_stops_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (point, proc) = (folder.path().join("hung"), folder.path().join("proc"));
    std::fs::create_dir(&point).unwrap();
    std::fs::create_dir(&proc).unwrap();
    let agent = beside_a_hung_mount(Setup::new().set("path.procfs", proc.display().to_string()), &point);
    wait_for("ready", || (agent.get("/readyz").status == 200).then_some(()));
    std::os::unix::fs::symlink(point.join("loadavg"), proc.join("loadavg")).unwrap();
    let answer = wait_for("not ready", || Some(agent.get("/readyz")).filter(|answer| answer.status == 503));
    assert!(answer.body.contains("a read of the host's files hangs"), "{}", answer.body);
    assert_eq!(agent.get("/healthz").status, 200);
}
