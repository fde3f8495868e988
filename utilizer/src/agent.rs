//! A running agent, as commands ask it: over its port without TLS, or over its Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use daemon::config::duration;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use wire::Timestamp;

use crate::command::CommandError;
use crate::http::{self, Place};
use crate::terminal::plain;

/// The largest answer that is read.
const LARGEST: usize = 64 << 20;

/// Characters of an answer's text that are repeated.
const MOST_SAID: usize = 500;

/// Where the agent is.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// Where the agent listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9100", value_parser = Target::read)]
    url: Target,
    /// The agent's Unix socket (`serve.unix`), instead of a URL.
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    unix: Option<PathBuf>,
    /// The longest time to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// A URL, taken apart.
#[derive(Debug, Clone)]
struct Target {
    /// `HOST:PORT`.
    address: String,
    /// What stands before `/api`.
    path: String,
}

impl Target {
    fn read(url: &str) -> Result<Self, String> {
        if url.starts_with("https://") {
            return Err("TLS is not spoken here; ask on the host itself, with --unix or over loopback".to_owned());
        }
        let form = || "write http://HOST:PORT".to_owned();
        let rest = url.strip_prefix("http://").ok_or_else(form)?;
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if host.is_empty() || rest.contains(['@', '?', '#', ' ']) {
            return Err(form());
        }
        let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { address, path: path.trim_end_matches('/').to_owned() })
    }
}

/// What it says.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// All of it.
    pub body: Bytes,
}

impl AgentArgs {
    /// An agent that other switches name.
    pub fn at(url: &str, unix: Option<PathBuf>, timeout: Duration) -> Result<Self, CommandError> {
        Ok(Self { url: Target::read(url).map_err(CommandError::Usage)?, unix, timeout })
    }

    /// Sends one request. `below` is a path and its query, `body` is sent as JSON.
    pub async fn ask(&self, method: Method, below: &str, body: Option<&Json>) -> Result<Answer, CommandError> {
        let (place, host, path) = match &self.unix {
            Some(socket) => (Place::Unix(socket), "localhost", ""),
            None => (Place::Tcp(&self.url.address), self.url.address.as_str(), self.url.path.as_str()),
        };
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder().method(method).uri(format!("{path}{below}")).header("host", host);
        let request = request.header("content-type", "application/json").body(Full::new(body));
        let request = request.map_err(|error| CommandError::Usage(format!("this can't be asked for: {error}")))?;
        let answer = tokio::time::timeout(self.timeout, http::ask(place, request, LARGEST)).await;
        let late = || CommandError::Failed(format!("no answer after {} (--timeout)", duration::format(self.timeout)));
        let (status, body) = answer.map_err(|_| late())?.map_err(|error| {
            let place = match place {
                Place::Tcp(address) => format!("http://{address}{path}"),
                Place::Unix(path) => path.display().to_string(),
            };
            CommandError::Failed(format!(
                "can't ask the agent at {place}: {}; --url or --unix says where another listens",
                http::sentence(&error)
            ))
        })?;
        Ok(Answer { status, body })
    }

    /// Sends one request, and reads the JSON that it is answered with.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        below: &str,
        body: Option<&Json>,
    ) -> Result<T, CommandError> {
        let answer = self.ask(method, below, body).await?;
        if !answer.status.is_success() {
            return Err(CommandError::Failed(answer.refusal()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            CommandError::Failed(format!("its answer can't be read: {error}; is it an agent of this version?"))
        })
    }
}

impl Answer {
    /// What an answer means that is not what was asked for.
    pub fn refusal(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let said: String = text.lines().next().unwrap_or_default().trim().chars().take(MOST_SAID).collect();
        let said = plain(&said);
        match self.status {
            StatusCode::UNAUTHORIZED => {
                "it wants to know who asks (401), which can't be told here; ask with --unix".to_owned()
            }
            status if said.is_empty() => format!("it answers {status}"),
            // The agent's own sentences.
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => said.into_owned(),
            status => format!("it answers {status}: {said}"),
        }
    }
}

/// Seconds since 1970, or RFC 3339.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.abs() < 1e11 => Ok(Timestamp::from_millis((seconds * 1000.0).round() as i64)),
        _ => text.parse().map_err(|_| "write seconds since 1970 or a time like 2026-01-31T12:00:00Z".to_owned()),
    }
}

/// All but what may stand in a URL's query or path as it is.
pub fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let read = |url| Target::read(url).map(|target| (target.address, target.path));
        assert_eq!(read("http://h:1/p/").unwrap(), ("h:1".to_owned(), "/p".to_owned()));
        assert_eq!(read("http://[::1]:9100").unwrap().0, "[::1]:9100");
        assert_eq!(read("http://h").unwrap().0, "h:80");
        assert!(read("https://h").unwrap_err().contains("TLS"));
        assert!(read("h:1").is_err() && read("http://a:b@h").is_err() && read("http:///x").is_err());
    }

    #[test]
    fn moments_are_seconds_or_times() {
        assert_eq!(moment("1.5").unwrap().as_millis(), 1500);
        assert_eq!(moment("1970-01-01T00:00:02Z").unwrap().as_millis(), 2000);
        assert!(moment("yesterday").is_err() && moment("NaN").is_err());
    }

    #[test]
    fn refusals_are_sentences_and_steer_no_terminal() {
        let refusal = |status, body: &'static str| Answer { status, body: Bytes::from(body) }.refusal();
        assert_eq!(refusal(StatusCode::NOT_FOUND, "there is no \u{1b}[31m\nmore\n"), "there is no \\x1b[31m");
        assert_eq!(refusal(StatusCode::SERVICE_UNAVAILABLE, "busy"), "it answers 503 Service Unavailable: busy");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, ""), "it answers 502 Bad Gateway");
        assert!(refusal(StatusCode::UNAUTHORIZED, "x").contains("--unix"));
    }
}
