//! Alerts as public rules for hosts have them, with a short `for`, whose causes are made on this machine.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use test_servers::{Mosquitto, wait_for};

use super::rules::{Files, transitions};
use super::support::Watch;

/// Processes that end with the test, under a name of their own.
struct Processes(Vec<Child>);

impl Processes {
    fn start(files: &Files, name: &str, count: usize, program: &str, arguments: &[&str]) -> Self {
        let path = files.path(name);
        symlink(format!("/bin/{program}"), &path).unwrap();
        let start = |_| Command::new(&path).arg0(program).args(arguments).spawn().unwrap();
        Self((0..count).map(start).collect())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until an alert of this name is so, and returns its record.
fn becomes(watch: &Watch, name: &str, state: &str) -> Value {
    wait_for(&format!("{name} {state}"), || {
        transitions(watch, state).into_iter().find(|record| record["alert"]["labels"]["alertname"] == name)
    })
}

/// Each alert fired once, was pending before, and ended once.
fn once_each(watch: &Watch, names: &[&str]) {
    for state in ["firing", "resolved"] {
        let told = transitions(watch, state);
        let mut found: Vec<&str> =
            told.iter().map(|record| record["alert"]["labels"]["alertname"].as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, names, "{state}");
        assert!(told.iter().all(|record| record["alert"]["active_at"].as_str() < record["alert"]["fired_at"].as_str()));
    }
}

/// What other processes of the machine do must not matter: groups of processes instead of all of them.
#[test]
fn a_stale_textfile_too_many_processes_and_a_busy_one_are_told() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let files = Files::new(
        r#"
- name: g
  rules:
  - alert: BusyProcess
    for: 300ms
    expr: sum by (groupname) (rate(namedprocess_namegroup_cpu_seconds_total[2s])) > 0.01
  - {alert: StaleTextfile, for: 300ms, expr: time() - node_textfile_mtime_seconds > 3600}
  - {alert: TooManyProcesses, for: 300ms, expr: namedprocess_namegroup_num_procs > 5}
"#,
    );
    let groups: toml::Table =
        toml::from_str("[[groups]]\ncomm = ['rules-many', 'rules-busy']\nname = '{{.Comm}}'").unwrap();
    files.metrics("t_value 1");
    let agent = files.setup(&broker).set("collectors.processes", groups).start();
    agent.metric_becomes("utilizer_agent_rule_evaluations_total", |count| count > 3.0);

    let file = std::fs::File::options().append(true).open(files.path("textfiles/test.prom")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    let many = Processes::start(&files, "rules-many", 6, "sleep", &["600"]);
    let busy = Processes::start(&files, "rules-busy", 1, "sh", &["-c", "while :; do :; done"]);
    let stale = becomes(&watch, "StaleTextfile", "firing");
    assert!(stale["alert"]["labels"]["file"].as_str().unwrap().ends_with("test.prom"), "{stale}");
    assert!(stale["alert"]["value"].as_f64().unwrap() >= 7200.0, "{stale}");
    let crowd = becomes(&watch, "TooManyProcesses", "firing");
    assert_eq!(
        (&crowd["alert"]["labels"]["groupname"], crowd["alert"]["value"].as_f64()),
        (&"rules-many".into(), Some(6.0))
    );
    assert_eq!(becomes(&watch, "BusyProcess", "firing")["alert"]["labels"]["groupname"], "rules-busy");

    drop((many, busy));
    files.metrics("t_value 1");
    let names = ["BusyProcess", "StaleTextfile", "TooManyProcesses"];
    names.iter().for_each(|name| _ = becomes(&watch, name, "resolved"));
    once_each(&watch, &names);
}

/// A tmpfs of the agent's own mount namespace. Its process namespace is its own as well, since the mounts of process 1 are
/// shown. Like the test of a hung mount it needs root or user namespaces, and is not skipped without.
#[test]
fn a_file_system_that_is_almost_full_is_told() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let files = Files::new(
        r#"
- name: g
  rules:
  - alert: AlmostFull
    for: 300ms
    expr: |
      node_filesystem_avail_bytes{fstype="tmpfs"} / node_filesystem_size_bytes < 0.05
      and node_filesystem_readonly == 0
    annotations: {text: '{{ $labels.mountpoint }} has {{ $value | humanizePercentage }} left'}
"#,
    );
    let point = files.path("full");
    std::fs::create_dir(&point).unwrap();
    let script = format!("mount -t tmpfs -o size=4m tmpfs {point} || exit 99; exec \"$@\"");
    let mut unshare = vec!["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !rustix::process::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let agent = files.setup(&broker).run_by(&[&unshare[..], &["sh", "-c", &script, "sh"]].concat()).start();
    wait_for("the mount is shown", || {
        let log = agent.log();
        let refused = log.contains("unshare: ") || log.contains("mount: ");
        assert!(
            !refused,
            "this test needs the right to mount a tmpfs in a namespace (root, or user namespaces): {log}"
        );
        log.contains("serving on http://").then_some(())
    });
    wait_for("the tmpfs is measured", || {
        let of_it = format!("mountpoint=\"{point}\"");
        let page = agent.get("/metrics").body;
        page.lines().any(|line| line.starts_with("node_filesystem_avail_bytes{") && line.contains(&of_it)).then_some(())
    });

    // As the agent sees it.
    let inside = format!("/proc/{}/root{point}/fill", agent.pid().as_raw_nonzero());
    std::fs::write(&inside, vec![0; (4 << 20) - (64 << 10)]).unwrap();
    let fired = becomes(&watch, "AlmostFull", "firing");
    assert_eq!(fired["alert"]["labels"]["mountpoint"], *point);
    std::fs::remove_file(Path::new(&inside)).unwrap();
    becomes(&watch, "AlmostFull", "resolved");
    once_each(&watch, &["AlmostFull"]);
}
