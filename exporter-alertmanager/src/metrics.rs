//! What it says about itself, for `/metrics`.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::fleet::{Fleet, NAMES, Refusal};

type Label = [(&'static str, &'static str); 1];
type Posted = [(&'static str, String); 2];
type One = [(&'static str, String); 1];

const TOPICS: [&str; 5] = ["status", "alerts/active", "alerts", "metrics", "silences"];
const OUTCOMES: [&str; 3] = ["taken", "refused", "failed"];

/// The metrics of one run. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    names: Arc<Vec<String>>,
    messages: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    posted: Family<Posted, Counter>,
    waiting: Family<One, Gauge>,
    dropped: Family<One, Gauge>,
    hosts: Gauge,
    online: Gauge,
    silences: Gauge,
    alerts: Family<Label, Gauge>,
    own: Family<Label, Gauge>,
    doubt: Gauge,
    pub(crate) connected: Gauge,
}

impl Metrics {
    /// All at zero; every label that can come is there from the start, so that a rate over it is right.
    pub(crate) fn new(names: Vec<String>) -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            names: Arc::new(names),
            messages: Family::default(),
            refused: Family::default(),
            posted: Family::default(),
            waiting: Family::default(),
            dropped: Family::default(),
            hosts: Gauge::default(),
            online: Gauge::default(),
            silences: Gauge::default(),
            alerts: Family::default(),
            own: Family::default(),
            doubt: Gauge::default(),
            connected: Gauge::default(),
        };
        for topic in TOPICS {
            drop(metrics.messages.get_or_create(&[("topic", topic)]));
        }
        for refusal in Refusal::ALL {
            drop(metrics.refused.get_or_create(&[("reason", refusal.as_str())]));
        }
        for index in 0..metrics.names.len() {
            for outcome in OUTCOMES {
                metrics.posted(index, outcome, 0);
            }
        }
        for state in ["firing", "resolved"] {
            drop(metrics.alerts.get_or_create(&[("state", state)]));
        }
        for name in NAMES {
            drop(metrics.own.get_or_create(&[("alertname", name)]));
        }
        let mut registry = Registry::with_prefix("utilizer_exporter_alertmanager");
        registry.register("messages_received", "Messages received by topic", metrics.messages.clone());
        registry.register("refused", "Messages, hosts and alerts that were not taken", metrics.refused.clone());
        registry.register("alerts_posted", "Alerts posted, with repetitions, by outcome", metrics.posted.clone());
        registry.register("queue", "Alerts that wait for an Alertmanager", metrics.waiting.clone());
        registry.register(
            "queue_dropped_alerts",
            "Alerts dropped from a full queue since the start, until their next turn",
            metrics.dropped.clone(),
        );
        registry.register("hosts", "Hosts that are remembered", metrics.hosts.clone());
        registry.register("hosts_online", "Hosts that are connected to the broker", metrics.online.clone());
        registry.register("silences", "Silences of the fleet that are remembered", metrics.silences.clone());
        registry.register("alerts", "Alerts by state; those that are over are still told", metrics.alerts.clone());
        registry.register("host_alerts", "Alerts about hosts that are raised here", metrics.own.clone());
        registry.register(
            "own_clock_in_doubt",
            "1 while most hosts differ from this clock, so that none is said to be wrong",
            metrics.doubt.clone(),
        );
        registry.register("mqtt_connected", "1 while connected to the broker", metrics.connected.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }

    pub(crate) fn message(&self, topic: &'static str) {
        self.messages.get_or_create(&[("topic", topic)]).inc();
    }

    pub(crate) fn refused(&self, refusal: Refusal, count: u64) {
        self.refused.get_or_create(&[("reason", refusal.as_str())]).inc_by(count);
    }

    pub(crate) fn posted(&self, index: usize, outcome: &str, count: usize) {
        let Some(name) = self.names.get(index) else { return };
        let labels = [("alertmanager", name.clone()), ("outcome", outcome.to_owned())];
        self.posted.get_or_create(&labels).inc_by(count as u64);
    }

    /// How things are now.
    pub(crate) fn show(&self, fleet: &mut Fleet) {
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let counts = fleet.counts();
        self.hosts.set(whole(counts.hosts));
        self.online.set(whole(counts.online));
        self.silences.set(whole(counts.silences));
        self.doubt.set(i64::from(fleet.doubts_own_clock()));
        for (name, count) in NAMES.into_iter().zip(counts.own) {
            self.own.get_or_create(&[("alertname", name)]).set(whole(count));
        }
        let (firing, resolved) = fleet.feed().counts();
        self.alerts.get_or_create(&[("state", "firing")]).set(whole(firing));
        self.alerts.get_or_create(&[("state", "resolved")]).set(whole(resolved));
        for (index, name) in self.names.iter().enumerate() {
            let (waiting, dropped) = fleet.feed().waiting(index);
            self.waiting.get_or_create(&[("alertmanager", name.clone())]).set(whole(waiting));
            let dropped = i64::try_from(dropped).unwrap_or(i64::MAX);
            self.dropped.get_or_create(&[("alertmanager", name.clone())]).set(dropped);
        }
    }

    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
