//! Who is told of an alert, when, and in which form.
//!
//! Time, chance, secrets and the state of before come in as parameters: no clock, no I/O, no async. An
//! [`Integration`](receivers::Integration) makes of a [`Notification`] what its service wants to be called with.

pub mod notification;
pub mod receivers;

pub use notification::{Notification, Reason};
