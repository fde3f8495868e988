//! Text messages, through any gateway with an HTTP interface: the request is a template.

mod length;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rules::template::Tree;
use serde::{Deserialize, Serialize};
use wire::Timestamp;

use super::{Call, Faults, HttpCall, Integration, Secret, SecretFile, Secrets, Table, parts};
use crate::Notification;
use crate::queue::Manner;
use crate::text::{self, AlertText, Text, View};

/// Parts of one message: gateways charge for each.
const MOST_PARTS: usize = 10;
/// What is read of a message before it is cut, in characters.
const LONGEST: usize = 4000;

/// `[[notify.receivers.sms]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sms {
    /// Whether it is told when alerts are over.
    pub send_resolved: bool,
    /// `POST`, `PUT` or `GET`.
    pub method: String,
    /// A template of the URL, if there is no secret in it other than `{{ .Secret }}`.
    pub url: Text,
    /// A file whose first line is the URL.
    pub url_file: Option<SecretFile>,
    /// The authorities that sign the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file whose first line is a bearer token.
    pub bearer_token_file: Option<SecretFile>,
    /// The user, for basic authentication.
    pub username: String,
    /// A file whose first line is the user's password.
    pub password_file: Option<SecretFile>,
    /// A file whose first line is a key that `url`, `headers` and `body` call `{{ .Secret }}`.
    pub secret_file: Option<SecretFile>,
    /// Further headers, as templates.
    pub headers: BTreeMap<String, Text>,
    /// What the body is written in.
    pub content_type: String,
    /// A template of the body: `.Text` is the message, `.To` the numbers, `.From` the sender. Functions write them as
    /// the body needs it: `toJson`, and `urlquery` for forms. Without it: JSON with `to`, `from` and `text`.
    pub body: Text,
    /// The numbers.
    pub to: Vec<String>,
    /// The sender's number or name.
    pub from: String,
    /// A template of the message.
    pub text: Text,
    /// Of how many text messages it may consist: 160 characters (70 if there are others than GSM's), or 153 (67) each
    /// if there are several.
    pub parts: usize,
}

impl Default for Sms {
    fn default() -> Self {
        Self {
            send_resolved: false,
            method: "POST".to_owned(),
            url: Text::default(),
            url_file: None,
            ca_file: None,
            bearer_token_file: None,
            username: String::new(),
            password_file: None,
            secret_file: None,
            headers: BTreeMap::new(),
            content_type: "application/json".to_owned(),
            body: Text::default(),
            to: Vec::new(),
            from: String::new(),
            text: Text::default(),
            parts: 1,
        }
    }
}

/// Without a template of the body.
#[derive(Serialize)]
struct Body<'a> {
    to: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    from: &'a str,
    text: &'a str,
}

impl Sms {
    fn login(&self) -> parts::Login<'_> {
        parts::Login {
            bearer_token_file: self.bearer_token_file.as_ref(),
            username: &self.username,
            password_file: self.password_file.as_ref(),
        }
    }

    fn method(&self) -> Option<&'static str> {
        ["POST", "PUT", "GET"].into_iter().find(|known| *known == self.method)
    }

    fn text(&self, notification: &Notification, view: &View) -> String {
        let text = self.text.fill(view).map(|text| text::line(&text, LONGEST)).filter(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| default_text(notification));
        length::fit(&text, self.parts.clamp(1, MOST_PARTS))
    }
}

/// The title and what the first alerts are about, as far as there is room.
fn default_text(notification: &Notification) -> String {
    let mut text = text::title(notification);
    if let Some(reason) = text::reason(notification) {
        text += &format!(" {reason}");
    }
    for alert in notification.alerts.iter().take(10) {
        let alert = AlertText::of(alert);
        let said = if alert.summary.is_empty() { alert.when() } else { alert.summary };
        text += &format!(" {}", text::line(&said, 1000));
    }
    text
}

impl Table for Sms {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        match (self.url.is_empty(), &self.url_file) {
            (true, None) => faults.add("url", "is missing; where there is a secret in it, name a file in url_file"),
            (false, Some(_)) => faults.add("url_file", "stands beside url: there can be only one"),
            (false, None) => {
                let url = self.url.as_str();
                // Where to must not depend on a label.
                let server = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
                let server = server.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
                match server {
                    None | Some("") => faults.add("url", "is no URL that begins with https:// or http://"),
                    Some(server) if server.contains("{{") => faults.add("url", "has a template in the server's name"),
                    Some(server) if server.contains('@') => {
                        faults.add("url", "has a user or password in it: use username and password_file");
                    }
                    Some(_) => {}
                }
            }
            (true, file) => parts::check_url_file(file.as_ref(), "url_file", "the URL", faults),
        }
        if self.method().is_none() {
            faults.add("method", format!("{:?} is none of POST, PUT and GET", self.method));
        }
        self.login().check(faults);
        for name in self.headers.keys() {
            if let Some(fault) = parts::header_fault(name) {
                faults.add(&format!("headers.{name}"), fault);
            }
        }
        if self.content_type.is_empty() || self.content_type.chars().any(char::is_control) {
            faults.add("content_type", "is no type such as \"application/json\"");
        }
        if self.to.is_empty() && self.body.is_empty() && self.url_file.is_none() {
            faults.add("to", "is missing: one or more numbers");
        }
        if !(1..=MOST_PARTS).contains(&self.parts) {
            faults.add("parts", format!("is not between 1 and {MOST_PARTS}"));
        }
    }
}

impl Integration for Sms {
    fn kind(&self) -> &'static str {
        "sms"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    // Gateways are slow, and each costs money.
    fn manner(&self) -> Manner {
        Manner { for_people: true, pause: Duration::from_millis(1000) }
    }

    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let key = match &self.secret_file {
            Some(file) => Some(parts::secret(file, secrets)?),
            None => None,
        };
        let key = key.as_ref().map(Secret::expose).unwrap_or_default();
        let view = View::of(notification, now, |_| None);
        let text = self.text(notification, &view);
        let view = view.with(&[
            ("Text", Tree::text(&text)),
            ("To", Tree::List(self.to.iter().map(Tree::text).collect())),
            ("From", Tree::text(&self.from)),
            ("Secret", Tree::text(key)),
        ]);
        // What is said of a template that fails may hold what it was given.
        let fill = |what: &str, text: &Text| match text.try_fill(&view) {
            Some(Err(_)) if !key.is_empty() => Err(format!("the template of {what} can't be filled in")),
            Some(Err(fault)) => Err(format!("{what}: {fault}")),
            Some(Ok(text)) => Ok(Some(text)),
            None => Ok(None),
        };
        let url = match &self.url_file {
            Some(file) => parts::secret_url(Some(file), secrets)?,
            None => Secret::new(fill("url", &self.url)?.unwrap_or_default().trim()),
        };
        if !parts::is_url(url.expose()) {
            return Err("url: what comes of the template is no URL: write values with urlquery".to_owned());
        }
        let method = self.method().ok_or_else(|| format!("{:?} is none of POST, PUT and GET", self.method))?;
        let body = match fill("body", &self.body)? {
            _ if method == "GET" => Vec::new(),
            Some(body) => body.into_bytes(),
            None => serde_json::to_vec(&Body { to: &self.to, from: &self.from, text: &text })
                .map_err(|error| format!("BUG: the body is no JSON: {error}"))?,
        };
        let mut headers = vec![parts::agent(), parts::idempotency(notification)];
        if method != "GET" {
            headers.push(parts::header("Content-Type", &self.content_type));
        }
        for (name, value) in &self.headers {
            let value = fill(&format!("headers.{name}"), value)?.unwrap_or_default();
            headers.push(parts::header(name, &text::line(&value, LONGEST)));
        }
        headers.extend(self.login().header(secrets)?);
        Ok(Call::Http(HttpCall { method, url, headers, body, ca_file: self.ca_file.clone() }))
    }
}
