//! The calendar, in UTC.

/// A day of the proleptic Gregorian calendar, and the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
    /// Since 1970-01-01.
    days: i64,
    second_of_day: i64,
}

const DAY: i64 = 86_400;
/// Days in 400 years, after which the calendar repeats itself.
const ERA: i64 = 146_097;

impl Date {
    /// Of seconds since 1970.
    pub(super) fn of(seconds: i64) -> Self {
        let days = seconds.div_euclid(DAY);
        // Years that begin with March have their leap day at the end. 719,468 days lie from 0000-03-01 to 1970-01-01.
        let since = days + 719_468;
        let (era, day_of_era) = (since.div_euclid(ERA), since.rem_euclid(ERA));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // From March on five months have 153 days.
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self { year, month, day, days, second_of_day: seconds.rem_euclid(DAY) }
    }

    fn is_leap_year(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_in_month(self) -> i64 {
        match self.month {
            2 => 28 + i64::from(self.is_leap_year()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn day_of_year(self) -> i64 {
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let before = BEFORE.get(self.month as usize - 1).copied().unwrap_or(0);
        before + i64::from(self.month > 2 && self.is_leap_year()) + self.day
    }

    /// What the function of that name tells; `None` if there is no such function.
    pub(super) fn part(self, function: &str) -> Option<f64> {
        let part = match function {
            "minute" => self.second_of_day / 60 % 60,
            "hour" => self.second_of_day / 3600,
            // 1970-01-01 was a Thursday.
            "day_of_week" => (self.days + 4).rem_euclid(7),
            "day_of_month" => self.day,
            "day_of_year" => self.day_of_year(),
            "days_in_month" => self.days_in_month(),
            "month" => self.month,
            "year" => self.year,
            _ => return None,
        };
        Some(part as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        let parts = |seconds| {
            let date = Date::of(seconds);
            let all =
                ["year", "month", "day_of_month", "day_of_year", "day_of_week", "days_in_month", "hour", "minute"];
            all.map(|part| date.part(part).unwrap() as i64)
        };
        assert_eq!(parts(0), [1970, 1, 1, 1, 4, 31, 0, 0]);
        assert_eq!(parts(-1), [1969, 12, 31, 365, 3, 31, 23, 59]);
        assert_eq!(parts(951_827_696), [2000, 2, 29, 60, 2, 29, 12, 34]);
        assert_eq!(parts(4_107_542_400), [2100, 3, 1, 60, 1, 31, 0, 0]);
        assert_eq!(parts(1_735_689_599), [2024, 12, 31, 366, 2, 31, 23, 59]);
        assert_eq!(Date::of(0).part("second"), None);
        Date::of(i64::MIN);
        Date::of(i64::MAX);
    }
}
