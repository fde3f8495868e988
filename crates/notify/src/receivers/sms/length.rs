//! How long a text message is. In GSM's own alphabet (3GPP TS 23.038) 160 signs fit into one, in UCS-2 70; the parts
//! of a longer one hold 153 or 67.

/// GSM's alphabet, without its escape.
const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡\
                   ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Signs that take two places.
const GSM_TWICE: &str = "^{}\\[~]|€";

/// The places a sign takes in GSM's alphabet.
fn gsm(c: char) -> Option<usize> {
    match c {
        c if GSM.contains(c) => Some(1),
        c if GSM_TWICE.contains(c) => Some(2),
        _ => None,
    }
}

/// Signs that have a plain twin, so that one dash does not halve what fits.
fn plain(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '`' | '´' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '«' | '»' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '·' | '•' => '-',
        '\u{a0}' | '\u{2009}' | '\u{202f}' | '\t' => ' ',
        '‹' => '<',
        '›' => '>',
        c => c,
    }
}

/// Cuts a text so that it takes at most so many text messages.
pub(super) fn fit(text: &str, parts: usize) -> String {
    let text: String = text.chars().map(plain).collect::<String>().replace('…', "...");
    if text.chars().all(|c| gsm(c).is_some()) {
        let places = |c| gsm(c).unwrap_or(1);
        shorten(&text, room(&text, parts, (160, 153), places), "...", places)
    } else {
        shorten(&text, room(&text, parts, (70, 67), char::len_utf16), "…", char::len_utf16)
    }
}

/// The places of so many text messages: of one alone, and of each of several. A sign of two places stands in one part, so that the
/// last place of each may stay empty.
fn room(text: &str, parts: usize, (alone, each): (usize, usize), places: impl Fn(char) -> usize) -> usize {
    let lost = usize::from(text.chars().any(|c| places(c) > 1));
    if parts > 1 { (each - lost) * parts } else { alone }
}

fn shorten(text: &str, most: usize, end: &str, places: impl Fn(char) -> usize) -> String {
    let of = |text: &str| text.chars().map(&places).sum::<usize>();
    if of(text) <= most {
        return text.to_owned();
    }
    let mut room = most.saturating_sub(of(end));
    let mut out = String::new();
    for c in text.chars() {
        let Some(left) = room.checked_sub(places(c)) else { break };
        room = left;
        out.push(c);
    }
    out + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_into_their_messages() {
        assert_eq!(fit("short – “ok”", 1), "short - \"ok\"");
        assert_eq!(fit(&"a".repeat(160), 1), "a".repeat(160));
        assert_eq!(fit(&"a".repeat(161), 1), "a".repeat(157) + "...");
        assert_eq!(fit(&"a".repeat(400), 2), "a".repeat(303) + "...");
        assert_eq!(fit(&"[".repeat(81), 1), "[".repeat(78) + "...");
        assert_eq!(fit(&"ж".repeat(70), 1), "ж".repeat(70));
        assert_eq!(fit(&"ж".repeat(71), 1), "ж".repeat(69) + "…");
        assert_eq!(fit(&"🔥".repeat(36), 1), "🔥".repeat(34) + "…");
        assert_eq!(fit(&"ж".repeat(500), 3).encode_utf16().count(), 201);
        // No sign is torn between two parts.
        let parts = |text: &str, each: usize, places: &dyn Fn(char) -> usize| {
            let step = |(parts, room): (usize, usize), c: char| match room.checked_sub(places(c)) {
                Some(room) => (parts, room),
                None => (parts + 1, each - places(c)),
            };
            text.chars().fold((1, each), step).0
        };
        assert_eq!(parts(&fit(&"[".repeat(500), 3), 153, &|c| gsm(c).unwrap()), 3);
        assert_eq!(parts(&fit(&"🔥".repeat(500), 10), 67, &char::len_utf16), 10);
    }
}
