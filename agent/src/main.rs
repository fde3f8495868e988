//! `utilizer-agent`: arguments, configuration, build, run until a signal, exit code.

mod cli;

use std::io::Write;
use std::process::ExitCode;

use cli::{Command, Switches};
use daemon::signals::{Signal, Signals};
use tracing::{error, info};
use utilizer_agent::app::{App, Reload};
use utilizer_agent::config::{Config, DEFAULT_PATH};
use utilizer_agent::sample;

/// A wrong use or configuration. Failures while running exit with 1.
const USAGE: u8 = 2;

impl Switches {
    fn load(&self) -> Result<Config, daemon::config::ConfigError> {
        // A variable that is not UTF-8 can't be one of ours.
        let environment: Vec<_> =
            std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))).collect();
        Config::load(self.config.as_deref(), &self.paths, &environment)
    }
}

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    utilizer_agent::host::memory::one_heap();
    let (command, switches) = match cli::parse(std::env::args_os().skip(1)) {
        Ok((Command::Print(text), _)) => return print(text.as_bytes()),
        Ok(parsed) => parsed,
        Err(error) => return fail(USAGE, &error),
    };
    let config = match switches.load() {
        Ok(config) => config,
        Err(error) => return fail(USAGE, &error),
    };
    match command {
        Command::Check => print(check(&config).as_bytes()),
        Command::Sample(format) => {
            daemon::log::init(config.log_level);
            print(&sample::run(&config, format))
        }
        Command::Run | Command::Print(_) => run(switches, config),
    }
}

fn run(switches: Switches, config: Config) -> ExitCode {
    daemon::log::init(config.log_level);
    info!("utilizer-agent {} on {}, every {:?}", utilizer_agent::VERSION, config.host, config.interval);
    // One thread beside the sampler's: there is little to do, and each thread costs memory.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format_args!("can't start the runtime: {error}")),
    };
    let code = runtime.block_on(async {
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
                let code = if matches!(error, utilizer_agent::app::AppError::SpoolDirectory(_)) { USAGE } else { 1 };
                return fail(code, &format_args!("{error}{hint}"));
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
    });
    // What still blocks, a look at a name or at a file on a server that is gone, holds up no stop.
    runtime.shutdown_background();
    code
}

/// Returns when the process shall stop; reloads on the way.
async fn stop_signal(mut signals: Signals, reload: Reload, switches: Switches) {
    while signals.next().await == Signal::Reload {
        match switches.load() {
            Ok(config) => reload.apply(config),
            Err(error) => {
                error!("the configuration is not reloaded, the old one stays: {error}");
                reload.refused();
            }
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
         rules:      {} from {}\n\
         probes:     {}\n\
         scrapes:    {}\n\
         receivers:  {}\n\
         default configuration file: {DEFAULT_PATH}\n",
        config.host,
        config.listen,
        config.web.as_ref().map_or_else(String::new, |web| format!(" ({})", web.summary())),
        running.join(", "),
        config.fresh_rules.count(),
        if config.rules.files.is_empty() { "no files".to_owned() } else { config.rules.files.join(", ") },
        utilizer_agent::probes::summary(&config.probes),
        config.scrape.summary(),
        config.notify.summary(),
    ) + &logs(config)
}

/// What there is to say of the log inputs.
fn logs(config: &Config) -> String {
    let mut text = String::new();
    for plan in &utilizer_agent::logs::inputs(&config.logs) {
        text += &format!("logs:       {}\n", plan.name);
        text.extend(utilizer_agent::logs::hints(plan).iter().map(|hint| format!("            {hint}\n")));
    }
    text
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
