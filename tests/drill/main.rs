//! A fault drill over the real programs and servers: agents send numbered records while everything that can be killed,
//! stopped, cut, filled or slowed is, at random moments; then everything is healed, and each record is looked up.
//!
//! `utilizer-drill --seconds 600 --seed 7`. The seed decides what is done when; the log of it lies in the drill's folder,
//! which stays if anything was lost, doubled, or could not be looked up. Exit code 0: each record that an agent took is in its
//! store exactly once, or declared lost.
//!
//! With rights to make namespaces (root), the agents have a network of their own that can be cut, and some programs small
//! disks that can be filled; without, these faults are left out. Everything ends with this process, however that ends.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its report is what it is run for")]

mod ground;
mod load;
mod plan;
mod process;
mod report;
mod stores;
mod system;
mod verify;
mod world;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::load::Load;
use crate::plan::{Possible, Random, Step};
use crate::report::Report;
use crate::world::{Settings, World};

/// What can go wrong with the drill itself: a sentence.
pub(crate) type Outcome<T> = Result<T, String>;

/// Marks the second start, in namespaces.
const INSIDE: &str = "--inside";

#[derive(Debug, Clone)]
struct Arguments {
    seconds: u64,
    seed: u64,
    agents: usize,
    /// Simulated hosts.
    simulated: u64,
    /// Time between two faults, on average.
    every: Duration,
    folder: Option<PathBuf>,
    keep: bool,
    debug: bool,
    inside: bool,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| drill(&arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("utilizer-drill: {error}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Outcome<Arguments> {
    let mut arguments = Arguments {
        seconds: 60,
        seed: 1,
        agents: 3,
        simulated: 10,
        every: Duration::from_millis(2500),
        folder: None,
        keep: false,
        debug: false,
        inside: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{name}: {text:?} is no number"));
        match name.as_str() {
            "--seconds" => arguments.seconds = number(value()?)?.max(1),
            "--seed" => arguments.seed = number(value()?)?,
            "--agents" => arguments.agents = usize::try_from(number(value()?)?.clamp(0, 50)).unwrap_or(1),
            "--simulated" => arguments.simulated = number(value()?)?.min(10_000),
            "--every-ms" => arguments.every = Duration::from_millis(number(value()?)?.max(10)),
            "--folder" => arguments.folder = Some(PathBuf::from(value()?)),
            "--keep" => arguments.keep = true,
            "--debug" => arguments.debug = true,
            INSIDE => arguments.inside = true,
            _ => {
                return Err(format!(
                    "{name} is unknown; there are --seconds N, --seed N, --agents N, --simulated N, --every-ms N, --folder DIR (a new \
                     one), --keep, --debug"
                ));
            }
        }
    }
    Ok(arguments)
}

fn drill(arguments: &Arguments) -> Outcome<ExitCode> {
    if !arguments.inside {
        if system::can_unshare() {
            return again_inside();
        }
        println!("left out: cutting the network and filling disks, which need the right to make namespaces (root)");
    }
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => system::new_folder(arguments.seed)?,
    };
    println!("seed {}, {} s, folder {}", arguments.seed, arguments.seconds, folder.display());
    let mut random = Random::new(arguments.seed);
    let long = arguments.seconds >= 240;
    let settings = Settings {
        agents: arguments.agents,
        simulated: arguments.simulated,
        sim_seconds: (arguments.seconds * 4 / 5).max(1),
        namespaces: arguments.inside,
        persistence: random.chance(40),
        retry_after: Duration::from_secs(if long { 3 } else { 1 }),
        confirm_every: Duration::from_millis(if long { 1000 } else { 300 }),
        debug: arguments.debug,
    };
    let possible = Possible {
        agents: settings.agents,
        sim: settings.simulated > 0,
        namespaces: settings.namespaces,
        every: arguments.every,
        retry_after: settings.retry_after,
    };
    let span = Duration::from_secs(arguments.seconds);
    let steps = plan::plan(&mut random, span, possible);
    let mut world = World::start(&folder, settings, &mut random)?;
    let result = run(&mut world, &steps, span, arguments, &mut random);
    let clean = match &result {
        Ok(report) => {
            println!("{report}");
            let path = folder.join("report.txt");
            std::fs::write(&path, report.to_string()).map_err(|e| format!("can't write {}: {e}", path.display()))?;
            report.is_clean()
        }
        Err(_) => false,
    };
    if clean && !arguments.keep {
        world.finish()?;
        drop(world);
        std::fs::remove_dir_all(&folder).map_err(|e| format!("can't remove {}: {e}", folder.display()))?;
    } else {
        // The processes go on until their files were copied: what they show then is what they are.
        world.keep()?;
        println!("logs and files are kept in {}", folder.display());
    }
    result.map(|_| if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same once more, in a network and with mounts of its own: nothing has to be undone in the system's.
fn again_inside() -> Outcome<ExitCode> {
    let own = std::env::current_exe().map_err(|e| format!("can't tell where this program is: {e}"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--net", "--"]).arg(own);
    let status = command.args(std::env::args().skip(1)).arg(INSIDE).status();
    let status = status.map_err(|e| format!("can't start again in namespaces of its own: {e}"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2)))
}

fn run(
    world: &mut World,
    steps: &[Step],
    span: Duration,
    arguments: &Arguments,
    random: &mut Random,
) -> Outcome<Report> {
    let path = world.folder.join("faults.log");
    let mut log = File::create(&path).map_err(|e| format!("can't write {}: {e}", path.display()))?;
    let begun = Instant::now();
    let mut note = move |what: &str, step: &Step| {
        let line = format!(
            "{:9.3} {what} {} {} for {:.1} s\n",
            begun.elapsed().as_secs_f64(),
            step.fault.name(),
            step.target,
            step.lasts.as_secs_f64()
        );
        log.write_all(line.as_bytes()).map_err(|e| format!("can't write {}: {e}", path.display()))
    };
    let mut loads: Vec<Load> = (0..arguments.agents)
        .map(|number| Load::start(&world.hosts[number], &world.socket(number), Random::new(random.next())))
        .collect();

    let mut waiting = steps.iter().copied().collect::<std::collections::VecDeque<_>>();
    let mut active: Vec<(Instant, Step)> = Vec::new();
    let mut done = Vec::new();
    while begun.elapsed() < span {
        let now = Instant::now();
        let (over, still): (Vec<_>, Vec<_>) = active.into_iter().partition(|(until, _)| *until <= now);
        active = still;
        for (_, step) in over {
            note("end  ", &step)?;
            world.end(&step)?;
        }
        while waiting.front().is_some_and(|step| step.at <= begun.elapsed()) {
            let Some(step) = waiting.pop_front() else { break };
            if step.target == plan::Target::Everything {
                active.clear();
            }
            if world.begin(&step, random)? {
                note("begin", &step)?;
                done.push(step);
                active.push((Instant::now() + step.lasts, step));
            }
        }
        world.look()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    world.heal()?;
    loads.iter_mut().for_each(Load::finish);
    let healed = Instant::now();
    let patience = Duration::from_secs(60) + span.min(Duration::from_secs(240));
    let mut last = None;
    let drained = loop {
        world.look()?;
        let missing = verify::missing(world, &loads);
        if missing == Ok(0) && world.is_drained() {
            break Some(healed.elapsed());
        }
        if last.as_ref() != Some(&missing) {
            println!(
                "{:6.1} s after the last fault: {missing:?} records are not there yet",
                healed.elapsed().as_secs_f64()
            );
            last = Some(missing);
        }
        if healed.elapsed() > patience {
            break None;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    // What is on its way a second time arrives meanwhile.
    let settle = Instant::now() + world.settings.retry_after * 2;
    while Instant::now() < settle {
        world.look()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    keep_account(world, &loads, begun)?;
    Report::new(world, &loads, &done, arguments.seed, span, drained)
}

/// Writes down what was pushed when, for whoever looks for a lost record.
fn keep_account(world: &World, loads: &[Load], begun: Instant) -> Outcome<()> {
    let mut text = String::new();
    for load in loads {
        for pushed in load.account() {
            let at = pushed.at.duration_since(begun).as_secs_f64();
            text += &format!(
                "{at:9.3} {} {:?} {}-{} {:?}\n",
                load.host, pushed.kind, pushed.first, pushed.last, pushed.answer
            );
        }
    }
    let path = world.folder.join("pushes.log");
    std::fs::write(&path, text).map_err(|e| format!("can't write {}: {e}", path.display()))
}
