//! How new something is: a file, the newest of several, or the last message on a topic.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mqtt::{Client, Event, Events};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::mqtt::{At, told};
use super::{Asking, Faults, Look, Run, dial};

/// `[probe.freshness]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Freshness {
    /// A file, or a pattern with `*` and `?` of which the newest counts.
    pub path: String,
    /// Instead of it a topic, or a filter with `+` and `#`.
    pub topic: String,
    /// The broker of the topic.
    pub url: String,
    /// Who asks it.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// The authorities to trust, PEM; the system's where absent.
    pub ca_file: PathBuf,
    /// Our certificate and its chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// What is older fails; 0s: nothing does.
    #[serde(with = "daemon::config::duration")]
    pub max_age: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            path: String::new(),
            topic: String::new(),
            url: "mqtt://127.0.0.1:1883".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            max_age: Duration::ZERO,
        }
    }
}

impl Freshness {
    fn at(&self) -> At {
        let files = [&self.password_file, &self.ca_file, &self.cert_file, &self.key_file];
        At { url: self.url.clone(), username: self.username.clone(), files: files.map(PathBuf::clone) }
    }
}

impl Look for Freshness {
    fn target(&self) -> String {
        if self.topic.is_empty() { self.path.clone() } else { format!("{}/{}", self.at().shown(), self.topic) }
    }

    fn check(&self, faults: &mut Faults) {
        match (self.path.is_empty(), self.topic.is_empty()) {
            (true, true) => faults.add("path", "says nothing to look at: a file, or `topic`"),
            (false, false) => faults.add("topic", "there is a path, too; keep one of them"),
            (false, true) if !self.path.starts_with('/') => faults.add("path", "must be an absolute path"),
            (false, true) => {}
            (true, false) => self.at().check(faults),
        }
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let age = if self.topic.is_empty() { self.of_files(run).await? } else { self.of_topic(run).await? };
            let help = "How long ago the file was written, or the last message came.";
            run.found.gauge("probe_freshness_age_seconds", help, age);
            if !self.max_age.is_zero() && age > self.max_age.as_secs_f64() {
                let most = daemon::config::duration::format(self.max_age);
                return Err(format!("the newest is older than {most} (`max_age`)"));
            }
            Ok(())
        })
    }
}

impl Freshness {
    async fn of_files(&self, run: &mut Run<'_>) -> Result<f64, String> {
        run.found.stage("reading the folder");
        let pattern = self.path.clone();
        let read = dial::read(run, move || {
            let paths = match crate::glob::is_pattern(&pattern) {
                true => crate::glob::found(&pattern),
                false => vec![PathBuf::from(pattern)],
            };
            let times = paths.iter().filter_map(|path| std::fs::metadata(path).ok()?.modified().ok());
            times.fold((0_u32, None), |(count, newest), time| (count + 1, newest.max(Some(time))))
        });
        let (count, newest) = read.await?;
        run.found.gauge("probe_freshness_files", "Files that were found.", f64::from(count));
        let newest = newest.ok_or("there is no such file")?;
        // A file of the future is new.
        Ok(SystemTime::now().duration_since(newest).unwrap_or_default().as_secs_f64())
    }

    async fn of_topic(&self, run: &mut Run<'_>) -> Result<f64, String> {
        if run.memory.topic.is_none() {
            let at = self.at();
            let options = dial::read(run, move || at.options()).await?;
            let mut options = options.map_err(told)?;
            options.receive_at_most_once = true;
            let (client, events) = Client::start(options).map_err(|error| error.to_string())?;
            run.memory.topic = Some(Listener::start(client, events, self.topic.clone()));
        }
        run.found.stage("the subscription");
        let Some(listener) = &run.memory.topic else { return Err("BUG: nobody listens".to_owned()) };
        loop {
            let heard = listener.heard.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(why) = heard.fault {
                return Err(why);
            }
            if let Some(since) = heard.since {
                let help = "Messages that came since the probe listens.";
                run.found.counter("probe_freshness_messages_total", help, heard.messages as f64);
                // Before the first message its age is at least as long as was listened.
                return Ok(heard.last.unwrap_or(since).elapsed().as_secs_f64());
            }
            listener.heard.1.notified().await;
        }
    }
}

/// Listens to a topic for as long as its probe is there.
#[derive(Debug)]
pub(super) struct Listener {
    heard: Arc<(Mutex<Heard>, tokio::sync::Notify)>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Heard {
    /// Since when it listens; not while there is no connection.
    since: Option<Instant>,
    last: Option<Instant>,
    messages: u64,
    /// Why there is nothing to hear.
    fault: Option<String>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    fn start(client: Client, events: Events, topic: String) -> Self {
        let heard: Arc<(Mutex<Heard>, tokio::sync::Notify)> = Arc::default();
        let task = tokio::spawn(listen(client, events, topic, heard.clone()));
        Self { heard, task }
    }
}

async fn listen(client: Client, mut events: Events, topic: String, heard: Arc<(Mutex<Heard>, tokio::sync::Notify)>) {
    if client.subscribe([topic]).await.is_err() {
        return;
    }
    while let Some(event) = events.recv().await {
        let mut now = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Received { message, ack } => {
                client.ack(ack);
                // What the broker kept from before is no news.
                if !message.retain {
                    now.last = Some(Instant::now());
                    now.messages += 1;
                }
            }
            Event::Subscribed { .. } => {
                // What came while there was no connection is not known: the age is counted anew.
                if now.fault.take().is_some() || now.since.is_none() {
                    (now.since, now.last) = (Some(Instant::now()), None);
                }
            }
            Event::SubscriptionRefused { reason, .. } => now.fault = Some(reason),
            Event::Disconnected { reason, .. } => now.fault = Some(reason.sentence),
            Event::Connected { .. } | Event::Acked { .. } | Event::Refused { .. } | Event::Lost { .. } => continue,
        }
        drop(now);
        heard.1.notify_one();
    }
}
