//! An empty session for the library below to resume.

use rumqttc::{MqttOptions, PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey};
use std::future::{Future, ready};
use std::pin::Pin;

/// A store that always holds the same empty checkpoint.
///
/// Each of our connections has an event loop of its own, which knows nothing of the session that the broker kept. The
/// library would then either refuse the connection or, told to allow it, refuse every publish and subscription on it,
/// because packet identifiers of unfinished QoS 2 exchanges might collide. We have none: we publish at QoS 1 only and
/// call publishes without PUBACK lost. So "nothing was under way" is the truth, and this store says it.
#[derive(Debug)]
pub(crate) struct NothingUnderWay(PersistedSession);

impl NothingUnderWay {
    /// For a connection with these options, which must not change afterwards.
    pub(crate) fn new(options: &MqttOptions) -> Self {
        Self(PersistedSession {
            format_version: 1,
            client_id: options.client_id(),
            clean_start: options.clean_start(),
            session_expiry_interval: options.session_expiry_interval(),
            outgoing_inflight_upper_limit: options.get_outgoing_inflight_upper_limit(),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        })
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for NothingUnderWay {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> Answer<'a, Option<PersistedSession>> {
        Box::pin(ready(Ok(Some(self.0.clone()))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Answer<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Answer<'a, ()> {
        Box::pin(ready(Ok(())))
    }
}
