//! What people do about alerts: look at them, silence them, take care of them, and try who would be told. Either with one
//! agent, over HTTP, or with the fleet, through its broker.

pub mod ack;
pub mod alerts;
pub mod silence;
pub mod test;

use std::io::{IsTerminal, Write};
use std::time::SystemTime;

use serde_json::Value as Json;
use wire::Timestamp;

use crate::command::CommandError;
use crate::terminal::{Paint, plain_json};

/// How an answer is shown.
#[derive(Debug, Clone, Copy)]
struct Output {
    json: bool,
    paint: Paint,
}

impl Output {
    /// JSON if it is asked for, and where no terminal reads.
    fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { json: json || !terminal, paint: Paint::new(terminal, |name| std::env::var(name).ok()) }
    }

    /// Rows as one object a line, or as text for people.
    fn show(self, rows: &[Json], text: impl FnOnce(Paint) -> String) -> Result<(), CommandError> {
        let text = match self.json {
            true => rows.iter().map(|row| plain_json(row.to_string()) + "\n").collect(),
            false => text(self.paint),
        };
        print(&text)
    }
}

fn print(text: &str) -> Result<(), CommandError> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Who does something: as said, or the user.
fn author(said: Option<String>) -> Result<String, CommandError> {
    let user = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let author = said.or_else(user).filter(|author| !author.trim().is_empty());
    author.ok_or_else(|| CommandError::Usage("say who you are with --author; $USER does not".to_owned()))
}
