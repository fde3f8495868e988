//! The MQTT broker inside `utilizer up`.
//!
//! It is the one of the crate `mqtt5`, for one host and a handful of clients. Retained messages, sessions and what waits
//! for offline sessions stand below the data directory and come back with it. Everything that can grow has a bound.
//!
//! A fleet uses a broker of its own: this one lets everybody in, and so listens on loopback only unless told otherwise.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mqtt5::broker::config::{AuthConfig, BrokerConfig, RateLimitConfig, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The largest packet taken, a batch of log records with room to spare.
const MOST_PACKET: usize = 4 << 20;
/// The largest retained message: a status or the alerts that fire.
const MOST_RETAINED_BYTES: usize = 256 << 10;
/// Retained messages: a few per host, for the simulated hosts of `utilizer sim` too.
const MOST_RETAINED: usize = 20_000;
/// Messages on their way to one client beside those in flight. Further ones go to its queue on disk.
const MOST_ON_THE_WAY: usize = 256;
/// What may wait for one client that is offline or slow. Beyond, the oldest goes.
const MOST_QUEUED: usize = 10_000;
const MOST_QUEUED_BYTES: usize = 32 << 20;
/// Connections at the same time.
const MOST_CLIENTS: usize = 2_000;
/// The longest a session is kept for an absent client, whatever it asks for.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);
/// How often expired sessions and messages are removed.
const CLEANING: Duration = Duration::from_secs(600);
/// The broker gives its clients 5 s to end; this is for the rest.
const STOPPING: Duration = Duration::from_secs(7);

/// A broker that runs until it is stopped.
pub struct Broker {
    local: SocketAddr,
    shutdown: BrokerShutdownHandle,
    running: JoinHandle<Result<(), String>>,
}

/// The broker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is not one of this host alone.
    #[error("the built-in broker lets everybody in and listens on loopback only, not on {0}")]
    Exposed(SocketAddr),
    /// The address can't be listened on, being taken or not of this host.
    #[error("the built-in broker can't listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Its state can't be read or written, or is used by another.
    #[error("the built-in broker can't be started with its state in {}: {reason}", directory.display())]
    State {
        /// The folder of its state.
        directory: PathBuf,
        /// What it says.
        reason: String,
    },
}

impl Broker {
    /// Starts a broker on a loopback address, its state in `data_dir`, which is made if it is missing. Port 0 takes any.
    pub async fn start(listen: SocketAddr, data_dir: &Path) -> Result<Self, BrokerError> {
        if !listen.ip().is_loopback() {
            return Err(BrokerError::Exposed(listen));
        }
        Self::start_exposed(listen, data_dir).await
    }

    /// As [`start`](Self::start), on any address. Whoever can reach it may then read and publish everything.
    pub async fn start_exposed(listen: SocketAddr, data_dir: &Path) -> Result<Self, BrokerError> {
        let state = |reason: String| BrokerError::State { directory: data_dir.to_owned(), reason };
        // The library tells a taken port in a text of several lines only. Asked for and given back at once, the port
        // may in theory be taken in between: then that text is what there is.
        TcpListener::bind(listen).await.map_err(|source| BrokerError::Listen { address: listen, source })?;
        let mut broker =
            MqttBroker::with_config(config(listen, data_dir)).await.map_err(|error| state(error.to_string()))?;
        let local = broker.local_addr().ok_or_else(|| state("BUG: it has no address".to_owned()))?;
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let mut running = tokio::spawn(async move { broker.run().await.map_err(|error| error.to_string()) });
        tokio::select! {
            ended = &mut running => Err(state(match ended {
                Ok(Err(reason)) => reason,
                Ok(Ok(())) => "it stopped at once".to_owned(),
                Err(panic) => panic.to_string(),
            })),
            Ok(_) = ready.wait_for(|ready| *ready) => Ok(Self { local, shutdown, running }),
        }
    }

    /// Where it listens, with the port that was taken for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Ends all connections, with a DISCONNECT (0x8B, server shutting down), publishes the wills of those clients, and
    /// returns when its state is on disk.
    pub async fn stop(mut self) {
        self.shutdown.shutdown();
        if timeout(STOPPING, &mut self.running).await.is_err() {
            tracing::warn!("the built-in broker did not stop within {STOPPING:?}");
            self.running.abort();
        }
    }
}

fn config(listen: SocketAddr, data_dir: &Path) -> BrokerConfig {
    let mut config = BrokerConfig::default()
        .with_bind_address(listen)
        .with_max_clients(MOST_CLIENTS)
        .with_session_expiry(LONGEST_SESSION)
        .with_max_packet_size(MOST_PACKET)
        .with_max_retained_messages(MOST_RETAINED)
        .with_max_retained_message_size(MOST_RETAINED_BYTES)
        .with_client_channel_capacity(MOST_ON_THE_WAY)
        .with_sys_topics_enabled(false)
        .with_auth(AuthConfig {
            allow_anonymous: true,
            // It counts refusals, of which there are none.
            rate_limit: RateLimitConfig { enabled: false, ..RateLimitConfig::default() },
            ..AuthConfig::default()
        })
        .with_storage(
            StorageConfig::new()
                .with_base_dir(data_dir.to_owned())
                .with_cleanup_interval(CLEANING)
                .with_max_queued_messages_per_client(MOST_QUEUED)
                .with_max_queued_bytes_per_client(MOST_QUEUED_BYTES),
        );
    // Nobody here sends aliases; each would cost memory.
    config.topic_alias_maximum = 0;
    config
}
