//! The groups that a host waits for.

use std::collections::BTreeMap;

use wire::messages::{TierState, TierStatus};
use wire::{GroupName, Kind, MemberName, Timestamp};

use crate::{KindSet, Millis};

/// More groups than any fleet has: a broker that lets anyone announce groups must not fill a host's memory.
pub const MOST_GROUPS: usize = 64;
/// Members of a group, likewise.
const MOST_MEMBERS: usize = 256;

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    /// Unique in this run.
    pub(super) id: u32,
    pub(super) members: BTreeMap<MemberName, Member>,
    /// Named in `[spool] confirm_by`, and therefore waited for before it was ever seen.
    expected: bool,
    /// What its members take, together; everything, while an expected group was never seen.
    pub(super) kinds: KindSet,
    /// Whether some member is thought to be connected.
    pub(super) online: bool,
    /// When it may be probed again.
    pub(super) probe_at: Millis,
    /// When it last confirmed something.
    pub(super) heard_at: Millis,
}

#[derive(Debug)]
pub(super) struct Member {
    /// As announced; none for a member that has only confirmed so far.
    pub(super) kinds: KindSet,
    online: bool,
}

impl Group {
    fn look(&mut self) {
        let announced = self.members.values().map(|member| member.kinds).fold(KindSet::default(), KindSet::union);
        let unseen = self.expected && announced == KindSet::default();
        self.kinds = if unseen { KindSet::all() } else { announced };
        self.online = self.members.values().any(|member| member.online);
    }
}

/// All of them, and those that were retired.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_name: BTreeMap<GroupName, Group>,
    /// Announcements up to this moment are of the group that was retired.
    pub(super) retired: BTreeMap<GroupName, Timestamp>,
    pub(super) ids: u32,
}

/// What a status changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The groups, their members or kinds: what stands on disk.
    pub(super) kept: bool,
    /// Some group takes fewer kinds than before: from [`Groups::narrow`] on.
    pub(super) fewer: bool,
    /// Whether it looks online.
    pub(super) online: bool,
}

impl Groups {
    fn group(&mut self, name: &GroupName) -> Option<&mut Group> {
        if !self.by_name.contains_key(name) {
            if self.by_name.len() >= MOST_GROUPS {
                return None;
            }
            self.ids += 1;
            let group = Group {
                id: self.ids,
                members: BTreeMap::new(),
                expected: false,
                kinds: KindSet::default(),
                online: false,
                probe_at: Millis::default(),
                heard_at: Millis::default(),
            };
            self.by_name.insert(name.clone(), group);
        }
        self.by_name.get_mut(name)
    }

    /// A group of `confirm_by`. One that was retired stays so until it announces itself again.
    pub(super) fn expect(&mut self, name: &GroupName) {
        if self.retired.contains_key(name) {
            return;
        }
        if let Some(group) = self.group(name) {
            group.expected = true;
            group.look();
        }
    }

    /// A member as it stood on disk.
    pub(super) fn restore(&mut self, name: &GroupName, member: MemberName, kinds: KindSet) {
        if let Some(group) = self.group(name) {
            group.members.insert(member, Member { kinds, online: false });
            group.look();
        }
    }

    /// A durable member announced itself.
    pub(super) fn announced(&mut self, status: &TierStatus) -> Change {
        if self.retired.get(&status.group).is_some_and(|at| status.time <= *at) {
            return Change::default();
        }
        let mut change = Change { kept: self.retired.remove(&status.group).is_some(), ..Change::default() };
        let Some(group) = self.group(&status.group) else { return change };
        let (kinds, online) = (status.kinds.iter().copied().collect(), status.state == TierState::Online);
        let (before, was_online) = (group.kinds, group.online);
        let crowded = group.members.len() >= MOST_MEMBERS;
        match group.members.get_mut(&status.member) {
            Some(member) => {
                change.kept |= member.kinds != kinds;
                *member = Member { kinds, online };
            }
            None if crowded => return change,
            None => {
                change.kept = true;
                group.members.insert(status.member.clone(), Member { kinds, online });
            }
        }
        group.look();
        change.fewer = before.iter().any(|kind| !group.kinds.contains(kind));
        group.kinds = group.kinds.union(before);
        change.online = was_online != group.online;
        change
    }

    /// Groups take only what they announced. Not at once when they announce less than was thought: others that take it may
    /// announce themselves in the same moment.
    pub(super) fn narrow(&mut self) {
        self.by_name.values_mut().for_each(Group::look);
    }

    /// A member confirmed something, so it is online. The group's id, and whether it did not look online before.
    pub(super) fn heard(&mut self, name: &GroupName, member: &MemberName, now: Millis) -> Option<(u32, bool)> {
        let group = self.by_name.get_mut(name)?;
        group.heard_at = now;
        let was_online = group.online;
        let room = group.members.len() < MOST_MEMBERS;
        match group.members.get_mut(member) {
            Some(member) => member.online = true,
            None if room => {
                group.members.insert(member.clone(), Member { kinds: KindSet::default(), online: true });
            }
            None => {}
        }
        group.online = true;
        Some((group.id, !was_online))
    }

    /// A group let a record become due without a word since it was sent: it looks offline until it says something. Its
    /// exporters may be full; what it does not take must not keep the window from groups that take.
    pub(super) fn unheard(&mut self, id: u32, sent: Millis) {
        let silent = |group: &&mut Group| group.id == id && group.heard_at < sent;
        if let Some(group) = self.by_name.values_mut().find(silent) {
            group.members.values_mut().for_each(|member| member.online = false);
            group.online = false;
        }
    }

    /// Forgets a group. Its id, if it was known; `None` also where it is as good as retired already.
    pub(super) fn retire(&mut self, name: &GroupName, at: Timestamp) -> Option<u32> {
        let since = self.retired.entry(name.clone()).or_insert(at);
        *since = at.max(*since);
        // Also where the group was never known: names are free to whoever may write commands.
        while self.retired.len() > MOST_GROUPS {
            let oldest = self.retired.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.retired.remove(&name));
        }
        self.by_name.remove(name).map(|group| group.id)
    }

    /// Who takes a kind.
    pub(super) fn takers(&self, kind: Kind) -> Vec<u32> {
        self.by_name.values().filter(|group| group.kinds.contains(kind)).map(|group| group.id).collect()
    }

    /// Who takes a kind and looks online.
    pub(super) fn online_takers(&self, kind: Kind) -> Vec<u32> {
        let takes = |group: &&Group| group.online && group.kinds.contains(kind);
        self.by_name.values().filter(takes).map(|group| group.id).collect()
    }
}
