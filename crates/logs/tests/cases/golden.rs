//! Golden records: what each format makes of lines, in `golden/`. Rewritten with `UPDATE_GOLDEN=1` after a change that is
//! meant.
//!
//! A file begins with keys of an input, in TOML, up to a line of dashes. Then come lines as a log has them, each behind
//! `> `, and behind a block of them the records that they make.

use std::fs;
use std::path::Path;

use super::{plan_of, records};

fn written(text: &str) -> String {
    let (keys, rest) = text.split_once("\n---\n").expect("keys end with a line of dashes");
    let plan = plan_of(keys);
    let mut out = format!("{keys}\n---\n");
    let mut block: Vec<&str> = Vec::new();
    // A line behind the last one, so that the last block ends.
    for line in rest.lines().chain([""]) {
        if let Some(input) = line.strip_prefix("> ").or_else(|| line.strip_prefix('>')) {
            block.push(input);
            continue;
        }
        if !block.is_empty() {
            let made = records(&plan, &block);
            for line in &block {
                out += if line.is_empty() { ">" } else { "> " };
                out += &format!("{line}\n");
            }
            made.iter().for_each(|record| out += &format!("{}\n", serde_json::to_string(record).unwrap()));
            block.clear();
        }
        if line.starts_with('#') || line.is_empty() {
            out += &format!("{line}\n");
        }
    }
    out.trim_end().to_owned() + "\n"
}

#[test]
fn lines_of_every_format_make_the_records_that_are_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut seen = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let expected = written(&text);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &expected).unwrap();
        } else {
            assert_eq!(text, expected, "{}", path.display());
        }
        seen.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    for format in
        ["auto", "json", "logfmt", "access", "pattern", "syslog", "postgres", "plain", "container", "multiline"]
    {
        assert!(seen.iter().any(|name| name == format), "golden/{format}.txt is missing");
    }
}

/// The users' own lines, where they lie beside the repository.
#[test]
fn the_users_lines_are_understood() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/log-lines.ndjson");
    let Ok(text) = fs::read_to_string(path) else { return };
    let made = records(&plan_of(""), &text.lines().collect::<Vec<_>>());
    let found: Vec<_> = made
        .iter()
        .map(|r| {
            (r.timestamp.to_string(), r.level.as_str(), r.service_name.as_str(), r.latency_ms, r.request_id.as_str())
        })
        .collect();
    let expected = [
        ("2025-08-14T01:30:00.000Z".to_owned(), "INFO", "ml-service", Some(234.0), "req-123456"),
        ("2025-09-16T12:30:00.000Z".to_owned(), "INFO", "enhanced_two_tower_recommendations", None, "uuid-here"),
        ("2024-01-01T12:00:00.000Z".to_owned(), "INFO", "orchestrator", Some(125.0), "req_123"),
    ];
    assert_eq!(found, expected);
    assert_eq!((made[0].fields["prediction_time"].as_str(), made[0].environment.as_str()), ("0.234", "production"));
    assert_eq!(
        (made[1].fields["data.method"].as_str(), made[1].fields["context.userId"].as_str()),
        ("POST", "user123")
    );
    assert_eq!((made[2].trace_id.as_str(), made[2].fields["context.user_id"].as_str()), ("trace_789", "user_456"));
}
