//! What the socket answers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use daemon::http::{self, Credentials, Handler, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;
use uuid::Uuid;

use crate::admission::Busy;
use crate::argv::Allowed;
use crate::config::{Job, Settings, is_job_name};
use crate::desk::{Answer, Asked, Desk};
use crate::limits::millis;
use crate::metrics::Refusal;
use crate::remembered::Run;

/// The largest body that a command is handed.
const MOST_BODY: usize = 1 << 20;

/// Bodies over this size, or of a size not told, are read a few at a time, so that they can't fill the memory.
const SMALL_BODY: u64 = 64 << 10;
const LARGE_BODIES: usize = 16;

/// The longest id.
const MOST_ID: usize = 128;

const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How soon to come again while the daemon restarts, or its disk is full.
const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(30);

/// The handler.
#[derive(Debug)]
pub(crate) struct Pages {
    desk: Desk,
    large: Semaphore,
}

impl Pages {
    pub(crate) fn new(desk: Desk) -> Self {
        Self { desk, large: Semaphore::new(LARGE_BODIES) }
    }
}

impl Handler for Pages {
    async fn handle(&self, request: Request) -> Response {
        let settings = self.desk.settings();
        let Some(peer) = request.credentials.filter(|peer| settings.askers.permits(peer)) else {
            return self.stranger(request.credentials);
        };
        let path = request.path.clone();
        if let Some(name) = path.strip_prefix("/v1/run/") {
            return match (&request.method, name.split_once('/')) {
                (&Method::POST, None) => self.run(request, name, peer, &settings).await,
                (&(Method::GET | Method::HEAD), Some((name, id))) => self.look_up(name, id),
                (_, Some(_)) => http::method_not_allowed("GET, HEAD"),
                (_, None) => http::method_not_allowed("POST"),
            };
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return http::method_not_allowed("GET, HEAD");
        }
        match path.as_str() {
            "/v1/jobs" => answer(StatusCode::OK, &listed(&settings)),
            "/metrics" => http::content(StatusCode::OK, OPEN_METRICS, self.desk.metrics().encode()),
            "/healthz" => http::text(StatusCode::OK, "ok"),
            "/readyz" => match self.desk.fault() {
                None => http::text(StatusCode::OK, "ready"),
                Some(fault) => http::text(StatusCode::SERVICE_UNAVAILABLE, fault),
            },
            "/" => http::text(
                StatusCode::OK,
                "utilizer-jobs\n/v1/jobs\n/v1/run/NAME\n/v1/run/NAME/ID\n/metrics\n/healthz\n/readyz",
            ),
            path => refuse(StatusCode::NOT_FOUND, format!("there is no {path} here; / lists what there is")),
        }
    }
}

impl Pages {
    fn stranger(&self, peer: Option<Credentials>) -> Response {
        self.desk.metrics().refused(Refusal::Asker);
        let message = match peer {
            Some(peer) => {
                warn!(
                    "refused a request of user {}, group {}: `jobs.allow_users` and `jobs.allow_groups` don't name them",
                    peer.uid, peer.gid
                );
                format!(
                    "user {} is not answered here; `jobs.allow_users` and `jobs.allow_groups` in the configuration decide who is",
                    peer.uid
                )
            }
            None => "the kernel does not tell who asks".to_owned(),
        };
        refuse(StatusCode::FORBIDDEN, message)
    }

    async fn run(&self, request: Request, name: &str, peer: Credentials, settings: &Settings) -> Response {
        let deny = |why: Refusal, status, message: String| {
            self.desk.metrics().refused(why);
            refuse(status, message)
        };
        let id = match id(&request) {
            Ok(id) => id,
            Err(message) => return deny(Refusal::Request, StatusCode::UNPROCESSABLE_ENTITY, message),
        };
        // Also of a job that a reload took away meanwhile.
        if let Some(known) = self.desk.repeated(name, &id) {
            return self.say(known);
        }
        let Some(job) = settings.jobs.get(name).cloned() else {
            let name = if is_job_name(name) { name } else { "of that name" };
            return deny(
                Refusal::UnknownJob,
                StatusCode::NOT_FOUND,
                format!("there is no job {name}; /v1/jobs lists them"),
            );
        };
        let _room = self.room(&request).await;
        let body = match request.body(MOST_BODY).await {
            Ok(body) if body.is_empty() => Bytes::from_static(b"{}"),
            Ok(body) => body,
            Err(response) => {
                self.desk.metrics().refused(Refusal::Request);
                return response;
            }
        };
        let value: Value = match serde_json::from_slice(&body) {
            Ok(value) => value,
            // Where, but not what: the library's sentence tells no values for broken syntax.
            Err(error) => {
                let message = format!("the body is no JSON: line {}, column {}", error.line(), error.column());
                return deny(Refusal::Request, StatusCode::BAD_REQUEST, message);
            }
        };
        let argv = match job.argv.fill(&job.params, &value) {
            Ok(argv) => argv,
            Err(message) => return deny(Refusal::Params, StatusCode::UNPROCESSABLE_ENTITY, message),
        };
        drop(value);
        let answer = self.desk.run(Asked { id: id.clone(), job, argv, body, peer }).await;
        self.say(answer)
    }

    /// A place for a large body.
    async fn room(&self, request: &Request) -> Option<SemaphorePermit<'_>> {
        let declared = request.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let is_chunked = request.headers.contains_key(header::TRANSFER_ENCODING);
        match declared {
            Some(length) if length > SMALL_BODY => self.large.acquire().await.ok(),
            None if is_chunked => self.large.acquire().await.ok(),
            _ => None,
        }
    }

    fn say(&self, said: Answer) -> Response {
        let metrics = self.desk.metrics();
        match said {
            Answer::Ended { result, repeated } => {
                let mut response = answer(StatusCode::OK, &*result);
                if repeated {
                    metrics.repeated.inc();
                    response.headers_mut().insert("idempotency-replayed", header::HeaderValue::from_static("true"));
                }
                response
            }
            Answer::Running(run) => {
                metrics.refused(Refusal::Running);
                after(Duration::from_secs(1), answer(StatusCode::CONFLICT, &state(&run)))
            }
            Answer::Wait(wait, busy) => {
                metrics.refused(busy.into());
                let why = match busy {
                    Busy::Rate => "the job ran as often as its rate and cooldown allow",
                    Busy::Concurrency => "as many run as may at once",
                    Busy::Ids => "as many ids as can be remembered came within an hour",
                };
                after(wait, refuse(StatusCode::TOO_MANY_REQUESTS, why.to_owned()))
            }
            Answer::Stopping => {
                metrics.refused(Refusal::Stopping);
                after(
                    SOON,
                    refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon stops; come again with the same id".to_owned()),
                )
            }
            Answer::Unnoted(fault) => {
                metrics.refused(Refusal::Audit);
                after(
                    LATER,
                    refuse(StatusCode::SERVICE_UNAVAILABLE, format!("not run, since it could not be noted: {fault}")),
                )
            }
            Answer::Broken => {
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "BUG: the run broke off; the log has more".to_owned())
            }
        }
    }

    fn look_up(&self, job: &str, id: &str) -> Response {
        match self.desk.known(job, id) {
            Some(Run { ended: Some((_, result)), .. }) => answer(StatusCode::OK, &*result),
            Some(run) => answer(StatusCode::OK, &state(&run)),
            None => refuse(StatusCode::NOT_FOUND, "no run of this job with this id is known".to_owned()),
        }
    }
}

/// The request's own id, or a new one.
fn id(request: &Request) -> Result<String, String> {
    let mut given = request.headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(id), None) = (given.next(), given.next()) else {
        return match request.headers.contains_key(IDEMPOTENCY_KEY) {
            true => Err("there are two Idempotency-Key headers".to_owned()),
            false => Ok(Uuid::new_v4().to_string()),
        };
    };
    let is_sound = |id: &&str| {
        (1..=MOST_ID).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c))
    };
    id.to_str()
        .ok()
        .filter(is_sound)
        .map(str::to_owned)
        .ok_or_else(|| format!("Idempotency-Key is 1 to {MOST_ID} letters, digits, '.', '_', ':' and '-'"))
}

fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            http::content(status, JSON, body)
        }
        Err(error) => http::text(StatusCode::INTERNAL_SERVER_ERROR, format!("BUG: can't write the answer: {error}")),
    }
}

fn refuse(status: StatusCode, message: String) -> Response {
    answer(status, &json!({ "error": message }))
}

/// With the time after which to come again, in whole seconds.
fn after(wait: Duration, mut response: Response) -> Response {
    let seconds = millis(wait).div_ceil(1000).max(1);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    response
}

fn state(run: &Run) -> Value {
    let started_at = wire::Timestamp::from_millis(i64::try_from(run.started).unwrap_or(i64::MAX));
    json!({ "id": run.id, "job": run.job, "state": "running", "started_at": started_at })
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    timeout_ms: u64,
    rate: ListedRate,
    cooldown_ms: u64,
    max_concurrent: usize,
    params: BTreeMap<&'a str, ListedParam<'a>>,
}

#[derive(Serialize)]
struct ListedRate {
    count: usize,
    per_ms: u64,
}

#[derive(Serialize)]
struct ListedParam<'a> {
    from: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'a str>,
}

/// What may be asked for. The commands themselves are nobody's business.
fn listed(settings: &Settings) -> Value {
    let one = |job: &Job| {
        let params = job.params.iter().map(|(name, param)| {
            let (values, pattern) = match &param.allowed {
                Allowed::Values(values) => (Some(values.as_slice()), None),
                Allowed::Pattern { written, .. } => (None, Some(written.as_str())),
            };
            (name.as_str(), ListedParam { from: &param.from, values, pattern })
        });
        serde_json::to_value(Listed {
            name: &job.name,
            description: &job.description,
            timeout_ms: millis(job.timeout),
            rate: ListedRate { count: job.limits.count, per_ms: millis(job.limits.per) },
            cooldown_ms: millis(job.limits.cooldown),
            max_concurrent: job.max_concurrent,
            params: params.collect(),
        })
        .unwrap_or_default()
    };
    json!({ "jobs": settings.jobs.values().map(|job| one(job)).collect::<Vec<_>>() })
}
