//! A file that the agent's user may not read.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::support::Setup;

#[test]
fn a_file_that_may_not_be_read_fails_its_collector_once_in_the_log() {
    let procfs = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host/proc");
    for file in ["loadavg", "meminfo"] {
        fs::copy(fixtures.join(file), procfs.path().join(file)).unwrap();
    }
    let loadavg = procfs.path().join("loadavg");
    fs::set_permissions(&loadavg, Permissions::from_mode(0o0)).unwrap();

    let mut setup = Setup::new()
        .set("path.procfs", procfs.path().display().to_string())
        .set("collectors.disable_defaults", true)
        .set("collectors.enable", vec!["loadavg", "meminfo"]);
    if rustix::process::geteuid().is_root() {
        // Without these, permissions count for root as well.
        setup = setup.run_by(&["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]);
    }
    let agent = setup.start();
    agent.metric_becomes(r#"utilizer_collector_success{collector="loadavg"}"#, |value| value == 0.0);
    assert_eq!(agent.metric(r#"utilizer_collector_success{collector="meminfo"}"#), Some(1.0));
    assert!(agent.metric("node_memory_MemTotal_bytes").is_some() && agent.metric("node_load1").is_none());
    agent.metric_becomes("utilizer_sampler_passes_total", |passes| passes >= 5.0);
    let said = format!("cannot read {}: Permission denied", loadavg.display());
    assert_eq!(agent.log().matches(&said).count(), 1, "{}", agent.log());
    assert!(agent.log().contains("allow the agent's user to read it, or disable the collector"), "{}", agent.log());

    fs::set_permissions(&loadavg, Permissions::from_mode(0o444)).unwrap();
    agent.metric_becomes(r#"utilizer_collector_success{collector="loadavg"}"#, |value| value == 1.0);
    agent.says("collector works again");
}
