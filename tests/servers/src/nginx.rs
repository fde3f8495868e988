//! nginx, started for a test.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::supervised::{Supervised, free_port, temporary_folder, wait_for};

const INSTALL: &str = "apt-get install nginx-light";

/// An nginx with one server, on a free loopback port.
#[derive(Debug)]
pub struct Nginx {
    port: u16,
    server: Supervised,
}

impl Nginx {
    /// Starts it. `server` stands in its `server { … }`; where it names an `ssl_certificate`, TLS is spoken. Its requests are
    /// in `access.log` of its folder, in the format that is called `combined`.
    pub fn start(server: &str) -> Self {
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("nginx is not installed; install it with: {INSTALL}"));
        let (dir, port) = (temporary_folder(), free_port());
        let tls = if server.contains("ssl_certificate") { " ssl" } else { "" };
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let at = dir.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {at}/{name};\n"))
            .collect();
        let text = format!(
            "{user}\ndaemon off;\npid {at}/pid;\nerror_log stderr info;\nevents {{}}\nhttp {{\n{temporary}access_log \
             {at}/access.log;\nserver {{\nlisten 127.0.0.1:{port}{tls};\n{server}\n}}\n}}\n"
        );
        let file = dir.join("nginx.conf");
        fs::write(&file, text).unwrap_or_else(|e| panic!("can't write {}: {e}", file.display()));
        let server = Supervised::start(&dir, &[program, "-e", "stderr", "-c", &file.to_string_lossy()], None);
        let nginx = Self { port, server };
        wait_for("nginx listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        nginx
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it writes what it was asked.
    pub fn access_log(&self) -> PathBuf {
        self.server.dir().join("access.log")
    }

    /// Stops it in order.
    pub fn stop(&self) {
        self.server.stop("TERM");
    }

    /// Starts it again on the same port.
    pub fn again(&self) {
        self.server.again();
        wait_for("nginx listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.server.log()
    }
}
