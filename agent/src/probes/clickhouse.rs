//! A ClickHouse server, over its HTTP interface: it is there, and answers a query.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dial::{self, TlsSection};
use super::web::{self, Asked};
use super::{Asking, Faults, Look, Run};

/// What is read of an answer.
const MOST: usize = 4096;

/// `[probe.clickhouse]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouse {
    /// Its HTTP interface.
    pub url: String,
    /// Who asks; `default` where absent.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// Whether `SELECT 1` is asked besides `/ping`.
    pub query: bool,
    /// Whom it trusts.
    pub tls: TlsSection,
}

impl Default for ClickHouse {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            query: true,
            tls: TlsSection::default(),
        }
    }
}

impl Look for ClickHouse {
    fn target(&self) -> String {
        web::shown(&self.url)
    }

    fn check(&self, faults: &mut Faults) {
        web::check_url(&self.url, faults);
        faults.pair(&self.username, &self.password_file);
        self.tls.check(faults);
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let help = "Whether the ClickHouse server answered.";
            run.found.gauge("clickhouse_up", help, 0.0);
            let base = self.url.trim_end_matches('/');
            let url = format!("{base}/ping");
            let asked = Asked { url: &url, tls: Some(&self.tls), most: MOST, ..Asked::default() };
            let response = web::ask(run, asked).await?;
            web::well(&response)?;
            if !response.body.starts_with(b"Ok.") {
                return Err("what answers /ping is no ClickHouse".to_owned());
            }
            if self.query {
                let mut headers = Vec::new();
                if !self.username.is_empty() {
                    headers.push(("x-clickhouse-user", self.username.clone()));
                }
                if let Some(file) = web::given(&self.password_file) {
                    headers.push(("x-clickhouse-key", dial::secret(run, "password_file", file).await?));
                }
                let url = format!("{base}/?query=SELECT%201");
                let asked = Asked { url: &url, headers, tls: Some(&self.tls), most: MOST, ..Asked::default() };
                let response = web::ask(run, asked).await?;
                if !response.is_success() {
                    // Its own code says more than the status, and holds no secret.
                    let code = response.headers.get("x-clickhouse-exception-code").and_then(|code| code.to_str().ok());
                    let fault = response.fault().unwrap_or_default();
                    return Err(match code {
                        Some("194" | "516") => "it refuses the user or the password".to_owned(),
                        Some(code) => format!("SELECT 1 fails with its error {code}: {fault}"),
                        None => format!("SELECT 1 fails: {fault}"),
                    });
                }
                if response.body.trim_ascii() != b"1" {
                    return Err("SELECT 1 is not answered with 1".to_owned());
                }
            }
            run.found.gauge("clickhouse_up", help, 1.0);
            Ok(())
        })
    }
}
