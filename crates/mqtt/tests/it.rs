//! The client against a real mosquitto.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with its line")]

// Under the name that the workspace gives it.
extern crate utilizer_mqtt as mqtt;

mod it {
    mod garbage;
    mod outside;
    mod publish;
    mod reasons;
    mod reconnect;
    mod renewal;
    mod rivals;
    mod script;
    mod silence;
    mod stop;
    mod subscribe;
    mod support;
    mod tls;
}
