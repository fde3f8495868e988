//! A name server: it answers a question, with the code and the records that are wanted.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::dial::{self, Place};
use super::talk::Talk;
use super::{Asking, Faults, Look, Run};
use crate::pattern::Pattern;

const PORT: u16 = 53;

/// Records of an answer that are looked at.
const MOST_RECORDS: usize = 500;

/// Jumps in one compressed name.
const MOST_JUMPS: usize = 50;

/// Codes of answers, by number.
const CODES: &[&str] =
    &["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH"];

/// Types of records.
const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("CAA", 257),
];

/// How the question travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP, and TCP where the answer is too long for it.
    #[default]
    Udp,
    /// TCP.
    Tcp,
}

/// `[probe.dns]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// `dns://HOST[:PORT]`: the name server.
    pub url: String,
    /// The name that is asked for.
    pub query_name: String,
    /// The type of the records.
    pub query_type: String,
    /// How the question travels.
    pub transport: Transport,
    /// Whether the server shall ask others.
    pub recursion: bool,
    /// The codes that are well.
    pub valid_rcodes: Vec<String>,
    /// Each of these must match some record of the answer, written as `name TYPE value`.
    pub answers_must_match: Vec<Pattern>,
    /// None of these must match any.
    pub answers_must_not_match: Vec<Pattern>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            url: "dns://127.0.0.1:53".to_owned(),
            query_name: String::new(),
            query_type: "A".to_owned(),
            transport: Transport::Udp,
            recursion: true,
            valid_rcodes: vec!["NOERROR".to_owned()],
            answers_must_match: Vec::new(),
            answers_must_not_match: Vec::new(),
        }
    }
}

impl Look for Dns {
    fn target(&self) -> String {
        dial::url(&self.url, &["dns"]).map(|url| url.shown(PORT)).unwrap_or_default()
    }

    fn check(&self, faults: &mut Faults) {
        match dial::url(&self.url, &["dns"]) {
            Ok(url) if url.user.is_empty() && matches!(url.rest, "" | "/") => {}
            Ok(_) => faults.add("url", "must be dns://HOST[:PORT]"),
            Err(why) => faults.add("url", why),
        }
        if question(0, &self.query_name, 1, true).is_none() {
            faults.add("query_name", "must be a name such as example.org, of parts with at most 63 characters");
        }
        if type_number(&self.query_type).is_none() {
            let known: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
            faults.add("query_type", format!("{:?} is none of {}", self.query_type, known.join(", ")));
        }
        for code in self.valid_rcodes.iter().filter(|code| !CODES.contains(&code.as_str())) {
            faults.add("valid_rcodes", format!("{code:?} is none of {}", CODES.join(", ")));
        }
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let help = "Whether the name server answered, with whatever code and records.";
            run.found.gauge("probe_dns_query_succeeded", help, 0.0);
            let url = dial::url(&self.url, &["dns"])?;
            let (host, port) = (url.host, url.port.unwrap_or(PORT));
            let id = uuid::Uuid::new_v4().as_fields().1;
            let wanted = type_number(&self.query_type).unwrap_or(1);
            let Some(asked) = question(id, &self.query_name, wanted, self.recursion) else {
                return Err("BUG: the name can't be asked for".to_owned());
            };
            let mut phases = Phases::default();
            let mut answer = None;
            if self.transport == Transport::Udp {
                let over_udp = by_udp(run, host, port, &asked, id, &mut phases).await?;
                answer = Some(over_udp).filter(|answer| !answer.cut);
            }
            let answer = match answer {
                Some(answer) => answer,
                None => by_tcp(run, host, port, &asked, id, &mut phases).await?,
            };
            run.found.gauge("probe_dns_query_succeeded", help, 1.0);
            for (phase, seconds) in
                [("resolve", phases.resolve), ("connect", phases.connect), ("request", phases.request)]
            {
                let help = "How long each part of the question took.";
                run.found.labelled("probe_dns_duration_seconds", help, ("phase", phase), seconds);
            }
            let counts = [
                ("probe_dns_answer_rrs", "Records in the answer.", answer.counts[0]),
                ("probe_dns_authority_rrs", "Records of the authority.", answer.counts[1]),
                ("probe_dns_additional_rrs", "Further records.", answer.counts[2]),
            ];
            counts.iter().for_each(|(name, help, count)| run.found.gauge(name, help, f64::from(*count)));
            if let Some(serial) = answer.serial {
                run.found.gauge("probe_dns_serial", "The serial number of the zone.", f64::from(serial));
            }
            let code = CODES.get(usize::from(answer.code)).copied().unwrap_or("UNKNOWN");
            if !self.valid_rcodes.iter().any(|valid| valid == code) {
                return Err(format!("the answer's code is {code}"));
            }
            let fits = |pattern: &Pattern| answer.records.iter().any(|record| pattern.matches(record));
            if let Some(missing) = self.answers_must_match.iter().find(|pattern| !fits(pattern)) {
                return Err(format!("no record of the answer matches {:?}", missing.as_str()));
            }
            if let Some(matching) = self.answers_must_not_match.iter().find(|pattern| fits(pattern)) {
                return Err(format!("a record of the answer matches {:?}", matching.as_str()));
            }
            Ok(())
        })
    }
}

#[derive(Debug, Default)]
struct Phases {
    resolve: f64,
    connect: f64,
    request: f64,
}

async fn by_udp(
    run: &mut Run<'_>,
    host: &str,
    port: u16,
    asked: &[u8],
    id: u16,
    phases: &mut Phases,
) -> Result<Answer, String> {
    let (addresses, took) = dial::resolve(run, host, port).await?;
    phases.resolve = took;
    let Some(address) = addresses.first() else { return Err(format!("{host} has no address")) };
    run.found.stage("the answer");
    let begun = Instant::now();
    let broke = |error: std::io::Error| format!("no answer of {address}: {}", dial::sentence(&error));
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.map_err(broke)?;
    socket.connect(address).await.map_err(broke)?;
    phases.connect = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    socket.send(asked).await.map_err(broke)?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(broke)?;
        // What does not answer this question may be somebody's forgery.
        if let Some(answer) = answer(buffer.get(..length).unwrap_or_default(), id, asked)? {
            phases.request = begun.elapsed().as_secs_f64();
            return Ok(answer);
        }
    }
}

async fn by_tcp(
    run: &mut Run<'_>,
    host: &str,
    port: u16,
    asked: &[u8],
    id: u16,
    phases: &mut Phases,
) -> Result<Answer, String> {
    let (stream, took) = dial::connect(run, Place { host, port, tls: None }).await?;
    (phases.resolve, phases.connect) = (took.resolve, took.connect);
    run.found.stage("the answer");
    let begun = Instant::now();
    let mut talk = Talk::new(stream, 70_000);
    let length = u16::try_from(asked.len()).unwrap_or(u16::MAX);
    talk.send(&[&length.to_be_bytes(), asked].concat()).await?;
    let message = talk.take(|bytes| Ok(framed(bytes))).await?;
    phases.request = begun.elapsed().as_secs_f64();
    answer(&message, id, asked)?.ok_or_else(|| "it answers another question".to_owned())
}

/// A message of DNS over TCP, which has its length before it.
fn framed(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    Some((rest.get(..length)?.to_vec(), length + 2))
}

fn type_number(name: &str) -> Option<u16> {
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The bytes of a question; `None` for what is no name.
fn question(id: u16, name: &str, kind: u16, recursion: bool) -> Option<Vec<u8>> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[u8::from(recursion), 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 || !name.is_ascii() {
        return None;
    }
    for part in name.split('.') {
        let length = u8::try_from(part.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    Some(bytes)
}

/// What came back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    code: u8,
    /// It did not fit into the packet.
    cut: bool,
    /// Answers, authorities, additional ones.
    counts: [u16; 3],
    /// The answers, as `name TYPE value`.
    records: Vec<String>,
    /// Of the first SOA.
    serial: Option<u32>,
}

/// Reads an answer to a question. `None`: it answers another one.
fn answer(bytes: &[u8], id: u16, asked: &[u8]) -> Result<Option<Answer>, String> {
    let no = || "what it answers is not DNS".to_owned();
    let at = |place: usize| Some(u16::from_be_bytes([*bytes.get(place)?, *bytes.get(place + 1)?]));
    let (Some(first), Some(flags)) = (at(0), at(2)) else { return Err(no()) };
    if first != id || flags & 0x8000 == 0 {
        return Ok(None);
    }
    let count = |place: usize| at(place).ok_or_else(no);
    let mut answer = Answer {
        code: (flags & 0xf) as u8,
        cut: flags & 0x0200 != 0,
        counts: [count(6)?, count(8)?, count(10)?],
        ..Answer::default()
    };
    let mut place = 12;
    if count(4)? == 1 {
        let repeated = bytes.get(12..asked.len()).unwrap_or_default();
        if !repeated.eq_ignore_ascii_case(asked.get(12..).unwrap_or_default()) {
            return Ok(None);
        }
        place = asked.len();
    }
    if answer.cut {
        return Ok(Some(answer));
    }
    let all = usize::from(answer.counts[0]) + usize::from(answer.counts[1]);
    for number in 0..all.min(MOST_RECORDS) {
        let record = record(bytes, &mut place).ok_or_else(no)?;
        if record.kind == 6 && answer.serial.is_none() {
            answer.serial = serial(bytes, &record);
        }
        if number < usize::from(answer.counts[0]) {
            answer.records.push(shown(bytes, &record));
        }
    }
    Ok(Some(answer))
}

struct Record {
    name: String,
    kind: u16,
    /// Where its data begins and ends.
    data: std::ops::Range<usize>,
}

fn record(bytes: &[u8], place: &mut usize) -> Option<Record> {
    let name = name(bytes, place)?;
    let head = bytes.get(*place..*place + 10)?;
    let &[k1, k2, _, _, _, _, _, _, l1, l2] = head else { return None };
    let begin = *place + 10;
    let end = begin + usize::from(u16::from_be_bytes([l1, l2]));
    bytes.get(begin..end)?;
    *place = end;
    Some(Record { name, kind: u16::from_be_bytes([k1, k2]), data: begin..end })
}

/// A name, which may go on elsewhere. The place moves behind it.
fn name(bytes: &[u8], place: &mut usize) -> Option<String> {
    let mut text = String::new();
    let (mut at, mut jumped) = (*place, false);
    for _ in 0..MOST_JUMPS + 128 {
        match *bytes.get(at)? {
            0 => {
                if !jumped {
                    *place = at + 1;
                }
                text.push('.');
                return Some(text);
            }
            length @ 1..=63 => {
                let part = bytes.get(at + 1..at + 1 + usize::from(length))?;
                if !text.is_empty() {
                    text.push('.');
                }
                // A dot or a control character within a part must not look like something else.
                text.extend(part.iter().flat_map(|byte| char::from(*byte).escape_default()));
                at += 1 + usize::from(length);
            }
            high @ 0xc0.. => {
                if !jumped {
                    *place = at + 2;
                    jumped = true;
                }
                at = usize::from(u16::from_be_bytes([high & 0x3f, *bytes.get(at + 1)?]));
            }
            _ => return None,
        }
        if text.len() > 1024 {
            return None;
        }
    }
    None
}

fn serial(bytes: &[u8], record: &Record) -> Option<u32> {
    let mut place = record.data.start;
    name(bytes, &mut place)?;
    name(bytes, &mut place)?;
    Some(u32::from_be_bytes(*bytes.get(place..)?.first_chunk()?))
}

/// As zone files have it, without time and class.
fn shown(bytes: &[u8], record: &Record) -> String {
    let kind = TYPES.iter().find(|(_, number)| *number == record.kind).map(|(name, _)| *name);
    let data = bytes.get(record.data.clone()).unwrap_or_default();
    let named = |skip: usize| {
        let mut place = record.data.start + skip;
        name(bytes, &mut place)
    };
    let number = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    let value = match (record.kind, data) {
        (1, &[a, b, c, d]) => Some(Ipv4Addr::new(a, b, c, d).to_string()),
        (28, _) => data.try_into().ok().map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).to_string()),
        (2 | 5 | 12, _) => named(0),
        (15, _) => number(0).zip(named(2)).map(|(preference, name)| format!("{preference} {name}")),
        (16, _) => Some(texts(data)),
        (33, _) => match (number(0), number(2), number(4), named(6)) {
            (Some(priority), Some(weight), Some(port), Some(name)) => Some(format!("{priority} {weight} {port} {name}")),
            _ => None,
        },
        (6, _) => named(0).zip(serial(bytes, record)).map(|(name, serial)| format!("{name} {serial}")),
        _ => Some(String::from_utf8_lossy(data).escape_default().to_string()),
    };
    let kind = kind.map_or_else(|| format!("TYPE{}", record.kind), str::to_owned);
    format!("{} {kind} {}", record.name, value.unwrap_or_default())
}

fn texts(mut data: &[u8]) -> String {
    let mut all = String::new();
    while let Some((length, rest)) = data.split_first() {
        let (text, after) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        all.push_str(&String::from_utf8_lossy(text));
        data = after;
    }
    all
}

/// For fuzzing.
pub(super) fn read_anything(data: &[u8]) {
    let asked = question(0x5555, "example.org", 1, true).unwrap_or_default();
    let mut message = asked.clone();
    if let Some(flags) = message.get_mut(2) {
        *flags |= 0x80;
    }
    if let (Some(counts), Some(given)) = (message.get_mut(6..12), data.get(..6)) {
        counts.copy_from_slice(given);
    }
    message.extend_from_slice(data.get(6..).unwrap_or_default());
    for bytes in [data, &message] {
        if let Ok(Some(answer)) = answer(bytes, 0x5555, &asked) {
            assert!(answer.records.len() <= MOST_RECORDS && answer.records.iter().all(|record| record.len() < 1 << 20));
        }
        let _ = framed(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `asked` with these records behind it.
    fn answered(asked: &[u8], flags: [u8; 2], counts: [u8; 3], records: &[u8]) -> Vec<u8> {
        let mut bytes = asked.to_vec();
        bytes[2..4].copy_from_slice(&flags);
        bytes[7] = counts[0];
        bytes[9] = counts[1];
        bytes[11] = counts[2];
        bytes.extend_from_slice(records);
        bytes
    }

    #[test]
    fn answers_are_read() {
        let asked = question(7, "a.example.org.", 1, true).unwrap();
        let records = [
            // A pointer to the question's name; CNAME `b` and a pointer to example.org.
            &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'b', 0xc0, 14][..],
            &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7],
            &[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9, 0, 6, 2, b'v', b'=', 2, b's', b'p'],
            &[0xc0, 14, 0, 6, 0, 1, 0, 0, 0, 9, 0, 24, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let read = answer(&answered(&asked, [0x81, 0x80], [3, 1, 0], &records), 7, &asked).unwrap().unwrap();
        assert_eq!(
            read.records,
            ["a.example.org. CNAME b.example.org.", "a.example.org. A 192.0.2.7", "a.example.org. TXT v=sp"]
        );
        assert_eq!((read.code, read.cut, read.counts, read.serial), (0, false, [3, 1, 0], Some(0x102)));
        let read = answer(&answered(&asked, [0x83, 0x83], [0; 3], &[]), 7, &asked).unwrap().unwrap();
        assert_eq!((CODES[usize::from(read.code)], read.cut), ("NXDOMAIN", true));
    }

    #[test]
    fn what_answers_another_question_is_none() {
        let asked = question(7, "a.example.org", 1, true).unwrap();
        let other = question(7, "b.example.org", 1, true).unwrap();
        assert_eq!(answer(&answered(&asked, [0x81, 0x80], [0; 3], &[]), 8, &asked), Ok(None));
        assert_eq!(answer(&answered(&other, [0x81, 0x80], [0; 3], &[]), 7, &asked), Ok(None));
        assert_eq!(answer(&asked, 7, &asked), Ok(None), "a question");
    }

    #[test]
    fn names_that_turn_in_circles_end() {
        let asked = question(7, "a.b", 1, true).unwrap();
        let circle = [0xc0, asked.len() as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0];
        assert!(answer(&answered(&asked, [0x81, 0x80], [1, 0, 0], &circle), 7, &asked).is_err());
        assert!(answer(b"hush", 7, &asked).is_ok_and(|answer| answer.is_none()));
        assert!(answer(b"", 7, &asked).is_err());
        assert!(question(0, "", 1, true).is_none() && question(0, "a..b", 1, true).is_none());
        assert!(question(0, &"x".repeat(64), 1, true).is_none());
    }
}
