//! The commands that end by themselves: `sample`, `check`, `--help`.

use std::path::Path;

use serde_json::Value;

use super::support::run;

const NO_FILE: [&str; 2] = ["--config", "/dev/null"];

fn output(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(arguments, environment);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn frozen(part: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host").join(part).display().to_string()
}

#[test]
fn one_pass_is_written_as_text_and_as_json() {
    let text = output(&["sample", NO_FILE[0], NO_FILE[1]], &[]);
    assert!(text.ends_with('\n'));
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line:?}");
    }
    assert!(text.contains("\nnode_load1 ") && text.contains("# TYPE node_cpu_seconds_total counter\n"));

    let text = output(&["sample", "--format", "json", NO_FILE[0], NO_FILE[1]], &[("UTILIZER_AGENT__HOST", "web-01")]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["host"], "web-01");
    let families = json["families"].as_array().unwrap();
    let load = families.iter().find(|family| family["name"] == "node_load1").unwrap();
    assert!(load["type"] == "gauge" && load["samples"][0]["value"].is_number(), "{load}");
    let gauges = json["gauges"].as_array().unwrap();
    assert!(gauges.iter().any(|gauge| gauge["name"] == "memory_percent"), "{gauges:?}");
}

#[test]
fn another_root_is_read_from_switches_before_or_behind_the_command() {
    let (proc, root) = (frozen("proc"), frozen("root"));
    let switches = ["--path.procfs", &proc, "--path.rootfs", &root, "--path.sysfs", &root, "--path.udev.data", &root];
    let behind = [&["sample"][..], &NO_FILE, &switches].concat();
    let before = [&switches[..], &NO_FILE, &["sample"]].concat();
    for arguments in [behind, before] {
        let text = output(&arguments, &[]);
        assert!(text.lines().any(|line| line == "node_load1 0.42"), "{text}");
        assert!(text.contains("device=\"nvme0n1\""), "{text}");
    }
    // The switch stands over the environment, the environment over the file.
    let text = output(
        &["sample", "--path.procfs", &proc, NO_FILE[0], NO_FILE[1]],
        &[("UTILIZER_AGENT__PATH__PROCFS", "/nonexistent")],
    );
    assert!(text.contains("\nnode_load1 0.42\n"), "{text}");
}

#[test]
fn text_files_come_from_each_directory_that_a_switch_names() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    std::fs::write(folders[0].path().join("a.prom"), "# TYPE backup_seconds gauge\nbackup_seconds 12\n").unwrap();
    std::fs::write(folders[1].path().join("b.prom"), "broken").unwrap();
    let [one, two] = folders.each_ref().map(|folder| folder.path().to_str().unwrap());
    let switch = "--collector.textfile.directory";
    let text = output(&["sample", switch, one, switch, two, NO_FILE[0], NO_FILE[1]], &[]);
    assert!(text.contains("\n# TYPE backup_seconds gauge\nbackup_seconds 12\n"), "{text}");
    assert!(text.contains("\nnode_textfile_scrape_error 1\n"), "{text}");
    // An empty text is no value.
    let text = output(&["sample", NO_FILE[0], NO_FILE[1]], &[("UTILIZER_AGENT__PATH__TEXTFILE", "")]);
    assert!(text.contains("\nnode_textfile_scrape_error 0\n"), "{text}");
}

/// A wrong path leaves what does not depend on it, and says what failed.
#[test]
fn a_procfs_that_is_none_is_said() {
    let output = run(&["sample", "--path.procfs", "/nonexistent", NO_FILE[0], NO_FILE[1]], &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/nonexistent/stat"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("utilizer_collector_success{collector=\"cpu\"} 0\n"), "{text}");
    assert!(!text.contains("node_load1"), "{text}");
}

#[test]
fn check_says_what_would_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("agent.toml");
    let password = folder.path().join("password");
    std::fs::write(&password, "correct-horse").unwrap();
    let text = format!(
        "host = \"web-01\"\ninterval = \"15s\"\n[collectors]\ndisable = [\"vmstat\"]\n[serve]\nlisten = \"127.0.0.1:9100\"\n\
         [mqtt]\nurl = \"mqtts://broker.example\"\nusername = \"u\"\npassword_file = \"{}\"\n",
        password.display()
    );
    std::fs::write(&config, text).unwrap();
    let said = output(&["check", "--config", &config.display().to_string()], &[]);
    for part in ["the configuration is valid", "web-01", "15s", "127.0.0.1:9100", "mqtts://broker.example:8883", "cpu,"]
    {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert!(!said.contains("vmstat") && !said.contains("correct-horse"), "{said}");
}

#[test]
fn help_names_every_switch() {
    let help = output(&["--help"], &[]);
    let paths = ["--path.procfs", "--path.sysfs", "--path.rootfs", "--path.udev.data"];
    for part in ["--config", "sample", "check"].into_iter().chain(paths) {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
    let help = output(&["sample", "--help"], &[]);
    for part in ["--format", "prometheus", "json", "--config"].into_iter().chain(paths) {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
    assert_eq!(output(&["--version"], &[]), format!("utilizer-agent {}\n", env!("CARGO_PKG_VERSION")));
}
