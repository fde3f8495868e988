//! Which lines are meant.

use std::time::{Duration, SystemTime};

use clap::Args;
use daemon::config::duration;
use wire::Timestamp;
use wire::messages::Level;

use super::row::Row;
use crate::agent::moment;
use crate::command::CommandError;
use crate::glob;

/// What is looked at where nothing says a time.
const DAY: Duration = Duration::from_secs(86_400);

/// An hour in ms.
const HOUR: i64 = 3_600_000;

/// Which lines, as the command line has it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Lines")]
pub struct FilterArgs {
    /// Words of the message.
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Lines that hold this text, in their message or any of their fields.
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Lines of this long until now [default: 24h].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "from")]
    since: Option<Duration>,
    /// Lines from this time on: 2026-01-31T12:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Lines before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Timestamp>,
    /// Lines of this level and above, such as warn.
    #[arg(long, value_parser = level)]
    level: Option<Level>,
    /// Lines of exactly these levels.
    #[arg(long, value_name = "LEVEL", value_delimiter = ',', value_parser = level, conflicts_with = "level")]
    only_level: Vec<Level>,
    /// Lines of these services, by names or patterns with * and ?.
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    service: Vec<String>,
    /// Lines of these hosts, by names or patterns.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    host: Vec<String>,
    /// Lines of these categories, such as audit.
    #[arg(long, value_name = "CATEGORY", value_delimiter = ',')]
    category: Vec<String>,
    /// Lines of this trace.
    #[arg(long, value_name = "ID")]
    trace_id: Option<String>,
    /// Lines of this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

fn level(word: &str) -> Result<Level, String> {
    Level::from_word(word).ok_or_else(|| "choose from debug, info, warn, error, fatal".to_owned())
}

/// By time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    Newest,
    /// The oldest first.
    Oldest,
}

/// Which lines, checked.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this time on, if any; in ms since 1970.
    pub(super) from: Option<i64>,
    /// Before this time, if any.
    pub(super) to: Option<i64>,
    /// In lower case, as ClickHouse cuts a message: letters, digits, and whatever is not ASCII.
    pub(super) words: Vec<String>,
    pub(super) grep: Option<String>,
    /// All if there are none.
    pub(super) levels: Vec<Level>,
    pub(super) services: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) categories: Vec<String>,
    pub(super) trace_id: Option<String>,
    pub(super) request_id: Option<String>,
}

const LEVELS: [Level; 5] = [Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];

impl FilterArgs {
    /// Checks them. A time is that of the last 24 hours where nothing is said, `bounded` or not one of the ids given.
    pub fn filter(self) -> Result<Filter, CommandError> {
        let now = Timestamp::from(SystemTime::now());
        self.filter_at(now)
    }

    fn filter_at(self, now: Timestamp) -> Result<Filter, CommandError> {
        let has_id = self.trace_id.is_some() || self.request_id.is_some();
        let from = match (self.since, self.from) {
            (Some(since), _) => Some(now.minus(since)),
            (None, Some(from)) => Some(from),
            (None, None) if has_id => None,
            (None, None) => Some(self.to.unwrap_or(now).minus(DAY)),
        };
        if let (Some(from), Some(to)) = (from, self.to)
            && from >= to
        {
            return Err(CommandError::Usage(format!("there is no time from {from} to {to}: --to must be later")));
        }
        let mut words = Vec::new();
        for word in &self.words {
            let parts =
                word.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
            let before = words.len();
            words.extend(parts.map(str::to_ascii_lowercase));
            if words.len() == before {
                return Err(CommandError::Usage(format!(
                    "{word:?} has no letter or digit: words are looked for; --grep finds any text"
                )));
            }
        }
        let levels = match self.level {
            Some(least) => LEVELS.into_iter().filter(|level| *level >= least).collect(),
            None => self.only_level,
        };
        Ok(Filter {
            from: from.map(Timestamp::as_millis),
            to: self.to.map(Timestamp::as_millis),
            words,
            grep: self.grep.filter(|text| !text.is_empty()),
            levels,
            services: self.service,
            hosts: self.host,
            categories: self.category,
            trace_id: self.trace_id,
            request_id: self.request_id,
        })
    }
}

impl Filter {
    /// Audit records of these hosts, of any time.
    pub(super) fn audit(hosts: Vec<String>) -> Self {
        Self { hosts, categories: vec![wire::chain::CATEGORY.to_owned()], ..Self::default() }
    }

    /// The same, from the beginning of the first hour to the end of the last one.
    pub(super) fn in_whole_hours(mut self) -> Self {
        let floor = |ms: i64| ms.div_euclid(HOUR) * HOUR;
        self.from = self.from.map(floor);
        self.to = self.to.map(|to| floor(to + HOUR - 1));
        self
    }

    /// In words.
    pub(super) fn time(&self) -> String {
        let text = |ms: i64| Timestamp::from_millis(ms).to_string();
        match (self.from, self.to) {
            (None, None) => "of any time".to_owned(),
            (Some(from), None) => format!("from {} on", text(from)),
            (None, Some(to)) => format!("before {}", text(to)),
            (Some(from), Some(to)) => format!("from {} to {}", text(from), text(to)),
        }
    }

    /// What of it a store without such functions leaves to us.
    pub(super) fn takes_text(&self, row: &Row) -> bool {
        self.words.iter().all(|word| has_word(&row.message, word))
            && self.grep.as_ref().is_none_or(|text| row.texts().any(|of| of.contains(text.as_str())))
    }
}

fn has_word(message: &str, word: &str) -> bool {
    message.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()).any(|token| token.eq_ignore_ascii_case(word))
}

/// A condition on a column that is one of several texts, some of them patterns.
pub(super) fn names(list: &[String]) -> (Vec<&String>, Vec<&String>) {
    list.iter().partition(|name| !glob::is_pattern(name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn filter(words: &[&str]) -> Result<Filter, String> {
        let line = Line::try_parse_from(["x"].iter().chain(words)).map_err(|error| error.to_string())?;
        let now = "2026-11-22T12:30:00Z".parse().unwrap();
        line.filter.filter_at(now).map_err(|error| error.to_string())
    }

    #[test]
    fn a_day_is_looked_at_unless_something_is_said() {
        let time = |words: &[&str]| filter(words).unwrap().time();
        assert_eq!(time(&[]), "from 2026-11-21T12:30:00.000Z on");
        assert_eq!(time(&["--since", "1h"]), "from 2026-11-22T11:30:00.000Z on");
        assert_eq!(time(&["--trace-id", "x"]), "of any time");
        assert_eq!(time(&["--trace-id", "x", "--to", "0"]), "before 1970-01-01T00:00:00.000Z");
        let day = time(&["--to", "2026-01-02T00:00:00Z"]);
        assert_eq!(day, "from 2026-01-01T00:00:00.000Z to 2026-01-02T00:00:00.000Z");
        let hours = filter(&["--from", "1970-01-01T01:30:00Z", "--to", "1970-01-01T02:00:01Z"]).unwrap();
        assert_eq!(hours.in_whole_hours().time(), "from 1970-01-01T01:00:00.000Z to 1970-01-01T03:00:00.000Z");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (words, part) in [
            (&["--level", "loud"][..], "choose from debug, info, warn, error, fatal"),
            (&["--from", "2", "--to", "1"], "there is no time from"),
            (&["--from", "yesterday"], "seconds since 1970"),
            (&["--since", "soon"], "is not a duration"),
            (&["--since", "1h", "--from", "1"], "cannot be used with"),
            (&["..."], "has no letter or digit"),
        ] {
            let error = filter(words).unwrap_err();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }

    #[test]
    fn words_are_cut_as_the_store_cuts_messages() {
        assert_eq!(filter(&["User-17", "größe"]).unwrap().words, ["user", "17", "größe"]);
        let row = crate::logs::row::tests::row("Connection REFUSED by user_17");
        let takes = |words: &[&str]| filter(words).unwrap().takes_text(&row);
        assert!(takes(&["refused"]) && takes(&["Connection", "17"]) && takes(&["--grep", "n REF"]));
        assert!(!takes(&["refuse"]) && !takes(&["refused", "now"]) && !takes(&["--grep", "refused"]));
        assert!(takes(&["--grep", "checkout"]) && takes(&["--grep", "7"]));
    }

    #[test]
    fn a_level_means_it_and_what_is_worse() {
        assert_eq!(filter(&["--level", "WARNING"]).unwrap().levels, [Level::Warn, Level::Error, Level::Fatal]);
        assert_eq!(filter(&["--only-level", "info,critical"]).unwrap().levels, [Level::Info, Level::Fatal]);
        assert!(filter(&[]).unwrap().levels.is_empty());
    }
}
