//! What several services have in common.

use std::path::PathBuf;

use serde::Serialize;

use super::{Call, Faults, HttpCall, Secret, SecretFile, Secrets};
use crate::Notification;
use crate::text::{self, AlertText};

/// A secret, or a sentence on why it is missing.
pub(super) fn secret(file: &SecretFile, secrets: &Secrets<'_>) -> Result<Secret, String> {
    let text = secrets(&file.0)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{} is empty: its first line has to be the secret", file.0.display()));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{} has control characters in its first line", file.0.display()));
    }
    Ok(Secret::new(text))
}

/// A URL that stands in a file, since there are keys in it.
pub(super) fn secret_url(file: Option<&SecretFile>, secrets: &Secrets<'_>) -> Result<Secret, String> {
    let Some(file) = file else { return Err("no URL is configured".to_owned()) };
    let url = secret(file, secrets)?;
    match is_url(url.expose()) {
        true => Ok(url),
        false => Err(format!("the first line of {} is no URL that begins with https:// or http://", file.0.display())),
    }
}

/// Whether something can be called over HTTP.
pub(super) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#', '@']))
        && text.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

/// A file with a URL that has to be named.
pub(super) fn check_url_file(file: Option<&SecretFile>, key: &str, what: &str, faults: &mut Faults) {
    if file.is_none_or(|file| file.0.as_os_str().is_empty()) {
        faults.add(key, format!("is missing: name a file whose first line is {what}"));
    }
}

/// A URL in the configuration itself.
pub(super) fn check_url(url: &str, key: &str, faults: &mut Faults) {
    if !is_url(url) {
        faults.add(key, "is no URL that begins with https:// or http://");
    } else if url.split(['/', '?', '#']).nth(2).is_some_and(|authority| authority.contains('@')) {
        faults.add(key, "has a user or password in it: use username and password_file");
    }
}

/// How a request says who sends it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) bearer_token_file: Option<&'a SecretFile>,
    pub(super) username: &'a str,
    pub(super) password_file: Option<&'a SecretFile>,
}

impl Login<'_> {
    pub(super) fn check(&self, faults: &mut Faults) {
        if self.bearer_token_file.is_some() && (!self.username.is_empty() || self.password_file.is_some()) {
            faults.add("bearer_token_file", "stands beside username or password_file: there can be only one login");
        }
        if self.username.is_empty() != self.password_file.is_none() {
            let (key, other) =
                if self.username.is_empty() { ("password_file", "username") } else { ("username", "password_file") };
            faults.add(key, format!("needs {other} too"));
        }
        if self.username.contains(|c: char| c == ':' || c.is_control()) {
            faults.add("username", "has a colon or control characters in it");
        }
    }

    pub(super) fn header(&self, secrets: &Secrets<'_>) -> Result<Option<(String, Secret)>, String> {
        let value = match (self.bearer_token_file, self.password_file) {
            (Some(file), _) => format!("Bearer {}", secret(file, secrets)?.expose()),
            (None, Some(file)) => {
                let pair = format!("{}:{}", self.username, secret(file, secrets)?.expose());
                format!("Basic {}", base64(pair.as_bytes()))
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(("Authorization".to_owned(), Secret::new(value))))
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A POST of JSON, with the notification's id where the service shall know what it has seen.
pub(super) fn post(
    url: Secret,
    body: &impl Serialize,
    headers: Vec<(String, Secret)>,
    ca_file: Option<&PathBuf>,
) -> Result<Call, String> {
    let body = serde_json::to_vec(body).map_err(|error| format!("BUG: the body is no JSON: {error}"))?;
    let mut all = vec![header("Content-Type", "application/json; charset=utf-8"), agent()];
    all.extend(headers);
    Ok(Call::Http(HttpCall { method: "POST", url, headers: all, body, ca_file: ca_file.cloned() }))
}

pub(super) fn agent() -> (String, Secret) {
    header("User-Agent", concat!("utilizer/", env!("CARGO_PKG_VERSION")))
}

pub(super) fn header(name: &str, value: &str) -> (String, Secret) {
    (name.to_owned(), Secret::new(value))
}

/// The same whenever this notification is sent again.
pub(super) fn idempotency(notification: &Notification) -> (String, Secret) {
    header("Idempotency-Key", &text::line(&notification.id, 64))
}

/// Names of headers that only the client itself sets.
const OURS: &[&str] = &["content-length", "transfer-encoding", "host", "connection", "te", "upgrade", "trailer"];

/// Whether a header can be sent: `None`, or what is wrong.
pub(super) fn header_fault(name: &str) -> Option<&'static str> {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(sign) {
        return Some("is no name of a header");
    }
    OURS.contains(&name.to_ascii_lowercase().as_str()).then_some("is a header that is set by itself")
}

/// Headers that hold a login belong into files.
pub(super) fn secret_header(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"]
        .contains(&name.to_ascii_lowercase().as_str())
}

/// 32 hex digits of texts: what belongs together in a service's eyes.
pub(super) fn hash(texts: &[&str]) -> String {
    let fnv = |start: u64| {
        let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
        bytes.fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    format!("{:016x}{:016x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x6c62_272e_07bb_0142))
}

/// The labels of `names` that alerts have in common, or of the only alert: at most `most`.
pub(super) fn shown(names: &[String], notification: &Notification, most: usize) -> Vec<(String, String)> {
    let labels = notification.common_labels();
    let found = names.iter().filter_map(|name| {
        let value = Some(text::line(labels.get(name)?, 900)).filter(|value| !value.is_empty())?;
        Some((headline(name), value))
    });
    found.take(most).collect()
}

/// The labels that are shown beside the text.
pub(super) fn fields() -> Vec<String> {
    ["environment", "severity", "instance"].map(str::to_owned).to_vec()
}

/// `Environment` for `environment`.
fn headline(name: &str) -> String {
    let mut chars = name.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    text::cut(&(first + chars.as_str()), 100)
}

/// What a service's colours say: red, orange, amber, blue, green.
pub(super) fn colour(notification: &Notification) -> u32 {
    match text::urgency(notification) {
        4 => 0x00D3_2F2F,
        3 => 0x00E6_4A19,
        2 => 0x00F9_A825,
        1 => 0x0019_76D2,
        _ => 0x002E_7D32,
    }
}

/// Whether people are called by name for it.
pub(super) fn calls_people(notification: &Notification) -> bool {
    use crate::notification::{Reason, Status};
    notification.status() == Status::Firing && !matches!(notification.reason, Reason::Heartbeat | Reason::Test)
}

/// `id … · step …`, for services that have no place for an id.
pub(super) fn footer(notification: &Notification) -> String {
    format!("utilizer · {}", text::line(&notification.id, 64))
}

/// An alert's lines, each escaped and of a bounded length: what it is about, when, its labels.
pub(super) fn lines(alert: &AlertText, escape: impl Fn(char) -> Option<&'static str>) -> Vec<String> {
    let texts = [(&alert.summary, 700), (&alert.description, 700), (&alert.when(), 200), (&alert.pairs(), 600)];
    let lines = texts.into_iter().filter(|(text, _)| !text.is_empty());
    lines.map(|(text, most)| text::escaped(text, most, &escape)).collect()
}
