//! Calls the services.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use daemon::client::{
    Client, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, SecretUrl, Target, TlsSettings, Uri,
};
use notify::Notification;
use notify::receivers::{Answer, Call, HttpCall, Integration, Outcome, retry_after};
use wire::Timestamp;

use super::Notify;

/// What a service gets for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a command gets; `utilizer-jobs` has its own limit for each.
const COMMAND_PATIENCE: Duration = Duration::from_secs(600);

/// Of an answer, no more is looked at.
const MOST_ANSWER: usize = 64 << 10;

/// How a job may end otherwise than by itself; nothing else of an answer is told on.
const OUTCOMES: [&str; 5] = ["signaled", "timed_out", "stopped", "not_started", "unknown"];

/// The way to all services.
#[derive(Debug)]
pub(super) struct Deliverer {
    integrations: BTreeMap<String, Arc<dyn Integration>>,
    jobs: PathBuf,
    clients: BTreeMap<Option<PathBuf>, Client>,
}

/// The sending of one notification.
pub(super) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Deliverer {
    pub(super) fn new(notify: &Notify) -> Self {
        Self { integrations: notify.integrations.clone(), jobs: notify.jobs.clone(), clients: BTreeMap::new() }
    }

    /// Makes the call; the rest is done when the work is driven.
    pub(super) fn prepare(&mut self, target: &str, notification: &Notification, now: Timestamp) -> Work {
        let Some(integration) = self.integrations.get(target).cloned() else {
            return ready(Outcome::Refused("the configuration has it no more".to_owned()));
        };
        let call = match integration.call(notification, now, &secret) {
            Ok(call) => call,
            // A file may be put right.
            Err(why) => return ready(Outcome::Retry(None, why)),
        };
        match call {
            Call::Http(call) => self.http(call, move |answer| integration.outcome(answer)),
            Call::Command { job, body } => Box::pin(command(self.jobs.clone(), job, body, notification.id.clone())),
            Call::Mail(mail) => Box::pin(super::mail::send(*mail, PATIENCE)),
        }
    }

    /// Sends a request; `judge` says what an answer means.
    pub(super) fn http(&mut self, call: HttpCall, judge: impl FnOnce(&Answer) -> Outcome + Send + 'static) -> Work {
        match self.client(&call) {
            Ok(client) => Box::pin(http(client, call, judge)),
            Err(why) => ready(Outcome::Retry(None, why)),
        }
    }

    fn client(&mut self, call: &HttpCall) -> Result<Client, String> {
        if let Some(client) = self.clients.get(&call.ca_file) {
            return Ok(client.clone());
        }
        let settings = TlsSettings { ca_file: call.ca_file.clone(), ..TlsSettings::default() };
        let client = Client::new(&settings).map_err(|faults| {
            let faults = faults.into_iter().map(|(key, fault)| format!("{key}: {fault}"));
            faults.collect::<Vec<_>>().join("; ")
        })?;
        self.clients.insert(call.ca_file.clone(), client.clone());
        Ok(client)
    }
}

pub(super) fn ready(outcome: Outcome) -> Work {
    Box::pin(std::future::ready(outcome))
}

/// A file's first line.
pub(super) fn secret(path: &Path) -> Result<String, String> {
    let text =
        daemon::config::file::read_text(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(format!("{} is empty; its first line must be the secret", path.display())),
    }
}

async fn http(client: Client, call: HttpCall, judge: impl FnOnce(&Answer) -> Outcome) -> Outcome {
    // None of these sentences has anything of the secret.
    let url = match call.url.expose().parse::<SecretUrl>() {
        Ok(url) => url,
        Err(error) => return Outcome::Retry(None, format!("its URL can't be used: {error}")),
    };
    let Ok(method) = Method::from_bytes(call.method.as_bytes()) else {
        return Outcome::Refused(format!("{:?} is no HTTP method", call.method));
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let pair = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::try_from(value.expose()).ok());
        let Some((name, mut value)) = pair else {
            return Outcome::Refused(format!(
                "the header {name:?} can't be sent: it has a sign that no header may have"
            ));
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let request = Request { method, headers, body: call.body.into() };
    match client.send(Target::Url(&url), request, PATIENCE, MOST_ANSWER).await {
        Ok(response) => told(&response, judge),
        Err(error) => Outcome::Retry(None, error.to_string()),
    }
}

/// By `POST /v1/run/<job>` of `utilizer-jobs`, which runs one id once.
async fn command(socket: PathBuf, job: String, body: Vec<u8>, id: String) -> Outcome {
    let Ok(uri) = format!("/v1/run/{job}").parse::<Uri>() else {
        return Outcome::Refused(format!("{job:?} is no name of a job"));
    };
    let Ok(id) = HeaderValue::try_from(id) else { return Outcome::Refused("BUG: an id is no header".to_owned()) };
    let request = Request::post("application/json", body).with(HeaderName::from_static("idempotency-key"), id);
    match Client::new(&TlsSettings::default()) {
        Err(_) => Outcome::Refused("BUG: a client without files".to_owned()),
        Ok(client) => match client.send(Target::Unix(&socket, &uri), request, COMMAND_PATIENCE, MOST_ANSWER).await {
            Err(error) => Outcome::Retry(None, error.to_string()),
            Ok(response) => told(&response, |answer| ran(&job, answer)),
        },
    }
}

/// That a command failed is the command's affair: running it again is not what was asked for.
fn ran(job: &str, answer: &Answer) -> Outcome {
    if answer.status == 409 {
        return Outcome::Retry(answer.retry_after, format!("the job {job:?} still runs"));
    }
    if answer.status != 200 {
        return notify::receivers::outcome(answer);
    }
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let outcome = said.get("outcome").and_then(serde_json::Value::as_str).unwrap_or_default();
    match said.get("exit_code").and_then(serde_json::Value::as_i64).filter(|_| outcome == "exited") {
        Some(0) => Outcome::Sent,
        Some(code) => Outcome::Refused(format!("the job {job:?} ended with exit code {code}")),
        // One that was told to end may still say that all is well.
        None if OUTCOMES.contains(&outcome) => {
            Outcome::Refused(format!("the job {job:?} did not end by itself: {outcome}"))
        }
        None => Outcome::Refused(format!("the job {job:?} did not end by itself")),
    }
}

fn told(response: &Response, judge: impl FnOnce(&Answer) -> Outcome) -> Outcome {
    let now = Timestamp::from(SystemTime::now());
    let header = response.headers.get("retry-after").and_then(|value| value.to_str().ok());
    let answer = Answer {
        status: response.status,
        retry_after: header.and_then(|value| retry_after(value, now)),
        body: response.body.to_vec(),
    };
    match judge(&answer) {
        // Says where it was sent on to.
        Outcome::Refused(_) if response.redirects_to().is_some() => {
            Outcome::Refused(response.fault().unwrap_or_default())
        }
        outcome => outcome,
    }
}
