//! The rows of `logs` that one record makes: their texts stand in one buffer behind each other.
//!
//! A line has a dozen texts, and a busy fleet sends hundreds of thousands of lines a second: a string for each text would
//! cost more than everything else that is done with it. Texts that are the same as the line before had them (a service, a
//! logger, the names of fields) stand there once: a sink that builds dictionaries may look whether it is the same memory.

mod read;

use wire::Timestamp;

use crate::rows::LogRow;

pub(crate) use read::read;

/// Rows of `logs`, in the order of their message.
#[derive(Debug, Clone, Default)]
pub struct LogRows(Box<Parts>);

#[derive(Debug, Clone, Default)]
struct Parts {
    texts: String,
    lines: Vec<Line>,
    /// Names and values.
    fields: Vec<(Span, Span)>,
}

/// A part of the buffer, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    length: u32,
}

/// The columns that are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Text {
    /// [`LogRow::level_original`]
    LevelOriginal,
    /// [`LogRow::service_name`]
    ServiceName,
    /// [`LogRow::message`]
    Message,
    /// [`LogRow::host`]
    Host,
    /// [`LogRow::logger`]
    Logger,
    /// [`LogRow::environment`]
    Environment,
    /// [`LogRow::category`]
    Category,
    /// [`LogRow::trace_id`]
    TraceId,
    /// [`LogRow::request_id`]
    RequestId,
    /// [`LogRow::event_id`]
    EventId,
}

const TEXTS: usize = Text::EventId as usize + 1;

#[derive(Debug, Clone)]
struct Line {
    timestamp: Timestamp,
    level: &'static str,
    latency_ms: Option<f64>,
    texts: [Span; TEXTS],
    /// The first of its fields, and the one after its last.
    fields: (u32, u32),
}

/// One row. See [`LogRow`] for what its columns mean.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    rows: &'a Parts,
    line: &'a Line,
}

impl LogRows {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.lines.is_empty()
    }

    /// All of them, in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = LogLine<'_>> + Clone {
        self.0.lines.iter().map(|line| LogLine { rows: &self.0, line })
    }

    /// The first one.
    pub fn first(&self) -> Option<LogLine<'_>> {
        self.iter().next()
    }

    /// Cuts off the rows from this place on.
    pub fn split_off(&mut self, at: usize) -> Self {
        let lines = self.0.lines.split_off(at.min(self.0.lines.len()));
        Self(Box::new(Parts { texts: self.0.texts.clone(), lines, fields: self.0.fields.clone() }))
    }

    /// A record has 4 MiB at most: what is added here, never so much that it has no place in 4 GiB.
    #[inline]
    fn add(&mut self, text: &str) -> Span {
        let start = self.0.texts.len();
        match (u32::try_from(start), u32::try_from(start + text.len())) {
            (Ok(start), Ok(end)) => {
                self.0.texts.push_str(text);
                Span { start, length: end - start }
            }
            _ => Span::default(),
        }
    }

    /// The same, or `last`, if it is that.
    #[inline]
    fn add_again(&mut self, text: &str, last: Span) -> Span {
        if self.0.text(last) == text { last } else { self.add(text) }
    }

    fn last(&self, text: Text) -> Span {
        self.0.lines.last().map_or(Span::default(), |line| line.texts[text as usize])
    }

    fn count_fields(&self) -> u32 {
        u32::try_from(self.0.fields.len()).unwrap_or(u32::MAX)
    }
}

impl Parts {
    #[inline]
    fn text(&self, span: Span) -> &str {
        let start = span.start as usize;
        self.texts.get(start..start + span.length as usize).unwrap_or_default()
    }
}

impl<'a> LogLine<'a> {
    /// When the line was written.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        self.line.timestamp
    }

    /// Its level.
    #[inline]
    pub fn level(&self) -> &'static str {
        self.line.level
    }

    /// Its latency in milliseconds.
    #[inline]
    pub fn latency_ms(&self) -> Option<f64> {
        self.line.latency_ms
    }

    /// One of its texts.
    #[inline]
    pub fn text(&self, column: Text) -> &'a str {
        self.rows.text(self.line.texts[column as usize])
    }

    /// Everything else that it carried, sorted by name.
    #[inline]
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let (rows, (from, to)) = (self.rows, self.line.fields);
        let fields = rows.fields.get(from as usize..to as usize).unwrap_or_default();
        fields.iter().map(|(name, value)| (rows.text(*name), rows.text(*value)))
    }

    /// As a row that stands alone.
    pub fn to_row(&self) -> LogRow {
        let text = |column| self.text(column).to_owned();
        LogRow {
            timestamp: self.timestamp(),
            level: self.level(),
            level_original: text(Text::LevelOriginal),
            service_name: text(Text::ServiceName),
            message: text(Text::Message),
            latency_ms: self.latency_ms(),
            host: text(Text::Host),
            logger: text(Text::Logger),
            environment: text(Text::Environment),
            category: text(Text::Category),
            trace_id: text(Text::TraceId),
            request_id: text(Text::RequestId),
            fields: self.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            event_id: text(Text::EventId),
        }
    }
}

impl PartialEq for LogLine<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.to_row() == other.to_row()
    }
}

impl PartialEq for LogRows {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Extend<LogRow> for LogRows {
    fn extend<T: IntoIterator<Item = LogRow>>(&mut self, rows: T) {
        for row in rows {
            let from = self.count_fields();
            for (name, value) in &row.fields {
                let pair = (self.add(name), self.add(value));
                self.0.fields.push(pair);
            }
            let columns = [
                (Text::LevelOriginal, &row.level_original),
                (Text::ServiceName, &row.service_name),
                (Text::Message, &row.message),
                (Text::Host, &row.host),
                (Text::Logger, &row.logger),
                (Text::Environment, &row.environment),
                (Text::Category, &row.category),
                (Text::TraceId, &row.trace_id),
                (Text::RequestId, &row.request_id),
                (Text::EventId, &row.event_id),
            ];
            let mut texts = [Span::default(); TEXTS];
            for (column, text) in columns {
                texts[column as usize] = self.add_again(text, self.last(column));
            }
            let fields = (from, self.count_fields());
            let LogRow { timestamp, level, latency_ms, .. } = row;
            self.0.lines.push(Line { timestamp, level, latency_ms, texts, fields });
        }
    }
}

impl FromIterator<LogRow> for LogRows {
    fn from_iter<T: IntoIterator<Item = LogRow>>(rows: T) -> Self {
        let mut all = Self::default();
        all.extend(rows);
        all
    }
}

impl From<Vec<LogRow>> for LogRows {
    fn from(rows: Vec<LogRow>) -> Self {
        rows.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_and_put_together_again() {
        const HEAD: &str = r#"{"v":1,"host":"web-01","time":"2026-11-21T22:30:00Z""#;
        const LINE: &str = r#"{"timestamp":"2026-11-21T22:30:00.123Z","level":"WARN","message":"m""#;
        let payload = format!("{HEAD},\"records\":[{LINE}}},{LINE},\"fields\":{{\"a\":\"1\"}}}},{LINE}}}]}}");
        let (_, all) = read(payload.as_bytes(), "b1-7").unwrap();
        let mut first = all.clone();
        let second = first.split_off(1);
        assert_eq!((first.len(), second.len(), all.clone().split_off(9).len()), (1, 2, 0));
        assert_eq!(second.first().map(|line| line.text(Text::EventId)), Some("b1-7-1"));
        first.extend(second.iter().map(|line| line.to_row()));
        assert_eq!(first, all);
        assert!(LogRows::default().is_empty() && LogRows::default().first().is_none());
    }
}
