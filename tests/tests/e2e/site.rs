//! A broker that wants passwords, databases of the test's own, and our programs around them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use test_servers::{ClickHouse, Mosquitto, Postgres, Program, built};

/// How long a condition may take before a test fails. Far above what is usual, so that a busy machine never decides.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks. A look at a database starts a process, and the machine has the tested programs to run, too.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `condition` gives a value, and fails naming `what` when it never does.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
}

/// The PostgreSQL server of all tests that don't stop it; each takes a database of its own.
pub(crate) fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

/// The ClickHouse engine of all tests; each takes a database of its own.
pub(crate) fn clickhouse() -> &'static ClickHouse {
    static SERVER: OnceLock<ClickHouse> = OnceLock::new();
    SERVER.get_or_init(|| ClickHouse::start(&[]))
}

/// What a configuration file says.
#[derive(Debug, Clone)]
pub(crate) struct File(toml::Table);

impl File {
    /// Sets a key, written as `section.key`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        match key.split_once('.') {
            None => self.0.insert(key.to_owned(), value.into()),
            Some((section, key)) => {
                let table = self.0.entry(section).or_insert_with(|| toml::Table::new().into());
                table.as_table_mut().unwrap().insert(key.to_owned(), value.into())
            }
        };
        self
    }
}

/// Who may connect to the broker, and with what.
const USERS: [(&str, &str); 3] =
    [("agents", "secret-of-agents"), ("exporters", "secret-of-exporters"), ("testers", "secret-of-testers")];

/// The host that the agent of a site calls itself.
pub(crate) const HOST: &str = "web-01";

/// A broker, and a folder and names of databases for what is started around it.
pub(crate) struct Site {
    pub(crate) broker: Mosquitto,
    folder: TempDir,
    pub(crate) clickhouse_database: String,
}

impl Site {
    /// With a broker that keeps what it holds over a restart.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let passwords = folder.path().join("passwords");
        std::fs::write(&passwords, USERS.map(|(user, password)| format!("{user}:{password}\n")).concat()).unwrap();
        // Replaces them by their hashes.
        let hashed = Command::new("mosquitto_passwd").arg("-U").arg(&passwords).output().unwrap();
        assert!(hashed.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&hashed.stderr));
        for (user, password) in USERS {
            std::fs::write(folder.path().join(user), format!("{password}\n")).unwrap();
        }
        let config = format!("password_file {}\npersistence true\nmax_queued_messages 0", passwords.display());
        Self { broker: Mosquitto::start(&config), folder, clickhouse_database: clickhouse().fresh_database() }
    }

    /// A path for a file of the test's.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn file(&self, user: &str) -> File {
        File(toml::Table::new())
            .set("serve.listen", "127.0.0.1:0")
            .set("mqtt.url", self.broker.url())
            .set("mqtt.username", user)
            .set("mqtt.password_file", self.path(user))
    }

    /// The agent of the host [`HOST`], which samples every second.
    pub(crate) fn agent(&self) -> File {
        let spool = tempfile::Builder::new().prefix("agent-spool").tempdir_in(self.path("")).unwrap().keep();
        self.file("agents").set("host", HOST).set("interval", "1s").set("spool.directory", spool.display().to_string())
    }

    /// An exporter that writes every interval with its processes, and soon.
    fn exporter(&self, member: &str) -> File {
        self.file("exporters")
            .set("state_dir", self.path(member))
            .set("mqtt.member", member)
            .set("rows.every", "0s")
            .set("rows.processes", true)
            .set("batch.max_age", "50ms")
    }

    /// A PostgreSQL exporter.
    pub(crate) fn postgres_exporter(&self, member: &str, url: &str) -> File {
        self.exporter(member).set("postgres.url", url)
    }

    /// A ClickHouse exporter.
    pub(crate) fn clickhouse_exporter(&self) -> File {
        let file = self.exporter("clickhouse-1").set("clickhouse.url", clickhouse().url());
        let file = file.set("clickhouse.database", self.clickhouse_database.as_str());
        // Logs only: there is nothing to choose.
        File(file.0.into_iter().filter(|(section, _)| section != "rows").collect())
    }

    /// A SQLite exporter.
    pub(crate) fn sqlite_exporter(&self, path: &str) -> File {
        self.exporter("sqlite-1").set("sqlite.path", path)
    }

    /// Starts a program with this configuration and arguments.
    pub(crate) fn start(&self, program: &str, file: &File, arguments: &[&str]) -> Program {
        let config = tempfile::Builder::new().prefix(program).suffix(".toml").tempfile_in(&self.folder).unwrap();
        let (_, path) = config.keep().unwrap();
        std::fs::write(&path, file.0.to_string()).unwrap();
        let path = path.display().to_string();
        let arguments: Vec<_> = ["--config", &path].into_iter().chain(arguments.iter().copied()).collect();
        Program::start(&built(program), &arguments, &[])
    }

    /// The same; returns when `/readyz` says that it does its work.
    pub(crate) fn start_ready(&self, program: &str, file: &File) -> Program {
        let program = self.start(program, file, &[]);
        program.ready();
        program
    }

    /// The switches by which a command of `utilizer` reaches the broker.
    pub(crate) fn as_tester(&self) -> Vec<String> {
        let (user, _) = USERS[2];
        ["--mqtt", &self.broker.url(), "--username", user, "--password-file", &self.path(user)]
            .map(str::to_owned)
            .into()
    }

    /// Publishes with a client that knows nothing of us.
    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        self.broker.publish(topic, payload, &["-u", USERS[2].0, "-P", USERS[2].1]);
    }

    /// Publishes a message a line in one go.
    pub(crate) fn publish_lines(&self, topic: &str, lines: &str) {
        let port = self.broker.port().to_string();
        let (user, password) = USERS[2];
        let mut child = Command::new("mosquitto_pub")
            .args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-u", user, "-P", password, "-q", "1", "-t", topic, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "mosquitto_pub");
    }

    /// Publishes pipeline records of a host that has no agent.
    pub(crate) fn publish_records(&self, host: &str, records: &Value) {
        let message =
            serde_json::json!({"v": 1, "host": host, "time": jiff::Timestamp::now().to_string(), "records": records});
        self.publish(&format!("utilizer/v1/telemetry/{host}/pipeline"), &message.to_string());
    }

    /// Listens as `mosquitto_sub` does; returns when the broker took the subscription.
    pub(crate) fn subscribe(&self, filter: &str) -> Subscriber {
        let id = "subscriber";
        let port = self.broker.port().to_string();
        let (user, password) = USERS[2];
        let program = Program::start(
            "mosquitto_sub".as_ref(),
            &[
                "-V",
                "5",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-u",
                user,
                "-P",
                password,
                "-i",
                id,
                "-q",
                "1",
                "-t",
                filter,
                "-F",
                "%t %p",
            ],
            &[],
        );
        let taken = format!("Sending SUBACK to {id}");
        wait_for("the broker takes a subscription", || self.broker.log().contains(&taken).then_some(()));
        Subscriber(program)
    }
}

/// `mosquitto_sub` at work.
pub(crate) struct Subscriber(Program);

impl Subscriber {
    /// Topics and payloads that came so far. A payload that is not JSON fails the test: messages are to be readable.
    pub(crate) fn messages(&self) -> Vec<(String, Value)> {
        let log = self.0.log();
        // A last line without its end is still being written.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let parse = |line: &str| {
            let (topic, payload) = line.split_once(' ').unwrap_or_else(|| panic!("not a message: {line}"));
            let payload = serde_json::from_str(payload).unwrap_or_else(|e| panic!("{e} in: {line}"));
            (topic.to_owned(), payload)
        };
        whole.lines().map(parse).collect()
    }
}
