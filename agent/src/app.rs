//! The agent's life: built from a checked configuration, run until it is told to stop.

use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daemon::http::{self, BindError};
use daemon::shutdown::{self, Shutdown};
use mqtt::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{info, warn};
use wire::BootId;

use crate::config::Config;
use crate::inventory;
use crate::logs;
use crate::notify;
use crate::outbox::{self, Gone, Keeping, Post};
use crate::probes;
use crate::publisher::{Alerts, Link, Measured, Publisher, TakenOver, last_will};
use crate::rules;
use crate::sampler::{self, Handle, Made};
use crate::scrape;
use crate::serve::{Publishing, Server};

/// How long the broker keeps the session of a connection that ended. Each connection starts a new one; this is for finding
/// out another agent of the same name, which a session that is still there after a longer absence gives away.
const SESSION: Duration = Duration::from_secs(5);

/// Publishes without PUBACK: more than are out at a time by the delivery protocol, so that this never is the bound.
const IN_FLIGHT: u16 = delivery::sender::WINDOW as u16 + 32;

/// A running agent's parts, before they run.
pub struct App {
    config: watch::Sender<Arc<Config>>,
    sampler: Handle,
    listeners: Vec<http::Listener>,
    publishing: Option<(mqtt::Options, Post, Keeping)>,
    series: rules::Shared,
    probes: probes::Shared,
    rules: Arc<OnceLock<rules::Handle>>,
    notify: Arc<OnceLock<notify::Handle>>,
    scrape: Arc<OnceLock<scrape::Handle>>,
    logs: Arc<OnceLock<logs::Handle>>,
}

/// The agent can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address is taken or wrong.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The sampler's thread can't be started.
    #[error("can't start the sampler's thread: {0}")]
    Thread(std::io::Error),
    /// The thread that evaluates rules can't be started.
    #[error("can't start the thread that evaluates rules: {0}")]
    Rules(std::io::Error),
    /// The thread that sends notifications can't be started.
    #[error("can't start the thread that sends notifications: {0}")]
    Notify(std::io::Error),
    /// The thread that scrapes can't be started.
    #[error("can't start the thread that scrapes: {0}")]
    Scrape(std::io::Error),
    /// The thread that reads logs can't be started.
    #[error("can't start the thread that reads logs: {0}")]
    Logs(std::io::Error),
    /// The spool can't be used.
    #[error(transparent)]
    Spool(#[from] outbox::OpenError),
    /// The folder that was configured for it is no good.
    #[error("{0}; `spool.directory` chooses the folder")]
    SpoolDirectory(outbox::OpenError),
    /// The spool was removed while the agent ran.
    #[error(transparent)]
    SpoolGone(#[from] Gone),
    /// The broker's options are wrong.
    #[error("can't connect to the broker: {0}")]
    Broker(#[from] mqtt::OptionsError),
    /// Two hosts have one name.
    #[error(transparent)]
    TakenOver(#[from] TakenOver),
    /// A part ended that must not.
    #[error("BUG: a part of the agent ended: {0}")]
    Ended(JoinError),
    /// The same without a word.
    #[error("BUG: a part of the agent ended by itself")]
    EndedSilently,
    /// The thread that evaluates rules is gone.
    #[error("BUG: the thread that evaluates rules ended by itself")]
    RulesEnded,
    /// The thread that sends notifications is gone.
    #[error("BUG: the thread that sends notifications ended by itself")]
    NotifyEnded,
    /// The thread that scrapes is gone.
    #[error("BUG: the thread that scrapes panicked")]
    ScrapeEnded,
    /// The thread that reads logs is gone.
    #[error("BUG: the thread that reads logs ended by itself")]
    LogsEnded,
    /// The sampler's thread is gone.
    #[error("BUG: the sampler's thread ended by itself")]
    SamplerEnded,
}

/// Changes the configuration of a running agent.
#[derive(Clone)]
pub struct Reload {
    config: watch::Sender<Arc<Config>>,
    sampler: Handle,
    rules: Arc<OnceLock<rules::Handle>>,
    notify: Arc<OnceLock<notify::Handle>>,
    scrape: Arc<OnceLock<scrape::Handle>>,
    logs: Arc<OnceLock<logs::Handle>>,
}

impl Reload {
    /// Says that the configuration on disk, or a rule file, can't be used.
    pub fn refused(&self) {
        if let Some(rules) = self.rules.get() {
            rules.refused();
        }
    }

    /// Takes over what can change while running, and says what can't.
    pub fn apply(&self, new: Config) {
        let old = self.config.borrow().clone();
        let stays = old.needs_restart(&new);
        if !stays.is_empty() {
            warn!("these take effect at the next start: {}", stays.join(", "));
        }
        if let Some(web) = &old.web {
            web.reload();
        }
        if (new.interval, &new.collectors) != (old.interval, &old.collectors) {
            self.sampler.configure(new.interval, new.collectors.clone());
        }
        if let Some(rules) = self.rules.get() {
            rules.reload(Arc::new(new.clone()));
        }
        if let Some(notify) = self.notify.get() {
            notify.reload(new.notify.clone());
        }
        if let Some(scrape) = self.scrape.get() {
            scrape.reload(new.scrape.clone(), new.include.clone());
        }
        if let Some(logs) = self.logs.get() {
            logs.reload(crate::logs::inputs(&new.logs));
        }
        let merged = Config {
            rules: rules::RulesSection { files: new.rules.files, ..old.rules.clone() },
            interval: new.interval,
            labels: new.labels,
            collectors: new.collectors,
            include: new.include,
            probes: new.probes,
            max_scraped: new.max_scraped,
            scrape: new.scrape,
            notify: new.notify,
            logs: new.logs,
            ..Config::clone(&old)
        };
        self.config.send_replace(Arc::new(merged));
        info!("configuration reloaded");
    }
}

impl App {
    /// Starts the sampler and takes the addresses; connects to nothing yet.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        let mut listeners = vec![http::bind(&config.listen).await?];
        if let Some(path) = &config.unix {
            listeners.push(http::bind_unix(path).await?);
        }
        let made = Made::default();
        let (series, probes) = (made.rules.clone(), made.probes.clone());
        let sampler = sampler::spawn(config.root.clone(), config.interval, config.collectors.clone(), made)
            .map_err(AppError::Thread)?;
        let publishing = match config.mqtt.clone() {
            None => None,
            Some(options) => {
                let opened = outbox::open(&config.spool, &config.host, boot_id());
                let (post, keeping) = opened.map_err(|error| match error.is_configuration(&config.spool) {
                    true => AppError::SpoolDirectory(error),
                    false => AppError::Spool(error),
                })?;
                Some((options, post, keeping))
            }
        };
        let config = watch::Sender::new(Arc::new(config));
        Ok(Self {
            config,
            sampler,
            listeners,
            publishing,
            series,
            probes,
            rules: Arc::default(),
            notify: Arc::default(),
            scrape: Arc::default(),
            logs: Arc::default(),
        })
    }

    /// The address that is served; with port 0 in the configuration, the one that the system chose.
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        self.listeners.iter().find_map(http::Listener::local_addr)
    }

    /// For reloading while [`App::run`] runs.
    pub fn reload(&self) -> Reload {
        Reload {
            config: self.config.clone(),
            sampler: self.sampler.clone(),
            rules: self.rules.clone(),
            notify: self.notify.clone(),
            scrape: self.scrape.clone(),
            logs: self.logs.clone(),
        }
    }

    /// The sampler, for watching its readings.
    pub fn sampler(&self) -> Handle {
        self.sampler.clone()
    }

    /// Samples, serves and publishes until `stop` returns.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), AppError> {
        let (trigger, shutdown) = shutdown::channel();
        let mut parts: JoinSet<Result<(), AppError>> = JoinSet::new();

        let config = self.config.borrow().clone();
        let (link, link_seen) = watch::channel(Link::default());
        let post = self.publishing.as_ref().map(|(_, post, _)| post.clone());
        let publishing = post.clone().map(|post| Publishing { post, link: link_seen });
        let server = Arc::new(Server::new(self.sampler.clone(), self.config.subscribe(), publishing));
        let states = self.publishing.as_ref().map_or(&*config.spool.directory, |(_, _, keeping)| keeping.dir());
        if self.publishing.is_none() && (config.fresh_rules.count() > 0 || !config.notify.is_empty()) {
            // Nobody else makes it. What can't be written there says so.
            let _ = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(states);
        }
        let describing = Arc::downgrade(&server);
        let (events, scraped) = mpsc::channel(scrape::MOST_WAITING);
        let (mut evaluating, evaluator) = rules::spawn(rules::Parts {
            config: config.clone(),
            readings: self.sampler.readings(),
            // The server has a way to the thread; the thread must not hold the server.
            describe: Box::new(move |reading, out| {
                if let Some(server) = describing.upgrade() {
                    server.describe_all(reading, out);
                }
            }),
            series: self.series,
            post: post.clone(),
            states: states.to_owned(),
            scraped,
        })
        .map_err(AppError::Rules)?;
        let newest = scrape::Newest::default();
        let scraping = scrape::start(scrape::Parts {
            plan: config.scrape.clone(),
            include: config.include.clone(),
            host: config.host.to_string(),
            interest: evaluating.interest(),
            events,
            newest: newest.clone(),
        })
        .map_err(AppError::Scrape)?;
        server.scrapes(scraping.clone());
        let _ = self.scrape.set(scraping.clone());
        server.evaluates(evaluating.clone());
        let _ = self.rules.set(evaluating.clone());
        let (mut notifying, mut notifier) = notify::spawn(notify::Parts {
            notify: config.notify.clone(),
            firing: evaluating.firing(),
            states: states.to_owned(),
            post: post.clone(),
        })
        .map_err(AppError::Notify)?;
        server.notifies(notifying.clone());
        let _ = self.notify.set(notifying.clone());
        let (mut reading, reader) =
            logs::spawn(logs::Parts { plans: logs::inputs(&config.logs), post, root: config.root.clone() })
                .map_err(AppError::Logs)?;
        server.reads_logs(reading.clone());
        let _ = self.logs.set(reading.clone());

        server.probes(self.probes.clone());
        let (probes, config_seen, ended) = (self.probes, self.config.subscribe(), shutdown.clone());
        parts.spawn(async move {
            probes::run(config_seen, probes, ended.wait()).await;
            Ok(())
        });

        // Dropped at the end of all parts: what they put last is synced then.
        let mut keeping = None;
        if let Some((mut options, post, mut kept)) = self.publishing {
            let gone = kept.gone();
            let ended = shutdown.clone();
            parts.spawn(async move {
                tokio::select! {
                    gone = gone => Err(AppError::SpoolGone(gone)),
                    () = ended.wait() => Ok(()),
                }
            });
            keeping = Some(kept);
            options.max_in_flight = IN_FLIGHT;
            options.clean_start = true;
            options.session_expiry = SESSION;
            options.will = Some(last_will(&post, &config));
            let publisher = Publisher::new(
                Client::start(options)?,
                post.clone(),
                Measured { readings: self.sampler.readings(), scraped: newest },
                Alerts { firing: evaluating.firing(), notify: notifying.clone() },
                self.config.subscribe(),
                inventory::read(),
                link,
            );
            let shutdown = shutdown.clone();
            parts.spawn(async move { Ok(publisher.run(shutdown.wait()).await?) });
        }

        let access = http::Access { allow: Arc::new(config.allow.clone()), web: config.web.clone() };
        let tls = access.web.as_ref().is_some_and(|web| web.has_tls());
        for listener in self.listeners {
            match &listener {
                http::Listener::Tcp(_) => {
                    if let Some(address) = listener.local_addr() {
                        info!("serving on {}://{address}", if tls { "https" } else { "http" });
                    }
                }
                http::Listener::Unix(_, path) => info!("serving on {}", path.display()),
            }
            parts.spawn(serve(listener, access.clone(), server.clone(), shutdown.clone()));
        }
        // What the server holds keeps the sampler's thread alive for as long as it is needed.
        let mut readings = self.sampler.readings();
        drop(self.sampler);

        let first = tokio::select! {
            () = stop => Ok(()),
            () = async { while readings.changed().await.is_ok() {} } => Err(AppError::SamplerEnded),
            () = evaluating.ended() => Err(AppError::RulesEnded),
            () = notifying.ended() => Err(AppError::NotifyEnded),
            () = scraping.ended() => Err(AppError::ScrapeEnded),
            () = reading.ended() => Err(AppError::LogsEnded),
            // Parts end only when told to: one that ends by itself failed, or panicked.
            ended = parts.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(panic)) => Err(AppError::Ended(panic)),
                Some(Ok(Ok(()))) | None => Err(AppError::EndedSilently),
            },
        };
        // What was read gets its chance to be sent.
        reader.join();
        trigger.stop();
        scraping.stop();
        notifier.stop();
        while let Some(ended) = parts.join_next().await {
            ended.map_err(AppError::Ended)??;
        }
        notifier.join();
        let states = evaluator.stop();
        drop(keeping);
        if let Some(states) = states {
            states.write();
        }
        first
    }
}

async fn serve(
    listener: http::Listener,
    access: http::Access,
    server: Arc<Server>,
    shutdown: Shutdown,
) -> Result<(), AppError> {
    http::serve(listener, access, server, shutdown).await;
    Ok(())
}

/// A new id for this run: time-ordered, so that a fleet's ids sort by start.
fn boot_id() -> BootId {
    let text = uuid::Uuid::now_v7().to_string();
    text.parse().unwrap_or_else(|e| unreachable!("BUG: a UUID is a valid boot id: {e}"))
}
