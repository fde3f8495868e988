//! Who is told of an alert, when, and in which form.
//!
//! Time, chance, secrets and the state of before come in as parameters: no clock, no I/O, no async. An
//! [`Integration`](receivers::Integration) makes of a [`Notification`] what its service wants to be called with.

pub mod dispatch;
pub mod feed;
pub mod inhibit;
pub mod matcher;
pub mod notification;
pub mod plan;
pub mod queue;
pub mod receivers;
pub mod silence;
pub mod text;
pub mod times;

pub use notification::{Notification, Reason};
pub use plan::Plan;
