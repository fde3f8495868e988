//! Slack: incoming webhooks with Block Kit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::Timestamp;

use super::{Answer, Call, Faults, Integration, Outcome, SecretFile, Secrets, Table, parts};
use crate::Notification;
use crate::queue::Manner;
use crate::text::{self, AlertText, Text, View};

/// Of a header block's text, in characters.
const HEADER: usize = 150;
/// Of a section's text.
const SECTION: usize = 3000;
/// Of a section's fields, and of one field's text.
const FIELDS: (usize, usize) = (10, 2000);
/// Alerts that have a section of their own. A message takes 50 blocks; a few are needed around them.
const ALERTS: usize = 40;
/// Of a runbook's address, so that an alert with all that is shown of it fits into a section.
const RUNBOOK: usize = 500;
/// All alerts' texts together: Slack refuses messages of some tens of thousands of characters.
const TEXTS: usize = 12_000;

/// `[[notify.receivers.slack]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slack {
    /// Whether it is told when alerts are over.
    pub send_resolved: bool,
    /// A file whose first line is the webhook's URL.
    pub webhook_url_file: Option<SecretFile>,
    /// The authorities that sign the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Another channel than the webhook's. Only webhooks of the old kind heed it.
    pub channel: String,
    /// Another name than the webhook's. Only webhooks of the old kind heed it.
    pub username: String,
    /// An emoji as the sender's picture (`:fire:`). Only webhooks of the old kind heed it.
    pub icon_emoji: String,
    /// Who is called when something fires: `@here`, `@channel`, `@everyone`, ids of users (`U…`) and of groups (`S…`).
    pub mentions: Vec<String>,
    /// Labels that stand beside the text where all alerts have the same value.
    pub fields: Vec<String>,
    /// A template of the first line.
    pub title: Text,
    /// A template of the text, instead of a section for each alert. It may use Slack's markup; labels can't.
    pub text: Text,
}

impl Default for Slack {
    fn default() -> Self {
        Self {
            send_resolved: false,
            webhook_url_file: None,
            ca_file: None,
            channel: String::new(),
            username: String::new(),
            icon_emoji: String::new(),
            mentions: Vec::new(),
            fields: parts::fields(),
            title: Text::default(),
            text: Text::default(),
        }
    }
}

/// Slack's way to write what would otherwise begin a link or a mention.
fn markup(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

/// In texts without markup, where entities may be shown as such.
fn plain(c: char) -> Option<&'static str> {
    match c {
        '<' => Some("‹"),
        '>' => Some("›"),
        _ => None,
    }
}

/// As a message mentions somebody.
fn mention(who: &str) -> Option<String> {
    match who {
        "@here" | "@channel" | "@everyone" => Some(format!("<!{}>", who.trim_start_matches('@'))),
        id if !id.get(1..)?.is_empty() && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) => {
            match id.as_bytes().first() {
                Some(b'U' | b'W') => Some(format!("<@{id}>")),
                Some(b'S') => Some(format!("<!subteam^{id}>")),
                _ => None,
            }
        }
        _ => None,
    }
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

/// Marked up, but without links and mentions that are not written as such.
fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [mrkdwn(text)]})
}

fn alert_text(alert: &AlertText) -> String {
    let mut text = format!("*{}*", text::escaped(&alert.name, 100, markup));
    if !alert.severity.is_empty() {
        text += &format!(" · {}", text::escaped(&alert.severity, 100, markup));
    }
    text += &format!(" · {}", alert.status());
    for line in parts::lines(alert, markup) {
        text.push('\n');
        text += &line;
    }
    let runbook = alert.runbook.as_ref().map(|url| url.replace('&', "&amp;"));
    if let Some(runbook) = runbook.filter(|url| url.len() <= RUNBOOK) {
        text += &format!("\n<{runbook}|Runbook>");
    }
    text
}

impl Slack {
    fn title(&self, notification: &Notification, now: Timestamp) -> String {
        let title = self.title.fill(&View::of(notification, now, plain));
        let title = title.map(|title| text::line(&title, 1000)).filter(|title| !title.is_empty());
        let title = title.unwrap_or_else(|| text::escaped(&text::title(notification), HEADER, plain));
        text::cut(&title, HEADER)
    }

    fn message(&self, notification: &Notification, now: Timestamp) -> Value {
        let title = self.title(notification, now);
        let mut blocks =
            vec![json!({"type": "header", "text": {"type": "plain_text", "text": title, "emoji": true}})];
        if parts::calls_people(notification) {
            let people: Vec<String> = self.mentions.iter().filter_map(|who| mention(who)).collect();
            if !people.is_empty() {
                blocks.push(section(&text::cut(&people.join(" "), SECTION)));
            }
        }
        if let Some(reason) = text::reason(notification) {
            blocks.push(section(&text::escaped(&reason, SECTION, markup)));
        }
        let mut details = Vec::new();
        let fields = parts::shown(&self.fields, notification, FIELDS.0);
        if !fields.is_empty() {
            let fields = fields.iter().map(|(name, value)| {
                let name = text::escaped(name, 200, markup);
                mrkdwn(&format!("*{name}*\n{}", text::escaped(value, FIELDS.1 - 300, markup)))
            });
            details.push(json!({"type": "section", "fields": fields.collect::<Vec<_>>()}));
        }
        match self.text.fill(&View::of(notification, now, markup)) {
            Some(text) if text.trim().is_empty() => {}
            Some(text) => details.push(section(&text::cut(text.trim(), SECTION))),
            None => {
                let mut room = TEXTS;
                let mut listed = 0;
                for text in text::alerts(notification).map(|alert| alert_text(&alert)) {
                    let length = text.encode_utf16().count();
                    if listed == ALERTS || length > room.min(SECTION) {
                        break;
                    }
                    room -= length;
                    listed += 1;
                    details.push(section(&text));
                }
                if let Some(more) = text::more(notification, listed) {
                    details.push(context(&more));
                }
            }
        }
        let seconds = now.as_millis().div_euclid(1000).max(0);
        let time = format!("<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{now}>");
        details.push(context(&format!("{} · {time}", text::escaped(&parts::footer(notification), 200, markup))));
        let mut message = json!({
            // What a phone shows; no markup, so that a label can't call anybody.
            "text": text::escaped(&title, SECTION, markup),
            "mrkdwn": false,
            "blocks": blocks,
            "attachments": [{"color": format!("#{:06x}", parts::colour(notification)), "blocks": details}],
        });
        for (key, value) in
            [("channel", &self.channel), ("username", &self.username), ("icon_emoji", &self.icon_emoji)]
        {
            if !value.is_empty()
                && let Some(message) = message.as_object_mut()
            {
                message.insert(key.to_owned(), value.as_str().into());
            }
        }
        message
    }
}

impl Table for Slack {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        parts::check_url_file(self.webhook_url_file.as_ref(), "webhook_url_file", "the webhook's URL", faults);
        for (at, who) in self.mentions.iter().enumerate() {
            if mention(who).is_none() {
                let what = "is neither @here, @channel or @everyone nor the id of a user (U…) or a group (S…)";
                faults.add(&format!("mentions[{at}]"), format!("{who:?} {what}"));
            }
        }
        if self.fields.len() > FIELDS.0 {
            faults.add("fields", format!("are more than the {} that Slack shows", FIELDS.0));
        }
    }
}

impl Integration for Slack {
    fn kind(&self) -> &'static str {
        "slack"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    // Slack takes one a second for each webhook.
    fn manner(&self) -> Manner {
        Manner { for_people: true, pause: Duration::from_millis(1000) }
    }

    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let url = parts::secret_url(self.webhook_url_file.as_ref(), secrets)?;
        parts::post(url, &self.message(notification, now), Vec::new(), self.ca_file.as_ref())
    }

    /// Its errors are a word in the body.
    fn outcome(&self, answer: &Answer) -> Outcome {
        const FOR_NEVER: &[(&str, &str)] = &[
            ("invalid_payload", "it can't read the message"),
            ("invalid_blocks", "it refuses the message's blocks"),
            ("invalid_token", "the webhook's URL is not, or no longer, right: make a new one"),
            ("no_service", "the webhook is switched off or removed: make a new one"),
            ("no_service_id", "the webhook's URL is not whole"),
            ("no_team", "the webhook's URL is not right"),
            ("team_disabled", "the workspace is switched off"),
            ("no_text", "it finds no text in the message"),
            ("user_not_found", "the channel names a user that it does not know"),
            ("channel_not_found", "it does not know the channel"),
            ("channel_is_archived", "the channel is archived"),
            ("action_prohibited", "an administrator does not let the webhook post"),
            ("posting_to_general_channel_denied", "the webhook may not post to this channel"),
            ("too_many_attachments", "it refuses the number of attachments"),
        ];
        let body = String::from_utf8_lossy(&answer.body);
        let said = FOR_NEVER.iter().find(|(word, _)| body.trim() == *word);
        match (answer.status, said) {
            (200..=299, _) if body.trim() == "ok" || body.trim().is_empty() => Outcome::Sent,
            (_, Some((word, why))) => Outcome::Refused(format!("it answered {} ({word}): {why}", answer.status)),
            // What it says there is not known; only a failure would have a word.
            (200..=299, None) => Outcome::Sent,
            _ => super::outcome(answer),
        }
    }
}
