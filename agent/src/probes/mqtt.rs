//! An MQTT broker: it takes us, and gives back what is published.

use std::path::PathBuf;
use std::time::Duration;

use daemon::mqtt::Broker;
use mqtt::{Client, Event, Message, Options};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Asking, Faults, Look, Run, dial};

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// `[probe.mqtt]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttProbe {
    /// `mqtt://HOST[:PORT]`, or `mqtts://` for TLS.
    pub url: String,
    /// Who asks.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// The authorities to trust, PEM; the system's where absent.
    pub ca_file: PathBuf,
    /// Our certificate and its chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// What is published there must come back; without it, only the connection counts.
    pub topic: String,
}

impl Default for MqttProbe {
    fn default() -> Self {
        Self {
            url: "mqtt://127.0.0.1:1883".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            topic: String::new(),
        }
    }
}

/// A broker as probes have it in their tables.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) url: String,
    pub(super) username: String,
    pub(super) files: [PathBuf; 4],
}

impl At {
    /// Reads files.
    pub(super) fn options(&self) -> Result<Options, Vec<(String, String)>> {
        let [password_file, ca_file, cert_file, key_file] = self.files.each_ref().map(|file| Some(file.as_path()));
        let broker = Broker {
            url: &self.url,
            username: Some(&self.username),
            password: None,
            password_file,
            ca_file,
            cert_file,
            key_file,
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        let options = broker.options(&format!("utilizer-probe-{}", id.get(..12).unwrap_or_default()));
        options.map_err(|faults| {
            let key = |key: &str| key.strip_prefix("mqtt.").unwrap_or("url").to_owned();
            faults.into_iter().map(|(at, why)| (key(at), why)).collect()
        })
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        for (key, why) in self.options().err().unwrap_or_default() {
            faults.add(&key, why);
        }
    }

    /// Where it is, without who asks.
    pub(super) fn shown(&self) -> String {
        self.url.parse::<mqtt::BrokerUrl>().map(|url| url.to_string()).unwrap_or_default()
    }
}

impl MqttProbe {
    fn at(&self) -> At {
        let files = [&self.password_file, &self.ca_file, &self.cert_file, &self.key_file];
        At { url: self.url.clone(), username: self.username.clone(), files: files.map(PathBuf::clone) }
    }
}

impl Look for MqttProbe {
    fn target(&self) -> String {
        self.at().shown()
    }

    fn check(&self, faults: &mut Faults) {
        self.at().check(faults);
        if self.topic.contains(['+', '#', '\0']) {
            faults.add("topic", "must be a topic without + and #, that this user may publish to and read");
        }
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let at = self.at();
            let options = dial::read(run, move || at.options()).await?;
            let mut options = options.map_err(told)?;
            options.connect_timeout = run.timeout;
            run.found.stage("the connection");
            let begun = Instant::now();
            let (client, mut events) = Client::start(options).map_err(|error| error.to_string())?;
            let token = uuid::Uuid::new_v4().simple().to_string();
            let phase = |run: &mut Run<'_>, phase: &'static str| {
                let help = "How long it took to connect, and until what was published came back.";
                let seconds = begun.elapsed().as_secs_f64();
                run.found.labelled("probe_mqtt_duration_seconds", help, ("phase", phase), seconds);
            };
            let result = loop {
                match events.recv().await {
                    Some(Event::Connected { .. }) => {
                        phase(run, "connect");
                        if self.topic.is_empty() {
                            break Ok(());
                        }
                        run.found.stage("the subscription");
                        if client.subscribe([self.topic.as_str()]).await.is_err() {
                            break Err("BUG: the MQTT client stopped by itself".to_owned());
                        }
                    }
                    Some(Event::Subscribed { .. }) => {
                        run.found.stage("the way of a message through the broker");
                        let payload = token.clone().into();
                        let message = Message { topic: self.topic.clone(), payload, ..Message::default() };
                        if let Err(error) = client.try_publish(0, message) {
                            break Err(error.to_string());
                        }
                    }
                    Some(Event::Received { message, ack }) => {
                        client.ack(ack);
                        if message.payload == token.as_bytes() {
                            phase(run, "round_trip");
                            break Ok(());
                        }
                    }
                    Some(Event::SubscriptionRefused { reason, .. }) => break Err(reason),
                    Some(Event::Refused { reason, .. }) => break Err(reason),
                    Some(Event::Disconnected { reason, .. }) => break Err(reason.sentence),
                    Some(Event::Lost { .. }) => break Err("the connection broke".to_owned()),
                    Some(Event::Acked { .. }) => {}
                    None => break Err("BUG: the MQTT client ended by itself".to_owned()),
                }
            };
            client.disconnect(GOODBYE).await;
            result
        })
    }
}

pub(super) fn told(faults: Vec<(String, String)>) -> String {
    faults.into_iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>().join("; ")
}
