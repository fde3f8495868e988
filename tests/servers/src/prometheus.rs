//! Prometheus, started for a test.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::http;
use crate::supervised::{Supervised, free_port, temporary_folder, wait_for};

const INSTALL: &str = "apt-get install prometheus";

/// A Prometheus server on a free loopback port, which keeps its data in a folder of its own.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    server: Supervised,
}

impl Prometheus {
    /// Starts it; it scrapes once a second. `scrape` is the list below `scrape_configs`, in YAML.
    pub fn start(scrape: &str) -> Self {
        let program = ["/usr/bin/prometheus", "/usr/local/bin/prometheus"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("Prometheus is not installed; install it with: {INSTALL}"));
        let dir = temporary_folder();
        let port = free_port();
        let file = dir.join("prometheus.yml");
        let text = format!("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n{scrape}\n");
        fs::write(&file, text).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
        let arguments = [
            program.to_owned(),
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let server = Supervised::start(&dir, &arguments, None);
        let prometheus = Self { port, server };
        wait_for("Prometheus is ready", || (prometheus.get("/-/ready").status == 200).then_some(()));
        prometheus
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Asks it for a page.
    pub fn get(&self, path: &str) -> http::Answer {
        http::ask(SocketAddr::from(([127, 0, 0, 1], self.port)), "GET", path, b"")
    }

    /// The value of an expression that gives one series; `None` where it gives none.
    pub fn query(&self, expression: &str) -> Option<f64> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        assert_eq!(answer.status, 200, "{expression}: {}", answer.body);
        // {"metric":{…},"value":[1700000000.1,"1"]}
        let (_, value) = answer.body.split_once("\"value\":[")?;
        value.split('"').nth(1)?.parse().ok()
    }

    /// Waits until an expression has such a value.
    pub fn becomes(&self, expression: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        wait_for(&format!("Prometheus: {expression}"), || self.query(expression).filter(|value| wanted(*value)))
    }
}
