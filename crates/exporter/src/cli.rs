//! The command line that all exporters share: `[--config FILE]`, `check`, `migrate`, `dead-letters`, `ledger`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use daemon::config::{ConfigError, Fault, Loaded, load};
use daemon::shutdown;
use daemon::signals::{Signal, Signals};
use serde::de::DeserializeOwned;

use crate::config::Common;
use crate::dead;
use crate::import;
use crate::settings::Settings;
use crate::sink::{Ledger, Sink, SinkError};

/// One exporter's configuration, as written, and the way to its sink.
pub trait Exporter: DeserializeOwned {
    /// `utilizer-exporter-postgres`
    const PROGRAM: &'static str;

    /// The store's name: `postgres` makes `/etc/utilizer/exporter-postgres.toml` and `UTILIZER_EXPORTER_POSTGRES__…`,
    /// and the default group.
    const NAME: &'static str;

    /// The store.
    type Sink: Sink;

    /// The sections that all exporters have.
    fn common(&self) -> Common<'_>;

    /// The sink, connected to nothing yet, or every fault of its own section.
    fn sink(loaded: &Loaded<Self>) -> Result<Self::Sink, Vec<Fault>>;
}

/// Failure of what was asked for.
const FAILURE: u8 = 1;
/// Wrong usage or configuration.
const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Arguments {
    /// Configuration file; without it the one in /etc/utilizer, if it exists
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Read the configuration, name every fault, and stop
    Check,
    /// Bring the store's schema up to date, and stop
    Migrate,
    /// Look at what could not be read or stored, and put it back into the way; also beside a running exporter
    #[command(subcommand)]
    DeadLetters(Letters),
    /// Work on the ledger beside the spool
    #[command(subcommand)]
    Ledger(LedgerWork),
}

#[derive(Debug, Clone, Subcommand)]
enum LedgerWork {
    /// Take over the ledgers of other members, when the number of shards changes; while no exporter runs
    Import {
        /// Spools of members, or their folders named `ledger`
        #[arg(required = true, value_name = "FOLDER")]
        folders: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum Letters {
    /// Print a table of them, oldest first
    List {
        /// Also those that were replayed
        #[arg(long)]
        all: bool,
    },
    /// Print one of them with its payload
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Put messages back into the way; without ids all that were not yet
    Replay {
        /// Ids, or their beginnings
        ids: Vec<String>,
    },
}

/// A `main`: arguments, configuration, then run until a signal.
pub fn main<E: Exporter>() -> ExitCode {
    let command = Arguments::command().name(E::PROGRAM).about(format!("Writes utilizer's telemetry into {}", E::NAME));
    let arguments = match command.try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let file = arguments.config.or_else(|| {
        let default = PathBuf::from(format!("/etc/utilizer/exporter-{}.toml", E::NAME));
        default.exists().then_some(default)
    });
    let (loaded, settings, sink) = match build::<E>(file.as_deref()) {
        Ok(built) => built,
        Err(error) => {
            // The log is not set up yet: its level stands in the file.
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::from(USAGE);
        }
    };
    daemon::log::init(loaded.value.common().log.level);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("can't start the runtime: {error}");
            return ExitCode::from(FAILURE);
        }
    };
    let result = match arguments.command {
        Some(Command::Check) => {
            let from = file.map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
            let _ = writeln!(io::stdout(), "{from}: the configuration is good");
            Ok(())
        }
        Some(Command::Migrate) => runtime.block_on(migrate(sink)),
        Some(Command::DeadLetters(letters)) => dead_letters(&letters, &settings.dead_letters.path),
        Some(Command::Ledger(LedgerWork::Import { folders })) => import::<E>(&settings, &folders),
        None => runtime.block_on(serve::<E>(file.as_deref(), settings, sink)),
    };
    // A blocking write of a hung file system must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILURE)
        }
    }
}

type Built<E> = (Loaded<E>, Settings, <E as Exporter>::Sink);

fn build<E: Exporter>(file: Option<&Path>) -> Result<Built<E>, ConfigError> {
    let prefix = format!("UTILIZER_EXPORTER_{}", E::NAME.to_ascii_uppercase());
    let loaded: Loaded<E> = load(file, &prefix, std::env::vars())?;
    let settings = loaded.value.common().settings(E::NAME, &loaded);
    let sink = E::sink(&loaded);
    match (settings, sink) {
        (Ok(settings), Ok(sink)) => Ok((loaded, settings, sink)),
        (settings, sink) => {
            let faults: Vec<Fault> = [settings.err(), sink.err()].into_iter().flatten().flatten().collect();
            Err(loaded.error(faults))
        }
    }
}

fn dead_letters(letters: &Letters, path: &Path) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match letters {
        Letters::List { all } => dead::list(path, *all, &mut out),
        Letters::Show { id } => dead::show(path, id, &mut out),
        Letters::Replay { ids } => dead::put_back(path, ids, std::time::SystemTime::now().into(), &mut out),
    }
}

fn import<E: Exporter>(settings: &Settings, folders: &[PathBuf]) -> Result<(), String> {
    if <E::Sink as Sink>::LEDGER == Ledger::InStore {
        return Err(format!(
            "{} keeps its ledger in its store, where all members have it: nothing is to be imported",
            E::NAME
        ));
    }
    let imported = import::import(&settings.spool.directory, settings.spool.max_bytes, folders)?;
    let _ = writeln!(io::stdout(), "{imported}");
    Ok(())
}

async fn migrate(mut sink: impl Sink) -> Result<(), String> {
    sink.open().await.map_err(|error| sentence(&error))?;
    let _ = writeln!(io::stdout(), "the schema of {} is up to date", sink.name());
    Ok(())
}

fn sentence(error: &SinkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Runs until TERM. HUP reads the configuration anew: a good one is run in place of the old, a bad one is reported and
/// changes nothing.
async fn serve<E: Exporter>(file: Option<&Path>, settings: Settings, sink: E::Sink) -> Result<(), String> {
    let mut signals = Signals::install().map_err(|error| format!("can't take signals: {error}"))?;
    let (mut settings, mut sink) = (settings, sink);
    loop {
        let (trigger, shutdown) = shutdown::channel();
        let mut running = std::pin::pin!(crate::run(sink, settings, shutdown));
        let next = loop {
            tokio::select! {
                result = &mut running => return result.map_err(|error| error.to_string()),
                signal = signals.next() => match signal {
                    Signal::Stop => {
                        trigger.stop();
                        return running.await.map_err(|error| error.to_string());
                    }
                    Signal::Reload => match build::<E>(file) {
                        Ok((loaded, settings, sink)) => {
                            daemon::log::set(loaded.value.common().log.level);
                            break (settings, sink);
                        }
                        Err(error) => tracing::error!("the configuration was not reloaded; the old one stays: {error}"),
                    },
                },
            }
        };
        trigger.stop();
        running.await.map_err(|error| error.to_string())?;
        tracing::info!("reloaded the configuration");
        (settings, sink) = next;
    }
}
