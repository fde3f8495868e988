//! A PostgreSQL server: it answers a query; its connections by state; its longest transaction. Under postgres_exporter's names.

mod md5;
mod protocol;
mod scram;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{self, Place, TlsSection, Url, is_given};
use super::talk::Talk;
use super::{Asking, Faults, Look, Run};
use protocol::Authentication;
use scram::Scram;

/// The longest answer that is taken.
const MOST: usize = 256 << 10;

/// Messages that may come before the one that is waited for.
const MOST_MESSAGES: usize = 1000;

const SCHEMES: &[&str] = &["postgres", "postgresql"];
const PORT: u16 = 5432;

/// Connections by state, and the age of the oldest transaction of each. Whoever may not see a session sees it without a state.
const QUERY: &str = "SELECT coalesce(state, 'hidden'), count(*), \
    coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0), current_setting('max_connections'), \
    pg_is_in_recovery()::int FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL GROUP BY 1";

/// States that are shown with 0 where no session is in them.
const STATES: &[&str] =
    &["active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled"];

/// How the connection is made safe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Not at all.
    #[default]
    Disable,
    /// By TLS, or there is no connection.
    Require,
}

/// `[probe.postgres]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// `postgres://USER@HOST[:PORT]/DATABASE`.
    pub url: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// Whether TLS is spoken.
    pub tls_mode: TlsMode,
    /// Whom it trusts.
    pub tls: TlsSection,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            url: "postgres://postgres@127.0.0.1:5432/postgres".to_owned(),
            password_file: PathBuf::new(),
            tls_mode: TlsMode::Disable,
            tls: TlsSection::default(),
        }
    }
}

impl Postgres {
    fn url(&self) -> Result<(Url<'_>, &str), String> {
        let url = dial::url(&self.url, SCHEMES)?;
        let database = url.rest.strip_prefix('/').unwrap_or_default();
        if url.user.is_empty() || database.is_empty() || database.contains(['/', '?', '\0']) || url.user.contains('\0') {
            return Err("must be postgres://USER@HOST[:PORT]/DATABASE".to_owned());
        }
        Ok((url, database))
    }
}

impl Look for Postgres {
    fn target(&self) -> String {
        self.url().map(|(url, database)| format!("{}/{database}", url.shown(PORT))).unwrap_or_default()
    }

    fn check(&self, faults: &mut Faults) {
        if let Err(why) = self.url() {
            faults.add("url", why);
        }
        self.tls.check(faults);
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let up = "Whether the PostgreSQL server answered a query.";
            run.found.gauge("pg_up", up, 0.0);
            let (url, database) = self.url()?;
            let place = Place { host: url.host, port: url.port.unwrap_or(PORT), tls: None };
            let (mut stream, _) = dial::connect_plain(run, place).await?;
            let stream: daemon::client::Stream = match self.tls_mode {
                TlsMode::Disable => Box::new(stream),
                TlsMode::Require => {
                    run.found.stage("the answer to the wish for TLS");
                    let broke = |error| format!("the connection broke: {error}");
                    stream.write_all(&protocol::ssl_request()).await.map_err(broke)?;
                    match stream.read_u8().await.map_err(broke)? {
                        b'S' => dial::secure(run, place, &self.tls, stream).await?,
                        b'N' => return Err("it speaks no TLS; set `ssl = on` there, or tls_mode = \"disable\"".into()),
                        _ => return Err("what answers is no PostgreSQL".to_owned()),
                    }
                }
            };
            let mut talk = Talk::new(stream, MOST);
            run.found.stage("the authentication");
            talk.send(&protocol::startup(url.user, database)).await?;
            self.sign_in(run, &mut talk, url.user).await?;
            run.found.stage("the answer to the query");
            talk.send(&protocol::query(QUERY)).await?;
            let rows = rows(&mut talk).await?;
            // Whoever is gone without a word is a line in the server's log.
            let _ = talk.send(&protocol::terminate()).await;
            let Some([_, _, _, most, recovers]) = rows.first().and_then(|row| row.as_array::<5>()) else {
                return Err("BUG: the query gave no row of five columns".to_owned());
            };
            let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
            run.found.gauge("pg_up", up, 1.0);
            if let Some(most) = number(most) {
                run.found.gauge("pg_settings_max_connections", "Connections that the server allows.", most);
            }
            if let Some(recovers) = number(recovers) {
                let help = "Whether the server is a replica.";
                run.found.gauge("pg_replication_is_replica", help, recovers);
            }
            let there = |state: &str| rows.iter().find(|row| row.first().is_some_and(|of| of == state));
            let others = rows.iter().filter_map(|row| row.first()).filter(|state| !STATES.contains(&state.as_str()));
            let states: Vec<&str> = STATES.iter().copied().chain(others.map(String::as_str)).collect();
            let value = |state: &str, at: usize| there(state).map_or(Some(0.0), |row| row.get(at).and_then(|v| number(v)));
            for (at, name, help) in [
                (1, "pg_stat_activity_count", "Connections to the databases by state; hidden: not for us to see."),
                (2, "pg_stat_activity_max_tx_duration", "How long the oldest transaction lasts, in seconds, by state."),
            ] {
                for state in &states {
                    if let Some(value) = value(state, at) {
                        run.found.labelled(name, help, ("state", *state), value);
                    }
                }
            }
            Ok(())
        })
    }
}

impl Postgres {
    async fn sign_in(&self, run: &Run<'_>, talk: &mut Talk, user: &str) -> Result<(), String> {
        let mut password: Option<String> = None;
        let mut scram: Option<Scram> = None;
        for _ in 0..MOST_MESSAGES {
            let message = talk.take(protocol::message).await?;
            let wish = match message.kind {
                b'R' => protocol::authentication(&message.body)?,
                b'E' => return Err(protocol::refusal(&message.body)),
                // Whoever asked for a proof and gives none does not know the password.
                b'Z' if scram.is_some() => {
                    return Err("the server does not prove that it knows the password: it is another one".to_owned());
                }
                b'Z' => return Ok(()),
                // Settings, and the key for cancelling.
                b'S' | b'K' | b'N' | b'v' => continue,
                _ => return Err("what answers is no PostgreSQL".to_owned()),
            };
            if wish == Authentication::Well {
                continue;
            }
            let password: &str = match &password {
                Some(known) => known,
                None if is_given(&self.password_file) => {
                    password.insert(dial::secret(run, "password_file", &self.password_file).await?)
                }
                None => return Err("it wants a password; name its file by `password_file`".to_owned()),
            };
            match wish {
                Authentication::Well => {}
                Authentication::Md5(salt) => {
                    talk.send(&protocol::password(md5::answer(user, password, salt).as_bytes(), true)).await?;
                }
                Authentication::Clear if self.tls_mode == TlsMode::Require => {
                    talk.send(&protocol::password(password.as_bytes(), true)).await?;
                }
                Authentication::Clear => {
                    return Err("it wants the password in clear text, which is sent over TLS only: set \
                        tls_mode = \"require\", or scram-sha-256 in pg_hba.conf"
                        .to_owned());
                }
                Authentication::Scram => {
                    let begun = scram.insert(Scram::new(&uuid::Uuid::new_v4().simple().to_string()));
                    talk.send(&protocol::scram_first(&begun.first())).await?;
                }
                Authentication::ScramGoesOn(challenge) => {
                    let begun = scram.take().ok_or("it answers a question of SCRAM that was not asked")?;
                    let password = password.to_owned();
                    // Thousands of rounds of hashing, by the server's choice.
                    let answered = tokio::task::spawn_blocking(move || begun.answer(&challenge, &password));
                    let (text, begun) =
                        answered.await.map_err(|panic| format!("BUG: SCRAM failed: {panic}"))??;
                    scram = Some(begun);
                    talk.send(&protocol::password(text.as_bytes(), false)).await?;
                }
                Authentication::ScramEnds(proof) => {
                    scram.take().ok_or("it answers a question of SCRAM that was not asked")?.is_proof(&proof)?;
                }
            }
        }
        Err(format!("it said {MOST_MESSAGES} things without letting us in"))
    }
}

/// The rows of a query's answer.
async fn rows(talk: &mut Talk) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    for _ in 0..MOST_MESSAGES {
        let message = talk.take(protocol::message).await?;
        match message.kind {
            b'D' => rows.push(protocol::row(&message.body)?),
            b'E' => return Err(protocol::refusal(&message.body)),
            b'Z' => return Ok(rows),
            _ => {}
        }
    }
    Err(format!("it said {MOST_MESSAGES} things without coming to an end"))
}

/// For fuzzing.
pub(super) fn read_anything(data: &[u8]) {
    if let Ok(Some((message, length))) = protocol::message(data) {
        assert!(length <= data.len());
        let _ = protocol::authentication(&message.body);
        let _ = protocol::row(&message.body);
        assert!(!protocol::refusal(&message.body).is_empty());
    }
    let _ = Scram::new("nonce").answer(data, "password");
}
