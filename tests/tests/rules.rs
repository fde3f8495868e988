//! The repository's own rules, where a person would have to remember them: what depends on what, what is spelled where,
//! what every crate and every decision record must have. A failure names the file and the remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What each of our packages may link of our own, by package name. One direction: a package stands below those that name
/// it. Who adds a package says here where it stands.
const MAY_USE: &[(&str, &[&str])] = &[
    ("utilizer-wire", &[]),
    ("utilizer-delivery", &["utilizer-wire"]),
    ("utilizer-spool", &[]),
    ("utilizer-tls", &[]),
    ("utilizer-mqtt", &["utilizer-tls"]),
    ("utilizer-config", &[]),
    ("utilizer-daemon", &["utilizer-config", "utilizer-mqtt", "utilizer-tls"]),
    ("utilizer-rules", &["utilizer-config"]),
    ("utilizer-notify", &["utilizer-wire", "utilizer-config", "utilizer-rules"]),
    ("utilizer-logs", &["utilizer-wire", "utilizer-config"]),
    (
        "utilizer-exporter",
        &["utilizer-wire", "utilizer-delivery", "utilizer-spool", "utilizer-daemon", "utilizer-mqtt"],
    ),
    (
        "utilizer-agent",
        &[
            "utilizer-wire",
            "utilizer-delivery",
            "utilizer-spool",
            "utilizer-daemon",
            "utilizer-mqtt",
            "utilizer-rules",
            "utilizer-notify",
            "utilizer-logs",
            "utilizer-tls",
        ],
    ),
    (
        "utilizer-exporter-postgres",
        &["utilizer-wire", "utilizer-delivery", "utilizer-daemon", "utilizer-exporter", "utilizer-tls"],
    ),
    ("utilizer-exporter-clickhouse", &["utilizer-wire", "utilizer-delivery", "utilizer-daemon", "utilizer-exporter"]),
    ("utilizer-exporter-sqlite", &["utilizer-wire", "utilizer-delivery", "utilizer-daemon", "utilizer-exporter"]),
    (
        "utilizer-exporter-alertmanager",
        &["utilizer-wire", "utilizer-daemon", "utilizer-mqtt", "utilizer-notify", "utilizer-rules"],
    ),
    (
        "utilizer",
        &[
            "utilizer-wire",
            "utilizer-delivery",
            "utilizer-spool",
            "utilizer-daemon",
            "utilizer-mqtt",
            "utilizer-notify",
            "utilizer-exporter",
            "utilizer-rules",
            "utilizer-agent",
            "utilizer-exporter-sqlite",
        ],
    ),
    ("utilizer-jobs", &["utilizer-wire", "utilizer-daemon"]),
    ("utilizer-test-servers", &[]),
    ("utilizer-tests", &["utilizer-test-servers"]),
];

/// Client libraries of databases: a host that is watched has no way into a store.
const DATABASE_DRIVERS: &[&str] = &["clickhouse", "libsqlite3-sys", "postgres", "rusqlite", "tokio-postgres"];

/// MQTT libraries, which only `crates/mqtt` knows (and `utilizer`, the broker that it embeds).
const MQTT_LIBRARIES: &[&str] = &["mqtt5", "rumqttc", "rumqttc-v5-next"];

/// What the project is committed to build on: each has a user of its own, or is a dependency for show.
const FOUNDATIONS: &[&str] = &[
    "hyper",
    "nvml-wrapper",
    "prometheus-client",
    // The maintained branch of rumqttc: docs/decisions/0002-mqtt-client.md.
    "rumqttc-v5-next",
    "serde",
    "signal-hook",
    "sysinfo",
    "tokio",
    "toml",
    "tracing",
];

/// Lines of the agent that spell `/proc` or `/sys` and open nothing: file, a part of the line, why it has to be so.
const SPELLED_ELSEWHERE: &[(&str, &str, &str)] = &[
    ("agent/src/collectors/diskstats/info.rs", "Info of /sys/block/", "node_exporter's help text, word for word"),
    (
        "agent/src/collectors/time.rs",
        "read from '/sys/devices/system/clocksource'.",
        "node_exporter's help text, word for word",
    ),
    (
        "agent/src/collectors/cpu/topology.rs",
        "information from /sys/devices/system/cpu/isolated.",
        "node_exporter's help text, word for word",
    ),
    (
        "agent/src/collectors/cpu/info.rs",
        "CPU information from /proc/cpuinfo",
        "node_exporter's help text, word for word",
    ),
    (
        "agent/src/collectors/netclass/mod.rs",
        "data from /sys/class/net/<iface>",
        "node_exporter's help text, word for word",
    ),
    ("agent/src/collectors/vmstat.rs", "/proc/vmstat information field", "node_exporter's help text, word for word"),
    ("agent/src/collectors/fibrechannel.rs", "/sys/class/fc_host/<host>", "node_exporter's help text, word for word"),
    (
        "agent/src/collectors/infiniband.rs",
        "/sys/class/infiniband/<device>",
        "node_exporter's help text, word for word",
    ),
    ("agent/src/collectors/nvme.rs", "/sys/class/nvme/<device>", "node_exporter's help texts, word for word"),
    (
        "agent/src/collectors/powersupplyclass.rs",
        "/sys/class/power_supply/<power_supply>",
        "node_exporter's help texts, word for word",
    ),
    (
        "agent/src/collectors/watchdog.rs",
        "f /sys/class/watchdog/<watchdog>",
        "node_exporter's help text, word for word",
    ),
];

// The repository, and what stands in it.

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("can't read {path}: {error}"))
}

/// Every file of the repository, by its path from the root. Not what `.gitignore` names, nor other checkouts and what git
/// keeps for itself.
fn files() -> Vec<String> {
    let ignored: BTreeSet<String> =
        read(".gitignore").lines().map(|line| line.trim().trim_matches('/').to_owned()).collect();
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root().join(&folder)).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = path.to_string_lossy().into_owned();
            if ignored.contains(&text) || ignored.contains(&name) || [".git", "__pycache__"].contains(&name.as_str()) {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.push(text);
            }
        }
    }
    files.sort();
    files
}

// The packages, and what they link.

struct Package {
    /// Its folder, from the root.
    folder: String,
    /// What its manifest names, under the packages' real names, without what only its tests use.
    direct: BTreeSet<String>,
}

/// Cargo's own view: names as published, features and targets resolved.
fn cargo_tree(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--charset", "ascii", "--edges", "normal,build"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Our packages, by name.
fn packages() -> BTreeMap<String, Package> {
    // Without `--no-dedupe`, a package that an earlier one uses is named without its dependencies.
    let tree = cargo_tree(&["--workspace", "--all-features", "--no-dedupe", "--depth", "1", "--prefix", "depth"]);
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    let mut current = String::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, rest) = line.split_at(1);
        let name = rest.split(' ').next().unwrap().to_owned();
        if depth == "0" {
            let path = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("a package has a path").0;
            let folder = Path::new(path).strip_prefix(root().canonicalize().unwrap()).expect("it is in the repository");
            let folder = folder.to_string_lossy().into_owned();
            packages.insert(name.clone(), Package { folder, direct: BTreeSet::new() });
            current = name;
        } else {
            packages.get_mut(&current).expect("a package before its dependencies").direct.insert(name);
        }
    }
    assert!(packages.values().all(|package| !package.direct.is_empty() || package.folder == "tests"), "{tree}");
    packages
}

fn no_faults(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_crate_takes_lints_and_licence_from_the_workspace() {
    let mut faults = Vec::new();
    for (name, package) in packages() {
        let path = format!("{}/Cargo.toml", package.folder);
        let manifest = read(&path);
        let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !lines.contains(&format!("{key}.workspace = true").as_str()) {
                faults.push(format!("{path}: add `{key}.workspace = true` to [package] ({name})"));
            }
        }
        if !lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]) {
            faults.push(format!("{path}: add `[lints]` with `workspace = true` ({name})"));
        }
        if !lines.iter().any(|line| line.starts_with("description = ")) {
            faults.push(format!("{path}: add a `description` ({name})"));
        }
    }
    no_faults(&faults);
}

#[test]
fn dependencies_point_in_one_direction() {
    let packages = packages();
    let mut faults = Vec::new();
    for (name, package) in &packages {
        let Some((_, allowed)) = MAY_USE.iter().find(|(of, _)| of == name) else {
            faults.push(format!("{name} is new: say in MAY_USE of tests/tests/rules.rs what of ours it may link"));
            continue;
        };
        for used in package.direct.iter().filter(|used| packages.contains_key(*used)) {
            if !allowed.contains(&used.as_str()) {
                faults.push(format!("{name} must not link {used} ({}/Cargo.toml)", package.folder));
            }
        }
    }
    no_faults(&faults);
}

#[test]
fn the_agent_links_no_database_driver() {
    let tree = cargo_tree(&["--package", "utilizer-agent", "--all-features", "--prefix", "none"]);
    let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(linked.contains("tokio"), "cargo tree names no dependencies:\n{tree}");
    let drivers: Vec<_> = DATABASE_DRIVERS.iter().filter(|driver| linked.contains(*driver)).collect();
    assert!(drivers.is_empty(), "the agent links {drivers:?}; writing to stores is the exporters' work");
}

#[test]
fn sinks_know_no_mqtt() {
    let mut faults = Vec::new();
    for (name, package) in packages() {
        for library in package.direct.iter().filter(|used| MQTT_LIBRARIES.contains(&used.as_str())) {
            if name != "utilizer-mqtt" && !(name == "utilizer" && library == "mqtt5") {
                faults.push(format!("{name} must not use {library}: crates/mqtt is the one door to the broker"));
            }
        }
        // What feeds Alertmanagers is no sink: it has no batches, and plain subscriptions.
        let is_sink = name.starts_with("utilizer-exporter-") && name != "utilizer-exporter-alertmanager";
        if is_sink && package.direct.contains("utilizer-mqtt") {
            faults.push(format!("{name} must not use utilizer-mqtt: crates/exporter hands it batches"));
        }
    }
    no_faults(&faults);
}

#[test]
fn every_foundation_has_a_user() {
    let used: BTreeSet<String> = packages().into_values().flat_map(|package| package.direct).collect();
    let unused: Vec<_> = FOUNDATIONS.iter().filter(|name| !used.contains(**name)).collect();
    assert!(unused.is_empty(), "no package of ours depends on {unused:?}; a departure needs a decision record");
}

#[test]
fn every_dependency_comes_from_crates_io() {
    let lock = read("Cargo.lock");
    let home = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;
    let elsewhere: Vec<_> = lock.lines().filter(|line| line.starts_with("source = ") && *line != home).collect();
    assert!(elsewhere.is_empty(), "Cargo.lock: {elsewhere:?}");
}

#[test]
fn the_agent_reads_the_machine_through_one_door() {
    let mut faults = Vec::new();
    for path in files().iter().filter(|path| path.starts_with("agent/src/") && path.ends_with(".rs")) {
        if path.starts_with("agent/src/host/") {
            continue;
        }
        let text = read(path);
        // A test names what it puts into its frozen host.
        let code = text.find("#[cfg(test)]\nmod ").map_or(text.as_str(), |end| &text[..end]);
        for (number, line) in code.lines().enumerate() {
            let line = line.trim_start();
            let code = if line.starts_with("//") { "" } else { line.split(" // ").next().unwrap_or_default() };
            let excused = SPELLED_ELSEWHERE.iter().any(|(file, part, _)| file == path && code.contains(part));
            if ["/proc", "/sys/", "/run/udev"].iter().any(|spelled| code.contains(spelled)) && !excused {
                faults.push(format!("{path}:{}: take the path from HostRoot (agent/src/host): {line}", number + 1));
            }
        }
    }
    for (file, part, reason) in SPELLED_ELSEWHERE {
        if !read(file).contains(part) {
            faults.push(format!("{file} no longer has `{part}` ({reason}): take it out of SPELLED_ELSEWHERE"));
        }
    }
    no_faults(&faults);
}

/// What only the machine has on which somebody works. Put together here, so that this file does not hold it itself.
fn of_one_machine() -> Vec<String> {
    [
        ("/wo", "rk/"),
        ("/tmp/pro", "be"),
        ("/tmp/tar", "get"),
        (".cargo/regi", "stry/src"),
        ("/root/.", "cargo"),
        ("arti", "factory"),
        ("jf", "rog"),
        ("index-u", "rl"),
        ("replace-w", "ith"),
        ("find-li", "nks"),
    ]
    .into_iter()
    .map(|(head, tail)| format!("{head}{tail}"))
    .collect()
}

/// Whether `part` stands in the text, and, where it is an absolute path, begins one: `/tmp/x` is not in `target/tmp/x`.
fn mentions(text: &str, part: &str) -> bool {
    text.match_indices(part).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !part.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "._-}~".contains(c))
    })
}

#[test]
fn nothing_speaks_of_the_machine_it_was_written_on() {
    let parts = of_one_machine();
    let mut faults = Vec::new();
    for path in files() {
        // What is not text holds no words.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for part in parts.iter().filter(|part| mentions(line, part)) {
                faults.push(format!(
                    "{path}:{}: `{part}` means nothing on another machine: {}",
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    no_faults(&faults);
}

#[test]
fn architecture_links_every_decision() {
    let path = "ARCHITECTURE.md";
    let text = read(path);
    let decisions: Vec<_> = files().into_iter().filter(|file| file.starts_with("docs/decisions/")).collect();
    assert!(!decisions.is_empty(), "there are no decision records in docs/decisions");
    let missing: Vec<_> = decisions.iter().filter(|file| !text.contains(&format!("]({file})"))).collect();
    assert!(missing.is_empty(), "{path}: link {missing:?} where it speaks of what they decide");
}

#[test]
fn decisions_say_context_decision_and_consequences() {
    let mut faults = Vec::new();
    for path in files().iter().filter(|file| file.starts_with("docs/decisions/")) {
        let text = read(path);
        let number =
            Path::new(path).file_name().and_then(|name| name.to_str()).and_then(|name| name.get(..4)).unwrap_or("");
        if !text.starts_with(&format!("# {number}: ")) {
            faults.push(format!("{path}: begin with `# {number}: ` and the decision as a sentence"));
        }
        for heading in ["## Context", "## Decision", "## Consequences"] {
            if !text.lines().any(|line| line == heading) {
                faults.push(format!("{path}: add `{heading}`"));
            }
        }
    }
    no_faults(&faults);
}
