//! The broker's part of a configuration: the keys of `[mqtt]` that every daemon has.

use std::path::Path;

use mqtt::{BrokerUrl, Options, Secret, Tls};

/// Where the broker is and who we are to it, borrowed from a daemon's `[mqtt]` table. (serde can't both flatten a
/// shared struct and refuse unknown keys, so each daemon spells the keys and lends them here.)
///
/// An empty text is no value, so that a variable can be set to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Broker<'a> {
    /// `url`: `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
    pub url: &'a str,
    /// `username`.
    pub username: Option<&'a str>,
    /// The password itself, from the environment only.
    pub password: Option<&'a Password>,
    /// `password_file`: its first line is the password.
    pub password_file: Option<&'a Path>,
    /// `ca_file`: the authorities to trust, PEM; the system's where absent.
    pub ca_file: Option<&'a Path>,
    /// `cert_file`: our certificate and its chain, PEM.
    pub cert_file: Option<&'a Path>,
    /// `key_file`: its private key, PEM.
    pub key_file: Option<&'a Path>,
}

/// A password in a configuration: read, never written, never shown.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// The text itself, for the one place that has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A key of `[mqtt]` and what is wrong with it.
pub type KeyFault = (&'static str, String);

impl Broker<'_> {
    /// Connection options under this client id, or every fault. Reads the files.
    pub fn options(&self, client_id: &str) -> Result<Options, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let path = |path: Option<&Path>| path.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned);
        let username = self.username.filter(|name| !name.is_empty());
        let secret = self.password.filter(|password| !password.expose().is_empty());
        let (password_file, ca_file) = (path(self.password_file), path(self.ca_file));
        let (cert_file, key_file) = (path(self.cert_file), path(self.key_file));
        let url: Option<BrokerUrl> = self.url.parse().map_err(|e| faults.push(("mqtt.url", format!("{e}")))).ok();
        let mut read = |key: &'static str, file: Option<&Path>| {
            let file = file?;
            std::fs::read(file).map_err(|e| faults.push((key, format!("can't read {}: {e}", file.display())))).ok()
        };
        let password = read("mqtt.password_file", password_file.as_deref());
        let ca = read("mqtt.ca_file", ca_file.as_deref());
        let cert = read("mqtt.cert_file", cert_file.as_deref());
        let key = read("mqtt.key_file", key_file.as_deref());
        if cert_file.is_some() != key_file.is_some() {
            faults.push(("mqtt.cert_file", "cert_file and key_file go together; one of them is missing".to_owned()));
        }
        if secret.is_some() && password_file.is_some() {
            faults.push(("mqtt.password_file", "the password is set in the environment too; keep one".to_owned()));
        }
        let password = match (password, secret) {
            (Some(bytes), _) => match String::from_utf8(bytes) {
                Ok(text) => Some(Secret::new(text.lines().next().unwrap_or_default())),
                Err(_) => {
                    faults.push(("mqtt.password_file", "the file is not UTF-8 text".to_owned()));
                    None
                }
            },
            (None, Some(password)) => Some(Secret::new(password.expose())),
            (None, None) => None,
        };
        if password.is_some() && username.is_none() {
            faults.push(("mqtt.username", "a password needs a username beside it".to_owned()));
        }
        match url {
            Some(url) if faults.is_empty() => {
                let mut options = Options::new(url, client_id);
                options.username = username.map(str::to_owned);
                options.password = password;
                options.tls = Tls { ca, identity: cert.zip(key) };
                // What is left are certificates and key; the sentence says which of them.
                options.check().map_err(|error| vec![("mqtt", error.to_string())])?;
                Ok(options)
            }
            _ => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Broker<'static> = Broker {
        url: "mqtt://127.0.0.1:1883",
        username: None,
        password: None,
        password_file: None,
        ca_file: None,
        cert_file: None,
        key_file: None,
    };

    #[test]
    fn the_password_comes_from_its_file_and_shows_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hush\n").unwrap();
        let broker = Broker { username: Some("web-01"), password_file: Some(&file), ..NOTHING };
        let options = broker.options("c").unwrap();
        assert_eq!(options.password.as_ref().map(Secret::expose), Some("hush"));
        assert!(!format!("{options:?}").contains("hush"));
        assert_eq!(format!("{:?}", Password("hush".into())), "(hidden)");
    }

    #[test]
    fn empty_texts_are_no_values() {
        let nothing = Path::new("");
        let broker = Broker {
            username: Some(""),
            password: Some(&Password(String::new())),
            password_file: Some(nothing),
            ca_file: Some(nothing),
            cert_file: Some(nothing),
            key_file: Some(nothing),
            ..NOTHING
        };
        let options = broker.options("c").unwrap();
        assert!(options.username.is_none() && options.password.is_none() && options.tls.ca.is_none());
    }

    #[test]
    fn every_fault_is_named() {
        let missing = Path::new("/nonexistent/ca.pem");
        let broker = Broker {
            url: "http://x",
            password_file: Some(missing),
            ca_file: Some(missing),
            key_file: Some(missing),
            ..NOTHING
        };
        let keys: Vec<_> = broker.options("c").unwrap_err().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["mqtt.url", "mqtt.password_file", "mqtt.ca_file", "mqtt.key_file", "mqtt.cert_file"]);
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, "no certificate").unwrap();
        let broker = Broker { url: "mqtts://127.0.0.1", ca_file: Some(&ca), ..NOTHING };
        assert_eq!(broker.options("c").unwrap_err()[0].0, "mqtt");
        let broker = Broker { password: Some(&Password("x".into())), ..NOTHING };
        assert_eq!(broker.options("c").unwrap_err()[0].0, "mqtt.username");
    }
}
