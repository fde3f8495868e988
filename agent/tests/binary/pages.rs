//! What the agent answers over HTTP to those who read.

use std::os::unix::net::UnixStream;

use test_servers::wait_for;

use super::support::{Setup, ask, exchange, request};

#[test]
fn metrics_are_node_exporters_and_our_own_in_one_valid_text() {
    let agent = Setup::new().start();
    agent.metric_becomes("utilizer_sampler_passes_total", |passes| passes >= 3.0);
    let answer = agent.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut families = std::collections::BTreeSet::new();
    let mut series = std::collections::BTreeSet::new();
    for line in answer.body.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.split(' ').next().unwrap()), "{family} stands there twice");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line:?}"));
            assert!(value.parse::<f64>().is_ok(), "{line:?}");
            assert!(series.insert(name), "{name} stands there twice");
            assert!(families.contains(name.split('{').next().unwrap()), "{line:?} has no type");
        }
    }
    for family in [
        "node_cpu_seconds_total",
        "node_memory_MemAvailable_bytes",
        "node_load1",
        "node_network_receive_bytes_total",
        "node_time_seconds",
        "node_uname_info",
        "utilizer_build_info",
        "utilizer_cpu_percent",
        "utilizer_memory_percent",
        "utilizer_process_cpu_percent",
        "utilizer_collector_success",
        "process_resident_memory_bytes",
    ] {
        assert!(families.contains(family), "{family} is missing in {families:?}");
    }
    assert!(series.contains(r#"utilizer_collector_success{collector="cpu"}"#));
}

/// With an hour between passes only the scrape itself can bring a new value.
#[test]
fn a_scrape_reads_the_host_afresh() {
    let agent = Setup::new().set("interval", "1h").start();
    let first = agent.metric_becomes("node_time_seconds", |seconds| seconds > 0.0);
    agent.metric_becomes("node_time_seconds", |seconds| seconds > first);
    assert_eq!(agent.metric("utilizer_sampler_passes_total"), Some(1.0));
}

#[test]
fn health_readiness_and_the_landing_page_answer() {
    let agent = Setup::new().start();
    assert_eq!((agent.get("/healthz").status, agent.get("/healthz").body.as_str()), (200, "ok\n"));
    wait_for("ready", || (agent.get("/readyz").status == 200).then_some(()));
    let page = agent.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for collector in ["cpu", "diskstats", "filesystem", "loadavg", "meminfo", "netdev", "pressure", "stat", "vmstat"] {
        assert!(page.body.contains(&format!("<td>{collector}<td")), "{collector} is missing in {}", page.body);
    }
    for part in ["/metrics", "/v1/logs", env!("CARGO_PKG_VERSION"), "<b>h</b>", "Publishing is switched off"] {
        assert!(page.body.contains(part), "{part} is missing in {}", page.body);
    }
}

#[test]
fn a_scrape_may_choose_its_collectors() {
    let agent = Setup::new().set("collectors.disable", vec!["stat"]).start();
    agent.metric_becomes("utilizer_sampler_passes_total", |passes| passes >= 2.0);
    let chosen = agent.get("/metrics?collect%5B%5D=loadavg&collect[]=time");
    assert_eq!(chosen.status, 200);
    for part in ["node_load1 ", "node_time_seconds ", "process_resident_memory_bytes ", "success{collector=\"time\"} 1"]
    {
        assert!(chosen.body.contains(part), "{part} is missing in {}", chosen.body);
    }
    for part in ["node_cpu", "utilizer_", "collector=\"cpu\""] {
        assert!(!chosen.body.contains(part), "{part} in {}", chosen.body);
    }
    let processes = agent.get("/metrics?collect[]=processes").body;
    assert!(processes.contains("utilizer_process_cpu_percent{") && !processes.contains("node_load1"), "{processes}");
    let rest = agent.get("/metrics?exclude[]=loadavg&exclude[]=nonesuch").body;
    assert!(rest.contains("node_cpu_seconds_total") && !rest.contains("node_load1"));
    for (query, said) in [
        ("collect[]=loadavgg", "missing collector: loadavgg"),
        ("collect[]=cpu&collect[]=stat", "disabled collector: stat"),
    ] {
        let answer = agent.get(&format!("/metrics?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(said), "{}", answer.body);
    }
}

#[test]
fn wrong_paths_and_methods_are_told_so() {
    let agent = Setup::new().start();
    let address = agent.address();
    let missing = agent.get("/metric");
    assert_eq!((missing.status, missing.body.as_str()), (404, "nothing here; / lists what there is\n"));
    for (path, allowed) in [
        ("/", "GET"),
        ("/metrics", "GET"),
        ("/healthz", "GET"),
        ("/readyz", "GET"),
        ("/v1/logs", "POST"),
        ("/v1/pipeline", "POST"),
    ] {
        let answer = ask(address, request("DELETE", path).as_bytes());
        assert_eq!(answer.status, 405, "{path}");
        let header = answer.header("allow").unwrap();
        assert!(header.split(", ").any(|method| method == allowed), "{path}: {header}");
    }
    assert_eq!(agent.get("/v1/logs").status, 405);
    for path in ["/", "/metrics", "/healthz"] {
        let head = ask(address, request("HEAD", path).as_bytes());
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{path}: {}", head.head);
    }
}

#[test]
fn a_disabled_collector_is_gone() {
    let agent = Setup::new().set("collectors.disable", vec!["loadavg", "netclass", "netdev"]).start();
    agent.metric_becomes("utilizer_sampler_passes_total", |passes| passes >= 2.0);
    let text = agent.get("/metrics").body;
    for gone in ["node_load", "utilizer_load1", "node_network_", "utilizer_network_", "collector=\"loadavg\""] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    assert!(text.contains("node_cpu_seconds_total"));
    assert!(!agent.get("/").body.contains("<td>loadavg<td"));
}

#[test]
fn the_unix_socket_answers_and_goes_with_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let setup = Setup::new().set("serve.unix", path.display().to_string());
    let mut agent = setup.start();
    agent.says(&format!("serving on {}", path.display()));
    let asked = |text: &str| exchange(UnixStream::connect(&path).unwrap(), text.as_bytes());
    assert_eq!(asked(&request("GET", "/healthz")).body, "ok\n");
    assert!(asked(&request("GET", "/metrics")).body.contains("node_load1"));
    let push =
        "POST /v1/logs HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 15\r\n\r\n{\"message\":\"m\"}";
    let answer = asked(push);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "`mqtt.enabled` is false: there is nowhere to send this\n")
    );

    // A second agent must not take the socket of the first.
    let mut second = setup.start();
    assert_eq!(second.ended().code(), Some(1));
    second.says(&path.display().to_string());
    assert_eq!(asked(&request("GET", "/healthz")).status, 200);
    agent.stop();
    assert!(!path.exists());
}
