//! What is behind the operator's command.

pub mod broker;
pub mod up;
