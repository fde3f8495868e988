//! node_exporter, started for a test.

use std::net::SocketAddr;
use std::path::Path;

use crate::http;
use crate::supervised::{Supervised, free_port, temporary_folder, wait_for};

const INSTALL: &str = "apt-get install prometheus-node-exporter";

/// A node_exporter on a free loopback port, over this machine.
#[derive(Debug)]
pub struct NodeExporter {
    port: u16,
    server: Supervised,
}

impl NodeExporter {
    /// Starts it with further arguments, such as `--collector.disable-defaults`.
    pub fn start(arguments: &[&str]) -> Self {
        let program = ["/usr/bin/prometheus-node-exporter", "/usr/local/bin/node_exporter", "/usr/bin/node_exporter"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("node_exporter is not installed; install it with: {INSTALL}"));
        let port = free_port();
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let all: Vec<&str> = [program, &listen].into_iter().chain(arguments.iter().copied()).collect();
        let server = Supervised::start(&temporary_folder(), &all, None);
        let exporter = Self { port, server };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("node_exporter is ready", || (http::ask(address, "GET", "/", b"").status == 200).then_some(()));
        exporter
    }

    /// Where it answers, as `HOST:PORT`.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

impl Drop for NodeExporter {
    fn drop(&mut self) {
        // It does not hear the signal by which the others are stopped.
        self.server.stop("KILL");
    }
}
