//! Notifications: from the alerts that fire on this host straight to people, or to an Alertmanager.
//!
//! A thread of its own watches which alerts fire (`crates/notify` decides who is told of them), keeps what is to be sent
//! on disk, and calls the services. After kill -9 it goes on with what was decided: a notification that was under way is sent
//! again with the same id, and none is lost.

mod api;
mod dead;
mod deliver;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod faults;
mod feeder;
mod heard;
mod mail;
mod runner;
mod states;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use notify::inhibit::InhibitSection;
use notify::plan::{EscalationSection, HeartbeatSection, RouteSection, Sections, SilenceSection, Target};
use notify::queue::Manner;
use notify::receivers::{Alertmanager, Integration, Receiver, Secret, Webhook};
use notify::times::TimesSection;
use notify::{Plan, dispatch, queue};
use serde::{Deserialize, Serialize};
use wire::{HostName, LabelSet};

pub use api::{Api, is_path};
pub use runner::{Busy, Handle, Parts, Running, Shown, Tried, spawn};
pub use told::Told;

/// `[notify]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotifySection {
    /// Who is told of what; nobody of anything where it names no receiver.
    pub route: RouteSection,
    /// The services, by name.
    pub receivers: Vec<Receiver>,
    /// Alertmanagers that are told of everything, whatever the routes say.
    pub alertmanager: Alertmanager,
    /// Alerts that hide others while they fire.
    pub inhibit: Vec<InhibitSection>,
    /// Times that routes name.
    pub time_intervals: Vec<TimesSection>,
    /// Silences of the configuration.
    pub silences: Vec<SilenceSection>,
    /// Chains of receivers.
    pub escalations: Vec<EscalationSection>,
    /// Receivers that are told again and again that this host lives.
    pub heartbeats: Vec<HeartbeatSection>,
    /// Who is told that a notification was given up; the receiver of the first route where absent.
    pub report_to: Option<String>,
    /// Alerts in one notification; the others are counted.
    pub max_alerts: usize,
    /// Notifications a minute that people get one by one; more are sent together.
    pub digest_above: usize,
    /// How long a notification is tried.
    #[serde(with = "daemon::config::duration")]
    pub give_up_after: Duration,
}

impl Default for NotifySection {
    fn default() -> Self {
        Self {
            route: RouteSection::default(),
            receivers: Vec::new(),
            alertmanager: Alertmanager::default(),
            inhibit: Vec::new(),
            time_intervals: Vec::new(),
            silences: Vec::new(),
            escalations: Vec::new(),
            heartbeats: Vec::new(),
            report_to: None,
            max_alerts: 100,
            digest_above: 20,
            give_up_after: Duration::from_secs(86_400),
        }
    }
}

/// `[jobs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobsSection {
    /// Where `utilizer-jobs` listens.
    pub socket: PathBuf,
}

impl Default for JobsSection {
    fn default() -> Self {
        Self { socket: "/run/utilizer-jobs/jobs.sock".into() }
    }
}

/// `[notify]` as relied upon.
#[derive(Debug, Clone)]
pub struct Notify {
    pub(crate) plan: Plan,
    pub(crate) dispatch: dispatch::Settings,
    pub(crate) queue: queue::Settings,
    pub(crate) integrations: BTreeMap<String, Arc<dyn Integration>>,
    pub(crate) alertmanager: Alertmanager,
    pub(crate) jobs: PathBuf,
}

/// What of the rest of the configuration matters here.
#[derive(Debug)]
pub struct About<'a> {
    /// This host.
    pub host: &'a HostName,
    /// The external labels.
    pub labels: &'a LabelSet,
    /// Where people find this host.
    pub external_url: &'a str,
    /// The socket of `utilizer-jobs`.
    pub jobs: &'a std::path::Path,
    /// `ALERT_WEBHOOK_URL`.
    pub webhook: Option<&'a str>,
}

/// The receiver that `ALERT_WEBHOOK_URL` makes.
const WEBHOOK_RECEIVER: &str = "alert-webhook";

impl NotifySection {
    /// Checks everything against everything. A fault is a key below `notify` and a sentence.
    pub fn checked(&self, about: &About<'_>) -> Result<Notify, Vec<(String, String)>> {
        let mut faults = Vec::new();
        let mut targets: BTreeMap<String, Vec<Target>> = BTreeMap::new();
        let mut integrations: BTreeMap<String, Arc<dyn Integration>> = BTreeMap::new();
        let mut section = self.clone();
        let webhook = about.webhook.map(|url| {
            let way = Webhook { secret_url: Some(Secret::new(url)), ..Webhook::default() };
            (WEBHOOK_RECEIVER.to_owned(), Arc::new(way) as Arc<dyn Integration>)
        });
        if webhook.is_some() {
            // Whoever sets the variable and writes no route wants all alerts there.
            section.route.receiver.get_or_insert(WEBHOOK_RECEIVER.to_owned());
        }
        let mut add = |name: &str, ways: Vec<Arc<dyn Integration>>| {
            let mut numbers: BTreeMap<&'static str, usize> = BTreeMap::new();
            let mut named = Vec::new();
            for way in ways {
                let number = numbers.entry(way.kind()).or_default();
                let target =
                    Target { name: format!("{name}/{}/{number}", way.kind()), send_resolved: way.send_resolved() };
                *number += 1;
                integrations.insert(target.name.clone(), way);
                named.push(target);
            }
            targets.insert(name.to_owned(), named).is_none()
        };
        if let Some((name, way)) = webhook {
            add(&name, vec![way]);
        }
        for (at, receiver) in self.receivers.iter().enumerate() {
            faults.extend(receiver.check().into_iter().map(|(key, fault)| (format!("receivers[{at}].{key}"), fault)));
            if receiver.name.contains('/') {
                faults.push((format!("receivers[{at}].name"), "must not have a slash".to_owned()));
            }
            if !add(&receiver.name, receiver.integrations()) {
                faults.push((format!("receivers[{at}].name"), format!("there are two receivers {:?}", receiver.name)));
            }
        }
        for (key, wrong, message) in [
            ("max_alerts", !(1..=1000).contains(&self.max_alerts), "must lie between 1 and 1000"),
            ("digest_above", self.digest_above == 0, "must be at least 1"),
            ("give_up_after", self.give_up_after < Duration::from_secs(60), "must be at least 1m"),
        ] {
            if wrong {
                faults.push((key.to_owned(), message.to_owned()));
            }
        }
        let wrong = self.alertmanager.check();
        faults.extend(wrong.into_iter().map(|(key, fault)| (format!("alertmanager.{key}"), fault)));
        let sections = Sections {
            route: &section.route,
            inhibit: &self.inhibit,
            times: &self.time_intervals,
            silences: &self.silences,
            escalations: &self.escalations,
            heartbeats: &self.heartbeats,
            report_to: self.report_to.as_deref(),
        };
        let plan = Plan::new(sections, targets, &zone).unwrap_or_else(|wrong| {
            faults.extend(wrong);
            Plan::default()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut labels = about.labels.clone();
        labels.insert("host".to_owned(), about.host.to_string());
        Ok(Notify {
            plan,
            dispatch: dispatch::Settings {
                max_alerts: self.max_alerts,
                external_url: about.external_url.to_owned(),
                labels,
            },
            queue: queue::Settings {
                digest_above: self.digest_above,
                give_up_after: self.give_up_after,
                max_alerts: self.max_alerts,
            },
            integrations,
            alertmanager: self.alertmanager.clone(),
            jobs: about.jobs.to_owned(),
        })
    }
}

impl Notify {
    /// How each target is to be treated.
    fn manners(&self) -> BTreeMap<String, Manner> {
        self.integrations.iter().map(|(target, way)| (target.clone(), way.manner())).collect()
    }

    /// Whether nobody is ever told anything.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.alertmanager.urls.is_empty()
    }

    /// For people: whom alerts go to.
    pub fn summary(&self) -> String {
        let alertmanagers = self.alertmanager.urls.iter().map(|url| format!("Alertmanager {url}"));
        let names: Vec<_> = self.receivers().chain(alertmanagers).collect();
        match (self.is_empty(), names.is_empty()) {
            (true, _) => "none (notify.route names nobody)".to_owned(),
            (false, true) => "none that is told anything".to_owned(),
            (false, false) => names.join(", "),
        }
    }

    /// The names of those who can be told something.
    fn receivers(&self) -> impl Iterator<Item = String> {
        let names: std::collections::BTreeSet<String> =
            self.integrations.keys().filter_map(|target| target.split('/').next()).map(str::to_owned).collect();
        names.into_iter()
    }
}

/// A zone of the system's; `local` is its own.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    if name == "local" {
        let bytes = daemon::config::file::read(Path::new("/etc/localtime")).ok()?;
        return TimeZone::tzif(name, &bytes).ok();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    if name.is_empty() || name.starts_with('/') || !name.chars().all(plain) {
        return None;
    }
    let bytes = daemon::config::file::read(&PathBuf::from("/usr/share/zoneinfo").join(name)).ok()?;
    TimeZone::tzif(name, &bytes).ok()
}
