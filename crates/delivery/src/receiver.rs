//! An exporter's side of the protocol: [`Receiver`].
//!
//! It knows what stands in the member's own spool (`held`), and what changed since the last confirmation of each host.
//! What is committed stands in the ledger, which the caller asks: nothing is remembered here of what the store has, so
//! that a store that lost commits in a failover is not contradicted by its exporter.
//!
//! Memory: for each host ranges of numbers, and the runs that its status names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::messages::{Confirmation, HostState, Loss, Status};
use wire::{BootId, HostName, Kind, Ranges, SeqByBoot, VERSION};

use crate::ledger::{Entry, Key, MOST_SEQ, gone};
use crate::{Identity, KindSet, Millis, Shard};

/// A confirmation goes at once when so many records of a host have changed. Below the sender's window, so that a backlog
/// does not wait for [`Timing::every`].
pub const MANY: usize = 32;
/// With at least so many, one goes each [`Timing::soon`]: the members of a group share a sender's window.
pub const SOME: usize = 8;
/// Ranges in one confirmation. What does not fit comes with the next ones.
pub const MOST_RANGES: usize = 4_096;
/// Runs of one host's status that are remembered.
const MOST_BOOTS: usize = 1_000;
/// Losses that are taken from one status. A sender declares no more than a quarter of it, but for a damaged disk.
const MOST_LOSSES: usize = 4_096;
/// Runs and kinds of which a host may declare losses at once, and how often it may declare one more, in milliseconds:
/// each is an entry of the ledger, for 30 days at least, and a status may name as many as have room in a packet. Of an
/// honest host that exceeds it all are booked in the end, since it repeats them.
pub const RUNS_AT_ONCE: u64 = 256;
const RUN_EVERY: u64 = 600_000;

/// The times of confirmations in milliseconds, scaled from `[confirm] every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A host is told at most this often where little changed (30 s).
    pub every: u64,
    /// And this often where [`SOME`] records changed (1 s).
    pub soon: u64,
    /// How long a first change waits for others (500 ms).
    pub gather: u64,
    /// How often it is told everything, if something changed or is held (5 min).
    pub whole: u64,
    /// How often the member announces itself (5 min).
    pub announce: u64,
}

impl Timing {
    /// All times from `every`, whose default is 30 s. Less than a millisecond counts as one.
    pub fn scaled(every: Duration) -> Self {
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        Self { every, soon: every.min(1_000), gather: every.min(500), whole: every * 10, announce: every * 10 }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::scaled(Duration::from_secs(30))
    }
}

/// What a receiver is set to.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// When it confirms.
    pub timing: Timing,
    /// The kinds that the member takes.
    pub kinds: KindSet,
    /// Which hosts are the member's; all of them without.
    pub shard: Option<Shard>,
}

/// What to do with a record that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// Append it to the spool; after the fsync call [`Receiver::stored`] and acknowledge it.
    Store,
    /// It stands in the spool already: acknowledge it. The next confirmation names it.
    Known,
    /// It is another shard's: acknowledge it and say nothing.
    Foreign,
    /// Its number is none that a ledger can hold. Keep it as a record without an identity, or as a dead letter.
    Unnumbered,
}

/// Ranges by run and kind, without empty ones.
type Seqs = BTreeMap<(BootId, Kind), Ranges>;

#[derive(Debug, Default)]
struct Host {
    /// In the member's spool, not committed by it.
    held: Seqs,
    /// What the next confirmation names.
    held_news: Seqs,
    committed_news: Seqs,
    /// How many changes these are, and since when there is one.
    news: usize,
    news_since: Option<Millis>,
    last: Option<Millis>,
    last_whole: Option<Millis>,
    /// Something was confirmed, or is to be, since the last whole confirmation.
    since_whole: bool,
    /// When it stands in the schedule.
    due: Option<Millis>,
    /// The runs that its status names; unknown before the first one.
    named: Option<BTreeSet<BootId>>,
    /// The runs and kinds of the losses that were taken from the last status.
    lossy: BTreeSet<(BootId, Kind)>,
    /// How many others may follow, and since when that is so.
    others: Option<(u64, Millis)>,
    /// Where the next whole confirmation begins with what did not fit into the last one.
    from: usize,
}

impl Host {
    /// Takes the losses of a status as far as there are not too many.
    fn take_losses(&mut self, mut losses: Vec<Loss>, now: Millis) -> Vec<Loss> {
        let (left, since) = self.others.unwrap_or((RUNS_AT_ONCE, now));
        let more = now.since(since) / RUN_EVERY;
        let mut left = left.saturating_add(more).min(RUNS_AT_ONCE);
        let mut lossy = BTreeSet::new();
        losses.truncate(MOST_LOSSES);
        losses.retain(|loss| {
            let of = (loss.boot.clone(), loss.kind);
            if lossy.contains(&of) {
                return true;
            }
            if !self.lossy.contains(&of) {
                if left == 0 {
                    return false;
                }
                left -= 1;
            }
            lossy.insert(of)
        });
        self.lossy = lossy;
        self.others = Some((left, Millis(since.0.saturating_add(more.saturating_mul(RUN_EVERY)))));
        losses
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Receiver {
    settings: Settings,
    hosts: BTreeMap<HostName, Host>,
    schedule: BTreeSet<(Millis, HostName)>,
}

impl Receiver {
    /// A member whose spool is empty; what stands in it comes by [`Receiver::restored`].
    pub fn new(settings: Settings) -> Self {
        Self { settings, hosts: BTreeMap::new(), schedule: BTreeSet::new() }
    }

    /// Its times.
    pub fn timing(&self) -> Timing {
        self.settings.timing
    }

    /// Whether a host is this member's.
    pub fn takes(&self, host: &HostName) -> bool {
        self.settings.shard.is_none_or(|shard| shard.takes(host))
    }

    /// A record has arrived. Also one that was committed before is stored: the ledger decides when it is its turn, and
    /// then its host is told again, since it seems not to know.
    pub fn received(&mut self, record: &Identity, now: Millis) -> Arrived {
        if !self.takes(&record.host) {
            return Arrived::Foreign;
        }
        if record.seq == 0 || record.seq > MOST_SEQ {
            return Arrived::Unnumbered;
        }
        let place = (record.boot.clone(), record.kind);
        let Some(host) = self.hosts.get_mut(&record.host) else { return Arrived::Store };
        if !host.held.get(&place).is_some_and(|held| held.contains(record.seq)) {
            return Arrived::Store;
        }
        host.held_news.entry(place).or_default().insert(record.seq);
        self.changed(&record.host, 1, now);
        Arrived::Known
    }

    /// A record is in the spool, and the spool on disk.
    pub fn stored(&mut self, record: &Identity, now: Millis) {
        let place = (record.boot.clone(), record.kind);
        let host = self.host(&record.host);
        host.held.entry(place.clone()).or_default().insert(record.seq);
        host.held_news.entry(place).or_default().insert(record.seq);
        self.changed(&record.host, 1, now);
    }

    /// A record was found in the spool at the start, and was not known to be committed. Its host is told.
    pub fn restored(&mut self, record: &Identity, now: Millis) {
        self.stored(record, now);
    }

    /// Records are in the store and its ledger, or in the ledger before; also dead letters, once they are on disk.
    pub fn committed(&mut self, records: &[Identity], now: Millis) {
        for record in records {
            let place = (record.boot.clone(), record.kind);
            let host = self.host(&record.host);
            for held in [&mut host.held, &mut host.held_news] {
                if let Some(ranges) = held.get_mut(&place) {
                    ranges.remove(record.seq);
                    if ranges.is_empty() {
                        held.remove(&place);
                    }
                }
            }
            host.committed_news.entry(place).or_default().insert(record.seq);
            self.changed(&record.host, 1, now);
        }
    }

    /// A host's status has arrived. Gives the losses to book in the ledger, as lost; then [`Receiver::booked`] is called.
    /// Also gives how many losses were not taken, since the host declares too many.
    pub fn host_status(&mut self, status: &Status, now: Millis) -> (Vec<Loss>, u64) {
        if !self.takes(&status.host) {
            return (Vec::new(), 0);
        }
        // A last will was written when the agent connected: what it says of the spool is old.
        if status.state == HostState::Online || status.stopped {
            let boots = status.lowest_unconfirmed.keys().chain(status.dropped.iter().map(|loss| &loss.boot));
            let named = [&status.boot].into_iter().chain(boots).take(MOST_BOOTS).cloned().collect();
            self.host(&status.host).named = Some(named);
        }
        let valid = |loss: &&Loss| loss.from > 0 && loss.from <= loss.to && loss.to <= MOST_SEQ;
        let ours = |loss: &&Loss| self.settings.kinds.contains(loss.kind);
        let losses: Vec<Loss> = status.dropped.iter().filter(ours).filter(valid).cloned().collect();
        // Most hosts have none, most of the time.
        if losses.is_empty() && self.hosts.get(&status.host).is_none_or(|host| host.lossy.is_empty()) {
            return (losses, 0);
        }
        let declared = losses.len();
        let taken = self.host(&status.host).take_losses(losses, now);
        let refused = declared - taken.len();
        (taken, refused as u64)
    }

    /// Losses of a host are in the ledger.
    pub fn booked(&mut self, host: &HostName, losses: &[Loss], now: Millis) {
        for loss in losses {
            let place = (loss.boot.clone(), loss.kind);
            self.host(host).committed_news.entry(place).or_default().insert_range(loss.from, loss.to);
        }
        if !losses.is_empty() {
            self.changed(host, 1, now);
        }
    }

    /// The runs that a host's status names, its own among them, if one is known.
    pub fn named(&self, host: &HostName) -> Option<&BTreeSet<BootId>> {
        self.hosts.get(host)?.named.as_ref()
    }

    /// Whether a run of a host has left its spool: see [`ledger::gone`](crate::ledger::gone).
    pub fn gone(&self, host: &HostName, boot: &BootId) -> bool {
        gone(self.named(host), boot)
    }

    /// Hosts that are to be confirmed now, at most `most` of them, the longest due first.
    pub fn due(&self, now: Millis, most: usize) -> Vec<HostName> {
        self.schedule.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, host)| host.clone()).collect()
    }

    /// When the next host is due.
    pub fn wake_at(&self) -> Millis {
        self.schedule.first().map_or(Millis::NEVER, |(at, _)| *at)
    }

    /// Whether a host's next confirmation is to be a whole one, for which [`Receiver::confirmation`] wants the ledger's
    /// entries of the host.
    pub fn whole_due(&self, host: &HostName, now: Millis) -> bool {
        self.hosts.get(host).is_some_and(|host| self.is_whole_due(host, now))
    }

    fn is_whole_due(&self, host: &Host, now: Millis) -> bool {
        host.last_whole.is_none_or(|last| now.since(last) >= self.settings.timing.whole)
    }

    /// What to tell a host that is due; `None` if there is nothing to tell. `entries` are the ledger's for this host, read
    /// after the last [`Receiver::committed`]: without them (the store is down, or none was due) only news are named.
    /// What is said counts as said: a confirmation that is lost on its way is made up for by a whole one.
    pub fn confirmation(
        &mut self,
        name: &HostName,
        entries: Option<&[(Key, Entry)]>,
        now: Millis,
    ) -> Option<Confirmation> {
        let whole = entries.is_some() && self.whole_due(name, now);
        let renew = self.whole_due(name, now);
        let host = self.hosts.get_mut(name)?;
        let mut room = MOST_RANGES;
        let mut held = SeqByBoot::new();
        let mut committed = SeqByBoot::new();
        // News first. What of them has no room stays news.
        let kept_committed = fill(&mut committed, &mut room, std::mem::take(&mut host.committed_news));
        let kept_held = fill(&mut held, &mut room, std::mem::take(&mut host.held_news));
        let complete = kept_committed.is_empty() && kept_held.is_empty();
        (host.committed_news, host.held_news) = (kept_committed, kept_held);
        let mut told_all = false;
        if renew && complete {
            // Everything that is held: it renews the leases. And what the ledger has of runs that still matter.
            let named = host.named.as_ref();
            let of_host = entries
                .unwrap_or_default()
                .iter()
                .filter(|(key, _)| key.host == *name && named.is_none_or(|named| named.contains(&key.boot)));
            let ledger = of_host.map(|(key, entry)| ((key.boot.clone(), key.kind), entry.union()));
            let ledger: Vec<_> = ledger.collect();
            let spool = host.held.iter().map(|(place, ranges)| (true, place, ranges));
            let all = spool.chain(ledger.iter().map(|(place, ranges)| (false, place, ranges)));
            let all: Vec<_> = all
                .flat_map(|(is_held, place, ranges)| ranges.iter().map(move |range| (is_held, place, range)))
                .collect();
            // Where it does not fit, each whole confirmation begins where the last one ended.
            let begin = host.from.checked_rem(all.len()).unwrap_or(0);
            let fits = room.min(all.len());
            for (is_held, (boot, kind), (from, to)) in all.iter().cycle().skip(begin).take(fits) {
                let into = if *is_held { &mut held } else { &mut committed };
                into.entry(boot.clone()).or_default().entry(*kind).or_default().insert_range(*from, *to);
            }
            told_all = fits == all.len();
            host.from = if told_all { 0 } else { begin + fits };
            host.last_whole = Some(now);
            host.since_whole = !whole;
        }
        host.last = Some(now);
        host.news = usize::from(!complete);
        host.news_since = (!complete).then_some(now);
        self.reschedule(name);
        if held.is_empty() && committed.is_empty() {
            return None;
        }
        Some(Confirmation { v: VERSION, whole: whole && told_all, held, committed })
    }

    /// How many ranges it keeps: what its memory depends on.
    pub fn size(&self) -> usize {
        let ranges = |seqs: &Seqs| seqs.values().map(Ranges::len).sum::<usize>();
        let of = |host: &Host| {
            1 + ranges(&host.held)
                + ranges(&host.held_news)
                + ranges(&host.committed_news)
                + host.named.as_ref().map_or(0, BTreeSet::len)
        };
        self.hosts.values().map(of).sum()
    }

    /// How many records it holds.
    pub fn held(&self) -> u64 {
        let hosts = self.hosts.values().flat_map(|host| host.held.values());
        hosts.fold(0u64, |sum, held| sum.saturating_add(held.count()))
    }

    fn host(&mut self, name: &HostName) -> &mut Host {
        if !self.hosts.contains_key(name) {
            self.hosts.insert(name.clone(), Host::default());
        }
        self.hosts.get_mut(name).unwrap_or_else(|| unreachable!("BUG: a host that was just inserted is missing"))
    }

    fn changed(&mut self, name: &HostName, news: usize, now: Millis) {
        let host = self.host(name);
        host.news = host.news.saturating_add(news);
        host.news_since.get_or_insert(now);
        host.since_whole = true;
        self.reschedule(name);
    }

    fn reschedule(&mut self, name: &HostName) {
        let timing = self.settings.timing;
        let Some(host) = self.hosts.get_mut(name) else { return };
        let after = |wait: u64| host.last.map_or(Millis::default(), |last| last.plus(wait));
        let gathered = host.news_since.map(|since| since.plus(timing.gather));
        let news = gathered.map(|gathered| match host.news {
            MANY.. => after(timing.gather.min(timing.soon) / 8),
            SOME.. => after(timing.soon).min(gathered.max(after(timing.every))),
            _ => gathered.max(after(timing.every)),
        });
        let renewal = (host.since_whole || !host.held.is_empty()).then(|| {
            host.last_whole.map_or(Millis::default(), |last| last.plus(timing.whole)).max(after(timing.every))
        });
        // Without news there is nothing to tell of before the first whole confirmation.
        let due = match (news, renewal.filter(|_| host.last.is_some())) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if due == host.due {
            return;
        }
        if let Some(before) = host.due {
            self.schedule.remove(&(before, name.clone()));
        }
        host.due = due;
        if let Some(due) = due {
            self.schedule.insert((due, name.clone()));
        }
    }
}

/// Moves ranges into a confirmation, as far as there is room; gives the rest.
fn fill(into: &mut SeqByBoot<Ranges>, room: &mut usize, seqs: Seqs) -> Seqs {
    let mut rest = Seqs::new();
    for ((boot, kind), ranges) in seqs {
        let fits: Ranges = ranges.iter().take(*room).collect();
        if fits.len() < ranges.len() {
            rest.insert((boot.clone(), kind), ranges.iter().skip(fits.len()).collect());
        }
        if fits.is_empty() {
            continue;
        }
        *room -= fits.len();
        into.entry(boot).or_default().entry(kind).or_default().add(&fits);
    }
    rest
}
