//! The services that notifications go to, each in a file of its own: the keys of its table, what it is called with, and
//! what its answers mean.

mod alertmanager;
mod call;
mod parts;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wire::Timestamp;

pub use alertmanager::Alertmanager;
pub use call::{Answer, Call, HttpCall, Mail, MailTls, Outcome, Secret, SecretFile, Secrets, outcome, retry_after};

use crate::Notification;
use crate::queue::Manner;

/// One way to one service, as configured.
pub trait Integration: std::fmt::Debug + Send + Sync {
    /// `slack` and the like, as in the configuration.
    fn kind(&self) -> &'static str;

    /// Whether it is told when alerts are over.
    fn send_resolved(&self) -> bool;

    /// How much at once, and how often.
    fn manner(&self) -> Manner {
        Manner::default()
    }

    /// What the service is to be called with. An error is a sentence on what is wrong with the configuration, a secret
    /// or the notification, without a secret in it.
    fn call(&self, notification: &Notification, now: Timestamp, secrets: &Secrets<'_>) -> Result<Call, String>;

    /// What its answer means, where it is not what most services mean by a status.
    fn outcome(&self, answer: &Answer) -> Outcome {
        outcome(answer)
    }
}

/// What a table of a receiver can be asked.
trait Table {
    /// Adds what it calls: mostly itself.
    fn integrations(&self, all: &mut Vec<Arc<dyn Integration>>);

    /// What is wrong, by key: what can't be seen while the file is read.
    fn check(&self, faults: &mut Faults);
}

/// Faults of one table: the key and a sentence.
#[derive(Debug, Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add(&mut self, key: &str, fault: impl Into<String>) {
        self.0.push((key.to_owned(), fault.into()));
    }
}

/// The list of services: key of the table, module, type.
macro_rules! receivers {
    ($($(#[$doc:meta])* $key:ident: $type:ident,)*) => {
        $(mod $key; pub use $key::$type;)*

        /// `[[notify.receivers]]`: a name, and the services that are told under it, each any number of times.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Receiver {
            /// What routes call it.
            pub name: String,
            $($(#[$doc])* pub $key: Vec<$type>,)*
        }

        impl Receiver {
            /// The keys of all services.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($key)),*];

            /// Every way to every service, in the order of the list.
            pub fn integrations(&self) -> Vec<Arc<dyn Integration>> {
                let mut all = Vec::new();
                $(self.$key.iter().for_each(|table| table.integrations(&mut all));)*
                all
            }

            /// What is wrong with it: the key below the receiver (`slack[0].webhook_url_file`) and a sentence.
            pub fn check(&self) -> Vec<(String, String)> {
                let mut all = Vec::new();
                if self.name.trim().is_empty() {
                    all.push(("name".to_owned(), "a receiver needs a name, which routes call it by".to_owned()));
                }
                $(for (at, table) in self.$key.iter().enumerate() {
                    let mut faults = Faults::default();
                    table.check(&mut faults);
                    let path = format!("{}[{at}]", stringify!($key));
                    all.extend(faults.0.into_iter().map(|(key, fault)| (format!("{path}.{key}"), fault)));
                })*
                all
            }
        }
    };
}

receivers! {
    /// Slack, by incoming webhooks.
    slack: Slack,
    /// Discord, by webhooks.
    discord: Discord,
    /// Microsoft Teams, by webhooks of Workflows.
    teams: Teams,
    /// Mails.
    email: Email,
    /// PagerDuty, by its Events API v2.
    pagerduty: PagerDuty,
    /// Anything that takes what Alertmanager sends to webhooks.
    webhook: Webhook,
    /// Text messages, through a gateway with an HTTP interface.
    sms: Sms,
    /// Commands that `utilizer-jobs` runs.
    command: Command,
}
