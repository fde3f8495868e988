//! ClickHouse by its HTTP interface: logs and alerts.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use wire::{Kind, Timestamp};

use super::{Expected, Tally, Verdict, failed};
use crate::command::CommandError;
use crate::http;

/// Where it is, and who we are to it.
#[derive(Clone)]
pub(in crate::sim) struct Server {
    /// `HOST:PORT`.
    address: String,
    database: String,
    /// `USER:PASSWORD`.
    credentials: Option<String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}/{}", self.address, self.database)
    }
}

impl FromStr for Server {
    type Err = String;

    /// `http://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`.
    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("write http://HOST:8123/DATABASE")?;
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, host) = match place.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials.to_owned()), host),
            None => (None, place),
        };
        let database = path.split('?').next().unwrap_or_default();
        if host.is_empty() || !database.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err("write http://HOST:8123/DATABASE".to_owned());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Self {
            address: if has_port { host.to_owned() } else { format!("{host}:8123") },
            database: if database.is_empty() { "default".to_owned() } else { database.to_owned() },
            credentials,
        })
    }
}

/// Counts the rows of every record.
pub(super) async fn look(server: &Server, expected: &Expected<'_>) -> Result<Verdict, CommandError> {
    let store = format!("the ClickHouse database {} at {}", server.database, server.address);
    let mut tally = Tally::new(expected);
    for (table, time, kind) in [("logs", "timestamp", Kind::Logs), ("alerts", "time", Kind::Alerts)] {
        if !expected.plan.kinds.contains(&kind) {
            continue;
        }
        // The prefix is a part of host names, which hold nothing that would need an escape.
        let query = format!(
            "SELECT replaceRegexpOne(event_id, '-[0-9]+$', '') AS record, count(), uniqExact(event_id) FROM {table} \
             WHERE startsWith(host, '{}') AND {time} >= fromUnixTimestamp64Milli(toInt64({})) GROUP BY record \
             FORMAT TabSeparated",
            expected.prefix(),
            Timestamp::from_millis(expected.since()).as_millis(),
        );
        let answer = ask(server, &query).await.map_err(|error| failed(&store, error))?;
        for line in answer.lines() {
            let mut cells = line.split('\t');
            let (Some(record), Some(rows), Some(distinct)) = (cells.next(), number(cells.next()), number(cells.next()))
            else {
                return Err(failed(&store, format_args!("it answered {line:?}")));
            };
            tally.note(expected.record_of(record, kind), rows, Some(distinct), None);
        }
    }
    Ok(tally.judge(store, &[Kind::Logs, Kind::Alerts]))
}

fn number(cell: Option<&str>) -> Option<u64> {
    cell?.parse().ok()
}

async fn ask(server: &Server, query: &str) -> Result<String, http::Error> {
    let mut request = Request::post(format!("/?database={}", server.database)).header("host", &server.address);
    if let Some(credentials) = &server.credentials {
        request = request.header("authorization", format!("Basic {}", STANDARD.encode(credentials)));
    }
    let request = request.body(Full::new(Bytes::from(query.to_owned())))?;
    let (status, body) = http::ask(http::Place::Tcp(&server.address), request, usize::MAX).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        return Err(format!("{status}: {}", text.lines().next().unwrap_or_default()).into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn urls_are_read_and_their_passwords_not_shown() {
        let server: Server = "http://me:hush@db.example/utilizer".parse().unwrap();
        assert_eq!(format!("{server:?}"), "http://db.example:8123/utilizer");
        assert_eq!(server.credentials.as_deref(), Some("me:hush"));
        let server: Server = "http://127.0.0.1:18123".parse().unwrap();
        assert_eq!(format!("{server:?}"), "http://127.0.0.1:18123/default");
        assert!("http://".parse::<Server>().is_err() && "http://a/b'c".parse::<Server>().is_err());
    }
}
