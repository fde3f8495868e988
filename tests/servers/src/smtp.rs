//! A mail server for tests: `tests/mail/server.py`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::{free_port, python, wait_for, workspace};

const INSTALL: &str = "pip install --requirement tests/mail/requirements.txt";

/// A running server on a free port, that takes mails over STARTTLS from one user. It ends with this value.
#[derive(Debug)]
pub struct Smtp {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Smtp {
    /// Starts it. `certificate` and its key are files; without them there is no STARTTLS.
    pub fn start(certificate: Option<[&str; 2]>, user: &str, password: &str) -> Self {
        Self::on(free_port(), certificate, user, password)
    }

    /// The same on a port.
    pub fn on(port: u16, certificate: Option<[&str; 2]>, user: &str, password: &str) -> Self {
        let mut child = Command::new(python())
            .arg(workspace().join("tests/mail/server.py"))
            .arg(port.to_string())
            .args(certificate.unwrap_or_default())
            .envs([("SMTP_USER", user), ("SMTP_PASSWORD", password)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't start the mail server's Python: {e}"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let (into, stdout) = (said.clone(), child.stdout.take());
        std::thread::spawn(move || {
            let lines = stdout.map(|stdout| BufReader::new(stdout).lines()).into_iter().flatten();
            for line in lines.map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if let Ok(mut said) = into.lock() {
                    said.push(value);
                }
            }
        });
        let mut server = Self { child, port, said };
        wait_for("the mail server listens", || {
            let ended = server.child.try_wait().ok().flatten();
            assert!(ended.is_none(), "the mail server did not start; is aiosmtpd there? `make deps` or: {INSTALL}");
            server.said().iter().any(|said| said.get("listening").is_some()).then_some(())
        });
        server
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn said(&self) -> Vec<Value> {
        self.said.lock().map(|said| said.clone()).unwrap_or_default()
    }

    /// The mails that it took, as `tests/mail/server.py` describes them.
    pub fn mails(&self) -> Vec<Value> {
        self.said().into_iter().filter(|said| said.get("parts").is_some()).collect()
    }

    /// Whether the password was right, for each login.
    pub fn logins(&self) -> Vec<bool> {
        self.said().iter().filter_map(|said| said.get("login")?.as_bool()).collect()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
