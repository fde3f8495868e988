//! The daemons' own log, on stderr.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::SystemTime;

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
    let _ = tracing_subscriber::registry().with(layer.with_filter(ByLevel)).with(Tap.with_filter(ByLevel)).try_init();
}

/// What the process said, for whoever reads it besides standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// How severe it is.
    pub level: tracing::Level,
    /// The module that said it.
    pub target: String,
    /// What it said.
    pub message: String,
    /// What else it said, by name.
    pub fields: Vec<(String, String)>,
}

/// What waits to be taken.
#[derive(Debug, Default)]
struct Tapped {
    /// The thread that takes; what it says itself is not for it.
    reader: Option<ThreadId>,
    events: VecDeque<Event>,
    left_out: u64,
}

/// Events that wait; what comes while there are so many is left out and counted. Whoever takes them once a second can
/// therefore get no more than so many a second, whatever taking them makes others say.
const MOST_TAPPED: usize = 50;

static TAPPED: Mutex<Tapped> = Mutex::new(Tapped { reader: None, events: VecDeque::new(), left_out: 0 });

/// Warnings and failures since the last call, and how many were left out. The first call begins it; nothing that the calling
/// thread says is among them.
pub fn take_events() -> (Vec<Event>, u64) {
    let mut tapped = TAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    tapped.reader = Some(std::thread::current().id());
    (tapped.events.drain(..).collect(), std::mem::take(&mut tapped.left_out))
}

/// Nobody takes events any more.
pub fn leave_events() {
    *TAPPED.lock().unwrap_or_else(PoisonError::into_inner) = Tapped::default();
}

/// Keeps events for [`take_events`].
struct Tap;

impl<S: tracing::Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > tracing::Level::WARN {
            return;
        }
        let mut tapped = TAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        if tapped.reader.is_none_or(|reader| reader == std::thread::current().id()) {
            return;
        }
        if tapped.events.len() >= MOST_TAPPED {
            tapped.left_out += 1;
            return;
        }
        let mut taken = Event {
            time: SystemTime::now(),
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut Visitor(&mut taken));
        tapped.events.push_back(taken);
    }
}

struct Visitor<'a>(&'a mut Event);

impl tracing::field::Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.0.message = text,
            name => self.0.fields.push((name.to_owned(), text)),
        }
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_thread_warns_of_is_taken_and_bounded() {
        let subscriber = || tracing_subscriber::registry().with(Tap.with_filter(ByLevel));
        let say = |count: usize| {
            tracing::subscriber::with_default(subscriber(), || {
                for number in 0..count {
                    tracing::info!(target: "utilizer_x", "nobody needs it");
                    tracing::warn!(target: "utilizer_x", number, why = "a test", "look: {}", number + 1);
                }
            });
        };
        std::thread::scope(|scope| scope.spawn(|| say(1)).join().unwrap());
        assert_eq!(take_events(), (Vec::new(), 0), "before the first call nothing is kept");
        say(1);
        assert_eq!(take_events().0.len(), 0, "who takes does not hear itself");
        std::thread::scope(|scope| scope.spawn(|| say(60)).join().unwrap());
        let (events, left_out) = take_events();
        assert_eq!((events.len(), left_out), (50, 10));
        let fields = events[1].fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        assert_eq!((events[1].message.as_str(), fields.join(" ").as_str()), ("look: 2", "number=1 why=a test"));
        assert_eq!((events[1].level, events[1].target.as_str()), (tracing::Level::WARN, "utilizer_x"));
        leave_events();
        std::thread::scope(|scope| scope.spawn(|| say(1)).join().unwrap());
        assert_eq!(take_events().0.len(), 0);
        leave_events();
    }
}
