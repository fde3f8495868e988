//! Alertmanager, started for a test.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::http;
use crate::supervised::{Supervised, free_port, temporary_folder, wait_for};

const INSTALL: &str = "apt-get install prometheus-alertmanager";

/// An Alertmanager on a free loopback port, which keeps its data in a folder of its own.
#[derive(Debug)]
pub struct Alertmanager {
    port: u16,
    cluster: u16,
    server: Supervised,
}

impl Alertmanager {
    /// Starts it with a configuration in YAML. `peers` are those that it makes a cluster with.
    pub fn start(config: &str, peers: &[&Self]) -> Self {
        let program = ["/usr/bin/prometheus-alertmanager", "/usr/local/bin/alertmanager"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("Alertmanager is not installed; install it with: {INSTALL}"));
        let dir = temporary_folder();
        let (port, cluster) = (free_port(), free_port());
        let file = dir.join("alertmanager.yml");
        fs::write(&file, config).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
        let mut arguments = vec![
            program.to_owned(),
            format!("--config.file={}", file.display()),
            format!("--storage.path={}", dir.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!("--cluster.listen-address=127.0.0.1:{cluster}"),
            // Who comes second waits so long for the first one's word that it has notified.
            "--cluster.peer-timeout=2s".to_owned(),
            "--cluster.settle-timeout=5s".to_owned(),
            "--cluster.gossip-interval=50ms".to_owned(),
        ];
        arguments.extend(peers.iter().map(|peer| format!("--cluster.peer=127.0.0.1:{}", peer.cluster)));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let server = Supervised::start(&dir, &arguments, None);
        let alertmanager = Self { port, cluster, server };
        alertmanager.wait();
        alertmanager
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks it for a page.
    pub fn get(&self, path: &str) -> http::Answer {
        http::ask(SocketAddr::from(([127, 0, 0, 1], self.port)), "GET", path, b"")
    }

    /// Waits until it is ready.
    pub fn wait(&self) {
        wait_for("Alertmanager is ready", || (self.get("/-/ready").status == 200).then_some(()));
    }

    /// Stops it.
    pub fn stop(&self) {
        self.server.stop("TERM");
    }

    /// Starts the stopped one again.
    pub fn again(&self) {
        self.server.again();
        self.wait();
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.server.log()
    }
}
