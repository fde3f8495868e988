//! `[[logs]]` as it is written, and what is wrong with it.

use utilizer_logs::{LogsSection, Plans, RedactSection, Source};

fn plans(text: &str) -> Result<Plans, String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct File {
        logs: Vec<LogsSection>,
        redact: RedactSection,
    }
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    Plans::new(&file.logs, &file.redact, &|name| (name == "local").then_some(jiff::tz::TimeZone::UTC))
        .map_err(|faults| faults.into_iter().map(|(key, why)| format!("{key}: {why}\n")).collect())
}

#[test]
fn inputs_are_named_after_where_their_lines_come_from() {
    let plans = plans(
        "[[logs]]\nfiles = [\"/var/log/a.log\"]\n[[logs]]\njournal = {}\n[[logs]]\nsyslog = { udp = \"[::]:514\" }\n\
         [[logs]]\npush = true\n[[logs]]\nown = true\n[[logs]]\nname = \"web\"\nfiles = [\"/var/log/a.log\"]\n",
    )
    .unwrap();
    let names: Vec<_> = plans.inputs.iter().map(|plan| plan.name.as_str()).collect();
    assert_eq!(names, ["/var/log/a.log", "journal", "syslog", "web"]);
    assert_eq!((plans.push.name.as_str(), plans.own.as_ref().map(|own| own.name.as_str())), ("push", Some("agent")));
    assert!(matches!(&plans.inputs[0].source, Source::Files { files, .. } if files == &["/var/log/a.log"]));
    let none = self::plans("").unwrap();
    assert_eq!((none.inputs.len(), none.push.name.as_str(), none.own.is_none()), (0, "push", true));
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    for (text, expected) in [
        ("", "logs[0].files: is missing; one of files, journal, syslog, push and own says where"),
        ("files = [\"/a\"]\npush = true", "logs[0].files: there is more than one source"),
        ("files = [\"a.log\"]", "logs[0].files: must begin with '/'"),
        ("syslog = {}", "logs[0].syslog: names no address"),
        ("push = true\n[[logs]]\npush = true\nname = \"b\"", "logs[1].push: stands in two inputs"),
        ("own = true\n[[logs]]\nown = true\nname = \"b\"", "logs[1].own: stands in two inputs"),
        ("journal = {}\n[[logs]]\njournal = {}", "logs[1].name: there are two inputs \"journal\""),
        ("push = true\nmax_line = \"2MiB\"", "logs[0].max_line: must lie between 256B and 1MiB"),
        ("push = true\nformat = \"xml\"", "logs[0].format: there is no format \"xml\"; there are auto, json, "),
        (
            "push = true\nformat = \"container\"\ninner = \"container\"",
            "logs[0].inner: there is no format \"container\"",
        ),
        ("push = true\nformat = \"pattern\"", "logs[0].pattern: is missing"),
        ("push = true\nformat = \"pattern\"\npattern = 'x'", "logs[0].pattern: has no named group"),
        ("push = true\nformat = \"pattern\"\npattern = '('", "logs[0].pattern: \"(\" is not a regular expression"),
        ("push = true\npattern = '(?<a>x)'", "logs[0].pattern: is for format = \"pattern\" only"),
        ("push = true\ntimezone = \"Mars\"", "logs[0].timezone: the system knows no time zone \"Mars\""),
        ("push = true\nlatency_unit = \"days\"", "logs[0].latency_unit: must be s, ms, us or ns"),
        ("push = true\nmap = { msg = [\"x\"] }", "logs[0].map.msg: is no column; there are timestamp, level, "),
        ("push = true\nmultiline = { preset = \"cobol\" }", "logs[0].multiline.preset: there is no preset \"cobol\""),
        ("push = true\n[[logs.categories]]\nmatch = 'x'", "logs[0].categories[0].name: is missing"),
        ("push = true\n[[logs.categories]]\nname = \"x\"", "logs[0].categories[0].match: says nothing of its lines"),
        ("push = true\n[[logs.drop]]", "logs[0].drop[0].match: is missing, and everything would be dropped"),
        ("push = true\n[[logs.drop]]\nlevels = [\"LOUD\"]", "logs[0].drop[0].levels: \"LOUD\" is not a level"),
        ("push = true\n[[logs.drop]]\nfields = { a = \"(\" }", "logs[0].drop[0].fields.a: \"(\" is not"),
        ("push = true\n[[logs.sample]]\none_in = 0", "logs[0].sample[0].one_in: must be at least 1"),
        ("push = true\nlimit = { spare = \"LOUD\" }", "logs[0].limit.spare: \"LOUD\" is not a level"),
        ("push = true\nlimit = { tell_every = \"1ms\" }", "logs[0].limit.tell_every: must be at least 1s"),
        ("push = true\n[[logs.count]]", "logs[0].count[0].name: must be a metric's name"),
        ("push = true\n[[logs.count]]\npreset = \"x\"", "logs[0].count[0].preset: there is no preset \"x\""),
        (
            "push = true\n[[logs.count]]\nname = \"utilizer_log_lines_total\"",
            "logs[0].count[0].name: is a metric that every",
        ),
        (
            "push = true\n[[logs.count]]\nname = \"a\"\nby = [\"input\"]",
            "logs[0].count[0].by: \"input\" can't be a label",
        ),
        (
            "push = true\n[[logs.count]]\nname = \"a\"\nmax_series = 0",
            "logs[0].count[0].max_series: must lie between 1",
        ),
    ] {
        let error = plans(&format!("[[logs]]\n{text}\n")).unwrap_err();
        assert!(error.contains(expected), "{text}\n--\n{error}");
    }
    let unknown = plans("[[logs]]\nfile = \"/a\"\n").unwrap_err();
    assert!(unknown.contains("unknown field `file`"), "{unknown}");
}
