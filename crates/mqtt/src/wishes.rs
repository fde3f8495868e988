//! Which topic filters the caller wants, and what the present connection knows of them.

use std::collections::HashMap;

use rumqttc::ValidatedTopicFilter;

use crate::client::MOST_FILTERS;

/// The longest topic filter that MQTT can express, in bytes.
const LONGEST_FILTER: usize = 65_535;

/// What is wanted of a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Its messages; this connection's broker has not been asked for them.
    Wanted,
    /// Its messages; the broker was asked, and whatever it said, it is not asked again on this connection.
    Asked,
    /// Its messages; the broker refused them, but may not do so for ever.
    Refused,
    /// None of its messages, which no broker has confirmed yet.
    Unwanted,
}

/// The filters of a client.
#[derive(Debug, Default)]
pub(crate) struct Wishes(HashMap<String, Wish>);

impl Wishes {
    /// Wants the messages of this filter from now on, or says why that can't be.
    pub(crate) fn want(&mut self, filter: &str) -> Result<(), String> {
        if self.0.get(filter).is_none_or(|wish| *wish == Wish::Unwanted) {
            self.check(filter)?;
            self.0.insert(filter.to_owned(), Wish::Wanted);
        }
        Ok(())
    }

    /// Wants them no more, or says why that can't be.
    pub(crate) fn unwant(&mut self, filter: &str) -> Result<(), String> {
        self.check(filter)?;
        self.0.insert(filter.to_owned(), Wish::Unwanted);
        Ok(())
    }

    fn check(&self, filter: &str) -> Result<(), String> {
        if ValidatedTopicFilter::new(filter).is_err() || filter.contains('\0') || filter.len() > LONGEST_FILTER {
            Err(format!("{filter:?} is not a topic filter"))
        } else if self.0.len() >= MOST_FILTERS && !self.0.contains_key(filter) {
            Err(format!("a client may subscribe to at most {MOST_FILTERS} filters"))
        } else {
            Ok(())
        }
    }

    /// A new connection, whose broker was asked for nothing.
    ///
    /// Also where it kept the session: mosquitto 2.0 restores one from disk without its shared subscriptions, and says that
    /// it is there. Asking again for what stands costs a packet and changes nothing.
    pub(crate) fn begin(&mut self) {
        for wish in self.0.values_mut().filter(|wish| **wish != Wish::Unwanted) {
            *wish = Wish::Wanted;
        }
    }

    /// The filters to ask for now; they count as asked for.
    pub(crate) fn ask(&mut self) -> Vec<String> {
        self.take(Wish::Wanted)
    }

    /// The filters to ask for once more, likewise.
    pub(crate) fn ask_again(&mut self) -> Vec<String> {
        self.take(Wish::Refused)
    }

    fn take(&mut self, which: Wish) -> Vec<String> {
        let wishes = self.0.iter_mut().filter(|(_, wish)| **wish == which);
        let take = |(filter, wish): (&String, &mut Wish)| {
            *wish = Wish::Asked;
            filter.clone()
        };
        wishes.map(take).collect()
    }

    /// The broker refused this filter, but may not do so for ever. Says whether it is still wanted.
    pub(crate) fn refused(&mut self, filter: &str) -> bool {
        // It may have been withdrawn in the meantime.
        let wish = self.0.get_mut(filter).filter(|wish| **wish == Wish::Asked);
        wish.map(|wish| *wish = Wish::Refused).is_some()
    }

    /// The filters to withdraw.
    pub(crate) fn unwanted(&self) -> Vec<String> {
        self.0.iter().filter(|(_, wish)| **wish == Wish::Unwanted).map(|(filter, _)| filter.clone()).collect()
    }

    /// The broker has withdrawn these.
    pub(crate) fn withdrawn(&mut self, filters: &[String]) {
        self.0.retain(|filter, wish| *wish != Wish::Unwanted || !filters.contains(filter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_is_asked_for_once_a_connection_and_again_where_that_helps() {
        let mut wishes = Wishes::default();
        wishes.want("a").unwrap();
        assert_eq!(wishes.ask(), ["a"]);
        wishes.want("a").unwrap();
        assert!(wishes.ask().is_empty() && wishes.ask_again().is_empty());
        assert!(wishes.refused("a"));
        assert!(wishes.ask().is_empty());
        assert_eq!(wishes.ask_again(), ["a"]);
        wishes.begin();
        assert_eq!(wishes.ask(), ["a"]);
    }

    #[test]
    fn a_filter_is_withdrawn_until_a_broker_confirms_it_and_can_be_wanted_again() {
        let mut wishes = Wishes::default();
        wishes.want("a").unwrap();
        assert_eq!(wishes.ask(), ["a"]);
        wishes.unwant("a").unwrap();
        assert!(!wishes.refused("a"));
        wishes.begin();
        assert!(wishes.ask().is_empty());
        assert_eq!(wishes.unwanted(), ["a"]);
        // Wanted again before the broker has answered: its answer takes nothing away.
        wishes.want("a").unwrap();
        wishes.withdrawn(&["a".to_owned()]);
        assert_eq!(wishes.ask(), ["a"]);
        wishes.unwant("a").unwrap();
        wishes.withdrawn(&["a".to_owned()]);
        assert!(wishes.unwanted().is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut wishes = Wishes::default();
        (0..MOST_FILTERS).for_each(|n| wishes.want(&n.to_string()).unwrap());
        assert!(wishes.want("more").unwrap_err().contains("at most"));
        assert!(wishes.unwant("more").is_err());
        wishes.want("0").unwrap();
        wishes.unwant("0").unwrap();
        for bad in ["", "a#", "#/a", "a\0", &"x".repeat(70_000)] {
            assert!(Wishes::default().want(bad).is_err());
        }
    }
}
