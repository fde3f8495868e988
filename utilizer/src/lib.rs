//! What is behind the operator's command.

pub mod agent;
pub mod broker;
pub mod broker_acl;
pub mod check;
pub mod command;
pub mod fleet;
pub mod glob;
pub mod group;
pub mod health;
pub mod http;
pub mod logs;
pub mod notify;
pub mod query;
pub mod replay;
pub mod sim;
pub mod spool;
pub mod status;
pub mod tail;
pub mod terminal;
pub mod up;
