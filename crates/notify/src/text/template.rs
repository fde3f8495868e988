//! Texts that are configured: Alertmanager's templates.

use std::fmt;
use std::sync::Arc;

use rules::Labels;
use rules::template::{Template, Tree};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::messages::Alert;
use wire::{LabelSet, Timestamp};

use super::{cut, reason};
use crate::Notification;
use crate::notification::Status;

/// A text with Alertmanager's template language, as written in a configuration. Empty: the text that is compiled in.
///
/// It is read, and tried over two alerts, where the configuration is read, so that faults show there.
#[derive(Clone, Default, PartialEq)]
pub struct Text(Option<Arc<Template>>);

impl Text {
    /// Reads a template. An error says what and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let place = |fault: &rules::template::Fault| {
            let (line, column) = rules::template::line_column(text, fault.at);
            format!("line {line}, column {column} of the template: {}", fault.message)
        };
        let template = Template::parse_notification(text).map_err(|fault| place(&fault))?;
        let view = View::example();
        match template.fill(&view.root, view.now) {
            // Other faults may come of the example: it has few alerts and few labels.
            Err(fault) if fault.message.starts_with("can't evaluate field") => Err(place(&fault)),
            _ => Ok(Self(Some(Arc::new(template)))),
        }
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The template.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().map_or("", Template::text)
    }

    /// Filled in. `None` where nothing is configured or it can't be filled in: the caller's own text goes out then,
    /// since an alert must not be lost for a template.
    pub fn fill(&self, view: &View) -> Option<String> {
        self.try_fill(view).and_then(Result::ok)
    }

    /// As [`fill`](Self::fill), but says what is wrong.
    pub fn try_fill(&self, view: &View) -> Option<Result<String, String>> {
        let template = self.0.as_deref()?;
        Some(match template.fill(&view.root, view.now) {
            Ok(filled) if filled.cut => Ok(filled.text + &super::ELLIPSIS.to_string()),
            Ok(filled) => Ok(filled.text),
            Err(fault) => {
                let (line, column) = template.place(&fault);
                Err(format!("line {line}, column {column} of the template: {}", fault.message))
            }
        })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A notification as templates see it.
#[derive(Debug, Clone)]
pub struct View {
    root: Tree,
    now: i64,
}

/// More alerts are not given to a template; `.LeftOut` counts them.
const MOST_ALERTS: usize = 500;
/// Longer values of labels and annotations are cut for templates, in characters.
const LONGEST_VALUE: usize = 4000;

impl View {
    /// A view in which all that comes of alerts is written by `escape`, so that no label can mean something in the
    /// receiver's markup.
    pub fn of(notification: &Notification, now: Timestamp, escape: impl Fn(char) -> Option<&'static str>) -> Self {
        let text = |text: &str| Tree::text(super::escaped(text, LONGEST_VALUE, &escape));
        let labels = |set: &LabelSet| {
            let pairs = set.iter().map(|(name, value)| (name, super::escaped(value, LONGEST_VALUE, &escape)));
            Tree::Labels(Labels::new(pairs))
        };
        let alert = |alert: &Alert| {
            let resolved = alert.resolved_at;
            let status = if resolved.is_some() { Status::Resolved } else { Status::Firing };
            Tree::Struct(
                [
                    ("Status", Tree::text(status.as_str())),
                    ("Labels", labels(&alert.labels)),
                    ("Annotations", labels(&alert.annotations)),
                    ("StartsAt", Tree::Time(alert.fired_at.as_millis())),
                    // As Alertmanager: the first moment of all where there is no end yet.
                    ("EndsAt", Tree::Time(resolved.map_or(NEVER, Timestamp::as_millis))),
                    ("GeneratorURL", text(&notification.external_url)),
                    ("Fingerprint", text(&alert.fingerprint)),
                    ("Value", Tree::Float(alert.value.0)),
                ]
                .into(),
            )
        };
        let alerts: Arc<[Tree]> = notification.alerts.iter().take(MOST_ALERTS).map(alert).collect();
        let left_out = notification.left_out + notification.alerts.len().saturating_sub(MOST_ALERTS);
        let root = Tree::Struct(
            [
                ("Receiver", text(&notification.receiver)),
                ("Status", Tree::text(notification.status().as_str())),
                ("Alerts", Tree::List(alerts)),
                ("GroupLabels", labels(&notification.group_labels)),
                ("CommonLabels", labels(&notification.common_labels())),
                ("CommonAnnotations", labels(&notification.common_annotations())),
                ("ExternalURL", text(&notification.external_url)),
                ("GroupKey", text(&notification.group_key)),
                ("TruncatedAlerts", Tree::Int(i64::try_from(left_out).unwrap_or(i64::MAX))),
                ("Host", text(&notification.host)),
                ("Reason", Tree::text(reason(notification).unwrap_or_default())),
                ("Id", Tree::text(&notification.id)),
                // Of receivers that write texts for others; empty elsewhere.
                ("Text", Tree::text("")),
                ("To", Tree::List([].into())),
                ("From", Tree::text("")),
                ("Secret", Tree::text("")),
            ]
            .into(),
        );
        Self { root, now: now.as_millis() }
    }

    /// With some of its parts replaced.
    #[must_use]
    pub fn with(self, parts: &[(&str, Tree)]) -> Self {
        let Tree::Struct(known) = &self.root else { return self };
        let replaced = known.iter().map(|(name, part)| {
            let new = parts.iter().find(|(replaced, _)| replaced == name).map(|(_, part)| part);
            (*name, new.unwrap_or(part).clone())
        });
        Self { root: Tree::Struct(replaced.collect()), now: self.now }
    }

    /// What templates are tried over.
    fn example() -> Self {
        let labels = |instance: &str| {
            let pairs = [("alertname", "Example"), ("instance", instance), ("severity", "warning")];
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<LabelSet>()
        };
        let start = Timestamp::from_millis(1_700_000_000_000);
        let alert = |instance: &str, resolved_at| Alert {
            fingerprint: "0123456789abcdef".to_owned(),
            labels: labels(instance),
            annotations: [("summary".to_owned(), "An example".to_owned())].into_iter().collect(),
            value: 1.0.into(),
            active_at: start,
            fired_at: start,
            resolved_at,
        };
        let notification = Notification {
            id: "0".repeat(32),
            receiver: "example".to_owned(),
            reason: crate::Reason::Alerts,
            group_key: "{}:{}".to_owned(),
            group_labels: LabelSet::default(),
            alerts: vec![alert("a", None), alert("b", Some(start))],
            left_out: 0,
            external_url: "http://localhost".to_owned(),
            host: "a".to_owned(),
            time: start,
        };
        Self::of(&notification, start, |_| None)
    }
}

/// `0001-01-01T00:00:00Z`, Go's zero time.
pub(crate) const NEVER: i64 = -62_135_596_800_000;

/// For error messages: a template's name and its beginning.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cut(self.as_str(), 60))
    }
}
