//! The broker's part of a configuration: the keys of `[mqtt]` that every daemon has.

use std::path::{Path, PathBuf};

use mqtt::{BrokerUrl, Credentials, Options, Secret, Source, Tls};

use crate::config;

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

/// The files of a configuration that may change while a daemon runs.
#[derive(Debug, Clone, Default)]
struct Files {
    password: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Files {
    /// What stands in them now, or every fault.
    fn read(&self) -> Result<Credentials, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let mut read = |key: &'static str, file: &Option<PathBuf>| {
            let file = file.as_deref()?;
            // A pipe or device is refused: one that nobody writes would be waited for for ever.
            let fault = |error| (key, format!("can't read {}: {error}", file.display()));
            config::file::read(file).map_err(|error| faults.push(fault(error))).ok()
        };
        let password = read("mqtt.password_file", &self.password);
        let ca = read("mqtt.ca_file", &self.ca);
        let cert = read("mqtt.cert_file", &self.cert);
        let key = read("mqtt.key_file", &self.key);
        let mut first_line = |bytes: Vec<u8>| {
            let fault = match String::from_utf8(bytes) {
                Ok(text) => match text.lines().next() {
                    Some(line) if !line.is_empty() => return Some(Secret::new(line)),
                    // A file that is being written anew is empty for a moment.
                    _ => "its first line is the password, and it is empty",
                },
                Err(_) => "the file is not UTF-8 text",
            };
            faults.push(("mqtt.password_file", fault.to_owned()));
            None
        };
        let password = password.and_then(&mut first_line);
        let tls = Tls { ca, identity: cert.zip(key), ..Tls::default() };
        if faults.is_empty() { Ok(Credentials { password, tls }) } else { Err(faults) }
    }

    /// Reads them again before each attempt to connect; `None` if there are none. `fixed` stands where no file has the
    /// password.
    fn source(self, fixed: Option<Secret>) -> Option<Source> {
        let Self { password, ca, cert, key } = &self;
        if [password, ca, cert, key].iter().all(|file| file.is_none()) {
            return None;
        }
        Some(Source::new(move || match self.read() {
            Ok(Credentials { password, tls }) => Ok(Credentials { password: password.or_else(|| fixed.clone()), tls }),
            Err(faults) => {
                let sentences = faults.into_iter().map(|(key, fault)| format!("{key}: {fault}"));
                Err(sentences.collect::<Vec<_>>().join("; "))
            }
        }))
    }
}

impl Broker<'_> {
    /// Connection options under this client id, or every fault. Reads the files, and lets the client read them again
    /// before each connection.
    pub fn options(&self, client_id: &str) -> Result<Options, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let path = |path: Option<&Path>| path.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned);
        let username = self.username.filter(|name| !name.is_empty());
        let fixed = self.password.filter(|password| !password.expose().is_empty());
        let files = Files {
            password: path(self.password_file),
            ca: path(self.ca_file),
            cert: path(self.cert_file),
            key: path(self.key_file),
        };
        let url: Option<BrokerUrl> = self.url.parse().map_err(|e| faults.push(("mqtt.url", format!("{e}")))).ok();
        let credentials = files.read().map_err(|list| faults.extend(list)).unwrap_or_default();
        if files.cert.is_some() != files.key.is_some() {
            faults.push(("mqtt.cert_file", "cert_file and key_file go together; one of them is missing".to_owned()));
        }
        if fixed.is_some() && files.password.is_some() {
            faults.push(("mqtt.password_file", "the password is set in the environment too; keep one".to_owned()));
        }
        let fixed = fixed.map(|password| Secret::new(password.expose()));
        let password = credentials.password.or_else(|| fixed.clone());
        if password.is_some() && username.is_none() {
            faults.push(("mqtt.username", "a password needs a username beside it".to_owned()));
        }
        match url {
            Some(url) if faults.is_empty() => {
                let mut options = Options::new(url, client_id);
                options.username = username.map(str::to_owned);
                options.password = password;
                options.tls = credentials.tls;
                // What is left are certificates and key; the sentence says which of them.
                options.check().map_err(|error| vec![("mqtt", error.to_string())])?;
                options.source = files.source(fixed);
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
    fn a_password_file_that_would_not_end_or_is_empty_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, empty) = (folder.path().join("pipe"), folder.path().join("empty"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::write(&empty, "\n").unwrap();
        for (file, why) in [(&*pipe, "regular file"), (folder.path(), "directory"), (&*empty, "empty")] {
            let broker = Broker { username: Some("web-01"), password_file: Some(file), ..NOTHING };
            let faults = broker.options("c").unwrap_err();
            assert!(faults[0].0 == "mqtt.password_file" && faults[0].1.contains(why), "{faults:?}");
        }
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
