//! An agent's side of the protocol: [`Sender`].
//!
//! One machine a host. It is told what was appended to the spool, what groups say of themselves and of the records, and
//! what became of publishes; it says which record to publish next ([`Sender::next`]), what the spool may forget
//! ([`Sender::take_freed`]), what to say in the host's status ([`Sender::status`]) and what to keep on disk
//! ([`Sender::disk`]).
//!
//! A record is freed when every group that takes its kind has committed it. A record that was published and that some
//! online group neither committed nor holds is due again after [`Timing::retry_after`], doubling up to [`Timing::cap`].
//! `held` is a lease that ends after [`Timing::lease`].
//!
//! Memory: ranges of numbers, however many records they are; and an own entry for at most [`MOST_PUBLISHED`] records.

mod groups;
mod losses;
mod track;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use wire::messages::{Confirmation, Loss, TierStatus, known_kinds, known_losses};
use wire::{BootId, GroupName, Kind, MemberName, Ranges, SeqByBoot, Timestamp};

use crate::random::Random;
use crate::{KindSet, Millis};
use groups::Groups;
pub use groups::MOST_GROUPS;
use losses::Losses;
use track::Track;

/// Records that may be out: published, and not yet held, committed or due again.
pub const WINDOW: usize = 64;
/// Of those, what is not of the live stream takes at most so many, so that a group that says nothing does not end it.
pub const BACKLOG_WINDOW: usize = 48;
/// Of those, one kind takes at most so many, so that the group of one kind does not end the backlog of another's.
pub const KIND_WINDOW: usize = 32;
/// Published records with an entry of their own. What is due again beyond that forgets how often it was sent.
pub const MOST_PUBLISHED: usize = 256;

/// The protocol's times in milliseconds, all of them scaled from `[spool] retry_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A published record is due again after this, twice this, … (90 s).
    pub retry_after: u64,
    /// At most this long (15 min).
    pub cap: u64,
    /// How long `held` keeps a record from being sent again (15 min).
    pub lease: u64,
    /// How often a group that looks offline is tried with one record (1 min).
    pub probe: u64,
    /// How often losses are declared again (90 s).
    pub declare: u64,
    /// How long after the SUBACK it is certain that no group is announced (5 s).
    pub settle: u64,
}

impl Timing {
    /// All times from `retry_after`, whose default is 90 s. Less than a millisecond counts as one.
    pub fn scaled(retry_after: Duration) -> Self {
        let retry_after = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        Self {
            retry_after,
            cap: retry_after * 10,
            lease: retry_after * 10,
            probe: (retry_after * 2).div_ceil(3),
            declare: retry_after,
            settle: 5_000.min(retry_after),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::scaled(Duration::from_secs(90))
    }
}

/// What a sender is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long it waits for what.
    pub timing: Timing,
    /// Groups that are waited for before they were ever seen.
    pub confirm_by: Vec<GroupName>,
    /// Records a second that are not of the live stream; at least 1.
    pub backlog_rate: u32,
    /// For jitter: anything that differs from host to host and from run to run.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timing: Timing::default(), confirm_by: Vec::new(), backlog_rate: 25, seed: 0 }
    }
}

/// What must outlive a crash of the agent, beside the spool itself. Fields that are not known are ignored, and so are kinds:
/// a later version may have written it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskState {
    /// The groups that announced themselves as durable, their members, and the kinds that each takes.
    #[serde(deserialize_with = "known_groups")]
    pub groups: BTreeMap<GroupName, BTreeMap<MemberName, Vec<Kind>>>,
    /// Losses that some group has not booked.
    #[serde(deserialize_with = "known_losses")]
    pub dropped: Vec<Loss>,
    /// Groups that were retired, and when. A group that announces itself later is a new one.
    pub retired: BTreeMap<GroupName, Timestamp>,
}

/// The kinds that each member of a group takes.
type Takers = BTreeMap<MemberName, Vec<Kind>>;

fn known_groups<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<GroupName, Takers>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Known(#[serde(deserialize_with = "known_kinds")] Vec<Kind>);
    let groups = BTreeMap::<GroupName, BTreeMap<MemberName, Known>>::deserialize(from)?;
    let members = |members: BTreeMap<MemberName, Known>| members.into_iter().map(|(name, Known(kinds))| (name, kinds));
    Ok(groups.into_iter().map(|(name, of)| (name, members(of).collect())).collect())
}

/// A record that is to be published now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Names this publish, for [`Sender::puback`] and [`Sender::lost`].
    pub id: u64,
    /// The record's run.
    pub boot: BootId,
    /// Its kind.
    pub kind: Kind,
    /// Its number.
    pub seq: u64,
    /// It was published before in this run of the agent.
    pub again: bool,
}

/// Records that the spool need not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freed {
    /// Their run.
    pub boot: BootId,
    /// Their kind.
    pub kind: Kind,
    /// Their numbers.
    pub seqs: Ranges,
}

/// What the host's status says of its spool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waiting {
    /// The groups that the host waits for.
    pub groups: Vec<GroupName>,
    /// The lowest number that some group has not committed.
    pub lowest_unconfirmed: SeqByBoot<u64>,
    /// Losses that some group has not booked, as far as they stand on disk.
    pub dropped: Vec<Loss>,
}

/// Most valuable kind first, then the oldest run.
type TrackKey = (Reverse<Kind>, u32);

/// The run that makes records now; older ones count from 0.
const OWN: u32 = u32::MAX;

#[derive(Debug)]
struct Published {
    tries: u32,
    /// When it was sent.
    sent: Millis,
    /// When it may be sent again.
    due: Millis,
    /// That moment has come.
    overdue: bool,
    /// It counts as out.
    out: bool,
    /// The publish that was not acknowledged yet.
    id: Option<u64>,
    /// The broker acknowledged it. That frees it only where no group is known.
    acked: bool,
}

/// The connection to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected; groups may not be known yet.
    Up,
    /// Subscribed; from this moment on all groups are known that the broker knows.
    Subscribed(Millis),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Sender {
    timing: Timing,
    /// Milliseconds from one record of the backlog to the next.
    pace: u64,
    random: Random,
    /// Runs by their place in [`TrackKey`].
    boots: BTreeMap<u32, BootId>,
    tracks: BTreeMap<TrackKey, Track>,
    groups: Groups,
    losses: Losses,
    link: Link,
    published: BTreeMap<(TrackKey, u64), Published>,
    /// Publishes that were not acknowledged yet.
    pending: BTreeMap<u64, (TrackKey, u64)>,
    last_publish: u64,
    /// How many of `published` are out, and how many of each kind.
    out: usize,
    out_of: BTreeMap<Kind, usize>,
    /// Where the live stream goes on, for each kind that was appended to since the connection.
    live_from: BTreeMap<Reverse<Kind>, u64>,
    /// When the next record of the backlog may go.
    paced_to: Millis,
    /// Whether the next record of the backlog is one that was published before. They take turns.
    retry_first: bool,
    /// When the first of those that are out is due.
    next_due: Millis,
    /// When the first lease ends.
    next_lease: Millis,
    /// Something happened since nothing was found to send; else nothing is until `wake`.
    stirred: bool,
    wake: Millis,
    /// What is on disk, and what should be.
    durable: u64,
    version: u64,
    /// The version that says why fewer groups are waited for. What is freed waits for it to be on disk: after a crash the
    /// agent would wait for a group whose records are gone.
    fewer: u64,
    freed: Vec<(u64, TrackKey, Ranges)>,
    /// Groups that were retired, until that is on disk.
    retiring: Vec<(u64, GroupName)>,
    /// A group takes fewer kinds than it was thought to. Another one that takes them may announce itself in a moment.
    unsettled: bool,
    /// The same, and when that is certain is known.
    narrowing: bool,
    status_changed: bool,
    status_at: Option<Millis>,
}

impl Sender {
    /// A sender for a run of the agent, from what [`Sender::disk`] said in earlier ones.
    pub fn new(settings: &Settings, boot: BootId, disk: DiskState) -> Self {
        let mut groups = Groups { retired: disk.retired, ..Groups::default() };
        for (name, members) in disk.groups {
            for (member, kinds) in members {
                groups.restore(&name, member, kinds.into_iter().collect());
            }
        }
        settings.confirm_by.iter().for_each(|name| groups.expect(name));
        Self {
            timing: settings.timing,
            pace: 1_000 / u64::from(settings.backlog_rate.clamp(1, 1_000)),
            random: Random::new(settings.seed),
            boots: BTreeMap::from([(OWN, boot)]),
            tracks: BTreeMap::new(),
            groups,
            losses: Losses::new(disk.dropped),
            link: Link::Down,
            published: BTreeMap::new(),
            pending: BTreeMap::new(),
            last_publish: 0,
            out: 0,
            out_of: BTreeMap::new(),
            live_from: BTreeMap::new(),
            paced_to: Millis::default(),
            retry_first: false,
            next_due: Millis::NEVER,
            next_lease: Millis::NEVER,
            stirred: true,
            wake: Millis::default(),
            durable: 0,
            version: 0,
            fewer: 0,
            freed: Vec::new(),
            retiring: Vec::new(),
            unsettled: false,
            narrowing: false,
            status_changed: true,
            status_at: None,
        }
    }

    // What is in the spool.

    /// Records from `from` to `to` of an earlier run are in the spool. Runs in the order of their age, the oldest first.
    /// What stands there although it was declared lost is freed at once.
    pub fn restored(&mut self, boot: &BootId, kind: Kind, from: u64, to: u64) {
        let place = match self.place(boot) {
            Some(place) => place,
            None => {
                let place = self.boots.range(..OWN).next_back().map_or(0, |(place, _)| place + 1);
                self.boots.insert(place, boot.clone());
                place
            }
        };
        let mut live = Ranges::of(from, to);
        let mut declared = self.losses.of(boot, kind);
        declared = declared.intersection(&live);
        live.subtract(&declared);
        let key = (Reverse(kind), place);
        if !declared.is_empty() {
            self.freed.push((self.durable, key, declared));
        }
        if !live.is_empty() {
            self.tracks.entry(key).or_default().live.add(&live);
        }
        self.stir();
    }

    /// A record of this run was appended to the spool.
    pub fn appended(&mut self, kind: Kind, seq: u64) {
        let track = self.tracks.entry((Reverse(kind), OWN)).or_default();
        if track.live.is_empty() {
            self.status_changed |= self.status_at.is_none();
        }
        track.live.insert(seq);
        track.hint = track.hint.min(seq);
        if self.link != Link::Down {
            self.live_from.entry(Reverse(kind)).or_insert(seq);
        }
        self.stir();
    }

    /// What was published, is no longer owed to anybody, and is on disk as far as it has to be: the spool may forget it.
    pub fn take_freed(&mut self) -> Vec<Freed> {
        if self.freed.is_empty() {
            return Vec::new();
        }
        let (ready, rest) = std::mem::take(&mut self.freed).into_iter().partition(|(v, _, _)| *v <= self.durable);
        self.freed = rest;
        let ready: Vec<(u64, TrackKey, Ranges)> = ready;
        let mut freed = Vec::with_capacity(ready.len());
        for (_, (Reverse(kind), place), seqs) in ready {
            if let Some(boot) = self.boots.get(&place) {
                freed.push(Freed { boot: boot.clone(), kind, seqs });
            }
        }
        self.forget_boots();
        freed
    }

    /// A segment is to go from the spool before its records were freed. Declares those of them that are still owed to a
    /// group. The segment may go when [`Sender::durable`] said that this version is on disk, not earlier: a crash in
    /// between would lose them without a word.
    #[must_use = "the segment may go only when this version is on disk"]
    pub fn evicted(&mut self, loss: &Loss) -> u64 {
        let Some(place) = self.place(&loss.boot) else { return self.durable };
        let key = (Reverse(loss.kind), place);
        let Some(track) = self.tracks.get(&key) else { return self.durable };
        let gone = track.live.intersection(&Ranges::of(loss.from, loss.to));
        if gone.is_empty() {
            return self.durable;
        }
        self.version += 1;
        for (from, to) in gone.iter() {
            self.losses.declare(Loss { from, to, ..loss.clone() }, self.version);
        }
        self.drop_records(key, &gone);
        self.forget_boots();
        self.version
    }

    /// Whether a record may be given up that could as well be tried again: so many losses are declared, and booked by not all
    /// groups, that the status would grow too large for a broker. The record is due again as one that nobody answered.
    pub fn can_declare(&self) -> bool {
        self.losses.have_room()
    }

    /// Records can't be read from the spool any more, and whether they were freed is not known: declares them all.
    #[must_use = "the records may be passed over only when this version is on disk"]
    pub fn missing(&mut self, loss: &Loss) -> u64 {
        self.version += 1;
        self.losses.declare(loss.clone(), self.version);
        if let Some(place) = self.place(&loss.boot) {
            self.drop_records((Reverse(loss.kind), place), &Ranges::of(loss.from, loss.to));
            self.forget_boots();
        }
        self.version
    }

    // The connection.

    /// The broker answered CONNECT.
    pub fn connected(&mut self) {
        self.link = Link::Up;
        self.status_changed = true;
        self.status_at = None;
        self.stir();
    }

    /// The broker answered the subscription to `tier/+/+/status`: what it retains of the groups arrives now.
    pub fn subscribed(&mut self, now: Millis) {
        if self.link != Link::Down {
            self.link = Link::Subscribed(now.plus(self.timing.settle));
            self.stir();
        }
    }

    /// The connection is gone, and with it every publish that was not acknowledged.
    pub fn disconnected(&mut self, now: Millis) {
        self.link = Link::Down;
        self.live_from.clear();
        let pending: Vec<u64> = self.pending.keys().copied().collect();
        pending.into_iter().for_each(|id| self.lost(id, now));
        // What was left of the live stream is backlog now.
        self.rewind();
    }

    /// The broker took a publish. That is no delivery: it frees a record only if no group takes its kind.
    pub fn puback(&mut self, id: u64, now: Millis) {
        let Some(at) = self.pending.remove(&id) else { return };
        if let Some(published) = self.published.get_mut(&at) {
            published.id = None;
            published.acked = true;
        }
        self.free_acked(now);
        self.stir();
    }

    /// A publish did not reach the broker. The record is due at once; the one that came last of the live stream leads it
    /// again, so that a client without room for it costs neither its place nor its speed.
    pub fn lost(&mut self, id: u64, now: Millis) {
        let Some(at) = self.pending.remove(&id) else { return };
        let Some(published) = self.published.get_mut(&at) else { return };
        let ((kind, place), seq) = at;
        if published.tries == 1
            && place == OWN
            && let Some(from) = self.live_from.get_mut(&kind).filter(|from| seq.checked_add(1) == Some(**from))
        {
            *from = seq;
            self.forget_published(at);
            self.stir();
            return;
        }
        published.id = None;
        published.due = now;
        published.tries = published.tries.saturating_sub(1);
        if std::mem::take(&mut published.out) {
            self.came_in(at.0);
        }
        self.stir();
    }

    // The groups.

    /// A member of a group announced itself. Members that are not `durable` confirm nothing, so nobody waits for them.
    pub fn tier_status(&mut self, status: &TierStatus) {
        if !status.durable {
            return;
        }
        let change = self.groups.announced(status);
        if change.kept {
            self.changed();
        }
        if change.fewer {
            self.unsettled = true;
            self.stir();
        }
        if change.kept || change.online {
            self.rewind();
        }
    }

    /// A member says what it has of this host. What it says of records that are not owed to its group is ignored, and so
    /// is a group that was never announced.
    pub fn confirmation(&mut self, group: &GroupName, member: &MemberName, said: &Confirmation, now: Millis) {
        let Some((id, came_online)) = self.groups.heard(group, member, now) else { return };
        if came_online {
            self.rewind();
        }
        for (boot, kinds) in &said.committed {
            for (&kind, ranges) in kinds {
                if self.losses.book(id, boot, kind, ranges) {
                    self.settle_losses(false);
                }
                let Some(place) = self.place(boot) else { continue };
                let key = (Reverse(kind), place);
                if self.tracks.get_mut(&key).is_some_and(|track| track.commit(id, ranges)) {
                    self.free_committed(key);
                    self.settle(key, now);
                }
            }
        }
        let lease = self.timing.lease;
        for (boot, kinds) in &said.held {
            let Some(place) = self.place(boot) else { continue };
            for (&kind, ranges) in kinds {
                let key = (Reverse(kind), place);
                if self.tracks.get_mut(&key).is_some_and(|track| track.hold(id, ranges, now, lease)) {
                    self.next_lease = self.next_lease.min(now.plus(lease));
                    self.settle(key, now);
                }
            }
        }
        self.forget_boots();
        self.stir();
    }

    /// The operator gave a group up, at this moment of their clock. What was announced up to then counts no more.
    pub fn retire(&mut self, group: &GroupName, at: Timestamp) {
        let known = self.groups.retired.get(group).is_some_and(|since| at <= *since);
        let Some(id) = self.groups.retire(group, at) else {
            if !known {
                self.changed();
            }
            return;
        };
        self.changed();
        self.fewer = self.version;
        self.retiring.push((self.version, group.clone()));
        self.tracks.values_mut().for_each(|track| track.forget(id));
        self.losses.forget(id);
        self.free_everywhere();
        self.settle_losses(false);
        self.rewind();
    }

    // What the agent does.

    /// The record to publish now, if there is one. Ask again after each; then at [`Sender::wake_at`] and after each event.
    /// Time frees records too: ask [`Sender::take_freed`] afterwards.
    pub fn next(&mut self, now: Millis) -> Option<Publish> {
        if self.link == Link::Down || (!self.stirred && now < self.wake) {
            return None;
        }
        self.pass_time(now);
        match self.choose(now) {
            Some((key, seq)) => Some(self.publish(key, seq, now)),
            None => {
                self.stirred = false;
                self.wake = self.next_wake(now);
                None
            }
        }
    }

    /// When [`Sender::next`] or [`Sender::status_due`] may have something, if nothing happens before.
    pub fn wake_at(&self, now: Millis) -> Millis {
        if self.link == Link::Down {
            return Millis::NEVER;
        }
        let next = if self.stirred { now } else { self.wake };
        next.min(self.next_status())
    }

    /// What is to be on disk, and its version. Written down when the version is another than the last one written; then
    /// [`Sender::durable`] is called.
    pub fn disk(&self) -> (DiskState, u64) {
        let announced = |kinds: &KindSet| *kinds != KindSet::default();
        let mut state = DiskState {
            groups: BTreeMap::new(),
            dropped: self.losses.all().cloned().collect(),
            retired: self.groups.retired.clone(),
        };
        for (name, group) in &self.groups.by_name {
            let mut members = BTreeMap::new();
            for (name, member) in group.members.iter().filter(|(_, member)| announced(&member.kinds)) {
                members.insert(name.clone(), member.kinds.iter().collect());
            }
            if !members.is_empty() {
                state.groups.insert(name.clone(), members);
            }
        }
        (state, self.version)
    }

    /// The version of [`Sender::disk`] at present, without building it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// This version of [`Sender::disk`] would be found after a crash.
    pub fn durable(&mut self, version: u64) {
        if version <= self.durable {
            return;
        }
        self.durable = version.min(self.version);
        self.retiring.retain(|(version, _)| *version > self.durable);
        let (boots, tracks) = (&self.boots, &self.tracks);
        self.losses.melt(self.durable, |boot, kind, from, to| {
            let place = boots.iter().find(|(_, name)| *name == boot).map(|(place, _)| *place);
            let track = place.and_then(|place| tracks.get(&(Reverse(kind), place)));
            track.and_then(|track| track.live.next_from(from)).is_some_and(|seq| seq <= to)
        });
        self.status_changed = true;
    }

    /// Whether the host's status is to be published.
    pub fn status_due(&self, now: Millis) -> bool {
        self.link != Link::Down && self.next_status() <= now
    }

    /// It was published.
    pub fn status_sent(&mut self, now: Millis) {
        self.status_changed = false;
        self.status_at = Some(now);
    }

    /// What the host's status says.
    pub fn status(&self) -> Waiting {
        let mut groups: Vec<GroupName> = self.groups.by_name.keys().cloned().collect();
        // Until it is on disk, a crash would bring the group back.
        for (_, name) in &self.retiring {
            if let Err(at) = groups.binary_search(name) {
                groups.insert(at, name.clone());
            }
        }
        let mut lowest_unconfirmed = SeqByBoot::new();
        for ((Reverse(kind), place), track) in &self.tracks {
            if let (Some(boot), Some(lowest)) = (self.boots.get(place), track.live.first()) {
                lowest_unconfirmed.entry(boot.clone()).or_insert_with(BTreeMap::new).insert(*kind, lowest);
            }
        }
        Waiting { groups, lowest_unconfirmed, dropped: self.losses.durable(self.durable).cloned().collect() }
    }

    // What is worth knowing of it.

    /// How many ranges, entries and losses it keeps: what its memory depends on.
    pub fn size(&self) -> usize {
        let tracks: usize = self.tracks.values().map(Track::size).sum();
        let freed: usize = self.freed.iter().map(|(_, _, seqs)| seqs.len()).sum();
        tracks + self.published.len() + self.pending.len() + self.losses.size() + freed
    }

    /// Whether a record is owed to some group, or to the broker where there is none.
    pub fn owes(&self, boot: &BootId, kind: Kind, seq: u64) -> bool {
        let track = self.place(boot).and_then(|place| self.tracks.get(&(Reverse(kind), place)));
        track.is_some_and(|track| track.live.contains(seq))
    }

    /// Whether some group is known to have a record that is still owed to another one.
    pub fn arrived(&self, boot: &BootId, kind: Kind, seq: u64) -> bool {
        let track = self.place(boot).and_then(|place| self.tracks.get(&(Reverse(kind), place)));
        track.is_some_and(|track| track.arrived(seq))
    }

    /// How many records are out.
    pub fn out(&self) -> usize {
        self.out
    }

    /// How many records of a kind are owed to some group, or to the broker where there is none.
    pub fn unfreed(&self, kind: Kind) -> u64 {
        let tracks = self.tracks.range((Reverse(kind), 0)..=(Reverse(kind), OWN));
        tracks.fold(0u64, |sum, (_, track)| sum.saturating_add(track.live.count()))
    }

    /// The groups that it waits for, and whether each looks online.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, bool)> {
        self.groups.by_name.iter().map(|(name, group)| (name, group.online))
    }

    // Within.

    fn stir(&mut self) {
        self.stirred = true;
    }

    /// What is to be on disk has changed.
    fn changed(&mut self) {
        self.version += 1;
        self.status_changed = true;
        self.stir();
    }

    /// What did not have to be sent may have to be.
    fn rewind(&mut self) {
        self.tracks.values_mut().for_each(|track| track.hint = 0);
        self.stir();
    }

    fn place(&self, boot: &BootId) -> Option<u32> {
        // Few runs are in a spool at a time, the present one most often.
        self.boots.iter().rev().find(|(_, name)| *name == boot).map(|(place, _)| *place)
    }

    /// Runs of which nothing is left.
    fn forget_boots(&mut self) {
        self.tracks.retain(|(_, place), track| *place == OWN || !track.live.is_empty());
        let (tracks, freed) = (&self.tracks, &self.freed);
        let before = self.boots.len();
        self.boots.retain(|place, _| {
            *place == OWN || tracks.keys().any(|(_, of)| of == place) || freed.iter().any(|(_, (_, of), _)| of == place)
        });
        self.status_changed |= self.boots.len() != before;
    }

    /// A record is out no longer.
    fn came_in(&mut self, (Reverse(kind), _): TrackKey) {
        self.out = self.out.saturating_sub(1);
        if let Some(out) = self.out_of.get_mut(&kind) {
            *out = out.saturating_sub(1);
        }
    }

    fn forget_published(&mut self, at: (TrackKey, u64)) {
        let Some(published) = self.published.remove(&at) else { return };
        if published.out {
            self.came_in(at.0);
        }
        if let Some(id) = published.id {
            self.pending.remove(&id);
        }
    }

    fn published_of(&self, key: TrackKey) -> impl Iterator<Item = u64> {
        self.published.range((key, 0)..=(key, u64::MAX)).map(|((_, seq), _)| *seq)
    }

    /// Takes records out of everything.
    fn drop_records(&mut self, key: TrackKey, gone: &Ranges) {
        let published: Vec<u64> = self.published_of(key).filter(|seq| gone.contains(*seq)).collect();
        published.into_iter().for_each(|seq| self.forget_published((key, seq)));
        if let Some(track) = self.tracks.get_mut(&key) {
            track.remove(gone);
        }
        self.stir();
    }

    fn free(&mut self, key: TrackKey, freed: Ranges) {
        if freed.is_empty() {
            return;
        }
        self.drop_records(key, &freed);
        match self.freed.last_mut() {
            Some((version, of, seqs)) if *version == self.fewer && *of == key => seqs.add(&freed),
            _ => self.freed.push((self.fewer, key, freed)),
        }
    }

    /// Frees what every group that takes the kind has committed.
    fn free_committed(&mut self, key: TrackKey) {
        let takers = self.groups.takers(key.0.0);
        if let Some(track) = self.tracks.get(&key) {
            let freed = track.committed_by_all(&takers);
            self.free(key, freed);
        }
    }

    /// The same everywhere, after a group takes less.
    fn free_everywhere(&mut self) {
        let keys: Vec<TrackKey> = self.tracks.keys().copied().collect();
        keys.into_iter().for_each(|key| self.free_committed(key));
        self.forget_boots();
    }

    /// Frees what the broker took, where it is certain that no group takes it.
    fn free_acked(&mut self, now: Millis) {
        if let Link::Subscribed(from) = self.link
            && std::mem::take(&mut self.unsettled)
        {
            self.link = Link::Subscribed(from.max(now.plus(self.timing.settle)));
            self.narrowing = true;
        }
        let certain = matches!(self.link, Link::Subscribed(from) if from <= now);
        if certain && std::mem::take(&mut self.narrowing) {
            self.groups.narrow();
            self.changed();
            self.fewer = self.version;
            self.free_everywhere();
            self.rewind();
        }
        if !certain || !self.published.values().any(|published| published.acked) {
            return;
        }
        let unwanted: KindSet = Kind::ALL.into_iter().filter(|kind| self.groups.takers(*kind).is_empty()).collect();
        let mut acked: BTreeMap<TrackKey, Ranges> = BTreeMap::new();
        for ((key, seq), published) in &self.published {
            if published.acked && unwanted.contains(key.0.0) {
                acked.entry(*key).or_default().insert(*seq);
            }
        }
        for (key, seqs) in acked {
            self.drop_records(key, &seqs);
            self.freed.push((0, key, seqs));
        }
        self.forget_boots();
    }

    /// Forgets that records of a track were published where no group needs another copy for now.
    fn settle(&mut self, key: TrackKey, now: Millis) {
        let takers = self.groups.takers(key.0.0);
        let Some(track) = self.tracks.get(&key) else { return };
        let done = |seq: &u64| takers.iter().all(|id| track.satisfied_to(*id, *seq, now, self.timing.lease).is_some());
        let settled: Vec<u64> =
            if takers.is_empty() { Vec::new() } else { self.published_of(key).filter(done).collect() };
        settled.into_iter().for_each(|seq| self.forget_published((key, seq)));
        // What some group has arrived. Another one that does not take it must not keep the window from this one.
        let Some(track) = self.tracks.get(&key) else { return };
        let has = |seq: u64| takers.iter().any(|id| track.satisfied_to(*id, seq, now, self.timing.lease).is_some());
        let arrived: Vec<u64> = self.published_of(key).filter(|seq| has(*seq)).collect();
        for seq in arrived {
            let Some(published) = self.published.get_mut(&(key, seq)) else { continue };
            if std::mem::replace(&mut published.out, false) {
                self.came_in(key);
            }
        }
    }

    /// Forgets losses that every group has booked. `certain`: no group is announced beside those that are known.
    fn settle_losses(&mut self, certain: bool) {
        let groups = &self.groups;
        let known = !groups.by_name.is_empty();
        if self.losses.settle(|kind| groups.takers(kind), known && certain) {
            self.changed();
        }
    }

    fn pass_time(&mut self, now: Millis) {
        if self.next_due <= now {
            self.next_due = Millis::NEVER;
            let mut due = Vec::new();
            for (at, published) in &mut self.published {
                if published.due > now {
                    self.next_due = self.next_due.min(published.due);
                } else if !std::mem::replace(&mut published.overdue, true) {
                    let was_out = std::mem::replace(&mut published.out, false);
                    due.push((*at, was_out, published.id.take(), published.sent));
                }
            }
            // While there is no connection, nothing can be heard.
            let listening = matches!(self.link, Link::Subscribed(_));
            for ((key, seq), was_out, id, sent) in due {
                if was_out {
                    self.came_in(key);
                }
                id.and_then(|id| self.pending.remove(&id));
                if !listening {
                    continue;
                }
                for group in self.groups.online_takers(key.0.0) {
                    if self.wanted((key, seq), now, &[group]) {
                        self.groups.unheard(group, sent);
                    }
                }
            }
        }
        if self.next_lease <= now {
            let lease = self.timing.lease;
            self.next_lease = self.tracks.values_mut().map(|t| t.expire(now, lease)).min().unwrap_or(Millis::NEVER);
            self.rewind();
        }
        self.free_acked(now);
        if matches!(self.link, Link::Subscribed(from) if from <= now) && self.losses.size() > 0 {
            self.settle_losses(true);
        }
    }

    fn choose(&mut self, now: Millis) -> Option<(TrackKey, u64)> {
        if self.out < WINDOW
            && let Some(live) = self.choose_live()
        {
            return Some(live);
        }
        if let Some(probe) = self.choose_probe(now) {
            return Some(probe);
        }
        if self.paced_to > now || self.out >= BACKLOG_WINDOW {
            return None;
        }
        let found = if self.retry_first {
            self.choose_retry(now, None).or_else(|| self.choose_fresh(now))
        } else {
            self.choose_fresh(now).or_else(|| self.choose_retry(now, None))
        };
        if found.is_some() {
            self.retry_first = !self.retry_first;
            // A second's worth may go at once after a rest.
            self.paced_to = Millis(self.paced_to.0.max(now.0.saturating_sub(1_000))).plus(self.pace);
        }
        found
    }

    fn choose_live(&mut self) -> Option<(TrackKey, u64)> {
        for (&kind, from) in &mut self.live_from {
            let key = (kind, OWN);
            if let Some(seq) = self.tracks.get(&key).and_then(|track| track.live.next_from(*from)) {
                *from = seq.saturating_add(1);
                return Some((key, seq));
            }
        }
        None
    }

    /// One record for a group that looks offline, if it is time: a retained status may be late or lost.
    fn choose_probe(&mut self, now: Millis) -> Option<(TrackKey, u64)> {
        let silent = self.groups.by_name.values().filter(|group| !group.online && group.probe_at <= now);
        let silent: Vec<(u32, KindSet)> = silent.map(|group| (group.id, group.kinds)).collect();
        for (id, kinds) in silent {
            let found = self.choose_retry(now, Some(id)).or_else(|| {
                let mut tracks = self.tracks.keys().copied().filter(|(Reverse(kind), _)| kinds.contains(*kind));
                tracks.find_map(|key| Some((key, self.wanted_from(key, 0, now, Some(&[id]))?)))
            });
            if found.is_some() {
                let next = now.plus(self.timing.probe);
                self.groups.by_name.values_mut().filter(|group| group.id == id).for_each(|group| group.probe_at = next);
                return found;
            }
        }
        None
    }

    fn room_for(&self, kind: Kind) -> bool {
        self.out_of.get(&kind).is_none_or(|out| *out < KIND_WINDOW)
    }

    /// A record that was published and is due again; for one group only, or for all that look online.
    fn choose_retry(&self, now: Millis, only: Option<u32>) -> Option<(TrackKey, u64)> {
        let mut kind_of = None;
        let mut wanting = Vec::new();
        for (at, published) in &self.published {
            let kind = at.0.0.0;
            if published.out || published.due > now || (only.is_none() && !self.room_for(kind)) {
                continue;
            }
            if kind_of != Some(kind) {
                kind_of = Some(kind);
                wanting = self.groups.takers(kind);
                if let Some(only) = only {
                    wanting.retain(|id| *id == only);
                } else if !wanting.is_empty() {
                    wanting = self.groups.online_takers(kind);
                } else if self.wanted(*at, now, &[]) {
                    return Some(*at);
                }
            }
            if !wanting.is_empty() && self.wanted(*at, now, &wanting) {
                return Some(*at);
            }
        }
        None
    }

    /// Whether one of these groups needs a copy. Where there is none, the broker does.
    fn wanted(&self, (key, seq): (TrackKey, u64), now: Millis, by: &[u32]) -> bool {
        let Some(track) = self.tracks.get(&key).filter(|track| track.live.contains(seq)) else { return false };
        by.is_empty() || by.iter().any(|id| track.satisfied_to(*id, seq, now, self.timing.lease).is_none())
    }

    /// The next record of the backlog, which has no entry among the published.
    fn choose_fresh(&mut self, now: Millis) -> Option<(TrackKey, u64)> {
        let keys: Vec<TrackKey> = self.tracks.keys().copied().collect();
        for key in keys {
            let kind = key.0.0;
            if !self.room_for(kind) {
                continue;
            }
            let Some(hint) = self.tracks.get(&key).map(|track| track.hint) else { continue };
            let takers = self.groups.takers(kind);
            let online = self.groups.online_takers(kind);
            let found = match (takers.is_empty(), online.is_empty()) {
                (true, _) => self.wanted_from(key, hint, now, None),
                (false, true) => continue,
                (false, false) => self.wanted_from(key, hint, now, Some(&online)),
            };
            if let Some(track) = self.tracks.get_mut(&key) {
                track.hint = found.unwrap_or(u64::MAX);
            }
            if let Some(seq) = found {
                return Some((key, seq));
            }
        }
        None
    }

    /// The first record from `from` on that one of these groups needs a copy of and that is not among the published, nor
    /// in the live stream.
    fn wanted_from(&self, key: TrackKey, from: u64, now: Millis, by: Option<&[u32]>) -> Option<u64> {
        let track = self.tracks.get(&key)?;
        let end = if key.1 == OWN { self.live_from.get(&key.0).copied().unwrap_or(u64::MAX) } else { u64::MAX };
        let mut seq = from;
        loop {
            seq = track.live.next_from(seq).filter(|seq| *seq < end)?;
            let satisfied = by.and_then(|by| {
                // As soon as one group needs it, none is asked further.
                by.iter().try_fold(u64::MAX, |nearest, id| {
                    Some(nearest.min(track.satisfied_to(*id, seq, now, self.timing.lease)?))
                })
            });
            seq = match satisfied {
                Some(to) => to.checked_add(1)?,
                None if !self.published.contains_key(&(key, seq)) => return Some(seq),
                None => seq.checked_add(1)?,
            };
        }
    }

    fn publish(&mut self, key: TrackKey, seq: u64, now: Millis) -> Publish {
        let at = (key, seq);
        if self.published.len() >= MOST_PUBLISHED && !self.published.contains_key(&at) {
            // One that is due anyhow; the backlog finds it again.
            let spare = self.published.iter().rev().find(|(_, p)| !p.out && p.id.is_none()).map(|(at, _)| *at);
            if let Some(spare) = spare {
                self.forget_published(spare);
                if let Some(track) = self.tracks.get_mut(&spare.0) {
                    track.hint = track.hint.min(spare.1);
                }
            }
        }
        self.last_publish += 1;
        let id = self.last_publish;
        let published = self.published.entry(at).or_insert(Published {
            tries: 0,
            sent: now,
            due: now,
            overdue: false,
            out: false,
            id: None,
            acked: false,
        });
        let again = published.tries > 0;
        let doubled = self.timing.retry_after.saturating_mul(1u64.checked_shl(published.tries).unwrap_or(u64::MAX));
        let wait = doubled.min(self.timing.cap);
        published.tries = published.tries.saturating_add(1);
        published.sent = now;
        published.overdue = false;
        published.due = now.plus(wait.saturating_add(self.random.below(wait / 4 + 1)));
        published.acked = false;
        self.next_due = self.next_due.min(published.due);
        if !std::mem::replace(&mut published.out, true) {
            self.out += 1;
            *self.out_of.entry(key.0.0).or_default() += 1;
        }
        if let Some(before) = published.id.replace(id) {
            self.pending.remove(&before);
        }
        self.pending.insert(id, at);
        let boot = self.boots.get(&key.1).cloned();
        let boot = boot.unwrap_or_else(|| unreachable!("BUG: a track of a run that has no name"));
        Publish { id, boot, kind: key.0.0, seq, again }
    }

    fn next_wake(&self, now: Millis) -> Millis {
        let mut wake = self.next_due.min(self.next_lease);
        let mut consider = |at: Millis| {
            if at > now {
                wake = wake.min(at);
            }
        };
        consider(self.paced_to);
        if let Link::Subscribed(from) = self.link {
            consider(from);
        }
        if self.tracks.values().any(|track| !track.live.is_empty()) {
            self.groups.by_name.values().filter(|group| !group.online).for_each(|group| consider(group.probe_at));
        }
        // A record whose publish was lost may be due in the future of a caller's clock that stood still.
        wake.max(now.plus(1))
    }

    fn next_status(&self) -> Millis {
        let Some(last) = self.status_at else { return Millis::default() };
        if self.status_changed {
            // Several changes in a row become one message.
            return last.plus(1_000.min(self.timing.declare));
        }
        if self.losses.any_durable(self.durable) { last.plus(self.timing.declare) } else { Millis::NEVER }
    }
}
