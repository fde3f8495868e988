//! One Alertmanager: batches go out one after another, and what does not get through is tried again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use daemon::client::{self, Client, HeaderValue, Request, SecretUrl, Target, header};
use daemon::config;
use daemon::mqtt::Password;
use notify::feed::Batch;
use tokio::sync::Notify;

use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::pages::Health;

/// The pauses between attempts: from, to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// As much of an answer is looked at.
const MOST_ANSWER: usize = 4096;

/// Where one is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As it is shown.
    pub(crate) name: String,
    /// Where alerts are posted.
    pub(crate) alerts: SecretUrl,
}

/// Who we are to it. Files are read for each request, since secrets are renewed.
#[derive(Debug, Clone)]
pub(crate) enum Authorization {
    Nothing,
    Basic { user: String, password: Option<Password>, file: Option<PathBuf> },
    Bearer(PathBuf),
}

impl Authorization {
    /// The header, or which key is at fault and why.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>, (&'static str, String)> {
        let line = |key, file: &PathBuf| {
            let text =
                config::file::read_text(file).map_err(|e| (key, format!("can't read {}: {e}", file.display())))?;
            match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
                Some(line) => Ok(line.to_owned()),
                None => Err((key, format!("the first line of {} is empty", file.display()))),
            }
        };
        match self {
            Self::Nothing => Ok(None),
            Self::Basic { user, password, file } => {
                let read = file.as_ref().map(|file| line("password_file", file)).transpose()?;
                let password = read.or_else(|| password.as_ref().map(|password| password.expose().to_owned()));
                Ok(Some(client::basic(user, &password.unwrap_or_default())))
            }
            Self::Bearer(file) => match client::bearer(&line("bearer_token_file", file)?) {
                Some(header) => Ok(Some(header)),
                None => Err(("bearer_token_file", "the token has characters that no header can have".to_owned())),
            },
        }
    }
}

/// What the fleet's task and the senders share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    fleet: Arc<Mutex<Fleet>>,
    /// Something is in the queues.
    news: Arc<Vec<Notify>>,
}

impl Shared {
    pub(crate) fn new(fleet: Fleet, targets: usize) -> Self {
        let news = (0..targets).map(|_| Notify::new()).collect();
        Self { fleet: Arc::new(Mutex::new(fleet)), news: Arc::new(news) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ring(&self) {
        self.news.iter().for_each(Notify::notify_one);
    }
}

/// What an attempt came to.
enum Outcome {
    Taken,
    /// It will never take this.
    Refused(String),
    /// It may take it later, after so long if it said so.
    Later(String, Option<Duration>),
}

/// How long to leave it alone: as it wished, but never less than after so many failures.
fn rest(wished: Option<Duration>, pause: Duration) -> Duration {
    wished.unwrap_or_default().max(pause).min(PAUSES.1)
}

/// Feeds one Alertmanager, for ever.
pub(crate) struct Sender {
    pub(crate) index: usize,
    pub(crate) place: Place,
    pub(crate) client: Client,
    pub(crate) authorization: Authorization,
    pub(crate) timeout: Duration,
    pub(crate) shared: Shared,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

impl Sender {
    pub(crate) async fn run(self) {
        let mut pause = PAUSES.0;
        loop {
            let batch = self.shared.lock().feed().take(self.index, SystemTime::now().into());
            let Some(batch) = batch else {
                if let Some(news) = self.shared.news.get(self.index) {
                    news.notified().await;
                }
                continue;
            };
            let outcome = self.post(&batch).await;
            let name = &self.place.name;
            match outcome {
                Outcome::Taken => {
                    self.metrics.posted(self.index, "taken", batch.len());
                    if self.health.alertmanager(self.index, None) {
                        tracing::info!("{name} takes alerts again");
                    }
                    pause = PAUSES.0;
                }
                Outcome::Refused(why) => {
                    // What fires is posted again with its next turn. Alertmanager keeps the good ones of a batch.
                    self.metrics.posted(self.index, "refused", batch.len());
                    let fault = format!("{name} refuses {} alerts: {why}", batch.len());
                    if self.health.alertmanager(self.index, Some(fault.clone())) {
                        tracing::error!("{fault}");
                    }
                    pause = PAUSES.0;
                }
                Outcome::Later(why, wished) => {
                    self.metrics.posted(self.index, "failed", batch.len());
                    let fault = format!("{name} takes no alerts: {why}");
                    if self.health.alertmanager(self.index, Some(fault.clone())) {
                        tracing::warn!("{fault}; trying again for as long as it takes");
                    }
                    self.shared.lock().feed().give_back(self.index, &batch);
                    tokio::time::sleep(rest(wished, pause)).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn post(&self, batch: &Batch) -> Outcome {
        let authorization = self.authorization.clone();
        let header = match &authorization {
            Authorization::Nothing => Ok(None),
            // Its file may lie on a disk that hangs.
            _ => tokio::task::spawn_blocking(move || authorization.header())
                .await
                .unwrap_or_else(|panic| Err(("password_file", format!("BUG: reading it failed: {panic}")))),
        };
        let mut request = Request::post("application/json", batch.body().to_vec());
        match header {
            Ok(Some(header)) => request = request.with(header::AUTHORIZATION, header),
            Ok(None) => {}
            Err((key, why)) => return Outcome::Later(format!("alertmanager.{key}: {why}"), None),
        }
        let answer = self.client.send(Target::Url(&self.place.alerts), request, self.timeout, MOST_ANSWER).await;
        match answer {
            Err(error) => Outcome::Later(error.to_string(), None),
            Ok(answer) => match answer.fault() {
                None => Outcome::Taken,
                Some(fault) if answer.status == 429 || answer.status == 408 || answer.status >= 500 => {
                    let after = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                    Outcome::Later(fault, after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs))
                }
                // Whoever is not let in may be, once somebody has seen to it; so with what is not found.
                Some(fault) if answer.status != 400 && answer.status != 413 => Outcome::Later(fault, None),
                Some(fault) => {
                    let said = String::from_utf8_lossy(&answer.body);
                    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
                    Outcome::Refused(format!("{fault}: {said}"))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_wishes_no_pause_gets_one() {
        let seconds = Duration::from_secs;
        assert_eq!(rest(Some(Duration::ZERO), PAUSES.0), PAUSES.0);
        assert_eq!((rest(Some(seconds(7)), PAUSES.0), rest(None, seconds(4))), (seconds(7), seconds(4)));
        assert_eq!(rest(Some(seconds(900)), PAUSES.0), PAUSES.1);
    }
}
