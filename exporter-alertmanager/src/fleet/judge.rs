//! Alerts about hosts, which the hosts can't raise themselves.

use std::time::Duration;

use notify::feed::{Feed, Firing};
use notify::silence::Silence;
use wire::{HostName, LabelSet, Timestamp};

use super::host::Host;
use super::{Fleet, Refusal, Settings, labels};

/// What is raised, in this order.
pub const NAMES: [&str; 4] = ["HostDown", "HostFlapping", "ClockSkew", "RecordsDropped"];

/// Fewer hosts than these say nothing of our own clock.
const JURY: usize = 5;

/// What is to be raised.
struct Verdict {
    starts_at: Timestamp,
    summary: String,
    description: String,
    action: &'static str,
}

impl Fleet {
    /// Judges every host, and forgets those of which the broker knows nothing any more.
    pub(super) fn judge(&mut self, now: Timestamp) {
        let Some(connected) = self.connected else { return };
        if now >= connected.plus(self.settings.forget_after) {
            let gone = self.hosts.iter().filter(|(_, host)| host.seen < self.connection);
            let gone: Vec<HostName> = gone.map(|(name, _)| name.clone()).collect();
            for name in gone {
                self.forget(&name, now);
            }
        }
        // One that was removed while nobody listened.
        self.silences.retain(|_, (seen, _)| *seen == self.connection);
        self.doubt = self.settings.skew.as_ref().is_some_and(|skew| is_own_clock(self.hosts.values(), skew.bound));
        let Self { settings, feed, hosts, silences, doubt, .. } = self;
        let mut refused = Vec::new();
        for (name, host) in hosts {
            if !host.alerts.is_empty() && host.is_put_away(settings.stopped_after, now) {
                let stopped = host.known.as_ref().map_or(now, |known| known.time);
                for key in host.alerts.drain() {
                    feed.resolve(key, stopped, now);
                }
            }
            let judge = Judge { settings, host, name, now, connected };
            let verdicts: [Option<bool>; NAMES.len()] = [
                judge.down(),
                judge.is_flapping(),
                // Where all hosts are wrong, it is us.
                judge.is_skewed().filter(|_| !*doubt),
                judge.has_dropped(),
            ];
            let mut own = host.own;
            for (index, verdict) in verdicts.into_iter().enumerate() {
                let (Some(alertname), Some(place)) = (NAMES.get(index), own.get_mut(index)) else { continue };
                let is_raised = verdict == Some(true);
                // Whoever is at rest and was is soon done with.
                if !is_raised && place.is_none() {
                    continue;
                }
                let labels = judge.labels(alertname, index);
                // `host` means the host, whatever its label is called here.
                let host = [("host".to_owned(), name.to_string())].into_iter().collect();
                let hides = |(_, silence): &(u64, Silence)| silence.hides_on(&host, &labels, now);
                let is_raised = is_raised && !silences.values().any(hides);
                match (is_raised, *place) {
                    (true, None) => {
                        let verdict = judge.verdict(index);
                        match raise(feed, settings, labels, verdict, now) {
                            Some(key) => *place = Some(key),
                            None => refused.push(name.clone()),
                        }
                    }
                    (false, Some(key)) => {
                        feed.resolve(key, judge.over(index), now);
                        *place = None;
                    }
                    (true, Some(_)) | (false, None) => {}
                }
            }
            host.own = own;
        }
        for name in refused {
            self.refuse(Refusal::Alerts, || format!("an alert about {name} is not told: there are too many"));
        }
    }
}

fn raise(
    feed: &mut Feed,
    settings: &Settings,
    labels: LabelSet,
    verdict: Verdict,
    now: Timestamp,
) -> Option<notify::feed::Key> {
    let texts = [("summary", verdict.summary), ("description", verdict.description), ("action", verdict.action.into())];
    let firing = Firing {
        labels,
        annotations: texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
        starts_at: verdict.starts_at.min(now),
        generator_url: settings.generator_url.clone(),
    };
    feed.fire(firing, now).ok()
}

/// Whether most hosts differ from us, to the same side.
fn is_own_clock<'a>(hosts: impl Iterator<Item = &'a Host>, bound: Duration) -> bool {
    let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
    let (mut all, mut ahead, mut behind) = (0_usize, 0_usize, 0_usize);
    for skew in hosts.filter_map(Host::skew) {
        all += 1;
        ahead += usize::from(skew > bound);
        behind += usize::from(skew < -bound);
    }
    all >= JURY && ahead.max(behind) * 2 > all
}

struct Judge<'a> {
    settings: &'a Settings,
    host: &'a Host,
    name: &'a HostName,
    now: Timestamp,
    connected: Timestamp,
}

impl Judge<'_> {
    /// The broker lost it and it is not back, or it is connected and says nothing.
    fn down(&self) -> Option<bool> {
        let (down, known) = (self.settings.down.as_ref()?, self.host.known.as_ref()?);
        Some(match known.is_online {
            true => self.is_silent()?,
            false => !known.stopped && self.now >= self.host.since.plus(down.grace),
        })
    }

    /// Only an agent, which names its interval, is expected to say something.
    fn is_silent(&self) -> Option<bool> {
        let (down, interval) = (self.settings.down.as_ref()?, self.host.interval?);
        let patience = down.silent_after?.max(interval.saturating_mul(3));
        Some(self.now >= self.host.heard.max(self.connected).plus(patience))
    }

    fn is_flapping(&self) -> Option<bool> {
        let flapping = self.settings.flapping.as_ref()?;
        let recent = self.host.changes.iter().filter(|at| at.plus(flapping.window) > self.now).count();
        Some(recent > flapping.changes)
    }

    fn is_skewed(&self) -> Option<bool> {
        let bound = self.settings.skew.as_ref()?.bound;
        Some(u128::from(self.host.skew()?.unsigned_abs()) > bound.as_millis())
    }

    fn has_dropped(&self) -> Option<bool> {
        let dropped = self.settings.dropped.as_ref()?;
        let (at, _) = self.host.grew?;
        Some(self.now < at.plus(dropped.hold))
    }

    fn severity(&self, index: usize) -> String {
        let settings = self.settings;
        let of = [
            settings.down.as_ref().map(|of| &of.severity),
            settings.flapping.as_ref().map(|of| &of.severity),
            settings.skew.as_ref().map(|of| &of.severity),
            settings.dropped.as_ref().map(|of| &of.severity),
        ];
        of.get(index).copied().flatten().cloned().unwrap_or_default()
    }

    fn labels(&self, alertname: &str, index: usize) -> LabelSet {
        let good = |(name, value): &(&str, &str)| labels::is_name(name) && value.len() <= 4096;
        let mut made: LabelSet =
            self.host.labels.iter().take(50).filter(good).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        for (name, value) in [
            ("alertname", alertname),
            ("severity", &self.severity(index)),
            ("job", &self.settings.job),
            ("instance", self.name.as_str()),
        ] {
            made.insert(name.to_owned(), value.to_owned());
        }
        labels::add(&mut made, self.name, self.settings);
        made
    }

    /// When it was over, by the host's own word where there is one.
    fn over(&self, index: usize) -> Timestamp {
        match (index, &self.host.known) {
            (0, Some(known)) => known.time.max(self.host.life.unwrap_or(known.time)),
            _ => self.now,
        }
    }

    fn verdict(&self, index: usize) -> Verdict {
        let (name, host) = (self.name, self.host);
        let is_online = host.known.as_ref().is_some_and(|known| known.is_online);
        let life = host.life.map_or_else(|| "not known".to_owned(), |life| life.to_string());
        let (starts_at, summary, description, action) = match index {
            0 if is_online => (
                host.life.unwrap_or(self.now),
                format!("{name} is connected and says nothing"),
                format!("The agent of {name} is connected to the broker and has sent nothing; its last word: {life}."),
                "Look at the agent's log on the host (journalctl -u utilizer-agent); restart it if it hangs.",
            ),
            0 => (
                host.life.unwrap_or(self.now),
                format!("{name} is down"),
                format!("The broker lost {name} without a goodbye, and it did not come back. Its last word: {life}."),
                "See whether the host answers (ping, console). If it does, look at its agent and its way to the broker.",
            ),
            1 => {
                let count = host.changes.len();
                let window = self.settings.flapping.as_ref().map_or(Duration::ZERO, |flapping| flapping.window);
                let minutes = window.as_secs_f64() / 60.0;
                (
                    host.changes.back().copied().unwrap_or(self.now),
                    format!("{name} comes and goes"),
                    format!("{name} came or went {count} times within {minutes:.0} minutes."),
                    "Look for a restart loop (systemctl status utilizer-agent), an unsteady network, or two hosts with \
                     one name.",
                )
            }
            2 => {
                let skew = host.skew().unwrap_or_default();
                let seconds = skew.unsigned_abs() as f64 / 1000.0;
                let side = if skew > 0 { "ahead of" } else { "behind" };
                (
                    host.life.unwrap_or(self.now),
                    format!("The clock of {name} is wrong"),
                    format!("The clock of {name} is {seconds:.1} s {side} that of this exporter."),
                    "See what keeps the host's time (timedatectl, chronyc tracking).",
                )
            }
            _ => (
                host.grew.map_or(self.now, |(_, time)| time),
                format!("{name} has lost records"),
                format!("The agent of {name} declares records lost that no store will get."),
                "See whether exporters and stores work (utilizer status), and whether the agent's spool is large enough.",
            ),
        };
        Verdict { starts_at, summary, description, action }
    }
}
