//! mosquitto, started for a test.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::supervised::{Supervised, free_port, temporary_folder, wait_for};

const INSTALL: &str = "apt-get install mosquitto mosquitto-clients";

/// A mosquitto broker on a free loopback port.
#[derive(Debug)]
pub struct Mosquitto {
    port: u16,
    server: Supervised,
}

impl Mosquitto {
    /// Starts it. `config` is appended to its configuration (`max_inflight_messages 5`, …); without an authentication
    /// line in it, anybody may connect. It keeps no state over a restart unless `config` says `persistence true`.
    pub fn start(config: &str) -> Self {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("mosquitto is not installed; install it with: {INSTALL}"));
        let dir = temporary_folder();
        let port = free_port();
        let anonymous = if ["allow_anonymous", "password_file"].iter().any(|key| config.contains(key)) {
            ""
        } else {
            "allow_anonymous true\n"
        };
        // Started as root it would change to an unprivileged user who may not enter the folder.
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        let text = format!(
            "{user}listener {port} 127.0.0.1\n{anonymous}persistence_location {}/\nlog_type all\n{config}\n",
            dir.display()
        );
        let file = dir.join("mosquitto.conf");
        fs::write(&file, text).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
        let server = Supervised::start(&dir, &[program, "-c", &file.to_string_lossy()], None);
        let broker = Self { port, server };
        broker.wait();
        broker
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `mqtt://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Publishes with `mosquitto_pub`, QoS 1, and waits for the acknowledgement. `more` are further arguments.
    pub fn publish(&self, topic: &str, payload: &str, more: &[&str]) {
        let output = Command::new("mosquitto_pub")
            .args(["-V", "5", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", topic, "-m", payload])
            .args(more)
            .output()
            .unwrap_or_else(|e| panic!("can't run mosquitto_pub ({e}); install it with: {INSTALL}"));
        assert!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Kills it, as a power cut would.
    pub fn kill(&self) {
        self.server.stop("KILL");
    }

    /// Stops it in order.
    pub fn stop(&self) {
        self.server.stop("TERM");
    }

    /// Makes it read its configuration, password file and access rules again.
    pub fn reload(&self) {
        self.server.signal("HUP");
    }

    /// Starts it again on the same port.
    pub fn again(&self) {
        self.server.again();
        self.wait();
    }

    fn wait(&self) {
        wait_for("mosquitto listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }
}
