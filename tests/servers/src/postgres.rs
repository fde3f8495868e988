//! PostgreSQL, started for a test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::supervised::{Supervised, User, free_port, temporary_folder, wait_for};

const INSTALL: &str = "apt-get install postgresql";
const PASSWORD: &str = "of-the-tests";

/// A PostgreSQL server on a free loopback port. Its superuser `postgres` signs in by password (SCRAM), so that tests
/// see a wrong one refused.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    bin: PathBuf,
    databases: AtomicU32,
    server: Supervised,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        // Nobody needs a test's data after a power cut.
        Self::start_with(&["fsync=off"])
    }

    /// The same with settings of the server's own, each `name=value`.
    pub fn start_with(more: &[&str]) -> Self {
        let bin = newest_bin().unwrap_or_else(|| {
            panic!(
                "PostgreSQL's server is not installed (no /usr/lib/postgresql/*/bin/initdb); install it with: {INSTALL}"
            )
        });
        let dir = temporary_folder();
        // initdb and postgres refuse to run as root.
        let user = rustix::process::geteuid().is_root().then(|| {
            user("postgres").unwrap_or_else(|| panic!("there is no user postgres; install PostgreSQL with: {INSTALL}"))
        });
        let password_file = dir.join("password");
        fs::write(&password_file, PASSWORD).unwrap_or_else(|e| panic!("can't write {}: {e}", password_file.display()));
        if let Some(user) = user {
            for path in [&dir, &password_file] {
                chown(path, Some(user.uid), Some(user.gid))
                    .unwrap_or_else(|e| panic!("can't chown {}: {e}", path.display()));
            }
        }
        let data = dir.join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.arg("-D").arg(&data).arg("--pwfile").arg(&password_file).current_dir(&dir);
        initdb.args([
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
            "--no-instructions",
        ]);
        if let Some(user) = user {
            initdb.uid(user.uid).gid(user.gid);
        }
        let output = initdb.output().unwrap_or_else(|e| panic!("can't run initdb: {e}"));
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));

        let port = free_port();
        let mut settings = vec![
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "max_connections=40".to_owned(),
            "timezone=UTC".to_owned(),
        ];
        settings.extend(more.iter().map(|setting| (*setting).to_owned()));
        let (program, data) = (bin.join("postgres"), data.to_string_lossy().into_owned());
        let program = program.to_string_lossy();
        let mut command = vec![program.as_ref(), "-D", &data];
        for setting in &settings {
            command.extend(["-c", setting]);
        }
        let server = Supervised::start(&dir, &command, user);
        let postgres = Self { port, bin, databases: AtomicU32::new(0), server };
        postgres.wait();
        postgres
    }

    /// Makes an empty database and gives its name.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// `postgres://…` of a database, with the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL with `psql` and gives its output: rows as lines, columns parted by `|`. Fails on an SQL error.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let output = self.run_psql(database, sql);
        assert!(output.status.success(), "psql: {}\nin: {sql}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Begins a transaction with this SQL and leaves it open until the session is dropped. Returns when it is done.
    pub fn session(&self, database: &str, sql: &str) -> Session {
        let mut psql = self.psql_command(database);
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't run psql ({e}); install it with: {INSTALL}"));
        if let Some(stdin) = &mut child.stdin {
            writeln!(stdin, "BEGIN; {sql};\n\\echo done").unwrap_or_else(|e| panic!("psql reads its orders: {e}"));
        }
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).unwrap_or_else(|e| panic!("psql answers: {e}"));
        }
        assert_eq!(line.trim(), "done", "psql did not do: {sql}");
        Session(child)
    }

    fn run_psql(&self, database: &str, sql: &str) -> Output {
        self.psql_command(database)
            .args(["-c", sql])
            .output()
            .unwrap_or_else(|e| panic!("can't run psql ({e}); install it with: {INSTALL}"))
    }

    fn psql_command(&self, database: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command
            .args([
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
                "-d",
                database,
            ])
            .args(["-p", &self.port.to_string()])
            .env("PGPASSWORD", PASSWORD)
            .current_dir(self.server.dir());
        command
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Stops it at once, as a crash would; sessions break.
    pub fn kill(&self) {
        self.server.stop("QUIT");
    }

    /// Starts it again on the same port with the same data.
    pub fn again(&self) {
        self.server.again();
        self.wait();
    }

    fn wait(&self) {
        wait_for(&format!("PostgreSQL accepts connections; its log: {}", self.log()), || {
            self.run_psql("postgres", "SELECT 1").status.success().then_some(())
        });
    }
}

/// An open transaction; dropped, it is rolled back.
#[derive(Debug)]
pub struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        // psql ends with its input, and the server rolls back what was not committed.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn newest_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let bin = path.join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        })
        .max()
        .map(|(_, bin)| bin)
}

fn user(name: &str) -> Option<User> {
    let passwd = fs::read_to_string(Path::new("/etc/passwd")).ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { uid, gid })
    })
}
