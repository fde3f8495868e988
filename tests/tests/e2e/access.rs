//! The access rules that `utilizer broker acl` prints, in force at mosquitto: everybody can do their work, and no more.

use std::process::Command;

use tempfile::TempDir;
use test_servers::{Mosquitto, Program, built};

use super::site::wait_for;

/// Everybody who may connect; each with its name as its password.
const USERS: [&str; 5] = ["web-01", "web-02", "exporter-sqlite", "grafana", "ops"];

const ROOT: &str = "utilizer/v1";

/// A broker under the rules, and a folder for what is started around it.
struct Fleet {
    broker: Mosquitto,
    folder: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("passwords"), USERS.map(|user| format!("{user}:{user}\n")).concat()).unwrap();
        let hashed = Command::new("mosquitto_passwd").arg("-U").arg(path("passwords")).output().unwrap();
        assert!(hashed.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&hashed.stderr));
        for user in USERS {
            std::fs::write(path(user), format!("{user}\n")).unwrap();
        }
        let rules = Command::new(built("utilizer"))
            .args([
                "broker",
                "acl",
                "--exporter",
                "exporter-sqlite=sqlite",
                "--manager",
                "grafana",
                "--operator",
                "ops",
            ])
            .output()
            .unwrap();
        assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
        std::fs::write(path("acl"), rules.stdout).unwrap();
        let config = format!(
            "allow_anonymous false\npassword_file {}\nacl_file {}",
            path("passwords").display(),
            path("acl").display()
        );
        Self { broker: Mosquitto::start(&config), folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `[mqtt]` for this user.
    fn mqtt(&self, user: &str) -> String {
        format!(
            "[mqtt]\nurl = \"{}\"\nusername = \"{user}\"\npassword_file = \"{}\"\n",
            self.broker.url(),
            self.path(user)
        )
    }

    /// Gives a user another password, with the broker and in the user's own file.
    fn change_password(&self, user: &str, password: &str) {
        // Renamed into place: a file must never be seen half written.
        std::fs::write(self.path("new"), format!("{password}\n")).unwrap();
        std::fs::rename(self.path("new"), self.path(user)).unwrap();
        let changed = Command::new("mosquitto_passwd").args(["-b", &self.path("passwords"), user, password]).status();
        assert!(changed.unwrap().success());
    }

    fn sqlite_exporter(&self) -> Program {
        let exporter = self.start(
            "utilizer-exporter-sqlite",
            &format!(
                "state_dir = \"{}\"\n{}member = \"s-1\"\n[sqlite]\npath = \"{}\"\n[rows]\nevery = \"0s\"\n[batch]\nmax_age = \"50ms\"\n\
                 [serve]\nlisten = \"127.0.0.1:0\"\n",
                self.path("state"),
                self.mqtt("exporter-sqlite"),
                self.path("metrics.db")
            ),
        );
        exporter.ready();
        exporter
    }

    fn start(&self, program: &str, config: &str) -> Program {
        let file = tempfile::Builder::new().suffix(".toml").tempfile_in(&self.folder).unwrap();
        let (_, path) = file.keep().unwrap();
        std::fs::write(&path, config).unwrap();
        Program::start(&built(program), &["--config", &path.display().to_string()], &[])
    }

    /// An agent that calls itself `host` and comes as `user`.
    fn agent(&self, host: &str, user: &str) -> Program {
        let spool = tempfile::Builder::new().prefix("agent-spool").tempdir_in(&self.folder).unwrap().keep();
        let more = format!("[serve]\nlisten = \"127.0.0.1:0\"\n[spool]\ndirectory = \"{}\"\n", spool.display());
        self.start("utilizer-agent", &format!("host = \"{host}\"\ninterval = \"1s\"\n{more}{}", self.mqtt(user)))
    }

    fn client(&self, program: &str, user: Option<&str>) -> Vec<String> {
        let port = self.broker.port().to_string();
        let mut command: Vec<_> =
            [program, "-V", "5", "-h", "127.0.0.1", "-p", &port, "-q", "1"].map(Into::into).into();
        if let Some(user) = user {
            command.extend(["-u", user, "-P", user, "-i", &format!("{program}-{user}")].map(Into::into));
        }
        command
    }

    /// What the broker says to a publish: `Ok`, or its reason.
    fn publish(&self, user: Option<&str>, topic: &str, payload: &str) -> Result<(), String> {
        let mut command = self.client("mosquitto_pub", user);
        command.extend(["-t".to_owned(), format!("{ROOT}/{topic}"), "-m".to_owned(), payload.to_owned()]);
        let output = Command::new(&command[0]).args(&command[1..]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // mosquitto_pub ends well also where the PUBACK is a refusal.
        if output.status.success() && said.is_empty() { Ok(()) } else { Err(said) }
    }

    fn refused(&self, user: Option<&str>, topic: &str) {
        let said = self.publish(user, topic, "{}").expect_err(topic);
        assert!(said.to_lowercase().contains("not authorized"), "{user:?}, {topic}: {said}");
    }

    /// Listens to everything, as far as the rules let it.
    fn listen(&self, user: &str) -> Program {
        let mut command = self.client("mosquitto_sub", Some(user));
        command.extend(["-t", "#", "-F", "%t %p"].map(Into::into));
        let program = Program::start(command[0].as_ref(), &command[1..], &[]);
        let taken = format!("Sending SUBACK to mosquitto_sub-{user}");
        wait_for("the broker takes a subscription", || self.broker.log().contains(&taken).then_some(()));
        program
    }

    /// Rows in the exporter's database.
    fn rows(&self, query: &str) -> i64 {
        rusqlite::Connection::open(self.path("metrics.db"))
            .and_then(|db| db.query_row(query, [], |row| row.get(0)))
            .unwrap_or(0)
    }
}

#[test]
fn under_the_printed_rules_everybody_does_their_work_and_no_more() {
    let fleet = Fleet::new();
    let exporter = fleet.sqlite_exporter();
    let neighbour = fleet.listen("web-02");
    let manager = fleet.listen("grafana");
    let agent = fleet.agent("web-01", "web-01");

    // The way of the data, and of the host's state.
    wait_for("the host's rows are stored", || {
        (fleet.rows("SELECT count(*) FROM recap_system_metrics WHERE job_id = 'host:web-01'") > 0).then_some(())
    });
    wait_for("the host is known", || {
        (fleet.rows("SELECT count(*) FROM hosts WHERE host = 'web-01'") > 0).then_some(())
    });
    assert!(!agent.log().contains("refuses"), "{}", agent.log());
    assert!(!exporter.log().contains("refuses"), "{}", exporter.log());

    // A host writes under its own name only, and commands nobody.
    fleet.publish(Some("web-02"), "telemetry/web-02/logs", "not JSON").unwrap();
    for topic in [
        "telemetry/web-01/metrics",
        "telemetry/web-01/status",
        "telemetry/web-020/metrics",
        "command/web-01/control",
        "command/web-02/control",
        "command/web-02/confirmed/sqlite/s-1",
        "tier/sqlite/s-1/status",
        "fleet/silences/all",
    ] {
        fleet.refused(Some("web-02"), topic);
        fleet.refused(Some("grafana"), topic);
    }
    // An exporter speaks for its own group, and commands nobody.
    for topic in ["command/web-01/control", "command/web-01/confirmed/postgres/s-1", "tier/postgres/s-1/status"] {
        fleet.refused(Some("exporter-sqlite"), topic);
    }
    fleet.refused(Some("ops"), "telemetry/web-01/metrics");
    fleet.refused(None, "telemetry/web-01/metrics");

    // A host hears what is for it or for all, and nothing that is another's.
    let confirmation = |host: &str| format!("command/{host}/confirmed/sqlite/s-2");
    fleet.publish(Some("exporter-sqlite"), &confirmation("web-01"), "theirs").unwrap();
    fleet.publish(Some("exporter-sqlite"), &confirmation("web-02"), "mine").unwrap();
    fleet.publish(Some("ops"), "command/web-01/control", "theirs").unwrap();
    fleet.publish(Some("ops"), "command/web-02/control", "mine").unwrap();
    fleet.publish(Some("ops"), "fleet/silences/night", "everybody's").unwrap();
    neighbour.says(format!("{ROOT}/fleet/silences/night everybody's"));
    let heard = neighbour.log();
    for line in
        ["/command/web-02/confirmed/sqlite/s-2 mine", "/command/web-02/control mine", "/tier/sqlite/s-1/status {"]
    {
        assert!(heard.contains(line), "{line}: {heard}");
    }
    assert!(!heard.contains("telemetry/") && !heard.contains("theirs"), "{heard}");
    // A manager hears all that is published, and no commands.
    manager.says(format!("{ROOT}/telemetry/web-01/metrics "));
    manager.says(format!("{ROOT}/{} theirs", confirmation("web-01")));
    manager.says(format!("{ROOT}/fleet/silences/night"));
    assert!(!manager.log().contains("/control"), "{}", manager.log());
}

#[test]
fn an_agent_under_another_hosts_name_is_told_so_and_writes_nothing() {
    let fleet = Fleet::new();
    let manager = fleet.listen("grafana");
    let impostor = fleet.agent("web-01", "web-02");
    impostor.says("ot authorized");
    fleet.publish(Some("web-02"), "telemetry/web-02/status", "the end").unwrap();
    manager.says("the end");
    assert!(!manager.log().contains("telemetry/web-01/"), "{}", manager.log());
}

#[test]
fn changed_passwords_are_taken_up_without_a_restart() {
    let fleet = Fleet::new();
    let exporter = fleet.sqlite_exporter();
    let agent = fleet.agent("web-01", "web-01");
    agent.says("connected to the broker");
    fleet.change_password("web-01", "another of the host");
    fleet.change_password("exporter-sqlite", "another of the exporter");
    // mosquitto closes the connections whose passwords do not hold any more.
    fleet.broker.reload();
    for program in [&agent, &exporter] {
        program.says("the new password or certificates for the broker are taken up");
        assert!(!program.log().contains("another of"), "{}", program.log());
    }
    let before = fleet.rows("SELECT count(*) FROM recap_system_metrics");
    exporter.ready();
    wait_for("rows come in again", || (fleet.rows("SELECT count(*) FROM recap_system_metrics") > before).then_some(()));
}
