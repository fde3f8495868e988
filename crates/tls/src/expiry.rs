//! Until when a certificate is valid: the one field of it that is wanted where the certificate is not believed.

/// The end of a certificate's validity (`notAfter`) in seconds since 1970; `None` where these bytes are no certificate.
pub fn not_after(der: &[u8]) -> Option<i64> {
    let (tag, certificate, _) = element(der)?;
    (tag == SEQUENCE).then_some(())?;
    let (tag, mut rest, _) = element(certificate)?;
    (tag == SEQUENCE).then_some(())?;
    // The version is there from version 2 on.
    if let Some((VERSION, _, after)) = element(rest) {
        rest = after;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (tag, validity, _) = element(rest)?;
    (tag == SEQUENCE).then_some(())?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, text)
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Longer lengths than of three bytes no certificate has.
        long @ 0x81..=0x83 => {
            let bytes = usize::from(long & 0x7f);
            let length = rest.get(..bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest.get(bytes..)?)
        }
        _ => return None,
    };
    Some((*tag, rest.get(..length)?, rest.get(length..)?))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let year = number(text.get(..2)?)?;
            // As X.509 has it: 50 and later are of the last century.
            (if year >= 50 { 1900 + year } else { 2000 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (number(text.get(..4)?)?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day) = (part(0)?, part(2)?);
    ((1..=12).contains(&month) && (1..=31).contains(&day) && rest.get(10..) == Some(b"Z")).then_some(())?;
    Some(days(year, month, day) * 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days since 1970 in the Gregorian calendar; years count from March, so that the leap day is the last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(time(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, b"260228235959Z"), Some(1_772_323_199));
        assert_eq!(time(GENERALIZED_TIME, b"20520301000000Z"), Some(2_592_864_000));
        assert_eq!(time(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        for wrong in [&b"20520301000000"[..], b"2052", b"20521301000000Z", b"20520100000000Z", b"2052030100000xZ"] {
            assert_eq!(time(GENERALIZED_TIME, wrong), None);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for bytes in [&[][..], b"x", &[0x30], &[0x30, 0x82, 1], &[0x30, 0x84, 0, 0, 0, 1, 0], &[0x30; 40]] {
            assert_eq!(not_after(bytes), None);
        }
    }
}
