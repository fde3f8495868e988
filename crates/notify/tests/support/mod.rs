//! Notifications of all kinds, pleasant and nasty, and what services say about requests.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use utilizer_notify::receivers::{Answer, Call, HttpCall, Integration, Mail, Outcome, Receiver};
use utilizer_notify::{Notification, Reason};
use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

/// What no text that is shown may hold.
pub(crate) const HUSH: &str = "hush-0123456789abcdef0123456789ab";

pub(crate) const REASONS: [Reason; 7] = [
    Reason::Alerts,
    Reason::Escalation(2),
    Reason::Digest,
    Reason::Summary,
    Reason::Heartbeat,
    Reason::Failure,
    Reason::Test,
];

/// Texts that have broken something somewhere.
const NASTY: &[&str] = &[
    "<!channel> <!here|x> <@U0123ABC> <http://evil.example|click>",
    "@everyone @here <@123456789012345678> <@&123456789012345678>",
    "[click](http://evil.example) **bold** `code` ~~x~~ ||y||",
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;",
    "a\r\nBcc: evil@example.org\r\n\r\nbody",
    "line\nline\u{2028}line\u{0}\u{7}\u{1b}[31m",
    "quote \" back \\ slash / {{ .Secret }} {% x %} ${y} %s %0a",
    "🔥🔥🔥 👩‍👩‍👧‍👦 ünïcödé \u{202e}rtl \u{feff}",
    "&lt;!channel&gt; &#60;b&#62;",
    "=_00 --=_ .\r\n.\r\n",
    "",
    " ",
    "\u{0}\u{1}\r\n",
    "\u{200b}",
];

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn text(&mut self) -> String {
        match self.below(6) {
            0 => "web-01".to_owned(),
            1 => "x".repeat(self.below(4000)),
            2 => "🔥".repeat(self.below(2000)),
            3 => "<".repeat(self.below(3000)),
            _ => (0..=self.below(3)).map(|_| NASTY[self.below(NASTY.len())]).collect::<Vec<_>>().join(" "),
        }
    }
}

pub(crate) fn set(pairs: &[(&str, &str)]) -> LabelSet {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn time() -> Timestamp {
    "2026-11-22T11:20:05.250Z".parse().unwrap()
}

pub(crate) fn alert(labels: &[(&str, &str)], annotations: &[(&str, &str)], over: bool) -> Alert {
    Alert {
        fingerprint: "0123456789abcdef".to_owned(),
        labels: set(labels),
        annotations: set(annotations),
        value: 97.333_33.into(),
        active_at: time().minus(Duration::from_secs(120)),
        fired_at: time().minus(Duration::from_secs(60)),
        resolved_at: over.then(time),
    }
}

pub(crate) fn notification(reason: Reason, alerts: Vec<Alert>) -> Notification {
    Notification {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        receiver: "team".to_owned(),
        reason,
        group_key: "{}/{severity=\"critical\"}:{alertname=\"HighCPU\"}".to_owned(),
        group_labels: set(&[("alertname", "HighCPU")]),
        alerts,
        left_out: 0,
        external_url: "http://web-01:9100".to_owned(),
        host: "web-01".to_owned(),
        time: time(),
    }
}

pub(crate) fn high_cpu(instance: &str, over: bool) -> Alert {
    alert(
        &[
            ("alertname", "HighCPU"),
            ("environment", "production"),
            ("instance", instance),
            ("job", "node"),
            ("severity", "critical"),
        ],
        &[
            ("description", "The CPU is at 97 %."),
            ("runbook_url", "https://runbooks.example/cpu?a=1&b=2"),
            ("summary", "CPU above 90 %"),
        ],
        over,
    )
}

/// Two alerts of one name, one of them over if `mixed`.
pub(crate) fn plain(reason: Reason, mixed: bool) -> Notification {
    notification(reason, vec![high_cpu("web-01", false), high_cpu("web-02", mixed)])
}

/// All kinds: every reason with firing, resolved, mixed and no alerts; thousands of alerts; huge labels; nasty texts.
pub(crate) fn all() -> &'static [Notification] {
    static ALL: OnceLock<Vec<Notification>> = OnceLock::new();
    ALL.get_or_init(make_all)
}

fn make_all() -> Vec<Notification> {
    let mut all = Vec::new();
    for reason in REASONS {
        all.push(notification(reason, vec![high_cpu("web-01", false)]));
        all.push(notification(reason, vec![high_cpu("web-01", true)]));
        all.push(plain(reason, false));
        all.push(plain(reason, true));
        all.push(notification(reason, Vec::new()));
    }
    let many = (0..10_000).map(|at| high_cpu(&format!("web-{at:05}"), at % 7 == 0)).collect();
    all.push(Notification { left_out: 12, ..notification(Reason::Digest, many) });
    let huge = "huge ü<&>*🔥\n".repeat(8_000);
    let labels: Vec<String> = (0..10).map(|at| format!("label_{at}")).collect();
    let mut pairs: Vec<(&str, &str)> = labels.iter().map(|name| (name.as_str(), huge.as_str())).collect();
    pairs.extend([("alertname", huge.as_str()), ("severity", huge.as_str()), ("instance", huge.as_str())]);
    let annotations = [("summary", huge.as_str()), ("description", huge.as_str()), ("runbook_url", huge.as_str())];
    all.push(notification(Reason::Alerts, vec![alert(&pairs, &annotations, false), alert(&pairs, &annotations, true)]));
    for text in NASTY {
        let labels =
            [("alertname", *text), ("severity", *text), ("instance", *text), ("environment", *text), ("note", *text)];
        let annotations = [("summary", *text), ("description", *text), ("runbook_url", *text)];
        let mut one = notification(Reason::Escalation(1), vec![alert(&labels, &annotations, false)]);
        one.group_labels = set(&labels);
        one.group_key = (*text).to_owned();
        one.receiver = (*text).to_owned();
        one.host = (*text).to_owned();
        one.external_url = (*text).to_owned();
        all.push(one);
    }
    let mut random = Random(6);
    for _ in 0..60 {
        let mut alerts = Vec::new();
        for _ in 0..random.below(30) {
            let texts: Vec<String> = (0..6).map(|_| random.text()).collect();
            let labels = [
                ("alertname", texts[0].as_str()),
                ("severity", texts[1].as_str()),
                ("instance", texts[2].as_str()),
                ("environment", texts[3].as_str()),
            ];
            let runbook = format!("https://runbooks.example/{}", texts[4]);
            let annotations = [("summary", texts[4].as_str()), ("description", &texts[5]), ("runbook_url", &runbook)];
            alerts.push(alert(&labels, &annotations, random.below(3) == 0));
        }
        let mut one = notification(REASONS[random.below(REASONS.len())], alerts);
        one.host = random.text();
        one.left_out = random.below(3) * 100;
        all.push(one);
    }
    all
}

/// A receiver, as written.
pub(crate) fn receiver(text: &str) -> Receiver {
    let receiver: Receiver =
        toml::from_str(&format!("name = \"team\"\n{text}")).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(receiver.check(), [], "{text}");
    receiver
}

/// Secrets by the names of their files.
pub(crate) fn secrets(file: &Path) -> Result<String, String> {
    match file.to_str().unwrap() {
        "url" => Ok(format!("https://hooks.example/services/{HUSH}")),
        "key" => Ok(HUSH.to_owned()),
        "empty" => Ok(String::new()),
        "no-url" => Ok(format!("ftp://{HUSH}")),
        other => Err(format!("can't read {other}")),
    }
}

/// The only way of a receiver.
pub(crate) fn one(text: &str) -> std::sync::Arc<dyn Integration> {
    let mut all = receiver(text).integrations();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

pub(crate) fn http(integration: &dyn Integration, notification: &Notification) -> HttpCall {
    match integration.call(notification, time(), &secrets) {
        Ok(Call::Http(call)) => {
            assert!(!format!("{call:?}").contains(HUSH));
            let url = call.url.expose();
            assert!(url.starts_with("http") && !url.contains(char::is_whitespace), "{url}");
            for (name, value) in &call.headers {
                let value = value.expose();
                assert!(!value.contains(|c: char| c.is_control()), "{name}: {value:?}");
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
            }
            call
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn mail(integration: &dyn Integration, notification: &Notification) -> Mail {
    match integration.call(notification, time(), &secrets) {
        Ok(Call::Mail(mail)) => *mail,
        other => panic!("{other:?}"),
    }
}

/// The body of a POST of JSON.
pub(crate) fn json(integration: &dyn Integration, notification: &Notification) -> Value {
    let call = http(integration, notification);
    assert_eq!(call.method, "POST");
    assert!(header(&call, "Content-Type").is_some_and(|value| value.starts_with("application/json")));
    serde_json::from_slice(&call.body).unwrap()
}

pub(crate) fn header<'a>(call: &'a HttpCall, name: &str) -> Option<&'a str> {
    call.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.expose())
}

/// As services count characters.
pub(crate) fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

pub(crate) fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| panic!("{what} is no text: {value}"))
}

/// A text of a length between these.
pub(crate) fn bounded<'a>(value: &'a Value, least: usize, most: usize, what: &str) -> &'a str {
    let text = text(value, what);
    assert!((least..=most).contains(&length(text)), "{what} has {} characters: {text:.100}", length(text));
    text
}

/// The keys of an object are among these.
pub(crate) fn only(value: &Value, keys: &[&str]) {
    for key in value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys() {
        assert!(keys.contains(&key.as_str()), "unknown key {key}");
    }
}

pub(crate) fn answer(status: u16, body: &str) -> Answer {
    Answer { status, retry_after: None, body: body.as_bytes().to_vec() }
}

pub(crate) fn refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn later(outcome: Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Retry(after, _) => after,
        other => panic!("{other:?}"),
    }
}
