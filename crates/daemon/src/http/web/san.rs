//! The names in a certificate's "subject alternative name" (RFC 5280, 4.2.1.6), as texts.
//!
//! TLS itself compares names of servers only; this reads those of clients. A certificate that is not as it should be has no
//! names.

use std::net::{Ipv4Addr, Ipv6Addr};

const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
/// `[3]` of TBSCertificate.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// The kinds of GeneralName that are texts or addresses.
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;

/// DNS names, e-mail addresses, URIs and IP addresses, in the certificate's order.
pub(super) fn names(certificate: &[u8]) -> Vec<String> {
    find(certificate).unwrap_or_default()
}

fn find(certificate: &[u8]) -> Option<Vec<String>> {
    let (certificate, _) = tagged(certificate, SEQUENCE)?;
    let (mut fields, _) = tagged(certificate, SEQUENCE)?;
    let extensions = loop {
        let (tag, content, rest) = element(fields)?;
        if tag == EXTENSIONS {
            break content;
        }
        fields = rest;
    };
    let (mut extensions, _) = tagged(extensions, SEQUENCE)?;
    while !extensions.is_empty() {
        let (extension, rest) = tagged(extensions, SEQUENCE)?;
        extensions = rest;
        let (id, mut value) = tagged(extension, OBJECT_ID)?;
        if id != SUBJECT_ALT_NAME {
            continue;
        }
        // Whether it is critical stands before the value, if it does.
        if let Some((_, after)) = tagged(value, BOOLEAN) {
            value = after;
        }
        let (value, _) = tagged(value, OCTETS)?;
        let (mut list, _) = tagged(value, SEQUENCE)?;
        let mut names = Vec::new();
        while !list.is_empty() {
            let (tag, content, rest) = element(list)?;
            list = rest;
            match tag {
                EMAIL | DNS | URI => names.push(std::str::from_utf8(content).ok()?.to_owned()),
                ADDRESS => names.push(address(content)?),
                _ => {}
            }
        }
        return Some(names);
    }
    None
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).to_string());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string())
}

/// The content of the element at the beginning, which must have this tag, and what is behind it.
fn tagged(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

/// Tag, content and rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk::<2>()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        // No certificate has more than 2^24 bytes, so three bytes of length are enough.
        0x81..=0x83 => {
            let (bytes, after) = rest.split_at_checked(usize::from(first - 0x80))?;
            rest = after;
            bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut out = match length {
            0..=0x7f => vec![tag, length as u8],
            0x80..=0xff => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        out.extend_from_slice(content);
        out
    }

    /// As much of a certificate as is looked at.
    fn certificate(critical: bool, names: &[(u8, &[u8])]) -> Vec<u8> {
        let names: Vec<u8> = names.iter().flat_map(|(tag, content)| der(*tag, content)).collect();
        let critical = if critical { der(BOOLEAN, &[0xff]) } else { Vec::new() };
        let value = der(OCTETS, &der(SEQUENCE, &names));
        let wanted = der(SEQUENCE, &[der(OBJECT_ID, SUBJECT_ALT_NAME), critical, value].concat());
        let other = der(SEQUENCE, &[der(OBJECT_ID, &[0x55, 0x1d, 0x0f]), der(OCTETS, &[3, 2, 1, 6])].concat());
        let fields =
            [der(2, &[1]), der(SEQUENCE, &[7; 300]), der(EXTENSIONS, &der(SEQUENCE, &[other, wanted].concat()))];
        der(SEQUENCE, &[der(SEQUENCE, &fields.concat()), der(SEQUENCE, b"signature")].concat())
    }

    #[test]
    fn names_of_all_kinds_are_read() {
        let list: &[(u8, &[u8])] = &[
            (DNS, b"scraper.example"),
            (EMAIL, b"ops@example"),
            (URI, b"spiffe://example/scraper"),
            (ADDRESS, &[192, 0, 2, 7]),
            (ADDRESS, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (0xa4, b"a directory name"),
        ];
        let expected = ["scraper.example", "ops@example", "spiffe://example/scraper", "192.0.2.7", "2001:db8::1"];
        assert_eq!(names(&certificate(false, list)), expected);
        assert_eq!(names(&certificate(true, list)), expected);
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        let whole = certificate(true, &[(DNS, b"a"), (ADDRESS, &[1, 2, 3])]);
        assert_eq!(names(&whole), [] as [&str; 0], "an address of three bytes");
        let whole = certificate(false, &[(DNS, b"a.example")]);
        for length in 0..whole.len() - 11 {
            assert_eq!(names(&whole[..length]), [] as [&str; 0], "cut at {length}");
        }
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut broken = whole.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % broken.len();
                broken[at] = (state >> 24) as u8;
            }
            let _ = names(&broken);
        }
        let _ = names(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]);
    }
}
