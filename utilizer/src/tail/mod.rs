//! `utilizer tail`: follows what hosts publish, as it is published.

mod entry;
mod json;
mod seen;
mod select;
mod text;

use std::future::ready;
use std::io::{BufWriter, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use clap::{Args as ClapArgs, ValueEnum};
use daemon::signals::{Signal, Signals};
use mqtt::{Event, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::interval;
use wire::Timestamp;
use wire::messages::Level;

pub use entry::{Entry, Reader};
pub use select::{Selection, What};
pub use text::Text;

use crate::command::{BrokerArgs, CommandError, connect, is_final, leave};
use crate::terminal::{Paint, plain};

/// The line of an entry as JSON.
pub use json::line as json_line;

/// What `utilizer tail` is asked for.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Hosts by name, or by patterns with * and ?; all hosts if none is given.
    #[arg(value_name = "HOST|PATTERN")]
    hosts: Vec<String>,
    /// Which messages, by commas: metrics, logs, alerts, pipeline, jobs, status [default: all; hosts that come and go are
    /// always shown, `status` shows each of their statuses].
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kind: Vec<What>,
    /// Log lines of this level and above, such as warn.
    #[arg(long, value_parser = level)]
    level: Option<Level>,
    /// Log lines of these services, by names or patterns.
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    service: Vec<String>,
    /// What holds this text; of a log line any of its fields.
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// How to write: text for people, json for programs (one object a line), auto chooses by whether stdout is a terminal.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// NDJSON.
    Json,
}

/// More than the defaults, so that a burst does not wait for a terminal.
const ROOM: u16 = 4096;

/// How often it is looked whether somebody still reads.
const LOOK: Duration = Duration::from_secs(1);

fn level(word: &str) -> Result<Level, String> {
    Level::from_word(word).ok_or_else(|| "choose from debug, info, warn, error, fatal".to_owned())
}

/// Follows until a signal, or until nobody reads the output.
pub async fn run(args: Args) -> Result<(), CommandError> {
    let Args { hosts, kind, level, service, grep, format, broker } = args;
    let selection = Selection::new(hosts, &kind, level, service, grep)?;
    let mut signals = Signals::install().map_err(|e| CommandError::Failed(format!("can't take signals: {e}")))?;
    let stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let paint = Paint::new(terminal, |name| std::env::var(name).ok());
    let text = match format {
        Format::Auto => terminal,
        Format::Text => true,
        Format::Json => false,
    };
    let mut output = Output {
        to: BufWriter::new(stdout),
        text: text.then(|| Text::new(paint, selection.only_logs())),
        reader: Reader::new(Timestamp::from(SystemTime::now()), selection.every_status()),
        selection,
    };
    let mut options = broker.options("tail")?;
    options.receive_at_most_once = true;
    options.receive_maximum = ROOM;
    let (client, mut events) = tokio::select! {
        connected = connect(options) => connected?,
        () = stopped(&mut signals) => return Ok(()),
    };
    if client.subscribe(output.selection.filters()).await.is_err() {
        return Err(CommandError::Failed("BUG: the MQTT client stopped by itself".to_owned()));
    }
    let mut unwritten = false;
    let mut look = interval(LOOK);
    let result = loop {
        tokio::select! {
            biased;
            signal = signals.next() => if signal == Signal::Stop { break Ok(()) },
            event = events.recv() => match event {
                Some(Event::Received { message, ack }) => {
                    client.ack(ack);
                    if let Err(error) = output.show(&message) {
                        break Err(error);
                    }
                    unwritten = true;
                }
                Some(event) => if let Err(error) = tell(&event) { break Err(error) },
                None => break Err(CommandError::Failed("BUG: the MQTT client ended by itself".to_owned())),
            },
            // Nothing waits at this moment: what is there is shown.
            () = ready(()), if unwritten => {
                if let Err(error) = output.to.flush() {
                    break Err(CommandError::output(&error));
                }
                unwritten = false;
            }
            _ = look.tick() => if nobody_reads() { break Err(CommandError::Closed) },
        }
    };
    leave(&client, &mut events).await;
    result?;
    output.to.flush().map_err(|error| CommandError::output(&error))
}

/// Whether the pipe behind stdout has lost its reader, which a write would tell only when there is something to write.
fn nobody_reads() -> bool {
    let stdout = std::io::stdout();
    let mut look = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut look, Some(&now)).is_ok() && look.iter().any(|look| look.revents().contains(PollFlags::ERR))
}

async fn stopped(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

/// What happens to the connection stands on stderr, beside the output.
fn tell(event: &Event) -> Result<(), CommandError> {
    let mut stderr = std::io::stderr();
    match event {
        Event::Connected { .. } => drop(writeln!(stderr, "utilizer: connected again")),
        Event::Disconnected { reason, retry_in: Some(pause) } if !is_final(reason.cause) => {
            let (reason, pause) = (plain(&reason.sentence), pause.as_secs_f64());
            drop(writeln!(stderr, "utilizer: {reason}; trying again in {pause:.1} s"));
        }
        Event::Disconnected { reason, .. } => return Err(CommandError::Failed(reason.sentence.clone())),
        Event::SubscriptionRefused { filter, reason, .. } => {
            return Err(CommandError::Failed(format!(
                "{reason}, for {filter}; the broker's access rules must let this user read it"
            )));
        }
        _ => {}
    }
    Ok(())
}

struct Output<W: Write> {
    to: W,
    /// `None`: JSON.
    text: Option<Text>,
    reader: Reader,
    selection: Selection,
}

impl<W: Write> Output<W> {
    fn show(&mut self, message: &Message) -> Result<(), CommandError> {
        for entry in self.reader.read(message) {
            if !self.selection.takes(&entry) {
                continue;
            }
            let line = match &mut self.text {
                Some(text) => text.line(&entry),
                None => json::line(&entry),
            };
            if self.selection.takes_text(&entry, &line) {
                writeln!(self.to, "{line}").map_err(|error| CommandError::output(&error))?;
            }
        }
        Ok(())
    }
}
