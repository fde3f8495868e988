//! `utilizer sim`: many hosts without machines, for trials of brokers, exporters and stores.
//!
//! Each host runs the state machine that an agent runs, so that repetitions, leases and confirmations are the real ones.
//! Only the spool is none: what a record holds follows from its number, and is made again when it is sent again.

mod content;
mod host;
mod line;
mod plan;
mod state;
mod totals;
mod verify;

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use clap::Args as ClapArgs;
use daemon::config::duration;
use daemon::signals::{Signal, Signals};
use delivery::sender::{Settings, Timing};
use mqtt::{Event, Message};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};
use wire::{GroupName, HostName, Kind, Timestamp, Topic};

use crate::command::{BrokerArgs, CommandError, connect, leave};
use crate::terminal::human_bytes;
use content::Content;
use host::Host;
use line::{Line, MOST_NAMED, Shared};
use plan::{KINDS, Plan, Run};
use state::{Left, StateFile};
use totals::{Totals, own_use};
use verify::{Expected, Store};

/// What `utilizer sim` is asked for.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Hosts.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hosts: u32,
    /// Time between two readings of a host.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    interval: Duration,
    /// Readings of each host; each makes a metrics message and a batch of logs, some an alert or a pipeline record.
    #[arg(long, value_name = "K", default_value_t = 60)]
    count: u32,
    /// Connections that the hosts share.
    #[arg(long, value_name = "C", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// What is made, by commas: metrics, logs, alerts, pipeline [default: all of them].
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<Simulated>,
    /// Log records in a batch, about 190 bytes each.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    log_lines: u32,
    /// Decides the values, so that two simulations can be alike.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// How the hosts' names begin: two simulations at a time need different ones.
    #[arg(long, value_name = "NAME", default_value = "sim")]
    prefix: String,
    /// How long to wait, after the last reading, until every group has stored everything.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    drain: Duration,
    /// Look afterwards whether a store has every record exactly once, or it was declared lost:
    /// postgres://USER:PASSWORD@HOST/DATABASE, http://HOST:8123/DATABASE (ClickHouse) or sqlite:FILE. May be given again.
    #[arg(long, value_name = "URL")]
    verify: Vec<Store>,
    /// The exporters' `[rows] every`, by which it is known which metrics messages make rows.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    rows_every: Duration,
    /// Keep in this file what was sent. After a kill, the same call goes on where it ended, and verifies all of it.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Records that a host keeps at most; beyond, the oldest of the least valuable kind are declared lost.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    spool: u64,
    /// Agents' `[spool] retry_after`.
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration::parse)]
    retry_after: Duration,
    /// Agents' `[spool] confirm_by`: groups that are waited for from the start.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    confirm_by: Vec<GroupName>,
    /// Time between two lines of progress.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    progress: Duration,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// A kind that can be simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Simulated(Kind);

impl FromStr for Simulated {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let kind = word.parse().ok().filter(|kind| KINDS.contains(kind));
        kind.map(Self).ok_or_else(|| "choose from metrics, logs, alerts, pipeline".to_owned())
    }
}

/// How far ahead readings are allowed, with a state file: so many are sent again at most after a kill.
const AHEAD: i64 = 3_000;

/// How often that is written down.
const AHEAD_EVERY: Duration = Duration::from_millis(1_000);

/// How long a store may lack records that no group has confirmed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks into it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Between two connections at the start.
const STAGGER: Duration = Duration::from_millis(2);

/// Commands that wait for a connection's task. What comes beyond is dropped, as any of a broker's messages may be.
const MOST_HEARD: usize = 1024;

/// Runs the simulation to its end; fails if something is not stored.
pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let mut signals = Signals::install().map_err(|e| CommandError::Failed(format!("can't take signals: {e}")))?;
    let plan = plan(&args)?;
    raise_file_limit();
    let (state, mut left) = match &args.state {
        Some(path) => StateFile::open(path, &plan).map(|(file, left)| (Some(file), left))?,
        None => (None, Left::default()),
    };
    // Before anything is promised: is there a broker, and does it let us in? One that goes on was let in before.
    if left.runs.is_empty() {
        let (client, mut events) = connect(args.broker.options("sim-probe")?).await?;
        leave(&client, &mut events).await;
    }

    let runs = begin_run(&mut left, state.as_ref())?;
    let settings = Settings {
        timing: Timing::scaled(args.retry_after),
        confirm_by: args.confirm_by.clone(),
        seed: args.seed ^ runs.last().map_or(0, |run| run.start as u64),
        ..Settings::default()
    };
    let hosts: Vec<Host> =
        (0..plan.hosts).map(|place| Host::new(&plan, &runs, place, &settings, args.spool, &mut left)).collect();
    let last_reading = hosts.iter().filter_map(|host| host.last_reading(&plan, runs.last()?)).max();
    let clock = (Instant::now(), Timestamp::from(SystemTime::now()).as_millis());
    let shared = Arc::new(Shared {
        content: Content::new(&plan),
        plan,
        runs,
        totals: Totals::default(),
        allowed: AtomicI64::new(if state.is_some() { i64::MIN } else { i64::MAX }),
        state,
        refusal: Mutex::new(None),
        clock,
    });
    let drain_until = clock.0
        + Duration::from_millis(u64::try_from(last_reading.unwrap_or(clock.1) - clock.1).unwrap_or(0))
        + args.drain;
    let began = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let mut lines = start_lines(&args, &shared, hosts, &stopped)?;

    let mut progress = interval(args.progress.max(Duration::from_millis(100)));
    progress.tick().await;
    let mut ahead = interval(AHEAD_EVERY);
    let mut sent_before = 0;
    let total = u64::from(shared.plan.hosts);
    let outcome = loop {
        tokio::select! {
            _ = ahead.tick() => {
                if let Some(state) = &shared.state {
                    let until = shared.now().0 as i64 + AHEAD;
                    state.until(until)?;
                    shared.allowed.store(until, Ordering::Release);
                }
                if Totals::get(&shared.totals.done) == total {
                    break Outcome::Drained;
                }
            }
            _ = progress.tick() => {
                let sent = Totals::get(&shared.totals.sent);
                let rate = (sent - sent_before) as f64 / args.progress.as_secs_f64();
                sent_before = sent;
                say(&progress_line(&shared, began.elapsed(), rate))?;
            }
            () = sleep_until(drain_until) => break Outcome::TimedOut,
            signal = signals.next() => if signal == Signal::Stop { break Outcome::Stopped },
            ended = lines.join_next() => match ended {
                Some(Ok(Ok(_))) => break Outcome::Stopped,
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(panic)) => return Err(CommandError::Failed(format!("BUG: a task ended: {panic}"))),
                None => break Outcome::Drained,
            },
        }
    };
    let took = began.elapsed();
    // Whoever is gone already is no fault.
    let _ = stop.send(true);
    let mut hosts = Vec::new();
    while let Some(ended) = lines.join_next().await {
        hosts.extend(ended.map_err(|panic| CommandError::Failed(format!("BUG: a task ended: {panic}")))??);
    }
    hosts.sort_by_key(|host| host.place);
    say(&summary(&shared, &hosts, took, &outcome))?;
    let mut faults = false;
    if !args.verify.is_empty() {
        let expected = Expected::new(&shared, &hosts, args.rows_every);
        // Without a group that confirms, a store may lag behind the broker.
        let patience = if hosts.iter().any(Host::waits_for_groups) { Duration::ZERO } else { PATIENCE };
        let limit = Instant::now() + patience;
        for store in &args.verify {
            let mut verdict = store.look(&expected).await?;
            while verdict.only_lacks() && Instant::now() < limit {
                sleep(LOOK_AGAIN).await;
                verdict = store.look(&expected).await?;
            }
            faults |= verdict.has_faults();
            say(&verdict.to_string())?;
        }
    }
    let whole = matches!(outcome, Outcome::Drained) && !faults;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

enum Outcome {
    /// Everything is stored or declared lost.
    Drained,
    /// The time to wait for that was over.
    TimedOut,
    /// By a signal.
    Stopped,
}

fn plan(args: &Args) -> Result<Plan, CommandError> {
    let interval = u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX);
    if interval == 0 {
        return Err(CommandError::Usage("--interval must be at least 1ms".to_owned()));
    }
    format!("{}-{:05}", args.prefix, args.hosts)
        .parse::<HostName>()
        .map_err(|error| CommandError::Usage(format!("--prefix {:?}: {error}", args.prefix)))?;
    let mut kinds: Vec<Kind> = args.kinds.iter().map(|kind| kind.0).collect();
    kinds.sort();
    kinds.dedup();
    if kinds.is_empty() {
        kinds = KINDS.to_vec();
    }
    let (prefix, seed) = (args.prefix.clone(), args.seed);
    Ok(Plan { prefix, hosts: args.hosts, interval, count: args.count, kinds, log_lines: args.log_lines, seed })
}

/// Adds the present run to those that were.
fn begin_run(left: &mut Left, state: Option<&StateFile>) -> Result<Vec<Run>, CommandError> {
    let mut runs = std::mem::take(&mut left.runs);
    let now = Timestamp::from(SystemTime::now()).as_millis();
    // No reading has the time of one of an earlier run.
    let start = runs.iter().map(|run| run.until + 1).max().map_or(now, |after| after.max(now));
    let run = Run { id: format!("{start:012x}{:04x}", std::process::id() & 0xffff), start, until: start - 1 };
    if let Some(state) = state {
        state.run(&run)?;
    }
    runs.push(run);
    Ok(runs)
}

type Lines = JoinSet<Result<Vec<Host>, CommandError>>;

/// Spreads the hosts over the connections and starts them one after the other.
fn start_lines(
    args: &Args,
    shared: &Arc<Shared>,
    hosts: Vec<Host>,
    stop: &watch::Receiver<bool>,
) -> Result<Lines, CommandError> {
    let connections = args.connections.min(args.hosts) as usize;
    let named = hosts.len().div_ceil(connections) <= MOST_NAMED;
    let mut parts: Vec<Vec<Host>> = (0..connections).map(|_| Vec::new()).collect();
    for (place, host) in hosts.into_iter().enumerate() {
        if let Some(part) = parts.get_mut(place % connections) {
            part.push(host);
        }
    }
    let mut lines = JoinSet::new();
    let mut ears: HashMap<HostName, mpsc::Sender<Message>> = HashMap::new();
    for (place, part) in parts.into_iter().enumerate() {
        let (tell, heard) = mpsc::channel(MOST_HEARD);
        if !named {
            ears.extend(part.iter().map(|host| (host.name.clone(), tell.clone())));
        }
        let mut options = args.broker.options_as(&format!("{}-line-{place:05}", shared.plan.prefix))?;
        options.keep_alive = Duration::from_secs(60);
        let (shared, stop) = (shared.clone(), stop.clone());
        lines.spawn(async move {
            sleep(STAGGER * u32::try_from(place).unwrap_or(u32::MAX)).await;
            Line::start(shared, options, part, named).await?.run(stop, heard).await
        });
    }
    if !named {
        let options = args.broker.options_as(&format!("{}-ear", shared.plan.prefix))?;
        let mut stop = stop.clone();
        lines.spawn(async move {
            tokio::select! {
                result = listen(options, ears) => result.map(|()| Vec::new()),
                _ = stop.wait_for(|stop| *stop) => Ok(Vec::new()),
            }
        });
    }
    Ok(lines)
}

/// Hears the commands to all hosts where a connection has more of them than it may have filters.
async fn listen(
    mut options: mqtt::Options,
    ears: HashMap<HostName, mpsc::Sender<Message>>,
) -> Result<(), CommandError> {
    options.receive_maximum = 4096;
    let (client, mut events) = connect(options).await?;
    let stopped = |_| CommandError::Failed("BUG: the MQTT client stopped by itself".to_owned());
    client.subscribe([Topic::all_commands()]).await.map_err(stopped)?;
    loop {
        match events.recv().await {
            Some(Event::Received { message, ack }) => {
                client.ack(ack);
                if let Ok(Topic::Confirmed(host, ..) | Topic::Control(host)) = message.topic.parse()
                    && let Some(ear) = ears.get(&host)
                {
                    // A confirmation that is dropped comes again.
                    let _ = ear.try_send(message);
                }
            }
            Some(Event::SubscriptionRefused { filter, reason, .. }) => {
                return Err(CommandError::Failed(format!(
                    "{reason}, for {filter}: with more than {MOST_NAMED} hosts a connection, the simulation's user must be \
                     allowed to read all commands"
                )));
            }
            Some(_) => {}
            None => return Err(CommandError::Failed("BUG: the MQTT client ended by itself".to_owned())),
        }
    }
}

/// Thousands of connections need as many files.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // It then says so itself, connection by connection.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

fn progress_line(shared: &Shared, elapsed: Duration, rate: f64) -> String {
    let totals = &shared.totals;
    let seconds = elapsed.as_secs();
    let memory = own_use().0.map_or_else(String::new, |bytes| format!(", memory {}", human_bytes(bytes)));
    format!(
        "{:02}:{:02}:{:02} {totals}, {rate:.0}/s, {} connections, {} of {} hosts done{memory}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        Totals::get(&totals.connections),
        Totals::get(&totals.done),
        shared.plan.hosts,
    )
}

fn summary(shared: &Shared, hosts: &[Host], took: Duration, outcome: &Outcome) -> String {
    let totals = &shared.totals;
    let seconds = took.as_secs_f64();
    let (memory, cpu) = own_use();
    let left: u64 = hosts.iter().map(Host::unfreed).sum();
    let mut text = format!("\n{} hosts, {seconds:.1} s: {totals}\n", shared.plan.hosts);
    text += &format!(
        "{:.0} records/s and {}/s sent, {} acknowledged by the broker, {} confirmations, {:.1} s of CPU, memory {}\n",
        Totals::get(&totals.sent) as f64 / seconds,
        human_bytes(Totals::get(&totals.bytes) as f64 / seconds),
        Totals::get(&totals.acked),
        Totals::get(&totals.confirmations),
        cpu.as_secs_f64(),
        memory.map_or_else(|| "unknown".to_owned(), human_bytes),
    );
    if let Some(reason) = &*shared.refusal.lock().unwrap_or_else(PoisonError::into_inner) {
        text += &format!("the broker's first refusal: {reason}\n");
    }
    text += &match outcome {
        Outcome::Drained => "every record is stored by every group, or declared lost".to_owned(),
        Outcome::TimedOut => format!("{left} records were not stored by every group within the time for it"),
        Outcome::Stopped => format!("stopped; {left} records are not stored by every group"),
    };
    text
}

fn say(text: &str) -> Result<(), CommandError> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| CommandError::output(&error))
}
