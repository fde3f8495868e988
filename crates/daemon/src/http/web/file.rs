//! The file as it is written, and what is made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::Current;
use super::auth::{Users, token_hash};
use super::tls;
use crate::config::{ConfigError, Fault, Loaded, yaml};
use crate::mqtt::Password;

/// A cost of 16 takes seconds already.
const HIGHEST_COST: u32 = 16;

/// A token is guarded by a fast hash, which a short one would not withstand.
const SHORTEST_TOKEN: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<TlsSection>,
    http_server_config: HttpSection,
    basic_auth_users: BTreeMap<String, Password>,
    /// Ours: name and `sha256:HEX` of a token.
    bearer_auth_tokens: BTreeMap<String, Password>,
    /// Ours: name and a file whose first line is a token.
    bearer_auth_token_files: BTreeMap<String, PathBuf>,
    rate_limit: Option<serde::de::IgnoredAny>,
}

/// `tls_server_config`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsSection {
    pub(super) cert: Option<String>,
    pub(super) key: Option<Password>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) client_auth_type: Option<String>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) client_allowed_sans: Vec<String>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) cipher_suites: Vec<String>,
    pub(super) prefer_server_cipher_suites: bool,
    pub(super) curve_preferences: Vec<String>,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            client_ca: None,
            cert_file: None,
            key_file: None,
            client_auth_type: None,
            client_ca_file: None,
            client_allowed_sans: Vec::new(),
            min_version: None,
            max_version: None,
            cipher_suites: Vec::new(),
            prefer_server_cipher_suites: true,
            curve_preferences: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpSection {
    http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

/// Faults of the keys below one section.
pub(super) struct Faults<'a> {
    loaded: &'a Loaded<File>,
    section: &'static str,
    list: Vec<Fault>,
}

impl Faults<'_> {
    /// `key` is "" for the section itself.
    pub(super) fn add(&mut self, key: &str, message: impl fmt::Display) {
        let path = match (self.section, key) {
            ("", key) => key.to_owned(),
            (section, "") => section.to_owned(),
            (section, key) => format!("{section}.{key}"),
        };
        self.list.push(self.loaded.fault(&path, message));
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }
}

/// Reads the file and those that it names, and tells which these are.
pub(super) fn load(path: &Path) -> Result<(Current, Vec<PathBuf>), ConfigError> {
    let loaded: Loaded<File> = yaml::load(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut faults = Faults { loaded: &loaded, section: "", list: Vec::new() };
    let file = &loaded.value;

    if file.rate_limit.is_some() {
        faults.add("rate_limit", "is not supported here; take it out");
    }
    let users = users(file, folder, &mut faults);
    faults.section = "http_server_config";
    let headers = headers(&file.http_server_config, &mut faults);
    faults.section = "tls_server_config";
    // A section without a key that switches TLS on is none, as in the exporters.
    let section = file.tls_server_config.as_ref().filter(|section| {
        let files = [&section.cert_file, &section.key_file, &section.client_ca_file];
        let texts = [&section.cert, &section.client_ca, &section.client_auth_type];
        files.into_iter().any(Option::is_some) || texts.into_iter().any(Option::is_some) || section.key.is_some()
    });
    let tls = section.and_then(|section| tls::configuration(section, folder, &mut faults));
    let list = faults.list;
    if !list.is_empty() {
        return Err(loaded.error(list));
    }
    let named = section.into_iter().flat_map(|s| [&s.cert_file, &s.key_file, &s.client_ca_file]).flatten();
    let files = std::iter::once(path.to_owned())
        .chain(named.chain(file.bearer_auth_token_files.values()).map(|file| folder.join(file)))
        .collect();
    let certified = tls.is_some() && section.is_some_and(tls::verifies_clients);
    Ok((Current { tls, headers, users, certified }, files))
}

fn users(file: &File, folder: &Path, faults: &mut Faults<'_>) -> Users {
    let mut users = Users::default();
    for (name, hash) in &file.basic_auth_users {
        let key = format!("basic_auth_users.{name}");
        let hash = hash.expose();
        match bcrypt::HashParts::from_str(hash) {
            Ok(parts) if parts.get_cost() <= HIGHEST_COST => users.basic.push((name.clone(), hash.to_owned())),
            Ok(_) => faults.add(&key, format!("a cost over {HIGHEST_COST} takes too long for each scrape")),
            Err(_) => faults.add(&key, "is no bcrypt hash; make one with: htpasswd -nBC 10 \"\" | tr -d ':\\n'"),
        }
        if name.contains(':') {
            faults.add(&key, "a user's name can't have a colon");
        }
    }
    for (name, hash) in &file.bearer_auth_tokens {
        match hash.expose().strip_prefix("sha256:").and_then(hex) {
            Some(hash) => users.bearer.push((name.clone(), hash)),
            None => faults.add(
                &format!("bearer_auth_tokens.{name}"),
                "is not sha256: with 64 hexadecimal digits; make them with: printf %s TOKEN | sha256sum",
            ),
        }
    }
    for (name, path) in &file.bearer_auth_token_files {
        let key = format!("bearer_auth_token_files.{name}");
        let path = folder.join(path);
        match crate::config::file::read(&path) {
            Ok(bytes) => {
                let token = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
                if token.len() < SHORTEST_TOKEN {
                    faults.add(&key, format!("{} has a token of less than {SHORTEST_TOKEN} bytes", path.display()));
                }
                users.bearer.push((name.clone(), token_hash(token)));
            }
            Err(error) => faults.add(&key, format!("can't read {}: {error}", path.display())),
        }
    }
    users
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(out)
}

/// The headers that exporters may be told to send, and what each may be; nothing: anything.
const HEADERS: &[(&str, &[&str])] = &[
    ("Content-Security-Policy", &[]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-XSS-Protection", &[]),
    ("Strict-Transport-Security", &[]),
];

fn headers(section: &HttpSection, faults: &mut Faults<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in section.headers.iter().filter(|(_, value)| !value.is_empty()) {
        let key = format!("headers.{name}");
        let Some((known, values)) = HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            let known: Vec<_> = HEADERS.iter().map(|(name, _)| *name).collect();
            faults.add(&key, format!("can't be set; there are {}", known.join(", ")));
            continue;
        };
        if !values.is_empty() && !values.iter().any(|known| known.eq_ignore_ascii_case(value)) {
            faults.add(&key, format!("{value:?} is none of {}", values.join(", ")));
            continue;
        }
        match (HeaderName::from_str(known), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
            _ => faults.add(&key, "holds characters that no header can have"),
        }
    }
    if section.http2 == Some(true) {
        // An exporter's default, so no fault; whoever asks for it speaks HTTP/1.1 as well.
        tracing::debug!("http_server_config.http2 has no effect: HTTP/1.1 is spoken");
    }
    headers
}
