//! What comes as bytes or text and not from a file: requests, pushes, messages, configurations.

use std::sync::LazyLock;

use daemon::http::Web;
use utilizer_agent::collectors::systemd::{Incoming, incoming, rows};
use utilizer_agent::exposition::Format;
use utilizer_agent::host;
use utilizer_agent::pattern::Pattern;
use utilizer_agent::push::{logs, pipeline};
use wire::Timestamp;
use wire::messages::{Confirmation, Control, Logs, Metrics, Pipeline, Status};

pub(crate) const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("push-logs", |data| drop(logs::parse(data, now()).map(|logs| wire::encode(&logs)))),
    ("push-pipeline", |data| drop(pipeline::parse(data, now()).map(|metrics| wire::encode(&metrics)))),
    ("http-head", |data| with_text(data, http_head)),
    ("pattern", |data| with_text(data, |text| drop(Pattern::new(text).map(|pattern| pattern.matches("sda1"))))),
    ("agent-config", |data| with_text(data, config)),
    ("messages", messages),
    ("web-config", web_config),
    ("netlink", |data| host::attributes(data).for_each(drop)),
    ("systemd", systemd),
];

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::UNIX_EPOCH)
}

fn with_text(data: &[u8], run: impl Fn(&str)) {
    if let Ok(text) = std::str::from_utf8(data) {
        run(text);
    }
}

/// The parts of a request that are our own to read; the rest is hyper's.
fn http_head(text: &str) {
    daemon::http::pairs(text).for_each(drop);
    let _ = daemon::http::accepts_gzip(text);
    let _ = Format::negotiated(text);
}

fn config(text: &str) {
    let _ = daemon::config::load_text::<utilizer_agent::config::File>(Some("agent.toml".as_ref()), text, "X", []);
}

fn messages(data: &[u8]) {
    let _ = wire::decode_head(data);
    with_text(data, |text| drop(text.parse::<wire::Topic>()));
    let _ = wire::decode_body::<Logs>(data);
    let _ = wire::decode_body::<Metrics>(data);
    let _ = wire::decode_body::<Pipeline>(data);
    let _ = wire::decode_state::<Status>("status", data);
    let _ = wire::decode_state::<Confirmation>("confirmed", data);
    let _ = wire::decode_state::<Control>("control", data);
}

/// The file names certificates and keys; one that names files of this machine is refused for what they hold.
fn web_config(data: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    let path = FOLDER.path().join("web.yml");
    std::fs::write(&path, data).expect("the temporary folder can be written");
    if let Err(error) = Web::load(&path) {
        assert!(!error.to_string().is_empty());
    }
}

/// An answer of systemd's, and the list of units in it.
fn systemd(data: &[u8]) {
    if let Ok(Incoming::Return { body, .. }) = incoming(data) {
        let _ = rows(body, |row| assert!(row.name.len() <= data.len()));
    }
}
