//! How many lines a second one core makes records of, by format; with redaction, policy and counting, and beside that the
//! parts alone. `cargo run --release --package utilizer-logs --example lines [SECONDS]`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and has nobody to tell of a fault")]

use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};
use utilizer_logs::{LogsSection, Origin, Plans, Policy, RedactSection, Stream};
use wire::Timestamp;

const JSON: &str = r#"{"@timestamp": "2025-08-14T10:30:00.000+09:00", "service": "ml-service", "level": "INFO", "logger": "ensemble", "message": "Prediction completed for order NUMBER", "accuracy_value": 0.945, "prediction_time": 0.234, "model_version": "v1.0.0", "request_id": "req-NUMBER", "user_id": "system", "environment": "production", "k8s_namespace": "shop", "k8s_pod": "ml-service-abc123"}"#;
const LOGFMT: &str = r#"time="2026-11-22T10:00:00.123Z" level=info msg="order NUMBER was placed" service=shop duration=12ms user_id=7 path=/api/orders status=201"#;
const ACCESS: &str = r#"192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] "GET /api/v1/orders/NUMBER?page=2&size=50 HTTP/1.1" 200 5316 "https://example.org/start" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36""#;
const SYSLOG: &str = "Nov 22 10:00:00 web-01 sshd[7NUMBER]: Accepted publickey for anna from 192.0.2.7 port 50022 ssh2: ED25519 SHA256:abc";
const PLAIN: &str = "2026-11-22 10:00:00,123 ERROR shop.orders - order NUMBER failed after 3 tries: connection refused";
const POSTGRES: &str = "2026-11-22 10:00:00.123 UTC [NUMBER] app@shop LOG:  duration: 12.345 ms  statement: SELECT * FROM orders WHERE id = 7";
const CONTAINER: &str =
    "2026-11-22T10:00:00.123456789Z stdout F level=info msg=\"order NUMBER was placed\" service=shop";
const TRACE: &str = "\tat com.example.shop.Orders.place(Orders.java:NUMBER)";

/// What this thread has used: other programs take the core now and then.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let cases: &[(&str, &str, &str)] = &[
        ("json", "format = \"json\"", JSON),
        ("auto, JSON", "", JSON),
        ("logfmt", "format = \"logfmt\"", LOGFMT),
        ("access", "format = \"access\"", ACCESS),
        ("syslog", "format = \"syslog\"", SYSLOG),
        ("plain", "format = \"plain\"", PLAIN),
        ("auto, plain", "", PLAIN),
        ("postgres", "format = \"postgres\"", POSTGRES),
        ("container, logfmt", "format = \"container\"", CONTAINER),
        (
            "pattern",
            "format = \"pattern\"\npattern = '^(?<time>\\S+ \\S+) (?<level>\\w+) (?<logger>\\S+) - (?<message>.*)$'",
            PLAIN,
        ),
        ("plain, traces joined", "format = \"plain\"\nmultiline = { preset = \"java\" }", TRACE),
        ("json, no redaction", "format = \"json\"\n# bare", JSON),
        ("plain, no redaction", "format = \"plain\"\n# bare", PLAIN),
        (
            "plain, 5 rules",
            "format = \"plain\"\ncategory = \"a\"\n[[categories]]\nname = \"b\"\nmatch = 'login (failed|refused)'\n\
             [[drop]]\nmatch = 'GET /healthz'\n[[count]]\nname = \"x\"\nlevels = [\"ERROR\"]\nby = [\"service\"]\n\
             [[count]]\npreset = \"failed_logins\"\n[[count]]\npreset = \"sudo\"\n",
            PLAIN,
        ),
    ];
    println!("{:24} {:>10} {:>12} {:>10}", "format", "lines/s", "us/line", "MB/s");
    for (title, keys, line) in cases {
        let mut section: LogsSection = toml::from_str(keys).unwrap();
        section.files = vec!["/var/log/app.log".to_owned()];
        let redact = match keys.contains("# bare") {
            true => RedactSection { presets: Vec::new(), ..RedactSection::default() },
            false => RedactSection::default(),
        };
        let plans = Plans::new(&[section], &redact, &|_| Some(jiff::tz::TimeZone::UTC)).unwrap();
        let plan = &plans.inputs[0];
        let (mut stream, mut policy) = (Stream::new(plan, Origin::default()), Policy::new(plan));
        let lines: Vec<String> = (0..512).map(|number| line.replace("NUMBER", &number.to_string())).collect();
        let now = Timestamp::from_millis(1_795_341_600_000);
        let (mut out, mut end, mut count) = (Vec::new(), 0, 0u64);
        let begun = cpu_seconds();
        while cpu_seconds() - begun < seconds {
            for line in &lines {
                end += line.len() as u64 + 1;
                stream.line(&mut policy, line.as_bytes(), end, 0, now, &mut out);
            }
            count += lines.len() as u64;
            black_box(&out);
            out.clear();
        }
        let taken = cpu_seconds() - begun;
        println!(
            "{title:24} {:>10.0} {:>12.2} {:>10.1}",
            count as f64 / taken,
            taken * 1e6 / count as f64,
            end as f64 / taken / 1e6
        );
    }
}
