//! Where ClickHouse is, how to sign in, and how long logs stay.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clickhouse::Client;
use exporter::sink::SinkError;

use crate::failure::fatal;

const DAY: u64 = 86_400;

/// Above this the end of a row's life would leave the range of ClickHouse's `DateTime` (2106), wrap around and
/// delete everything at once.
const TTL_MAX: Duration = Duration::from_secs(20 * 365 * DAY);

/// Below this a day's partition would be dropped while lines still arrive in it.
const TTL_MIN: Duration = Duration::from_secs(3600);

/// What [`ClickHouse`](crate::ClickHouse) needs to know.
#[derive(Clone, PartialEq, Eq)]
pub struct ClickHouseConfig {
    /// `http://host:8123`, a path behind it if a proxy wants one. No credentials in it.
    pub url: String,
    /// Made if missing. Letters, digits, `_` and `-`.
    pub database: String,
    /// `None` leaves the server its `default`.
    pub username: Option<String>,
    /// Meant to be read from a file.
    pub password: Option<String>,
    /// How long log lines stay, counted from their arrival. The table's TTL follows it at each start.
    pub log_ttl: Duration,
    /// The same for lines of some categories.
    pub category_ttl: BTreeMap<String, Duration>,
    /// The same for alerts.
    pub alert_ttl: Duration,
    /// How many inserts of a batch run at the same time, at least 1. A batch of at most [`PIECE`](crate::PIECE) rows is
    /// one for each table.
    pub connections: usize,
}

impl ClickHouseConfig {
    /// For a url, with the database `utilizer`, the server's default user, 30 days of logs, 90 of audit records and a year
    /// of alerts.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            database: "utilizer".to_owned(),
            username: None,
            password: None,
            log_ttl: Duration::from_secs(30 * DAY),
            category_ttl: BTreeMap::from([("audit".to_owned(), Duration::from_secs(90 * DAY))]),
            alert_ttl: Duration::from_secs(365 * DAY),
            connections: 1,
        }
    }

    /// A client that names no database yet, since that may have to be made first.
    pub(crate) fn client(&self) -> Result<Client, SinkError> {
        self.check()?;
        // Bodies are not compressed: Native blocks are not by this client, and answers are short.
        let mut client = Client::default().with_url(&self.url).with_compression(clickhouse::Compression::None);
        if let Some(username) = &self.username {
            client = client.with_user(username);
        }
        if let Some(password) = &self.password {
            client = client.with_password(password);
        }
        Ok(client.with_product_info("utilizer-exporter-clickhouse", env!("CARGO_PKG_VERSION")))
    }

    fn check(&self) -> Result<(), SinkError> {
        // The url is not quoted: with a stray `@` it may hold a password.
        let reading_url = "reading [clickhouse] url";
        let Some((authority, rest)) = self.parts() else {
            return Err(fatal(
                reading_url,
                "it is not of the form http://host:8123 (TLS is not supported yet: reach the server over a trusted \
                 network or a tunnel)",
            ));
        };
        if authority.contains('@') {
            return Err(fatal(
                reading_url,
                "it holds credentials; put them into [clickhouse] username and password_file",
            ));
        }
        if rest.contains(['?', '#']) {
            return Err(fatal(reading_url, "it has a query; name the database in [clickhouse] database"));
        }
        let name = &self.database;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(fatal(
                "reading [clickhouse] database",
                format!("{name:?} can't be a database's name here: 1 to 64 letters, digits, '_' and '-' are allowed"),
            ));
        }
        let categories = self.category_ttl.iter().map(|(name, ttl)| (format!("categories.{name}"), *ttl));
        let all = [("logs".to_owned(), self.log_ttl), ("alerts".to_owned(), self.alert_ttl)];
        for (key, ttl) in all.into_iter().chain(categories) {
            if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
                let refusal = format!("{} s is out of range: 1 hour to 20 years are allowed", ttl.as_secs());
                return Err(fatal(format!("reading [retention] {key}"), refusal));
            }
        }
        Ok(())
    }

    /// Host and port, and what follows them.
    fn parts(&self) -> Option<(&str, &str)> {
        let rest = self.url.strip_prefix("http://")?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        (!authority.is_empty()).then_some((authority, rest))
    }

    /// As messages name the server: never with credentials.
    pub(crate) fn place(&self) -> String {
        match self.parts() {
            Some((authority, _)) => {
                format!("http://{}", authority.rsplit_once('@').map_or(authority, |(_, host)| host))
            }
            None => "an unreadable url".to_owned(),
        }
    }

    /// The TTL expression of `logs` in the server's own spelling, so that it can be compared with the table's.
    pub(crate) fn log_ttl_expression(&self) -> String {
        if self.category_ttl.is_empty() {
            return ttl(self.log_ttl);
        }
        let cases: String = self
            .category_ttl
            .iter()
            .map(|(name, ttl)| {
                let name = name.replace('\\', "\\\\").replace('\'', "\\'");
                format!("category = '{name}', {}, ", ttl.as_secs())
            })
            .collect();
        format!("ingested_at + toIntervalSecond(multiIf({cases}{}))", self.log_ttl.as_secs())
    }

    /// The same for `alerts`.
    pub(crate) fn alert_ttl_expression(&self) -> String {
        ttl(self.alert_ttl)
    }
}

fn ttl(ttl: Duration) -> String {
    let seconds = ttl.as_secs();
    if seconds.is_multiple_of(DAY) {
        format!("ingested_at + toIntervalDay({})", seconds / DAY)
    } else {
        format!("ingested_at + toIntervalSecond({seconds})")
    }
}

impl fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseConfig")
            .field("url", &self.place())
            .field("database", &self.database)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "redacted"))
            .field("log_ttl", &self.log_ttl)
            .field("category_ttl", &self.category_ttl)
            .field("alert_ttl", &self.alert_ttl)
            .field("connections", &self.connections)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut ClickHouseConfig)) -> String {
        let mut config = ClickHouseConfig::new("http://127.0.0.1:8123");
        change(&mut config);
        match config.client().err() {
            Some(SinkError::Fatal { doing, source }) => format!("{doing}: {source}"),
            other => panic!("expected a fatal error, got {other:?}"),
        }
    }

    #[test]
    fn credentials_in_the_url_are_refused_and_never_shown() {
        let text = refusal(|c| c.url = "http://bob:hunter2@db:8123".into());
        assert!(text.contains("password_file") && !text.contains("hunter2"), "{text}");
        let config = ClickHouseConfig {
            password: Some("hunter2".into()),
            ..ClickHouseConfig::new("http://bob:hunter2@db:8123/path")
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("\"http://db:8123\"") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn each_fault_is_named() {
        assert!(refusal(|c| c.url = "https://db:8443".into()).contains("TLS"));
        assert!(refusal(|c| c.url = "http://".into()).contains("http://host:8123"));
        assert!(refusal(|c| c.url = "http://db/?database=x".into()).contains("[clickhouse] database"));
        assert!(refusal(|c| c.database = "a`b".into()).contains("\"a`b\" can't be a database's name"));
        assert!(refusal(|c| c.database.clear()).contains("1 to 64"));
        assert!(refusal(|c| c.log_ttl = Duration::from_secs(59)).contains("59 s is out of range"));
        assert!(refusal(|c| c.log_ttl = Duration::from_secs(100 * 365 * DAY)).contains("20 years"));
    }

    #[test]
    fn the_ttl_is_spelled_as_the_server_does() {
        let mut config = ClickHouseConfig::new("http://db");
        let default = "ingested_at + toIntervalSecond(multiIf(category = 'audit', 7776000, 2592000))";
        assert_eq!(config.log_ttl_expression(), default);
        config.category_ttl.clear();
        assert_eq!(config.log_ttl_expression(), "ingested_at + toIntervalDay(30)");
        config.log_ttl = Duration::from_secs(5400);
        assert_eq!(config.log_ttl_expression(), "ingested_at + toIntervalSecond(5400)");
    }
}
