//! `utilizer status --agent`: whether everything that an agent knows of is well, by layers, on one screen.
//!
//! What an agent's probes found, what it scrapes, its way to the broker and to the exporters, and what fires there. Nothing is
//! asked but the agent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hyper::{Method, StatusCode};
use rules::Labels;
use rules::sample::NAME;
use rules::testing::series;
use serde::{Deserialize, Serialize};
use wire::{LabelSet, Timestamp};

use crate::agent::AgentArgs;
use crate::command::CommandError;
use crate::status::age;
use crate::terminal::{Colour, Paint, human_bytes, plain, table};

/// Alerts that are shown, the newest first.
const MOST_ALERTS: usize = 10;

/// The layers, in the order in which they are shown, and the kinds of probes in each.
const LAYERS: &[(&str, &[&str])] = &[
    ("services", &["http", "tcp", "dns", "icmp"]),
    ("databases", &["postgres", "clickhouse"]),
    ("cache", &["redis"]),
    ("broker", &["mqtt"]),
    ("tier", &[]),
    ("monitoring", &["prometheus", "grafana"]),
    ("logs and files", &["file", "freshness"]),
    ("host", &[]),
];

/// A certificate that is valid for less than this is a warning.
const SOON: f64 = 14.0 * 86_400.0;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Well.
    Up,
    /// Well, but to be looked at.
    Warning,
    /// Not well.
    Down,
}

/// Something that is well or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// What it is called.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What it is: an address, a group.
    pub target: String,
    /// What there is to say of it.
    pub detail: String,
}

/// Things of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Its name.
    pub layer: &'static str,
    /// How the worst of its items is; none where there are none.
    pub state: Option<State>,
    /// What is in it.
    pub items: Vec<Item>,
}

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fires {
    /// `alertname`.
    pub name: String,
    /// `severity`.
    pub severity: String,
    /// Since when.
    pub since: Timestamp,
    /// Its summary.
    pub summary: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Whether nothing is down and no critical alert fires.
    pub healthy: bool,
    /// In order.
    pub layers: Vec<Layer>,
    /// The newest first.
    pub alerts: Vec<Fires>,
}

/// A probe's last run, as `/api/v1/probes` has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Probe {
    probe: String,
    kind: String,
    target: String,
    success: bool,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    duration_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Probes {
    data: Vec<Probe>,
}

/// What is scraped, as `/api/v1/targets` has it.
#[derive(Debug, Default, Deserialize)]
pub struct Targets {
    data: ActiveTargets,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTargets {
    active_targets: Vec<Scraped>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scraped {
    labels: LabelSet,
    health: String,
    #[serde(default)]
    last_error: String,
}

/// An alert, as `/api/v2/alerts` has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    labels: LabelSet,
    #[serde(default)]
    annotations: LabelSet,
    starts_at: Timestamp,
}

/// Asks an agent.
pub async fn ask(agent: &AgentArgs) -> Result<Health, CommandError> {
    let metrics = agent.ask(Method::GET, "/metrics", None).await?;
    if metrics.status != StatusCode::OK {
        return Err(CommandError::Failed(metrics.refusal()));
    }
    let probes: Probes = agent.call(Method::GET, "/api/v1/probes", None).await?;
    let targets: Targets = agent.call(Method::GET, "/api/v1/targets", None).await?;
    // Where it can't be asked (from another host, say) `ALERTS` tells the names.
    let alerts: Option<Vec<Alert>> = agent.call(Method::GET, "/api/v2/alerts", None).await.ok();
    Ok(judge(&String::from_utf8_lossy(&metrics.body), &probes.data, &targets, alerts, crate::notify::now()))
}

/// The series of a page that matter here.
struct Page(Vec<(Labels, f64)>);

impl Page {
    fn read(text: &str) -> Self {
        const WANTED: &[&str] = &["probe_", "pg_", "redis_", "utilizer_", "ALERTS{", "node_load1", "clickhouse_"];
        let lines = text.lines().filter(|line| WANTED.iter().any(|beginning| line.starts_with(beginning)));
        Self(
            lines
                .filter_map(|line| {
                    let (labels, value) = series::split(line).ok()?;
                    Some((labels, value.split_whitespace().next()?.parse().ok()?))
                })
                .collect(),
        )
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, f64)> {
        self.0.iter().filter(move |(labels, _)| labels.get(NAME) == name).map(|(labels, value)| (labels, *value))
    }

    fn single(&self, name: &str) -> Option<f64> {
        self.of(name).next().map(|(_, value)| value)
    }

    fn of_probe(&self, name: &str, probe: &str) -> Option<f64> {
        self.of(name).find(|(labels, _)| labels.get("probe") == probe).map(|(_, value)| value)
    }
}

/// From the agent's pages to layers.
pub fn judge(metrics: &str, probes: &[Probe], targets: &Targets, alerts: Option<Vec<Alert>>, now: Timestamp) -> Health {
    let page = Page::read(metrics);
    let mut layers: Vec<Layer> =
        LAYERS.iter().map(|(layer, _)| Layer { layer, state: None, items: Vec::new() }).collect();
    let mut add = |layer: &str, item: Item| {
        if let Some(layer) = layers.iter_mut().find(|of| of.layer == layer) {
            layer.state = layer.state.max(Some(item.state));
            layer.items.push(item);
        }
    };
    for probe in probes {
        let layer = LAYERS.iter().find(|(_, kinds)| kinds.contains(&probe.kind.as_str()));
        add(layer.map_or("services", |(layer, _)| layer), of_probe(&page, probe, now));
    }
    if let Some(connected) = page.single("utilizer_mqtt_connected") {
        let up = connected > 0.0;
        let detail = if up { "connected" } else { "no connection; records wait on disk" };
        add("broker", item("agent", up, "the agent's broker", detail));
    }
    for (labels, online) in page.of("utilizer_group_online") {
        let up = online > 0.0;
        let detail = if up { "an exporter is online" } else { "no exporter is online; records wait on disk" };
        add("tier", item(labels.get("group"), up, "group of exporters", detail));
    }
    for target in &targets.data.active_targets {
        let label = |name: &str| target.labels.get(name).unwrap_or_default().to_owned();
        let (state, detail) = match target.health.as_str() {
            "up" => (State::Up, "scraped"),
            "down" => (State::Down, target.last_error.as_str()),
            _ => (State::Warning, "not scraped yet"),
        };
        add("monitoring", Item { name: label("job"), state, target: label("instance"), detail: detail.to_owned() });
    }
    if let Some(host) = of_host(&page) {
        add("host", host);
    }
    let mut alerts = alerts.map_or_else(|| named_only(&page, now), |alerts| alerts.into_iter().map(fires).collect());
    alerts.sort_by(|a: &Fires, b: &Fires| b.since.cmp(&a.since).then_with(|| a.name.cmp(&b.name)));
    let healthy = layers.iter().all(|layer| layer.state != Some(State::Down))
        && alerts.iter().all(|alert| alert.severity != "critical");
    Health { healthy, layers, alerts }
}

fn item(name: &str, up: bool, target: &str, detail: &str) -> Item {
    let state = if up { State::Up } else { State::Down };
    Item { name: name.to_owned(), state, target: target.to_owned(), detail: detail.to_owned() }
}

fn of_probe(page: &Page, probe: &Probe, now: Timestamp) -> Item {
    let mut parts = Vec::new();
    let mut state = if probe.success { State::Up } else { State::Down };
    match &probe.reason {
        Some(reason) => parts.push(reason.clone()),
        None => parts.push(format!("{:.0} ms", probe.duration_seconds * 1000.0)),
    }
    let value = |name: &str| page.of_probe(name, &probe.probe);
    if let Some(code) = value("probe_http_status_code").filter(|_| probe.success) {
        parts.push(format!("status {code}"));
    }
    if let Some(most) = value("pg_settings_max_connections") {
        let used = page.of("pg_stat_activity_count").filter(|(labels, _)| labels.get("probe") == probe.probe);
        let used: f64 = used.map(|(_, count)| count).sum();
        parts.push(format!("{used} of {most} connections"));
        if used > 0.8 * most {
            state = state.max(State::Warning);
        }
    }
    if let Some(used) = value("redis_memory_used_bytes") {
        parts.push(format!("{} of memory", human_bytes(used)));
        if value("redis_memory_max_bytes").is_some_and(|most| most > 0.0 && used > 0.9 * most) {
            state = state.max(State::Warning);
        }
    }
    if let Some(rate) = value("redis_instantaneous_ops_per_sec") {
        parts.push(format!("{rate} operations/s"));
    }
    if let Some(age) = value("probe_freshness_age_seconds") {
        let seconds = Duration::try_from_secs_f64(age.round()).unwrap_or_default();
        parts.push(format!("the newest is {} old", daemon::config::duration::format(seconds)));
    }
    if let Some(expiry) = value("probe_ssl_earliest_cert_expiry") {
        let left = expiry - now.as_millis() as f64 / 1000.0;
        if left < SOON {
            let days = (left / 86_400.0).floor();
            parts.push(if left < 0.0 {
                "its certificate has expired".to_owned()
            } else {
                format!("its certificate expires in {days} days")
            });
            state = state.max(if left < 0.0 { State::Down } else { State::Warning });
        }
    }
    Item { name: probe.probe.clone(), state, target: probe.target.clone(), detail: parts.join(", ") }
}

fn of_host(page: &Page) -> Option<Item> {
    let mut parts = Vec::new();
    for (name, word) in [("utilizer_cpu_percent", "cpu"), ("utilizer_memory_percent", "memory")] {
        if let Some(value) = page.single(name) {
            parts.push(format!("{word} {value:.0}%"));
        }
    }
    let disks = page.of("utilizer_disk_percent").map(|(labels, value)| (value, labels.get("mountpoint")));
    if let Some((value, mount)) = disks.max_by(|a, b| a.0.total_cmp(&b.0)) {
        parts.push(format!("disk {value:.0}% {mount}"));
    }
    let failed = page.of("utilizer_collector_success").filter(|(_, success)| *success == 0.0);
    let failed: Vec<_> = failed.map(|(labels, _)| labels.get("collector").to_owned()).collect();
    let state = if failed.is_empty() { State::Up } else { State::Warning };
    if !failed.is_empty() {
        parts.push(format!("not read: {}", failed.join(", ")));
    }
    let version = page.of("utilizer_build_info").next().map(|(labels, _)| labels.get("version").to_owned());
    let target = version.map(|version| format!("utilizer-agent {version}")).unwrap_or_default();
    (!parts.is_empty()).then(|| Item { name: "agent".to_owned(), state, target, detail: parts.join(", ") })
}

fn fires(alert: Alert) -> Fires {
    let label = |name: &str| alert.labels.get(name).unwrap_or_default().to_owned();
    Fires {
        name: label("alertname"),
        severity: label("severity"),
        since: alert.starts_at,
        summary: alert.annotations.get("summary").unwrap_or_default().to_owned(),
    }
}

fn named_only(page: &Page, now: Timestamp) -> Vec<Fires> {
    let mut firing = BTreeMap::new();
    for (labels, _) in page.of("ALERTS").filter(|(labels, _)| labels.get("alertstate") == "firing") {
        let (name, severity) = (labels.get("alertname").to_owned(), labels.get("severity").to_owned());
        *firing.entry((name, severity)).or_insert(0_usize) += 1;
    }
    let said = |count: usize| if count == 1 { String::new() } else { format!("{count} times") };
    let fires = firing.into_iter();
    fires.map(|((name, severity), count)| Fires { name, severity, since: now, summary: said(count) }).collect()
}

/// For people: a layer a paragraph.
pub fn as_text(health: &Health, now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    for layer in health.layers.iter().filter(|layer| !layer.items.is_empty()) {
        let down = layer.items.iter().filter(|item| item.state == State::Down).count();
        let count = match (down, layer.items.len()) {
            (0, 1) => String::new(),
            (0, all) => format!(": {all}"),
            (down, all) => format!(": {down} of {all} down"),
        };
        let _ = writeln!(text, "{} {}{count}", mark(layer.state.unwrap_or(State::Up), paint), layer.layer);
        for item in &layer.items {
            let (mark, name, target) = (mark(item.state, paint), plain(&item.name), plain(&item.target));
            let target = paint.on(Colour::Dim, target);
            let _ = writeln!(text, "    {mark} {name}  {target}  {}", plain(&item.detail));
        }
    }
    let severe = health.alerts.iter().any(|alert| alert.severity == "critical");
    let state = match (health.alerts.is_empty(), severe) {
        (true, _) => State::Up,
        (false, true) => State::Down,
        (false, false) => State::Warning,
    };
    let _ = writeln!(text, "{} alerts: {} firing", mark(state, paint), health.alerts.len());
    let rows = health.alerts.iter().take(MOST_ALERTS).map(|alert| {
        let colour = if alert.severity == "critical" { Colour::Red } else { Colour::Yellow };
        let texts = [&alert.name, &alert.severity, &age(alert.since, now), &alert.summary];
        let cells = texts.map(|text| plain(text).into_owned());
        cells.into_iter().enumerate().map(|(at, text)| (text, (at == 0).then_some(colour))).collect()
    });
    if !health.alerts.is_empty() {
        text += &table(&["ALERT", "SEVERITY", "SINCE", "SUMMARY"], rows.collect(), paint);
    }
    text
}

fn mark(state: State, paint: Paint) -> String {
    match state {
        State::Up => paint.on(Colour::Green, "ok  "),
        State::Warning => paint.on(Colour::Yellow, "warn"),
        State::Down => paint.on(Colour::Red, "DOWN"),
    }
}
