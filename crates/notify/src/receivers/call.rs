//! What a service is called with, and what it answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::Timestamp;

/// A file whose first line is a secret. It is read whenever it is needed, so that a new one needs no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretFile(pub PathBuf);

/// Reads a secret: the file's first line, or why there is none.
pub type Secrets<'a> = dyn Fn(&Path) -> Result<String, String> + 'a;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the one who sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What a service is called with.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Over HTTP.
    Http(HttpCall),
    /// A mail.
    Mail(Box<Mail>),
    /// A command of `utilizer-jobs`, over its socket: the job's name and what it reads from its standard input.
    Command {
        /// The job.
        job: String,
        /// JSON.
        body: Vec<u8>,
    },
}

/// An HTTP request.
#[derive(Clone, PartialEq)]
pub struct HttpCall {
    /// `POST` and the like.
    pub method: &'static str,
    /// Where to; services have their keys in it.
    pub url: Secret,
    /// Names and values; none of them is logged.
    pub headers: Vec<(String, Secret)>,
    /// The body.
    pub body: Vec<u8>,
    /// The authorities that sign the server's certificate, where they are not the system's.
    pub ca_file: Option<PathBuf>,
}

/// Bodies have keys in them, too.
impl std::fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpCall({}, {} headers, {} bytes)", self.method, self.headers.len(), self.body.len())
    }
}

/// A mail, and the server that takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    /// `host:port` of the server.
    pub smarthost: String,
    /// How the way is encrypted.
    pub tls: MailTls,
    /// The authorities that sign the server's certificate, where they are not the system's.
    pub ca_file: Option<PathBuf>,
    /// User and password.
    pub login: Option<(String, Secret)>,
    /// The sender's address.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// The message as it is sent, headers and all (RFC 5322).
    pub message: Vec<u8>,
}

/// How the way to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// Not before the server offers it; without it nothing is sent.
    #[default]
    Starttls,
    /// From the first byte.
    Tls,
    /// Not at all.
    None,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived.
    Sent,
    /// It may be tried again, not before this long where the service said so. The sentence has no secret in it.
    Retry(Option<Duration>, String),
    /// Sending it again is of no use. The sentence has no secret in it.
    Refused(String),
}

/// What a service answered over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Retry-After`, from now.
    pub retry_after: Option<Duration>,
    /// The body's beginning.
    pub body: Vec<u8>,
}

/// What most services mean: 2xx is taken, 408, 425, 429 and 5xx are for later, everything else is for never.
pub fn outcome(answer: &Answer) -> Outcome {
    match answer.status {
        200..=299 => Outcome::Sent,
        408 | 425 | 429 | 500..=599 => Outcome::Retry(answer.retry_after, format!("it answered {}", answer.status)),
        status => Outcome::Refused(format!("it answered {status}")),
    }
}

/// `Retry-After` as HTTP has it (RFC 9110, section 10.2.3): seconds, or a date.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_millisecond();
    Some(Duration::from_millis(u64::try_from(date - now.as_millis()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_asks_for_patience_in_seconds_or_by_a_date() {
        let now = "2026-11-20T08:00:00Z".parse().unwrap();
        assert_eq!(retry_after(" 17 ", now), Some(Duration::from_secs(17)));
        assert_eq!(retry_after("Fri, 20 Nov 2026 08:01:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Fri, 20 Nov 2026 07:01:00 GMT", now), Some(Duration::ZERO));
        assert_eq!((retry_after("soon", now), retry_after("-1", now)), (None, None));
    }
}
