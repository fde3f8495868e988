//! `utilizer`: the operator's command.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use daemon::config::duration;
use daemon::log::Level;
use utilizer::broker_acl::{self, BrokerCommand};
use utilizer::check::{self, CheckCommand};
use utilizer::command::CommandError;
use utilizer::group::{self, GroupCommand};
use utilizer::logs::{self, LogsCommand};
use utilizer::notify::silence::{self, SilenceCommand};
use utilizer::notify::test::{self, NotifyCommand};
use utilizer::notify::{ack, alerts};
use utilizer::spool::{self, SpoolCommand};
use utilizer::up::{self, UpOptions};
use utilizer::{query, sim, status, tail};

/// A wrong use. Failures while running exit with 1.
const USAGE: u8 = 2;

/// How long a blocking call may still take when everything else has stopped.
const CLOSING: Duration = Duration::from_secs(2);

/// Watch hosts: sample, publish, store and look.
#[derive(Parser)]
#[command(name = "utilizer", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sample this host into a SQLite file, with a broker of its own; no server is needed.
    ///
    /// Runs agent, MQTT broker and SQLite exporter in one process, on loopback only. LOG_LEVEL decides what it logs.
    Up {
        /// Where database and broker keep their files [default: ~/.local/share/utilizer].
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Address of /metrics, the page and the push paths.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100")]
        listen: String,
        /// Address of the MQTT broker; a loopback address.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
        mqtt_listen: SocketAddr,
        /// Time between two readings, such as 10s.
        #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
        interval: Duration,
        /// Stop by itself after this time, such as 30s, with a summary.
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
        run_for: Option<Duration>,
    },
    /// Follow what hosts publish, as it is published.
    ///
    /// On a terminal a line is `time host LEVEL service message`, times in UTC; in a pipe it is a JSON object with the
    /// fields of the message and its `kind`. Records that a host sends again are shown once; those that did not come are
    /// told as gaps. A host that is offline is shown as such.
    #[command(after_long_help = "Examples:\n  \
        utilizer tail                                  everything of every host\n  \
        utilizer tail web-01 --level warn              one host's warnings and errors\n  \
        utilizer tail 'web-*' --kind logs --grep refused\n  \
        utilizer tail --service checkout | jq -r .message\n  \
        utilizer tail --kind status,alerts --mqtt mqtts://broker.example --ca-file ca.pem")]
    Tail(tail::Args),
    /// Look into stored log lines: find, count, write out, delete, verify.
    #[command(subcommand)]
    Logs(LogsCommand),
    /// Show the state of hosts and exporters, as the broker keeps it; or with --agent, of all that one agent knows of.
    ///
    /// For each host: whether its agent is connected, how old that statement is, the groups of exporters that it waits for,
    /// the lowest number of each kind that is not confirmed yet, and what it had to give up. For each exporter: its store
    /// and what it takes. What is wrong stands below.
    ///
    /// With --agent: services, databases, cache, broker, tier, monitoring, logs and files, and the newest alerts, by what that
    /// agent probes, scrapes and evaluates. The exit code is 1 if something is down or a critical alert fires.
    #[command(after_long_help = "Examples:\n  \
        utilizer status\n  \
        utilizer status 'web-*' --mqtt mqtts://broker.example --ca-file ca.pem\n  \
        utilizer status --check >/dev/null || echo something is wrong\n  \
        utilizer status --agent http://127.0.0.1:9100 || echo something is down\n  \
        utilizer status --json | jq -r '.hosts[] | select(.state == \"offline\") | .host'")]
    Status(status::Args),
    /// Evaluate a PromQL expression over what a running agent has.
    ///
    /// That is all that its rules look at, as far back as they look, and of everything else the last reading. On a terminal
    /// a series is a line, `labels value`; in a pipe it is a JSON object with `metric`, `time` and `value`. A Prometheus server
    /// answers as well.
    #[command(after_long_help = "Examples:\n  \
        utilizer query 'node_load1 > 2'\n  \
        utilizer query --unix /run/utilizer/agent.sock 'topk(3, utilizer_process_cpu_percent)'\n  \
        utilizer query --time 2026-01-31T12:00:00Z 'ALERTS{alertstate=\"firing\"}' | jq -r .metric.alertname")]
    Query(query::Args),
    /// Show the alerts that fire, on the host of a running agent or, with --mqtt, on all hosts.
    ///
    /// On a terminal: the alert's id, its name, severity, since when, its state, and who: the receivers that are told while it
    /// fires, whoever takes care of it, or the silence that hides it. In a pipe it is a JSON object a line, as the agent's
    /// /api/v2/alerts has it, or as hosts publish it. Of a whole fleet only the fleet's silences are known.
    #[command(after_long_help = "Examples:\n  \
        utilizer alerts\n  \
        utilizer alerts severity=critical --unix /run/utilizer/agent.sock\n  \
        utilizer alerts --mqtt mqtt://broker.example | jq -r '[.host, .labels.alertname] | @tsv'")]
    Alerts(alerts::Args),
    /// Say that somebody takes care of an alert, so that it is neither repeated nor escalated.
    ///
    /// All alerts of that name are meant, or the one with that id. Reports have the time until then.
    #[command(after_long_help = "Examples:\n  \
        utilizer ack DiskFull --comment 'making room'\n  \
        utilizer ack 5f1e2d3c4b5a6978 --false-alarm\n  \
        utilizer ack DiskFull --host web-01 --mqtt mqtt://broker.example")]
    Ack(ack::Args),
    /// Silence alerts for a while.
    #[command(subcommand)]
    Silence(SilenceCommand),
    /// Try who is told of alerts.
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Simulate hosts that publish numbered records, and look whether stores have each exactly once.
    ///
    /// Each host runs the delivery protocol of an agent: it sends again what is not confirmed, and waits until every group
    /// of exporters has stored everything. The broker's user must be allowed to be each of the hosts. Exit code 1: something
    /// is lost, double, or not stored in time.
    #[command(after_long_help = "Examples:\n  \
        utilizer sim --hosts 1000 --interval 10s --count 30 --connections 50\n  \
        utilizer sim --hosts 20 --interval 1s --count 60 --verify postgres://utilizer:secret@127.0.0.1/utilizer \\\n    \
            --verify http://127.0.0.1:8123/default\n  \
        utilizer sim --hosts 20 --interval 1s --count 600 --state sim.state    after a kill, call it again")]
    Sim(Box<sim::Args>),
    /// Check files before they are used.
    #[command(subcommand)]
    Check(CheckCommand),
    /// Look into what agents and exporters keep on disk.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Act on a group of exporters.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Set up the broker.
    #[command(subcommand)]
    Broker(BrokerCommand),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let variable = |name: &str| std::env::var(name).ok();
    // The output says what happens; the log is for what goes wrong.
    let level = variable("LOG_LEVEL").and_then(|word| Level::from_word(&word)).unwrap_or(Level::Warn);
    daemon::log::init(level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format_args!("can't start the runtime: {error}")),
    };
    let code = match command {
        Command::Up { data_dir, listen, mqtt_listen, interval, run_for } => {
            let data_dir = data_dir.unwrap_or_else(|| up::default_data_dir(variable));
            let options = UpOptions { data_dir, listen, mqtt_listen, interval, run_for };
            match runtime.block_on(up::run(options, &mut std::io::stdout())) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(if error.is_usage() { USAGE } else { 1 }, &error),
            }
        }
        Command::Sim(args) => ended(runtime.block_on(sim::run(*args))),
        Command::Status(args) => ended(runtime.block_on(status::run(args))),
        Command::Check(command) => ended(runtime.block_on(check::run(command))),
        Command::Logs(command) => ended(runtime.block_on(logs::run(command))),
        Command::Query(args) => ended(runtime.block_on(query::run(args)).map(|()| ExitCode::SUCCESS)),
        Command::Alerts(args) => ended(runtime.block_on(alerts::run(args)).map(|()| ExitCode::SUCCESS)),
        Command::Ack(args) => ended(runtime.block_on(ack::run(args)).map(|()| ExitCode::SUCCESS)),
        Command::Silence(command) => ended(runtime.block_on(silence::run(command)).map(|()| ExitCode::SUCCESS)),
        Command::Notify(command) => ended(runtime.block_on(test::run(command))),
        Command::Spool(command) => ended(spool::run(&command)),
        Command::Group(command) => ended(runtime.block_on(group::run(command)).map(|()| ExitCode::SUCCESS)),
        Command::Broker(command) => ended(broker_acl::run(&command).map(|()| ExitCode::SUCCESS)),
        Command::Tail(args) => ended(runtime.block_on(tail::run(args)).map(|()| ExitCode::SUCCESS)),
    };
    // A write that the stop cut off still ends on its thread, and closes the database there: without that, everything since
    // the last checkpoint stays beside the file, in its write-ahead log.
    runtime.shutdown_timeout(CLOSING);
    code
}

fn ended(result: Result<ExitCode, CommandError>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(CommandError::Closed) => ExitCode::SUCCESS,
        Err(error @ CommandError::Usage(_)) => fail(USAGE, &error),
        Err(error @ CommandError::Failed(_)) => fail(1, &error),
    }
}

fn fail(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "utilizer: {why}");
    ExitCode::from(code)
}
