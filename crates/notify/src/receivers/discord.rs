//! Discord: webhooks with embeds.

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

/// Of an embed's title and of its description, in characters.
const TITLE: usize = 256;
const DESCRIPTION: usize = 4096;
/// Of an embed's fields: how many, and the lengths of name and value.
const FIELDS: (usize, usize, usize) = (25, 256, 1024);
/// Embeds of a message.
const EMBEDS: usize = 10;
/// All texts of all embeds.
const ALL: usize = 6000;
/// Of the text outside of embeds.
const CONTENT: usize = 2000;

/// `[[notify.receivers.discord]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discord {
    /// Whether it is told when alerts are over.
    pub send_resolved: bool,
    /// A file whose first line is the webhook's URL.
    pub webhook_url_file: Option<SecretFile>,
    /// The authorities that sign the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Another name than the webhook's.
    pub username: String,
    /// Another picture than the webhook's.
    pub avatar_url: String,
    /// Who is called when something fires: `@here`, `@everyone`, `user:<id>` and `role:<id>`.
    pub mentions: Vec<String>,
    /// Labels that are shown as fields.
    pub fields: Vec<String>,
    /// A template of the title.
    pub title: Text,
    /// A template of the text, instead of an embed for each alert. It may use Discord's markup; labels can't.
    pub text: Text,
}

impl Default for Discord {
    fn default() -> Self {
        Self {
            send_resolved: true,
            webhook_url_file: None,
            ca_file: None,
            username: String::new(),
            avatar_url: String::new(),
            mentions: Vec::new(),
            fields: parts::fields(),
            title: Text::default(),
            text: Text::default(),
        }
    }
}

/// So that nothing is marked up, linked or mentioned.
fn markup(c: char) -> Option<&'static str> {
    Some(match c {
        '\\' => "\\\\",
        '*' => "\\*",
        '_' => "\\_",
        '~' => "\\~",
        '`' => "\\`",
        '|' => "\\|",
        '>' => "\\>",
        '<' => "\\<",
        '[' => "\\[",
        ']' => "\\]",
        '#' => "\\#",
        '@' => "@\u{200b}",
        _ => return None,
    })
}

fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Who is mentioned, as the text says it and as it has to be allowed.
enum Mention<'a> {
    All(&'a str),
    User(&'a str),
    Role(&'a str),
}

impl<'a> Mention<'a> {
    fn of(who: &'a str) -> Option<Self> {
        let id = |id: &str| (15..=22).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit());
        match who.split_once(':') {
            None if ["@here", "@everyone"].contains(&who) => Some(Self::All(who)),
            Some(("user", user)) if id(user) => Some(Self::User(user)),
            Some(("role", role)) if id(role) => Some(Self::Role(role)),
            _ => None,
        }
    }
}

fn field(name: &str, value: &str) -> Value {
    json!({
        "name": text::escaped(name, FIELDS.1, markup),
        "value": text::escaped(value, FIELDS.2, markup),
        "inline": true,
    })
}

/// Title, description and fields together.
fn size(embed: &Value) -> usize {
    let of = |value: &Value| value.as_str().map_or(0, length);
    let fields = embed.get("fields").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    of(&embed["title"])
        + of(&embed["description"])
        + of(&embed["footer"]["text"])
        + fields.iter().map(|field| of(&field["name"]) + of(&field["value"])).sum::<usize>()
}

fn alert_text(alert: &AlertText) -> String {
    let mut text = parts::lines(alert, markup).join("\n");
    if let Some(runbook) = &alert.runbook {
        text += &format!("\n[Runbook]({runbook})");
    }
    text
}

impl Discord {
    fn fields(&self, notification: &Notification) -> Vec<Value> {
        parts::shown(&self.fields, notification, FIELDS.0).iter().map(|(name, value)| field(name, value)).collect()
    }

    fn message(&self, notification: &Notification, now: Timestamp) -> Value {
        let view = View::of(notification, now, markup);
        let title = self.title.fill(&view).map(|title| text::line(&title, 1000)).filter(|title| !title.is_empty());
        let title = title.map(|title| text::cut(&title, TITLE));
        let title = title.unwrap_or_else(|| text::escaped(&text::title(notification), TITLE, markup));
        let configured = self.text.fill(&view);
        let single = configured.is_none() && notification.alerts.len() == 1;
        let mut description: Vec<String> = text::reason(notification).into_iter().collect();
        match (&configured, notification.alerts.first()) {
            (Some(text), _) => description.push(text.trim().to_owned()),
            (None, Some(alert)) if single => description.push(alert_text(&AlertText::of(alert))),
            _ => {}
        }
        // Half of all is for fields and footer.
        let description = text::cut(&description.join("\n\n"), DESCRIPTION.min(ALL / 2));
        let mut room = ALL - length(&title) - length(&description) - 200;
        let mut fields = self.fields(notification);
        while size(&json!({"fields": fields})) > room {
            fields.pop();
        }
        room -= size(&json!({"fields": fields}));
        let mut embeds = vec![json!({
            "title": title,
            "description": description,
            "color": parts::colour(notification),
            "fields": fields,
            "timestamp": now.to_string(),
        })];
        let mut listed = usize::from(single);
        if configured.is_none() && !single {
            for alert in &notification.alerts {
                let embed = self.alert(alert, notification);
                let size = size(&embed);
                if size > room || embeds.len() == EMBEDS {
                    break;
                }
                room -= size;
                listed += 1;
                embeds.push(embed);
            }
        } else {
            listed = notification.alerts.len();
        }
        let footer = match text::more(notification, listed) {
            Some(more) => format!("{more} · {}", parts::footer(notification)),
            None => parts::footer(notification),
        };
        if let Some(last) = embeds.last_mut().and_then(Value::as_object_mut) {
            last.insert("footer".to_owned(), json!({"text": text::cut(&footer, 200)}));
        }
        let mut message = json!({"embeds": embeds});
        let people: Vec<Mention<'_>> = match parts::calls_people(notification) {
            true => self.mentions.iter().filter_map(|who| Mention::of(who)).collect(),
            false => Vec::new(),
        };
        self.mention(&people, &mut message);
        message
    }

    /// Only those can be mentioned, whatever stands in the texts.
    fn mention(&self, people: &[Mention<'_>], message: &mut Value) {
        let (mut content, mut users, mut roles, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for who in people {
            match who {
                Mention::All(who) => {
                    content.push((*who).to_owned());
                    all = vec!["everyone"];
                }
                Mention::User(id) => {
                    content.push(format!("<@{id}>"));
                    users.push(*id);
                }
                Mention::Role(id) => {
                    content.push(format!("<@&{id}>"));
                    roles.push(*id);
                }
            }
        }
        let Some(message) = message.as_object_mut() else { return };
        message.insert("allowed_mentions".to_owned(), json!({"parse": all, "users": users, "roles": roles}));
        let others = [("content", content.join(" ")), ("username", self.username.clone())];
        for (key, value) in others.into_iter().chain([("avatar_url", self.avatar_url.clone())]) {
            if !value.is_empty() {
                message.insert(key.to_owned(), text::cut(&value, CONTENT).into());
            }
        }
    }

    /// An embed for one of several alerts.
    fn alert(&self, alert: &wire::messages::Alert, notification: &Notification) -> Value {
        let one = Notification { alerts: vec![alert.clone()], ..notification.without_alerts() };
        let said = AlertText::of(alert);
        json!({
            "title": text::escaped(&format!("{}: {}", said.status(), said.name), TITLE, markup),
            "description": text::cut(&alert_text(&said), DESCRIPTION),
            "color": parts::colour(&one),
            "fields": self.fields(&one),
        })
    }
}

impl Table for Discord {
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>) {
        all.push(Arc::new(self.clone()));
    }

    fn check(&self, faults: &mut Faults) {
        parts::check_url_file(self.webhook_url_file.as_ref(), "webhook_url_file", "the webhook's URL", faults);
        for (at, who) in self.mentions.iter().enumerate() {
            if Mention::of(who).is_none() {
                let what = "is neither @here or @everyone nor user:<id> or role:<id>";
                faults.add(&format!("mentions[{at}]"), format!("{who:?} {what}"));
            }
        }
        if self.mentions.len() > 80 {
            faults.add("mentions", "are more than 80, of which not all fit into a message");
        }
        let name = self.username.to_lowercase();
        if name.chars().count() > 80 || name.contains("discord") || name.contains("clyde") {
            faults.add("username", "is not taken by Discord: at most 80 characters, without \"discord\" and \"clyde\"");
        }
        if !self.avatar_url.is_empty() {
            parts::check_url(&self.avatar_url, "avatar_url", faults);
        }
        if self.fields.len() > FIELDS.0 {
            faults.add("fields", format!("are more than the {} that Discord shows", FIELDS.0));
        }
    }
}

impl Integration for Discord {
    fn kind(&self) -> &'static str {
        "discord"
    }

    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    // Discord takes 30 a minute for each webhook.
    fn manner(&self) -> Manner {
        Manner { for_people: true, pause: Duration::from_millis(2000) }
    }

    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String> {
        let url = parts::secret_url(self.webhook_url_file.as_ref(), secrets)?;
        parts::post(url, &self.message(notification, now), Vec::new(), self.ca_file.as_ref())
    }

    /// When to come back stands in the body, in seconds with a fraction.
    fn outcome(&self, answer: &Answer) -> Outcome {
        #[derive(Deserialize)]
        struct Limited {
            retry_after: f64,
        }
        if answer.status == 429 {
            let said = serde_json::from_slice::<Limited>(&answer.body).ok().map(|limited| limited.retry_after);
            let said = said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            return Outcome::Retry(said.max(answer.retry_after), "it answered 429: too many messages".to_owned());
        }
        match answer.status {
            401 | 403 | 404 => Outcome::Refused(format!(
                "it answered {}: the webhook does not exist, or its URL is not right",
                answer.status
            )),
            _ => super::outcome(answer),
        }
    }
}
