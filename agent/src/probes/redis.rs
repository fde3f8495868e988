//! A Redis server: PING and INFO, under redis_exporter's names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dial::{self, Place, TlsSection, Url, is_given};
use super::talk::Talk;
use super::{Asking, Faults, Look, Run};
use crate::snapshot::MetricType;

/// The longest answer that is taken. INFO has a few kilobytes.
const MOST: usize = 256 << 10;

const SCHEMES: &[&str] = &["redis", "rediss"];
const PORT: u16 = 6379;

/// Fields of INFO that are shown: field, name, help, type.
const FIELDS: &[(&str, &str, &str, MetricType)] = &[
    ("uptime_in_seconds", "redis_uptime_in_seconds", "Since when the server runs.", MetricType::Gauge),
    ("connected_clients", "redis_connected_clients", "Clients that are connected.", MetricType::Gauge),
    ("blocked_clients", "redis_blocked_clients", "Clients that wait for something.", MetricType::Gauge),
    ("maxclients", "redis_max_clients", "Clients that may be connected.", MetricType::Gauge),
    ("used_memory", "redis_memory_used_bytes", "Memory of the data and all around it.", MetricType::Gauge),
    ("used_memory_rss", "redis_memory_used_rss_bytes", "Memory as the kernel sees it.", MetricType::Gauge),
    ("maxmemory", "redis_memory_max_bytes", "What the data may take; 0 where there is no bound.", MetricType::Gauge),
    ("instantaneous_ops_per_sec", "redis_instantaneous_ops_per_sec", "Commands a second.", MetricType::Gauge),
    ("total_commands_processed", "redis_commands_processed_total", "Commands that were run.", MetricType::Counter),
    ("rejected_connections", "redis_rejected_connections_total", "Clients too many.", MetricType::Counter),
    ("evicted_keys", "redis_evicted_keys_total", "Keys that went because of the bound.", MetricType::Counter),
    ("keyspace_hits", "redis_keyspace_hits_total", "Keys that were looked for and there.", MetricType::Counter),
    ("keyspace_misses", "redis_keyspace_misses_total", "Keys that were looked for in vain.", MetricType::Counter),
];

/// `[probe.redis]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://HOST[:PORT]`, or `rediss://` for TLS.
    pub url: String,
    /// Who asks; the default user where absent.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// Whom it trusts.
    pub tls: TlsSection,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            tls: TlsSection::default(),
        }
    }
}

impl Redis {
    fn url(&self) -> Result<Url<'_>, String> {
        let url = dial::url(&self.url, SCHEMES)?;
        let plain = url.user.is_empty() && matches!(url.rest, "" | "/");
        if plain { Ok(url) } else { Err("must be redis://HOST[:PORT] or rediss://HOST[:PORT]".to_owned()) }
    }
}

impl Look for Redis {
    fn target(&self) -> String {
        self.url().map(|url| url.shown(PORT)).unwrap_or_default()
    }

    fn check(&self, faults: &mut Faults) {
        if let Err(why) = self.url() {
            faults.add("url", why);
        }
        if !self.username.is_empty() && !is_given(&self.password_file) {
            faults.add("password_file", "a username needs a password beside it");
        }
        self.tls.check(faults);
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let up = "Whether the Redis server answered.";
            run.found.gauge("redis_up", up, 0.0);
            let url = self.url()?;
            let place = Place {
                host: url.host,
                port: url.port.unwrap_or(PORT),
                tls: (url.scheme == "rediss").then_some(&self.tls),
            };
            let password = match is_given(&self.password_file) {
                true => Some(dial::secret(run, "password_file", &self.password_file).await?),
                false => None,
            };
            let (stream, _) = dial::connect(run, place).await?;
            let mut talk = Talk::new(stream, MOST);
            run.found.stage("the answer");
            if let Some(password) = &password {
                let words: &[&str] = match self.username.as_str() {
                    "" => &["AUTH", password],
                    user => &["AUTH", user, password],
                };
                ask(&mut talk, words).await.map_err(|why| format!("AUTH: {why}"))?;
            }
            let pong = ask(&mut talk, &["PING"]).await?;
            if pong != b"PONG" {
                return Err("PING is not answered with PONG".to_owned());
            }
            run.found.gauge("redis_up", up, 1.0);
            let info = ask(&mut talk, &["INFO"]).await.map_err(|why| format!("INFO: {why}"))?;
            for (field, value) in fields(&info) {
                if let Some((_, name, help, kind)) = FIELDS.iter().find(|(known, ..)| *known == field) {
                    match kind {
                        MetricType::Counter => run.found.counter(name, help, value),
                        _ => run.found.gauge(name, help, value),
                    }
                }
            }
            Ok(())
        })
    }
}

async fn ask(talk: &mut Talk, words: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    talk.send(command.as_bytes()).await?;
    talk.take(reply).await?
}

/// A reply: a text, or what the server says of a fault.
type Reply = Result<Vec<u8>, String>;

/// A reply of the protocol RESP at the beginning of these bytes, and its length.
fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let no = || "what it answers is not Redis' protocol".to_owned();
    let Some(kind) = bytes.first() else { return Ok(None) };
    if !b"+-$:".contains(kind) {
        return Err(no());
    }
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > 4096 { Err(no()) } else { Ok(None) };
    };
    let line = bytes.get(1..end).unwrap_or_default();
    let after = end + 2;
    Ok(match kind {
        b'-' => Some((Err(refusal(line)), after)),
        b'$' => {
            let length = std::str::from_utf8(line).ok().and_then(|length| length.parse::<i64>().ok()).ok_or_else(no)?;
            let Ok(length) = usize::try_from(length) else { return Ok(Some((Ok(Vec::new()), after))) };
            if length > MOST {
                return Err(format!("its answer is longer than {MOST} bytes"));
            }
            match bytes.get(after..after + length + 2) {
                None => None,
                Some(text) => match text.strip_suffix(b"\r\n") {
                    Some(text) => Some((Ok(text.to_vec()), after + length + 2)),
                    None => return Err(no()),
                },
            }
        }
        _ => Some((Ok(line.to_vec()), after)),
    })
}

/// What an error means, by its first word. The rest is left out: it may repeat what was sent.
fn refusal(line: &[u8]) -> String {
    match line.split(|byte| *byte == b' ').next().unwrap_or_default() {
        b"NOAUTH" => "it wants a password; name its file by `password_file`".to_owned(),
        b"WRONGPASS" => "it refuses the user or the password".to_owned(),
        b"NOPERM" => "the user may not do this; allow it +ping and +info".to_owned(),
        b"DENIED" => "its protected mode lets nobody in from here".to_owned(),
        b"LOADING" => "it is loading its data".to_owned(),
        b"BUSY" => "a script keeps it busy".to_owned(),
        b"MASTERDOWN" => "it has lost its master".to_owned(),
        b"ERR" if line.starts_with(b"ERR max number of clients") => "it has as many clients as it may".to_owned(),
        b"ERR" if line.starts_with(b"ERR Client sent AUTH") || line.starts_with(b"ERR AUTH") => {
            "it has no password; take `password_file` away".to_owned()
        }
        word => format!("it refuses ({})", String::from_utf8_lossy(word.get(..20).unwrap_or(word)).escape_debug()),
    }
}

/// Names and numbers of INFO.
fn fields(info: &[u8]) -> Vec<(&str, f64)> {
    let lines = info.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines
        .filter_map(|line| {
            let (name, value) = line.trim_end().split_once(':')?;
            let value: f64 = value.parse().ok()?;
            value.is_finite().then_some((name, value))
        })
        .collect()
}

/// For fuzzing.
pub(super) fn read_anything(data: &[u8]) {
    if let Ok(Some((reply, length))) = reply(data) {
        assert!(length <= data.len() && reply.as_ref().map_or(0, Vec::len) <= data.len());
    }
    fields(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_when_they_are_whole() {
        assert_eq!(reply(b"+PONG\r\nx"), Ok(Some((Ok(b"PONG".to_vec()), 7))));
        assert_eq!(reply(b"$5\r\na\r\nb \r\n"), Ok(Some((Ok(b"a\r\nb ".to_vec()), 11))));
        assert_eq!(reply(b"$-1\r\n"), Ok(Some((Ok(Vec::new()), 5))));
        for part in [&b""[..], b"+PON", b"$5\r\na\r\nb", b"$5\r\na\r\nb \r"] {
            assert_eq!(reply(part), Ok(None));
        }
        for wrong in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"$3\r\nabcde", b"$999999999\r\n", &[b'+'; 5000]] {
            assert!(reply(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_an_error_repeats_is_not_said() {
        let (reply, _) = reply(b"-ERR unknown command 'hush', with args\r\n").unwrap().unwrap();
        assert_eq!(reply, Err("it refuses (ERR)".to_owned()));
        let wrong = refusal(b"WRONGPASS invalid username-password pair or user is disabled.");
        assert_eq!(wrong, "it refuses the user or the password");
    }

    #[test]
    fn numbers_of_info_are_read() {
        let info = b"# Memory\r\nused_memory:1024\r\nused_memory_human:1K\r\nmaxmemory:0\r\n\r\nrole:master\r\n";
        assert_eq!(fields(info), [("used_memory", 1024.0), ("maxmemory", 0.0)]);
    }
}
