//! The ClickHouse engine behind its HTTP interface: `tests/clickhouse/server.py`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use clickhouse::{Client, Compression};
use serde_json::Value;

/// A running server. It stops when its stdin ends: with this value, or with the test process, however that ends.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// One for all tests that need nothing special; each takes a database of its own.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Server::start(&[]))
    }

    /// On a free port, with an empty store, unless `arguments` say otherwise.
    pub fn start(arguments: &[&str]) -> Server {
        let mut child = Command::new(python())
            .arg(workspace().join("tests/clickhouse/server.py"))
            .arg("--until-eof")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test server's Python starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the test server's first line is text");
        let port = line.trim().strip_prefix("listening on 127.0.0.1:").and_then(|port| port.parse().ok());
        Server { child, port: port.unwrap_or_else(|| panic!("the test server said {line:?} instead of its port")) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> String {
        self.port.to_string()
    }

    /// Runs a statement that answers nothing.
    pub async fn run(&self, database: &str, sql: &str) {
        self.client(database).query_raw(sql).execute().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The rows of an answer, each a JSON object.
    pub async fn ask(&self, database: &str, sql: &str) -> Vec<Value> {
        let answer = self.client(database).query_raw(sql).fetch_bytes("JSONEachRow");
        let text = answer.expect("the url is valid").collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap_or_else(|e| panic!("{sql}: {e}")))
            .collect()
    }

    /// The one number that a query answers with.
    pub async fn count(&self, database: &str, sql: &str) -> u64 {
        self.client(database).query_raw(sql).fetch_one().await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    fn client(&self, database: &str) -> Client {
        Client::default().with_url(self.url()).with_database(database).with_compression(Compression::None)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn python() -> PathBuf {
    let python = std::env::var_os("UTILIZER_TEST_PYTHON")
        .map_or_else(|| workspace().join("target/venv/bin/python"), PathBuf::from);
    assert!(
        python.exists(),
        "{} is missing: `make test` installs the ClickHouse engine there; or set UTILIZER_TEST_PYTHON to a Python \
         with tests/clickhouse/requirements.txt",
        python.display()
    );
    python
}
