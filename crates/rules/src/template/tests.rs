use super::*;
use crate::eval::Options;

fn labels() -> Labels {
    Labels::new([("instance", "web-01.example.org:9100"), ("device", "sda"), ("job", "node")])
}

fn query(text: &str) -> Result<Vec<(Labels, f64)>, String> {
    match text {
        "up" => Ok(vec![
            (Labels::new([("__name__", "up"), ("instance", "b"), ("__value__", "txt")]), 11.0),
            (Labels::new([("__name__", "up"), ("instance", "a")]), 21.0),
        ]),
        "none" => Ok(Vec::new()),
        _ => Err(format!("unknown expression {text}")),
    }
}

fn with(value: f64, text: &str) -> Result<String, Fault> {
    let (labels, external) = (labels(), Labels::new([("cluster", "eu")]));
    let url = "http://p.example.org:9090/prom/";
    let work = Work::new(&Options::default());
    let data = Data { labels: &labels, value, external_labels: &external, external_url: url, at: 1_500, work: &work };
    Template::parse(text)?.render(&data, &query)
}

fn render(text: &str) -> Result<String, Fault> {
    with(0.973_33, text)
}

fn says(text: &str) -> String {
    render(text).unwrap_or_else(|fault| panic!("{text}: {} at {}", fault.message, fault.at))
}

#[test]
fn what_rules_use_is_rendered() {
    for (text, expected) in [
        ("plain", "plain"),
        ("", ""),
        ("{{ $labels.instance }} on {{ $labels.device }}", "web-01.example.org:9100 on sda"),
        ("{{$labels.missing}}|{{ .Labels.device }}", "|sda"),
        ("{{ $labels }}", "map[device:sda instance:web-01.example.org:9100 job:node]"),
        ("VALUE = {{ $value }}", "VALUE = 0.97333"),
        ("{{ $value | humanizePercentage }}", "97.33%"),
        ("{{ printf \"%.2f\" $value }}%", "0.97%"),
        ("{{ $value | printf \"%.1f\" }}", "1.0"),
        ("{{ .Value | humanize }}s", "973.3ms"),
        ("{{ $externalLabels.cluster }} {{ .ExternalLabels.cluster }}", "eu eu"),
        ("{{ $externalURL }} {{ .ExternalURL }} {{ externalURL }}", &["http://p.example.org:9090/prom/"; 3].join(" ")),
        ("{{ pathPrefix }}", "/prom"),
        ("{{ $labels.instance | stripPort | stripDomain }}", "web-01"),
        ("{{ stripDomain $labels.instance }}", "web-01:9100"),
        ("{{ reReplaceAll \"(.*)-(\\\\d+).*\" \"$2 ${1}\" $labels.instance }}", "01 web"),
        ("{{ if match \"^web\" $labels.instance }}yes{{ else }}no{{ end }}", "yes"),
        ("{{ toUpper \"aß\" }} {{ \"AB\" | toLower }} {{ title \"aa bb-c\" }}", "ASS ab Aa Bb-C"),
        ("{{ with query \"up\" }}{{ . | first | value | humanize }}{{ end }}", "11"),
        (
            "{{ range query \"up\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}",
            "a=21;b=11;",
        ),
        ("{{ range $i, $s := query \"up\" }}{{ $i }}:{{ $s | label \"instance\" }} {{ end }}", "0:b 1:a "),
        ("{{ query \"up\" | first | strvalue }}{{ (index (query \"up\") 1).Value }}", "txt21"),
        ("{{ range query \"none\" }}x{{ else }}empty{{ end }}", "empty"),
        ("{{ with query \"none\" }}x{{ else with query \"up\" }}{{ len . }}{{ end }}", "2"),
        ("{{ urlQueryEscape \"a b&c/ü\" }} {{ urlquery \"a\" 1 2 }}", "a+b%26c%2F%C3%BC a1+2"),
        (
            "{{ graphLink \"up == 0\" }} {{ tableLink \"up\" }}",
            "/graph?g0.expr=up+%3D%3D+0&g0.tab=0 /graph?g0.expr=up&g0.tab=1",
        ),
        ("{{ parseDuration \"1h30m\" | humanizeDuration }}", "1h 30m 0s"),
        ("{{ html \"<a href='x'>\" }}{{ \"<b>\" | safeHtml }}", "&lt;a href=&#39;x&#39;&gt;<b>"),
        (
            "{{ 1435065584.128 | humanizeTimestamp }} {{ toTime 0 }}",
            "2015-06-23 13:19:44.128 +0000 UTC 1970-01-01 00:00:00 +0000 UTC",
        ),
        ("{{ now }}", "1.5"),
    ] {
        assert_eq!(says(text), expected, "{text}");
    }
}

#[test]
fn the_language_is_go_s() {
    for (text, expected) in [
        ("a {{- 1 -}} b", "a1b"),
        ("a\n{{- /* a }} comment */ -}}\nb{{/* and */}}c", "abc"),
        ("{{ $x := 1 }}{{ $x }}{{ $x = 2 }}{{ $x }}{{ if true }}{{ $x := 3 }}{{ $x = 4 }}{{ end }}{{ $x }}", "122"),
        ("{{ if eq $labels.job \"a\" \"node\" }}1{{ else if true }}2{{ else }}3{{ end }}", "1"),
        ("{{ if gt $value 5.0 }}big{{ else if gt $value 0.5 }}middle{{ else }}small{{ end }}", "middle"),
        ("{{ and 1 0 2 }} {{ or 0 \"\" 3 4 }} {{ not true }} {{ and true }}", "0 3 false true"),
        ("{{ or true (index \"a\" 9) }}", "true"),
        ("{{ len \"abc\" }} {{ index .Labels \"job\" }} {{ index .Labels \"x\" }}|", "3 node |"),
        ("{{ print 1 2 \"a\" \"b\" 3 }} {{ println 1 \"a\" }}", "1 2ab3 1 a\n"),
        (
            "{{ range 3 }}{{ . }}{{ end }} {{ range $k, $v := .Labels }}{{ $k }}={{ $v }},{{ end }}",
            "012 device=sda,instance=web-01.example.org:9100,job=node,",
        ),
        (
            "{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ define \"t\" }}[{{ .arg0 }} {{ .arg1 }}]{{ end }}{{ template \"t\" (args 1 \"x\") }}", "[1 x]"),
        ("{{ block \"t\" $labels.job }}<{{ . }} {{ $ }}>{{ end }}", "<node node>"),
        ("{{ with $x := $labels.job }}{{ $x }}{{ . }}{{ $.Value }}{{ end }}", "nodenode0.97333"),
        (
            "{{ (printf \"%s\" \"x\") }} {{ `raw\\n` }} {{ \"\\u00e9\\x41\\n\" }} {{ 'A' }} {{ 0x10 }} {{ 1e3 }} {{ -2 }} {{ 1_000 }}",
            "x raw\\n éA\n 65 16 1000 -2 1000",
        ),
        ("{{ 1 | printf \"%d %d\" 2 }}", "2 1"),
        ("{{ nil | printf \"%v\" }}", "<nil>"),
        ("}} { {", "}} { {"),
    ] {
        assert_eq!(says(text), expected, "{text}");
    }
}

#[test]
fn numbers_are_humanized_as_prometheus_does() {
    for (function, value, expected) in [
        ("humanize", 0.0, "0"),
        ("humanize", 1_234_567.0, "1.235M"),
        ("humanize", 0.0999, "99.9m"),
        ("humanize", -0.000_012, "-12u"),
        ("humanize", f64::NAN, "NaN"),
        ("humanize", 999.99, "1000"),
        ("humanize1024", 1_048_576.0, "1Mi"),
        ("humanize1024", 0.5, "0.5"),
        ("humanize1024", f64::INFINITY, "+Inf"),
        ("humanizeDuration", 0.0, "0s"),
        ("humanizeDuration", 59.5, "59.5s"),
        ("humanizeDuration", 3600.0, "1h 0m 0s"),
        ("humanizeDuration", -86_461.0, "-1d 0h 1m 1s"),
        ("humanizeDuration", 0.001, "1ms"),
        ("humanizeDuration", f64::NEG_INFINITY, "-Inf"),
        ("humanizePercentage", 0.12345, "12.35%"),
        ("humanizePercentage", f64::NAN, "NaN%"),
        ("humanizeTimestamp", f64::INFINITY, "+Inf"),
        ("humanizeTimestamp", -1.0, "1969-12-31 23:59:59 +0000 UTC"),
        ("humanizeTimestamp", 951_782_400.5, "2000-02-29 00:00:00.5 +0000 UTC"),
    ] {
        assert_eq!(with(value, &format!("{{{{ $value | {function} }}}}")).unwrap(), expected, "{function} {value}");
    }
}

#[test]
fn faults_name_what_and_where() {
    let cases = [
        ("{{ $labels.x", "unclosed action", 0),
        ("a {{ foo }}", "function \"foo\" not defined", 5),
        ("{{ call 1 }}", "function \"call\" is not supported in templates", 3),
        ("{{ $x }}", "undefined variable \"$x\"", 3),
        ("{{ $x = 1 }}", "undefined variable \"$x\"", 3),
        ("{{ if true }}", "{{if}} without {{end}}", 0),
        ("x{{ end }}", "unexpected {{end}}", 1),
        ("{{ }}", "missing value for command", 3),
        ("{{ if }}x{{ end }}", "missing value for if", 6),
        ("{{ 1 2 }}", "can't give argument to non-function", 5),
        ("{{ 1 | 2 }}", "non executable command in pipeline: no function behind |", 7),
        ("{{ humanize }}", "wrong number of args for humanize: want 1, got 0", 3),
        ("{{ $value | humanize 1 }}", "wrong number of args for humanize: want 1, got 2", 12),
        ("{{ (1 }}", "unexpected }} in parenthesized pipeline; missing )", 6),
        ("{{ \"a }}", "unterminated quoted string", 3),
        ("{{ break }}", "{{break}} outside {{range}}", 0),
        ("{{ template \"x\" }}", "template \"x\" not defined", 0),
        ("{{ 1x }}", "bad number syntax: \"1x\"", 3),
        ("{{/* x }}", "unclosed comment", 0),
        ("{{ $labels.a$value }}", "unexpected $value in command", 12),
        ("{{ if true }}{{ else }}{{ else }}{{ end }}", "expected end; found {{else}}", 23),
        (
            "{{ $value | label \"a\" }}",
            "error calling label: wrong type for value; expected the result of a query; got float64",
            12,
        ),
        ("{{ first (query \"none\") }}", "error calling first: first() called on vector with no elements", 3),
        ("{{ query \"bad\" }}", "error calling query: unknown expression bad", 3),
        ("{{ gt $value 5 }}", "error calling gt: incompatible types for comparison", 3),
        ("{{ $labels.a.b }}", "can't evaluate field b in type string", 3),
        ("{{ .Foo }}", "can't evaluate field Foo in type struct", 3),
        ("{{ humanize \"x\" }}", "error calling humanize: strconv.ParseFloat: parsing \"x\": invalid syntax", 3),
        ("{{ match \"(\" \"x\" }}", "error calling match: error parsing regexp \"(\"", 3),
    ];
    for (text, message, at) in cases {
        let fault = render(text).expect_err(text);
        assert!(fault.message.starts_with(message), "{text}: {}", fault.message);
        assert_eq!(fault.at, at, "{text}");
    }
    let labels = labels();
    let work = Work::new(&Options::default());
    let data = Data { labels: &labels, value: 1.0, external_labels: &labels, external_url: "", at: 0, work: &work };
    let text = Template::parse("a\n {{ .Foo }}").unwrap().expand(&data, &query);
    assert_eq!(text, Err("<error expanding template: 2:5: can't evaluate field Foo in type struct>".to_owned()));
}

#[test]
fn rendering_is_bounded() {
    let deep = |open: &str, close: &str, count| open.repeat(count) + "1" + &close.repeat(count);
    let bombs = [
        "{{ range 1000000000 }}{{ end }}".to_owned(),
        "{{ range 200 }}{{ range 200 }}{{ range 200 }}x{{ end }}{{ end }}{{ end }}".to_owned(),
        "{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}".to_owned(),
        "{{ $x := \"aaaaaaaaaaaaaaaa\" }}".to_owned() + &"{{ $x = reReplaceAll \".\" \"$0$0$0$0\" $x }}".repeat(30),
        "{{ $x := \"a\" }}".to_owned() + &"{{ $x = print $x $x $x $x }}".repeat(30),
        "{{ $x := args 1 }}".to_owned() + &"{{ $x = args $x $x $x $x }}".repeat(30) + "{{ $x }}",
        "{{ $x := args 1 }}".to_owned() + &"{{ $x = args $x $x $x $x }}".repeat(30) + "{{ printf \"%v\" $x }}",
        "{{ printf \"%999999999d\" 1 }}".repeat(100),
        deep("{{ if true }}", "{{ end }}", 4000),
        format!("{{{{ {} }}}}", deep("(", ")", 30_000)),
        "{{".repeat(30_000),
        "x".repeat(MAX_TEXT + 1),
    ];
    for bomb in bombs {
        assert!(render(&bomb).is_err(), "{}", &bomb[..60]);
    }
    assert_eq!(says("{{ match \"(a*)*b\" \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" }}"), "false");
}

#[test]
fn texts_that_may_be_queries_are_known() {
    let queries = |text: &str| Template::parse(text).unwrap().queries().to_vec();
    assert_eq!(
        queries("{{ with printf \"up{instance='%s'}\" .Labels.instance | query }}{{ end }}"),
        ["up{instance='%s'}"]
    );
    assert!(queries("{{ printf \"%s\" $value }}").is_empty());
}

/// Whatever the bytes are, an answer comes.
#[test]
fn broken_templates_neither_panic_nor_hang() {
    const PIECES: &[&str] = &[
        "{{",
        "}}",
        "{{-",
        "-}}",
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
        "$labels",
        "|",
        "(",
        ")",
        ",",
        "printf",
        "\"%v %5.1f\"",
        "1",
        "-0x",
        "1e",
        "humanize",
        "query",
        "\"up\"",
        "'",
        "`",
        "/*",
        "*/",
        "ä",
        "\\",
        "\n",
        "first",
        "index",
        "args",
        "$",
        "break",
        "print",
        "true",
        "nil",
        "block",
        "len",
        "\"\\x\"",
    ];
    let mut state = 7_u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let mut good = 0;
    for _ in 0..20_000 {
        let text: String = (0..next(14)).map(|_| PIECES[next(PIECES.len())]).collect::<Vec<_>>().join(" ");
        let text = if next(2) == 0 { format!("{{{{ {text} }}}}") } else { text };
        match render(&text) {
            Ok(_) => good += 1,
            Err(fault) => assert!(fault.at <= text.len() + 2 && !fault.message.contains("BUG"), "{text}: {fault}"),
        }
    }
    assert!(good > 100, "{good}");
}

#[test]
fn texts_that_a_loop_makes_longer_have_an_end() {
    for function in ["html", "urlquery", "graphLink"] {
        let start = r#"{{ $x := reReplaceAll " " "<&%" (printf "%5000s" "") }}"#;
        let text = format!("{start}{{{{ range 4000 }}}}{{{{ $x = {function} $x }}}}{{{{ end }}}}");
        let fault = render(&text).unwrap_err();
        assert!(fault.message.contains("grows longer than 65536 bytes"), "{fault}");
    }
}

mod notifications;
