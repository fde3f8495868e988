//! `utilizer-exporter-alertmanager`: alerts from the broker into Alertmanagers.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use daemon::config::{ConfigError, load};
use daemon::signals::{Signal, Signals};
use daemon::{log, shutdown};
use utilizer_exporter_alertmanager::{Configuration, Settings, run};

/// Failure of what was asked for.
const FAILURE: u8 = 1;
/// Wrong usage or configuration.
const USAGE: u8 = 2;

/// Feeds Alertmanagers with the fleet's alerts, and with those of hosts that are gone
#[derive(Debug, Parser)]
#[command(name = "utilizer-exporter-alertmanager", version, disable_help_subcommand = true)]
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
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let file = arguments.config.or_else(|| {
        let default = PathBuf::from("/etc/utilizer/exporter-alertmanager.toml");
        default.exists().then_some(default)
    });
    let (level, settings) = match build(file.as_deref()) {
        Ok(built) => built,
        Err(error) => {
            // The log is not set up yet: its level stands in the file.
            let _ = writeln!(io::stderr(), "{error}");
            return ExitCode::from(USAGE);
        }
    };
    log::init(level);
    if matches!(arguments.command, Some(Command::Check)) {
        let from = file.map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
        let _ = writeln!(io::stdout(), "{from}: the configuration is good");
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("can't start the runtime: {error}");
            return ExitCode::from(FAILURE);
        }
    };
    let result = runtime.block_on(serve(file.as_deref(), settings));
    // A file that hangs must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILURE)
        }
    }
}

fn build(file: Option<&Path>) -> Result<(log::Level, Settings), ConfigError> {
    let loaded = load::<Configuration>(file, "UTILIZER_EXPORTER_ALERTMANAGER", std::env::vars())?;
    match loaded.value.settings(&loaded) {
        Ok(settings) => Ok((loaded.value.log.level, settings)),
        Err(faults) => Err(loaded.error(faults)),
    }
}

/// Runs until TERM. HUP reads the configuration anew: a good one is run in place of the old, a bad one is reported and
/// changes nothing.
async fn serve(file: Option<&Path>, mut settings: Settings) -> Result<(), String> {
    let mut signals = Signals::install().map_err(|error| format!("can't take signals: {error}"))?;
    loop {
        let (trigger, stop) = shutdown::channel();
        let mut running = pin!(run(settings, stop));
        let next = loop {
            tokio::select! {
                result = &mut running => return result.map_err(|error| error.to_string()),
                signal = signals.next() => match signal {
                    Signal::Stop => {
                        trigger.stop();
                        return running.await.map_err(|error| error.to_string());
                    }
                    Signal::Reload => match build(file) {
                        Ok((level, settings)) => {
                            log::set(level);
                            break settings;
                        }
                        Err(error) => tracing::error!("the configuration was not reloaded; the old one stays: {error}"),
                    },
                },
            }
        };
        trigger.stop();
        running.await.map_err(|error| error.to_string())?;
        tracing::info!("reloaded the configuration");
        settings = next;
    }
}
