//! The texts of notifications: as configured, or as they are without any configuration.

mod cut;
mod template;
mod words;

pub use cut::{ELLIPSIS, cut, cut_bytes, escaped, line};
pub(crate) use template::NEVER;
pub use template::{Text, View};
pub(crate) use words::more;
pub use words::{AlertText, alerts, body, number, reason, severity, title, urgency};
