//! Notifications that were given up, kept for whoever looks.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use notify::Notification;
use serde_json::json;
use tracing::warn;
use wire::Timestamp;

/// With the one before, the file takes twice as much.
const MOST_BYTES: u64 = 1 << 20;

/// One JSON object a line: when, to whom, why, and the notification.
#[derive(Debug)]
pub(super) struct DeadLetters {
    path: PathBuf,
    count: u64,
}

impl DeadLetters {
    /// In this folder.
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join("notifications-given-up.ndjson"), count: 0 }
    }

    /// How many there were since the start.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn add(&mut self, target: &str, notification: &Notification, why: &str, now: Timestamp) {
        self.count += 1;
        let line = json!({ "time": now, "target": target, "why": why, "notification": notification });
        if let Err(error) = self.write(&format!("{line}\n")) {
            warn!("a notification that was given up can't be written to {}: {error}", self.path.display());
        }
    }

    fn write(&self, line: &str) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() + line.len() as u64 > MOST_BYTES) {
            fs::rename(&self.path, self.path.with_extension("ndjson.1"))?;
        }
        OpenOptions::new().create(true).append(true).open(&self.path)?.write_all(line.as_bytes())
    }
}
