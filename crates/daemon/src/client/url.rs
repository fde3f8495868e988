use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// A URL of HTTP whose path and query may be a secret, as those of webhooks are: `Debug` and `Display` leave them out.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

/// A text is no URL that can be used. It is not repeated, since it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Something is missing or can't be there.
    #[error("it is no URL: {0}; write http://HOST[:PORT][/PATH] or https://…")]
    Form(&'static str),
    /// It carries credentials.
    #[error("it carries a user name or password, which servers do not get from there; use the keys for them")]
    Credentials,
}

impl SecretUrl {
    /// Whether it is `https`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where it names none that of its scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `scheme://host:port`: all that may be shown.
    pub fn place(&self) -> String {
        let (scheme, host, port) = (self.scheme(), &self.host, self.port);
        if host.contains(':') { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") }
    }

    /// The whole of it, for the one place that has to send it.
    pub fn expose(&self) -> String {
        self.uri.to_string()
    }

    /// The same server and below its path, such as `api/v2/alerts`. A query is left out.
    #[must_use]
    pub fn join(&self, below: &str) -> Option<Self> {
        let path = self.uri.path().trim_end_matches('/');
        let uri = format!("{}://{}{path}/{below}", self.scheme(), self.authority()).parse().ok()?;
        Some(Self { uri, ..self.clone() })
    }

    /// Where an answer of this URL sends on to by its header `Location`: a URL, or a path of the same server. `None` where
    /// that can't be read, or asked over HTTP.
    #[must_use]
    pub fn sent_on(&self, location: &str) -> Option<Self> {
        let location = location.split_once('#').map_or(location, |(rest, _)| rest);
        // A query may hold a URL, too.
        if location.find("://").is_some_and(|at| location.find(['/', '?']).is_none_or(|rest| at < rest)) {
            return location.parse().ok();
        }
        let scheme = self.scheme();
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{scheme}://{rest}").parse().ok();
        }
        let path = self.uri.path();
        let base = match location.bytes().next() {
            Some(b'/') => "",
            Some(b'?') | None => path,
            Some(_) => path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or("/"),
        };
        format!("{scheme}://{}{base}{location}", self.authority()).parse().ok()
    }

    /// Whether both name the same server, reached the same way.
    pub fn is_same_server(&self, other: &Self) -> bool {
        (self.tls, self.port, &self.host) == (other.tls, other.port, &other.host)
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// As it stands in the header `Host`.
    pub(super) fn authority(&self) -> String {
        self.uri.authority().map(|authority| authority.to_string()).unwrap_or_default()
    }

    /// What is asked for: path and query.
    pub(super) fn path(&self) -> Uri {
        let path = self.uri.path_and_query().cloned();
        path.map(Uri::from).unwrap_or_else(|| Uri::from_static("/"))
    }
}

impl FromStr for SecretUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Form("it is empty"));
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::Form("it has characters that it can't have"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(UrlError::Form("only http and https are spoken")),
            None => return Err(UrlError::Form("it has no scheme")),
        };
        let authority = uri.authority().ok_or(UrlError::Form("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(UrlError::Form("it names no host"));
        }
        let after = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        let port = match (after, authority.port_u16()) {
            ("", None) => [80, 443][usize::from(tls)],
            (_, Some(port)) if port != 0 => port,
            _ => return Err(UrlError::Form("the port is not a number from 1 to 65535")),
        };
        Ok(Self { host, port, tls, uri })
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if matches!(self.path().path_and_query().map(|path| path.as_str()), None | Some("/")) {
            ""
        } else {
            "/…"
        };
        write!(f, "{}{rest}", self.place())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> serde::Deserialize<'de> for SecretUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_only_their_server_is_shown() {
        for (text, host, port, shown) in [
            ("http://h", "h", 80, "http://h:80"),
            ("https://h/", "h", 443, "https://h:443"),
            ("https://hooks.example/services/T0/hush?key=hush", "hooks.example", 443, "https://hooks.example:443/…"),
            ("http://[::1]:9093/am", "::1", 9093, "http://[::1]:9093/…"),
            (" http://127.0.0.1:1\n", "127.0.0.1", 1, "http://127.0.0.1:1"),
        ] {
            let url: SecretUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
        let url: SecretUrl = "http://h:1/a/?b".parse().unwrap();
        assert_eq!(url.join("api/v2/alerts").unwrap().expose(), "http://h:1/a/api/v2/alerts");
        assert_eq!(url.path().to_string(), "/a/?b");
    }

    #[test]
    fn an_answer_sends_on_to_a_url_or_a_path() {
        let from: SecretUrl = "https://h:1/a/b?c=d".parse().unwrap();
        for (location, to) in [
            ("http://other/x", "http://other/x"),
            ("//other:2/x", "https://other:2/x"),
            ("/x?y#z", "https://h:1/x?y"),
            ("x", "https://h:1/a/x"),
            ("?y", "https://h:1/a/b?y"),
            ("/sign-in?to=https://other/", "https://h:1/sign-in?to=https://other/"),
            ("sign-in?to=https://other/", "https://h:1/a/sign-in?to=https://other/"),
        ] {
            let to: SecretUrl = to.parse().unwrap();
            assert_eq!(from.sent_on(location), Some(to.clone()), "{location}");
            assert_eq!(from.is_same_server(&to), to.host() == "h", "{location}");
        }
        let root: SecretUrl = "http://h".parse().unwrap();
        assert_eq!(root.sent_on("x").unwrap().expose(), "http://h/x");
        assert_eq!((root.sent_on("ftp://h/x"), root.sent_on("http://me:hush@h/")), (None, None));
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_repeated() {
        for text in [
            "",
            "hush",
            "hush:1",
            "ftp://hush/",
            "http://",
            "http:///hush",
            "http://hush:0/",
            "http://hush:x/",
            "http://h:",
            "/hush",
            "http://h ush/",
        ] {
            let error = text.parse::<SecretUrl>().unwrap_err().to_string();
            assert!(error.contains("http://HOST") && !error.contains("hush"), "{text}: {error}");
        }
        for text in ["http://me:hush@h/", "https://hush@h"] {
            assert_eq!(text.parse::<SecretUrl>(), Err(UrlError::Credentials));
        }
    }
}
