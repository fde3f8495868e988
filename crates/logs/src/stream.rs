//! The lines of one file or connection on their way to records.

use std::sync::Arc;

use wire::Timestamp;
use wire::messages::LogRecord;

use crate::columns::Draft;
use crate::formats::container;
use crate::formats::{Facts, journal};
use crate::multiline::State;
use crate::origin::Origin;
use crate::plan::Plan;
use crate::policy::Policy;

/// Keeps what the lines of one file or connection need: those of a stack trace that wait for the rest.
///
/// Records come out in the order of their lines. Of what waits, nothing has come out: [`Stream::done`] is the place after
/// the last line that is in a record.
#[derive(Debug)]
pub struct Stream {
    plan: Arc<Plan>,
    origin: Origin,
    done: u64,
    /// The beginning of a line that a container engine wrote in parts.
    partial: Option<Piece>,
    /// Lines that may go on.
    group: Option<Group>,
    since: Option<Timestamp>,
}

/// A line with what was around it.
#[derive(Debug, Default)]
struct Piece {
    text: String,
    time: Option<Timestamp>,
    stream: String,
    end: u64,
    cut: u64,
}

#[derive(Debug)]
struct Group {
    piece: Piece,
    lines: usize,
    state: State,
    /// Empty lines behind the last one; they are part of it where another follows.
    empty: usize,
    /// Time and level of the record that had no room for more: what follows it has none of its own.
    after: Option<Box<LogRecord>>,
}

impl Stream {
    /// Of a file or connection.
    pub fn new(plan: &Arc<Plan>, origin: Origin) -> Self {
        Self { plan: plan.clone(), origin, done: 0, partial: None, group: None, since: None }
    }

    /// Takes a line without its end. `end` is the place in the stream after it; `cut` are the bytes of it that were left
    /// out because it was longer than [`Plan::max_line`].
    pub fn line(
        &mut self,
        policy: &mut Policy,
        text: &[u8],
        end: u64,
        cut: u64,
        now: Timestamp,
        out: &mut Vec<LogRecord>,
    ) {
        let text = String::from_utf8_lossy(text);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        let unwrapped = if self.plan.in_container { container::unwrap(text) } else { None };
        let Some(inner) = unwrapped else {
            self.close_partial(policy, now, out);
            return self.whole(policy, text, None, "", end, cut, now, out);
        };
        let stream = inner.stream;
        match &mut self.partial {
            Some(partial) if partial.stream == stream => {
                let room = self.plan.max_line.saturating_sub(partial.text.len());
                let (taken, left) = split(&inner.text, room);
                partial.text.push_str(taken);
                partial.cut += cut + left.len() as u64;
                partial.end = end;
            }
            _ => {
                self.close_partial(policy, now, out);
                if !inner.partial {
                    return self.whole(policy, &inner.text, inner.time, &stream, end, cut, now, out);
                }
                let text = inner.text.into_owned();
                let stream = stream.clone().into_owned();
                self.partial = Some(Piece { text, time: inner.time, stream, end, cut });
            }
        }
        self.since = Some(now);
        if !inner.partial {
            self.close_partial(policy, now, out);
        }
    }

    /// Takes an entry of the journal: its fields. `end` is as in [`Stream::line`].
    pub fn journal(
        &mut self,
        policy: &mut Policy,
        fields: &[(String, String)],
        end: u64,
        now: Timestamp,
        out: &mut Vec<LogRecord>,
    ) {
        let (record, facts) = journal::record(fields, &self.plan.reading, now);
        self.done = end;
        self.finish(policy, record, facts, now, out);
    }

    /// No further line came for a while, or none will: what waits is complete.
    pub fn flush(&mut self, policy: &mut Policy, now: Timestamp, out: &mut Vec<LogRecord>) {
        self.close_partial(policy, now, out);
        self.close(policy, now, out);
    }

    /// The place up to which everything has come out of [`Stream::line`] or [`Stream::flush`] as a record, or was left out
    /// on purpose. A position may move to here, never beyond.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Since when no line was added to what waits; none where nothing does. [`Plan::wait`] says how long it may.
    pub fn waiting_since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Where the lines come from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn close_partial(&mut self, policy: &mut Policy, now: Timestamp, out: &mut Vec<LogRecord>) {
        let Some(Piece { text, time, stream, end, cut }) = self.partial.take() else { return };
        self.since = self.group.as_ref().and(self.since);
        self.whole(policy, &text, time, &stream, end, cut, now, out);
    }

    /// A whole line, which may belong to those before it.
    #[expect(clippy::too_many_arguments, reason = "they are what is known of a line")]
    fn whole(
        &mut self,
        policy: &mut Policy,
        text: &str,
        time: Option<Timestamp>,
        stream: &str,
        end: u64,
        cut: u64,
        now: Timestamp,
        out: &mut Vec<LogRecord>,
    ) {
        let plan = self.plan.clone();
        let Some(multiline) = &plan.multiline else {
            self.done = end;
            if !text.trim_ascii().is_empty() || cut > 0 {
                self.emit(policy, text, time, stream, cut, None, now, out);
            }
            return;
        };
        let mut after = None;
        if let Some(group) = &mut self.group {
            if text.trim_ascii().is_empty() && cut == 0 {
                group.empty += 1;
                group.piece.end = end;
                self.since = Some(now);
                return;
            }
            if group.piece.stream == stream && multiline.goes_on(text, &mut group.state) {
                let more = text.len() + group.empty + 1;
                if group.lines < multiline.max_lines && group.piece.text.len() + more <= multiline.max_bytes {
                    group.piece.text.extend(std::iter::repeat_n('\n', group.empty + 1));
                    group.piece.text.push_str(text);
                    group.lines += 1;
                    group.empty = 0;
                    group.piece.end = end;
                    group.piece.cut += cut;
                    self.since = Some(now);
                    return;
                }
                // No room: the rest is a record of its own, of the same time and level.
                let state = group.state;
                let record = self.close(policy, now, out);
                after = record.map(|record| (state, record));
            } else {
                self.close(policy, now, out);
            }
        }
        if text.trim_ascii().is_empty() && cut == 0 {
            self.done = end;
            return;
        }
        let (state, after) = match after {
            Some((state, record)) => (state, Some(record)),
            None => (multiline.begin(text), None),
        };
        let piece = Piece { text: text.to_owned(), time, stream: stream.to_owned(), end, cut };
        self.group = Some(Group { piece, lines: 1, state, empty: 0, after });
        self.since = Some(now);
    }

    /// Makes a record of the lines that waited. Gives back what the rest of them is to have of it.
    fn close(&mut self, policy: &mut Policy, now: Timestamp, out: &mut Vec<LogRecord>) -> Option<Box<LogRecord>> {
        let Group { piece, after, .. } = self.group.take()?;
        self.since = self.partial.as_ref().and(self.since);
        self.done = piece.end;
        Some(self.emit(policy, &piece.text, piece.time, &piece.stream, piece.cut, after, now, out))
    }

    #[expect(clippy::too_many_arguments, reason = "they are what is known of a line")]
    fn emit(
        &self,
        policy: &mut Policy,
        text: &str,
        time: Option<Timestamp>,
        stream: &str,
        cut: u64,
        after: Option<Box<LogRecord>>,
        now: Timestamp,
        out: &mut Vec<LogRecord>,
    ) -> Box<LogRecord> {
        let mut draft = Draft::default();
        draft.default_time = time;
        let (mut record, mut facts) = match &after {
            None => self.plan.reading.record(text, draft, now),
            Some(before) => {
                draft.default_time = Some(before.timestamp);
                draft.default_level = Some((before.level, before.level_original.clone()));
                let (mut record, _) = draft.lenient(&self.plan.reading.columns, text, now);
                record.service_name.clone_from(&before.service_name);
                record.logger.clone_from(&before.logger);
                (record, Facts::default())
            }
        };
        facts.cut = cut;
        if !stream.is_empty() {
            record.fields.entry("stream".to_owned()).or_insert_with(|| stream.to_owned());
        }
        // What the next record has of this one, if it is its rest.
        let like = Box::new(LogRecord {
            message: String::new(),
            fields: Default::default(),
            service_name: record.service_name.clone(),
            logger: record.logger.clone(),
            level_original: record.level_original.clone(),
            category: String::new(),
            environment: String::new(),
            trace_id: String::new(),
            request_id: String::new(),
            ..record
        });
        self.finish(policy, record, facts, now, out);
        like
    }

    /// What the source knows, and then what the policy says.
    fn finish(
        &self,
        policy: &mut Policy,
        mut record: LogRecord,
        facts: Facts,
        now: Timestamp,
        out: &mut Vec<LogRecord>,
    ) {
        let plan = &self.plan;
        if record.service_name.is_empty()
            && let Some(service) = plan.service.as_ref().or(self.origin.service.as_ref())
        {
            record.service_name.clone_from(service);
        }
        let file = self.origin.file.as_ref().map(|file| ("file", file.as_str()));
        let known = self.origin.fields.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in known.chain(file) {
            if !record.fields.contains_key(key) {
                record.fields.insert(key.to_owned(), value.to_owned());
            }
        }
        if facts.cut > 0 {
            record.fields.insert("cut_bytes".to_owned(), facts.cut.to_string());
        }
        policy.take(record, facts, now, out);
    }
}

/// The first `room` bytes of a text, at most, and the rest; characters stay whole.
fn split(text: &str, room: usize) -> (&str, &str) {
    let mut at = room.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.split_at(at)
}
