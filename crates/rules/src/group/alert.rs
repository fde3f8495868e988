//! One alert's life.

use crate::Labels;
use crate::ast::Millis;

/// How long a resolved alert is remembered, as in Prometheus.
pub(super) const RESOLVED_KEPT: Millis = 15 * 60_000;

/// What an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its expression holds, but not yet for long enough. Never announced.
    Pending,
    /// It holds, or held until a moment ago.
    Firing,
    /// It fired, and no more.
    Resolved,
}

impl State {
    /// As the label `alertstate` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert of one rule. Its labels tell it from all others.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// What it is.
    pub state: State,
    /// All labels, `alertname` among them; without the external ones.
    pub labels: Labels,
    /// Annotations, their templates rendered.
    pub annotations: Labels,
    /// The expression's value when it held last.
    pub value: f64,
    /// When the expression first held.
    pub active_at: Millis,
    /// When it began to fire.
    pub fired_at: Option<Millis>,
    /// When it resolved.
    pub resolved_at: Option<Millis>,
}

impl Alert {
    /// 16 hex digits that stand for the labels: the same as Alertmanager's.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.labels)
    }
}

/// The hash that Prometheus calls a fingerprint (`model.LabelSet.Fingerprint`): FNV-1a over names and values, each with a
/// byte behind it that no text has.
pub fn fingerprint(labels: &Labels) -> String {
    let bytes = labels.iter().flat_map(|(name, value)| [name, value]);
    format!("{:016x}", fnv(bytes))
}

/// FNV-1a over texts, each followed by the byte 255.
pub(super) fn fnv<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.bytes().chain([255]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// An alert with what is counted about it.
#[derive(Debug, Clone)]
pub(super) struct Active {
    pub(super) alert: Alert,
    /// From when `for` counts: when it became active, later by each outage.
    pub(super) since: Millis,
    /// When it was first missing, while it fires on.
    pub(super) missing_since: Option<Millis>,
    /// It comes from before a restart, and was not seen again since.
    pub(super) restored: bool,
}

impl Active {
    pub(super) fn new(labels: Labels, annotations: Labels, value: f64, at: Millis) -> Self {
        let alert = Alert {
            state: State::Pending,
            labels,
            annotations,
            value,
            active_at: at,
            fired_at: None,
            resolved_at: None,
        };
        Self { alert, since: at, missing_since: None, restored: false }
    }

    /// The time between was none.
    pub(super) fn shift(&mut self, by: Millis) {
        self.since = self.since.saturating_add(by);
        self.missing_since = self.missing_since.map(|since| since.saturating_add(by));
    }

    pub(super) fn fire(&mut self, at: Millis) {
        self.alert.state = State::Firing;
        self.alert.fired_at = Some(at);
        // The clock may have been set back.
        self.alert.active_at = self.alert.active_at.min(at);
    }

    /// It is over: never before it began.
    pub(super) fn resolve(&mut self, at: Millis) {
        self.alert.state = State::Resolved;
        self.alert.resolved_at = Some(self.alert.fired_at.map_or(at, |fired| fired.max(at)));
        self.restored = false;
    }
}
