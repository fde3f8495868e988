//! What the subcommands have in common: how they end, and how they reach the broker.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use daemon::mqtt::Broker;
use mqtt::{Cause, Client, Event, Events, Options, Pauses};

/// Why a subcommand did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// Whoever read the output has gone, which is their right: it ends quietly.
    #[error("nobody reads the output any more")]
    Closed,
}

impl CommandError {
    /// A failed write to stdout.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("can't write to stdout: {error}")),
        }
    }
}

/// The broker and who we are to it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerArgs {
    /// The broker: mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS; the port may be left out.
    #[arg(long = "mqtt", value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub url: String,
    /// Who we are to it.
    #[command(flatten)]
    pub identity: Identity,
}

/// Who we are to the broker.
#[derive(Debug, Clone, Args)]
pub struct Identity {
    /// User name, where the broker asks for one.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A file whose first line is the password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Authorities to trust, PEM; the system's if not given.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its chain, PEM.
    #[arg(long, value_name = "FILE")]
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// The broker, where a command asks either an agent or the fleet.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fleet")]
pub struct FleetArgs {
    /// Not one agent, but the fleet, through its broker: mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS.
    #[arg(long = "mqtt", value_name = "URL", conflicts_with_all = ["url", "unix"])]
    mqtt: Option<String>,
    #[command(flatten)]
    identity: Identity,
}

impl FleetArgs {
    /// The broker, if the fleet is meant.
    pub fn broker(self) -> Result<Option<BrokerArgs>, CommandError> {
        let Identity { username, password_file, ca_file, cert_file, key_file } = &self.identity;
        let files = [password_file, ca_file, cert_file, key_file];
        if self.mqtt.is_none() && (username.is_some() || files.into_iter().any(Option::is_some)) {
            return Err(CommandError::Usage("who we are to the broker matters with --mqtt only".to_owned()));
        }
        Ok(self.mqtt.map(|url| BrokerArgs { url, identity: self.identity }))
    }
}

/// The largest message that is read: far beyond what agents send.
const LARGEST: u32 = 64 << 20;

/// How long the goodbye to the broker may take.
const FAREWELL: Duration = Duration::from_secs(2);

impl BrokerArgs {
    /// Connection options under a client id of its own each time, so that two of the same command do not take the session
    /// from each other.
    pub fn options(&self, role: &str) -> Result<Options, CommandError> {
        let random = RandomState::new().hash_one(std::process::id());
        self.options_as(&format!("utilizer-{role}-{random:016x}"))
    }

    /// Connection options under this client id.
    pub fn options_as(&self, client_id: &str) -> Result<Options, CommandError> {
        let broker = Broker {
            url: &self.url,
            username: self.identity.username.as_deref(),
            password: None,
            password_file: self.identity.password_file.as_deref(),
            ca_file: self.identity.ca_file.as_deref(),
            cert_file: self.identity.cert_file.as_deref(),
            key_file: self.identity.key_file.as_deref(),
        };
        let mut options = broker.options(client_id).map_err(|faults| {
            let switch = |key: &str| match key.trim_start_matches("mqtt.") {
                "url" => "--mqtt".to_owned(),
                name => format!("--{}", name.replace('_', "-")),
            };
            let said: Vec<_> = faults.into_iter().map(|(key, fault)| format!("{}: {fault}", switch(key))).collect();
            CommandError::Usage(said.join("\n"))
        })?;
        options.max_incoming_packet = LARGEST;
        options.pauses = Pauses { most: Duration::from_secs(10), ..Pauses::default() };
        Ok(options)
    }
}

/// Starts a client and waits until it is connected. The first attempt counts: a person waits for it.
pub async fn connect(options: Options) -> Result<(Client, Events), CommandError> {
    let (client, mut events) = Client::start(options).map_err(|error| CommandError::Usage(error.to_string()))?;
    loop {
        match events.recv().await {
            Some(Event::Connected { .. }) => return Ok((client, events)),
            Some(Event::Disconnected { reason, .. }) => return Err(CommandError::Failed(reason.sentence)),
            Some(_) => {}
            None => return Err(CommandError::Failed("BUG: the MQTT client ended before it was connected".to_owned())),
        }
    }
}

/// Whether a lost connection comes back by itself.
pub fn is_final(cause: Cause) -> bool {
    matches!(cause, Cause::Credentials | Cause::TakenOver | Cause::Tls)
}

/// Says goodbye to the broker.
pub async fn leave(client: &Client, events: &mut Events) {
    let mut done = std::pin::pin!(client.disconnect(FAREWELL));
    loop {
        tokio::select! {
            _ = &mut done => return,
            // Events must be read while the connection ends.
            event = events.recv() => if event.is_none() { return },
        }
    }
}
