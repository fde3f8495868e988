//! The library's errors as sentences for an operator.

use std::error::Error;
use std::io;
use std::time::Duration;

use rumqttc::tokio_rustls::rustls;
use rumqttc::{ConnectReturnCode, ConnectionError, PubAckReason, StateError, SubscribeReasonCode};

use crate::socket::{HandshakeFault, Tap};
use crate::{BrokerUrl, Cause, Disconnect};

/// The v5 reason code for "another client took over this session".
pub(crate) const SESSION_TAKEN_OVER: u8 = 0x8E;

/// Why the connection to `broker` ended or did not come about.
pub(crate) fn disconnect(broker: &BrokerUrl, client_id: &str, error: &ConnectionError, tap: &Tap) -> Disconnect {
    let from_code = |code: u8, said: Option<&str>| by_code(broker, client_id, code, said);
    match (error, tap.code()) {
        (ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }), _) => {
            from_code(*reason_code as u8, reason_string.as_deref())
        }
        (_, Some(code)) => from_code(code, None),
        (error, None) => by_error(broker, client_id, error),
    }
}

fn by_error(broker: &BrokerUrl, client_id: &str, error: &ConnectionError) -> Disconnect {
    let from_code = |code: ConnectReturnCode| by_code(broker, client_id, connect_code(code), None);
    match error {
        ConnectionError::ConnectionRefused(code) => from_code(*code),
        ConnectionError::MqttState(StateError::ConnFail { reason }) => from_code(*reason),
        ConnectionError::Timeout(_) => told(
            Cause::Timeout,
            format!("the broker at {broker} did not answer in time; is it overloaded, or another service?"),
        ),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            told(Cause::Timeout, format!("the broker at {broker} did not answer a ping within the keep-alive time"))
        }
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

fn tls(broker: &BrokerUrl, fault: &dyn Error) -> Disconnect {
    told(
        Cause::Tls,
        format!(
            "no TLS with the broker at {broker}: {fault}; check `ca_file`, `cert_file`, `key_file` and the host name"
        ),
    )
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

fn by_code(broker: &BrokerUrl, client_id: &str, code: u8, said: Option<&str>) -> Disconnect {
    let name = code_name(code);
    let said = said.map(|said| format!(", saying {said:?}")).unwrap_or_default();
    let (cause, sentence) = match code {
        0x86 | 0x87 | 0x8C => (
            Cause::Credentials,
            format!(
                "the broker at {broker} does not let client {client_id:?} in (0x{code:02X} {name}{said}); \
                 check `username`, `password_file` and the broker's access rules"
            ),
        ),
        SESSION_TAKEN_OVER => (
            Cause::TakenOver,
            format!(
                "another client with the id {client_id:?} connected to the broker at {broker} (0x{code:02X} {name}{said}); \
                 give each its own name"
            ),
        ),
        _ => (Cause::Refused, format!("the broker at {broker} ended the connection (0x{code:02X} {name}{said})")),
    };
    Disconnect { cause, code: Some(code), sentence }
}

/// The code of a PUBACK and whether it is an error.
pub(crate) fn puback(reason: PubAckReason) -> Result<(), (u8, String)> {
    let code = reason as u8;
    if code < 0x80 {
        Ok(())
    } else {
        Err((code, format!("the broker refused the message (0x{code:02X} {})", code_name(code))))
    }
}

/// The code of one filter in a SUBACK and whether it is an error.
pub(crate) fn suback(reason: SubscribeReasonCode) -> Result<(), (u8, String)> {
    let code = match reason {
        SubscribeReasonCode::Success(_) => return Ok(()),
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => 0x80,
        SubscribeReasonCode::ImplementationSpecific => 0x83,
        SubscribeReasonCode::NotAuthorized => 0x87,
        SubscribeReasonCode::TopicFilterInvalid => 0x8F,
        SubscribeReasonCode::PkidInUse => 0x91,
        SubscribeReasonCode::QuotaExceeded => 0x97,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => 0x9E,
        SubscribeReasonCode::SubscriptionIdNotSupported => 0xA1,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => 0xA2,
    };
    Err((code, format!("the broker refused the subscription (0x{code:02X} {})", code_name(code))))
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
