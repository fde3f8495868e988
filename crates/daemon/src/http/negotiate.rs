//! What a peer would rather have: `Accept` and `Accept-Encoding` (RFC 9110, 12.5).

/// One entry of an `Accept` header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaRange<'a> {
    /// Such as `text/plain`, `text/*`, `*/*`.
    pub kind: &'a str,
    /// From 0, which is a refusal, to 1.
    pub quality: f32,
    parameters: &'a str,
}

impl<'a> MediaRange<'a> {
    /// The value of a parameter, without quotes.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        parameters(self.parameters).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The entries of an `Accept` header, as they stand there. One whose quality is no number is refused.
pub fn media_ranges(accept: &str) -> impl Iterator<Item = MediaRange<'_>> {
    accept.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(|entry| {
        let (kind, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        MediaRange { kind: kind.trim(), quality: quality(parameters), parameters }
    })
}

/// Whether a peer with this header `Accept-Encoding` takes gzip, and does not like the plain text better.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for range in media_ranges(accept_encoding) {
        match range.kind.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = Some(range.quality),
            "identity" => identity = Some(range.quality),
            "*" => any = Some(range.quality),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or_default();
    gzip > 0.0 && gzip >= identity.unwrap_or_default()
}

fn quality(list: &str) -> f32 {
    match parameters(list).find(|(name, _)| name.eq_ignore_ascii_case("q")) {
        Some((_, value)) => value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality)).unwrap_or_default(),
        None => 1.0,
    }
}

fn parameters(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim(), value.trim().trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_quality_and_parameters() {
        let all: Vec<_> = media_ranges("text/plain; Version=\"0.0.4\" ;q=0.5,, */*;q=7 , a/b;x").collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].kind, all[0].quality, all[0].parameter("version")), ("text/plain", 0.5, Some("0.0.4")));
        assert_eq!((all[1].kind, all[1].quality), ("*/*", 0.0));
        assert_eq!((all[2].kind, all[2].quality, all[2].parameter("x")), ("a/b", 1.0, None));
    }

    #[test]
    fn gzip_is_sent_to_those_who_like_it() {
        for accept in ["gzip", "GZIP;q=0.1", "deflate, gzip;q=1.0, *;q=0.5", "*", "identity;q=0.5, gzip", "x-gzip"] {
            assert!(accepts_gzip(accept), "{accept}");
        }
        for accept in ["", "identity", "gzip;q=0", "*;q=0", "deflate", "gzip;q=0.3, identity;q=0.5", "gzip;q=NaN"] {
            assert!(!accepts_gzip(accept), "{accept}");
        }
    }
}
