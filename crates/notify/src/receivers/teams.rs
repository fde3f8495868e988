//! Microsoft Teams: webhooks of Workflows, with Adaptive Cards.

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

/// Of the whole message, in bytes. Teams takes about 28 KB, and counts in its own way.
const BYTES: usize = 20_000;
/// Of a text that is configured, in characters.
const TEXT: usize = 5000;
/// Buttons: more are hidden behind a menu.
const BUTTONS: usize = 4;

/// `[[notify.receivers.teams]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Teams {
    /// Whether it is told when alerts are over.
    pub send_resolved: bool,
    /// A file whose first line is the workflow's URL ("When a Teams webhook request is received").
    pub webhook_url_file: Option<SecretFile>,
    /// The authorities that sign the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Labels that stand beside the text where all alerts have the same value.
    pub fields: Vec<String>,
    /// A template of the title.
    pub title: Text,
    /// A template of the text, instead of a part for each alert. It may use the cards' Markdown; labels can't.
    pub text: Text,
}

impl Default for Teams {
    fn default() -> Self {
        Self {
            send_resolved: true,
            webhook_url_file: None,
            ca_file: None,
            fields: parts::fields(),
            title: Text::default(),
            text: Text::default(),
        }
    }
}

/// Links of Markdown are broken, and mentions, which stand in tags; the rest only looks odd.
fn markup(c: char) -> Option<&'static str> {
    match c {
        ']' => Some("]\u{200b}"),
        '<' => Some("‹"),
        '>' => Some("›"),
        _ => None,
    }
}

fn plain(_: char) -> Option<&'static str> {
    None
}

/// Texts of this kind know no Markdown.
fn run(text: &str, style: Value) -> Value {
    let mut inline = json!({"type": "TextRun", "text": text});
    if let (Some(inline), Value::Object(style)) = (inline.as_object_mut(), style) {
        inline.extend(style);
    }
    json!({"type": "RichTextBlock", "inlines": [inline]})
}

fn alert_text(alert: &AlertText) -> Value {
    let mut head = alert.name.clone();
    for part in [alert.severity.as_str(), alert.status()] {
        if !part.is_empty() {
            head += &format!(" · {part}");
        }
    }
    let mut items = vec![run(&head, json!({"weight": "Bolder"}))];
    items.extend(parts::lines(alert, plain).iter().map(|line| run(line, json!({}))));
    json!({"type": "Container", "separator": true, "spacing": "Medium", "items": items})
}

fn button(title: &str, url: &str) -> Value {
    json!({"type": "Action.OpenUrl", "title": title, "url": url})
}

impl Teams {
    fn message(&self, notification: &Notification, now: Timestamp) -> Value {
        let title = self.title.fill(&View::of(notification, now, plain));
        let title = title.map(|title| text::line(&title, 1000)).filter(|title| !title.is_empty());
        let title = text::cut(&title.unwrap_or_else(|| text::title(notification)), 300);
        let colour = match text::urgency(notification) {
            3.. => "Attention",
            2 => "Warning",
            1 => "Accent",
            0 => "Good",
        };
        let mut body = vec![run(&title, json!({"weight": "Bolder", "size": "Large", "color": colour}))];
        if let Some(reason) = text::reason(notification) {
            body.push(run(&reason, json!({})));
        }
        for (name, value) in parts::shown(&self.fields, notification, 10) {
            body.push(run(&format!("{name}: {value}"), json!({})));
        }
        let mut buttons = Vec::new();
        let configured = self.text.fill(&View::of(notification, now, markup));
        let mut room = BYTES.saturating_sub(size(&body) + 3000);
        let mut listed = 0;
        match configured {
            Some(text) => {
                let text = text::cut_bytes(&text::cut(text.trim(), TEXT), room / 2);
                if !text.is_empty() {
                    body.push(json!({"type": "TextBlock", "text": text, "wrap": true}));
                }
                listed = notification.alerts.len();
            }
            None => {
                for alert in text::alerts(notification) {
                    let part = alert_text(&alert);
                    let size = size(&part);
                    if size > room {
                        break;
                    }
                    room -= size;
                    listed += 1;
                    body.push(part);
                    if let Some(runbook) = alert.runbook.filter(|url| url.len() <= 400)
                        && buttons.len() < BUTTONS - 1
                        && !buttons.iter().any(|button: &Value| button["url"] == runbook.as_str())
                    {
                        buttons.push(button(&format!("Runbook: {}", text::cut(&alert.name, 40)), &runbook));
                    }
                }
            }
        }
        if let Some(more) = text::more(notification, listed) {
            body.push(run(&more, json!({"isSubtle": true})));
        }
        if parts::is_url(&notification.external_url) && notification.external_url.len() <= 400 {
            buttons.push(button("Open", &notification.external_url));
        }
        let footer = format!("{} · {now}", parts::footer(notification));
        body.push(run(&footer, json!({"isSubtle": true, "size": "Small"})));
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    // Phones read it aloud, and lists show it.
                    "speak": text::cut(&title, 200),
                    "fallbackText": text::cut(&title, 200),
                    "msteams": {"width": "Full"},
                    "body": body,
                    "actions": buttons,
                },
            }],
        })
    }
}

/// In bytes of JSON.
fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len() + 1)
}

impl Table for Teams {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        parts::check_url_file(self.webhook_url_file.as_ref(), "webhook_url_file", "the workflow's URL", faults);
        if self.fields.len() > 10 {
            faults.add("fields", "are more than the 10 that are shown");
        }
    }
}

impl Integration for Teams {
    fn kind(&self) -> &'static str {
        "teams"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    // Teams takes four a second.
    fn manner(&self) -> Manner {
        Manner { for_people: true, pause: Duration::from_millis(1000) }
    }

    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let url = parts::secret_url(self.webhook_url_file.as_ref(), secrets)?;
        parts::post(url, &self.message(notification, now), Vec::new(), self.ca_file.as_ref())
    }

    /// A workflow answers 202. What a channel refused behind it may come as a text with 200.
    fn outcome(&self, answer: &Answer) -> Outcome {
        const FAILED: &str = "Webhook message delivery failed with error";
        let body = String::from_utf8_lossy(&answer.body);
        if (200..=299).contains(&answer.status) && body.contains(FAILED) {
            return match body.contains("HTTP error 429") {
                true => Outcome::Retry(answer.retry_after, "Teams takes no more messages now (429)".to_owned()),
                false => Outcome::Refused("Teams did not deliver the message to the channel".to_owned()),
            };
        }
        match answer.status {
            401 | 403 | 404 | 410 => Outcome::Refused(format!(
                "it answered {}: the workflow does not exist, is switched off, or its URL is not right",
                answer.status
            )),
            _ => super::outcome(answer),
        }
    }
}
