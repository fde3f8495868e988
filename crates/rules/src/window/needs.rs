//! What of the needs of all rules a series is kept for.

use std::collections::HashMap;

use thiserror::Error;

use super::SLACK;
use super::store::{Id, Store};
use crate::ast::{Millis, Selector};
use crate::needs::Need;
use crate::sample::NAME;

/// A rule looks back further than the window is allowed to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{selector} is needed for {back} s back, but the window keeps at most {max_age} s: shorten the range, or raise the \
     limit on the window's age"
)]
pub struct TooLong {
    /// What is needed.
    pub selector: String,
    /// For how many seconds.
    pub back: Millis,
    /// How many there may be.
    pub max_age: Millis,
}

/// A need, and the series that are there for it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) selector: Selector,
    pub(super) back: Millis,
    /// From this time on all samples are there, as far as it looks back.
    pub(super) since: Option<Millis>,
    /// Sorted by labels.
    pub(super) series: Vec<Id>,
    /// Series of the present round that the limit left out.
    pub(super) left_out: usize,
}

impl Wanted {
    /// Whether a series with such labels is wanted.
    fn matches<'v>(&self, value: impl Fn(&str) -> &'v str) -> bool {
        self.selector.matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)))
    }
}

/// The needs of all rules, each selector once.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) all: Vec<Wanted>,
    /// Some may not know yet since when samples are there.
    pub(super) fresh: bool,
    /// Those that name a metric, by its name.
    named: HashMap<String, Vec<u32>>,
    /// The others.
    unnamed: Vec<u32>,
}

impl Needs {
    /// Puts needs in order.
    pub(super) fn new(needs: impl IntoIterator<Item = Need>, max_age: Millis) -> Result<Self, TooLong> {
        let mut new = Self { fresh: true, ..Self::default() };
        for Need { selector, back } in needs {
            if back > max_age {
                let (back, max_age) = (back / 1000, max_age / 1000);
                return Err(TooLong { selector: selector.to_string(), back, max_age });
            }
            if let Some(known) = new.find(&selector) {
                if let Some(wanted) = new.all.get_mut(known as usize) {
                    wanted.back = wanted.back.max(back);
                }
                continue;
            }
            let at = u32::try_from(new.all.len()).unwrap_or(u32::MAX);
            match selector.metric() {
                Some(name) => new.named.entry(name.to_owned()).or_default().push(at),
                None => new.unnamed.push(at),
            }
            new.all.push(Wanted { selector, back, since: None, series: Vec::new(), left_out: 0 });
        }
        Ok(new)
    }

    fn get(&self, at: u32) -> Option<&Wanted> {
        self.all.get(at as usize)
    }

    fn find(&self, selector: &Selector) -> Option<u32> {
        let same = |at: &u32| self.get(*at).is_some_and(|wanted| wanted.selector.matchers == selector.matchers);
        let among = match selector.metric() {
            Some(name) => self.named.get(name)?,
            None => &self.unnamed,
        };
        among.iter().copied().find(same)
    }

    /// The need of exactly this selector.
    pub(super) fn of_selector(&self, selector: &Selector) -> Option<&Wanted> {
        self.get(self.find(selector)?)
    }

    /// The needs that series of a metric may be kept for.
    pub(super) fn of_name(&self, name: &str) -> impl Iterator<Item = u32> {
        let named = self.named.get(name).map_or(&[][..], Vec::as_slice);
        named.iter().chain(&self.unnamed).copied().filter(|at| {
            let names = |wanted: &Wanted| wanted.selector.matchers.iter().all(|m| m.name != NAME || m.matches(name));
            self.get(*at).is_some_and(names)
        })
    }

    /// Which of some needs a series is kept for.
    pub(super) fn matching<'v>(&self, among: &[u32], value: impl Fn(&str) -> &'v str) -> Vec<u32> {
        let matches = |at: &u32| self.get(*at).is_some_and(|wanted| wanted.matches(&value));
        among.iter().copied().filter(matches).collect()
    }

    /// How long samples are kept for some needs.
    pub(super) fn keep(&self, needs: &[u32]) -> Millis {
        let longest = needs.iter().filter_map(|at| self.get(*at)).map(|wanted| wanted.back).max();
        longest.unwrap_or(0).max(0).saturating_add(SLACK)
    }

    /// Notes that a series is there.
    pub(super) fn add(&mut self, needs: &[u32], id: Id, store: &Store) {
        let Some(held) = store.get(id) else { return };
        for at in needs {
            if let Some(wanted) = self.all.get_mut(*at as usize)
                && let Err(place) = store.position(&wanted.series, &held.labels)
            {
                wanted.series.insert(place, id);
            }
        }
    }

    /// Notes that series are no longer there.
    pub(super) fn forget_removed(&mut self, store: &Store) {
        for wanted in &mut self.all {
            wanted.series.retain(|id| store.get(*id).is_some());
            if wanted.series.len() * 4 < wanted.series.capacity() {
                wanted.series.shrink_to_fit();
            }
        }
    }

    /// Takes over what the needs before knew about the same selectors. `newest` is the time of the newest round.
    pub(super) fn take_over(&mut self, before: &Self, newest: Option<Millis>) {
        for wanted in &mut self.all {
            let Some(known) = before.of_selector(&wanted.selector) else { continue };
            wanted.since = known.since;
            if wanted.back > known.back
                && let (Some(since), Some(newest)) = (known.since, newest)
            {
                wanted.since = Some(since.max(newest.saturating_sub(known.back)));
            }
        }
    }
}
