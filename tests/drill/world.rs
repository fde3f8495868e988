//! The world of a drill: broker, databases, exporters, agents; networks and small disks of their own where the system
//! allows that.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Outcome;
use crate::ground::{Ground, SERVERS, disk};
use crate::load;
use crate::plan::{DISKS, Fault, Random, Step, Target};
use crate::process::{Process, Spec};
use crate::system::{built, newest_postgres, output, port, run, write};

pub(crate) const PASSWORD: &str = "of-the-drill";
pub(crate) const DATABASE: &str = "drill";

/// What the drill is like; the random parts of it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) agents: usize,
    /// Hosts that `utilizer sim` plays, and for how many seconds.
    pub(crate) simulated: u64,
    pub(crate) sim_seconds: u64,
    pub(crate) namespaces: bool,
    pub(crate) persistence: bool,
    pub(crate) retry_after: Duration,
    pub(crate) confirm_every: Duration,
    pub(crate) debug: bool,
}

/// All processes, and what was done to them and is not yet undone.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) bin: PathBuf,
    pub(crate) postgres_port: u16,
    pub(crate) clickhouse: SocketAddr,
    pub(crate) hosts: Vec<String>,
    /// The servers first, then the exporters, then the agents.
    pub(crate) processes: Vec<(Target, Process)>,
    /// Disks and networks, where they can be made.
    ground: Option<Ground>,
    /// Holds a lock in PostgreSQL while its commits are slow.
    lock: Option<Process>,
}

impl World {
    /// Makes the folders and files, starts everything and waits until it works.
    pub(crate) fn start(folder: &Path, settings: Settings, random: &mut Random) -> Outcome<Self> {
        let bin =
            newest_postgres().ok_or("PostgreSQL is not installed; install it with: apt-get install postgresql")?;
        let mut world = Self {
            folder: folder.to_owned(),
            bin,
            postgres_port: port(random)?,
            clickhouse: SocketAddr::from(([127, 0, 0, 1], port(random)?)),
            hosts: (0..settings.agents).map(|number| format!("drill-{number}")).collect(),
            settings,
            processes: Vec::new(),
            ground: None,
            lock: None,
        };
        world.make("logs")?;
        if world.settings.namespaces {
            world.ground = Some(Ground::make(&world.folder)?);
        }
        let broker_port = port(random)?;
        world.add_broker(broker_port)?;
        world.add_listener(broker_port)?;
        world.add_postgres()?;
        world.add_clickhouse()?;
        world.wait("PostgreSQL answers", |world| world.psql("postgres", "SELECT 1").is_ok())?;
        world.psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        world.wait("ClickHouse answers", |world| world.clickhouse("SELECT 1").is_ok())?;
        for number in 0..2 {
            world.add_exporter(Target::Postgres(number), broker_port)?;
            world.add_exporter(Target::ClickHouse(number), broker_port)?;
        }
        world.wait("the tables are there", |world| {
            world.psql(DATABASE, "SELECT count(*) FROM recap_system_metrics").is_ok()
                && world.clickhouse("SELECT count() FROM logs").is_ok()
        })?;
        for number in 0..world.settings.agents {
            world.add_agent(number, broker_port)?;
        }
        if world.settings.simulated > 0 {
            world.add_sim(broker_port)?;
        }
        world.wait("the agents answer", |world| {
            (0..world.settings.agents).all(|number| load::ask(&world.socket(number), "GET", "/healthz", "").is_some())
        })?;
        Ok(world)
    }

    fn make(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).map_err(|e| format!("can't make {}: {e}", path.display()))?;
        Ok(path)
    }

    fn add(&mut self, target: Target, spec: Spec) -> Outcome<()> {
        let mut process = Process::new(spec, &self.folder.join("logs"));
        process.look()?;
        self.processes.push((target, process));
        Ok(())
    }

    fn add_broker(&mut self, port: u16) -> Outcome<()> {
        let folder = self.make("mosquitto")?;
        let passwords = folder.join("passwords");
        write(&passwords, &format!("drill:{PASSWORD}\n"))?;
        run("mosquitto_passwd", &["-U", &passwords.to_string_lossy()])?;
        write(&self.folder.join("password"), &format!("{PASSWORD}\n"))?;
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        let persistence = if self.settings.persistence {
            format!("persistence true\npersistence_location {}/\n", folder.display())
        } else {
            String::new()
        };
        let address = if self.settings.namespaces { "0.0.0.0" } else { "127.0.0.1" };
        let config = folder.join("mosquitto.conf");
        write(
            &config,
            &format!("{user}listener {port} {address}\npassword_file {}\n{persistence}", passwords.display()),
        )?;
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let program = program.ok_or("mosquitto is not installed; install it with: apt-get install mosquitto")?;
        self.add(
            Target::Broker,
            Spec {
                name: "mosquitto".to_owned(),
                command: vec![program.to_owned(), "-c".to_owned(), config.display().to_string()],
                folder,
                ..Spec::default()
            },
        )
    }

    /// Hears what hosts say of themselves; it comes back by itself when the broker does.
    fn add_listener(&mut self, broker_port: u16) -> Outcome<()> {
        let words = format!(
            "mosquitto_sub -V 5 -h 127.0.0.1 -p {broker_port} -u drill -P {PASSWORD} -i listener -q 1 -F %p \
             -t utilizer/v1/telemetry/+/status"
        );
        let command = words.split_whitespace().map(str::to_owned).collect();
        let spec = Spec { name: "statuses".to_owned(), command, folder: self.folder.clone(), ..Spec::default() };
        self.add(Target::Listener, spec)
    }

    fn add_postgres(&mut self) -> Outcome<()> {
        let folder = self.make("postgres")?;
        let password = folder.join("password");
        write(&password, PASSWORD)?;
        let mut initdb = Command::new("setpriv");
        // initdb and postgres refuse to run as root.
        let user = rustix::process::geteuid().is_root().then(|| "postgres".to_owned());
        if let Some(user) = &user {
            let id = |flag: &str| -> Outcome<u32> {
                let text = output(Command::new("id").args([flag, user.as_str()]))?;
                text.trim().parse().map_err(|_| format!("id said {text:?} of the user {user}"))
            };
            let (uid, gid) = (id("-u")?, id("-g")?);
            for path in [&folder, &password] {
                chown(path, Some(uid), Some(gid)).map_err(|e| format!("can't chown {}: {e}", path.display()))?;
            }
            initdb.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        let data = folder.join("data");
        initdb.arg("--").arg(self.bin.join("initdb")).arg("-D").arg(&data).arg("--pwfile").arg(&password);
        initdb.args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync"]);
        output(initdb.current_dir(&folder))?;
        let mut command =
            vec![self.bin.join("postgres").display().to_string(), "-D".to_owned(), data.display().to_string()];
        // Without fsync a kill loses nothing, a power cut would; nobody cuts the power here.
        for setting in [
            &format!("port={}", self.postgres_port),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "max_connections=40",
            "timezone=UTC",
        ] {
            command.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let spec = Spec { name: "postgres".to_owned(), command, folder, user, has_children: true, ..Spec::default() };
        self.add(Target::PostgresServer, spec)
    }

    fn add_clickhouse(&mut self) -> Outcome<()> {
        let folder = self.make("clickhouse")?;
        let data = self.make("clickhouse/data")?;
        let root = test_servers::workspace();
        let command = [
            test_servers::python().display().to_string(),
            root.join("tests/clickhouse/server.py").display().to_string(),
            "--data".to_owned(),
            data.display().to_string(),
            "--port".to_owned(),
            self.clickhouse.port().to_string(),
            "--slow".to_owned(),
            folder.join("slow").display().to_string(),
        ];
        let environment = vec![("TMPDIR".to_owned(), folder.display().to_string())];
        let spec =
            Spec { name: "clickhouse".to_owned(), command: command.to_vec(), environment, folder, ..Spec::default() };
        self.add(Target::ClickHouseServer, spec)
    }

    /// Where a program keeps its state: on a disk of its own, if it has one.
    fn state(&self, name: &str) -> Outcome<PathBuf> {
        if DISKS.contains(&name) && self.ground.is_some() { Ok(disk(&self.folder, name)) } else { self.make(name) }
    }

    fn mqtt(&self, port: u16, address: &str) -> String {
        format!(
            "[mqtt]\nurl = \"mqtt://{address}:{port}\"\nusername = \"drill\"\npassword_file = \"{}\"\n",
            self.folder.join("password").display()
        )
    }

    fn add_exporter(&mut self, target: Target, broker_port: u16) -> Outcome<()> {
        let name = target.to_string();
        let state = self.state(&name)?;
        let mut text = format!("state_dir = \"{}\"\n", state.display());
        text += &self.mqtt(broker_port, "127.0.0.1");
        let program = match target {
            Target::Postgres(number) => {
                text += &format!("member = \"postgres-{number}\"\n");
                let url = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{DATABASE}", self.postgres_port);
                text += &format!("[postgres]\nurl = \"{url}\"\n[rows]\nevery = \"0s\"\n");
                "utilizer-exporter-postgres"
            }
            Target::ClickHouse(number) => {
                text += &format!("member = \"clickhouse-{number}\"\nshard = \"{number}/2\"\n");
                text += &format!("[clickhouse]\nurl = \"http://{}\"\ndatabase = \"{DATABASE}\"\n", self.clickhouse);
                "utilizer-exporter-clickhouse"
            }
            _ => return Err(format!("BUG: {name} is no exporter")),
        };
        text += &format!("[confirm]\nevery = \"{}ms\"\n", self.settings.confirm_every.as_millis());
        text += "[serve]\nlisten = \"127.0.0.1:0\"\n";
        text += self.log_level();
        let config = self.folder.join(format!("{name}.toml"));
        write(&config, &text)?;
        let command = vec![built(program)?, "--config".to_owned(), config.display().to_string()];
        self.add(target, Spec { name, command, folder: self.folder.clone(), ..Spec::default() })
    }

    fn log_level(&self) -> &'static str {
        if self.settings.debug { "[log]\nlevel = \"debug\"\n" } else { "" }
    }

    /// The Unix socket of an agent.
    pub(crate) fn socket(&self, number: usize) -> PathBuf {
        self.folder.join(format!("agent-{number}.socket"))
    }

    fn agent_command(&self, number: usize, broker_port: u16, interval: &str) -> Outcome<Vec<String>> {
        let name = Target::Agent(number).to_string();
        let state = self.state(&name)?;
        let address = if self.settings.namespaces { SERVERS } else { "127.0.0.1" };
        let mut text = format!("host = \"{}\"\ninterval = \"{interval}\"\n", self.hosts[number]);
        text += &format!(
            "[spool]\ndirectory = \"{}\"\nretry_after = \"{}ms\"\nconfirm_by = [\"postgres\", \"clickhouse\"]\n",
            state.display(),
            self.settings.retry_after.as_millis()
        );
        text += &format!("[serve]\nlisten = \"127.0.0.1:0\"\nunix = \"{}\"\n", self.socket(number).display());
        text += &self.mqtt(broker_port, address);
        text += self.log_level();
        let config = self.folder.join(format!("{name}-{interval}.toml"));
        write(&config, &text)?;
        Ok(vec![built("utilizer-agent")?, "--config".to_owned(), config.display().to_string()])
    }

    fn add_agent(&mut self, number: usize, broker_port: u16) -> Outcome<()> {
        self.agent_command(number, broker_port, "1h")?;
        let command = self.agent_command(number, broker_port, "1s")?;
        let network_of = self.ground.as_ref().and_then(Ground::network);
        let name = Target::Agent(number).to_string();
        self.add(
            Target::Agent(number),
            Spec { name, command, folder: self.folder.clone(), network_of, ..Spec::default() },
        )
    }

    fn add_sim(&mut self, broker_port: u16) -> Outcome<()> {
        let Settings { simulated, sim_seconds, retry_after, .. } = self.settings;
        let address = if self.settings.namespaces { SERVERS } else { "127.0.0.1" };
        let words = format!(
            "sim --hosts {simulated} --interval 1s --count {sim_seconds} --connections 3 --log-lines 3 --rows-every 0s \
             --confirm-by postgres,clickhouse --drain 1h --retry-after {}ms --mqtt mqtt://{address}:{broker_port} \
             --username drill",
            retry_after.as_millis()
        );
        let mut command = vec![built("utilizer")?];
        command.extend(words.split(' ').map(str::to_owned));
        command.extend(["--password-file".to_owned(), self.folder.join("password").display().to_string()]);
        command.extend(["--state".to_owned(), self.folder.join("sim.state").display().to_string()]);
        let network_of = self.ground.as_ref().and_then(Ground::network);
        let name = Target::Sim.to_string();
        let spec = Spec { name, command, folder: self.folder.clone(), network_of, ends: true, ..Spec::default() };
        self.add(Target::Sim, spec)
    }

    /// Whether the simulated hosts have nothing left that waits for a confirmation.
    pub(crate) fn sim_is_done(&self) -> bool {
        self.processes.iter().all(|(target, process)| *target != Target::Sim || process.done)
    }

    /// Starts again what ended.
    pub(crate) fn look(&mut self) -> Outcome<()> {
        for (_, process) in &mut self.processes {
            process.look()?;
        }
        Ok(())
    }

    /// Looks after the processes until the condition holds, for a minute at most.
    pub(crate) fn wait(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) -> Outcome<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition(self) {
            if Instant::now() > deadline {
                return Err(format!("{what}: not within a minute"));
            }
            self.look()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub(crate) fn process(&mut self, target: Target) -> Outcome<&mut Process> {
        let found = self.processes.iter_mut().find(|(of, _)| *of == target);
        found.map(|(_, process)| process).ok_or_else(|| format!("BUG: there is no {target}"))
    }

    fn ground(&self) -> Outcome<&Ground> {
        self.ground.as_ref().ok_or_else(|| "BUG: a fault of disks or networks without them".to_owned())
    }

    /// Does what a step says; `false` if its process is down already.
    pub(crate) fn begin(&mut self, step: &Step, random: &mut Random) -> Outcome<bool> {
        if self.processes.iter().any(|(of, process)| *of == step.target && !process.is_up()) {
            return Ok(false);
        }
        match (step.fault, step.target) {
            (Fault::Kill, Target::Everything) => {
                self.end_all()?;
                for (_, process) in &mut self.processes {
                    process.kill(Some(step.lasts.mul_f64(random.below(100) as f64 / 100.0)))?;
                }
            }
            (Fault::Kill, target) => self.process(target)?.kill(Some(step.lasts))?,
            (Fault::Terminate, target) => {
                // PostgreSQL: an immediate shutdown. In order it would wait for its sessions.
                let signal = if target == Target::PostgresServer { Signal::QUIT } else { Signal::TERM };
                self.process(target)?.end(signal, Some(step.lasts))?;
            }
            (Fault::Stop, target) => self.process(target)?.stop(),
            (Fault::Cut, _) => self.ground()?.cut()?,
            (Fault::Fill, Target::Disk(number)) => self.ground()?.fill(number)?,
            (Fault::Slow, Target::PostgresServer) => self.slow_postgres(step.lasts, random)?,
            (Fault::Slow, _) => {
                // Before the statement, or between it and the answer.
                let when = if random.chance(50) { "before" } else { "after" };
                let (new, path) = (self.folder.join("clickhouse/slow.new"), self.folder.join("clickhouse/slow"));
                write(&new, &format!("{when} {}\n", step.lasts.as_secs_f64()))?;
                fs::rename(&new, &path).map_err(|e| format!("can't make {}: {e}", path.display()))?;
            }
            (fault, target) => return Err(format!("BUG: {} of {target}", fault.name())),
        }
        Ok(true)
    }

    /// Undoes what a step did. What was killed comes back by itself.
    pub(crate) fn end(&mut self, step: &Step) -> Outcome<()> {
        match (step.fault, step.target) {
            (Fault::Stop, target) => self.process(target)?.go_on(),
            (Fault::Cut, _) => self.ground()?.join()?,
            (Fault::Fill, Target::Disk(number)) => self.ground()?.empty(number)?,
            (Fault::Slow, Target::PostgresServer) => self.lock = None,
            (Fault::Slow, _) => self.fast_clickhouse(),
            _ => {}
        }
        Ok(())
    }

    /// Undoes everything that was done.
    pub(crate) fn end_all(&mut self) -> Outcome<()> {
        self.lock = None;
        self.fast_clickhouse();
        if let Some(ground) = &self.ground {
            ground.restore()?;
        }
        for (_, process) in &mut self.processes {
            process.go_on();
        }
        Ok(())
    }

    fn fast_clickhouse(&self) {
        // It is there only while commits are slow.
        let _ = fs::remove_file(self.folder.join("clickhouse/slow"));
    }

    fn slow_postgres(&mut self, lasts: Duration, random: &mut Random) -> Outcome<()> {
        let table = if random.chance(50) { "recap_system_metrics" } else { "delivery_ledger" };
        let sql = format!("BEGIN; LOCK TABLE {table}; SELECT pg_sleep({}); ROLLBACK", lasts.as_secs_f64());
        let spec = Spec {
            name: "lock".to_owned(),
            command: self.psql_words(DATABASE, &sql),
            environment: vec![("PGPASSWORD".to_owned(), PASSWORD.to_owned())],
            folder: self.folder.clone(),
            ..Spec::default()
        };
        let mut lock = Process::new(spec, &self.folder.join("logs"));
        lock.look()?;
        self.lock = Some(lock);
        Ok(())
    }

    /// Undoes everything, starts what is down, and lets the agents sample no more: what was made is to arrive.
    pub(crate) fn heal(&mut self) -> Outcome<()> {
        self.end_all()?;
        for number in 0..self.settings.agents {
            let process = self.process(Target::Agent(number))?;
            let command = process.spec.command.iter().map(|word| word.replace("-1s.toml", "-1h.toml")).collect();
            process.set_command(command);
            process.end(Signal::TERM, Some(Duration::ZERO))?;
        }
        self.wait("everything is up", |world| {
            world.processes.iter().all(|(_, process)| process.is_up() || process.done)
        })
    }

    /// Whether the hosts have nothing left that waits for a confirmation.
    pub(crate) fn is_drained(&self) -> bool {
        self.sim_is_done() && (0..self.settings.agents).all(|number| self.waiting(number) == Some(0.0))
    }

    /// Stops everything in order: agents, exporters, servers.
    pub(crate) fn finish(&mut self) -> Outcome<()> {
        for (target, process) in self.processes.iter_mut().rev() {
            let signal = if *target == Target::PostgresServer { Signal::QUIT } else { Signal::TERM };
            process.end(signal, None)?;
        }
        self.ground.as_ref().map_or(Ok(()), Ground::leave)
    }

    /// Deaths that nobody ordered, by process.
    pub(crate) fn deaths(&self) -> Vec<crate::process::Death> {
        self.processes.iter().flat_map(|(_, process)| process.deaths.iter().cloned()).collect()
    }

    /// Copies what ends with the drill.
    pub(crate) fn keep(&self) -> Outcome<()> {
        self.ground.as_ref().map_or(Ok(()), Ground::keep)
    }
}
