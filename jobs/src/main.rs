//! `utilizer-jobs`: arguments, configuration, build, run until a signal, exit code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use daemon::config::ConfigError;
use daemon::signals::{Signal, Signals};
use tracing::{error, info};
use utilizer_jobs::config::{DEFAULT_PATH, Settings};
use utilizer_jobs::{Reload, Service, VERSION};

/// Failure of what was asked for.
const FAILURE: u8 = 1;
/// Wrong usage or configuration.
const USAGE: u8 = 2;

/// Runs the commands that its configuration names, for programs that ask over its Unix socket.
///
/// SIGHUP reads the configuration anew, SIGTERM stops within 5 s.
#[derive(Debug, Parser)]
#[command(name = "utilizer-jobs", version, disable_help_subcommand = true)]
struct Arguments {
    /// The configuration file; without it /etc/utilizer/jobs.toml, if it exists
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
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
    // Decided once: a file that is removed meanwhile is a fault at the next reload, and not a wish for the defaults.
    let file = arguments.config.or_else(|| Some(PathBuf::from(DEFAULT_PATH)).filter(|file| file.exists()));
    let settings = match load(file.as_deref()) {
        Ok(settings) => settings,
        Err(error) => return fail(USAGE, &error),
    };
    match arguments.command {
        Some(Command::Check) => check(&settings),
        None => run(file.as_deref(), settings),
    }
}

fn load(file: Option<&Path>) -> Result<Settings, ConfigError> {
    // A variable that is not UTF-8 can't be one of ours.
    let environment = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    Settings::load(file, environment)
}

fn check(settings: &Settings) -> ExitCode {
    let mut text = "the configuration is valid\n".to_owned() + &settings.summary();
    for warning in &settings.warnings {
        text += &format!("warning: {warning}\n");
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(FAILURE, &format_args!("can't write to stdout: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run(file: Option<&Path>, settings: Settings) -> ExitCode {
    daemon::log::init(settings.log_level);
    info!("utilizer-jobs {VERSION}");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(64).build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILURE, &format_args!("can't start the runtime: {error}")),
    };
    let code = runtime.block_on(async {
        // First of all: a SIGHUP before its handler stands ends a process.
        let signals = match Signals::install() {
            Ok(signals) => signals,
            Err(error) => return fail(FAILURE, &format_args!("can't take signals: {error}")),
        };
        let service = match Service::build(settings).await {
            Ok(service) => service,
            Err(error) => return fail(FAILURE, &error),
        };
        let stop = stop_signal(signals, service.reload(), file);
        service.run(stop).await;
        info!("stopped");
        ExitCode::SUCCESS
    });
    // A disk that hangs holds up no stop.
    runtime.shutdown_background();
    code
}

/// Returns when the process shall stop; reloads on the way.
async fn stop_signal(mut signals: Signals, reload: Reload, file: Option<&Path>) {
    while signals.next().await == Signal::Reload {
        match load(file) {
            Ok(settings) => {
                daemon::log::set(settings.log_level);
                reload.apply(settings);
            }
            Err(error) => {
                error!("the configuration is not reloaded, the old one stays: {error}");
                reload.refused();
            }
        }
    }
}

/// Says why on stderr.
fn fail(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "utilizer-jobs: {why}");
    ExitCode::from(code)
}
