//! A Grafana server: it answers, and has its database.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dial::TlsSection;
use super::web::{self, Asked};
use super::{Asking, Faults, Look, Run};

/// What is read of an answer.
const MOST: usize = 4096;

/// `[probe.grafana]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grafana {
    /// The server.
    pub url: String,
    /// Whom it trusts.
    pub tls: TlsSection,
}

impl Default for Grafana {
    fn default() -> Self {
        Self { url: "http://127.0.0.1:3000".to_owned(), tls: TlsSection::default() }
    }
}

impl Look for Grafana {
    fn target(&self) -> String {
        web::shown(&self.url)
    }

    fn check(&self, faults: &mut Faults) {
        web::check_url(&self.url, faults);
        self.tls.check(faults);
    }

    fn run<'a>(&'a self, run: &'a mut Run<'_>) -> Asking<'a> {
        Box::pin(async move {
            let url = format!("{}/api/health", self.url.trim_end_matches('/'));
            let asked = Asked { url: &url, tls: Some(&self.tls), most: MOST, follow: true, ..Asked::default() };
            let response = web::ask(run, asked).await?;
            // It answers 503 with the same JSON where its database is away.
            let health: Option<Value> = serde_json::from_slice(&response.body).ok();
            let database = health.as_ref().and_then(|health| health.get("database")).and_then(Value::as_str);
            let help = "Whether Grafana says that its database is well.";
            run.found.gauge("grafana_database_up", help, f64::from(database == Some("ok")));
            match database {
                Some("ok") => web::well(&response),
                Some(_) => Err("it says that its database is not well; see its log".to_owned()),
                None => Err(match web::well(&response) {
                    Err(why) => format!("/api/health: {why}"),
                    Ok(()) => "what answers /api/health is no Grafana".to_owned(),
                }),
            }
        })
    }
}
