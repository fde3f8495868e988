//! What does not leave the host, and what does.

use super::{Random, now, plan_of, plan_with, records};
use utilizer_logs::{LogsSection, Plans, Policy, RedactSection};
use wire::messages::LogRecord;

/// Lines behind the secrets that were planted in them.
const SECRETS: &str = include_str!("../secrets.txt");

/// Lines without.
const HARMLESS: &str = include_str!("../harmless.txt");

fn planted() -> impl Iterator<Item = (Vec<&'static str>, &'static str)> {
    SECRETS.lines().map(|line| {
        let (secrets, text) = line.split_once("\t| ").unwrap();
        (secrets.split('\t').collect(), text)
    })
}

fn encoded(record: &LogRecord) -> String {
    serde_json::to_string(record).unwrap()
}

/// Eight signs of it in a row; all of a shorter one.
fn shows(text: &str, secret: &str) -> bool {
    let signs: Vec<char> = secret.chars().collect();
    signs.windows(signs.len().min(8)).any(|part| text.contains(&part.iter().collect::<String>()))
}

#[test]
fn none_of_the_planted_secrets_comes_out_in_any_format() {
    assert!(planted().count() >= 200);
    let mut shown = Vec::new();
    for format in ["auto", "plain", "json", "logfmt", "syslog"] {
        let plan = plan_of(&format!("format = \"{format}\"\n"));
        for (secrets, line) in planted() {
            for record in records(&plan, &[line]) {
                let text = encoded(&record);
                if let Some(secret) = secrets.iter().find(|secret| shows(&text, secret)) {
                    shown.push(format!("{format}: {secret} in {text}\n  of {line}"));
                }
            }
        }
    }
    assert!(shown.is_empty(), "{} are shown:\n{}", shown.len(), shown.join("\n"));
}

#[test]
fn what_stands_around_a_secret_is_kept() {
    let plan = plan_of("format = \"plain\"\n");
    let message = |line: &str| records(&plan, &[line]).remove(0).message;
    for (line, expected) in [
        ("login of anna with password=hunter2 failed", "login of anna with password=*** failed"),
        ("Config{user=app, password=hunter2, retries=3}", "Config{user=app, password=***, retries=3}"),
        (
            "GET /login?user=anna&password=x1y2&next=/home HTTP/1.1",
            "GET /login?user=anna&password=***&next=/home HTTP/1.1",
        ),
        ("postgres://app:hunter2@db:5432/shop", "postgres://***@db:5432/shop"),
        ("Authorization: Bearer abc123def456 for x", "Authorization: Bearer *** for x"),
        ("mail to anna@example.org bounced", "mail to *** bounced"),
        ("card 4111 1111 1111 1111 declined", "card *** declined"),
        (
            r#"{"user":"anna","password":"a \"b\" c","n":1} trailing"#,
            r#"{"user":"anna","password":"***","n":1} trailing"#,
        ),
        ("<password>hunter2</password>", "<password>***</password>"),
        (
            "key -----BEGIN RSA PRIVATE KEY-----\\nabc\\n-----END RSA PRIVATE KEY----- end",
            "key -----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY----- end",
        ),
        ("PASSWORD=hunter2 USER=anna", "PASSWORD=*** USER=anna"),
        ("grüße an anna: password=größe fertig", "grüße an anna: password=*** fertig"),
    ] {
        assert_eq!(message(line), expected);
    }
}

#[test]
fn harmless_lines_stay_as_they_are() {
    assert!(HARMLESS.lines().count() >= 100);
    let plan = plan_of("");
    let redactor = Plans::new(&[], &RedactSection::default(), &|_| None).unwrap().redactor;
    let changed: Vec<_> = HARMLESS
        .lines()
        .map(|line| (line, redactor.text(line)))
        .filter(|(line, text)| line != text)
        .map(|(line, text)| format!("{line}\n  {text}"))
        .collect();
    assert!(changed.is_empty(), "{} are changed:\n{}", changed.len(), changed.join("\n"));
    let counted = records(&plan, &HARMLESS.lines().collect::<Vec<_>>());
    assert_eq!(counted.len(), HARMLESS.lines().count());
}

#[test]
fn fields_are_hidden_by_their_names_and_by_what_they_hold() {
    let plan = plan_of("format = \"json\"\n");
    let line = r#"{"message":"m","user":{"name":"anna","password":7,"api_key":"x1"},"note":"mail anna@example.org",
        "trace_id":"4111111111111111","tokens":17,"token":true,"list":[{"secret":"s1"}]}"#;
    let record = records(&plan, &[&line.replace('\n', "")]).remove(0);
    let fields: Vec<_> = record.fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let expected = [
        r#"list=[{"secret":"***"}]"#,
        "note=mail ***",
        "token=true",
        "tokens=17",
        "user.api_key=***",
        "user.name=anna",
        "user.password=***",
    ];
    assert_eq!(fields, expected);
    assert_eq!(record.trace_id, "4111111111111111", "the number of a trace is no card's");
}

#[test]
fn what_is_looked_for_is_the_configurations_choice() {
    let redact = |text: &str| toml::from_str::<RedactSection>(text).unwrap();
    let only =
        redact("presets = [\"cards\"]\npatterns = ['customer-\\d+', 'pin (\\d+) of (\\w+)']\nkeys = [\"shoe_size\"]\n");
    let plan = plan_with("format = \"json\"\n", &only).unwrap();
    let line =
        r#"{"message":"customer-77 with pin 1234 of anna, password=x, shoe_size=42","shoe_size":42,"password":"x"}"#;
    let record = records(&plan, &[line]).remove(0);
    assert_eq!(record.message, "*** with pin *** of ***, password=x, shoe_size=***");
    assert_eq!((record.fields["shoe_size"].as_str(), record.fields["password"].as_str()), ("***", "x"));
    let wrong = plan_with("", &redact("presets = [\"all\"]\npatterns = [\"(\"]\n")).unwrap_err();
    assert!(wrong.contains("redact.presets: there is no preset \"all\"; there are authorization, "), "{wrong}");
    assert!(wrong.contains("redact.patterns: \"(\" is not a regular expression"), "{wrong}");
}

#[test]
fn what_was_hidden_is_counted_and_pushes_are_looked_at_too() {
    let section = LogsSection { push: true, ..LogsSection::default() };
    let plans = Plans::new(&[section], &RedactSection::default(), &|_| None).unwrap();
    let mut policy = Policy::new(&plans.push);
    let mut out = Vec::new();
    for text in [r#"{"message":"password=hunter2"}"#, r#"{"message":"fine"}"#] {
        let object = serde_json::from_str(text).unwrap();
        policy.push(plans.push.record(object, now()).unwrap(), now(), &mut out);
    }
    assert_eq!(out.iter().map(|record| record.message.as_str()).collect::<Vec<_>>(), ["password=***", "fine"]);
    let mut counts = utilizer_logs::Counts::default();
    policy.counts(&mut counts);
    let redacted = counts.iter().find(|(name, _)| *name == "utilizer_log_redacted_total").unwrap().1;
    assert_eq!(redacted.samples.values().sum::<f64>(), 1.0);
}

/// Every sign that is of importance to the rules, in many orders.
#[test]
fn any_text_is_survived_and_hiding_twice_hides_no_more() {
    const PIECES: &[&str] = &[
        "=",
        ":",
        "@",
        "://",
        "/",
        "-",
        "--",
        "-----BEGIN A PRIVATE KEY-----",
        "-----END ",
        " ",
        "\n",
        "\"",
        "'",
        "\\",
        "\\\"",
        "password",
        "token",
        "key",
        "Authorization",
        "Bearer ",
        "Digest ",
        "Cookie",
        "é",
        "\u{1f600}",
        "***",
        "*",
        ",",
        ";",
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        "&",
        "?",
        "4111111111111111",
        "4111 1111",
        "a@b.example",
        ".org",
        "x1y2z3w4",
        "ghp_",
        "eyJhbGciOi",
        "A1b2C3d4E5f6G7h8I9j0K1",
        "0",
        "null",
        "is",
        "=>",
        "%",
        "user",
        "IDENTIFIED BY ",
        "--password ",
    ];
    let redactor = Plans::new(&[], &RedactSection::default(), &|_| None).unwrap().redactor;
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..40_000 {
        let text: String = (0..random.below(12) + 1).map(|_| PIECES[random.below(PIECES.len())]).collect();
        let once = redactor.text(&text).into_owned();
        let twice = redactor.text(&once).into_owned();
        assert_eq!(once, twice, "round {round}: {text:?}");
    }
    for (_, line) in planted().step_by(5) {
        let once = redactor.text(line).into_owned();
        assert_eq!(redactor.text(&once), once, "{line}");
        // Also where it was cut: no place of a text is where a rule must not begin or end.
        for end in (0..line.len()).filter(|end| line.is_char_boundary(*end)) {
            redactor.text(&line[..end]);
            redactor.text(&line[end..]);
        }
    }
}

#[test]
fn an_operators_texts_keep_their_addresses() {
    let redactor = Plans::new(&[], &RedactSection::default(), &|_| None).unwrap().redactor.for_operators();
    assert_eq!(redactor.text("ask ops@example.org, password=hunter2"), "ask ops@example.org, password=***");
}

#[test]
fn secrets_show_neither_in_levels_nor_in_names_nor_inside_of_objects() {
    let plan = plan_of("format = \"json\"\n");
    for line in [
        r#"{"level":"password=hunter2","msg":"x"}"#,
        r#"{"msg":"x","sessions":{"ghp_hunter2AbCdEfGhIjKlMnOpQr":1}}"#,
        r#"{"msg":"x","seen":{"anna.hunter2@example.org":1}}"#,
        r#"{"msg":"x","password":{"value":"hunter2"}}"#,
        r#"{"msg":"x","headers":{"authorization":{"0":"hunter2"}}}"#,
        r#"{"msg":"GET /next?to=%2Flogin%3Fpassword%3Dhunter2%26user%3Danna"}"#,
        r#"{"msg":"q=%7B%22password%22%3A%22hunter2%22%7D"}"#,
        r#"{"msg":"password         = hunter2"}"#,
        r#"{"msg":"password\t=\thunter2"}"#,
        r#"{"msg":"password:        hunter2"}"#,
    ] {
        let text = encoded(&records(&plan, &[line]).remove(0));
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_text_full_of_signs_takes_no_longer_than_others() {
    let plan = plan_of("format = \"plain\"\nmax_line = \"64KiB\"\n");
    for part in ["a@", "://", "sk-", "é@", "password=[", "<password>", "-----BEGIN ", "password%3D", "a:"] {
        records(&plan, &[&part.repeat((1 << 16) / part.len())]);
    }
}
