//! Where the database is and how to sign in.

use std::fmt;
use std::time::Duration;

use exporter::sink::SinkError;
use tokio_postgres::config::{Host, SslMode};

use crate::error::fatal;

/// How long a connection may take to come about, and how long the server may stay silent on a sent byte.
const NETWORK_PATIENCE: Duration = Duration::from_secs(10);

/// What [`Postgres`](crate::Postgres) needs to know.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgres://user[:password]@host[:port]/database`, or libpq's `key=value` form.
    pub url: String,
    /// Used where the url has none; meant to be read from a file.
    pub password: Option<String>,
    /// Rows older than this get no day partition of their own. The same as the tier's `[retention] metrics`.
    pub retention: Duration,
    /// Alerts that arrived longer ago are deleted.
    pub alerts_retention: Duration,
    /// How many connections write, at least 1. Each has a transaction of its own, for hosts of its own.
    pub connections: usize,
}

impl PostgresConfig {
    /// For a url, with the defaults: one connection, metrics kept for 90 days, alerts for a year.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            retention: Duration::from_secs(90 * 86_400),
            alerts_retention: Duration::from_secs(365 * 86_400),
            connections: 1,
        }
    }

    /// Whether the url can be used, without asking the network.
    pub fn check(&self) -> Result<(), String> {
        match self.resolve() {
            Ok(_) => Ok(()),
            Err(
                SinkError::Retry { source, .. } | SinkError::Poison { source, .. } | SinkError::Fatal { source, .. },
            ) => Err(source.to_string()),
        }
    }

    /// The client's configuration and the name of the place for messages.
    pub(crate) fn resolve(&self) -> Result<(tokio_postgres::Config, Place), SinkError> {
        // The parser's own message is left out: with a stray `@` or `:` it may quote part of a password.
        let mut config: tokio_postgres::Config = self.url.parse().map_err(|_| {
            fatal(
                "reading [postgres] url",
                "it is not of the form postgres://user@host:5432/database; special characters in it need \
                 percent-encoding, or put the password into [postgres] password_file",
            )
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(fatal(
                "reading [postgres] url",
                "sslmode=require can't be kept: connections are not encrypted yet; take it out and reach the \
                 database over a trusted network or a tunnel",
            ));
        }
        config.ssl_mode(SslMode::Disable);
        if config.get_password().is_none()
            && let Some(password) = &self.password
        {
            config.password(password);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(fatal("reading [postgres] url", "it names no host; write postgres://user@host:5432/database"));
        }
        if config.get_user().is_none() {
            return Err(fatal("reading [postgres] url", "it names no user; write postgres://user@host:5432/database"));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(NETWORK_PATIENCE);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(3 * NETWORK_PATIENCE);
        }
        if config.get_application_name().is_none() {
            config.application_name("utilizer-exporter-postgres");
        }
        let place = Place::of(&config);
        Ok((config, place))
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self.resolve() {
            Ok((_, place)) => place.to_string(),
            Err(_) => "unreadable".to_owned(),
        };
        f.debug_struct("PostgresConfig")
            .field("url", &url)
            .field("password", &self.password.as_ref().map(|_| "redacted"))
            .field("retention", &self.retention)
            .field("alerts_retention", &self.alerts_retention)
            .field("connections", &self.connections)
            .finish()
    }
}

/// `host:port/database`, as messages name it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(String);

impl Place {
    fn of(config: &tokio_postgres::Config) -> Self {
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        // libpq's rule: a database that is not named is called as the user.
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        Self(format!("{host}:{port}/{database}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match PostgresConfig::new(url).resolve() {
            Err(SinkError::Fatal { doing, source }) => format!("{doing}: {source}"),
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn the_place_has_no_password() {
        let mut config = PostgresConfig::new("postgres://me:hush-hush@db.example:6000/recap");
        config.password = Some("also-secret".to_owned());
        assert_eq!(config.resolve().unwrap().1.to_string(), "db.example:6000/recap");
        let debug = format!("{config:?}");
        assert!(!debug.contains("hush") && !debug.contains("also-secret"), "{debug}");
    }

    #[test]
    fn the_password_of_the_url_comes_first() {
        let mut config = PostgresConfig::new("postgres://me:one@h/d");
        config.password = Some("two".to_owned());
        assert_eq!(config.resolve().unwrap().0.get_password(), Some(&b"one"[..]));
        config.url = "postgres://me@h/d".to_owned();
        assert_eq!(config.resolve().unwrap().0.get_password(), Some(&b"two"[..]));
    }

    #[test]
    fn refusals_name_the_remedy_and_no_password() {
        for url in ["postgres://me:hush@:x@h:port/d", "hush", "mysql://me:hush@h/d"] {
            let refusal = refusal(url);
            assert!(refusal.contains("postgres://user@host:5432/database") && !refusal.contains("hush"), "{refusal}");
        }
        assert!(refusal("postgres://me@h/d?sslmode=require").contains("sslmode"));
        assert!(refusal("dbname=d user=u").contains("names no host"));
        assert!(refusal("postgres://h/d").contains("names no user"));
    }
}
