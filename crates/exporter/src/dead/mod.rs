//! Dead letters: what could not be read or stored, kept for a person to look at.
//!
//! `dead-letters.ndjson` in the exporter's state folder holds one JSON object a line: `id`, `time`, `topic`, `reason`,
//! `detail`, `boot` and `seq` where the message was numbered, and `payload` as text, or `payload_base64` where it is no
//! UTF-8. The payload is always a message that could come on that topic: of a row that was refused alone, it is a message
//! with just that row. So a letter can be put back into the way (`replay`).
//!
//! A letter is on the disk before its record is booked as committed. The file is bounded; beyond the bound dead letters
//! are counted and logged only. Whoever has looked at it may delete or move it at any time.

mod commands;
mod replay;

pub(crate) use commands::{list, replay as put_back, show};
pub(crate) use replay::Replays;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use wire::{BootId, Timestamp};

use crate::metrics::Metrics;

/// Why something is a dead letter: the label of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The topic is none of utilizer's, or names a host that can't be one.
    Topic,
    /// The payload is not the message that its topic promises.
    Payload,
    /// A version of the message that this program does not know.
    Version,
    /// The payload names another host than the topic.
    Host,
    /// A row that no store takes: too long a text, NaN.
    Row,
    /// A row that this store refused.
    Poison,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 6] =
        [Reason::Topic, Reason::Payload, Reason::Version, Reason::Host, Reason::Row, Reason::Poison];

    /// As it stands in metrics and in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Topic => "topic",
            Reason::Payload => "payload",
            Reason::Version => "version",
            Reason::Host => "host",
            Reason::Row => "row",
            Reason::Poison => "poison",
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The topic it came on.
    pub topic: String,
    /// Why.
    pub reason: Reason,
    /// The same as a sentence.
    pub detail: String,
    /// The message, or one with just the row that was refused.
    pub payload: Vec<u8>,
    /// Run and number of the message that it was, if it had any.
    pub numbered: Option<(BootId, u64)>,
}

/// How often one reason is logged at most; the rest is counted.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The store of dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    path: PathBuf,
    max_bytes: u64,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logged: HashMap<Reason, (Option<Instant>, u64)>,
    full: bool,
}

impl DeadLetters {
    /// Makes the folder and tries whether the file can be written.
    pub fn open(path: PathBuf, max_bytes: u64, metrics: Metrics) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        append(&path)?;
        Ok(Self { path, max_bytes, metrics, state: Mutex::default() })
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps some: writes them down, and only when the disk has them, counts and logs them, each reason at most once a
    /// second. An error: the disk has none of them for sure, and they are to be kept again.
    pub fn keep(&self, letters: &[DeadLetter], now: Timestamp) -> io::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        // No code runs under this lock that could leave the state half changed.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.write(letters, now)?;
        for (letter, kept) in letters.iter().zip(kept) {
            self.metrics.dead_letter(letter.reason);
            if !kept {
                self.metrics.dead_letters_unkept.inc();
                if !state.full {
                    tracing::warn!(
                        "{} has reached its {} bytes: dead letters are counted and logged only until it is moved away",
                        self.path.display(),
                        self.max_bytes
                    );
                }
            }
            state.full = !kept;
            let (at, passed_over) = state.logged.entry(letter.reason).or_insert((None, 0));
            if at.is_some_and(|at| at.elapsed() < LOG_EVERY) {
                *passed_over += 1;
                continue;
            }
            tracing::warn!(
                topic = %letter.topic.chars().take(200).collect::<String>(),
                reason = letter.reason.as_str(),
                passed_over = *passed_over,
                "dead letter: {}",
                letter.detail,
            );
            (*at, *passed_over) = (Some(Instant::now()), 0);
        }
        Ok(())
    }

    /// Whether there was room, for each. Opened each time, so that the file may be moved away at any time.
    fn write(&self, letters: &[DeadLetter], now: Timestamp) -> io::Result<Vec<bool>> {
        let mut file = append(&self.path)?;
        let before = file.metadata()?.len();
        let mut text = String::new();
        // A crash in the middle of a line leaves its beginning.
        let mut last = [b'\n'];
        if before > 0 && file.read_exact_at(&mut last, before - 1).is_ok() && last != [b'\n'] {
            text.push('\n');
        }
        let mut kept = Vec::with_capacity(letters.len());
        for letter in letters {
            let line = line(letter, now);
            let room = before + (text.len() + line.len()) as u64 <= self.max_bytes;
            if room {
                text.push_str(&line);
            }
            kept.push(room);
        }
        if kept.contains(&true) {
            file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).inspect_err(|_| {
                // On a full disk the beginning may have found room; the next attempt would be glued to it.
                let _ = file.set_len(before);
            })?;
        }
        Ok(kept)
    }
}

fn line(letter: &DeadLetter, now: Timestamp) -> String {
    let mut line = json!({
        "id": id(),
        "time": now.to_string(),
        "topic": letter.topic,
        "reason": letter.reason.as_str(),
        "detail": letter.detail,
    });
    if let Some((boot, seq)) = &letter.numbered {
        line["boot"] = boot.as_str().into();
        line["seq"] = (*seq).into();
    }
    match std::str::from_utf8(&letter.payload) {
        Ok(text) => line["payload"] = text.into(),
        Err(_) => line["payload_base64"] = BASE64_STANDARD.encode(&letter.payload).into(),
    }
    let mut line = line.to_string();
    line.push('\n');
    line
}

/// Short enough to be typed, long enough that no two letters of a file share one.
fn id() -> String {
    let mut id = uuid::Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

/// Payloads may hold anything: nobody but the owner and the group reads them.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn letter(payload: &[u8]) -> DeadLetter {
        DeadLetter {
            topic: "utilizer/v1/telemetry/web-01/metrics".to_owned(),
            reason: Reason::Payload,
            detail: "not JSON".to_owned(),
            payload: payload.to_vec(),
            numbered: Some(("b1".parse().unwrap(), 7)),
        }
    }

    fn now() -> Timestamp {
        "2026-11-21T22:30:00Z".parse().unwrap()
    }

    fn lines(path: &Path) -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn letters_are_lines_with_text_or_base64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/dead-letters.ndjson");
        let letters = DeadLetters::open(path.clone(), 1 << 20, Metrics::new()).unwrap();
        letters.keep(&[letter("{\"a\": \"ü\n".as_bytes()), letter(&[0xff, 0, 1])], now()).unwrap();
        let lines = lines(&path);
        assert_eq!(lines[0]["payload"], "{\"a\": \"ü\n");
        assert_eq!(lines[0]["reason"], "payload");
        assert_eq!(lines[0]["time"], "2026-11-21T22:30:00.000Z");
        assert_eq!((&lines[0]["boot"], &lines[0]["seq"]), (&"b1".into(), &7.into()));
        assert_eq!(lines[1]["payload_base64"], "/wAB");
        assert_ne!(lines[0]["id"], lines[1]["id"]);
    }

    #[test]
    fn the_file_is_bounded_and_may_be_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead-letters.ndjson");
        let letters = DeadLetters::open(path.clone(), 500, Metrics::new()).unwrap();
        for _ in 0..10 {
            letters.keep(&[letter(b"payload")], now()).unwrap();
        }
        let full = lines(&path).len();
        assert!((1..10).contains(&full), "{full}");
        assert_eq!(letters.metrics.dead_letters_unkept.get(), 10 - full as u64);
        assert!(fs::metadata(&path).unwrap().len() <= 500);
        fs::remove_file(&path).unwrap();
        letters.keep(&[letter(b"payload")], now()).unwrap();
        assert_eq!(lines(&path).len(), 1);
    }

    #[test]
    fn a_letter_never_continues_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead-letters.ndjson");
        fs::write(&path, "{\"time\": \"2026-").unwrap();
        let letters = DeadLetters::open(path.clone(), 1 << 20, Metrics::new()).unwrap();
        letters.keep(&[letter(b"payload")], now()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["payload"], "payload");
    }
}
