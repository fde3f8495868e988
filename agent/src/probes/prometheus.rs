//! A Prometheus server: it says that it is well and ready.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::dial::TlsSection;
use super::web::{self, Asked};
use super::{Asking, Faults, Look, Run};

/// What is read of an answer.
const MOST: usize = 4096;

/// `[probe.prometheus]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prometheus {
    /// The server.
    pub url: String,
    /// Who asks.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
    /// A file whose first line is a token.
    pub bearer_token_file: PathBuf,
    /// Whom it trusts.
    pub tls: TlsSection,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:9090".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
            bearer_token_file: PathBuf::new(),
            tls: TlsSection::default(),
        }
    }
}

impl Look for Prometheus {
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
            // The second is 503 while it reads its log after a start, or stops.
            for below in ["healthy", "ready"] {
                let url = format!("{}/-/{below}", self.url.trim_end_matches('/'));
                let asked = Asked {
                    url: &url,
                    username: &self.username,
                    password_file: web::given(&self.password_file),
                    bearer_token_file: web::given(&self.bearer_token_file),
                    tls: Some(&self.tls),
                    most: MOST,
                    ..Asked::default()
                };
                let response = web::ask(run, asked).await?;
                web::well(&response).map_err(|why| format!("/-/{below}: {why}"))?;
            }
            Ok(())
        })
    }
}
