//! The same targets, scraped by the agent and by Prometheus under the same rules, give the same series.

use std::collections::BTreeMap;

use serde_json::Value;
use test_servers::{Alertmanager, NodeExporter, Prometheus, wait_for};

use super::pages::{Page, Pages};
use super::{ALL, Files, query, series};
use crate::binary::support::Agent;

const CLASSIC: &str = r#"# HELP a Help \n.
# TYPE a counter
a{path="C:\\x\n",job="own",instance="i",exported_job="e",empty=""} 1
a {z="1",} 2
dropped_total 3
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="1"} 2
h_bucket{le="+Inf"} 3
h_sum 4.5
h_count 3
s{quantile="0.5"} 0.25
old_name{keep="x",tmp_a="1",tmp_b="2"} +Inf
twice 1
twice 2
"#;

const OPEN: &str = r#"# TYPE o_seconds counter
# UNIT o_seconds seconds
# HELP o_seconds Help.
o_seconds_total{x="1"} 5 # {trace_id="t"} 1 1700000000
o_seconds_created{x="1"} 1700000000.25
# TYPE g gauge
g -0.5
# TYPE i info
i_info{version="1"} 1
# EOF
"#;

/// Rules in both files' forms: JSON is YAML, and nearly TOML.
fn rules() -> [String; 2] {
    let rules = [
        &[("source_labels", "[\"__name__\"]"), ("regex", "\"dropped_.*\""), ("action", "\"drop\"")][..],
        &[
            ("source_labels", "[\"__name__\"]"),
            ("regex", "\"old_(.*)\""),
            ("target_label", "\"__name__\""),
            ("replacement", "\"new_${1}\""),
        ],
        &[("regex", "\"tmp_(.*)\""), ("replacement", "\"map_$1\""), ("action", "\"labelmap\"")],
        &[("regex", "\"tmp_.*\""), ("action", "\"labeldrop\"")],
        &[("source_labels", "[\"keep\", \"le\"]"), ("separator", "\"/\""), ("target_label", "\"both\"")],
        &[("source_labels", "[\"quantile\"]"), ("target_label", "\"quantile_upper\""), ("action", "\"uppercase\"")],
    ];
    let written = |between: &str| {
        let rules = rules.iter().map(|rule| {
            let pairs: Vec<_> = rule.iter().map(|(key, value)| format!("{key}{between}{value}")).collect();
            format!("{{{}}}", pairs.join(", "))
        });
        format!("[{}]", rules.collect::<Vec<_>>().join(", "))
    };
    [written(": "), written(" = ")]
}

struct Both {
    prometheus: Prometheus,
    agent: Agent,
}

impl Both {
    /// What both have of an expression, without what changes with each scrape.
    fn have(&self, expression: &str) -> [BTreeMap<String, f64>; 2] {
        let answer = self.prometheus.evaluate(expression, None);
        [series(&answer.body), query(&self.agent, expression)]
    }

    /// Waits until both have the same series of a job, and gives how many.
    fn agree(&self, job: &str, values: bool) -> usize {
        let expression = format!("{{job=\"{job}\", __name__!=\"scrape_duration_seconds\"}}");
        let mut last = Default::default();
        let count = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(&format!("both agree on {job}"), || {
                let [theirs, ours] = self.have(&expression);
                let same = if values { theirs == ours } else { theirs.keys().eq(ours.keys()) };
                let count = theirs.len();
                last = [theirs, ours];
                (same && count > 5).then_some(count)
            })
        }));
        count.unwrap_or_else(|panic| {
            let [theirs, ours] = &last;
            let differ = |a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>| {
                let other = a.iter().filter(|(key, value)| b.get(*key).is_none_or(|other| values && other != *value));
                other.take(10).map(|(key, value)| format!("{key} {value}\n")).collect::<String>()
            };
            eprintln!("-- only Prometheus:\n{}-- only the agent:\n{}", differ(theirs, ours), differ(ours, theirs));
            std::panic::resume_unwind(panic)
        })
    }
}

#[test]
fn the_same_targets_give_the_same_series_as_prometheus() {
    let node = NodeExporter::start(&[
        "--collector.disable-defaults",
        "--collector.loadavg",
        "--collector.uname",
        "--collector.filefd",
    ]);
    let alertmanager = Alertmanager::start("route: {receiver: r}\nreceivers: [{name: r}]\n", &[]);
    let other = Prometheus::start("");
    let classic = Pages::text(CLASSIC);
    let open = Pages::of(Page::Typed("application/openmetrics-text; version=1.0.0; charset=utf-8", OPEN.to_owned()));
    let broken = Pages::text("a 1\nb\n");
    let alertmanager_place = alertmanager.url().trim_start_matches("http://").to_owned();
    let gone = format!("127.0.0.1:{}", test_servers::free_port());
    let jobs = [
        ("app-node", node.place()),
        ("app-alertmanager", alertmanager_place),
        ("app-prometheus", other.place()),
        ("app-classic", classic.place()),
        ("app-open", open.place()),
        ("app-broken", broken.place()),
        ("app-gone", gone),
    ];
    let [yaml_rules, toml_rules] = rules();
    let yaml = jobs.iter().map(|(job, place)| {
        format!(
            "- {{job_name: {job}, honor_labels: {}, static_configs: [{{targets: ['{place}'], labels: {{env: p, tmp_t: t}}}}], \
             metric_relabel_configs: {yaml_rules}}}\n",
            *job == "app-node"
        )
    });
    let toml = jobs.iter().map(|(job, place)| {
        format!(
            "[[scrape]]\njob = '{job}'\nhonor_labels = {}\ntargets = ['{place}']\nlabels = {{ env = 'p', tmp_t = 't' }}\n\
             interval = '1s'\nmetric_relabel_configs = {toml_rules}\n",
            *job == "app-node"
        )
    });
    let files = Files::new(ALL);
    let both = Both {
        prometheus: Prometheus::start(&yaml.collect::<String>()),
        agent: files.setup(&toml.collect::<String>()).start(),
    };
    assert_eq!(both.agree("app-classic", true), 10 + 4);
    assert_eq!(both.agree("app-open", true), 4 + 4);
    for (job, least) in [("app-node", 15), ("app-alertmanager", 100), ("app-prometheus", 300)] {
        let count = both.agree(job, false);
        assert!(count >= least, "{job}: {count}");
    }
    for job in ["app-broken", "app-gone"] {
        let reports = format!("{{job=\"{job}\", __name__!=\"scrape_duration_seconds\"}}");
        wait_for(job, || {
            let [theirs, ours] = both.have(&reports);
            (theirs.len() == 4 && theirs == ours).then_some(())
        });
    }
    // Something ends, and a target too: neither has it any more.
    classic.becomes("a{z=\"1\"} 2\n");
    drop(open);
    wait_for("both have what is left", || {
        let [theirs, ours] = both.have("{job=~\"app-(classic|open)\", __name__!~\"scrape_.*\"}");
        (theirs == ours && theirs.len() == 3).then_some(())
    });
    let targets: Value = serde_json::from_str(&both.prometheus.get("/api/v1/targets").body).unwrap();
    assert_eq!(targets["data"]["activeTargets"].as_array().unwrap().len(), jobs.len());
}
