//! Alerts, silences and acknowledgements over HTTP. The paths of version 2 are Alertmanager's, so that its tools work.

use std::time::SystemTime;

use bytes::Bytes;
use daemon::http::{Method, Request, Response, StatusCode, content, header, method_not_allowed, pairs, text};
use notify::dispatch::Ack;
use notify::matcher;
use notify::receivers::Outcome;
use notify::silence::{Origin, Silence};
use rules::labels::{MatchOp, Matcher};
use serde::Deserialize;
use serde_json::{Value, json};
use wire::{LabelSet, Timestamp};

use super::{Handle, Shown};

/// What may be sent here.
const MOST_BODY: usize = 64 << 10;

/// What a name or a comment may have.
const LONGEST_TEXT: usize = 2000;

/// Conditions of one silence.
const MOST_MATCHERS: usize = 50;

/// Whether a path is answered here.
pub fn is_path(path: &str) -> bool {
    path.starts_with("/api/v2/") || matches!(path, "/api/v1/ack" | "/api/v1/notify/test")
}

/// Answers.
#[derive(Debug, Clone, Copy)]
pub struct Api<'a>(pub &'a Handle);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedSilence {
    id: Option<String>,
    matchers: Vec<PostedMatcher>,
    starts_at: Option<Timestamp>,
    ends_at: Timestamp,
    created_by: String,
    comment: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostedAck {
    /// A fingerprint, or an alert's name.
    alert: String,
    author: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    false_alarm: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostedTest {
    receiver: String,
}

/// An answer that is no success.
type Refusal = Response;

impl Api<'_> {
    /// The answer to a request of which [`is_path`] holds.
    pub async fn handle(&self, request: Request) -> Response {
        self.answer(request).await.unwrap_or_else(|refusal| refusal)
    }

    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let path = request.path.clone();
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        if !reads && !request.peer.is_local() && !request.authenticated {
            let message = format!(
                "{} may not do this: only programs on this host may, over loopback or the Unix socket, and peers that \
                 prove who they are (`serve.web_config_file`)",
                request.peer
            );
            return Err(text(StatusCode::FORBIDDEN, message));
        }
        if !reads && request.headers.contains_key(header::ORIGIN) {
            // A browser on this host sends whatever some page of the internet has it send.
            return Err(text(StatusCode::FORBIDDEN, "pages in a browser may not do this: the request has an Origin"));
        }
        match (path.as_str(), &request.method) {
            ("/api/v2/alerts", _) if reads => self.alerts(&request).await,
            ("/api/v2/silences", _) if reads => self.silences(&request).await,
            ("/api/v2/silences", &Method::POST) => self.silence(request).await,
            ("/api/v2/status", _) if reads => Ok(ok(&json!({
                "cluster": { "status": "disabled", "peers": [] },
                "versionInfo": { "version": crate::VERSION },
                "config": { "original": "" },
                "uptime": Timestamp::from(SystemTime::now()),
            }))),
            ("/api/v1/ack", &Method::POST) => self.acknowledge(request).await,
            ("/api/v1/notify/test", &Method::POST) => self.test(request).await,
            ("/api/v2/alerts" | "/api/v2/status", _) => Err(method_not_allowed("GET, HEAD")),
            ("/api/v2/silences", _) => Err(method_not_allowed("GET, HEAD, POST")),
            ("/api/v1/ack" | "/api/v1/notify/test", _) => Err(method_not_allowed("POST")),
            (path, method) => match path.strip_prefix("/api/v2/silence/") {
                Some(id) if reads => {
                    let silences = self.0.silences().await.map_err(busy)?;
                    let found = silences.iter().find(|silence| silence.id == id);
                    let found =
                        found.ok_or_else(|| text(StatusCode::NOT_FOUND, format!("there is no silence {id:?}")))?;
                    Ok(ok(&shown_silence(found, now())))
                }
                Some(id) if *method == Method::DELETE => {
                    let ended = self.0.expire(id.to_owned()).await.map_err(busy)?;
                    ended.map_err(|why| text(StatusCode::NOT_FOUND, why))?;
                    Ok(ok(&json!({})))
                }
                Some(_) => Err(method_not_allowed("GET, HEAD, DELETE")),
                None => Err(text(StatusCode::NOT_FOUND, "nothing here; / lists what there is")),
            },
        }
    }

    async fn alerts(&self, request: &Request) -> Result<Response, Refusal> {
        let (mut filters, mut without) = (Vec::new(), Vec::new());
        for (name, value) in pairs(request.query.as_deref().unwrap_or_default()) {
            match (&*name, &*value) {
                ("filter", text) => filters.extend(matcher::parse(text).map_err(bad)?),
                ("active" | "silenced" | "inhibited", "false") => without.push(name.to_string()),
                _ => {}
            }
        }
        let alerts = self.0.alerts().await.map_err(busy)?;
        let wanted = |shown: &&Shown| {
            let suppressed = shown.silenced_by.is_some() || shown.inhibited;
            let hidden = |state: &str| without.iter().any(|name| name == state);
            let left_out = (hidden("active") && !suppressed)
                || (hidden("silenced") && shown.silenced_by.is_some())
                || (hidden("inhibited") && shown.inhibited);
            !left_out && matcher::all_match(&filters, &shown.alert.labels)
        };
        let now = now();
        let shown: Vec<Value> = alerts.iter().filter(wanted).map(|shown| shown_alert(shown, now)).collect();
        Ok(ok(&Value::Array(shown)))
    }

    async fn silences(&self, request: &Request) -> Result<Response, Refusal> {
        let mut filters = Vec::new();
        for (name, value) in pairs(request.query.as_deref().unwrap_or_default()) {
            if name == "filter" {
                filters.extend(matcher::parse(&value).map_err(bad)?);
            }
        }
        let silences = self.0.silences().await.map_err(busy)?;
        // As Alertmanager does: a filter is held against the values of the silence's own conditions.
        let wanted = |silence: &&Silence| {
            let values: LabelSet = silence.matchers.iter().map(|m| (m.name.clone(), m.value.clone())).collect();
            matcher::all_match(&filters, &values)
        };
        let now = now();
        Ok(ok(&silences.iter().filter(wanted).map(|silence| shown_silence(silence, now)).collect()))
    }

    async fn silence(&self, request: Request) -> Result<Response, Refusal> {
        let posted: PostedSilence = body(request).await?;
        let now = now();
        if posted.matchers.is_empty() || posted.matchers.len() > MOST_MATCHERS {
            return Err(bad(format!("a silence has 1 to {MOST_MATCHERS} matchers")));
        }
        let mut matchers = Vec::new();
        for matcher in &posted.matchers {
            let op = match (matcher.is_regex, matcher.is_equal) {
                (false, true) => MatchOp::Equal,
                (false, false) => MatchOp::NotEqual,
                (true, true) => MatchOp::Regex,
                (true, false) => MatchOp::NotRegex,
            };
            matchers.push(Matcher::new(&matcher.name, op, &matcher.value).map_err(|error| bad(error.to_string()))?);
        }
        let empty = LabelSet::default();
        if matcher::all_match(&matchers, &empty) {
            return Err(bad("at least one matcher must not match an alert without labels"));
        }
        let id = match posted.id.filter(|id| !id.is_empty()) {
            Some(id) => {
                let silences = self.0.silences().await.map_err(busy)?;
                if !silences.iter().any(|silence| silence.id == id) {
                    return Err(text(StatusCode::NOT_FOUND, format!("there is no silence {id:?}")));
                }
                id
            }
            None => uuid::Uuid::new_v4().to_string(),
        };
        let silence = Silence {
            id: id.clone(),
            matchers,
            starts_at: posted.starts_at.unwrap_or(now),
            ends_at: posted.ends_at,
            created_by: named("createdBy", posted.created_by).map_err(bad)?,
            comment: named("comment", posted.comment).map_err(bad)?,
            origin: Origin::Host,
        };
        if silence.ends_at <= now {
            return Err(bad("it is over already: endsAt must lie in the future"));
        }
        if silence.ends_at <= silence.starts_at {
            return Err(bad("endsAt must be after startsAt"));
        }
        self.0.silence(silence).await.map_err(busy)?.map_err(bad)?;
        Ok(ok(&json!({ "silenceID": id })))
    }

    async fn acknowledge(&self, request: Request) -> Result<Response, Refusal> {
        let posted: PostedAck = body(request).await?;
        let ack = Ack {
            by: named("author", posted.author).map_err(bad)?,
            comment: posted.comment.chars().take(LONGEST_TEXT).collect(),
            false_alarm: posted.false_alarm,
            at: now(),
        };
        let found = self.0.acknowledge(posted.alert.clone(), ack).await.map_err(busy)?;
        if found.is_empty() {
            let message = format!("no alert {:?} fires here; a fingerprint or an alert's name is needed", posted.alert);
            return Err(text(StatusCode::NOT_FOUND, message));
        }
        Ok(ok(&json!({ "acknowledged": found })))
    }

    async fn test(&self, request: Request) -> Result<Response, Refusal> {
        let posted: PostedTest = body(request).await?;
        let tried = self.0.test(posted.receiver).await.map_err(busy)?;
        let tried = tried.map_err(|why| text(StatusCode::NOT_FOUND, why))?;
        let results = tried.into_iter().map(|(target, outcome)| match outcome {
            Outcome::Sent => json!({ "target": target, "sent": true }),
            Outcome::Retry(_, why) | Outcome::Refused(why) => json!({ "target": target, "sent": false, "error": why }),
        });
        Ok(ok(&json!({ "results": results.collect::<Vec<_>>() })))
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn ok(value: &Value) -> Response {
    content(StatusCode::OK, "application/json", Bytes::from(value.to_string()))
}

fn bad(why: impl Into<String>) -> Refusal {
    text(StatusCode::BAD_REQUEST, why.into())
}

fn busy(busy: super::Busy) -> Refusal {
    text(StatusCode::SERVICE_UNAVAILABLE, busy.to_string())
}

fn named(key: &str, value: String) -> Result<String, String> {
    match value.trim().is_empty() || value.chars().count() > LONGEST_TEXT {
        true => Err(format!("{key} must have 1 to {LONGEST_TEXT} characters")),
        false => Ok(value),
    }
}

async fn body<T: for<'de> Deserialize<'de>>(request: Request) -> Result<T, Refusal> {
    let bytes = request.body(MOST_BODY).await?;
    serde_json::from_slice(&bytes).map_err(|error| bad(format!("the body is not what is needed: {error}")))
}

fn shown_alert(shown: &Shown, now: Timestamp) -> Value {
    let Shown { alert, ack, silenced_by, inhibited, receivers } = shown;
    let suppressed = silenced_by.is_some() || *inhibited;
    let receivers: Vec<_> = receivers.iter().map(|name| json!({ "name": name })).collect();
    let mut value = json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": alert.fired_at,
        "updatedAt": now,
        // While it fires, nobody knows.
        "endsAt": now.plus(std::time::Duration::from_secs(300)),
        "generatorURL": "",
        "fingerprint": alert.fingerprint,
        "receivers": receivers,
        "status": {
            "state": if suppressed { "suppressed" } else { "active" },
            "silencedBy": silenced_by.iter().collect::<Vec<_>>(),
            "inhibitedBy": if *inhibited { vec!["another alert"] } else { Vec::new() },
        },
    });
    if let (Some(ack), Some(object)) = (ack, value.as_object_mut()) {
        object.insert("acknowledged".to_owned(), json!(ack));
    }
    value
}

fn shown_silence(silence: &Silence, now: Timestamp) -> Value {
    let state = match (now < silence.ends_at, now < silence.starts_at) {
        // Also before its beginning, if somebody ended it.
        _ if silence.ends_at <= silence.starts_at => "expired",
        (true, true) => "pending",
        (true, false) => "active",
        (false, _) => "expired",
    };
    let matchers: Vec<_> = silence
        .matchers
        .iter()
        .map(|matcher| {
            let regex = matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex);
            let equal = matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
            json!({ "name": matcher.name, "value": matcher.value, "isRegex": regex, "isEqual": equal })
        })
        .collect();
    let origin = match silence.origin {
        Origin::File => "configuration",
        Origin::Host => "host",
        Origin::Fleet => "fleet",
    };
    json!({
        "id": silence.id,
        "status": { "state": state },
        "updatedAt": silence.starts_at,
        "matchers": matchers,
        "startsAt": silence.starts_at,
        "endsAt": silence.ends_at,
        "createdBy": silence.created_by,
        "comment": silence.comment,
        "origin": origin,
    })
}
