//! The daemons' own log, on stderr.

use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The least severe events that are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures only.
    Error,
    /// And what needs a look.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And everything that libraries say.
    Trace,
}

impl Level {
    /// The level that a word means, in any case, with the names that other programs use (`WARNING`, `CRITICAL`).
    pub fn from_word(word: &str) -> Option<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "error" | "err" | "critical" | "fatal" => Some(Level::Error),
            "warn" | "warning" => Some(Level::Warn),
            "info" | "notice" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            "trace" => Some(Level::Trace),
            _ => None,
        }
    }
}

/// Starts logging for the process. Libraries stay at `warn` unless the level is `trace`.
///
/// Lines carry no time when journald takes them (`JOURNAL_STREAM` is set): it stamps them itself. They have no colours, also on
/// a terminal: the library panics when asked for them without a feature that costs a dependency.
pub fn init(level: Level) {
    set(level);
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let layer =
        if std::env::var_os("JOURNAL_STREAM").is_some() { stderr.without_time().boxed() } else { stderr.boxed() };
    // A second call (two programs in one process) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(layer.with_filter(ByLevel)).try_init();
}

/// Changes the level of a process that logs already.
pub fn set(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Of the process, as the log is: there is one standard error.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Lets through what [`LEVEL`] does.
struct ByLevel;

impl ByLevel {
    /// For our own code, and for that of others.
    fn levels() -> (LevelFilter, LevelFilter) {
        let own = match LEVEL.load(Ordering::Relaxed) {
            level if level == Level::Error as u8 => LevelFilter::ERROR,
            level if level == Level::Warn as u8 => LevelFilter::WARN,
            level if level == Level::Info as u8 => LevelFilter::INFO,
            level if level == Level::Debug as u8 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        (own, if own == LevelFilter::TRACE { own } else { own.min(LevelFilter::WARN) })
    }

    fn lets_through(metadata: &Metadata<'_>) -> bool {
        let (own, others) = Self::levels();
        let ours = OURS.iter().any(|target| metadata.target().starts_with(target));
        *metadata.level() <= if ours { own } else { others }
    }
}

/// How the targets of our own crates begin.
const OURS: [&str; 6] = ["utilizer", "exporter", "daemon", "mqtt", "spool", "delivery"];

impl<S> Filter<S> for ByLevel {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Self::lets_through(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::lets_through(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(Self::levels().0)
    }
}
