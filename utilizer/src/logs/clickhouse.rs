//! ClickHouse's HTTP interface. What is looked for goes as parameters of the query, never as a part of its text.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use daemon::client::{Client, HeaderValue, Request, SecretUrl, Streaming, Target, TlsSettings, basic, header};
use wire::messages::Level;

use super::filter::{Filter, Order, names};
use super::row::{COLUMNS, Row};
use crate::agent::percent;
use crate::command::CommandError;
use crate::terminal::plain;

/// The most of an error that is repeated.
const MOST_SAID: usize = 500;

/// The longest line of an answer: a record has 4 MiB, as JSON up to six times as much.
const LONGEST_LINE: usize = 64 << 20;

/// The hour of a line, as the projection `hourly` of the table has it.
pub(super) const HOUR: &str = "toStartOfHour(timestamp, 'UTC')";

/// A server and a database.
#[derive(Debug)]
pub struct ClickHouse {
    url: SecretUrl,
    database: String,
    authorization: Option<HeaderValue>,
    client: Client,
    patience: Duration,
}

/// Conditions under way, with the values of their parameters.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    text: String,
    values: Vec<String>,
}

impl Conditions {
    /// Adds a condition; each `$` in it is a parameter, in the order of the values.
    pub(super) fn add(&mut self, condition: &str, values: impl IntoIterator<Item = (&'static str, String)>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        let mut values = values.into_iter();
        for (number, part) in condition.split('$').enumerate() {
            if number > 0
                && let Some((of, value)) = values.next()
            {
                let _ = write!(self.text, "{{p{}:{of}}}", self.values.len());
                self.values.push(value);
            }
            self.text.push_str(part);
        }
    }

    /// That a column is one of these names, or fits one of these patterns.
    fn one_of(&mut self, column: &str, list: &[String]) {
        if list.is_empty() {
            return;
        }
        let (plain, patterns) = names(list);
        let mut parts = Vec::new();
        if !plain.is_empty() {
            parts.push(format!("{column} IN ({})", vec!["$"; plain.len()].join(", ")));
        }
        parts.extend(patterns.iter().map(|_| format!("{column} LIKE $")));
        let values = plain.into_iter().cloned().chain(patterns.into_iter().map(|pattern| like(pattern)));
        self.add(&format!("({})", parts.join(" OR ")), values.map(|value| ("String", value)));
    }

    /// All of a filter.
    pub(super) fn of(filter: &Filter) -> Self {
        let mut all = Self::default();
        for (ms, comparison) in [(filter.from, ">="), (filter.to, "<")] {
            if let Some(ms) = ms {
                all.add(&format!("timestamp {comparison} fromUnixTimestamp64Milli($)"), [("Int64", ms.to_string())]);
            }
        }
        all.columns(filter);
        all
    }

    /// The same for a filter of whole hours, by the hour of a line: the server then counts from its hourly statistics, if
    /// the filter looks at nothing that they lack.
    pub(super) fn of_hours(filter: &Filter) -> Self {
        let mut all = Self::default();
        for (ms, comparison) in [(filter.from, ">="), (filter.to, "<")] {
            if let Some(ms) = ms {
                all.add(
                    &format!("{HOUR} {comparison} fromUnixTimestamp64Milli($, 'UTC')"),
                    [("Int64", ms.to_string())],
                );
            }
        }
        all.columns(filter);
        all
    }

    fn columns(&mut self, filter: &Filter) {
        let all = self;
        if !filter.levels.is_empty() {
            let marks = vec!["$"; filter.levels.len()].join(", ");
            let values = filter.levels.iter().map(|level: &Level| ("String", level.to_string()));
            all.add(&format!("level IN ({marks})"), values);
        }
        all.one_of("service_name", &filter.services);
        all.one_of("host", &filter.hosts);
        all.one_of("category", &filter.categories);
        for (column, id) in [("trace_id", &filter.trace_id), ("request_id", &filter.request_id)] {
            if let Some(id) = id {
                all.add(&format!("{column} = $"), [("String", id.clone())]);
            }
        }
        for word in &filter.words {
            all.add("hasToken(lower(message), $)", [("String", word.clone())]);
        }
        if let Some(text) = &filter.grep {
            let columns = ["message", "service_name", "logger", "environment", "category", "trace_id", "request_id"];
            let any: Vec<String> = columns.iter().map(|column| format!("position({column}, $) > 0")).collect();
            let condition =
                format!("({} OR arrayExists(v -> position(v, $) > 0, mapValues(fields)))", any.join(" OR "));
            all.add(&condition, vec![("String", text.clone()); columns.len() + 1]);
        }
    }

    /// `WHERE …`, or nothing.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A parameter more, without a condition.
    pub(super) fn parameter(&mut self, of: &str, value: String) -> String {
        self.values.push(value);
        format!("{{p{}:{of}}}", self.values.len() - 1)
    }
}

/// A pattern with `*` and `?` for LIKE.
fn like(pattern: &str) -> String {
    let mut text = String::new();
    for c in pattern.chars() {
        match c {
            '*' => text.push('%'),
            '?' => text.push('_'),
            '%' | '_' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            c => text.push(c),
        }
    }
    text
}

/// A value as the server reads it from a parameter of the request.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\0' => text.push_str("\\0"),
            c => text.push(c),
        }
    }
    text
}

impl ClickHouse {
    /// Connects to nothing yet.
    pub fn new(
        url: &str,
        database: &str,
        user: Option<&str>,
        password: Option<&str>,
        ca_file: Option<PathBuf>,
        patience: Duration,
    ) -> Result<Self, CommandError> {
        let url: SecretUrl = url.parse().map_err(|error| CommandError::Usage(format!("--clickhouse: {error}")))?;
        let plain_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if database.is_empty() || !database.chars().all(plain_name) {
            return Err(CommandError::Usage(format!(
                "--database: {database:?} is no name of a database: letters, digits, '_' and '-' are allowed"
            )));
        }
        let client = Client::new(&TlsSettings { ca_file, ..TlsSettings::default() }).map_err(|faults| {
            let faults: Vec<String> = faults.into_iter().map(|(_, fault)| fault).collect();
            CommandError::Usage(format!("--clickhouse-ca-file: {}", faults.join("; ")))
        })?;
        let credentials = user.is_some() || password.is_some();
        let authorization = credentials.then(|| basic(user.unwrap_or("default"), password.unwrap_or_default()));
        Ok(Self { url, database: database.to_owned(), authorization, client, patience })
    }

    /// As people call it.
    pub fn place(&self) -> String {
        format!("{} (database {})", self.url.place(), self.database)
    }

    /// Gives the lines of `logs` that are asked for.
    pub(super) async fn rows(
        &self,
        filter: &Filter,
        order: Order,
        limit: Option<u64>,
        each: &mut (dyn FnMut(Row) -> Result<(), CommandError> + Send),
    ) -> Result<(), CommandError> {
        let mut conditions = Conditions::of(filter);
        let order = match order {
            Order::Newest => "DESC",
            Order::Oldest => "ASC",
        };
        let limit = limit.map(|limit| format!(" LIMIT {}", conditions.parameter("UInt64", limit.to_string())));
        let query = format!(
            "SELECT {COLUMNS} FROM logs{} ORDER BY timestamp {order}{}",
            conditions.text(),
            limit.unwrap_or_default()
        );
        self.ask(&query, &conditions, &mut |row| each(row)).await
    }

    /// Sends a query and gives each row of the answer.
    pub(super) async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        query: &str,
        conditions: &Conditions,
        each: &mut (dyn FnMut(T) -> Result<(), CommandError> + Send),
    ) -> Result<(), CommandError> {
        let mut answer =
            self.send(&format!("{query} FORMAT JSONCompactEachRow"), conditions, "", self.patience).await?;
        let (mut buffer, mut done) = (Vec::new(), 0);
        loop {
            let piece = answer.next(self.patience).await.map_err(|error| self.failed(&error.to_string()))?;
            let is_end = piece.is_none();
            buffer.extend_from_slice(&piece.unwrap_or_default());
            while let Some(length) = buffer.get(done..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
                let line = buffer.get(done..done + length).unwrap_or_default();
                done += length + 1;
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                match serde_json::from_slice(line) {
                    Ok(row) => each(row)?,
                    Err(_) if line.is_empty() => {}
                    // Bytes of a row that is no text, and of a server that failed in the middle of its answer.
                    Err(error) => match serde_json::from_str(&String::from_utf8_lossy(line)) {
                        Ok(row) => each(row)?,
                        Err(_) => return Err(self.broken(&buffer[done - length - 1..], &error)),
                    },
                }
            }
            buffer.drain(..done);
            done = 0;
            if is_end {
                return if buffer.iter().all(u8::is_ascii_whitespace) {
                    Ok(())
                } else {
                    Err(self.broken(&buffer, &"its answer ends in the middle of a row"))
                };
            }
            if buffer.len() > LONGEST_LINE {
                return Err(self.failed(&format!("a row of its answer has more than {LONGEST_LINE} bytes")));
            }
        }
    }

    /// All rows of a short answer.
    pub(super) async fn all<T: serde::de::DeserializeOwned + Send>(
        &self,
        query: &str,
        conditions: &Conditions,
    ) -> Result<Vec<T>, CommandError> {
        let mut rows = Vec::new();
        self.ask(query, conditions, &mut |row| {
            rows.push(row);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Runs a statement that answers nothing, and for that takes a while. `settings`: parameters of the request,
    /// `&name=value`.
    pub(super) async fn run_long(
        &self,
        statement: &str,
        conditions: &Conditions,
        settings: &str,
        patience: Duration,
    ) -> Result<(), CommandError> {
        let mut answer = self.send(statement, conditions, settings, patience).await?;
        while answer.next(patience).await.map_err(|error| self.failed(&error.to_string()))?.is_some() {}
        Ok(())
    }

    async fn send(
        &self,
        query: &str,
        conditions: &Conditions,
        settings: &str,
        patience: Duration,
    ) -> Result<Streaming, CommandError> {
        let mut url = self.url.expose();
        url.push_str(if url.contains('?') { "&" } else { "?" });
        let _ = write!(url, "database={}{settings}", percent(&self.database));
        for (number, value) in conditions.values.iter().enumerate() {
            let _ = write!(url, "&param_p{number}={}", percent(&escaped(value)));
        }
        let url: SecretUrl =
            url.parse().map_err(|_| CommandError::Usage("what is looked for is too long for a request".to_owned()))?;
        let mut request = Request::post("text/plain; charset=utf-8", query.to_owned());
        if let Some(authorization) = &self.authorization {
            request = request.with(header::AUTHORIZATION, authorization.clone());
        }
        let answer = self.client.open(Target::Url(&url), request, patience).await;
        let mut answer = answer.map_err(|error| self.failed(&error.to_string()))?;
        if answer.status == 200 {
            return Ok(answer);
        }
        let mut text = Vec::new();
        while let Ok(Some(piece)) = answer.next(patience).await {
            text.extend_from_slice(&piece);
            if text.len() > 64 << 10 {
                break;
            }
        }
        Err(self.refusal(answer.status, &String::from_utf8_lossy(&text)))
    }

    fn failed(&self, why: &str) -> CommandError {
        CommandError::Failed(format!("can't read logs from ClickHouse: {why}; --clickhouse says where it is"))
    }

    /// An answer that began well.
    fn broken(&self, rest: &[u8], why: &dyn std::fmt::Display) -> CommandError {
        let text = String::from_utf8_lossy(rest);
        match text.find("Code: ").and_then(|at| text.get(at..)) {
            Some(text) => self.refusal(200, text),
            None => {
                CommandError::Failed(format!("{} answers something else than ClickHouse does: {why}", self.url.place()))
            }
        }
    }

    fn refusal(&self, status: u16, text: &str) -> CommandError {
        let code = text.split_once("Code: ").and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<u32>().ok())
        });
        let place = self.place();
        let said: String = text.trim().lines().next().unwrap_or_default().chars().take(MOST_SAID).collect();
        let said = plain(&said).into_owned();
        let sentence = match code {
            Some(192..=195 | 516) => {
                format!("{place} does not take this user and password; --user and --user-password-file say who asks")
            }
            Some(291 | 497) => format!("{place} does not allow this user that: {said}"),
            Some(60) => format!(
                "{place} has no table `logs`: is it the exporter's database? --database names it, and \
                 `utilizer-exporter-clickhouse migrate` makes the table"
            ),
            Some(81) => format!("{place}: there is no such database; --database names the exporter's"),
            Some(_) => format!("{place} refuses: {said}"),
            None if status == 404 => format!("{place} answers 404: is that ClickHouse's HTTP interface?"),
            None => format!("{place} answers {status}: {said}"),
        };
        CommandError::Failed(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ClickHouse {
        let patience = Duration::from_secs(1);
        ClickHouse::new("http://me.example:8123", "d", Some("u"), Some("hush"), None, patience).unwrap()
    }

    #[test]
    fn values_are_never_in_the_text() {
        let evil = "'; DROP TABLE logs --".to_owned();
        let filter = Filter {
            from: Some(1000),
            grep: Some(evil.clone()),
            services: vec![evil.clone(), "a*_".to_owned()],
            trace_id: Some(evil.clone()),
            ..Filter::default()
        };
        let conditions = Conditions::of(&filter);
        assert!(!conditions.text().contains("DROP"), "{}", conditions.text());
        assert!(conditions.text().starts_with(
            " WHERE timestamp >= fromUnixTimestamp64Milli({p0:Int64}) AND (service_name IN ({p1:String}) OR service_name LIKE \
             {p2:String})"
        ));
        assert_eq!(conditions.values[..3], ["1000".to_owned(), evil, "a%\\_".to_owned()]);
        assert_eq!(escaped("a\\b\tc\nd"), "a\\\\b\\tc\\nd");
    }

    #[test]
    fn faults_say_what_to_do_and_no_secret() {
        let server = server();
        assert!(!format!("{server:?}").contains("hush"));
        let code = |code: u32| server.refusal(500, &format!("Code: {code}. DB::Exception: words\u{1b}")).to_string();
        assert!(code(516).contains("--user-password-file"), "{}", code(516));
        assert!(code(60).contains("migrate") && code(81).contains("--database"));
        assert!(code(241).ends_with("words\\x1b"), "{}", code(241));
        assert!(server.refusal(404, "not found").to_string().contains("is that ClickHouse"));
        assert!(server.broken(b"<html>", &"x").to_string().contains("something else than ClickHouse"));
        assert!(server.broken(b"\n__exception__\nCode: 159. DB::Exception: slow", &"x").to_string().contains("slow"));
        let wrong =
            |url, database| ClickHouse::new(url, database, None, None, None, Duration::ZERO).unwrap_err().to_string();
        assert!(wrong("ch:8123", "d").contains("--clickhouse: it is no URL"));
        assert!(wrong("http://a:b@ch", "d").contains("user name or password"));
        assert!(wrong("http://ch", "a`b").contains("no name of a database"));
    }
}
