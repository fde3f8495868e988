//! Recurring times, as Alertmanager's `time_intervals`: weekdays, days, months, years and hours in a time zone.

use std::ops::RangeInclusive;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use wire::Timestamp;

/// `[[notify.time_intervals]]`: a name for times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimesSection {
    /// What routes call it.
    pub name: String,
    /// Any of these.
    pub time_intervals: Vec<TimesEntry>,
}

/// All that is given has to hold; of each list, any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimesEntry {
    /// From and to, as `09:00`; the end does not belong to it and may be `24:00`.
    pub times: Vec<HoursSection>,
    /// `monday`, or `monday:friday`. The week begins with Sunday.
    pub weekdays: Vec<String>,
    /// `1`, `1:7`, or from the month's end: `-1`, `-3:-1`.
    pub days_of_month: Vec<String>,
    /// `may`, `5`, or `april:june`.
    pub months: Vec<String>,
    /// `2026`, or `2026:2028`.
    pub years: Vec<String>,
    /// A zone's name, such as `Europe/Berlin`; UTC where absent.
    pub location: Option<String>,
}

/// Hours of a day.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoursSection {
    /// The first minute, as `09:00`.
    pub start_time: String,
    /// The minute after the last.
    pub end_time: String,
}

/// Finds a time zone by its name.
pub type Zones<'a> = dyn Fn(&str) -> Option<TimeZone> + 'a;

/// Times as relied upon.
#[derive(Debug, Clone)]
pub struct Times(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    /// Minutes of the day.
    times: Vec<(u16, u16)>,
    /// 0 is Sunday.
    weekdays: Vec<RangeInclusive<i16>>,
    days: Vec<RangeInclusive<i16>>,
    months: Vec<RangeInclusive<i16>>,
    years: Vec<RangeInclusive<i16>>,
    zone: TimeZone,
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl Times {
    /// Checks what was written. An error names the key within the section, and what is wrong.
    pub fn new(section: &TimesSection, zones: &Zones<'_>) -> Result<Self, (String, String)> {
        let entries = section.time_intervals.iter().enumerate().map(|(at, entry)| {
            Entry::new(entry, zones).map_err(|(key, error)| (format!("time_intervals[{at}].{key}"), error))
        });
        Ok(Self(entries.collect::<Result<_, _>>()?))
    }

    /// Whether a moment lies within them.
    pub fn contain(&self, time: Timestamp) -> bool {
        let Ok(time) = jiff::Timestamp::from_millisecond(time.as_millis()) else { return false };
        self.0.iter().any(|entry| entry.contains(time))
    }
}

impl Entry {
    fn new(entry: &TimesEntry, zones: &Zones<'_>) -> Result<Self, (&'static str, String)> {
        let zone = match entry.location.as_deref() {
            None | Some("UTC") => TimeZone::UTC,
            Some(name) => zones(name).ok_or_else(|| ("location", format!("the system knows no time zone {name:?}")))?,
        };
        let ranges = |key: &'static str, texts: &[String], number: &dyn Fn(&str) -> Option<i16>, allowed: &str| {
            let ranges = texts.iter().map(|text| {
                range(text, number).ok_or_else(|| (key, format!("{text:?} is not {allowed}, or two with a colon")))
            });
            ranges.collect::<Result<Vec<_>, _>>()
        };
        let name = |names: &'static [&'static str], first: i16| {
            move |text: &str| {
                let at = names.iter().position(|name| *name == text.to_lowercase());
                at.and_then(|at| i16::try_from(at).ok()).map(|at| at + first)
            }
        };
        let weekday = name(&WEEKDAYS, 0);
        let month = name(&MONTHS, 1);
        let within = |text: &str, from: i16, to: i16| text.parse().ok().filter(|n: &i16| (from..=to).contains(n));
        let day = |text: &str| within(text, -31, 31).filter(|day| *day != 0);
        let days = entry.days_of_month.iter().map(|text| {
            let fault =
                || ("days_of_month", format!("{text:?} is not a day from 1 to 31 or -31 to -1, or two with a colon"));
            let (first, last) = ends(text, &day).ok_or_else(fault)?;
            // From one counted from the beginning to one from the end is fine; otherwise they have an order.
            let ordered = if (first > 0) == (last > 0) { first <= last } else { first > 0 };
            if ordered { Ok(first..=last) } else { Err(fault()) }
        });
        let times = entry.times.iter().map(|hours| {
            let minute =
                |text: &str| minute(text).ok_or_else(|| ("times", format!("{text:?} is not a time such as 09:00")));
            let (start, end) = (minute(&hours.start_time)?, minute(&hours.end_time)?);
            match start < end {
                true => Ok((start, end)),
                false => Err(("times", format!("{} is not before {}", hours.start_time, hours.end_time))),
            }
        });
        Ok(Self {
            times: times.collect::<Result<_, _>>()?,
            weekdays: ranges("weekdays", &entry.weekdays, &weekday, "a weekday")?,
            days: days.collect::<Result<_, _>>()?,
            months: ranges("months", &entry.months, &|text| month(text).or_else(|| within(text, 1, 12)), "a month")?,
            years: ranges("years", &entry.years, &|text| within(text, 0, 9999), "a year")?,
            zone,
        })
    }

    fn contains(&self, time: jiff::Timestamp) -> bool {
        let local = self.zone.to_datetime(time);
        let (date, clock) = (local.date(), local.time());
        let minute = u16::from(clock.hour().unsigned_abs()) * 60 + u16::from(clock.minute().unsigned_abs());
        let any = |ranges: &[RangeInclusive<i16>], value: i16| {
            ranges.is_empty() || ranges.iter().any(|range| range.contains(&value))
        };
        (self.times.is_empty() || self.times.iter().any(|(start, end)| (*start..*end).contains(&minute)))
            && any(&self.weekdays, i16::from(date.weekday().to_sunday_zero_offset()))
            && any(&self.months, i16::from(date.month()))
            && any(&self.years, date.year())
            && (self.days.is_empty() || self.days.iter().any(|range| day_within(range, date)))
    }
}

/// A negative day counts from the month's end; what lies before its beginning begins with it.
fn day_within(range: &RangeInclusive<i16>, date: Date) -> bool {
    let length = i16::from(date.days_in_month());
    let of = |day: i16| if day < 0 { length + 1 + day } else { day };
    let (first, last) = (of(*range.start()).max(1), of(*range.end()).min(length));
    (first..=last).contains(&i16::from(date.day()))
}

fn ends(text: &str, number: &dyn Fn(&str) -> Option<i16>) -> Option<(i16, i16)> {
    match text.split_once(':') {
        Some((first, last)) => Some((number(first.trim())?, number(last.trim())?)),
        None => number(text.trim()).map(|only| (only, only)),
    }
}

fn range(text: &str, number: &dyn Fn(&str) -> Option<i16>) -> Option<RangeInclusive<i16>> {
    ends(text, number).filter(|(first, last)| first <= last).map(|(first, last)| first..=last)
}

/// The minute of the day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(build: impl FnOnce(&mut TimesEntry)) -> Result<Times, (String, String)> {
        let mut entry = TimesEntry::default();
        build(&mut entry);
        // One hour before UTC the whole year.
        let zones = |name: &str| (name == "Test/East").then(|| TimeZone::fixed(jiff::tz::offset(1)));
        Times::new(&TimesSection { name: "t".to_owned(), time_intervals: vec![entry] }, &zones)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn hours(start: &str, end: &str) -> Vec<HoursSection> {
        vec![HoursSection { start_time: start.to_owned(), end_time: end.to_owned() }]
    }

    fn contain(times: &Times, time: &str) -> bool {
        times.contain(time.parse().unwrap())
    }

    #[test]
    fn a_working_week_in_a_zone() {
        let times = entry(|entry| {
            entry.weekdays = texts(&["Monday:friday"]);
            entry.times = hours("09:00", "17:00");
            entry.location = Some("Test/East".to_owned());
        })
        .unwrap();
        // 2026-11-20 was a Friday.
        assert!(contain(&times, "2026-11-20T08:00:00Z") && contain(&times, "2026-11-20T15:59:59Z"));
        assert!(!contain(&times, "2026-11-20T07:59:59Z") && !contain(&times, "2026-11-20T16:00:00Z"));
        assert!(!contain(&times, "2026-11-21T10:00:00Z"));
        let empty = Times::new(&TimesSection::default(), &|_| None).unwrap();
        assert!(!contain(&empty, "2026-11-20T08:00:00Z"));
    }

    #[test]
    fn days_count_from_both_ends_of_a_month() {
        let days = |text: &str| entry(|entry| entry.days_of_month = texts(&[text])).unwrap();
        assert!(contain(&days("-1"), "2028-02-29T00:00:00Z") && !contain(&days("-1"), "2028-02-28T00:00:00Z"));
        assert!(contain(&days("-3:-1"), "2026-11-28T00:00:00Z") && contain(&days("29:31"), "2026-11-30T00:00:00Z"));
        assert!(contain(&days("1:-1"), "2026-11-15T12:00:00Z"));
        let months = entry(|entry| {
            entry.months = texts(&["april:june", "12"]);
            entry.years = texts(&["2026"]);
        });
        let months = months.unwrap();
        assert!(contain(&months, "2026-05-01T00:00:00Z") && contain(&months, "2026-12-31T00:00:00Z"));
        assert!(!contain(&months, "2026-11-01T00:00:00Z") && !contain(&months, "2027-05-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_key() {
        let key = |build: &dyn Fn(&mut TimesEntry)| entry(|entry| build(entry)).unwrap_err().0;
        assert_eq!(key(&|entry| entry.weekdays = texts(&["freitag"])), "time_intervals[0].weekdays");
        assert_eq!(key(&|entry| entry.weekdays = texts(&["friday:monday"])), "time_intervals[0].weekdays");
        assert_eq!(key(&|entry| entry.days_of_month = texts(&["0"])), "time_intervals[0].days_of_month");
        assert_eq!(key(&|entry| entry.days_of_month = texts(&["-1:5"])), "time_intervals[0].days_of_month");
        assert_eq!(key(&|entry| entry.months = texts(&["13"])), "time_intervals[0].months");
        assert_eq!(key(&|entry| entry.times = hours("17:00", "9:00")), "time_intervals[0].times");
        assert_eq!(key(&|entry| entry.times = hours("17:00", "24:01")), "time_intervals[0].times");
        assert_eq!(key(&|entry| entry.location = Some("Mars".to_owned())), "time_intervals[0].location");
    }
}
