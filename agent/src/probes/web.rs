//! HTTP as probes ask it: one request, redirects where they are followed, and how long each part took.

use std::path::Path;

use bytes::Bytes;
use daemon::client::{
    self, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, SecretUrl, basic, bearer, exchange_over,
    header,
};
use serde_json::Value;
use tokio::time::Instant;

use super::dial::{self, Place, TlsSection, is_given};
use super::{Faults, Run};

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// What a probe asks, whatever of the answer it looks at then.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) url: &'a str,
    pub(super) url_file: Option<&'a Path>,
    pub(super) method: Method,
    pub(super) headers: Vec<(&'a str, String)>,
    pub(super) body: Bytes,
    pub(super) username: &'a str,
    pub(super) password_file: Option<&'a Path>,
    pub(super) bearer_token_file: Option<&'a Path>,
    pub(super) tls: Option<&'a TlsSection>,
    pub(super) follow: bool,
    /// The most of the answer's body that is kept, in bytes.
    pub(super) most: usize,
}

/// What may be shown of a URL: all but its query.
pub(super) fn shown(url: &str) -> String {
    match url.split_once('?') {
        Some((place, _)) => format!("{place}?…"),
        None => url.to_owned(),
    }
}

/// What is wrong with the URL of a table.
pub(super) fn check_url(url: &str, faults: &mut Faults) {
    if let Err(error) = url.parse::<SecretUrl>() {
        faults.add("url", error.to_string());
    }
}

pub(super) fn given(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| is_given(path))
}

/// Asks, and notes what there is to tell of the way.
pub(super) async fn ask(run: &mut Run<'_>, asked: Asked<'_>) -> Result<Response, String> {
    let text = match asked.url_file {
        Some(file) => dial::secret(run, "url_file", file).await?,
        None => asked.url.to_owned(),
    };
    let mut url: SecretUrl = text.parse().map_err(|error| format!("the URL can't be used: {error}"))?;
    let mut request = Request { method: asked.method, headers: HeaderMap::new(), body: asked.body };
    for (name, value) in &asked.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("{name} is no name of a header"))?;
        let value = HeaderValue::try_from(value).map_err(|_| format!("the header {name} can't have this value"))?;
        request.headers.insert(name, value);
    }
    if let Some(file) = asked.bearer_token_file {
        let token = dial::secret(run, "bearer_token_file", file).await?;
        let value = bearer(&token).ok_or("bearer_token_file: the token has characters that no header can have")?;
        request.headers.insert(header::AUTHORIZATION, value);
    } else if !asked.username.is_empty() {
        let password = match asked.password_file {
            Some(file) => dial::secret(run, "password_file", file).await?,
            None => String::new(),
        };
        request.headers.insert(header::AUTHORIZATION, basic(asked.username, &password));
    }
    let mut phases = [("resolve", 0.0), ("connect", 0.0), ("tls", 0.0), ("processing", 0.0), ("transfer", 0.0)];
    let mut redirects = 0;
    let anyone = TlsSection::default();
    let result = loop {
        let tls = url.is_tls().then(|| asked.tls.unwrap_or(&anyone));
        let place = Place { host: url.host(), port: url.port(), tls };
        let (stream, took) = match dial::connect(run, place).await {
            Ok(connected) => connected,
            Err(error) => break Err(error),
        };
        phases[0].1 += took.resolve;
        phases[1].1 += took.connect;
        phases[2].1 += took.tls.unwrap_or_default();
        run.found.stage("the answer");
        let begun = Instant::now();
        let ends = (run.until, run.timeout);
        let exchanged = match exchange_over(stream, &url, request.clone(), ends, asked.most).await {
            Ok(exchanged) => exchanged,
            Err(error) => break Err(error.to_string()),
        };
        phases[3].1 += (exchanged.head_at - begun).as_secs_f64();
        phases[4].1 += exchanged.head_at.elapsed().as_secs_f64();
        let version = if exchanged.version == client::Version::HTTP_10 { 1.0 } else { 1.1 };
        run.found.gauge("probe_http_version", "The version of HTTP in the answer.", version);
        let response = exchanged.response;
        let Some(next) = asked.follow.then(|| redirected(&url, &response)).flatten() else { break Ok(response) };
        redirects += 1;
        if redirects > MOST_REDIRECTS {
            break Err(format!("more than {MOST_REDIRECTS} redirects"));
        }
        let next = match next {
            Ok(next) => next,
            Err(why) => break Err(why),
        };
        if next.place() != url.place() {
            // What proves who we are is for the server that was meant.
            request.headers.remove(header::AUTHORIZATION);
            request.headers.remove(header::COOKIE);
            asked.headers.iter().for_each(|(name, _)| drop(request.headers.remove(*name)));
        }
        if response.status == 303 || (matches!(response.status, 301 | 302) && request.method == Method::POST) {
            (request.method, request.body) = (Method::GET, Bytes::new());
        }
        url = next;
    };
    // A part that did not come about has no time.
    for (phase, seconds) in phases.into_iter().filter(|(_, seconds)| result.is_ok() || *seconds > 0.0) {
        let help = "How long each part of the request took, redirects together.";
        run.found.labelled("probe_http_duration_seconds", help, ("phase", phase), seconds);
    }
    run.found.gauge("probe_http_redirects", "Redirects that were followed.", redirects as f64);
    run.found.gauge("probe_http_ssl", "Whether TLS was spoken for the last answer.", f64::from(url.is_tls()));
    let response = result?;
    run.found.gauge("probe_http_status_code", "The status of the last answer.", f64::from(response.status));
    run.found.gauge(
        "probe_http_uncompressed_body_length",
        "Bytes of the answer's body, as far as it was read.",
        response.body.len() as f64,
    );
    Ok(response)
}

/// Where an answer sends on to, or why that is no place.
fn redirected(url: &SecretUrl, response: &Response) -> Option<Result<SecretUrl, String>> {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let to = response.headers.get(header::LOCATION)?.to_str().ok();
    let next = to.and_then(|to| url.sent_on(to));
    Some(next.ok_or_else(|| "it redirects to a place that can't be read".to_owned()))
}

/// What an answer means where 200 is wanted.
pub(super) fn well(response: &Response) -> Result<(), String> {
    response.fault().map_or(Ok(()), Err)
}

/// The value at a path of JSON, as a number: `/a/b/0` as RFC 6901 has it, or `a.b[0]`.
pub(super) fn number_at(value: &Value, path: &str) -> Result<f64, String> {
    let pointer = pointer(path);
    let found = value.pointer(&pointer).ok_or_else(|| format!("the JSON has nothing at {path}"))?;
    let number = match found {
        Value::Number(number) => number.as_f64(),
        Value::Bool(whether) => Some(f64::from(*whether)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| format!("what the JSON has at {path} is no number"))
}

fn pointer(path: &str) -> String {
    if path.is_empty() || path.starts_with('/') {
        return path.to_owned();
    }
    let mut pointer = String::new();
    for part in path.split(['.', '[']) {
        let part = part.strip_suffix(']').unwrap_or(part);
        if !part.is_empty() {
            pointer.push('/');
            pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
        }
    }
    pointer
}

/// For fuzzing.
pub(super) fn read_anything(data: &[u8]) {
    let half = data.len() / 2;
    let (path, body) = (data.get(..half).unwrap_or_default(), data.get(half..).unwrap_or_default());
    if let (Ok(value), Ok(path)) = (serde_json::from_slice(body), std::str::from_utf8(path)) {
        assert!(number_at(&value, path).is_ok_and(f64::is_finite) || number_at(&value, path).is_err());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = dial::url(text, &["tcp", "tls"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_either_form_of_path() {
        let value = serde_json::json!({"usage": {"rows": [{"read": 7}, {"read": "8.5"}], "a/b": true}, "n": null});
        for (path, number) in
            [("usage.rows[0].read", 7.0), ("/usage/rows/1/read", 8.5), ("usage.a/b", 1.0), ("/usage/a~1b", 1.0)]
        {
            assert_eq!(number_at(&value, path), Ok(number), "{path}");
        }
        assert_eq!(number_at(&value, "usage.x"), Err("the JSON has nothing at usage.x".to_owned()));
        assert_eq!(number_at(&value, "n"), Err("what the JSON has at n is no number".to_owned()));
        assert!(number_at(&serde_json::json!("NaN"), "").is_err());
    }

    #[test]
    fn redirects_go_where_they_say() {
        let to = |url: &str, location: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(location));
            let response = Response { status: 302, headers, body: Bytes::new(), is_cut: false };
            redirected(&url.parse().unwrap(), &response).map(|next| next.map(|next| next.expose()))
        };
        for (location, wanted) in [
            ("/x?y#z", "http://h:1/x?y"),
            ("x", "http://h:1/a/x"),
            ("//g/x", "http://g/x"),
            ("https://g/x", "https://g/x"),
        ] {
            assert_eq!(to("http://h:1/a/b?c", location), Some(Ok(wanted.to_owned())), "{location}");
        }
        assert!(to("http://h", "ftp://x").unwrap().is_err());
        assert_eq!(to("http://h/a/b", "x"), Some(Ok("http://h/a/x".to_owned())), "a port that is not written");
        assert_eq!(to("http://h:1/a/b?c", "?d"), Some(Ok("http://h:1/a/b?d".to_owned())));
    }

    #[test]
    fn queries_are_not_shown() {
        assert_eq!(shown("https://h/a?token=hush"), "https://h/a?…");
        assert_eq!(shown("https://h/a"), "https://h/a");
    }
}
