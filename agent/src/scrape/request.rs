//! Gets a target's page.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daemon::client::{self, HeaderName, HeaderValue, Request, Response, SecretUrl, SendError, Target, header};
use daemon::http::gunzip;

use super::config::Job;
use super::text::Format;
use crate::tokens::shown;

/// As Prometheus: OpenMetrics before the classic text.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// As Go's client, which Prometheus has.
const MOST_REDIRECTS: usize = 10;

/// Why a scrape came to nothing: a word for metrics and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) what: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Nobody takes the connection, or it breaks.
    Connection,
    /// It took too long.
    Timeout,
    /// The target is not the one that was meant.
    Tls,
    /// Another status than 200.
    Status,
    /// A file with a secret can't be used.
    Credentials,
    /// The page has more bytes than it may.
    TooLarge,
    /// The page is none.
    Format,
    /// The page has more samples or labels than it may.
    Limit,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Status => "status",
            Self::Credentials => "credentials",
            Self::TooLarge => "too_large",
            Self::Format => "format",
            Self::Limit => "limit",
        }
    }

    pub(super) fn failure(self, what: impl Into<String>) -> Failure {
        Failure { reason: self, what: what.into() }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let reason = match &error {
            SendError::Timeout { .. } => Reason::Timeout,
            SendError::Tls { .. } => Reason::Tls,
            SendError::Resolve { .. } | SendError::Connect { .. } | SendError::Protocol { .. } => Reason::Connection,
        };
        reason.failure(error.to_string())
    }
}

/// A page as it came.
#[derive(Debug)]
pub(super) struct Fetched {
    body: Bytes,
    is_gzip: bool,
    pub(super) format: Format,
}

impl Fetched {
    /// How many bytes came.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// Its text, of at most `most` bytes.
    pub(super) fn text(self, most: usize) -> Result<Bytes, Failure> {
        if !self.is_gzip {
            return Ok(self.body);
        }
        gunzip(&self.body, most).map(Bytes::from).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => too_large(most),
            _ => Reason::Format.failure(format!("what it sends is no gzip file: {error}")),
        })
    }
}

/// Of a page, only so much was asked for; there is more.
#[derive(Debug)]
pub(super) struct More;

/// Asks for the page, of which at most `most` bytes are taken, within the time.
pub(super) async fn fetch(
    job: &Job,
    url: &SecretUrl,
    timeout: Duration,
    until: Instant,
    most: usize,
) -> Result<Result<Fetched, More>, Failure> {
    let secrets = secrets(job)?;
    let mut place = url.clone();
    for _ in 0..=MOST_REDIRECTS {
        let mut request = Request::get()
            .with(header::ACCEPT, HeaderValue::from_static(ACCEPT))
            .with(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))
            .with(
                HeaderName::from_static("x-prometheus-scrape-timeout-seconds"),
                HeaderValue::try_from(timeout.as_secs_f64().to_string())
                    .unwrap_or_else(|_| HeaderValue::from_static("10")),
            );
        // Whoever it sends on to gets nothing that was meant for the target.
        if place.is_same_server(url) {
            for (name, value) in job.headers.iter().chain(&secrets) {
                request = request.with(name.clone(), value.clone());
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        let response = job.client.send(Target::Url(&place), request, left, most).await;
        let response = response.map_err(|error| match error {
            SendError::Timeout { place, stage, .. } => {
                Failure::from(SendError::Timeout { place, stage, after: timeout })
            }
            error => error.into(),
        })?;
        if response.redirects_to().is_none() || !job.section.follow_redirects {
            return page(response);
        }
        let to = response.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
        place = to
            .and_then(|to| place.sent_on(to))
            .ok_or_else(|| Reason::Status.failure("it sends on to a place that can't be read"))?;
    }
    Err(Reason::Status.failure(format!("it sends on more than {MOST_REDIRECTS} times")))
}

fn page(response: Response) -> Result<Result<Fetched, More>, Failure> {
    if response.status != 200 {
        let what = response.fault().unwrap_or_else(|| format!("it answers {}, which is not 200", response.status));
        return Err(Reason::Status.failure(what));
    }
    if response.is_cut {
        return Ok(Err(More));
    }
    let text = |name| response.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = text(header::CONTENT_ENCODING).trim();
    if !matches!(encoding, "" | "identity" | "gzip") {
        return Err(
            Reason::Format.failure(format!("its page is encoded as {:?}; only gzip is asked for", shown(encoding)))
        );
    }
    let kind = text(header::CONTENT_TYPE);
    let format = Format::of(kind).ok_or_else(|| {
        Reason::Format.failure(format!("its page is of the type {:?}; only text is asked for", shown(kind)))
    })?;
    Ok(Ok(Fetched { is_gzip: encoding == "gzip", format, body: response.body }))
}

pub(super) fn too_large(most: usize) -> Failure {
    Reason::TooLarge
        .failure(format!("its page has more than {} (body_size_limit)", daemon::config::size::format(most as u64)))
}

/// Headers whose values stand in files, which are read each time.
fn secrets(job: &Job) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let section = &job.section;
    let mut headers = Vec::new();
    for (name, file) in &job.header_files {
        let mut value = HeaderValue::try_from(first_line(file)?).map_err(|_| unusable(file))?;
        value.set_sensitive(true);
        headers.push((name.clone(), value));
    }
    if let Some(file) = &section.bearer_token_file {
        let value = client::bearer(&first_line(file)?).ok_or_else(|| unusable(file))?;
        headers.push((header::AUTHORIZATION, value));
    } else if !section.username.is_empty() {
        let password = section.password_file.as_deref().map(first_line).transpose()?.unwrap_or_default();
        headers.push((header::AUTHORIZATION, client::basic(&section.username, &password)));
    }
    Ok(headers)
}

fn first_line(file: &Path) -> Result<String, Failure> {
    let text = daemon::config::file::read_text(file);
    let text = text.map_err(|error| Reason::Credentials.failure(format!("can't read {}: {error}", file.display())))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => {
            Err(Reason::Credentials
                .failure(format!("{} is empty: its first line has to be the secret", file.display())))
        }
    }
}

fn unusable(file: &Path) -> Failure {
    Reason::Credentials.failure(format!("the first line of {} has a sign that no header can have", file.display()))
}
