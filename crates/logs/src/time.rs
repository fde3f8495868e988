//! Times, as loggers write them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use wire::Timestamp;

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const WEEKDAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];

/// Short names of zones that may stand behind a time. Most mean several zones, so they are taken for the input's own; to
/// know them keeps words that follow a time, such as levels, from being taken for one.
const ZONE_NAMES: &[&str] = &[
    "CET", "CEST", "EET", "EEST", "WET", "WEST", "BST", "IST", "MSK", "JST", "KST", "HKT", "SGT", "PST", "PDT", "MST",
    "MDT", "CST", "CDT", "EST", "EDT", "AEST", "AEDT", "ACST", "AWST", "NZST", "NZDT", "BRT", "SAST", "EAT", "WAT",
    "CAT", "PKT", "WIB",
];

/// Where times without zone are at home.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    zone: TimeZone,
    /// Milliseconds ahead of UTC, where that is always the same.
    fixed: Option<i64>,
}

impl Zone {
    pub(crate) fn new(zone: TimeZone) -> Self {
        let fixed = zone.to_fixed_offset().ok().map(|offset| i64::from(offset.seconds()) * 1000);
        Self { zone, fixed }
    }

    pub(crate) fn utc() -> Self {
        Self::new(TimeZone::UTC)
    }

    /// When it is so late here. What a change of the clocks leaves out or has twice is taken as the time before it.
    fn at(&self, civil: &Civil) -> Option<i64> {
        let there = civil.millis()?;
        if let Some(ahead) = self.fixed {
            return Some(there - ahead);
        }
        let small = |number: i64| i8::try_from(number).ok();
        let time = DateTime::new(
            i16::try_from(civil.year).ok()?,
            small(civil.month)?,
            small(civil.day)?,
            small(civil.hour)?,
            small(civil.minute)?,
            small(civil.second.min(59))?,
            0,
        );
        let time = self.zone.to_timestamp(time.ok()?).ok()?;
        Some(time.as_millisecond() + civil.milli)
    }

    /// The year that it is here at this moment.
    fn year(&self, now: Timestamp) -> i64 {
        let now = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        i64::from(self.zone.to_datetime(now).year())
    }
}

/// A date and a time of the day, wherever.
#[derive(Debug, Clone, Copy)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    milli: i64,
}

impl Civil {
    /// Milliseconds since 1970 if it is meant in UTC.
    fn millis(&self) -> Option<i64> {
        let Self { year, month, day, .. } = *self;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        // A second of 60 is one that was let in.
        let right = (1..=9999).contains(&year) && (1..=days).contains(&day);
        if !right || self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        // Years that begin in March have their leap day at the end.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
        Some(((days * 24 + self.hour) * 60 + self.minute) * 60_000 + self.second * 1000 + self.milli)
    }
}

/// The time that a text is.
pub(crate) fn whole(text: &str, zone: &Zone, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if let Some((time, end)) = leading(text, zone, now)
        && end == text.len()
    {
        return Some(time);
    }
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    if is_number && let Some(time) = of_number(text) {
        return Some(time);
    }
    text.parse().ok()
}

/// A time that says its zone, as programs write it for programs.
pub(crate) fn zoned(text: &str) -> Option<Timestamp> {
    // What is not plainly right is for the reader that knows all of RFC 3339.
    whole(text, &Zone { zone: TimeZone::UTC, fixed: Some(0) }, Timestamp::from_millis(0))
}

/// Since 1970: seconds below 10^11 (the year 5138), then milliseconds, microseconds from 10^14 and nanoseconds from 10^17.
pub(crate) fn of_number(text: &str) -> Option<Timestamp> {
    let number: f64 = text.trim().parse().ok()?;
    let millis = match number.abs() {
        size if size < 1e11 => number * 1000.0,
        size if size < 1e14 => number,
        size if size < 1e17 => number / 1e3,
        size if size < 1e20 => number / 1e6,
        _ => return None,
    };
    Some(Timestamp::from_millis(millis as i64))
}

/// The time that a text begins with, and how many bytes it takes.
pub(crate) fn leading(text: &str, zone: &Zone, now: Timestamp) -> Option<(Timestamp, usize)> {
    let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
    let first = *cursor.bytes.first()?;
    let millis = if first.is_ascii_digit() {
        // `22/Nov/2026:` has its day first.
        match cursor.bytes.get(2) {
            Some(b'/') => cursor.common(zone)?,
            _ => cursor.iso(zone)?,
        }
    } else if first.is_ascii_alphabetic() {
        cursor.with_month(zone, now)?
    } else {
        return None;
    };
    Some((Timestamp::from_millis(millis), cursor.at))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eats = self.peek() == Some(byte);
        self.at += usize::from(eats);
        eats
    }

    fn need(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let text = self.bytes.get(self.at..self.at + digits)?;
        let number = text.iter().try_fold(0, |number, byte| match byte {
            b'0'..=b'9' => Some(number * 10 + i64::from(byte - b'0')),
            _ => None,
        })?;
        self.at += digits;
        Some(number)
    }

    fn is_digit(&self) -> bool {
        self.peek().is_some_and(|byte| byte.is_ascii_digit())
    }

    /// One of these words of three letters, in any case.
    fn word(&mut self, words: &[&[u8; 3]]) -> Option<i64> {
        let text = self.bytes.get(self.at..self.at + 3)?;
        let found = words.iter().position(|word| text.eq_ignore_ascii_case(*word))?;
        self.at += 3;
        i64::try_from(found).ok()
    }

    /// `14:18:12`, with a fraction behind a point or comma.
    fn clock(&mut self, civil: &mut Civil) -> Option<()> {
        civil.hour = self.number(2)?;
        self.need(b':')?;
        civil.minute = self.number(2)?;
        if !self.eat(b':') {
            return Some(());
        }
        civil.second = self.number(2)?;
        let is_fraction =
            matches!(self.peek(), Some(b'.' | b',')) && self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit);
        if is_fraction {
            self.at += 1;
            let mut weight = 100;
            while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
                civil.milli += i64::from(digit - b'0') * weight;
                weight /= 10;
                self.at += 1;
            }
        }
        Some(())
    }

    /// What says how far ahead of UTC a time is, in milliseconds; the input's zone where nothing does.
    fn zone(&mut self, civil: &Civil, zone: &Zone) -> Option<i64> {
        let before = self.at;
        let spaced = self.eat(b' ');
        match self.peek() {
            Some(b'Z' | b'z') if !self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_alphanumeric) => {
                self.at += 1;
                return civil.millis();
            }
            Some(sign @ (b'+' | b'-')) => {
                self.at += 1;
                if let Some(minutes) = self.offset(spaced) {
                    let ahead = minutes * 60_000;
                    return civil.millis().map(|millis| if sign == b'+' { millis - ahead } else { millis + ahead });
                }
            }
            Some(byte) if byte.is_ascii_uppercase() => {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let length = rest.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
                let name = rest.get(..length).unwrap_or_default();
                let ends = rest.get(length).is_none_or(|byte| !byte.is_ascii_alphanumeric());
                if ends && (name == b"UTC" || name == b"GMT") {
                    self.at += length;
                    return civil.millis();
                }
                if ends && ZONE_NAMES.iter().any(|known| known.as_bytes() == name) {
                    self.at += length;
                    return zone.at(civil);
                }
            }
            _ => {}
        }
        self.at = before;
        zone.at(civil)
    }

    /// `01`, `0100` or `01:00` behind a sign. Behind a blank it must have minutes: what follows a time may be a dash.
    fn offset(&mut self, spaced: bool) -> Option<i64> {
        let hours = self.number(2)?;
        let colon = self.eat(b':');
        let minutes = match self.number(2) {
            Some(minutes) => minutes,
            None if !spaced && !colon => 0,
            None => return None,
        };
        (hours <= 18 && minutes < 60 && !self.is_digit()).then_some(hours * 60 + minutes)
    }

    /// `2026-11-22T14:18:12.000Z` and its relatives: with a blank, with slashes, without zone.
    fn iso(&mut self, zone: &Zone) -> Option<i64> {
        let mut civil = Civil { year: self.number(4)?, month: 0, day: 0, hour: 0, minute: 0, second: 0, milli: 0 };
        let separator = self.peek().filter(|byte| matches!(byte, b'-' | b'/' | b'.'))?;
        self.at += 1;
        civil.month = self.number(2)?;
        self.need(separator)?;
        civil.day = self.number(2)?;
        if !matches!(self.peek(), Some(b'T' | b't' | b' ' | b'_')) {
            return None;
        }
        self.at += 1;
        self.clock(&mut civil)?;
        self.zone(&civil, zone)
    }

    /// `22/Nov/2026:14:18:12 +0000`
    fn common(&mut self, zone: &Zone) -> Option<i64> {
        let day = self.number(2)?;
        self.need(b'/')?;
        let month = self.word(&MONTHS)? + 1;
        self.need(b'/')?;
        let year = self.number(4)?;
        self.need(b':').or_else(|| self.need(b' '))?;
        let mut civil = Civil { year, month, day, hour: 0, minute: 0, second: 0, milli: 0 };
        self.clock(&mut civil)?;
        self.zone(&civil, zone)
    }

    /// `Nov 22 14:18:12`, `Sun Nov 22 14:18:12.123 2026`, `Sun Nov 22 14:18:12 UTC 2026`, `Sun, 22 Nov 2026 14:18:12 +0000`
    fn with_month(&mut self, zone: &Zone, now: Timestamp) -> Option<i64> {
        let mut civil = Civil { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0, milli: 0 };
        if self.word(&WEEKDAYS).is_some() {
            self.eat(b',');
            self.need(b' ')?;
        }
        if self.is_digit() {
            civil.day = self.day()?;
            self.need(b' ')?;
            civil.month = self.word(&MONTHS)? + 1;
            self.need(b' ')?;
            civil.year = self.number(4)?;
            self.need(b' ')?;
            self.clock(&mut civil)?;
            return self.zone(&civil, zone);
        }
        civil.month = self.word(&MONTHS)? + 1;
        self.need(b' ')?;
        self.eat(b' ');
        civil.day = self.day()?;
        self.need(b' ')?;
        // As Cisco's devices write it.
        if self.bytes.get(self.at + 4) == Some(&b' ') {
            civil.year = self.number(4)?;
            self.need(b' ')?;
        }
        self.clock(&mut civil)?;
        if civil.year != 0 {
            return self.zone(&civil, zone);
        }
        // A year behind it belongs to it, with a zone between the two or without.
        let here = self.at;
        let year_behind = |cursor: &mut Self| {
            cursor.need(b' ')?;
            cursor.number(4).filter(|year| (1900..2200).contains(year) && !cursor.is_digit())
        };
        if let Some(year) = year_behind(self) {
            civil.year = year;
            return zone.at(&civil);
        }
        self.at = here;
        let of_any_year = Civil { year: 2000, ..civil };
        if let (Some(then), Some(plain)) = (self.zone(&of_any_year, zone), zone.at(&of_any_year))
            && self.at != here
        {
            let after_zone = self.at;
            let year = year_behind(self);
            if year.is_none() {
                self.at = after_zone;
            }
            let at = match year {
                Some(year) => zone.at(&Civil { year, ..civil })?,
                None => nearest_year(&civil, zone, now)?,
            };
            return Some(at + (then - plain));
        }
        self.at = here;
        nearest_year(&civil, zone, now)
    }

    fn day(&mut self) -> Option<i64> {
        if self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit) { self.number(2) } else { self.number(1) }
    }
}

/// A line without year is of the last one in which it lies not ahead; two days are left for clocks that are.
fn nearest_year(civil: &Civil, zone: &Zone, now: Timestamp) -> Option<i64> {
    const AHEAD: i64 = 2 * 86_400_000;
    let year = zone.year(now);
    // Eight years back: one for the 29th of February.
    let mut years = (year - 8..=year + 1).rev().filter_map(|year| zone.at(&Civil { year, ..*civil }));
    years.find(|at| *at <= now.as_millis() + AHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T14:30:00Z".parse().unwrap()
    }

    fn read(text: &str) -> Option<String> {
        whole(text, &Zone::utc(), now()).map(|time| time.to_string())
    }

    #[test]
    fn times_are_read_as_loggers_write_them() {
        for (text, expected) in [
            ("2026-11-22T14:18:12.345Z", "2026-11-22T14:18:12.345Z"),
            ("2026-11-22T14:18:12Z", "2026-11-22T14:18:12.000Z"),
            ("2026-11-22t14:18:12.3z", "2026-11-22T14:18:12.300Z"),
            ("2026-11-22 14:18:12,345", "2026-11-22T14:18:12.345Z"),
            ("2026-11-22 14:18:12.345678901", "2026-11-22T14:18:12.345Z"),
            ("2026-11-22T14:18:12+09:00", "2026-11-22T05:18:12.000Z"),
            ("2026-11-22T14:18:12+0900", "2026-11-22T05:18:12.000Z"),
            ("2026-11-22 14:18:12 -0330", "2026-11-22T17:48:12.000Z"),
            ("2026-11-22 14:18:12+01", "2026-11-22T13:18:12.000Z"),
            ("2026-11-22 14:18:12.345 UTC", "2026-11-22T14:18:12.345Z"),
            ("2026-11-22 14:18:12.345 CET", "2026-11-22T14:18:12.345Z"),
            ("2026/11/22 14:18:12", "2026-11-22T14:18:12.000Z"),
            ("2026/11/22 14:18:12.000123", "2026-11-22T14:18:12.000Z"),
            ("2026-11-22 14:18", "2026-11-22T14:18:00.000Z"),
            ("22/Nov/2026:14:18:12 +0100", "2026-11-22T13:18:12.000Z"),
            ("Nov 22 14:18:12", "2026-11-22T14:18:12.000Z"),
            ("Nov  2 14:18:12.5", "2026-11-02T14:18:12.500Z"),
            ("Dec 31 23:59:59", "2025-12-31T23:59:59.000Z"),
            ("Nov 22 2026 14:18:12", "2026-11-22T14:18:12.000Z"),
            ("Sun Nov 22 14:18:12 2026", "2026-11-22T14:18:12.000Z"),
            ("Sun Nov 22 14:18:12.123456 2026", "2026-11-22T14:18:12.123Z"),
            ("Sun Nov 22 14:18:12 UTC 2026", "2026-11-22T14:18:12.000Z"),
            ("Sun, 22 Nov 2026 14:18:12 +0900", "2026-11-22T05:18:12.000Z"),
            ("Feb 29 12:00:00", "2024-02-29T12:00:00.000Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
            ("1790000000", "2026-09-21T14:13:20.000Z"),
            ("1790000000.5", "2026-09-21T14:13:20.500Z"),
            ("1790000000123", "2026-09-21T14:13:20.123Z"),
            ("1790000000123456", "2026-09-21T14:13:20.123Z"),
            ("1790000000123456789", "2026-09-21T14:13:20.123Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "soon",
            "2026-13-01T00:00:00Z",
            "2026-02-29 00:00:00",
            "2026-11-22",
            "14:18:12",
            "1e30",
            "Nov 31 00:00:00",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_ends_where_the_rest_begins() {
        for (text, rest) in [
            ("2026-11-22 14:18:12,345 - app - ERROR - x", " - app - ERROR - x"),
            ("2026-11-22 14:18:12 ERROR x", " ERROR x"),
            ("2026-11-22 14:18:12 EST x", " x"),
            ("2026-11-22 14:18:12, then", ", then"),
            ("Nov 22 14:18:12 host sshd[1]: x", " host sshd[1]: x"),
            ("Nov 22 14:18:12 1234 x", " 1234 x"),
            ("2026/11/22 14:18:12 [error] 7#7: x", " [error] 7#7: x"),
        ] {
            let (_, end) = leading(text, &Zone::utc(), now()).unwrap();
            assert_eq!(&text[end..], rest, "{text}");
        }
    }

    #[test]
    fn a_time_without_zone_is_the_inputs() {
        let zone = Zone::new(TimeZone::fixed(jiff::tz::offset(9)));
        let read = |text: &str| whole(text, &zone, now()).map(|time| time.to_string());
        assert_eq!(read("2026-11-22 14:18:12").as_deref(), Some("2026-11-22T05:18:12.000Z"));
        assert_eq!(read("2026-11-22 14:18:12Z").as_deref(), Some("2026-11-22T14:18:12.000Z"));
        assert_eq!(read("Nov 22 23:18:12").as_deref(), Some("2026-11-22T14:18:12.000Z"));
        assert_eq!(read("Sun Nov 22 14:18:12 UTC 2026").as_deref(), Some("2026-11-22T14:18:12.000Z"));
        // A zone that changes its clocks; the rule is written out, as there may be no list of zones.
        let berlin = Zone::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let read = |text: &str| whole(text, &berlin, now()).map(|time| time.to_string());
        assert_eq!(read("2026-07-01 12:00:00.250").as_deref(), Some("2026-07-01T10:00:00.250Z"));
        assert_eq!(read("2026-11-22 12:00:00").as_deref(), Some("2026-11-22T11:00:00.000Z"));
        assert_eq!(read("2026-03-29 02:30:00").as_deref(), Some("2026-03-29T01:30:00.000Z"), "that hour is left out");
    }
}
