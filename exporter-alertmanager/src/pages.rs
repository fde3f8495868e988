//! Whether it works, for `/readyz`, and its pages.

use std::sync::{Arc, Mutex, PoisonError};

use daemon::http::{self, Handler, Method, Request, Response, StatusCode};

use crate::metrics::Metrics;

/// OpenMetrics' type, which is what prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is in the way, if anything is. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Health(Arc<Mutex<Parts>>);

#[derive(Debug)]
struct Parts {
    broker: Option<String>,
    alertmanagers: Vec<Option<String>>,
}

impl Health {
    pub(crate) fn new(alertmanagers: usize) -> Self {
        Self(Arc::new(Mutex::new(Parts {
            broker: Some("not connected to the broker yet".to_owned()),
            alertmanagers: vec![None; alertmanagers],
        })))
    }

    /// Whether that is new.
    pub(crate) fn broker(&self, fault: Option<String>) -> bool {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = parts.broker != fault;
        parts.broker = fault;
        is_new
    }

    /// Whether that is new.
    pub(crate) fn alertmanager(&self, index: usize, fault: Option<String>) -> bool {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = parts.alertmanagers.get_mut(index) else { return false };
        let is_new = *place != fault;
        *place = fault;
        is_new
    }

    /// One line for each thing in the way; empty when ready. One Alertmanager of several is enough.
    fn faults(&self) -> Vec<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let down: Vec<_> = parts.alertmanagers.iter().flatten().cloned().collect();
        let down = if down.len() == parts.alertmanagers.len() { down } else { Vec::new() };
        parts.broker.iter().cloned().chain(down).collect()
    }
}

/// Answers `/metrics`, `/healthz`, `/readyz` and, with a list of them, `/`.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
}

impl Handler for Pages {
    async fn handle(&self, request: Request) -> Response {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return http::method_not_allowed("GET, HEAD");
        }
        let title = concat!("utilizer-exporter-alertmanager ", env!("CARGO_PKG_VERSION"));
        match request.path.as_str() {
            "/metrics" => http::content(StatusCode::OK, OPEN_METRICS, self.metrics.encode()),
            "/healthz" => http::text(StatusCode::OK, "ok"),
            "/readyz" => match self.health.faults() {
                faults if faults.is_empty() => http::text(StatusCode::OK, "ready"),
                faults => http::text(StatusCode::SERVICE_UNAVAILABLE, faults.join("\n")),
            },
            "/" => http::text(StatusCode::OK, format!("{title}\n/metrics\n/healthz\n/readyz")),
            path => http::text(
                StatusCode::NOT_FOUND,
                format!("there is no {path} here; there are /metrics, /healthz, /readyz"),
            ),
        }
    }
}
