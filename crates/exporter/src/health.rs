//! Whether the tier works, for `/readyz`, and the HTTP server for it.

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
    sink: Option<String>,
    broker: Option<String>,
    spool: Option<String>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Parts {
            sink: Some("the store is not open yet".to_owned()),
            broker: Some("not connected to the broker yet".to_owned()),
            spool: None,
        })))
    }

    pub(crate) fn sink(&self, fault: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sink = fault;
    }

    pub(crate) fn broker(&self, fault: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).broker = fault;
    }

    pub(crate) fn spool(&self, fault: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spool = fault;
    }

    /// What is in the way at the broker.
    pub(crate) fn broker_fault(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).broker.clone()
    }

    /// One line for each thing in the way; empty when ready.
    pub(crate) fn faults(&self) -> Vec<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        [&parts.sink, &parts.broker, &parts.spool].into_iter().flatten().cloned().collect()
    }
}

/// Answers `/metrics`, `/healthz`, `/readyz` and, with a list of them, `/`.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) title: String,
}

impl Handler for Pages {
    async fn handle(&self, request: Request) -> Response {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return http::method_not_allowed("GET, HEAD");
        }
        match request.path.as_str() {
            "/metrics" => http::content(StatusCode::OK, OPEN_METRICS, self.metrics.encode()),
            "/healthz" => http::text(StatusCode::OK, "ok"),
            "/readyz" => match self.health.faults() {
                faults if faults.is_empty() => http::text(StatusCode::OK, "ready"),
                faults => http::text(StatusCode::SERVICE_UNAVAILABLE, faults.join("\n")),
            },
            "/" => http::text(StatusCode::OK, format!("{}\n/metrics\n/healthz\n/readyz", self.title)),
            path => http::text(
                StatusCode::NOT_FOUND,
                format!("there is no {path} here; there are /metrics, /healthz, /readyz"),
            ),
        }
    }
}
