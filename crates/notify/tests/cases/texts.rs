//! Texts without configuration, and templates that fail.

use utilizer_notify::receivers::Receiver;
use utilizer_notify::text::{self, Text, View};
use utilizer_notify::{Notification, Reason};

use crate::support::*;

#[test]
fn titles_are_compact() {
    let mut left_out = plain(Reason::Alerts, false);
    left_out.left_out = 10;
    let different =
        ["A", "B", "A", "C", "D"].map(|name| alert(&[("alertname", name), ("instance", "x")], &[], false)).to_vec();
    let nameless = Notification { host: String::new(), ..notification(Reason::Test, Vec::new()) };
    for (notification, expected) in [
        (plain(Reason::Alerts, false), "[FIRING:2] HighCPU (web-01)"),
        (left_out, "[FIRING:12] HighCPU (web-01)"),
        (notification(Reason::Alerts, vec![high_cpu("web-07", false)]), "[FIRING:1] HighCPU (web-07)"),
        (notification(Reason::Alerts, vec![high_cpu("web-07", true)]), "[RESOLVED] HighCPU (web-07)"),
        (
            Notification { group_labels: set(&[]), ..notification(Reason::Summary, different) },
            "[SUMMARY:5] A, B, C, … (x)",
        ),
        (plain(Reason::Escalation(2), false), "[FIRING:2, step 2] HighCPU (web-01)"),
        (Notification::heartbeat("r", &set(&[("instance", "web-01")]), time()), "[HEARTBEAT] Watchdog (web-01)"),
        (Notification::test("r", &set(&[("instance", "web-01")]), time()), "[TEST] NotificationTest (web-01)"),
        (nameless, "[TEST] HighCPU"),
    ] {
        assert_eq!(text::title(&notification), expected);
    }
}

#[test]
fn bodies_are_bounded() {
    for notification in all() {
        for most in [200, 1000, 16_000] {
            let body = text::body(notification, most);
            assert!(body.len() <= most, "{} {most}", body.len());
        }
    }
    let body = text::body(&plain(Reason::Digest, true), 10_000);
    assert_eq!(
        body,
        "There were more notifications in a minute than this receiver shall get: this one stands for all of them.\n\n\
         FIRING HighCPU (critical)\n  CPU above 90 %\n  The CPU is at 97 %.\n  since 2026-11-22 11:19:05 UTC · value 97.33\n  \
         environment=production · instance=web-01 · job=node\n  runbook: https://runbooks.example/cpu?a=1&b=2\n\n\
         RESOLVED HighCPU (critical)\n  CPU above 90 %\n  The CPU is at 97 %.\n  \
         since 2026-11-22 11:19:05 UTC until 2026-11-22 11:20:05 UTC\n  \
         environment=production · instance=web-02 · job=node\n  runbook: https://runbooks.example/cpu?a=1&b=2"
    );
    let many = notification(Reason::Alerts, (0..100).map(|at| high_cpu(&format!("web-{at}"), false)).collect());
    assert!(text::body(&many, 1000).ends_with("… and 96 more alerts"), "{}", text::body(&many, 1000));
}

#[test]
fn numbers_are_short() {
    for (value, expected) in [
        (97.333_33, "97.33"),
        (0.0, "0"),
        (1.0, "1"),
        (-0.5, "-0.5"),
        (123_456_789.0, "123456789"),
        (0.001_234_6, "0.001235"),
        (1e-9, "1.000e-9"),
        (1e20, "1.000e20"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (999_999.5, "1000000"),
    ] {
        assert_eq!(text::number(value), expected);
    }
}

#[test]
fn no_alert_is_lost_for_a_template() {
    // It is right over the example, and fails over what comes.
    let table = "[[slack]]\nwebhook_url_file = \"url\"\ntext = \"{{ (index .Alerts 1).Labels.instance }}\"\n";
    let said = json(&*one(table), &notification(Reason::Alerts, vec![high_cpu("web-03", false)])).to_string();
    assert!(said.contains("*HighCPU* · critical · firing") && said.contains("web-03"), "{said}");
    let said = json(&*one(table), &plain(Reason::Alerts, false)).to_string();
    assert!(said.contains("\"text\":\"web-02\""), "{said}");
}

#[test]
fn alertmanagers_own_templates_are_taken() {
    let view = View::of(&plain(Reason::Alerts, true), time(), |_| None);
    for (template, expected) in [
        ("{{ template \"__subject\" . }}", "[FIRING:1] HighCPU (production node critical)"),
        (
            "[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}] \
             {{ .CommonLabels.alertname }} for {{ .CommonLabels.job }}",
            "[FIRING:1] HighCPU for node",
        ),
        (
            "{{ range .Alerts -}}\n*Alert:* {{ .Annotations.summary }}{{ if .Labels.severity }} - `{{ .Labels.severity }}`{{ end }}\n\
             {{ range .Labels.SortedPairs }}{{ .Name }}: {{ .Value }} {{ end }}\n{{ end }}",
            "*Alert:* CPU above 90 % - `critical`\nalertname: HighCPU environment: production instance: web-01 job: node \
             severity: critical \n*Alert:* CPU above 90 % - `critical`\nalertname: HighCPU environment: production \
             instance: web-02 job: node severity: critical \n",
        ),
        ("{{ range .Alerts.Resolved }}{{ .EndsAt.Format \"15:04:05\" }}{{ end }}", "11:20:05"),
        ("{{ (index .Alerts 0).StartsAt.Format \"2006-01-02\" }} {{ (index .Alerts 0).Value }}", "2026-11-22 97.33333"),
        (
            "{{ .Reason }}{{ .Host }} {{ .TruncatedAlerts }} {{ .GroupLabels.SortedPairs.Values | join \"\" }}",
            "web-01 0 HighCPU",
        ),
        (
            "{{ .ExternalURL }}/#/alerts?receiver={{ .Receiver | urlquery }}",
            "http://web-01:9100/#/alerts?receiver=team",
        ),
    ] {
        let text = Text::parse(template).unwrap_or_else(|fault| panic!("{template}: {fault}"));
        assert_eq!(text.fill(&view).unwrap(), expected, "{template}");
    }
}

#[test]
fn templates_are_read_with_the_configuration() {
    for (template, fault) in [
        ("{{ .Foo }}", "line 1, column 4 of the template: can't evaluate field Foo in type struct"),
        ("a\\n{{ foo }}", "line 2, column 4 of the template: function \"foo\" not defined"),
        ("{{ query \\\"up\\\" }}", "line 1, column 4 of the template: function \"query\" not defined"),
        ("{{ range .Alerts }}{{ .Nope }}{{ end }}", "can't evaluate field Nope in type struct"),
        ("{{ tz \\\"UTC\\\" .x }}", "function \"tz\" is not supported in templates"),
        ("{{ if }}", "missing value for if"),
        ("{{ template \\\"mine\\\" . }}", "template \"mine\" not defined"),
    ] {
        let table = format!("name = \"r\"\n[[slack]]\ntitle = \"{template}\"\n");
        let error = toml::from_str::<Receiver>(&table).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
    let text = Text::parse("{{ .Status }}").unwrap();
    assert_eq!(format!("{text:?}"), "\"{{ .Status }}\"");
}
