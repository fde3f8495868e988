//! The ClickHouse engine, asked through the client that the sink uses.

use std::sync::OnceLock;

use clickhouse::{Client, Compression};
use serde_json::Value;
use test_servers::ClickHouse;

pub use test_servers::workspace;

/// A running server. It stops with this value, or with the test process, however that ends.
#[derive(Debug)]
pub struct Server(ClickHouse);

impl Server {
    /// One for all tests that need nothing special; each takes a database of its own.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Server::start(&[]))
    }

    /// On a free port, with an empty store, unless `arguments` say otherwise.
    pub fn start(arguments: &[&str]) -> Server {
        Server(ClickHouse::start(arguments))
    }

    /// Ends it as a crash would.
    pub fn kill(self) {
        self.0.kill();
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    pub fn port(&self) -> String {
        self.0.port().to_string()
    }

    /// Runs a statement that answers nothing.
    pub async fn run(&self, database: &str, sql: &str) {
        self.client(database).query_raw(sql).execute().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The same; the error's text where it fails.
    pub async fn try_run(&self, database: &str, sql: &str) -> Result<(), String> {
        self.client(database).query_raw(sql).execute().await.map_err(|error| error.to_string())
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
