//! Where the database is and how to sign in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use exporter::sink::SinkError;
use tls::Tls;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

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
    /// PEM files for `sslmode=require`.
    pub files: TlsFiles,
    /// How many connections write, at least 1. Each has a transaction of its own, for hosts of its own.
    pub connections: usize,
}

/// PEM files, read anew for each connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities to trust; the system's where absent.
    pub ca: Option<PathBuf>,
    /// Our certificate and its chain.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// Whom a connection trusts, and as whom it comes.
    fn read(&self) -> Result<MakeRustlsConnect, String> {
        let read = |name: &str, path: &Option<PathBuf>| {
            let Some(path) = path else { return Ok(None) };
            daemon::config::file::read(path).map(Some).map_err(|e| format!("{name} {}: {e}", path.display()))
        };
        let ca = read("ca_file", &self.ca)?;
        let identity = match (read("cert_file", &self.cert)?, read("key_file", &self.key)?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("cert_file and key_file go together; one of them is missing".to_owned()),
        };
        let configuration = Tls { ca, identity, ..Tls::default() }.configuration().map_err(|e| e.to_string())?;
        Ok(MakeRustlsConnect::new(configuration))
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl PostgresConfig {
    /// For a url, with the defaults: one connection, metrics kept for 90 days, alerts for a year.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            retention: Duration::from_secs(90 * 86_400),
            alerts_retention: Duration::from_secs(365 * 86_400),
            files: TlsFiles::default(),
            connections: 1,
        }
    }

    /// Whether the url can be used, without asking the network.
    pub fn check(&self) -> Result<(), String> {
        match self.resolve().and_then(|(config, _)| self.tls(&config)) {
            Ok(_) => Ok(()),
            Err(
                SinkError::Retry { source, .. } | SinkError::Poison { source, .. } | SinkError::Fatal { source, .. },
            ) => Err(source.to_string()),
        }
    }

    /// The client's configuration and the name of the place for messages.
    pub(crate) fn resolve(&self) -> Result<(tokio_postgres::Config, Place), SinkError> {
        if self.url.contains("sslmode=verify-") {
            return Err(fatal(
                "reading [postgres] url",
                "write sslmode=require: the certificate and the host's name in it are always verified",
            ));
        }
        // The parser's own message is left out: with a stray `@` or `:` it may quote part of a password.
        let mut config: tokio_postgres::Config = self.url.parse().map_err(|_| {
            fatal(
                "reading [postgres] url",
                "it is not of the form postgres://user@host:5432/database; special characters in it need \
                 percent-encoding, or put the password into [postgres] password_file",
            )
        })?;
        // Halfway there is nothing: what is encrypted is verified, and Debian's servers offer a certificate of nobody's.
        match (config.get_ssl_mode(), self.files.is_empty()) {
            (SslMode::Disable, false) => {
                return Err(fatal(
                    "reading [postgres] url",
                    "sslmode=disable contradicts ca_file, cert_file and key_file; take out the one or the others",
                ));
            }
            (SslMode::Require, _) | (_, false) => config.ssl_mode(SslMode::Require),
            _ => config.ssl_mode(SslMode::Disable),
        };
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

    /// What an encrypted connection needs; none where it is not encrypted.
    pub(crate) fn tls(&self, config: &tokio_postgres::Config) -> Result<Option<MakeRustlsConnect>, SinkError> {
        if config.get_ssl_mode() != SslMode::Require {
            return Ok(None);
        }
        // They may be replaced one after the other: another try finds them.
        self.files.read().map(Some).map_err(|fault| SinkError::Retry {
            doing: "reading the certificates of [postgres]".to_owned(),
            source: fault.into(),
        })
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
        assert!(refusal("postgres://me@h/d?sslmode=verify-full").contains("write sslmode=require"));
        assert!(refusal("dbname=d user=u").contains("names no host"));
        assert!(refusal("postgres://h/d").contains("names no user"));
    }

    #[test]
    fn what_is_encrypted_is_asked_for() {
        let mode = |url: &str, files: &TlsFiles| {
            let config = PostgresConfig { files: files.clone(), ..PostgresConfig::new(url) };
            config.resolve().map(|(config, _)| config.get_ssl_mode()).map_err(|e| format!("{e:?}"))
        };
        let (none, ca) = (TlsFiles::default(), TlsFiles { ca: Some("ca.pem".into()), ..TlsFiles::default() });
        assert_eq!(mode("postgres://me@h/d", &none), Ok(SslMode::Disable));
        assert_eq!(mode("postgres://me@h/d?sslmode=require", &none), Ok(SslMode::Require));
        assert_eq!(mode("postgres://me@h/d", &ca), Ok(SslMode::Require));
        assert!(mode("postgres://me@h/d?sslmode=disable", &ca).unwrap_err().contains("contradicts ca_file"));
        let config = PostgresConfig { files: ca, ..PostgresConfig::new("postgres://me@h/d") };
        let refusal = config.check().unwrap_err();
        assert!(refusal.starts_with("ca_file ca.pem: "), "{refusal}");
        let half = TlsFiles { cert: Some("/dev/null".into()), ..TlsFiles::default() };
        let refusal = PostgresConfig { files: half, ..PostgresConfig::new("postgres://me@h/d") }.check().unwrap_err();
        assert!(refusal.contains("/dev/null"), "{refusal}");
    }
}
