//! The ClickHouse engine behind its HTTP interface: `tests/clickhouse/server.py`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::http;

/// A running engine. It stops when its stdin ends: with this value, or with the test process, however that ends.
#[derive(Debug)]
pub struct ClickHouse {
    child: Child,
    address: SocketAddr,
    databases: AtomicU32,
}

impl ClickHouse {
    /// Starts it on a free port, with an empty store, unless `arguments` of the server say otherwise.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(python())
            .arg(workspace().join("tests/clickhouse/server.py"))
            .arg("--until-eof")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't start the ClickHouse engine's Python: {e}"));
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).unwrap_or_else(|e| panic!("the ClickHouse engine: {e}"));
        }
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the ClickHouse engine said {line:?} instead of its address"));
        Self { child, address, databases: AtomicU32::new(0) }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends it as a crash would: kill -9.
    pub fn kill(mut self) {
        let _ = self.child.kill();
    }

    /// A name that no database has yet.
    pub fn fresh_database(&self) -> String {
        format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed))
    }

    /// The server's answer to one statement, its rows as lines of JSON; or its error. `settings` are parameters of the
    /// request, `&name=value`.
    pub fn try_query(&self, database: &str, sql: &str, settings: &str) -> Result<String, String> {
        let path = format!("/?database={database}&default_format=JSONEachRow{settings}");
        let answer = http::ask(self.address, "POST", &path, sql.as_bytes());
        if answer.status == 200 { Ok(answer.body) } else { Err(answer.body) }
    }

    /// The same where an error is a failed test.
    pub fn query(&self, database: &str, sql: &str) -> String {
        self.try_query(database, sql, "").unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The repository's root.
pub fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.map_or_else(|| panic!("this package lies two folders below the root"), Path::to_owned)
}

/// The Python that has the engine.
pub fn python() -> PathBuf {
    let python = std::env::var_os("UTILIZER_TEST_PYTHON")
        .map_or_else(|| workspace().join("target/venv/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} is missing: `make deps` makes it; or set UTILIZER_TEST_PYTHON to a Python with what tests/*/requirements.txt \
         name",
        python.display()
    );
    python
}
