//! Asking the stores, the hosts and the simulation what they have.

use std::process::Command;

use crate::Outcome;
use crate::load;
use crate::plan::Target;
use crate::system::output;
use crate::world::{DATABASE, PASSWORD, World};

impl World {
    /// Lets the simulation look up what it sent: what it says, or why it is not content.
    pub(crate) fn verify_sim(&mut self) -> Outcome<Option<Result<String, String>>> {
        if self.settings.simulated == 0 {
            return Ok(None);
        }
        if !self.sim_is_done() {
            return Ok(Some(Err("the simulation did not come to its end".to_owned())));
        }
        let stores = [
            format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{DATABASE}", self.postgres_port),
            format!("http://{}/{DATABASE}", self.clickhouse),
        ];
        let words = self.process(Target::Sim)?.spec.command.clone();
        let (program, arguments) = words.split_first().ok_or("BUG: no command")?;
        let mut command = Command::new(program);
        command.args(arguments).args(stores.iter().flat_map(|store| ["--verify", store]));
        Ok(Some(output(&mut command)))
    }

    /// All statuses of hosts so far.
    pub(crate) fn statuses(&self) -> Vec<serde_json::Value> {
        let log = self.processes.iter().find(|(target, _)| *target == Target::Listener).map(|(_, p)| p.log());
        let log = log.unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Records in an agent's spool, by its own account.
    pub(crate) fn waiting(&self, number: usize) -> Option<f64> {
        let (_, page) = load::ask(&self.socket(number), "GET", "/metrics", "")?;
        let values = page.lines().filter(|line| line.starts_with("utilizer_spool_records{"));
        values.map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) fn psql_words(&self, database: &str, sql: &str) -> Vec<String> {
        let (program, port) = (self.bin.join("psql").display().to_string(), self.postgres_port.to_string());
        [
            program.as_str(),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &port,
            "-d",
            database,
            "-c",
            sql,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    pub(crate) fn psql(&self, database: &str, sql: &str) -> Outcome<String> {
        let words = self.psql_words(database, sql);
        let (program, arguments) = words.split_first().ok_or("BUG: no command")?;
        output(Command::new(program).args(arguments).env("PGPASSWORD", PASSWORD).current_dir(&self.folder))
    }

    /// Rows as lines, columns parted by `|`.
    pub(crate) fn postgres(&self, sql: &str) -> Outcome<String> {
        self.psql(DATABASE, sql)
    }

    /// Rows as lines, columns parted by tabs.
    pub(crate) fn clickhouse(&self, sql: &str) -> Outcome<String> {
        let answer = test_servers::http::ask(
            self.clickhouse,
            "POST",
            if sql == "SELECT 1" { "/" } else { "/?database=drill" },
            sql.as_bytes(),
        );
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{sql}: {}", answer.body)) }
    }
}
