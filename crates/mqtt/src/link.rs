//! Our values in the library's types and back.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{
    AckMode, AsyncClient, Broker, EventLoop, LastWill, LastWillProperties, MqttOptions, Publish, PublishOptions,
    PublishProperties, QoS, valid_topic,
};

use crate::client::MOST_FILTERS;
use crate::reason::{PACKET_TOO_LARGE, RETAIN_NOT_SUPPORTED, TOPIC_NAME_INVALID};
use crate::session::NothingUnderWay;
use crate::socket::{self, Tap};
use crate::{BrokerUrl, Limits, Message, Options, OptionsError};

/// The largest packet that MQTT can express.
const LARGEST_PACKET: u32 = 268_435_455;
/// Acknowledgements that may wait in the library's queue.
pub(crate) const MOST_ACKS: usize = 256;
/// The longest string that MQTT can express.
const LONGEST_STRING: usize = 65_535;

/// Checked options, from which each connection gets its own event loop.
#[derive(Debug)]
pub(crate) struct Template {
    options: MqttOptions,
    requests: usize,
    broker: BrokerUrl,
    tls: Option<Arc<ClientConfig>>,
}

impl Template {
    pub(crate) fn new(options: &Options) -> Result<Self, OptionsError> {
        check(options)?;
        let mut mqtt =
            MqttOptions::new(&options.client_id, Broker::tcp(options.broker.host.clone(), options.broker.port));
        match (&options.username, &options.password) {
            (Some(username), Some(password)) => {
                mqtt.set_credentials(username, password.expose().to_owned());
            }
            (Some(username), None) => {
                mqtt.set_username(username);
            }
            (None, _) => {}
        }
        mqtt.set_keep_alive(u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX));
        mqtt.set_clean_start(options.clean_start);
        let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
        mqtt.set_session_expiry_interval(Some(expiry));
        mqtt.set_receive_maximum(Some(options.receive_maximum));
        mqtt.set_outgoing_inflight_upper_limit(options.max_in_flight);
        mqtt.set_max_packet_size(Some(options.max_incoming_packet));
        mqtt.set_connect_timeout(options.connect_timeout);
        mqtt.set_ack_mode(AckMode::Manual);
        if let Some(will) = &options.will {
            mqtt.set_last_will(last_will(will));
        }
        // The library's queues take the publishes, which the client bounds, and beside them acknowledgements,
        // subscriptions and the disconnect.
        let requests = usize::from(options.max_in_flight).max(MOST_ACKS + MOST_FILTERS + 8);
        let tls = if options.broker.tls { Some(Arc::new(options.tls.configuration()?)) } else { None };
        Ok(Self { options: mqtt, requests, broker: options.broker.clone(), tls })
    }

    /// A fresh connection's event loop, the handle that feeds it and what is kept beside them. `resume`: a session that
    /// the broker kept is resumed also where the options say otherwise.
    pub(crate) fn build(&self, resume: bool) -> (AsyncClient, EventLoop, Tap) {
        let (mut options, tap) = (self.options.clone(), Tap::default());
        if resume {
            options.set_clean_start(false);
        }
        if !options.clean_start() {
            let nothing = NothingUnderWay::new(&options);
            options.set_session_store(nothing);
        }
        let (BrokerUrl { host, port, .. }, tls, listener) = (self.broker.clone(), self.tls.clone(), tap.clone());
        options.set_socket_connector(move |_, _| socket::connect(host.clone(), port, tls.clone(), listener.clone()));
        let (client, event_loop) = AsyncClient::builder(options).capacity(self.requests).build();
        (client, event_loop, tap)
    }
}

fn check(options: &Options) -> Result<(), OptionsError> {
    let value = |sentence: String| Err(OptionsError::Value(sentence));
    if options.client_id.is_empty() || options.client_id.len() > LONGEST_STRING {
        return value("the MQTT client id must have from 1 to 65535 bytes".to_owned());
    }
    if options.password.is_some() && options.username.is_none() {
        return value("a password for the broker needs a user name beside it; set `username`".to_owned());
    }
    if options.receive_maximum == 0 {
        return value("the receive maximum must be at least 1".to_owned());
    }
    if options.max_in_flight == 0 {
        return value("the number of publishes in flight must be at least 1".to_owned());
    }
    if options.connect_timeout == Duration::ZERO {
        return value("the time for a connection attempt must be longer than zero".to_owned());
    }
    if let Some((_, fault)) = options.will.as_ref().and_then(|will| fault_in(will, None)) {
        return value(format!("the last will can't be sent: {fault}"));
    }
    Ok(())
}

/// What keeps a message from being sent to a broker with these limits, if anything does: the code that the broker would
/// give, where there is one, and a sentence.
///
/// It is asked before the library gets the message, which would end the connection over it, each time anew.
pub(crate) fn fault_in(message: &Message, limits: Option<&Limits>) -> Option<(Option<u8>, String)> {
    let Message { topic, payload, content_type, user_properties, .. } = message;
    if topic.is_empty() || !valid_topic(topic) || topic.contains('\0') {
        let sentence = format!("{topic:?} is not a topic name: it must not be empty nor contain `+`, `#` or NUL");
        return Some((Some(TOPIC_NAME_INVALID), sentence));
    }
    let mut strings = user_properties.iter().flat_map(|(key, value)| [key, value]).chain(content_type).chain([topic]);
    if strings.any(|string| string.len() > LONGEST_STRING) {
        return Some((None, "the topic or a property is longer than 65535 bytes".to_owned()));
    }
    if message.retain && limits.is_some_and(|limits| !limits.retain) {
        return Some((Some(RETAIN_NOT_SUPPORTED), "the broker keeps no retained messages".to_owned()));
    }
    let largest = limits.and_then(|limits| limits.max_packet).unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET) as usize;
    // The library computes sizes in types that a payload near 4 GiB could overflow.
    if payload.len() > largest || packet_size(message) > largest {
        let sentence = format!(
            "a message of {} bytes to {topic:?} is too large for the broker, which takes packets up to {largest} bytes",
            payload.len()
        );
        return Some((Some(PACKET_TOO_LARGE), sentence));
    }
    None
}

/// The size of a message's PUBLISH in bytes.
pub(crate) fn packet_size(message: &Message) -> usize {
    publish(message.clone()).size()
}

fn properties(content_type: Option<String>, user_properties: Vec<(String, String)>) -> PublishProperties {
    PublishProperties { content_type, user_properties, ..PublishProperties::default() }
}

fn publish(message: Message) -> Publish {
    let Message { topic, payload, retain, content_type, user_properties } = message;
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload, Some(properties(content_type, user_properties)));
    publish.retain = retain;
    publish
}

/// The options of a message's publish, beside its topic and payload.
pub(crate) fn publish_options(message: &Message) -> PublishOptions {
    PublishOptions::new(QoS::AtLeastOnce)
        .retain(message.retain)
        .properties(properties(message.content_type.clone(), message.user_properties.clone()))
}

/// A received message. A topic that is not UTF-8, which a broker must not send, comes with replacement characters.
pub(crate) fn message(publish: Publish) -> Message {
    let properties = publish.properties.unwrap_or_default();
    Message {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload,
        retain: publish.retain,
        content_type: properties.content_type,
        user_properties: properties.user_properties,
    }
}

fn last_will(will: &Message) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: will.content_type.clone(),
        response_topic: None,
        correlation_data: None,
        user_properties: will.user_properties.clone(),
    };
    LastWill::new(&will.topic, will.payload.to_vec(), QoS::AtLeastOnce, will.retain, Some(properties))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, Tls};

    fn options() -> Options {
        Options::new("mqtt://127.0.0.1:1".parse().unwrap(), "test")
    }

    fn message(topic: &str, bytes: usize) -> Message {
        Message { topic: topic.to_owned(), payload: vec![0; bytes].into(), ..Message::default() }
    }

    #[test]
    fn messages_that_can_not_be_sent_are_told_apart() {
        let limits = Limits {
            receive_maximum: 1,
            max_packet: Some(200),
            keep_alive: Duration::ZERO,
            session_expiry: Duration::ZERO,
            retain: false,
            shared: true,
            wildcards: true,
        };
        assert_eq!(fault_in(&message("a/b", 100), Some(&limits)), None);
        for (topic, bytes, code, word) in [
            ("", 1, 0x90, "topic name"),
            ("a/+", 1, 0x90, "topic name"),
            ("a/#", 1, 0x90, "topic name"),
            ("a\0", 1, 0x90, "topic name"),
            ("a", 201, 0x95, "too large"),
            ("a", 199, 0x95, "too large"),
        ] {
            let fault = fault_in(&message(topic, bytes), Some(&limits)).unwrap();
            assert!(fault.0 == Some(code) && fault.1.contains(word), "{topic:?}: {fault:?}");
        }
        let retained = Message { retain: true, ..message("a", 1) };
        assert_eq!(fault_in(&retained, Some(&limits)).unwrap().0, Some(0x9A));
        assert_eq!(fault_in(&retained, None), None);
        let mut long = message("a", 1);
        long.user_properties.push(("key".to_owned(), "v".repeat(65_536)));
        let fault = fault_in(&long, None).unwrap();
        assert!(fault.0.is_none() && fault.1.contains("65535"), "{fault:?}");
    }

    #[test]
    fn options_are_checked_before_anything_starts() {
        type Change = fn(&mut Options);
        let cases: [(Change, &str); 7] = [
            (|o| o.client_id.clear(), "client id"),
            (|o| o.receive_maximum = 0, "receive maximum"),
            (|o| o.max_in_flight = 0, "in flight"),
            (|o| o.connect_timeout = Duration::ZERO, "attempt"),
            (|o| o.password = Some(Secret::new("x")), "`username`"),
            (|o| o.will = Some(message("a/#", 1)), "last will"),
            (|o| (o.broker.tls, o.tls) = (true, Tls { ca: Some(b"no PEM".to_vec()), ..Tls::default() }), "`ca_file`"),
        ];
        for (change, word) in cases {
            let mut options = options();
            change(&mut options);
            let error = Template::new(&options).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        Template::new(&options()).unwrap();
    }
}
