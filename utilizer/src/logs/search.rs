//! `utilizer logs search` and `utilizer logs export`.

use std::io::{BufWriter, IsTerminal, Write};

use clap::{Args, ValueEnum};

use super::filter::{FilterArgs, Order};
use super::row::{CSV_HEAD, Row};
use super::store::StoreArgs;
use crate::command::CommandError;
use crate::tail::Text;
use crate::terminal::{Paint, plain, plain_json};

/// What `utilizer logs search` is asked for.
#[derive(Debug, Args)]
pub struct SearchArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many lines at most.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// The oldest lines, in the order of time.
    #[arg(long)]
    oldest_first: bool,
    /// How to write: text for people, ndjson and csv for programs, auto chooses by whether stdout is a terminal.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    #[command(flatten)]
    store: StoreArgs,
}

/// What `utilizer logs export` is asked for.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How to write.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    #[command(flatten)]
    store: StoreArgs,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text on a terminal, NDJSON elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated values, with a head.
    Csv,
}

/// Finds lines.
pub(super) async fn search(args: SearchArgs) -> Result<(), CommandError> {
    let filter = args.filter.filter()?;
    let order = if args.oldest_first { Order::Oldest } else { Order::Newest };
    let store = args.store.open()?;
    let mut output = Output::new(args.format);
    output.begin()?;
    store.rows(&filter, order, Some(args.limit), &mut |row| output.row(&row)).await?;
    let count = output.end()?;
    if output.is_text() && count == 0 {
        // Not among the lines.
        let _ = writeln!(std::io::stderr(), "no line {}", filter.time());
    } else if output.is_text() && count == args.limit {
        let which = if args.oldest_first { "oldest" } else { "newest" };
        let _ = writeln!(std::io::stderr(), "these are the {which} {count}; --limit shows more");
    }
    Ok(())
}

/// Writes all lines.
pub(super) async fn export(args: ExportArgs) -> Result<(), CommandError> {
    let filter = args.filter.filter()?;
    let store = args.store.open()?;
    let mut output = Output::new(args.format);
    output.begin()?;
    store.rows(&filter, Order::Oldest, None, &mut |row| output.row(&row)).await?;
    let count = output.end()?;
    if !std::io::stdout().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{count} lines {}", filter.time());
    }
    Ok(())
}

struct Output {
    to: BufWriter<std::io::Stdout>,
    terminal: bool,
    form: Form,
    count: u64,
}

enum Form {
    Text(Text),
    Ndjson,
    Csv,
}

impl Output {
    fn new(format: Format) -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let paint = Paint::new(terminal, |name| std::env::var(name).ok());
        let form = match format {
            Format::Text => Form::Text(Text::new(paint, true)),
            Format::Auto if terminal => Form::Text(Text::new(paint, true)),
            Format::Auto | Format::Ndjson => Form::Ndjson,
            Format::Csv => Form::Csv,
        };
        Self { to: BufWriter::with_capacity(64 << 10, stdout), terminal, form, count: 0 }
    }

    fn is_text(&self) -> bool {
        matches!(self.form, Form::Text(_))
    }

    fn begin(&mut self) -> Result<(), CommandError> {
        match self.form {
            Form::Csv => self.line(CSV_HEAD),
            _ => Ok(()),
        }
    }

    fn row(&mut self, row: &Row) -> Result<(), CommandError> {
        self.count += 1;
        let line = match &mut self.form {
            Form::Text(text) => text.row(row.timestamp, &row.host, row.level(), &row.service_name, &row.message),
            Form::Ndjson => plain_json(row.as_json()),
            // On a terminal nothing foreign may steer it.
            Form::Csv if self.terminal => plain(&row.as_csv()).into_owned(),
            Form::Csv => row.as_csv(),
        };
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> Result<(), CommandError> {
        writeln!(self.to, "{line}").map_err(|error| CommandError::output(&error))
    }

    /// How many there were.
    fn end(&mut self) -> Result<u64, CommandError> {
        self.to.flush().map_err(|error| CommandError::output(&error))?;
        Ok(self.count)
    }
}
