//! What scrapers may ask for: classic text or OpenMetrics, as it is or packed; and what Prometheus' own checker says.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::support::{Agent, Setup, ask};

/// An agent whose passes do not come between two scrapes of a test.
fn settled() -> Agent {
    let agent = Setup::new().set("interval", "1h").start();
    agent.metric_becomes("utilizer_sampler_passes_total", |passes| passes >= 1.0);
    agent
}

fn accepted(agent: &Agent, accept: &str) -> super::support::Answer {
    let request = format!("GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\naccept: {accept}\r\n\r\n");
    ask(agent.address(), request.as_bytes())
}

/// The series with their values, but for those that change from one scrape to the next.
fn steady_series(text: &str) -> BTreeSet<&str> {
    let changes = ["process_", "promhttp_", "utilizer_sampler_", "go_"];
    text.lines().filter(|line| !line.starts_with('#') && !changes.iter().any(|start| line.starts_with(start))).collect()
}

#[test]
fn open_metrics_says_the_same_as_the_classic_text() {
    let agent = settled();
    // Scrapes within a second share a pass: one try may fall on its end.
    let same = (0..5).find_map(|_| {
        let classic = accepted(&agent, "text/plain");
        let open = accepted(&agent, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
        assert_eq!(classic.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(open.body.ends_with("\n# EOF\n") && !classic.body.contains("# EOF"));
        assert!(open.body.contains("# TYPE node_cpu_seconds counter\n"), "{}", open.body);
        (steady_series(&classic.body) == steady_series(&open.body)).then_some(())
    });
    assert!(same.is_some(), "the two formats differ in five scrapes out of five");
}

#[test]
fn a_page_is_packed_for_those_who_take_it() {
    let agent = settled();
    let url = format!("http://{}/metrics", agent.address());
    let fetched = |accept: &str| {
        let header = format!("Accept-Encoding: {accept}");
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*", "--dump-header", "-", "--header"])
            .args([&header, "--compressed", &url])
            .output()
            .unwrap_or_else(|e| panic!("can't run curl ({e}); install it with: apt-get install curl"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    };
    let (head, packed) = fetched("gzip");
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept, accept-encoding"), "{head}");
    let (head, plain) = fetched("gzip;q=0, identity");
    assert!(!head.contains("content-encoding"), "{head}");
    let names = |text: &str| text.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(names(&packed), names(&plain));
    // What fits into a packet stays as it is.
    let small =
        ask(agent.address(), b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!(small.body, "ok\n");
}

/// What promtool remarks on names that are node_exporter's and so can't be others: a part of the name, and of the remark.
const NODE_EXPORTERS_OWN: &[(&str, &str)] = &[
    ("node_entropy_", "use base unit \"bytes\" instead of \"bits\""),
    // The kernel's names for its memory, as they are.
    ("node_memory_", "metric names should be written in 'snake_case' not 'camelCase'"),
    // And for its protocol counters.
    ("node_netstat_", "metric names should be written in 'snake_case' not 'camelCase'"),
];

/// What it says of this machine's page, and of the golden text, which has families that this machine lacks.
#[test]
fn promtool_finds_nothing_but_node_exporters_own_names() {
    let agent = settled();
    checked(&agent.get("/metrics").body);
    checked(include_str!("../golden/metrics.txt"));
}

fn checked(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("can't run promtool ({e}); install it with: apt-get install prometheus"));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let excused =
        |line: &str| NODE_EXPORTERS_OWN.iter().any(|(name, why)| line.starts_with(name) && line.contains(why));
    let remarks: Vec<_> = said.lines().filter(|line| !line.is_empty() && !excused(line)).collect();
    assert!(remarks.is_empty(), "promtool check metrics:\n{}", remarks.join("\n"));
    // 3: there were remarks, all of them excused above.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}: {said}", output.status);
}

#[test]
fn scrapes_are_counted_as_node_exporter_counts_them() {
    let agent = settled();
    let before = agent.metric("promhttp_metric_handler_requests_total{code=\"200\"}").unwrap();
    agent.metric_becomes("promhttp_metric_handler_requests_total{code=\"200\"}", |count| count >= before + 1.0);
    assert_eq!(agent.metric("promhttp_metric_handler_requests_in_flight"), Some(1.0));
    assert_eq!(agent.metric("promhttp_metric_handler_requests_total{code=\"503\"}"), Some(0.0));
    assert!(agent.get("/metrics?collect[]=cpu").body.contains("node_exporter_build_info{"));
}
