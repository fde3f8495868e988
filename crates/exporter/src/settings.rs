//! What a tier is told, checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::http::Allow;
use delivery::Shard;
use wire::{GroupName, MemberName};

use crate::map::Rules;
use crate::metrics::Metrics;
use crate::writer::Backoff;

/// When a batch is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchLimits {
    /// A batch is written once it has this many rows; one message may take it over.
    pub max_rows: usize,
    /// Or once its first message has waited this long.
    pub max_age: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { max_rows: 5000, max_age: Duration::from_secs(1) }
    }
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterLimits {
    /// The file.
    pub path: PathBuf,
    /// How large it may become.
    pub max_bytes: u64,
}

/// Where what was received waits for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolLimits {
    /// The folder, which is the tier's alone.
    pub directory: PathBuf,
    /// How large it may become.
    pub max_bytes: u64,
}

/// The tier's own pages.
#[derive(Debug, Clone)]
pub struct Serve {
    /// Address and port.
    pub listen: String,
    /// Who is answered.
    pub allow: Arc<Allow>,
}

/// Everything that [`run`](crate::run) needs to know beside the sink.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker and the way to it. Client id, will, session and receive maximum are the tier's own matter.
    pub broker: mqtt::Options,
    /// The group whose members share one copy of the telemetry.
    pub group: GroupName,
    /// This member of it.
    pub member: MemberName,
    /// How many messages may be on their way into the spool; it bounds memory.
    pub receive_maximum: u16,
    /// Whether the broker shares the telemetry out among the members. Without it there is one member, or one for each
    /// shard.
    pub shared: bool,
    /// The hosts that are this member's; all of them without.
    pub shard: Option<Shard>,
    /// Whether hosts shall keep their records until this group has them.
    pub durable: bool,
    /// How often a host is told what of its records is held and written.
    pub confirm_every: Duration,
    /// Where what was received waits for the store.
    pub spool: SpoolLimits,
    /// Which rows a message makes.
    pub rules: Rules,
    /// When a batch is written.
    pub batch: BatchLimits,
    /// Where dead letters go.
    pub dead_letters: DeadLetterLimits,
    /// Where `/metrics` and health are served; `None`: nowhere.
    pub serve: Option<Serve>,
    /// Pauses between attempts to write.
    pub backoff: Backoff,
    /// The tier counts here; keep a clone to look at the numbers.
    pub metrics: Metrics,
}

/// The default of [`Settings::receive_maximum`]. At 20 KiB a message that is 5 MiB; at the largest that an agent makes,
/// 1 GiB. One sync of the spool serves all that came meanwhile.
pub const RECEIVE_MAXIMUM: u16 = 256;

/// The default of [`Settings::confirm_every`].
pub const CONFIRM_EVERY: Duration = Duration::from_secs(30);

/// The default bound of the spool: more than an hour of 10,000 hosts at 10 s without their process lists.
pub const SPOOL_BYTES: u64 = 8 << 30;

/// The default bound of the dead letters' file.
pub const DEAD_LETTER_BYTES: u64 = 64 << 20;

impl Settings {
    /// The defaults, with no pages served, and everything that is kept on the disk in `state_dir`.
    pub fn new(broker: mqtt::BrokerUrl, group: GroupName, member: MemberName, state_dir: &Path) -> Self {
        Self {
            broker: mqtt::Options::new(broker, ""),
            group,
            member,
            receive_maximum: RECEIVE_MAXIMUM,
            shared: true,
            shard: None,
            durable: true,
            confirm_every: CONFIRM_EVERY,
            spool: SpoolLimits { directory: spool_folder(state_dir), max_bytes: SPOOL_BYTES },
            rules: Rules::default(),
            batch: BatchLimits::default(),
            dead_letters: DeadLetterLimits { path: dead_letter_file(state_dir), max_bytes: DEAD_LETTER_BYTES },
            serve: None,
            backoff: Backoff::default(),
            metrics: Metrics::new(),
        }
    }
}

pub(crate) fn spool_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("spool")
}

pub(crate) fn dead_letter_file(state_dir: &Path) -> PathBuf {
    state_dir.join("dead-letters.ndjson")
}
