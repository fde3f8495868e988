//! What a connection is made of, checked before anything is started.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tls::Tls;

use crate::{Message, Pauses};

/// How to connect, to which broker and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the broker is.
    pub broker: BrokerUrl,
    /// The client id; the broker keeps one session under each.
    pub client_id: String,
    /// User name, if the broker asks for one.
    pub username: Option<String>,
    /// Password, if the broker asks for one.
    pub password: Option<Secret>,
    /// Certificates; looked at only if the URL says `mqtts`.
    pub tls: Tls,
    /// Where password and certificates are read anew before each attempt to connect; `None`: they stay as they are.
    pub source: Option<Source>,
    /// How long the connection may be silent before a ping; whole seconds, zero for never.
    pub keep_alive: Duration,
    /// Whether every connection starts without the session of the one before.
    pub clean_start: bool,
    /// How long the broker keeps the session after the connection ended; zero: not at all, and then a second client of
    /// the same id can't be found out where the broker does not tell of it.
    pub session_expiry: Duration,
    /// How many received messages may be without PUBACK before the broker stops sending, at least 1.
    pub receive_maximum: u16,
    /// Asks for messages at QoS 0 instead of 1: for looking on, and for reading more retained messages than a broker keeps
    /// waiting for one client (mosquitto drops what goes beyond 1,000 unacknowledged ones of QoS 1).
    pub receive_at_most_once: bool,
    /// Filters that are asked for at QoS 0 anyhow: those of states that a broker retains for each of many hosts.
    pub at_most_once: Vec<String>,
    /// How many publishes may be without PUBACK, at least 1. The library below reserves memory for each that is
    /// possible: 65,535 of them cost 20 MiB.
    pub max_in_flight: u16,
    /// The largest packet to be received, in bytes. The broker drops what is larger instead of sending it.
    pub max_incoming_packet: u32,
    /// What the broker publishes for this client when the connection ends without a DISCONNECT.
    pub will: Option<Message>,
    /// How long an attempt may take, from the name's resolution to the CONNACK.
    pub connect_timeout: Duration,
    /// The pauses between attempts.
    pub pauses: Pauses,
}

impl Options {
    /// The defaults, for a broker and a client id.
    pub fn new(broker: BrokerUrl, client_id: impl Into<String>) -> Self {
        Self {
            broker,
            client_id: client_id.into(),
            username: None,
            password: None,
            tls: Tls::default(),
            source: None,
            keep_alive: Duration::from_secs(30),
            clean_start: true,
            session_expiry: Duration::ZERO,
            receive_maximum: 64,
            receive_at_most_once: false,
            at_most_once: Vec::new(),
            max_in_flight: 16,
            max_incoming_packet: 1 << 20,
            will: None,
            connect_timeout: Duration::from_secs(10),
            pauses: Pauses::default(),
        }
    }
}

/// Options that no connection can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The URL carries a user name or password. The text is not repeated, since it holds a secret.
    #[error(
        "the broker's URL carries a user name or password, which would show in process lists and logs; \
         use the keys `username` and `password_file`"
    )]
    CredentialsInUrl,
    /// The URL can't be read.
    #[error("{url:?} is not a broker's URL: {fault}; write mqtt://HOST[:PORT], or mqtts://HOST[:PORT] for TLS")]
    Url {
        /// The text as given.
        url: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A value is outside of what the protocol or this client allows.
    #[error("{0}")]
    Value(String),
    /// The certificates or the key can't be used.
    #[error("TLS for the broker can't be set up: {0}")]
    Tls(#[from] tls::TlsError),
}

/// `mqtt://HOST[:PORT]` (port 1883) or `mqtts://HOST[:PORT]` (TLS, port 8883).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Host name or address; an IPv6 address stands without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

impl FromStr for BrokerUrl {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        // An `@` is legal nowhere else in such a URL, so that this also holds for one that is malformed otherwise.
        if text.contains('@') {
            return Err(OptionsError::CredentialsInUrl);
        }
        let fault = |fault| OptionsError::Url { url: text.to_owned(), fault };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| fault("it names no scheme"))?;
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(fault("only the schemes mqtt and mqtts are known")),
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        if address.contains(['/', '?', '#']) {
            return Err(fault("a path, query or fragment means nothing to a broker"));
        }
        let (host, port) = if let Some(v6) = address.strip_prefix('[') {
            let (host, after) = v6.split_once(']').ok_or_else(|| fault("the closing bracket is missing"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(fault("no IPv6 address stands between the brackets"));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(fault("only a port may follow the brackets")),
            }
        } else {
            match address.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(fault("an IPv6 address needs brackets")),
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(fault("it names no host"));
        }
        let port = match port {
            None => [1883, 8883][usize::from(tls)],
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(fault("the port is not a number from 1 to 65535")),
            },
        };
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls } = self;
        let scheme = if *tls { "mqtts" } else { "mqtt" };
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}

/// A text that must not be shown: its `Debug` is redacted and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What proves who we are, and who the broker is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The password for [`Options::username`].
    pub password: Option<Secret>,
    /// Certificates.
    pub tls: Tls,
}

/// Reads the credentials as they are now; an error is a sentence for the log.
///
/// It is called on a thread that may block. What it gives is used from the next connection on; a connection that stands
/// is left alone. While it fails, or gives what no connection can be made of, the last ones that could be used stay in
/// use, since their successors may be half written; a warning says why, once for each reason.
#[derive(Clone)]
pub struct Source(Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>);

impl Source {
    /// Credentials by this function.
    pub fn new(read: impl Fn() -> Result<Credentials, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn read(&self) -> Result<Credentials, String> {
        (self.0)()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<(String, u16, bool), String> {
        text.parse::<BrokerUrl>().map(|url| (url.host, url.port, url.tls)).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_with_and_without_port() {
        for (text, host, port, tls) in [
            ("mqtt://broker", "broker", 1883, false),
            ("mqtts://broker", "broker", 8883, true),
            ("mqtt://broker.example:11883/", "broker.example", 11883, false),
            ("mqtt://127.0.0.1:1883", "127.0.0.1", 1883, false),
            ("mqtts://[::1]", "::1", 8883, true),
            ("mqtt://[2001:db8::7]:1884", "2001:db8::7", 1884, false),
        ] {
            assert_eq!(url(text), Ok((host.to_owned(), port, tls)), "{text}");
        }
    }

    #[test]
    fn faulty_urls_say_what_to_write() {
        for text in [
            "",
            "broker",
            "broker:1883",
            "http://broker",
            "ws://broker",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://broker:0",
            "mqtt://broker:65536",
            "mqtt://broker:",
            "mqtt://broker/topic",
            "mqtt://broker?x=1",
            "mqtt://::1",
            "mqtt://[::1",
            "mqtt://[broker]",
            "mqtt://[::1]1883",
            "mqtt://a b",
        ] {
            let error = url(text).unwrap_err();
            assert!(error.contains("mqtt://HOST[:PORT]"), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for text in ["mqtt://user:hunter2@broker", "mqtts://user@broker", "user:hunter2@broker"] {
            let error = url(text).unwrap_err();
            assert!(error.contains("`username`") && error.contains("`password_file`"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("user@"), "{error}");
        }
    }

    #[test]
    fn a_url_is_shown_as_it_can_be_written() {
        for text in ["mqtt://broker:1883", "mqtts://[::1]:8883"] {
            assert_eq!(text.parse::<BrokerUrl>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn secrets_are_in_no_debug_text() {
        let mut options = Options::new("mqtt://broker".parse().unwrap(), "agent-1");
        options.password = Some(Secret::new("hunter2"));
        options.tls.identity = Some((b"certificate".to_vec(), b"hunter3".to_vec()));
        let text = format!("{options:?} {options:#?}");
        assert!(!text.contains("hunter") && !text.contains("104, 117"), "{text}");
        assert!(text.contains("[redacted]"));
    }
}
