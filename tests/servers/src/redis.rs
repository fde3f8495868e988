//! Redis, started for a test.

use std::net::TcpStream;
use std::path::Path;

use crate::supervised::{Supervised, free_port, temporary_folder, wait_for};

const INSTALL: &str = "apt-get install redis-server";

/// A Redis server on a free loopback port, with nothing on disk.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    _server: Supervised,
}

impl Redis {
    /// Starts it. `arguments` are further ones, such as `--requirepass …`.
    pub fn start(arguments: &[&str]) -> Self {
        let program = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("Redis is not installed; install it with: {INSTALL}"));
        let (dir, port) = (temporary_folder(), free_port());
        let number = port.to_string();
        let mut command = vec![program, "--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        command.extend(arguments);
        let server = Supervised::start(&dir, &command, None);
        wait_for("Redis listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, _server: server }
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
