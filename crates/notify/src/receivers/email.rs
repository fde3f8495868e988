//! Mails: text and HTML, threaded by group. `lettre` makes the message, so that nothing from a label becomes a header.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use serde::{Deserialize, Serialize};
use wire::Timestamp;

use super::{Call, Faults, Integration, Mail, MailTls, SecretFile, Secrets, Table, parts};
use crate::Notification;
use crate::queue::Manner;
use crate::text::{self, AlertText, Text, View};

/// Of the subject, in characters.
const SUBJECT: usize = 200;
/// Of the text and of the HTML, in bytes. Servers take megabytes; people don't.
const TEXT: usize = 128 << 10;
const HTML: usize = 256 << 10;
/// Of a further header, in characters.
const HEADER: usize = 500;

/// `[[notify.receivers.email]]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Email {
    /// Whether it is told when alerts are over.
    pub send_resolved: bool,
    /// Who gets it: `ops@example.org` or `Ops <ops@example.org>`.
    pub to: Vec<String>,
    /// The sender.
    pub from: String,
    /// `host:port` of the server that takes it.
    pub smarthost: String,
    /// How the way to it is encrypted: `starttls`, `tls` or `none`.
    pub tls: MailTls,
    /// The authorities that sign the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The user, where the server wants a login.
    pub username: String,
    /// A file whose first line is the user's password.
    pub password_file: Option<SecretFile>,
    /// Further headers, as templates.
    pub headers: BTreeMap<String, Text>,
    /// A template of the subject.
    pub subject: Text,
    /// A template of the text.
    pub text: Text,
    /// A template of the HTML; what comes of labels is escaped. Where only `text` is configured, there is no HTML.
    pub html: Text,
}

/// HTML's escapes.
fn markup(c: char) -> Option<&'static str> {
    Some(match c {
        '<' => "&lt;",
        '>' => "&gt;",
        '&' => "&amp;",
        '"' => "&#34;",
        '\'' => "&#39;",
        // In no character set of HTML.
        c if c.is_control() && c != '\n' && c != '\t' => " ",
        _ => return None,
    })
}

/// Headers that make a mail what it is.
fn structural(name: &str) -> bool {
    const OURS: &[&str] = &[
        "from", "to", "cc", "bcc", "sender", "subject", "date", "message-id", "references", "in-reply-to",
        "mime-version", "return-path", "received", "auto-submitted",
    ];
    let name = name.to_ascii_lowercase();
    OURS.contains(&name.as_str()) || name.starts_with("content-") || name.starts_with("dkim-")
}

/// A host and a port. An IPv6 address stands in brackets.
fn smarthost(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c));
    (plain && (bracketed || !host.contains(':'))).then_some(())?;
    port.parse().ok().filter(|port| *port > 0).map(|port| (host, port))
}

/// Whether a password may go there without encryption.
fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse::<Mailbox>().map_err(|_| format!("{text:?} is no address such as ops@example.org"))
}

impl Email {
    /// The text as it is without configuration.
    fn default_text(notification: &Notification) -> String {
        let mut text = text::body(notification, TEXT - 2000);
        if !notification.external_url.is_empty() {
            text += &format!("\n\n{}", text::line(&notification.external_url, 1000));
        }
        text + &format!("\n\n-- \n{}\n", parts::footer(notification))
    }

    fn default_html(notification: &Notification) -> String {
        let escape = |text: &str| text::escaped(text, 2000, markup);
        let colour = parts::colour(notification);
        let mut html = format!(
            "<!DOCTYPE html>\n<html><body style=\"font-family:sans-serif\">\n\
             <h2 style=\"color:#{colour:06x}\">{}</h2>\n",
            escape(&text::title(notification))
        );
        if let Some(reason) = text::reason(notification) {
            html += &format!("<p>{}</p>\n", escape(&reason));
        }
        let mut listed = 0;
        for alert in text::alerts(notification) {
            let part = alert_html(&alert);
            if html.len() + part.len() + 2000 > HTML {
                break;
            }
            html += &part;
            listed += 1;
        }
        if let Some(more) = text::more(notification, listed) {
            html += &format!("<p>{}</p>\n", escape(&more));
        }
        if parts::is_url(&notification.external_url) {
            let url = escape(&notification.external_url);
            html += &format!("<p><a href=\"{url}\">{url}</a></p>\n");
        }
        html + &format!("<p style=\"color:#888\">{}</p>\n</body></html>\n", escape(&parts::footer(notification)))
    }

    fn message(&self, notification: &Notification, now: Timestamp, from: &Mailbox) -> Result<Vec<u8>, String> {
        let view = View::of(notification, now, |_| None);
        let subject = self.subject.fill(&view).map(|text| text::line(&text, SUBJECT)).filter(|text| !text.is_empty());
        let subject = subject.unwrap_or_else(|| text::line(&text::title(notification), SUBJECT));
        // Mails of one group and host refer to the same mail, which never was; readers show them as a thread.
        let domain = from.email.domain();
        let id: String = notification.id.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let thread = format!("<{}@{domain}>", parts::hash(&[&notification.host, &notification.group_key]));
        let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
        let mut builder = Message::builder()
            .from(from.clone())
            .subject(subject)
            .message_id(Some(format!("<{id}@{domain}>")))
            .references(thread.clone())
            .in_reply_to(thread)
            .date(time);
        for address in &self.to {
            builder = builder.to(mailbox(address)?);
        }
        let automatic = ("Auto-Submitted".to_owned(), "auto-generated".to_owned());
        let further = self.headers.iter().map(|(name, text)| (name.clone(), text.fill(&view).unwrap_or_default()));
        for (name, value) in further.chain([automatic]) {
            let value = text::line(&value, HEADER);
            let name = HeaderName::new_from_ascii(name).map_err(|_| "a header's name is not right".to_owned())?;
            if !value.is_empty() {
                builder = builder.raw_header(HeaderValue::new(name, value));
            }
        }
        let plain = self.text.fill(&view).map(|text| text::cut_bytes(&text, TEXT));
        let html = match self.html.fill(&View::of(notification, now, markup)) {
            Some(html) => Some(text::cut_bytes(&html, HTML)),
            None if plain.is_some() => None,
            None => Some(Self::default_html(notification)),
        };
        let plain = SinglePart::plain(plain.unwrap_or_else(|| Self::default_text(notification)));
        let message = match html {
            None => builder.singlepart(plain),
            Some(html) => builder.multipart(
                // Of the id, since chance is not for this crate. No line of the parts, which are encoded, can be it.
                MultiPart::alternative()
                    .boundary(format!("=_{id}"))
                    .singlepart(plain)
                    .singlepart(SinglePart::html(html)),
            ),
        };
        message.map(|message| message.formatted()).map_err(|error| format!("the mail can't be made: {error}"))
    }
}

fn alert_html(alert: &AlertText) -> String {
    let escape = |text: &str| text::escaped(text, 2000, markup).replace('\n', "<br>");
    let severity = if alert.severity.is_empty() { String::new() } else { format!(" ({})", escape(&alert.severity)) };
    let mut html = format!("<h3>{}{severity}: {}</h3>\n", escape(&alert.name), alert.status());
    for text in [&alert.summary, &alert.description] {
        if !text.is_empty() {
            html += &format!("<p>{}</p>\n", escape(text));
        }
    }
    html += &format!("<p>{}</p>\n<table cellpadding=\"2\">\n", escape(&alert.when()));
    for (name, value) in &alert.labels {
        html += &format!("<tr><td><b>{}</b></td><td>{}</td></tr>\n", escape(name), escape(value));
    }
    html += "</table>\n";
    if alert.more_labels > 0 {
        html += &format!("<p>… and {} more labels</p>\n", alert.more_labels);
    }
    if let Some(runbook) = &alert.runbook {
        html += &format!("<p><a href=\"{}\">Runbook</a></p>\n", escape(runbook));
    }
    html
}

impl Table for Email {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        if self.to.is_empty() {
            faults.add("to", "is missing: one or more addresses");
        }
        for (at, address) in self.to.iter().enumerate() {
            if let Err(fault) = mailbox(address) {
                faults.add(&format!("to[{at}]"), fault);
            }
        }
        if let Err(fault) = mailbox(&self.from) {
            faults.add("from", fault);
        }
        let host = smarthost(&self.smarthost);
        if host.is_none() {
            faults.add("smarthost", "is no host and port such as \"mail.example.org:587\"");
        }
        if self.username.is_empty() != self.password_file.is_none() {
            let (key, other) =
                if self.username.is_empty() { ("password_file", "username") } else { ("username", "password_file") };
            faults.add(key, format!("needs {other} too"));
        }
        if self.tls == MailTls::None && self.password_file.is_some() && host.is_some_and(|(host, _)| !is_local(host)) {
            faults.add("tls", "is \"none\": the password would be readable on its way; use \"starttls\" or \"tls\"");
        }
        for name in self.headers.keys() {
            let key = format!("headers.{name}");
            if parts::header_fault(name).is_some() || HeaderName::new_from_ascii(name.clone()).is_err() {
                faults.add(&key, "is no name of a header");
            } else if structural(name) {
                faults.add(&key, "is a header that is set by itself or by a key of its own");
            }
        }
    }
}

impl Integration for Email {
    fn kind(&self) -> &'static str {
        "email"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn manner(&self) -> Manner {
        Manner { for_people: true, pause: Duration::ZERO }
    }

    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let from = mailbox(&self.from)?;
        let message = self.message(notification, now, &from)?;
        let mut to = Vec::new();
        for address in &self.to {
            to.push(mailbox(address)?.email.to_string());
        }
        let login = match &self.password_file {
            Some(file) => Some((self.username.clone(), parts::secret(file, secrets)?)),
            None => None,
        };
        Ok(Call::Mail(Box::new(Mail {
            smarthost: self.smarthost.clone(),
            tls: self.tls,
            ca_file: self.ca_file.clone(),
            login,
            from: from.email.to_string(),
            to,
            message,
        })))
    }
}
