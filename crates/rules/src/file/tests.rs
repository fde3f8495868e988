use super::*;

fn load(text: &str) -> Result<Rules, String> {
    Rules::load(&[("r.yml", text)])
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

const GOOD: &str = r#"
groups:
  - name: host
    interval: 30s
    query_offset: 1m
    limit: 10
    labels: {team: infra, tier: "1"}
    rules:
      - record: instance:load:ratio
        expr: node_load1 / count without (cpu, mode) (node_cpu_seconds_total{mode="idle"})
        labels:
          tier: 2
      - alert: HighLoad
        expr: |
          instance:load:ratio
            > 1.5
        for: 1h30m
        keep_firing_for: 5m
        labels:
          severity: '{{ if gt $value 3.0 }}critical{{ else }}warning{{ end }}'
        annotations:
          summary: "load is {{ $value | humanize }}"
          uptime: '{{ with printf "time() - node_boot_time_seconds{instance=''%s''}" $labels.instance | query }}{{ end }}'
  - name: empty
"#;

#[test]
fn a_file_is_read() {
    let rules = load(GOOD).unwrap();
    let [host, empty] = rules.groups.as_slice() else { panic!("{rules:?}") };
    assert_eq!((host.file.as_str(), host.name.as_str(), host.interval), ("r.yml", "host", Some(30_000)));
    assert_eq!((host.query_offset, host.limit, host.rules.len()), (60_000, 10, 2));
    assert_eq!((empty.interval, empty.limit, empty.rules.len()), (None, 0, 0));
    let [record, alert] = host.rules.as_slice() else { panic!("{host:?}") };
    assert_eq!((record.name.as_str(), record.is_alert(), record.place), ("instance:load:ratio", false, (9, 9)));
    assert_eq!(record.labels(), [("team", "infra"), ("tier", "2")]);
    assert_eq!(alert.expr.to_string(), "instance:load:ratio > 1.5");
    let Action::Alert { hold, keep_firing, annotations, .. } = &alert.action else { panic!("{alert:?}") };
    assert_eq!((*hold, *keep_firing, annotations.len()), (5_400_000, 300_000, 2));
    assert_eq!(alert.labels().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["severity", "team", "tier"]);
    let needs: Vec<_> = rules.needs().iter().map(|need| (need.selector.to_string(), need.back)).collect();
    let minutes = |name: &str, minutes: Millis| (name.to_owned(), minutes * 60_000);
    assert_eq!(
        needs,
        [
            minutes("instance:load:ratio", 6),
            minutes("node_boot_time_seconds", 6),
            minutes("node_cpu_seconds_total{mode=\"idle\"}", 6),
            minutes("node_load1", 6),
        ]
    );
}

/// Rule files without any group are files too.
#[test]
fn a_file_may_hold_nothing() {
    for text in ["", "groups: []", "groups:\n", "# no rules yet\n"] {
        assert_eq!(load(text).unwrap().count(), 0, "{text:?}");
    }
}

fn faults(text: &str, expected: &[&str]) {
    let error = load(text).expect_err(text);
    assert_eq!(error.lines().collect::<Vec<_>>(), expected, "{text}");
}

/// One rule, its keys from the 9th column of the 4th line on.
fn rule(keys: &str) -> String {
    format!("groups:\n  - name: g\n    rules:\n      - {}\n", keys.replace('\n', "\n        "))
}

#[test]
fn faults_of_a_rule_have_their_place() {
    let one = |keys: &str, expected: &str| faults(&rule(keys), &[expected]);
    one(
        "alert: A\nexpr: up{ == 0",
        "r.yml:5:19: group \"g\", rule 1, \"A\": could not parse expression: unexpected \"=\" in label matching, expected identifier or \"}\"",
    );
    one(
        "alert: A\nexpr: |\n  up\n  and foo(up)",
        "r.yml:7:15: group \"g\", rule 1, \"A\": could not parse expression: unknown function with name \"foo\"",
    );
    one(
        "alert: A\nexpr: >\n  up +\n  up @ 0",
        "r.yml:7:14: group \"g\", rule 1, \"A\": could not parse expression: \"@\" is not evaluated here: rules look back from the present, with offset",
    );
    one(
        "alert: A\nexpr: rate(up)",
        "r.yml:5:20: group \"g\", rule 1, \"A\": could not parse expression: expected type range vector in call to function \"rate\", got instant vector",
    );
    one(
        "alert: A\nexpr: up[5m]",
        "r.yml:5:15: group \"g\", rule 1, \"A\": the expression's result is neither a vector nor a scalar",
    );
    one("alert: A", "r.yml:4:9: group \"g\", rule 1, \"A\": field 'expr' must be set in rule");
    one("expr: up", "r.yml:4:9: group \"g\", rule 1, \"\": one of 'record' or 'alert' must be set");
    one(
        "alert: A\nrecord: a\nexpr: up",
        "r.yml:4:9: group \"g\", rule 1, \"a\": only one of 'record' and 'alert' must be set",
    );
    one(
        "alert: A\nexpr: up\nfor: 5 minutes",
        "r.yml:6:14: group \"g\", rule 1, \"A\": for: \"5 minutes\" is not a duration such as \"10s\", \"500ms\", \"1h30m\" or \"15d\"",
    );
    one("alert: A\nexpr: up\nfoor: 5m", "r.yml:6:9: unknown key groups[0].rules[0].foor; did you mean for?");
    one("alert: A\nexpr: up\nexpr: up", "r.yml:6:9: expr stands here twice");
    one("alert: A\nexpr: [up]", "r.yml:5:15: groups[0].rules[0].expr: invalid type: sequence, expected a string");
    one(
        "alert: A\nexpr: up\nlabels:\n  a-b: x",
        "r.yml:7:16: group \"g\", rule 1, \"A\": invalid label name: a-b; letters, digits and _ only",
    );
    one(
        "alert: A\nexpr: up\nlabels:\n  __name__: x",
        "r.yml:7:21: group \"g\", rule 1, \"A\": invalid label name: __name__; the name of a metric is no label here",
    );
    one(
        "alert: A\nexpr: up\nannotations:\n  a b: x",
        "r.yml:7:16: group \"g\", rule 1, \"A\": invalid annotation name: a b; letters, digits and _ only",
    );
    one(
        "alert: A\nexpr: up\nannotations:\n  text: a {{ $lables.b }}",
        "r.yml:7:22: group \"g\", rule 1, \"A\": annotation \"text\": undefined variable \"$lables\"",
    );
    one(
        "alert: A\nexpr: up\nlabels:\n  text: |-\n    a\n    {{ foo }}",
        "r.yml:9:16: group \"g\", rule 1, \"A\": label \"text\": function \"foo\" not defined",
    );
    one(
        "record: a b\nexpr: up",
        "r.yml:4:17: group \"g\", rule 1, \"a b\": invalid recording rule name: a b; letters, digits, _ and : only",
    );
    one(
        "record: a{b=\"c\"}\nexpr: up",
        "r.yml:4:17: group \"g\", rule 1, \"a{b=\\\"c\\\"}\": invalid recording rule name: a{b=\"c\"}; braces belong into expr",
    );
    faults(
        &rule("record: a\nexpr: up\nfor: 1m\nkeep_firing_for: 1m\nannotations: {a: b}"),
        &[
            "r.yml:6:14: group \"g\", rule 1, \"a\": invalid field 'for' in recording rule",
            "r.yml:7:26: group \"g\", rule 1, \"a\": invalid field 'keep_firing_for' in recording rule",
            "r.yml:8:22: group \"g\", rule 1, \"a\": invalid field 'annotations' in recording rule",
        ],
    );
}

#[test]
fn faults_of_a_group_have_their_place() {
    faults(
        "groups:\n- name: a\n  interval: 0s\n  limit: many\n  labels: {1a: b}\n- name: a\n- interval: 1\n  query_offset: -1m\n",
        &[
            "r.yml:3:13: group \"a\", interval: 0ms is too short; 100ms is the least",
            "r.yml:4:10: group \"a\", limit: expected a whole number",
            "r.yml:5:16: group \"a\", invalid label name: 1a; letters, digits and _ only",
            "r.yml:6:9: groupname: \"a\" is repeated in the same file",
            "r.yml:7:3: Groupname must not be empty",
            "r.yml:7:13: group \"\", interval: \"1\" is not a duration such as \"10s\", \"500ms\", \"1h30m\" or \"15d\"",
            "r.yml:8:17: group \"\", query_offset: \"-1m\" is not a duration such as \"10s\", \"500ms\", \"1h30m\" or \"15d\"",
        ],
    );
    faults("groupes: []", &["r.yml:1:1: unknown key groupes; did you mean groups?"]);
    faults("groups: {a: b}", &["r.yml:1:9: groups: invalid type: map, expected a sequence"]);
}

#[test]
fn all_files_are_looked_through() {
    let bad = rule("alert: A");
    let faults = Rules::load(&[("a.yml", bad.as_str()), ("b.yml", GOOD), ("c.yml", "x: 1")]).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.file.as_str()).collect::<Vec<_>>(), ["a.yml", "c.yml"]);
    // The same name in another file is another group.
    assert_eq!(Rules::load(&[("a.yml", GOOD), ("b.yml", GOOD)]).unwrap().count(), 4);
    let unsupported = rule("alert: A\nexpr: up @ 0");
    assert!(Rules::load(&[("a.yml", unsupported)]).unwrap_err()[0].construct.is_some());
}

/// Five hundred rules, and what tries to take memory or time.
#[test]
fn large_files_are_read_and_larger_ones_refused() {
    use std::fmt::Write as _;

    let many = |count: usize| {
        let mut text = String::from("groups:\n");
        for at in 0..count {
            if at % 50 == 0 {
                write!(text, "- name: g{at}\n  rules:\n").unwrap();
            }
            let expr = format!(
                "sum by (instance) (rate(node_x{at}_total{{mode!~\"a|b\"}}[5m])) > {at} and on (instance) up == 1"
            );
            write!(text, "  - alert: A{at}\n    expr: {expr}\n    for: 5m\n    labels: {{severity: 1}}\n    annotations:\n      text: 'v {{{{ $value | humanize }}}} on {{{{ $labels.instance }}}}'\n").unwrap();
        }
        text
    };
    let rules = load(&many(500)).unwrap();
    assert_eq!((rules.count(), rules.groups.len(), rules.needs().len()), (500, 10, 501));
    let error = load(&format!("groups:\n- name: a\n  rules: [{}]", "{record: a, expr: '1'}, ".repeat(MAX_RULES + 1)));
    assert!(error.unwrap_err().contains("10001 rules; 10000 are the most"));
    assert!(load(&"#".repeat(MAX_BYTES + 1)).unwrap_err().contains("longer than"));
    assert!(load(&rule(&format!("alert: A\nexpr: {}1", "(".repeat(50_000)))).unwrap_err().contains("could not parse"));
    assert!(
        load(&rule(&format!("alert: A\nexpr: {}", "1 + ".repeat(250_000)))).unwrap_err().contains("the expression has")
    );
}

/// Whatever the bytes are, an answer comes, and it has a place.
#[test]
fn broken_files_neither_panic_nor_hang() {
    let mut state = 3_u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..3000 {
        let mut bytes = GOOD.as_bytes().to_vec();
        for _ in 0..=next(5) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = b"{}[]:-,'\"|>&*!%@`\n\t #?a0~$()"[next(28)],
                1 => drop(bytes.drain(at..(at + next(20)).min(bytes.len()))),
                _ => bytes.insert(at, b"{}[]:-'\"|> \n"[next(12)]),
            }
        }
        if let Err(faults) = Rules::load(&[("r.yml", String::from_utf8_lossy(&bytes))]) {
            assert!(faults.iter().all(|fault| fault.line > 0 && !fault.message.is_empty()), "{faults:?}");
        }
    }
}
