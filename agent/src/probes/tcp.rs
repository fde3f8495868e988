//! A TCP port: it takes connections, speaks TLS, and says what it should.

use serde::{Deserialize, Serialize};

use super::dial::{self, Place, TlsSection, Url};
use super::talk::Talk;
use super::{Asking, Faults, Look, Run};
use crate::pattern::Pattern;

/// The longest line that is waited for.
const MOST: usize = 64 << 10;

/// Lines that are read in search of one that matches.
const MOST_LINES: usize = 1000;

const SCHEMES: &[&str] = &["tcp", "tls"];

/// `[probe.tcp]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// `tcp://HOST:PORT`, or `tls://HOST:PORT`.
    pub url: String,
    /// What is said and heard, in order.
    pub query_response: Vec<Step>,
    /// Whom it trusts.
    pub tls: TlsSection,
}

/// A step of a dialogue: first `expect`, then `send`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// Lines are read until one matches.
    pub expect: Pattern,
    /// A line that is sent; `\n` is put to it.
    pub send: String,
}

impl Tcp {
    fn url(&self) -> Result<(Url<'_>, u16), String> {
        let url = dial::url(&self.url, SCHEMES)?;
        match url.port {
            Some(port) if url.user.is_empty() && matches!(url.rest, "" | "/") => Ok((url, port)),
            _ => Err("must be tcp://HOST:PORT or tls://HOST:PORT".to_owned()),
        }
    }
}

impl Look for Tcp {
    fn target(&self) -> String {
        self.url().map(|(url, port)| url.shown(port)).unwrap_or_default()
    }

    fn check(&self, faults: &mut Faults) {
        if let Err(why) = self.url() {
            faults.add("url", why);
        }
        self.tls.check(faults);
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let (url, port) = self.url()?;
            let place = Place { host: url.host, port, tls: (url.scheme == "tls").then_some(&self.tls) };
            let (stream, _) = dial::connect(run, place).await?;
            if self.query_response.is_empty() {
                return Ok(());
            }
            let mut talk = Talk::new(stream, MOST);
            let help = "Whether the probe failed because of what the answer says or does not say.";
            run.found.gauge("probe_failed_due_to_regex", help, 0.0);
            for step in &self.query_response {
                if !step.expect.as_str().is_empty() {
                    run.found.stage("the expected line");
                    if let Err(why) = heard(&mut talk, &step.expect).await {
                        run.found.gauge("probe_failed_due_to_regex", help, 1.0);
                        return Err(format!("no line matched {:?}: {why}", step.expect.as_str()));
                    }
                }
                if !step.send.is_empty() {
                    talk.send(format!("{}\n", step.send).as_bytes()).await?;
                }
            }
            Ok(())
        })
    }
}

async fn heard(talk: &mut Talk, wanted: &Pattern) -> Result<(), String> {
    for _ in 0..MOST_LINES {
        let line = talk.take(|bytes| Ok(line(bytes))).await?;
        if wanted.matches(&line) {
            return Ok(());
        }
    }
    Err(format!("it said {MOST_LINES} others"))
}

/// A line without its end, and the length with it.
fn line(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes.get(..end)?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some((String::from_utf8_lossy(line).into_owned(), end + 1))
}

