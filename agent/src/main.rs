//! `utilizer-agent`: arguments, configuration, build, run until a signal, exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::signals::{Signal, Signals};
use tracing::{error, info, warn};
use utilizer_agent::app::{App, Reload};
use utilizer_agent::config::{Config, DEFAULT_PATH, PathSwitches};
use utilizer_agent::sample::{self, Format};

/// A wrong use or configuration. Failures while running exit with 1.
const USAGE: u8 = 2;

/// Samples this host every interval, answers Prometheus on /metrics and pushes over MQTT.
///
/// SIGHUP reads the configuration anew, SIGTERM stops within 5 s.
#[derive(Parser)]
#[command(name = "utilizer-agent", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    switches: Switches,
}

#[derive(Subcommand)]
enum Command {
    /// Read the host once and write what was found to stdout.
    Sample {
        /// How to write it.
        #[arg(long, value_enum, default_value = "prometheus")]
        format: OutputFormat,
    },
    /// Check the configuration and say what would run.
    Check,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputFormat {
    Prometheus,
    Json,
}

#[derive(Args)]
struct Switches {
    /// The configuration file [default: /etc/utilizer/agent.toml, if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The host's procfs.
    #[arg(long = "path.procfs", global = true, value_name = "DIR")]
    procfs: Option<PathBuf>,
    /// The host's sysfs.
    #[arg(long = "path.sysfs", global = true, value_name = "DIR")]
    sysfs: Option<PathBuf>,
    /// The host's root directory.
    #[arg(long = "path.rootfs", global = true, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// udev's data.
    #[arg(long = "path.udev.data", global = true, value_name = "DIR")]
    udev_data: Option<PathBuf>,
    /// TLS, passwords and tokens, in the form of Prometheus' exporters.
    #[arg(long = "web.config.file", global = true, value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Where programs leave metrics in `*.prom` files; may be given more than once, with `*` and `?` in names.
    #[arg(long = "collector.textfile.directory", global = true, value_name = "DIR")]
    textfile: Vec<String>,
}

impl Switches {
    fn load(&self) -> Result<Config, daemon::config::ConfigError> {
        let paths = PathSwitches {
            procfs: self.procfs.clone(),
            sysfs: self.sysfs.clone(),
            rootfs: self.rootfs.clone(),
            udev_data: self.udev_data.clone(),
            web_config: self.web_config.clone(),
            textfile: self.textfile.clone(),
        };
        // A variable that is not UTF-8 can't be one of ours.
        let environment: Vec<_> =
            std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))).collect();
        Config::load(self.config.as_deref(), &paths, &environment)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match cli.switches.load() {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error),
    };
    match cli.command {
        None => run(cli.switches, config),
        Some(Command::Check) => print(check(&config).as_bytes()),
        Some(Command::Sample { format }) => {
            daemon::log::init(config.log_level);
            let format = match format {
                OutputFormat::Prometheus => Format::Prometheus,
                OutputFormat::Json => Format::Json,
            };
            print(&sample::run(&config, format))
        }
    }
}

fn run(switches: Switches, config: Config) -> ExitCode {
    daemon::log::init(config.log_level);
    info!("utilizer-agent {} on {}, every {:?}", utilizer_agent::VERSION, config.host, config.interval);
    if config.alert_webhook {
        warn!("ALERT_WEBHOOK_URL is set, but this version sends no notifications");
    }
    // One thread beside the sampler's: there is little to do, and each thread costs memory.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format_args!("can't start the runtime: {error}")),
    };
    runtime.block_on(async {
        // First of all: a SIGHUP before its handler stands ends a process.
        let signals = match Signals::install() {
            Ok(signals) => signals,
            Err(error) => return fail(1, &format_args!("can't take signals: {error}")),
        };
        let app = match App::build(config).await {
            Ok(app) => app,
            Err(error) => {
                let hint = "; `serve.listen` in the configuration, UTILIZER_AGENT__SERVE__LISTEN or PROMETHEUS_PORT choose another";
                let hint = if matches!(error, utilizer_agent::app::AppError::Bind(_)) { hint } else { "" };
                return fail(1, &format_args!("{error}{hint}"));
            }
        };
        let stop = stop_signal(signals, app.reload(), switches);
        let result = app.run(stop).await;
        match result {
            Ok(()) => {
                info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                error!("{error}");
                ExitCode::from(1)
            }
        }
    })
}

/// Returns when the process shall stop; reloads on the way.
async fn stop_signal(mut signals: Signals, reload: Reload, switches: Switches) {
    while signals.next().await == Signal::Reload {
        match switches.load() {
            Ok(config) => reload.apply(config),
            Err(error) => error!("the configuration is not reloaded, the old one stays: {error}"),
        }
    }
}

fn check(config: &Config) -> String {
    let running: Vec<_> = config.collectors.running().collect();
    let broker = match &config.mqtt {
        Some(options) => {
            let scheme = if options.broker.tls { "mqtts" } else { "mqtt" };
            format!("{scheme}://{}:{}", options.broker.host, options.broker.port)
        }
        None => "none (mqtt.enabled is false)".to_owned(),
    };
    let interval = daemon::config::duration::format(config.interval);
    format!(
        "the configuration is valid\nhost:       {}\ninterval:   {interval}\nlisten:     {}{}\nbroker:     {broker}\ncollectors: {}\n\
         default configuration file: {DEFAULT_PATH}\n",
        config.host,
        config.listen,
        config.web.as_ref().map_or_else(String::new, |web| format!(" ({})", web.summary())),
        running.join(", "),
    )
}

fn print(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(bytes) {
        Ok(()) => ExitCode::SUCCESS,
        // `sample | head` closes the pipe: whoever read has what they wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(1, &format_args!("can't write to stdout: {error}")),
    }
}

/// Says why on stderr: before logging is up, or where a person sits in front of it.
fn fail(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "utilizer-agent: {why}");
    ExitCode::from(code)
}
