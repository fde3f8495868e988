//! Prometheus, started for a test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        Self::within(temporary_folder(), &format!("scrape_configs:\n{scrape}\n"))
    }

    /// Starts it over samples in the OpenMetrics text format, of any time; it scrapes nothing.
    pub fn over(samples: &str) -> Self {
        let dir = temporary_folder();
        let file = dir.join("samples.om");
        fs::write(&file, samples).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
        let (from, to) = (file.display().to_string(), dir.join("data").display().to_string());
        promtool(&["tsdb", "create-blocks-from", "openmetrics", &from, &to])
            .unwrap_or_else(|e| panic!("promtool: {e}"));
        Self::within(dir, "")
    }

    fn within(dir: PathBuf, scrape: &str) -> Self {
        let port = free_port();
        let file = dir.join("prometheus.yml");
        let text = format!("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n{scrape}");
        fs::write(&file, text).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
        let arguments = [
            installed("prometheus"),
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            "--storage.tsdb.retention.time=100y".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let server = Supervised::start(&dir, &arguments, None);
        let prometheus = Self { port, server };
        wait_for("Prometheus is ready", || (prometheus.get("/-/ready").status == 200).then_some(()));
        prometheus
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Where it answers, as `HOST:PORT`.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Asks it for a page.
    pub fn get(&self, path: &str) -> http::Answer {
        http::ask(SocketAddr::from(([127, 0, 0, 1], self.port)), "GET", path, b"")
    }

    /// The answer of its interface to an expression, at a time in seconds or now.
    pub fn evaluate(&self, expression: &str, time: Option<&str>) -> http::Answer {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let time = time.map(|time| format!("&time={time}")).unwrap_or_default();
        self.get(&format!("/api/v1/query?query={encoded}{time}"))
    }

    /// The value of an expression that gives one series; `None` where it gives none.
    pub fn query(&self, expression: &str) -> Option<f64> {
        let answer = self.evaluate(expression, None);
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

/// Calls promtool; what it printed if it finds fault.
pub fn promtool(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(installed("promtool")).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("promtool does not start: {e}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

fn installed(program: &str) -> String {
    let mut paths = ["/usr/bin", "/usr/local/bin"].into_iter().map(|folder| format!("{folder}/{program}"));
    let found = paths.find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("Prometheus is not installed; install it with: {INSTALL}"))
}
