use super::*;

const RULES: &str = r#"
groups:
  - name: second
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
      - record: doubled
        expr: 2 * first
  - name: first
    interval: 7s
    rules:
      - record: first
        expr: vector(1)
      - alert: Down
        expr: up == 0
        for: 2m
        labels: { severity: page }
        annotations:
          summary: "{{ $labels.instance }} is down in {{ $externalLabels.zone }}, see {{ $externalURL }}"
"#;

fn faults(tests: &str) -> Vec<String> {
    let rules = Rules::load(&[("rules.yml", RULES)]).unwrap();
    let tests = match UnitTests::read("tests.yml", tests) {
        Ok(tests) => tests.run(&rules),
        Err(faults) => faults,
    };
    tests.iter().map(ToString::to_string).collect()
}

/// A test over two instances, one of which is down from the second minute on.
fn with(rest: &str) -> Vec<String> {
    faults(&format!(
        "rule_files: [rules.yml]\ntests:\n  - interval: 1m\n    external_labels: {{ zone: a }}\n    external_url: http://x\n    \
         input_series:\n      - series: 'up{{job=\"j\", instance=\"1\"}}'\n        values: 1x20\n      \
         - {{ series: 'up{{job=\"j\", instance=\"2\"}}', values: 1x1 0x18 }}\n{rest}"
    ))
}

#[test]
fn alerts_and_values_as_expected() {
    let found = with(
        r#"
    alert_rule_test:
      - { eval_time: 3m59s, alertname: Down }
      - { eval_time: 3m, alertname: Down, exp_alerts: [] }
      - eval_time: 4m
        alertname: Down
        exp_alerts:
          - exp_labels: { severity: page, job: j, instance: 2 }
            exp_annotations: { summary: "2 is down in a, see http://x" }
    promql_expr_test:
      - expr: job:up:sum
        eval_time: 5m
        exp_samples: [ { labels: 'job:up:sum{job="j"}', value: 1 } ]
      - { expr: ALERTS, eval_time: 1m }
      - { expr: 1 / 0, exp_samples: [ { labels: "{}", value: .inf } ] }
      - { expr: nothing / 0 }
"#,
    );
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_difference_says_which_test_and_what() {
    let found = with(
        r#"
    name: night
    alert_rule_test:
      - { eval_time: 3m, alertname: Down, exp_alerts: [ { exp_labels: { severity: page } } ] }
      - eval_time: 5m
        alertname: Down
        exp_alerts:
          - exp_labels: { severity: page, job: j, instance: 2 }
            exp_annotations: { summary: "up", more: "x" }
    promql_expr_test:
      - { expr: up, eval_time: 1m, exp_samples: [ { labels: 'up{job="j", instance="1"}', value: 2 } ] }
      - { expr: 'up{', eval_time: 1m }
      - { expr: 'up[1m]', eval_time: 1m }
"#,
    );
    let head = |at: usize| found[at].lines().next().unwrap_or("");
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(head(0).starts_with("tests.yml:13:"), "{found:#?}");
    assert!(head(0).ends_with("night: alert Down at 3m: expected (-) and got (+):"), "{found:#?}");
    assert!(found[0].contains("\n    - {alertname=\"Down\", severity=\"page\"} {}"), "{found:#?}");
    for line in ["- more: \"x\"", "+ more: \"\"", "- summary: \"up\"", "+ summary: \"2 is down in a, see http://x\""] {
        assert!(found[1].contains(line), "{line}: {found:#?}");
    }
    assert!(
        found[2].contains("- up{instance=\"1\", job=\"j\"} 2\n    + up{instance=\"1\", job=\"j\"} 1\n    + up{"),
        "{found:#?}"
    );
    assert!(head(3).contains("\"up{\" at 1m: 1:4: "), "{found:#?}");
    assert!(head(4).ends_with("only a number or an instant vector can be compared"), "{found:#?}");
}

#[test]
fn groups_are_evaluated_in_the_order_that_is_wanted() {
    let test = "tests: [ { promql_expr_test: [ { expr: doubled, exp_samples: [ { labels: doubled, value: 2 } ] } ] } ]";
    assert_eq!(faults(test).len(), 1);
    assert_eq!(faults(&format!("group_eval_order: [first, second]\n{test}")), Vec::<String>::new());
}

#[test]
fn neighbours_are_equal_if_one_wants_it() {
    let test = "tests: [ { promql_expr_test: [ { expr: 0.1 + 0.2, exp_samples: [ { value: 0.3 } ] } ] } ]";
    assert_eq!(faults(test).len(), 1);
    assert_eq!(faults(&format!("fuzzy_compare: true\n{test}")), Vec::<String>::new());
}

#[test]
fn series_begin_where_the_test_says() {
    let test = "tests: [ { start_timestamp: 2026-01-31T12:00:00Z, interval: 1m, input_series: [ { series: a, values: 1+1x5 } ],\n  \
                promql_expr_test: [ { expr: a + time(), eval_time: 2m, exp_samples: [ { value: 1769860923 } ] } ] } ]";
    assert_eq!(faults(test), Vec::<String>::new());
    assert_eq!(timestamp("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(timestamp("2024-02-29T23:59:59.5+01:00"), Some(1_709_247_599_500));
    assert_eq!(timestamp("1.5"), Some(1500));
    assert!(
        ["", "x", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00Z"]
            .iter()
            .all(|text| timestamp(text).is_none())
    );
}

#[test]
fn all_faults_of_a_file_are_told_with_their_places() {
    let found = faults(
        "evaluation_interval: 1x\ngroup_eval_order: [a, a]\ntests:\n  - input_series:\n      - { series: 'a{', values: 1 }\n      \
         - { series: a, values: 1y }\n      - { series: a, values: '{{count:1}}' }\n    alert_rule_test:\n      \
         - { eval_time: 1m }\n    promql_expr_test:\n      - { expr: a, exp_samples: [ { labels: '{', value: b } ] }\n",
    );
    let places: Vec<_> = found.iter().map(|fault| fault.split(':').nth(1).unwrap_or("")).collect();
    assert_eq!(places, ["1", "2", "5", "6", "7", "9", "11"], "{found:#?}");
    let unknown = faults("tests: [ { foo: 1 } ]");
    assert!(unknown.len() == 1 && unknown[0].starts_with("tests.yml:1:") && unknown[0].contains("foo"), "{unknown:?}");
    assert!(faults("tests: [ { promql_expr_test: [ { expr: a, eval_time: 10y } ] } ]")[0].contains("more than"));
}
