//! What a person asks of the dead letters: `dead-letters list`, `show` and `replay`. All of it works on the files alone,
//! beside a running exporter.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use wire::{Timestamp, Topic};

use super::replay::{self, FOLDER};

/// Lists ids of letters that were put back, beside their file.
const REPLAYED: &str = "dead-letters.replayed";

/// Characters of a detail in the table.
const DETAIL: usize = 300;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Letter {
    /// Absent in files of the first versions.
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) time: String,
    #[serde(default)]
    pub(super) topic: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) detail: String,
    #[serde(default)]
    pub(super) boot: Option<String>,
    #[serde(default)]
    pub(super) seq: Option<u64>,
    #[serde(default)]
    payload: Option<String>,
    #[serde(default)]
    payload_base64: Option<String>,
}

impl Letter {
    /// The payload's bytes.
    pub(super) fn payload(&self) -> Vec<u8> {
        match (&self.payload, &self.payload_base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(text)) => BASE64_STANDARD.decode(text).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

/// The letters of a file, one at a time. A torn or foreign line is passed over.
pub(super) fn letters(path: &Path) -> io::Result<Box<dyn Iterator<Item = Letter>>> {
    let file = match File::open(path) {
        // None were kept yet, or somebody moved them away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(std::iter::empty())),
        file => file?,
    };
    let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    Ok(Box::new(lines.filter_map(|line| serde_json::from_slice(&line).ok())))
}

/// When which letter was put back.
fn replayed(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = match fs::read_to_string(path.with_file_name(REPLAYED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let pair = |line: &str| line.split_once(' ').map(|(id, time)| (id.to_owned(), time.to_owned()));
    Ok(text.lines().filter_map(pair).collect())
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("can't read {}: {error}", path.display())
}

/// Prints a table, oldest first: without those that were put back, unless `all` are asked for.
pub(crate) fn list(path: &Path, all: bool, out: &mut impl Write) -> Result<(), String> {
    let done = replayed(path).map_err(unreadable(path))?;
    let (mut shown, mut hidden) = (0, 0);
    for letter in letters(path).map_err(unreadable(path))? {
        let put_back = done.contains_key(&letter.id);
        if put_back && !all {
            hidden += 1;
            continue;
        }
        if shown == 0 {
            let _ =
                writeln!(out, "{:<12}  {:<24}  {:<8}  {:>9}  {:<38}  WHY", "ID", "TIME", "REASON", "BYTES", "TOPIC");
        }
        shown += 1;
        let topic = letter.topic.strip_prefix("utilizer/v1/telemetry/").unwrap_or(&letter.topic);
        let mut detail = printable(&letter.detail, DETAIL);
        if put_back {
            detail.insert_str(0, "(replayed) ");
        }
        // A closed pipe ends the list and is no failure.
        let line = writeln!(
            out,
            "{:<12}  {:<24}  {:<8}  {:>9}  {:<38}  {detail}",
            letter.id,
            letter.time,
            letter.reason,
            letter.payload().len(),
            printable(topic, 60),
        );
        if line.is_err() {
            return Ok(());
        }
    }
    let hint = if hidden > 0 { format!("; {hidden} more were replayed (--all shows them)") } else { String::new() };
    let _ = match shown {
        0 => writeln!(out, "no dead letters in {}{hint}", path.display()),
        _ => writeln!(out, "\n{shown} in {}{hint}", path.display()),
    };
    Ok(())
}

/// Prints all that is known of one letter, its payload last.
pub(crate) fn show(path: &Path, id: &str, out: &mut impl Write) -> Result<(), String> {
    let done = replayed(path).map_err(unreadable(path))?;
    let letter = find(path, id)?;
    let mut text = format!(
        "id        {}\ntime      {}\ntopic     {}\nreason    {}: {}\n",
        letter.id,
        letter.time,
        printable(&letter.topic, 1000),
        letter.reason,
        printable(&letter.detail, 10_000)
    );
    if let (Some(boot), Some(seq)) = (&letter.boot, letter.seq) {
        text += &format!("record    number {seq} of the run {boot}\n");
    }
    if let Some(time) = done.get(&letter.id) {
        text += &format!("replayed  {time}\n");
    }
    let payload = letter.payload();
    text += &match std::str::from_utf8(&payload) {
        Ok(payload) => format!("payload   {} bytes:\n\n{}\n", payload.len(), printable(payload, usize::MAX)),
        Err(_) => format!(
            "payload   {} bytes that are no text; in base64:\n\n{}\n",
            payload.len(),
            BASE64_STANDARD.encode(&payload)
        ),
    };
    let _ = out.write_all(text.as_bytes());
    Ok(())
}

/// Puts letters back into the way: those named, or all that were not put back yet. The exporter takes them up.
pub(crate) fn replay(path: &Path, ids: &[String], now: Timestamp, out: &mut impl Write) -> Result<(), String> {
    let done = replayed(path).map_err(unreadable(path))?;
    let mut chosen = Vec::new();
    if ids.is_empty() {
        chosen.extend(letters(path).map_err(unreadable(path))?.filter(|letter| !done.contains_key(&letter.id)));
    }
    for id in ids {
        let letter = find(path, id)?;
        if !chosen.contains(&letter) {
            chosen.push(letter);
        }
    }
    let (good, bad): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|letter| matches!(letter.topic.parse(), Ok(Topic::Telemetry(..))));
    for letter in &bad {
        let topic = printable(&letter.topic, 60);
        let _ = writeln!(out, "{} stays: {topic:?} is not the topic of a record, so that nothing takes it", letter.id);
    }
    if good.is_empty() {
        let _ = writeln!(out, "replayed 0 dead letters");
        return Ok(());
    }
    let folder = path.with_file_name(FOLDER);
    let lines: String = good
        .iter()
        .map(|letter| {
            let line =
                json!({"topic": letter.topic, "payload": letter.payload, "payload_base64": letter.payload_base64});
            format!("{line}\n")
        })
        .collect();
    replay::request(path, lines.as_bytes())
        .map_err(|error| format!("can't write into {}: {error}; run this as the exporter's user", folder.display()))?;
    let marks: String = good.iter().map(|letter| format!("{} {now}\n", letter.id)).collect();
    let file: PathBuf = path.with_file_name(REPLAYED);
    let marked = OpenOptions::new().append(true).create(true).mode(0o640).open(&file);
    marked
        .and_then(|mut out| out.write_all(marks.as_bytes()).and_then(|()| replay::give(&file, path)))
        .map_err(|error| format!("they were replayed, but {} can't be written: {error}", file.display()))?;
    let _ = writeln!(
        out,
        "replayed {} dead letters: a running exporter takes them up within seconds, else the next start does",
        good.len()
    );
    Ok(())
}

/// The letter of this id, or of the only one that begins so.
fn find(path: &Path, id: &str) -> Result<Letter, String> {
    let mut found =
        letters(path).map_err(unreadable(path))?.filter(|letter| !id.is_empty() && letter.id.starts_with(id));
    match (found.next(), found.next()) {
        (Some(letter), None) => Ok(letter),
        (Some(letter), Some(_)) if letter.id == id => Ok(letter),
        (Some(_), Some(_)) => Err(format!("several dead letters begin with {id:?}; write more of the id")),
        (None, _) => Err(format!("there is no dead letter {id:?} in {}", path.display())),
    }
}

/// What came from outside must not steer the terminal.
fn printable(text: &str, most: usize) -> String {
    let mut short: String = text
        .chars()
        .take(most)
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    if most == usize::MAX { short } else { short.replace('\n', " ") }
}

#[cfg(test)]
mod tests {
    use super::super::{DeadLetter, DeadLetters, Reason, Replays};
    use super::*;
    use crate::metrics::Metrics;

    fn now() -> Timestamp {
        "2026-11-21T22:30:00Z".parse().unwrap()
    }

    fn said(run: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> String {
        let mut out = Vec::new();
        run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn letters_are_listed_shown_and_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead-letters.ndjson");
        assert!(said(|out| list(&path, false, out)).contains("no dead letters in "));
        let kept = DeadLetters::open(path.clone(), 1 << 20, Metrics::new()).unwrap();
        let letter = |topic: &str, payload: &[u8]| DeadLetter {
            topic: topic.to_owned(),
            reason: Reason::Payload,
            detail: "it is \u{1b}[31mnot\nJSON".to_owned(),
            payload: payload.to_vec(),
            numbered: Some(("b1".parse().unwrap(), 7)),
        };
        let letters = [
            letter("utilizer/v1/telemetry/web-01/pipeline", b"{\"no\": \"\\u0000\""),
            letter("utilizer/v1/telemetry/web-01/logs", &[0xff, 0x00]),
            letter("utilizer/v1/telemetry/web-01/status", b"{}"),
        ];
        kept.keep(&letters, now()).unwrap();

        let table = said(|out| list(&path, false, out));
        let ids: Vec<&str> = table.lines().skip(1).take(3).map(|line| &line[..12]).collect();
        assert!(table.contains("web-01/pipeline") && table.contains("not JSON") && table.contains("3 in "), "{table}");
        assert!(!table.contains('\u{1b}'), "{table}");
        let shown = said(|out| show(&path, ids[0], out));
        assert!(shown.contains("number 7 of the run b1") && shown.ends_with("{\"no\": \"\\u0000\"\n"), "{shown}");
        assert!(said(|out| show(&path, &ids[1][..8], out)).contains("in base64:\n\n/wA=\n"));
        assert!(show(&path, "zzz", &mut Vec::new()).unwrap_err().contains("no dead letter \"zzz\""));

        let answer = said(|out| replay(&path, &[ids[1].to_owned(), ids[1].to_owned()], now(), out));
        assert!(answer.contains("replayed 1 dead letters"), "{answer}");
        let table = said(|out| list(&path, false, out));
        assert!(!table.contains(ids[1]) && table.contains("1 more were replayed"), "{table}");
        assert!(said(|out| list(&path, true, out)).contains("(replayed) it is"));
        let answer = said(|out| replay(&path, &[], now(), out));
        assert!(
            answer.contains("replayed 1 dead letters") && answer.contains(&format!("{} stays", ids[2])),
            "{answer}"
        );

        let replays = Replays::new(&path);
        let mut found: Vec<_> = replays.waiting().into_iter().map(|file| replays.read(&file).unwrap()).collect();
        found.sort_by_key(|replay| replay.messages[0].2.len());
        assert_eq!(found[0].messages[0].2, [0xff, 0x00]);
        assert_eq!(found[1].messages[0].2, b"{\"no\": \"\\u0000\"");
        assert_ne!(found[0].boot, found[1].boot);
        for replay in found {
            replays.done(&replay).unwrap();
        }
        assert!(replays.waiting().is_empty());
    }
}
