//! The library's errors as sentences for an operator.

use std::error::Error;
use std::io;
use std::time::Duration;

use rumqttc::tokio_rustls::rustls;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, SubscribeReasonCode};

use crate::frames::LastWord;
use crate::socket::{HandshakeFault, Tap};
use crate::{BrokerUrl, Cause, Disconnect};

/// The v5 reason code for a packet beyond the broker's limit.
pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
/// The v5 reason code for a topic that is none, or not allowed to anybody.
pub(crate) const TOPIC_NAME_INVALID: u8 = 0x90;
/// The v5 reason code for a retained message at a broker that keeps none.
pub(crate) const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
/// The v5 reason code for a `$share` filter at a broker that has no shared subscriptions.
pub(crate) const NO_SHARED_SUBSCRIPTIONS: u8 = 0x9E;
/// The v5 reason code for a filter with wildcards at a broker that takes none.
pub(crate) const NO_WILDCARDS: u8 = 0xA2;

/// Why the connection to `broker` ended or did not come about.
pub(crate) fn disconnect(broker: &BrokerUrl, client_id: &str, error: &ConnectionError, tap: &Tap) -> Disconnect {
    if let Some(word) = tap.last_word() {
        return by_word(broker, client_id, &word);
    }
    let by_code = |code: u8| by_word(broker, client_id, &LastWord { code, reason: None, server: None });
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => by_code(*reason_code as u8),
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => by_code(connect_code(*code)),
        ConnectionError::Timeout(_) => told(
            Cause::Timeout,
            format!("the broker at {broker} did not answer in time; is it overloaded, or another service?"),
        ),
        ConnectionError::MqttState(StateError::AwaitPingResp) => silent(broker),
        ConnectionError::MqttState(StateError::ConnectionAborted) => told(
            Cause::Closed,
            format!(
                "the broker at {broker} closed the connection without giving a reason; \
                 an old one does so when another client connects with the id {client_id:?}"
            ),
        ),
        other => by_source(broker, other),
    }
}

/// The broker owes an answer for too long.
pub(crate) fn silent(broker: &BrokerUrl) -> Disconnect {
    told(
        Cause::Timeout,
        format!(
            "the broker at {broker} has been silent for longer than the keep-alive time allows; it hangs, or the network \
             to it is cut"
        ),
    )
}

/// Another client was found to have the session.
pub(crate) fn rival(broker: &BrokerUrl, client_id: &str) -> Disconnect {
    told(
        Cause::Rival,
        format!(
            "another client with the id {client_id:?} is connected to the broker at {broker}, and the two closed each \
             other's connections; give each its own name (`host` of an agent, `member` of an exporter); until then the \
             session is left to the other one"
        ),
    )
}

/// A fault that the driver found itself.
pub(crate) fn protocol(broker: &BrokerUrl, fault: &str) -> Disconnect {
    told(Cause::Protocol, format!("the connection to the broker at {broker} was given up: {fault}"))
}

/// The consumer read no event for so long that the connection was given up.
pub(crate) fn overrun(broker: &BrokerUrl, patience: Duration) -> Disconnect {
    told(
        Cause::Overrun,
        format!(
            "the connection to the broker at {broker} was given up: it sent more messages than are taken, \
             and none was for {patience:?}"
        ),
    )
}

fn told(cause: Cause, sentence: String) -> Disconnect {
    Disconnect { cause, code: None, sentence }
}

fn tls(broker: &BrokerUrl, fault: &(dyn Error + 'static)) -> Disconnect {
    let below = match fault.downcast_ref::<HandshakeFault>() {
        Some(handshake) => handshake.tls(),
        None => Some(fault),
    };
    let remedy = ::tls::remedy(below, "broker");
    told(Cause::Tls, format!("no TLS with the broker at {broker}: {fault}; {remedy}"))
}

/// Errors in which a system or TLS error may be wrapped.
fn by_source(broker: &BrokerUrl, error: &ConnectionError) -> Disconnect {
    let system = match error {
        ConnectionError::Io(system) | ConnectionError::MqttState(StateError::Io(system)) => Some(system),
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::mqttbytes::Error::Io(system))) => Some(system),
        _ => None,
    };
    let Some(system) = system else {
        return told(Cause::Protocol, format!("the connection to the broker at {broker} broke: {error}"));
    };
    if let Some(inner) = system.get_ref()
        && (inner.is::<HandshakeFault>() || inner.is::<rustls::Error>())
    {
        return tls(broker, inner);
    }
    match error {
        // Only connecting gives a bare I/O error; later ones come through the protocol's state.
        ConnectionError::Io(_) => told(
            Cause::Unreachable,
            match system.kind() {
                io::ErrorKind::ConnectionRefused => {
                    format!("nothing listens at {broker} (connection refused); is the broker running?")
                }
                _ => format!("the broker at {broker} can't be reached: {system}"),
            },
        ),
        _ => told(Cause::Closed, format!("the connection to the broker at {broker} broke: {system}")),
    }
}

fn by_word(broker: &BrokerUrl, client_id: &str, word: &LastWord) -> Disconnect {
    // A broker of MQTT 3.1.1 answers so to another version.
    let code = if word.code == 1 { 0x84 } else { word.code };
    let said = word.reason.as_ref().map(|said| format!(", saying {said:?}")).unwrap_or_default();
    let why = format!("0x{code:02X} {}{said}", code_name(code));
    let server = word.server.as_ref().map(|server| format!(" at {server:?}")).unwrap_or_default();
    let (cause, sentence) = match code {
        0x86 | 0x87 | 0x8C => (
            Cause::Credentials,
            format!(
                "the broker at {broker} does not let client {client_id:?} in ({why}); \
                 check `username`, `password_file` and the broker's access rules"
            ),
        ),
        0x8E => (
            Cause::TakenOver,
            format!(
                "another client with the id {client_id:?} connected to the broker at {broker} ({why}); \
                 give each its own name"
            ),
        ),
        0x88 | 0x89 | 0x96 | 0x97 | 0x9F | 0xA0 => {
            (Cause::Busy, format!("the broker at {broker} has no room for client {client_id:?} now ({why})"))
        }
        0x8B => (Cause::ShuttingDown, format!("the broker at {broker} is shutting down ({why})")),
        0x8D => (
            Cause::Timeout,
            format!("the broker at {broker} heard nothing from client {client_id:?} in the keep-alive time ({why})"),
        ),
        0x9C => (
            Cause::Moved,
            format!(
                "the broker at {broker} asks to use another one{server} for now ({why}); set `url` to it if this lasts"
            ),
        ),
        0x9D => (Cause::Moved, format!("the broker at {broker} has moved{server} ({why}); set `url` to its new place")),
        NO_SHARED_SUBSCRIPTIONS | NO_WILDCARDS => {
            let remedy = subscription_remedy(code);
            (Cause::Refused, format!("the broker at {broker} ended the connection ({why}){remedy}"))
        }
        _ => (Cause::Refused, format!("the broker at {broker} ended the connection ({why})")),
    };
    Disconnect { cause, code: Some(code), sentence }
}

/// Whether a publish that was refused so may be taken later as it is.
pub(crate) fn may_pass_later(code: u8) -> bool {
    !matches!(code, TOPIC_NAME_INVALID | PACKET_TOO_LARGE | 0x99 | RETAIN_NOT_SUPPORTED | 0x9B)
}

/// Whether a subscription that was refused so may be granted later.
pub(crate) fn may_be_granted_later(code: u8) -> bool {
    matches!(code, 0x80 | 0x83 | 0x87 | 0x91 | 0x97)
}

/// The refusal of a publish as a sentence.
pub(crate) fn refusal(code: u8, said: Option<&str>) -> String {
    let said = said.map(|said| format!(", saying {said:?}")).unwrap_or_default();
    format!("the broker refused the message (0x{code:02X} {}{said})", code_name(code))
}

/// The refusal of a subscription as a sentence.
pub(crate) fn subscription_refusal(code: u8) -> String {
    format!("the broker refused the subscription (0x{code:02X} {}){}", code_name(code), subscription_remedy(code))
}

fn subscription_remedy(code: u8) -> &'static str {
    match code {
        NO_SHARED_SUBSCRIPTIONS => "; with `[mqtt] shared = false` a single exporter of the group does without them",
        NO_WILDCARDS => "; without them this broker can't be used",
        _ => "",
    }
}

/// The code of one filter in a SUBACK, if it is an error.
pub(crate) fn suback(reason: SubscribeReasonCode) -> Option<u8> {
    Some(match reason {
        SubscribeReasonCode::Success(_) => return None,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => 0x80,
        SubscribeReasonCode::ImplementationSpecific => 0x83,
        SubscribeReasonCode::NotAuthorized => 0x87,
        SubscribeReasonCode::TopicFilterInvalid => 0x8F,
        SubscribeReasonCode::PkidInUse => 0x91,
        SubscribeReasonCode::QuotaExceeded => 0x97,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => NO_SHARED_SUBSCRIPTIONS,
        SubscribeReasonCode::SubscriptionIdNotSupported => 0xA1,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => NO_WILDCARDS,
    })
}

fn connect_code(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0x00,
        ConnectReturnCode::UnspecifiedError => 0x80,
        ConnectReturnCode::MalformedPacket => 0x81,
        ConnectReturnCode::ProtocolError => 0x82,
        ConnectReturnCode::ImplementationSpecificError => 0x83,
        ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => 0x84,
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => 0x85,
        ConnectReturnCode::BadUserNamePassword => 0x86,
        ConnectReturnCode::NotAuthorized => 0x87,
        ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServiceUnavailable => 0x88,
        ConnectReturnCode::ServerBusy => 0x89,
        ConnectReturnCode::Banned => 0x8A,
        ConnectReturnCode::BadAuthenticationMethod => 0x8C,
        ConnectReturnCode::TopicNameInvalid => 0x90,
        ConnectReturnCode::PacketTooLarge => 0x95,
        ConnectReturnCode::QuotaExceeded => 0x97,
        ConnectReturnCode::PayloadFormatInvalid => 0x99,
        ConnectReturnCode::RetainNotSupported => 0x9A,
        ConnectReturnCode::QoSNotSupported => 0x9B,
        ConnectReturnCode::UseAnotherServer => 0x9C,
        ConnectReturnCode::ServerMoved => 0x9D,
        ConnectReturnCode::ConnectionRateExceeded => 0x9F,
    }
}

/// The specification's names of the reason codes that end or refuse something.
fn code_name(code: u8) -> &'static str {
    match code {
        0x00 => "normal disconnection",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version: it must speak MQTT v5",
        0x85 => "client identifier not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8A => "banned",
        0x8B => "server shutting down",
        0x8C => "bad authentication method",
        0x8D => "keep alive timeout",
        0x8E => "session taken over",
        0x8F => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9A => "retain not supported",
        0x9B => "QoS not supported",
        0x9C => "use another server",
        0x9D => "server moved",
        0x9E => "shared subscriptions not supported",
        0x9F => "connection rate exceeded",
        0xA0 => "maximum connect time",
        0xA1 => "subscription identifiers not supported",
        0xA2 => "wildcard subscriptions not supported",
        _ => "a reason unknown to this client",
    }
}
