//! What is known for a secret by its own form.

use super::names;
use super::scan::{Scan, Span, is_word};

/// What tokens of well-known services begin with, by their first letter, and how many characters they have at least.
fn starts(first: u8) -> &'static [(&'static str, usize)] {
    match first {
        b'g' => &[
            ("ghp_", 20),
            ("gho_", 20),
            ("ghu_", 20),
            ("ghs_", 20),
            ("ghr_", 20),
            ("github_pat_", 20),
            ("glpat-", 16),
            ("gldt-", 16),
            ("glrt-", 16),
            ("gsk_", 20),
        ],
        b's' => &[
            ("sk-", 19),
            ("sk_live_", 16),
            ("sk_test_", 16),
            ("shpat_", 16),
            ("shpss_", 16),
            ("shpca_", 16),
            ("sntrys_", 16),
            ("sq0atp-", 16),
            ("sq0csp-", 16),
        ],
        b'r' => &[("rk_live_", 16), ("rk_test_", 16), ("rzp_live_", 16)],
        b'w' => &[("whsec_", 16)],
        b'x' => &[("xoxb-", 16), ("xoxp-", 16), ("xoxa-", 16), ("xoxr-", 16), ("xoxs-", 16), ("xapp-", 16)],
        b'A' => &[("AKIA", 16), ("ASIA", 16), ("AIza", 30), ("AGE-SECRET-KEY-", 20)],
        b'e' => &[("eyJ", 20)],
        b'h' => &[("hf_", 16), ("hvs.", 16), ("hvb.", 16)],
        b'n' => &[("npm_", 16), ("nvapi-", 16)],
        b'p' => &[("pypi-", 16), ("pul-", 20), ("phc_", 20), ("phx_", 20)],
        b'd' => &[("dop_v1_", 16), ("doo_v1_", 16), ("dckr_pat_", 16), ("dapi", 32)],
        b'S' => &[("SG.", 16)],
        b'y' => &[("ya29.", 16)],
        b'l' => &[("lin_api_", 16)],
        b't' => &[("tskey-", 16)],
        b'P' => &[("PMAK-", 16)],
        b'E' => &[("EAACEdEose0cBA", 16)],
        _ => &[],
    }
}

/// What stands before the secret in addresses that need no password: who knows one may send.
const SECRET_PATHS: &[&str] = &[
    "hooks.slack.com/",
    "api.telegram.org/bot",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "webhook.office.com/",
];

/// The word before a secret in an authorization header.
const SCHEMES: &[&str] = &[
    "bearer",
    "basic",
    "digest",
    "negotiate",
    "token",
    "apikey",
    "hmac",
    "signature",
    "aws4-hmac-sha256",
    "ntlm",
    "dpop",
];

/// A private key is looked for so far from the beginning of its line.
const REACH: usize = 60;

pub(super) fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Where the secret begins in an address behind `://`.
pub(super) fn secret_path(address: &str) -> Option<usize> {
    SECRET_PATHS.iter().find_map(|start| address.find(start).map(|at| at + start.len()))
}

/// What begins here as a token of a well-known service does, and whether it is one.
pub(super) fn token(scan: &Scan<'_>, at: usize) -> Option<(Span, bool)> {
    let candidates = starts(scan.byte(at));
    if candidates.is_empty() {
        return None;
    }
    let rest = scan.bytes.get(at..)?;
    let (start, least) = candidates.iter().find(|(start, _)| rest.starts_with(start.as_bytes()))?;
    let mut end = scan.run(at, |byte| is_token(byte) && !matches!(byte, b'+' | b'/' | b'=' | b'~'));
    // What ends a sentence is not the token's.
    while end > at && matches!(scan.byte(end - 1), b'.' | b'-') {
        end -= 1;
    }
    let secret = scan.part(at + start.len(), end);
    // Words are no tokens: `sk-learn-contributors-guide`.
    let is_dense = secret.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    Some(((at, end.max(at)), end - at >= *least && is_dense))
}

/// What follows `Bearer ` or `Basic `.
pub(super) fn bearer(scan: &Scan<'_>, at: usize) -> Option<Span> {
    let (length, basic) = match scan.byte(at) | 0x20 {
        b'b' if scan.part(at, at + 7).eq_ignore_ascii_case("bearer ") => (7, false),
        b'b' if scan.part(at, at + 6).eq_ignore_ascii_case("basic ") => (6, true),
        _ => return None,
    };
    let from = scan.run(at + length, |byte| byte == b' ');
    let end = scan.run(from, is_token);
    let secret = scan.part(from, end);
    let has = |is: fn(&u8) -> bool| secret.as_bytes().iter().any(is);
    // A sentence may go on behind these words; a token has digits, or is long, or mixes letters as base64 does.
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && !is_capitalized(secret);
    let is_secret = if basic {
        secret.len() >= 6 && (secret.ends_with('=') || mixed)
    } else {
        secret.len() >= 6 && (has(u8::is_ascii_digit) || secret.len() >= 20 || mixed)
    };
    (is_secret && !names::is_harmless(secret, false)).then_some((from, end))
}

fn is_capitalized(word: &str) -> bool {
    word.get(1..).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'=')
}

/// From `-----BEGIN … PRIVATE KEY-----` to the end of that key, or of the text.
pub(super) fn private_key(scan: &Scan<'_>, at: usize) -> Option<Span> {
    let head = scan.text.get(at..)?.strip_prefix("-----BEGIN ")?;
    let title = head.get(..head.find("-----")?)?;
    if title.len() > REACH || !title.contains("PRIVATE KEY") {
        return None;
    }
    let start = at + "-----BEGIN ".len() + title.len() + "-----".len();
    let rest = scan.text.get(start..)?;
    let end = rest.find("-----END ").map_or(scan.bytes.len(), |end| start + end);
    (!names::is_harmless(scan.part(start, end), false)).then_some((start, end))
}

/// An e-mail address around this sign.
pub(super) fn email(scan: &Scan<'_>, at: usize, floor: usize) -> Option<Span> {
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-');
    let before = scan.bytes.get(floor..at)?;
    let length = before.iter().rev().take_while(|byte| is_local(**byte)).count();
    let start = at - length;
    let local = scan.part(start, at);
    if local.is_empty() || local.len() > 64 || local == "git" || local.starts_with('.') {
        return None;
    }
    let mut end = scan.run(at + 1, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    while end > at && matches!(scan.byte(end - 1), b'.' | b'-') {
        end -= 1;
    }
    let domain = scan.part(at + 1, end);
    let (first, _) = domain.split_once('.')?;
    let (_, last) = domain.rsplit_once('.')?;
    // Units of systemd and versions of packages look much the same.
    let is_unit = ["service", "socket", "timer", "target", "mount", "scope", "slice", "path", "device", "swap"];
    let is_domain = !first.is_empty()
        && (2..=24).contains(&last.len())
        && last.bytes().all(|byte| byte.is_ascii_alphabetic())
        && !first.bytes().all(|byte| byte.is_ascii_digit())
        && !domain.contains("..")
        && !is_unit.contains(&last);
    is_domain.then_some((start, end))
}

/// The number of a credit card that begins here: 14 to 19 digits, perhaps in groups, of a known issuer and with the right
/// last digit.
pub(super) fn card(scan: &Scan<'_>, at: usize) -> Option<Span> {
    // A fraction, or part of a longer number with signs.
    let before = at.checked_sub(1).map_or(0, |at| scan.byte(at));
    if matches!(before, b'.' | b'-' | b'+') && at.checked_sub(2).is_some_and(|at| scan.byte(at).is_ascii_digit()) {
        return None;
    }
    let (mut digits, mut count, mut end) = ([0u8; 19], 0, at);
    let mut here = at;
    let mut groups = 1;
    loop {
        let byte = scan.byte(here);
        if byte.is_ascii_digit() {
            *digits.get_mut(count)? = byte - b'0';
            count += 1;
            here += 1;
            end = here;
        } else if matches!(byte, b' ' | b'-') && scan.byte(here + 1).is_ascii_digit() && count >= 4 && groups < 5 {
            here += 1;
            groups += 1;
        } else {
            break;
        }
    }
    let next = scan.byte(end);
    if is_word(next) || (next == b'.' && scan.byte(end + 1).is_ascii_digit()) {
        return None;
    }
    let digits = digits.get(..count)?;
    let number =
        |places: usize| digits.get(..places).unwrap_or_default().iter().fold(0u32, |n, d| n * 10 + u32::from(*d));
    let is_known = match count {
        14 => matches!(number(2), 36 | 38 | 39) || (300..=305).contains(&number(3)),
        15 => matches!(number(2), 34 | 37),
        16 => {
            number(1) == 4
                || (51..=55).contains(&number(2))
                || (2221..=2720).contains(&number(4))
                || number(4) == 6011
                || matches!(number(2), 62 | 64 | 65 | 81)
                || (3528..=3589).contains(&number(4))
        }
        19 => number(1) == 4 || number(2) == 62,
        _ => false,
    };
    (is_known && has_right_end(digits)).then_some((at, end))
}

/// Luhn's sum.
fn has_right_end(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}
