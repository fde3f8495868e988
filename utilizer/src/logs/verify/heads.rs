//! What is known of chains from elsewhere than the store: the agents' retained messages, and files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use wire::chain::Hash;
use wire::messages::{AuditHead, AuditHeads};
use wire::{BootId, HostName, Timestamp};

use super::walk::Known;
use crate::command::CommandError;

/// Chains by host and run.
#[derive(Debug, Default)]
pub(super) struct Heads(pub(super) BTreeMap<(String, String), Known>);

/// A line of a file: an agent's message, or what `utilizer logs verify --json` wrote.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Message(AuditHeads),
    Chain { host: HostName, boot: BootId, last: u64, hash: Hash },
}

impl Heads {
    /// An agent says it.
    pub(super) fn message(&mut self, heads: AuditHeads) {
        for AuditHead { boot, seq, hash, time, lost } in heads.heads {
            let known = self.0.entry((heads.host.to_string(), boot.to_string())).or_default();
            let highest = known.anchors.last_key_value().map_or(0, |(seq, _)| *seq);
            if seq >= highest {
                known.latest = Some(time);
            }
            known.anchors.insert(seq, hash);
            for loss in lost {
                if !known.lost.contains(&loss) {
                    known.lost.push(loss);
                }
            }
            known.lost.sort_by_key(|loss| loss.from);
        }
    }

    /// Of a run before another one, whose first record says it.
    pub(super) fn before(&mut self, host: &str, text: &str) {
        let mut parts = text.split(' ');
        if let (Some(boot), Some(Ok(seq)), Some(Ok(hash))) =
            (parts.next(), parts.next().map(str::parse), parts.next().map(str::parse))
        {
            self.0.entry((host.to_owned(), boot.to_owned())).or_default().anchors.entry(seq).or_insert(hash);
        }
    }

    /// All lines of a file.
    pub(super) fn file(&mut self, path: &Path) -> Result<(), CommandError> {
        let fault = |why: String| CommandError::Usage(format!("--heads: {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| fault(format!("can't be read: {error}")))?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(Line::Message(heads)) => self.message(heads),
                Ok(Line::Chain { host, boot, last, hash }) => {
                    let known = self.0.entry((host.to_string(), boot.to_string())).or_default();
                    if last > 0 {
                        known.anchors.insert(last, hash);
                    }
                }
                Err(_) => {
                    return Err(fault(format!(
                        "line {number} is neither a message of telemetry/<host>/audit nor of `utilizer logs verify --json`"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// When a run of the agent began: its id says so, where it is a UUID of version 7.
pub(super) fn began(boot: &str) -> Option<Timestamp> {
    let digits: String = boot.chars().filter(|c| *c != '-').take(13).collect();
    let (time, version) = digits.split_at_checked(12)?;
    (version == "7").then(|| i64::from_str_radix(time, 16).ok().map(Timestamp::from_millis)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_runs_say_when_they_began() {
        let began = |id| began(id).map(|time| time.to_string());
        assert_eq!(began("019a3f5e-7c00-7d3a-9b1c-0242ac120002").as_deref(), Some("2025-11-01T12:22:28.096Z"));
        assert_eq!(began("3f5e7c00-0000-4d3a-9b1c-0242ac120002"), None);
        assert_eq!(began("b1"), None);
        assert_eq!(began("größe-größe-größe"), None);
    }

    #[test]
    fn files_hold_messages_and_our_own_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads");
        let hash = "0".repeat(64);
        let message = format!(
            r#"{{"v":1,"host":"h","time":"2026-01-01T00:00:00Z","heads":[{{"boot":"b","seq":7,"hash":"{hash}","time":"2026-01-01T00:00:00Z"}}]}}"#
        );
        let own = format!(r#"{{"host":"h","boot":"b","rows":5,"first":1,"last":5,"hash":"{hash}","intact":true}}"#);
        std::fs::write(&path, format!("{message}\n\n{own}\n")).unwrap();
        let mut heads = Heads::default();
        heads.file(&path).unwrap();
        heads.before("h", &format!("b 9 {hash}"));
        heads.before("h", "nonsense");
        let known = &heads.0[&("h".to_owned(), "b".to_owned())];
        assert_eq!(known.anchors.keys().copied().collect::<Vec<_>>(), [5, 7, 9]);
        std::fs::write(&path, "{}").unwrap();
        let error = heads.file(&path).unwrap_err().to_string();
        assert!(error.contains("line 1 is neither"), "{error}");
    }
}
