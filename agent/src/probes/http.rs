//! An endpoint of HTTP: its status, its body, values of its JSON, its certificate.

use std::path::PathBuf;

use bytes::Bytes;
use daemon::client::{HeaderName, HeaderValue, Method, Response, header};
use serde::{Deserialize, Serialize};
use wire::LabelSet;

use super::dial::TlsSection;
use super::web::{self, Asked};
use super::{Asking, Faults, Look, Run, is_metric_name};
use crate::pattern::Pattern;

/// Bodies above this are searched on another thread.
const LARGE: usize = 32 << 10;

/// The largest body that may be read.
const MOST_BODY: u64 = 16 << 20;

/// `[probe.http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// What is asked for.
    pub url: String,
    /// A file with a URL that is a secret; the label `target` shows the file.
    pub url_file: PathBuf,
    /// The method.
    pub method: String,
    /// Headers of the request.
    pub headers: LabelSet,
    /// What is sent.
    pub body: String,
    /// Who asks.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// A file whose first line is a token.
    pub bearer_token_file: PathBuf,
    /// Which statuses are well: a number, or `2xx`.
    pub valid_status: Vec<String>,
    /// Whether a redirect is followed.
    pub follow_redirects: bool,
    /// All of these must match the body.
    pub body_must_match: Vec<Pattern>,
    /// None of these must.
    pub body_must_not_match: Vec<Pattern>,
    /// The most of the body that is read.
    #[serde(with = "daemon::config::size")]
    pub max_body: u64,
    /// Values of a body that is JSON.
    pub json: Vec<JsonValue>,
    /// Whom it trusts.
    pub tls: TlsSection,
}

/// A value of a body that is JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JsonValue {
    /// Where it stands: `usage.rows[0].read`, or `/usage/rows/0/read`.
    pub path: String,
    /// The name that it gets.
    pub metric: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_file: PathBuf::new(),
            method: "GET".to_owned(),
            headers: LabelSet::default(),
            body: String::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            bearer_token_file: PathBuf::new(),
            valid_status: vec!["2xx".to_owned()],
            follow_redirects: true,
            body_must_match: Vec::new(),
            body_must_not_match: Vec::new(),
            max_body: 1 << 20,
            json: Vec::new(),
            tls: TlsSection::default(),
        }
    }
}

impl Look for Http {
    fn target(&self) -> String {
        match web::given(&self.url_file) {
            Some(file) => file.display().to_string(),
            None => web::shown(&self.url),
        }
    }

    fn check(&self, faults: &mut Faults) {
        match (web::given(&self.url_file), self.url.is_empty()) {
            (None, _) => web::check_url(&self.url, faults),
            (Some(_), true) => {}
            (Some(_), false) => faults.add("url_file", "the URL is set by `url` too; keep one"),
        }
        if Method::from_bytes(self.method.as_bytes()).is_err() {
            faults.add("method", format!("{:?} is no method of HTTP", self.method));
        }
        for (name, value) in self.headers.iter() {
            if name.parse::<HeaderName>().is_err() || HeaderValue::try_from(value).is_err() {
                faults.add(&format!("headers.{name}"), "is no header of HTTP");
            }
            if ["authorization", "cookie", "x-api-key"].contains(&name.to_ascii_lowercase().as_str()) {
                faults.add(&format!("headers.{name}"), "is a secret; use password_file or bearer_token_file");
            }
        }
        faults.pair(&self.username, &self.password_file);
        if web::given(&self.bearer_token_file).is_some() && !self.username.is_empty() {
            faults.add("bearer_token_file", "there is a username too; keep one of them");
        }
        if self.valid_status.is_empty() || self.valid_status.iter().any(|status| !is_status(status)) {
            faults.add("valid_status", "must be a list of statuses such as \"200\" or \"2xx\"");
        }
        if !(1..=MOST_BODY).contains(&self.max_body) {
            faults.add("max_body", "must lie between 1 and 16MiB");
        }
        for (at, value) in self.json.iter().enumerate() {
            if !is_metric_name(&value.metric) || value.metric.starts_with("probe_") {
                let why = "must be the name of a metric (letters, digits and '_') that does not begin with probe_";
                faults.add(&format!("json[{at}].metric"), why);
            }
        }
        self.tls.check(faults);
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let asked = Asked {
                url: &self.url,
                url_file: web::given(&self.url_file),
                method: Method::from_bytes(self.method.as_bytes()).unwrap_or_default(),
                headers: self.headers.iter().map(|(name, value)| (name, value.to_owned())).collect(),
                body: Bytes::copy_from_slice(self.body.as_bytes()),
                username: &self.username,
                password_file: web::given(&self.password_file),
                bearer_token_file: web::given(&self.bearer_token_file),
                tls: Some(&self.tls),
                follow: self.follow_redirects,
                most: usize::try_from(self.max_body).unwrap_or(usize::MAX),
            };
            let response = web::ask(run, asked).await?;
            self.judge(run, response).await
        })
    }
}

impl Http {
    async fn judge(&self, run: &mut Run<'_>, response: Response) -> Result<(), String> {
        let headers = &response.headers;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<f64>().ok());
        let help = "Bytes of the body as the answer's head says, -1 where it does not.";
        run.found.gauge("probe_http_content_length", help, length.unwrap_or(-1.0));
        if let Some(modified) = headers.get(header::LAST_MODIFIED).and_then(|at| at.to_str().ok()).and_then(date) {
            let help = "When the page was changed, as the answer says, in seconds since 1970.";
            run.found.gauge("probe_http_last_modified_timestamp_seconds", help, modified);
        }
        if !self.body_must_match.is_empty() || !self.body_must_not_match.is_empty() {
            let help = "Whether the probe failed because of what the answer says or does not say.";
            run.found.gauge("probe_failed_due_to_regex", help, 0.0);
        }
        if !self.valid_status.iter().any(|status| takes(status, response.status)) {
            let also = "is none of `valid_status`";
            return Err(response.fault().unwrap_or_else(|| format!("it answers {}, which {also}", response.status)));
        }
        let (must, must_not) = (self.body_must_match.clone(), self.body_must_not_match.clone());
        let (wanted, is_cut, most) = (self.json.clone(), response.is_cut, self.max_body);
        let look = move || look(&response.body, &must, &must_not, &wanted);
        let looked = if length.is_none_or(|length| length > LARGE as f64) {
            tokio::task::spawn_blocking(look).await.map_err(|panic| format!("BUG: looking at it failed: {panic}"))?
        } else {
            look()
        };
        looked.values.iter().for_each(|(name, value)| run.found.named(name, *value));
        if looked.by_pattern {
            run.found.gauge("probe_failed_due_to_regex", "", 1.0);
        }
        match looked.fault {
            None => Ok(()),
            Some(why) if is_cut => {
                let most = daemon::config::size::format(most);
                Err(format!("{why}; only the first {most} of the body were read (`max_body`)"))
            }
            Some(why) => Err(why),
        }
    }
}

#[derive(Debug, Default)]
struct Looked {
    values: Vec<(String, f64)>,
    fault: Option<String>,
    by_pattern: bool,
}

fn look(body: &[u8], must: &[Pattern], must_not: &[Pattern], wanted: &[JsonValue]) -> Looked {
    let mut looked = Looked::default();
    let text = String::from_utf8_lossy(body);
    let pattern = must
        .iter()
        .find(|pattern| !pattern.matches(&text))
        .map(|pattern| format!("the body does not match {:?}", pattern.as_str()))
        .or_else(|| {
            let matching = must_not.iter().find(|pattern| pattern.matches(&text));
            matching.map(|pattern| format!("the body matches {:?}", pattern.as_str()))
        });
    looked.by_pattern = pattern.is_some();
    looked.fault = pattern;
    if !wanted.is_empty() {
        match serde_json::from_slice(body) {
            Ok(value) => {
                for JsonValue { path, metric } in wanted {
                    match web::number_at(&value, path) {
                        Ok(number) => looked.values.push((metric.clone(), number)),
                        Err(why) => drop(looked.fault.get_or_insert(why)),
                    }
                }
            }
            // Not what serde_json says, which quotes.
            Err(error) => {
                let why = format!("the body is no JSON (line {}, column {})", error.line(), error.column());
                looked.fault.get_or_insert(why);
            }
        }
    }
    looked
}

fn is_status(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 3
        && matches!(bytes.first(), Some(b'1'..=b'5'))
        && (text.ends_with("xx") || bytes.iter().all(u8::is_ascii_digit))
}

fn takes(pattern: &str, status: u16) -> bool {
    match pattern.strip_suffix("xx") {
        Some(class) => class.parse() == Ok(status / 100),
        None => pattern.parse() == Ok(status),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<f64> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(time.timestamp().as_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_classes() {
        assert!(takes("2xx", 204) && takes("204", 204) && !takes("2xx", 304) && !takes("200", 204));
        assert!(is_status("2xx") && is_status("404") && !is_status("2x") && !is_status("600") && !is_status("xx2"));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777.0));
    }

    #[test]
    fn all_values_are_taken_that_are_there() {
        let value = |path: &str, metric: &str| JsonValue { path: path.to_owned(), metric: metric.to_owned() };
        let wanted = [value("a", "x"), value("b", "y"), value("c", "z")];
        let looked = look(br#"{"a": 1, "c": 3}"#, &[], &[], &wanted);
        assert_eq!(looked.values, [("x".to_owned(), 1.0), ("z".to_owned(), 3.0)]);
        assert_eq!(looked.fault.as_deref(), Some("the JSON has nothing at b"));
        let looked = look(b"hush", &[], &[], &wanted);
        assert_eq!(looked.fault.as_deref(), Some("the body is no JSON (line 1, column 1)"));
    }
}
