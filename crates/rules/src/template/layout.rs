//! Times in Go's layouts, in which `2006-01-02 15:04:05` stands for the parts of a moment. All are in UTC.

use super::functions::date;
use crate::ast::Millis;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What layouts may hold; of two with the same beginning the longer one is first.
const PARTS: [&str; 31] = [
    "January", "Jan", "Monday", "Mon", "MST", "2006", "Z07:00", "Z0700", "-07:00", "-0700", "-07", "01", "02", "03",
    "04", "05", "06", "15", "_2", "PM", "pm", ".000000", ".000", ".999", ",000", "1", "2", "3", "4", "5", "002",
];

/// As `time.Format` writes it.
pub(super) fn format(time: Millis, layout: &str) -> Result<String, String> {
    const LONGEST: usize = 200;
    if layout.len() > LONGEST {
        return Err(format!("a layout of more than {LONGEST} bytes"));
    }
    let (days, left) = (time.div_euclid(86_400_000), time.rem_euclid(86_400_000));
    let (year, month, day) = date(days);
    let (hour, minute, second, millis) = (left / 3_600_000, left / 60_000 % 60, left / 1000 % 60, left % 1000);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let weekday = DAYS.get(usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0)).copied().unwrap_or_default();
    let name = MONTHS.get(usize::try_from(month - 1).unwrap_or(0)).copied().unwrap_or_default();
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        let three = rest.starts_with("002").then_some("002");
        let Some(part) = three.or_else(|| PARTS.iter().copied().find(|part| rest.starts_with(part))) else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            continue;
        };
        out += &match part {
            "January" => name.to_owned(),
            "Jan" => name.get(..3).unwrap_or(name).to_owned(),
            "Monday" => weekday.to_owned(),
            "Mon" => weekday.get(..3).unwrap_or(weekday).to_owned(),
            "MST" => "UTC".to_owned(),
            "2006" => format!("{year:04}"),
            "06" => format!("{:02}", year.rem_euclid(100)),
            "Z07:00" | "Z0700" => "Z".to_owned(),
            "-07:00" => "+00:00".to_owned(),
            "-0700" => "+0000".to_owned(),
            "-07" => "+00".to_owned(),
            "01" => format!("{month:02}"),
            "1" => month.to_string(),
            "002" => format!("{:03}", days - days_before(days, year) + 1),
            "02" => format!("{day:02}"),
            "_2" => format!("{day:>2}"),
            "2" => day.to_string(),
            "15" => format!("{hour:02}"),
            "03" => format!("{hour12:02}"),
            "3" => hour12.to_string(),
            "04" => format!("{minute:02}"),
            "4" => minute.to_string(),
            "05" => format!("{second:02}"),
            "5" => second.to_string(),
            "PM" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if hour < 12 { "am" } else { "pm" }.to_owned(),
            ".000000" => format!(".{millis:03}000"),
            ".000" => format!(".{millis:03}"),
            ",000" => format!(",{millis:03}"),
            ".999" if millis == 0 => String::new(),
            _ => format!(".{millis:03}").trim_end_matches('0').to_owned(),
        };
        rest = rest.get(part.len()..).unwrap_or_default();
    }
    Ok(out)
}

/// The days from 1970 to the first of that day's year.
fn days_before(days: i64, year: i64) -> i64 {
    (days - 366..=days).find(|day| date(*day) == (year, 1, 1)).unwrap_or(days)
}

/// As RFC 3339 writes it, with milliseconds where there are any.
pub(super) fn rfc3339(time: Millis) -> String {
    format(time, "2006-01-02T15:04:05.999Z07:00").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_go_s() {
        let time = 1_435_065_584_128;
        for (layout, expected) in [
            ("2006-01-02T15:04:05Z07:00", "2015-06-23T13:19:44Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 23 Jun 2015 13:19:44 UTC"),
            ("Monday January _2 3:04PM -0700", "Tuesday June 23 1:19PM +0000"),
            ("02.01.06 15:04:05.000", "23.06.15 13:19:44.128"),
            ("1/2/2006 03:04 pm", "6/23/2015 01:19 pm"),
            ("day 002 of 2006, ü", "day 174 of 2015, ü"),
        ] {
            assert_eq!(format(time, layout).unwrap(), expected, "{layout}");
        }
        assert_eq!(rfc3339(time), "2015-06-23T13:19:44.128Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(format(-62_135_596_800_000, "2006-01-02 Mon").unwrap(), "0001-01-01 Mon");
        assert!(format(0, &"x".repeat(201)).is_err());
    }
}
