//! What the tests over the real binary need: an agent, HTTP without a library, a service that is told of alerts, a client
//! that hears what a broker carries.

mod agent;
mod hooks;
mod http;
mod watch;

pub(crate) use agent::{Agent, Setup, run};
pub(crate) use hooks::{Hooks, Reply};
pub(crate) use http::{Answer, ask, exchange, get, post, request};
pub(crate) use watch::Watch;
