//! Templates of notifications, over Alertmanager's data.

use super::super::*;
use crate::Labels;

fn alert(status: &str, name: &str, instance: &str) -> Tree {
    let labels = Labels::new([("alertname", name), ("instance", instance), ("severity", "critical")]);
    Tree::Struct(
        [
            ("Status", Tree::text(status)),
            ("Labels", Tree::Labels(labels)),
            ("Annotations", Tree::Labels(Labels::new([("summary", "it burns")]))),
            ("StartsAt", Tree::Time(1_435_065_584_128)),
            ("Value", Tree::Float(97.5)),
        ]
        .into(),
    )
}

fn root(alerts: &[Tree]) -> Tree {
    Tree::Struct(
        [
            ("Status", Tree::text("firing")),
            ("Receiver", Tree::text("team")),
            ("Alerts", Tree::List(alerts.into())),
            ("GroupLabels", Tree::Labels(Labels::new([("alertname", "Fire")]))),
            ("CommonLabels", Tree::Labels(Labels::new([("alertname", "Fire"), ("severity", "critical")]))),
            ("ExternalURL", Tree::text("http://am.example")),
        ]
        .into(),
    )
}

fn fill(text: &str) -> Result<String, Fault> {
    let root = root(&[alert("firing", "Fire", "a"), alert("firing", "Fire", "b"), alert("resolved", "Fire", "c")]);
    Template::parse_notification(text)?.fill(&root, 1_435_065_644_128).map(|filled| filled.text)
}

#[test]
fn what_alertmanagers_templates_use_is_rendered() {
    for (text, expected) in [
        ("[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}]", "[FIRING:2]"),
        ("{{ .CommonLabels.alertname }} {{ .Labels }}", "error"),
        (
            "{{ range .Alerts }}{{ .Labels.instance }}{{ .Annotations.summary }},{{ end }}",
            "ait burns,bit burns,cit burns,",
        ),
        (
            "{{ range .Alerts.Resolved }}{{ .Labels.instance }} since {{ .StartsAt }}{{ end }}",
            "c since 2015-06-23T13:19:44.128Z",
        ),
        ("{{ (index .Alerts 0).StartsAt.Format \"15:04 MST\" }}", "13:19 UTC"),
        (
            "{{ range .Alerts.Firing }}{{ date \"02.01.2006\" .StartsAt }} {{ since .StartsAt | humanizeDuration }} {{ end }}",
            "23.06.2015 1m 0s 23.06.2015 1m 0s ",
        ),
        (
            "{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }};{{ end }}",
            "alertname=Fire;severity=critical;",
        ),
        ("{{ .CommonLabels.SortedPairs.Values | join \"+\" }}", "Fire+critical"),
        ("{{ (.CommonLabels.Remove .GroupLabels.Names).Values }}", "[critical]"),
        ("{{ join \",\" (.CommonLabels.Remove (stringSlice \"severity\")).Names }}", "alertname"),
        (
            "{{ \" x \" | trimSpace }}{{ title \"aa\" }}{{ \"<b>\" | safeHtml }}{{ reReplaceAll \"a+\" \"b\" \"caaat\" }}",
            "xAa<b>cbt",
        ),
        ("{{ template \"__subject\" . }}", "[FIRING:2] Fire (critical)"),
        ("{{ define \"x\" }}{{ .Status }}{{ end }}{{ template \"x\" . }}", "firing"),
        ("{{ .GroupLabels | toJson }}{{ \"a\\\"\\n<\" | toJson }}", "{\"alertname\":\"Fire\"}\"a\\\"\\n<\""),
        ("{{ $severity := .CommonLabels.severity }}{{ if eq $severity \"critical\" }}!{{ end }}", "!"),
        ("{{ with index .Alerts 0 }}{{ printf \"%.1f\" .Value }}{{ end }}", "97.5"),
        ("{{ if gt (len .Alerts.Firing) 1 }}many{{ end }}", "many"),
    ] {
        let said = fill(text).unwrap_or_else(|_| "error".to_owned());
        assert_eq!(said, expected, "{text}");
    }
}

#[test]
fn each_language_has_its_functions() {
    for call in [
        "join \",\" (stringSlice \"a\")",
        "stringSlice",
        "trimSpace \"a\"",
        "date \"2006\" 1",
        "since 1",
        "toJson 1",
        "safeUrl \"\"",
    ] {
        let text = format!("{{{{ {call} }}}}");
        let fault = Template::parse(&text).unwrap_err();
        assert!(fault.message.ends_with("not defined"), "{text}: {fault}");
        assert!(Template::parse_notification(&text).is_ok(), "{text}");
    }
    for call in ["query \"up\"", "externalURL", "graphLink \"up\"", "pathPrefix"] {
        let text = format!("{{{{ {call} }}}}");
        assert!(Template::parse(&text).is_ok(), "{text}");
        let fault = Template::parse_notification(&text).unwrap_err();
        assert!(fault.message.ends_with("not defined"), "{text}: {fault}");
    }
    // Neither methods nor Alertmanager's templates, and a label may be called as a method is.
    assert!(Template::parse("{{ $labels.Remove \"a\" }}").is_err());
    assert!(Template::parse("{{ template \"__subject\" . }}").is_err());
    assert!(Template::parse_notification("{{ $labels.a }}").is_err());
    assert!(Template::parse_notification("{{ tz \"Europe/Rome\" .x }}").unwrap_err().message.contains("not supported"));
    let labels = Labels::new([("Names", "x")]);
    let work = Work::new(&crate::eval::Options::default());
    let data = Data { labels: &labels, value: 1.0, external_labels: &labels, external_url: "", at: 0, work: &work };
    let none = |_: &str| Ok(Vec::new());
    assert_eq!(Template::parse("{{ $labels.Names }}").unwrap().render(&data, &none).unwrap(), "x");
}

#[test]
fn what_is_unknown_is_said_with_its_place() {
    for (text, message, place) in [
        ("a\n {{ .Foo }}", "can't evaluate field Foo in type struct", (2, 5)),
        ("{{ .Alerts.Burning }}", "can't evaluate field Burning in type list", (1, 4)),
        ("{{ .Receiver.Foo 1 }}", "error calling Foo: Foo is no method of string", (1, 4)),
        ("{{ .CommonLabels.Remove \"a\" }}", "error calling Remove: Remove takes", (1, 4)),
    ] {
        let fault = fill(text).expect_err(text);
        assert!(fault.message.starts_with(message), "{text}: {fault}");
        assert_eq!(Template::parse_notification(text).unwrap().place(&fault), place);
    }
}

#[test]
fn what_grows_too_long_is_cut() {
    let many: Vec<Tree> = (0..5000).map(|at| alert("firing", "Fire", &format!("ü{at}"))).collect();
    let root = root(&many);
    let filled = Template::parse_notification("{{ range .Alerts }}{{ .Labels.instance }} {{ end }}").unwrap();
    let filled = filled.fill(&root, 0).unwrap();
    assert!(filled.cut && filled.text.len() <= MAX_OUTPUT && filled.text.starts_with("ü0 ü1 "));
    let bomb = Template::parse_notification("a{{ range .Alerts }}{{ range $.Alerts }}{{ end }}{{ end }}").unwrap();
    let filled = bomb.fill(&root, 0).unwrap();
    assert_eq!((filled.text.as_str(), filled.cut), ("a", true));
}

/// Whatever the bytes are, an answer comes.
#[test]
fn broken_templates_neither_panic_nor_hang() {
    const PIECES: &[&str] = &[
        "{{",
        "}}",
        "{{-",
        " ",
        "$x",
        ":=",
        "=",
        "if",
        "else",
        "end",
        "range",
        "with",
        "define",
        "\"t\"",
        "template",
        ".",
        ".Labels",
        ".Alerts",
        ".Firing",
        ".StartsAt.Format",
        ".SortedPairs",
        ".Remove",
        ".Values",
        "|",
        "(",
        ")",
        ",",
        "join",
        "stringSlice",
        "\"a\"",
        "since",
        "date",
        "\"2006-01 _2 .999 ä\"",
        "toJson",
        "index",
        "1",
        "-9",
        "\"__subject\"",
        "\"__text_alert_list\"",
        "$",
        "print",
        "len",
        "trimSpace",
        "urlquery",
        "reReplaceAll",
        "`(`",
    ];
    let mut state = 6_u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let root = root(&[alert("firing", "Fire", "a"), alert("resolved", "Fire", "b")]);
    let mut good = 0;
    for _ in 0..20_000 {
        let text: String = (0..next(12)).map(|_| PIECES[next(PIECES.len())]).collect::<Vec<_>>().join(" ");
        let text = if next(2) == 0 { format!("{{{{ {text} }}}}") } else { text };
        let filled = Template::parse_notification(&text).and_then(|template| template.fill(&root, i64::MAX));
        match filled {
            Ok(_) => good += 1,
            Err(fault) => assert!(!fault.message.contains("BUG"), "{text}: {fault}"),
        }
    }
    assert!(good > 100, "{good}");
}
