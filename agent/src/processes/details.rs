//! What is told only of the listed processes, since it takes more files: open files, I/O, command line, user, unit.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::files::{Files, Transferred, parse_io};
use super::redact::Redactor;
use super::users::Users;

/// What hardly ever changes is read again after so many passes. Also after the first: a process that was just made
/// often turns into another user's or another program.
const PASSES_BETWEEN_SLOW: u32 = 30;

/// A message has dozens of command lines, and a screen hundreds of columns.
const MOST_CHARACTERS: usize = 500;

/// What was found of one process. A `None` was not to be had.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// Open files, sockets and the like.
    pub open_fds: Option<u64>,
    /// How many it may have.
    pub max_fds: Option<u64>,
    /// Read from storage over the interval.
    pub read_bytes_per_second: Option<f64>,
    /// Written to storage over the interval.
    pub write_bytes_per_second: Option<f64>,
    /// Its command line without secrets, at most 500 characters of it. `None` also for kernel threads.
    pub command_line: Option<Arc<str>>,
    /// The effective user: the name, or the number where there is none.
    pub user: Option<Arc<str>>,
    /// The unit of systemd.
    pub unit: Option<Arc<str>>,
    /// The container's id.
    pub container: Option<Arc<str>>,
}

/// One listed process between passes.
struct Listed {
    pid: u32,
    start_ticks: u64,
    /// The name for which the slow part was read: another program has another.
    name: Box<[u8]>,
    age: u32,
    /// The directory of its open files, where that can be kept.
    descriptors: Option<OwnedFd>,
    io: Io,
    transferred: Option<Transferred>,
    /// A command line's secrets are not kept, only a sum of all its bytes.
    command_line_sum: u64,
    details: Details,
    /// Listed in this pass.
    current: bool,
}

enum Io {
    Unopened,
    Open(OwnedFd),
    /// Until the slow part is read again: it takes the same user or root.
    Refused,
}

/// The listed processes between passes.
#[derive(Default)]
pub(super) struct DetailTable {
    listed: Vec<Listed>,
}

/// What the readers of details have in common.
pub(super) struct Sources<'a> {
    pub(super) proc: BorrowedFd<'a>,
    pub(super) files: &'a mut Files,
    pub(super) users: &'a mut Users,
    /// `None`: command lines are not to be shown.
    pub(super) redactor: Option<&'a Redactor>,
    /// Between the last two passes.
    pub(super) elapsed: Duration,
}

impl DetailTable {
    /// A pass begins.
    pub(super) fn begin(&mut self) {
        self.listed.iter_mut().for_each(|listed| listed.current = false);
    }

    /// The details of a process that is listed in this pass.
    pub(super) fn of(&mut self, pid: u32, start_ticks: u64, name: &[u8], sources: &mut Sources<'_>) -> Details {
        let known = self.listed.iter().position(|listed| (listed.pid, listed.start_ticks) == (pid, start_ticks));
        let position = known.unwrap_or_else(|| {
            self.listed.push(Listed {
                pid,
                start_ticks,
                name: name.into(),
                age: 0,
                descriptors: None,
                io: Io::Unopened,
                transferred: None,
                command_line_sum: 0,
                details: Details::default(),
                current: true,
            });
            self.listed.len() - 1
        });
        let listed = &mut self.listed[position];
        listed.current = true;
        listed.refresh(name, sources);
        listed.details.clone()
    }

    /// A pass ends: forgets what it did not list.
    pub(super) fn end(&mut self) {
        self.listed.retain(|listed| listed.current);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.listed.clear();
    }
}

impl Listed {
    fn refresh(&mut self, name: &[u8], sources: &mut Sources<'_>) {
        if *self.name != *name {
            self.name = name.into();
            self.age = 0;
        }
        if self.age <= 1 || self.age.is_multiple_of(PASSES_BETWEEN_SLOW) {
            self.slow(sources);
        }
        self.age = self.age.wrapping_add(1);

        self.details.open_fds = self.open_files(sources);
        let transferred = self.transferred(sources);
        let seconds = sources.elapsed.as_secs_f64();
        let rate = |bytes: fn(&Transferred) -> u64| {
            let grown = bytes(&transferred?).checked_sub(bytes(&self.transferred?))?;
            (seconds > 0.0).then(|| grown as f64 / seconds)
        };
        self.details.read_bytes_per_second = rate(|transferred| transferred.read);
        self.details.write_bytes_per_second = rate(|transferred| transferred.written);
        self.transferred = transferred;
    }

    /// Reads what hardly ever changes.
    fn slow(&mut self, sources: &mut Sources<'_>) {
        let Sources { proc, files, users, redactor, .. } = sources;
        let details = &mut self.details;
        details.max_fds = files.most_open_files(*proc, self.pid);
        let user = files.status(*proc, self.pid).and_then(|status| status.user);
        details.user = user.map(|user| users.name(user));
        let place = files.place(*proc, self.pid).unwrap_or_default();
        keep_same(&mut details.unit, place.unit.as_deref());
        keep_same(&mut details.container, place.container.as_deref());
        let raw = redactor.and_then(|redactor| Some((redactor, files.command_line(*proc, self.pid)?)));
        match raw {
            None => details.command_line = None,
            Some((redactor, (raw, cut))) => {
                let sum = sum(raw);
                if sum != self.command_line_sum || details.command_line.is_none() {
                    self.command_line_sum = sum;
                    let text = redactor.command_line(raw, cut);
                    details.command_line = (!text.is_empty()).then(|| shortened(text, cut));
                }
            }
        }
        if matches!(self.io, Io::Refused) {
            self.io = Io::Unopened;
        }
    }

    fn open_files(&mut self, sources: &mut Sources<'_>) -> Option<u64> {
        if self.descriptors.is_none() {
            self.descriptors = sources.files.descriptors(sources.proc, self.pid);
        }
        // A kept directory spares looking it up, which costs more than the count itself.
        if let Some(directory) = &self.descriptors {
            let size = rustix::fs::fstat(directory).ok()?.st_size;
            if size > 0 {
                return u64::try_from(size).ok();
            }
        }
        sources.files.open_files(sources.proc, self.pid)
    }

    fn transferred(&mut self, sources: &mut Sources<'_>) -> Option<Transferred> {
        let Sources { proc, files, .. } = sources;
        if let Io::Unopened = self.io {
            self.io = files.open(*proc, self.pid, "io").map_or(Io::Refused, Io::Open);
        }
        let Io::Open(file) = &self.io else { return None };
        match files.text(file) {
            Ok(text) => parse_io(text).ok(),
            Err(_) => {
                self.io = Io::Refused;
                None
            }
        }
    }
}

/// Puts a text in place of another, unless they are the same.
fn keep_same(old: &mut Option<Arc<str>>, new: Option<&str>) {
    if old.as_deref() != new {
        *old = new.map(Arc::from);
    }
}

fn shortened(mut text: String, cut: bool) -> Arc<str> {
    let end = text.char_indices().nth(MOST_CHARACTERS - 1).map(|(at, _)| at);
    match end {
        Some(end) if text[end..].chars().nth(1).is_some() || cut => {
            text.truncate(end);
            text.push('…');
        }
        None if cut => text.push_str(" …"),
        _ => {}
    }
    text.into()
}

/// A sum over all bytes, to see a change.
fn sum(bytes: &[u8]) -> u64 {
    // FNV-1a.
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_command_lines_are_shortened_by_characters() {
        let text = |length: usize| "é".repeat(length);
        assert_eq!(&*shortened(text(500), false), text(500));
        assert_eq!(&*shortened(text(501), false), format!("{}…", text(499)));
        assert_eq!(&*shortened(text(500), true), format!("{}…", text(499)));
        assert_eq!(&*shortened("a b".into(), true), "a b …");
        assert_eq!(&*shortened("a b".into(), false), "a b");
    }
}
