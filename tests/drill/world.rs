//! The world of a drill: broker, databases, exporters, agents; networks and small disks of their own where the system
//! allows that.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Outcome;
use crate::load;
use crate::plan::{DISKS, Fault, Random, Step, Target};
use crate::process::{Process, Spec};

const PASSWORD: &str = "of-the-drill";
const DATABASE: &str = "drill";

/// The servers' address as the agents see it, and the agents' own, where they have a network of their own.
const SERVERS: &str = "10.213.7.1";
const AGENTS: &str = "10.213.7.2";

/// Size of a small disk. A backlog of a whole drill fits.
const DISK: &str = "size=96m";

/// What the drill is like; the random parts of it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) agents: usize,
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
    bin: PathBuf,
    postgres_port: u16,
    clickhouse: SocketAddr,
    pub(crate) hosts: Vec<String>,
    /// The servers first, then the exporters, then the agents.
    processes: Vec<(Target, Process)>,
    /// Holds the agents' network.
    network: Option<Process>,
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
            network: None,
            lock: None,
        };
        for name in ["logs", "disks"] {
            world.make(name)?;
        }
        if world.settings.namespaces {
            world.make_namespaces()?;
        }
        let broker_port = port(random)?;
        world.add_broker(broker_port)?;
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

    /// The small disks, and a network for the agents. Both go with the last process that is in them.
    fn make_namespaces(&mut self) -> Outcome<()> {
        for name in DISKS {
            let path = self.make(&format!("disks/{name}"))?;
            run("mount", &["-t", "tmpfs", "-o", DISK, "none", &path.to_string_lossy()])?;
        }
        run("ip", &["link", "set", "lo", "up"])?;
        let spec = Spec {
            name: "network".to_owned(),
            command: ["unshare", "--net", "--", "sleep", "infinity"].map(str::to_owned).to_vec(),
            folder: self.folder.clone(),
            ..Spec::default()
        };
        let mut holder = Process::new(spec, &self.folder.join("logs"));
        holder.look()?;
        let id = holder.id().ok_or("the agents' network is not there")?.to_string();
        self.network = Some(holder);
        let enter = |arguments: &[&str]| {
            let words: Vec<&str> = ["--net", "--target", &id].iter().chain(arguments).copied().collect();
            run("nsenter", &words)
        };
        // Its own network is there a moment after it was started.
        let own = fs::read_link("/proc/self/ns/net").ok();
        self.wait("the agents' network is there", |_| fs::read_link(format!("/proc/{id}/ns/net")).ok() != own)?;
        run("ip", &["link", "add", "servers", "type", "veth", "peer", "name", "agents", "netns", &id])?;
        run("ip", &["address", "add", &format!("{SERVERS}/24"), "dev", "servers"])?;
        run("ip", &["link", "set", "servers", "up"])?;
        enter(&["ip", "address", "add", &format!("{AGENTS}/24"), "dev", "agents"])?;
        enter(&["ip", "link", "set", "agents", "up"])?;
        enter(&["ip", "link", "set", "lo", "up"])
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
        if DISKS.contains(&name) { self.make(&format!("disks/{name}")) } else { self.make(name) }
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
        let network_of = self.network.as_ref().and_then(Process::id);
        let name = Target::Agent(number).to_string();
        self.add(
            Target::Agent(number),
            Spec { name, command, folder: self.folder.clone(), network_of, ..Spec::default() },
        )
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

    fn process(&mut self, target: Target) -> Outcome<&mut Process> {
        let found = self.processes.iter_mut().find(|(of, _)| *of == target);
        found.map(|(_, process)| process).ok_or_else(|| format!("BUG: there is no {target}"))
    }

    /// Does what a step says.
    pub(crate) fn begin(&mut self, step: &Step, random: &mut Random) -> Outcome<()> {
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
            (Fault::Cut, _) => run("ip", &["link", "set", "servers", "down"])?,
            (Fault::Fill, Target::Disk(number)) => self.fill(number)?,
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
        Ok(())
    }

    /// Undoes what a step did. What was killed comes back by itself.
    pub(crate) fn end(&mut self, step: &Step) -> Outcome<()> {
        match (step.fault, step.target) {
            (Fault::Stop, target) => self.process(target)?.go_on(),
            (Fault::Cut, _) => run("ip", &["link", "set", "servers", "up"])?,
            (Fault::Fill, Target::Disk(number)) => self.empty(number)?,
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
        if self.settings.namespaces {
            run("ip", &["link", "set", "servers", "up"])?;
            for number in 0..DISKS.len() {
                self.empty(number)?;
            }
        }
        for (_, process) in &mut self.processes {
            process.go_on();
        }
        Ok(())
    }

    fn ballast(&self, number: usize) -> PathBuf {
        self.folder.join("disks").join(DISKS.get(number).unwrap_or(&"")).join("ballast")
    }

    fn fill(&self, number: usize) -> Outcome<()> {
        use std::io::Write as _;
        let path = self.ballast(number);
        let mut file = fs::File::create(&path).map_err(|e| format!("can't make {}: {e}", path.display()))?;
        let block = vec![0_u8; 4096];
        // Until the disk is full.
        while file.write_all(&block).is_ok() {}
        Ok(())
    }

    fn empty(&self, number: usize) -> Outcome<()> {
        match fs::remove_file(self.ballast(number)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("can't remove {}: {e}", self.ballast(number).display()))
            }
            _ => Ok(()),
        }
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
        self.wait("everything is up", |world| world.processes.iter().all(|(_, process)| process.is_up()))
    }

    /// Whether the agents have nothing left that waits for a confirmation.
    pub(crate) fn is_drained(&self) -> bool {
        true
    }

    /// Stops everything in order: agents, exporters, servers.
    pub(crate) fn finish(&mut self) -> Outcome<()> {
        for (target, process) in self.processes.iter_mut().rev() {
            let signal = if *target == Target::PostgresServer { Signal::QUIT } else { Signal::TERM };
            process.end(signal, None)?;
        }
        Ok(())
    }

    /// Deaths that nobody ordered, by process.
    pub(crate) fn deaths(&self) -> Vec<crate::process::Death> {
        self.processes.iter().flat_map(|(_, process)| process.deaths.iter().cloned()).collect()
    }

    /// What the small disks hold, beside everything else: they end with the drill.
    pub(crate) fn keep_disks(&self) -> Outcome<()> {
        if self.settings.namespaces {
            let from = self.folder.join("disks").display().to_string();
            run("cp", &["-a", "--no-target-directory", &from, &self.folder.join("disks-kept").display().to_string()])?;
        }
        Ok(())
    }

    fn psql_words(&self, database: &str, sql: &str) -> Vec<String> {
        let (program, port) = (self.bin.join("psql").display().to_string(), self.postgres_port.to_string());
        [
            program.as_str(),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &port,
            "-d",
            database,
            "-c",
            sql,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn psql(&self, database: &str, sql: &str) -> Outcome<String> {
        let words = self.psql_words(database, sql);
        let (program, arguments) = words.split_first().ok_or("BUG: no command")?;
        output(Command::new(program).args(arguments).env("PGPASSWORD", PASSWORD).current_dir(&self.folder))
    }

    /// Rows as lines, columns parted by `|`.
    pub(crate) fn postgres(&self, sql: &str) -> Outcome<String> {
        self.psql(DATABASE, sql)
    }

    /// Rows as lines, columns parted by tabs.
    pub(crate) fn clickhouse(&self, sql: &str) -> Outcome<String> {
        let answer = test_servers::http::ask(
            self.clickhouse,
            "POST",
            if sql == "SELECT 1" { "/" } else { "/?database=drill" },
            sql.as_bytes(),
        );
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{sql}: {}", answer.body)) }
    }
}

/// Whether namespaces can be made here.
pub(crate) fn can_unshare() -> bool {
    let tried =
        Command::new("unshare").args(["--mount", "--net", "--", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn run(program: &str, arguments: &[&str]) -> Outcome<()> {
    output(Command::new(program).args(arguments)).map(drop)
}

fn output(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("can't run {name}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).map_err(|e| format!("can't write {}: {e}", path.display()))
}

/// One of our programs, beside this one.
fn built(name: &str) -> Outcome<String> {
    let own = std::env::current_exe().map_err(|e| format!("can't tell where this program is: {e}"))?;
    let path = own.with_file_name(name);
    if path.exists() {
        Ok(path.display().to_string())
    } else {
        Err(format!("{} is missing; build it with: cargo build --workspace --all-features --bins", path.display()))
    }
}

/// A free port below those that the system gives to clients: a server that is down finds it free when it comes back.
fn port(random: &mut Random) -> Outcome<u16> {
    // Not by the seed: drills with the same seed may run side by side.
    let offset = u64::from(std::process::id());
    for _ in 0..1000 {
        let port = u16::try_from(10_000 + random.next().wrapping_add(offset) % 20_000).unwrap_or(10_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("there is no free port between 10000 and 30000".to_owned())
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let of = |entry: fs::DirEntry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        bin.join("initdb").exists().then_some((version, bin))
    };
    versions.filter_map(|entry| of(entry.ok()?)).max().map(|(_, bin)| bin)
}

/// A new folder for a drill, which other users may enter: PostgreSQL is one.
pub(crate) fn new_folder(seed: u64) -> Outcome<PathBuf> {
    let made = tempfile::Builder::new().prefix(&format!("utilizer-drill-{seed}-")).tempdir();
    let path = made.map_err(|e| format!("can't make a temporary folder: {e}"))?.keep();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
