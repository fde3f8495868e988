//! Notifications by the running agent: through outages of whom they go to, kills, restarts, reloads and full disks.

mod alertmanager;
mod commands;
mod kept;
mod killed;
mod mail;
mod many;
mod silences;
mod webhooks;

use std::path::Path;

use tempfile::TempDir;
use test_servers::Mosquitto;

use super::support::{Agent, Hooks, Setup};

/// In every secret of these tests, and to be found nowhere but where it is sent.
const SECRET: &str = "hush-hush";

/// One alert for each unit that is down.
const DOWN: &str = r#"groups:
- name: g
  rules:
  - alert: Down
    expr: t_down == 1
    labels: {severity: page}
    annotations: {summary: '{{ $labels.unit }} is down'}
"#;

/// News at once, repeated only when asked for.
const QUICK: &str = "group_by = ['...']\ngroup_wait = '0s'\ngroup_interval = '1s'\nrepeat_interval = '4h'\n";

/// Files around an agent: which units are down, rules, secrets, and states that outlive the process.
struct Scene {
    folder: TempDir,
}

impl Scene {
    /// No unit is down.
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(scene.path("textfiles")).unwrap();
        std::fs::write(scene.path("rules.yml"), DOWN).unwrap();
        scene.down::<&str>(&[]);
        scene
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// These units are down, and no others.
    fn down<T: AsRef<str>>(&self, units: &[T]) {
        let lines: String = units.iter().map(|unit| format!("t_down{{unit={:?}}} 1\n", unit.as_ref())).collect();
        let unfinished = self.path("textfiles/unfinished");
        std::fs::write(&unfinished, format!("t_there 1\n{lines}")).unwrap();
        std::fs::rename(unfinished, self.path("textfiles/test.prom")).unwrap();
    }

    /// Writes a secret into a file, and gives its path.
    fn secret(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), format!("{text}\n")).unwrap();
        self.path(name)
    }

    /// An agent without a broker; `notify` is TOML below `[notify]`.
    fn setup(&self, notify: &str) -> Setup {
        self.with(Setup::new(), notify)
    }

    /// The same with a broker.
    fn setup_with_broker(&self, broker: &Mosquitto, notify: &str) -> Setup {
        self.with(Setup::with_broker(&broker.url()), notify)
    }

    fn with(&self, setup: Setup, notify: &str) -> Setup {
        let setup = setup
            .set("path.textfile", self.path("textfiles"))
            .set("spool.directory", self.path("spool"))
            .set("rules.files", vec![self.path("rules.yml")])
            .set("rules.interval", "100ms");
        let table: toml::Table = notify.parse().unwrap_or_else(|e| panic!("{e}: {notify}"));
        table.into_iter().fold(setup, |setup, (key, value)| setup.set(&format!("notify.{key}"), value))
    }

    /// A receiver with one webhook, whose path is a secret.
    fn webhook(&self, name: &str, hooks: &Hooks) -> String {
        self.webhook_with(name, &hooks.url(&format!("{SECRET}/{name}")), "")
    }

    /// The same anywhere, with further keys.
    fn webhook_with(&self, name: &str, url: &str, more: &str) -> String {
        let file = self.secret(&format!("{name}.url"), url);
        format!("[[receivers]]\nname = '{name}'\n[[receivers.webhook]]\nurl_file = '{file}'\n{more}\n")
    }

    /// Nothing that anybody can look at has a secret in it. Alerts are not secret.
    fn hides_secrets(&self, agent: &Agent) {
        let log = agent.log();
        assert!(!log.contains(SECRET), "{log}");
        for page in ["/metrics", "/api/v2/alerts", "/api/v2/silences", "/api/v2/status"] {
            let answer = agent.get(page);
            assert!(answer.status == 200 && !answer.body.contains(SECRET), "{page}: {answer:?}");
        }
        self.keeps_no_secrets();
    }

    /// No file of the agent's has a secret in it.
    fn keeps_no_secrets(&self) {
        nothing_secret_below(Path::new(&self.path("spool")));
    }
}

fn nothing_secret_below(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            nothing_secret_below(&entry.path());
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            // It may be gone again.
            assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{}", entry.path().display());
        }
    }
}

/// A series of a receiver's first webhook.
fn of_webhook(name: &str, receiver: &str) -> String {
    format!(r#"utilizer_notify_{name}{{receiver="{receiver}",integration="webhook",number="0"}}"#)
}
