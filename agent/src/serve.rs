//! The agent's HTTP server: `/metrics`, health, the landing page, pushes.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use daemon::http::{
    Gzip, Handler, Method, Request, Response, StatusCode, accepts_gzip, content, gzipped, header, method_not_allowed,
    pairs, text,
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use wire::{Kind, Timestamp};

use crate::collectors::{self, CollectorSettings, State};
use crate::config::Config;
use crate::exposition::{self, Choice, Format, Order};
use crate::gauges;
use crate::logs as log_inputs;
use crate::notify;
use crate::outbox::{Counts, Post, PutError};
use crate::own_process::OwnProcess;
use crate::probes;
use crate::publisher::Link;
use crate::push::{BodyFault, logs, pipeline};
use crate::rules::{self, QueryError};
use crate::sampler::{Handle, Reading};
use crate::scrape;
use crate::snapshot::{Families, Labels, Section};

/// Bodies up to this size are read at once; all connections together hold few megabytes of them.
const SMALL_BODY: u64 = 64 << 10;

/// Larger bodies that are read at the same time. The others wait in their sockets: hundreds at once would make the agent
/// hundreds of megabytes large, and what a process once had it seldom gives back.
const LARGE_BODIES: usize = 4;

/// How long a large body waits for its turn.
const TURN_TIME: Duration = Duration::from_secs(10);

/// A page of metrics seldom has more. What a larger one needed is given back after it.
const KEPT_TEXT: usize = 1 << 20;

/// Seconds since 1970: the year 9999.
const LATEST: f64 = 253_402_300_800.0;

/// Everything that an answer is made of.
pub struct Server {
    sampler: Handle,
    config: watch::Receiver<Arc<Config>>,
    /// `None` where `mqtt.enabled` is false.
    publishing: Option<Publishing>,
    rules: OnceLock<rules::Handle>,
    notify: OnceLock<notify::Handle>,
    probes: OnceLock<probes::Shared>,
    scrape: OnceLock<scrape::Handle>,
    logs: OnceLock<log_inputs::Handle>,
    scrapes: Mutex<Scrapes>,
    in_flight: AtomicU64,
    pushed: [AtomicU64; 2],
    pushed_logs: logs::Pushed,
    push_refused: [AtomicU64; 2],
    large_bodies: Semaphore,
}

/// The codes that `/metrics` answers with, under which node_exporter counts its answers.
const ANSWERS: [(StatusCode, &str); 3] =
    [(StatusCode::OK, "200"), (StatusCode::INTERNAL_SERVER_ERROR, "500"), (StatusCode::SERVICE_UNAVAILABLE, "503")];

/// What scrapes share: buffers, and counters about them.
struct Scrapes {
    own: OwnProcess,
    /// What is told besides the snapshot.
    derived: Families,
    order: Order,
    text: Vec<u8>,
    gzip: Gzip,
    answers: [u64; ANSWERS.len()],
}

impl Scrapes {
    fn count(&mut self, code: StatusCode) {
        if let Some(at) = ANSWERS.iter().position(|(counted, _)| *counted == code) {
            self.answers[at] += 1;
        }
    }
}

/// One more in flight, for as long as it lives: a scraper may hang up in the middle.
struct InFlight<'a>(&'a AtomicU64);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way to the broker.
pub struct Publishing {
    /// Where pushed records go.
    pub post: Post,
    /// How the connection is.
    pub link: watch::Receiver<Link>,
}

#[derive(Clone, Copy)]
enum Push {
    Logs,
    Pipeline,
}

impl Push {
    const ALL: [Push; 2] = [Push::Logs, Push::Pipeline];

    fn kind(self) -> Kind {
        match self {
            Push::Logs => Kind::Logs,
            Push::Pipeline => Kind::Pipeline,
        }
    }
}

impl Handler for Server {
    async fn handle(&self, request: Request) -> Response {
        match (request.path.as_str(), &request.method) {
            ("/v1/logs", &Method::POST) => self.push(Push::Logs, request).await,
            ("/v1/pipeline", &Method::POST) => self.push(Push::Pipeline, request).await,
            ("/v1/logs" | "/v1/pipeline", _) => method_not_allowed("POST"),
            (path, _) if notify::is_path(path) => match self.notify.get() {
                Some(notify) => notify::Api(notify).handle(request).await,
                None => text(StatusCode::SERVICE_UNAVAILABLE, "the agent is starting"),
            },
            (path, &Method::GET | &Method::HEAD) => match path {
                "/" => self.landing(),
                "/metrics" => self.metrics(&request).await,
                "/api/v1/query" => self.query(&request).await,
                "/api/v1/probes" => self.probe_states(),
                "/api/v1/targets" => self.targets(),
                "/healthz" => text(StatusCode::OK, "ok"),
                "/readyz" => self.ready(),
                _ => text(StatusCode::NOT_FOUND, "nothing here; / lists what there is"),
            },
            ("/" | "/metrics" | "/api/v1/query" | "/api/v1/probes" | "/api/v1/targets" | "/healthz" | "/readyz", _) => {
                method_not_allowed("GET, HEAD")
            }
            _ => text(StatusCode::NOT_FOUND, "nothing here; / lists what there is"),
        }
    }
}

impl Server {
    /// Over the parts of a running agent.
    pub fn new(sampler: Handle, config: watch::Receiver<Arc<Config>>, publishing: Option<Publishing>) -> Self {
        let own = OwnProcess::new(&config.borrow().root);
        let scrapes = Scrapes {
            own,
            derived: Families::default(),
            order: Order::default(),
            text: Vec::new(),
            gzip: Gzip::default(),
            answers: [0; ANSWERS.len()],
        };
        let pushed_logs = logs::Pushed::new(&config.borrow().logs.push);
        Self {
            sampler,
            config,
            publishing,
            rules: OnceLock::new(),
            notify: OnceLock::new(),
            probes: OnceLock::new(),
            scrape: OnceLock::new(),
            logs: OnceLock::new(),
            scrapes: Mutex::new(scrapes),
            in_flight: AtomicU64::new(0),
            pushed: Default::default(),
            pushed_logs,
            push_refused: Default::default(),
            large_bodies: Semaphore::new(LARGE_BODIES),
        }
    }

    /// Says who evaluates.
    pub fn evaluates(&self, rules: rules::Handle) {
        // Once, before anything is served.
        let _ = self.rules.set(rules);
    }

    /// Says who sends notifications.
    pub fn notifies(&self, notify: notify::Handle) {
        // Likewise.
        let _ = self.notify.set(notify);
    }

    /// Says what probes.
    pub fn probes(&self, probes: probes::Shared) {
        let _ = self.probes.set(probes);
    }

    /// How each probe's last run ended, and why.
    fn probe_states(&self) -> Response {
        let states = self.probes.get().map(probes::Shared::states).unwrap_or_default();
        match serde_json::to_vec(&serde_json::json!({"status": "success", "data": states})) {
            Ok(body) => content(StatusCode::OK, "application/json", body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("BUG: {error}")),
        }
    }

    /// Who is scraped, and why somebody is down.
    fn targets(&self) -> Response {
        match self.scrape.get() {
            Some(scrape) => content(StatusCode::OK, "application/json", scrape.json().to_string()),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the agent is starting"),
        }
    }

    /// Says who scrapes.
    pub fn scrapes(&self, scrape: scrape::Handle) {
        // Likewise.
        let _ = self.scrape.set(scrape);
    }

    /// Says who reads logs.
    pub fn reads_logs(&self, logs: log_inputs::Handle) {
        // Likewise.
        let _ = self.logs.set(logs);
    }

    /// What is told besides the snapshot: what was derived from it, and the agent about itself.
    pub fn describe_all(&self, reading: &Reading, out: &mut Families) {
        gauges::expose(&reading.gauges, out);
        out.section(Section::Of(collectors::PROCESSES));
        gauges::expose_processes(reading.processes.as_deref().unwrap_or_default(), out);
        self.describe(reading, out);
    }

    /// Prometheus' instant query, over what is kept for rules and over the last reading.
    async fn query(&self, request: &Request) -> Response {
        if !request.peer.is_local() && !request.authenticated {
            // Rules wait while a query is evaluated: scrapers may read everything, but not have that.
            let why = format!(
                "{} may not query: only programs on this host may, over loopback or the Unix socket, and peers that prove \
                 who they are (`serve.web_config_file`)",
                request.peer
            );
            return json(StatusCode::FORBIDDEN, &rules::fault("forbidden", &why));
        }
        let mut text = None;
        let mut time = None;
        for (name, value) in pairs(request.query.as_deref().unwrap_or_default()) {
            match &*name {
                "query" => text = Some(value),
                "time" => time = Some(value),
                _ => {}
            }
        }
        let bad = |why: &str| json(StatusCode::BAD_REQUEST, &rules::fault("bad_data", why));
        let at = match time.map(|time| time.parse::<f64>()) {
            None => None,
            Some(Ok(seconds)) if seconds.abs() < LATEST => Some((seconds * 1000.0) as i64),
            Some(_) => return bad("`time` is not a number of seconds since 1970"),
        };
        let Some(text) = text else { return bad("`query` is missing: /api/v1/query?query=up") };
        let expr = match ::rules::parse(&text) {
            Ok(expr) => expr,
            Err(error) => {
                let (line, column) = error.line_column(&text);
                return bad(&format!("{line}:{column}: {error}"));
            }
        };
        let Some(evaluating) = self.rules.get() else {
            return json(StatusCode::SERVICE_UNAVAILABLE, &rules::fault("unavailable", "the agent is starting"));
        };
        let now = Timestamp::from(SystemTime::now()).as_millis();
        match evaluating.query(expr, at).await {
            Ok(value) => {
                let body = rules::answer(&value, at.unwrap_or(now) as f64 / 1000.0);
                content(StatusCode::OK, "application/json", body)
            }
            Err(error @ QueryError::Failed(_)) => {
                json(StatusCode::UNPROCESSABLE_ENTITY, &rules::fault("execution", &error.to_string()))
            }
            Err(error @ (QueryError::Busy | QueryError::Stopping)) => {
                json(StatusCode::SERVICE_UNAVAILABLE, &rules::fault("unavailable", &error.to_string()))
            }
        }
    }

    async fn metrics(&self, request: &Request) -> Response {
        let chosen = match chosen(request.query.as_deref().unwrap_or_default(), &self.config.borrow().collectors) {
            Ok(chosen) => chosen,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let _in_flight = InFlight::new(&self.in_flight);
        let snapshot = self.sampler.scrape().await;
        let mut scrapes = self.scrapes.lock().unwrap_or_else(PoisonError::into_inner);
        let scrapes = &mut *scrapes;
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => {
                scrapes.count(StatusCode::SERVICE_UNAVAILABLE);
                return text(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            }
        };
        let mut derived = std::mem::take(&mut scrapes.derived);
        if let Some(reading) = self.sampler.latest() {
            self.describe_all(&reading, &mut derived);
        }
        self.describe_exporter(scrapes, &mut derived);
        scrapes.count(StatusCode::OK);

        let wish = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let format = Format::negotiated(wish(header::ACCEPT));
        let choice = chosen.as_deref().map_or(Choice::All, Choice::Only);
        let parts = [&snapshot.families, &derived];
        exposition::encode_again(format, choice, &parts, &mut scrapes.order, &mut scrapes.text);
        derived.clear();
        scrapes.derived = derived;
        let gzip = accepts_gzip(wish(header::ACCEPT_ENCODING)).then(|| scrapes.gzip.compress(&scrapes.text)).flatten();
        let mut response = match gzip {
            Some(body) => gzipped(content(StatusCode::OK, format.content_type(), body)),
            None => content(StatusCode::OK, format.content_type(), Bytes::copy_from_slice(&scrapes.text)),
        };
        scrapes.text.clear();
        scrapes.text.shrink_to(KEPT_TEXT);
        response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept, accept-encoding"));
        response
    }

    /// What node_exporter tells of itself whatever a scrape asks for. Dashboards find hosts and restarts by it.
    fn describe_exporter(&self, scrapes: &mut Scrapes, out: &mut Families) {
        out.section(Section::Exporter);
        out.gauge(
            "node_exporter_build_info",
            "Always 1. Who answers in node_exporter's place: the label version names utilizer-agent.",
        );
        out.push(
            &Labels::new([
                ("goarch", architecture()),
                ("goos", std::env::consts::OS),
                ("version", concat!("utilizer-agent/", env!("CARGO_PKG_VERSION"))),
            ]),
            1.0,
        );
        scrapes.own.describe(out);
        out.counter("promhttp_metric_handler_requests_total", "Total number of scrapes by HTTP status code.");
        for ((_, code), count) in ANSWERS.iter().zip(scrapes.answers) {
            out.push(&Labels::new([("code", code)]), count as f64);
        }
        out.gauge("promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served.");
        out.value(self.in_flight.load(Ordering::Relaxed) as f64);
    }

    /// The agent about itself.
    fn describe(&self, reading: &Reading, out: &mut Families) {
        let config = self.config.borrow().clone();
        out.section(Section::Own);
        out.gauge("utilizer_build_info", "Always 1; the label says which version runs.");
        out.push(&Labels::new([("version", crate::VERSION)]), 1.0);
        out.gauge("utilizer_interval_seconds", "Time between two passes, as configured.");
        out.value(config.interval.as_secs_f64());
        out.counter("utilizer_sampler_passes_total", "Passes over the host, one an interval.");
        out.value(reading.cost.passes as f64);
        out.counter(
            "utilizer_sampler_missed_total",
            "Intervals without a pass: one before took too long, or the machine slept.",
        );
        out.value(reading.cost.missed as f64);
        out.counter("utilizer_sampler_cpu_seconds_total", "CPU time of all passes and scrapes.");
        out.value(reading.cost.cpu_seconds);
        out.gauge("utilizer_sampler_pass_duration_seconds", "How long the last pass took.");
        out.value(reading.cost.last_duration.as_secs_f64());
        out.gauge("utilizer_sampler_pass_delay_seconds", "How late the last pass began.");
        out.value(reading.cost.last_delay.as_secs_f64());

        let each = |out: &mut Families, counters: &[AtomicU64; 2]| {
            for push in Push::ALL {
                let labels = Labels::new([("kind", push.kind().as_str())]);
                out.push(&labels, counters[push as usize].load(Ordering::Relaxed) as f64);
            }
        };
        out.counter("utilizer_push_records_total", "Records taken over HTTP.");
        each(out, &self.pushed);
        out.counter("utilizer_push_refused_total", "Pushes that were refused whole, with a 4xx or 5xx answer.");
        each(out, &self.push_refused);
        let inputs = self.logs.get().map(log_inputs::Handle::told);
        let mut counted = inputs.as_ref().map(|inputs| inputs.counted.clone()).unwrap_or_default();
        self.pushed_logs.counts(&mut counted);
        logs::expose(&counted, out);

        if let Some(web) = &config.web {
            let counts = web.counts();
            out.counter("utilizer_web_denied_total", "Requests that proved nobody who may ask: answered 401.");
            out.value(counts.denied as f64);
            out.counter("utilizer_web_handshakes_failed_total", "Connections that came to no TLS handshake.");
            out.value(counts.failed_handshakes as f64);
            out.gauge(
                "utilizer_web_config_valid",
                "0 while the web configuration, as it is on disk, can't be used and the one before stays in force.",
            );
            out.value(f64::from(counts.valid));
        }

        if let Some(rules) = self.rules.get() {
            rules.told().describe(out);
        }
        if let Some(notify) = self.notify.get() {
            notify.told().describe(out);
        }
        if let Some(scrape) = self.scrape.get() {
            scrape.describe(out);
        }
        if let Some(inputs) = inputs {
            inputs.describe(out);
        }
        let Some(publishing) = &self.publishing else { return };
        let link = publishing.link.borrow().clone();
        out.gauge("utilizer_mqtt_connected", "1 with a connection to the broker.");
        out.value(f64::from(link.connected));
        out.counter("utilizer_mqtt_connections_total", "Connections made to the broker.");
        out.value(link.connections as f64);
        describe_spool(&publishing.post, out);
    }

    fn ready(&self) -> Response {
        match self.sampler.latest() {
            Some(reading) => match reading.overdue() {
                None => text(StatusCode::OK, "ready"),
                Some(age) => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("the last reading is {} s old: a read of the host's files hangs", age.as_secs()),
                ),
            },
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the first reading of the host is not done yet"),
        }
    }

    async fn push(&self, push: Push, request: Request) -> Response {
        self.try_push(push, request).await.unwrap_or_else(|response| {
            self.push_refused[push as usize].fetch_add(1, Ordering::Relaxed);
            response
        })
    }

    async fn try_push(&self, push: Push, request: Request) -> Result<Response, Response> {
        if !request.peer.is_local() && !request.authenticated {
            let message = format!(
                "{} may not push: only programs on this host may, over loopback or the Unix socket, and peers that prove \
                 who they are (`serve.web_config_file`)",
                request.peer
            );
            return Err(text(StatusCode::FORBIDDEN, message));
        }
        let Some(publishing) = &self.publishing else {
            return Err(text(
                StatusCode::SERVICE_UNAVAILABLE,
                "`mqtt.enabled` is false: there is nowhere to send this",
            ));
        };
        let said = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let unsupported = |why: &'static str| text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
        let compressed = match said(header::CONTENT_ENCODING) {
            "" | "identity" => false,
            "gzip" => true,
            _ => return Err(unsupported("of compressed bodies gzip is taken; send it so, or as it is")),
        };
        if said(header::CONTENT_TYPE).starts_with("application/x-protobuf") {
            return Err(unsupported("protobuf is not taken; send JSON, with OTEL_EXPORTER_OTLP_PROTOCOL=http/json"));
        }
        let limit = self.config.borrow().max_body;
        // Held until the records are made of it.
        let _turn = self.turn(&request, limit as u64).await?;
        let body = request.body(limit).await?;
        let now = Timestamp::from(SystemTime::now());
        let bad = |fault: BodyFault| text(StatusCode::BAD_REQUEST, fault.to_string());
        let body = if compressed { logs::unzipped(&body, limit).map_err(bad)?.into() } else { body };
        let mut partial = None;
        let (count, put) = match push {
            Push::Logs => {
                let plan = self.config.borrow().logs.push.clone();
                let taken = self.pushed_logs.take(&plan, &body, now).map_err(bad)?;
                let (logs, count) = (taken.logs, taken.count);
                partial = taken.partial;
                // What all stays here is no record.
                let put = if logs.records.is_empty() { Ok(()) } else { publishing.post.put(now, logs).map(drop) };
                (count, put)
            }
            Push::Pipeline => {
                let pipeline = pipeline::parse(&body, now).map_err(bad)?;
                (pipeline.records.len(), publishing.post.put(now, pipeline).map(drop))
            }
        };
        put.map_err(|error| match error {
            PutError::Full(_) | PutError::Disk(_) => busy(error.to_string()),
            PutError::Large(..) => text(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        })?;
        self.pushed[push as usize].fetch_add(count as u64, Ordering::Relaxed);
        Ok(match partial {
            // As OTLP/HTTP demands it.
            Some((refused, why)) => content(StatusCode::OK, "application/json", logs::Taken::answer(refused, &why)),
            None => text(StatusCode::ACCEPTED, format!("{count} taken")),
        })
    }

    /// Waits until the body may be read: at once for a small one, and for one that will be refused unread.
    async fn turn(&self, request: &Request, limit: u64) -> Result<Option<SemaphorePermit<'_>>, Response> {
        let length = request.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        // A body in chunks does not say how long it is.
        if length.is_some_and(|length| length <= SMALL_BODY || length > limit) {
            return Ok(None);
        }
        match tokio::time::timeout(TURN_TIME, self.large_bodies.acquire()).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            Ok(Err(_)) | Err(_) => Err(busy("too many large bodies come at the same time; try again".to_owned())),
        }
    }

    fn landing(&self) -> Response {
        let config = self.config.borrow().clone();
        let mut page = String::new();
        let host = &config.host;
        // Writing to a String can't fail.
        let _ = write!(
            page,
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>utilizer-agent on {host}</title>\
             <style>body{{font:16px/1.5 system-ui,sans-serif;margin:2em auto;max-width:50em;padding:0 1em}}\
             td,th{{text-align:left;padding:.1em 1em .1em 0;vertical-align:top}}.failed{{color:#b00020}}</style>\
             <h1>utilizer-agent</h1><p>Version {} on <b>{host}</b>, every {}.</p>\
             <ul><li><a href=\"/metrics\">/metrics</a> for Prometheus</li><li><a href=\"/healthz\">/healthz</a>, \
             <a href=\"/readyz\">/readyz</a></li><li><code>/api/v1/query?query=…</code> for PromQL</li>\
             <li><a href=\"/api/v1/probes\">/api/v1/probes</a>, what was asked and why it failed</li><li>POST <code>/v1/logs</code>, <code>/v1/pipeline</code> from this \
             host</li></ul><h2>Broker</h2><p>{}</p><h2>Collectors</h2>",
            crate::VERSION,
            daemon::config::duration::format(config.interval),
            escape(&self.broker_state()),
        );
        match self.sampler.latest() {
            None => page.push_str("<p>The first reading is not done yet.</p>"),
            Some(reading) => {
                let _ = write!(
                    page,
                    "<p>Last reading: {}</p><table><tr><th>Name<th>State<th>Duration",
                    reading.snapshot.time
                );
                for status in &reading.collectors {
                    let (class, state) = match &status.state {
                        State::Waiting => ("", "waiting".to_owned()),
                        State::Data => ("", "ok".to_owned()),
                        State::Nothing => ("", "nothing here".to_owned()),
                        State::Failed(why) => ("failed", format!("failed: {}", escape(why))),
                    };
                    let _ = write!(
                        page,
                        "<tr><td>{}<td class=\"{class}\">{state}<td>{} µs",
                        status.name,
                        status.duration.as_micros()
                    );
                }
                page.push_str("</table>");
            }
        }
        if let Some(scrape) = self.scrape.get() {
            page.push_str(&scrape.html(escape));
        }
        content(StatusCode::OK, "text/html; charset=utf-8", page)
    }

    fn broker_state(&self) -> String {
        let Some(publishing) = &self.publishing else { return "Publishing is switched off (mqtt.enabled).".to_owned() };
        let link = publishing.link.borrow();
        let waiting = publishing.post.lock().len();
        match (link.connected, &link.problem) {
            (true, _) => format!("Connected; {waiting} records wait in the spool to be confirmed."),
            (false, Some(problem)) => format!("Not connected: {problem}; {waiting} records wait in the spool."),
            (false, None) => "Connecting.".to_owned(),
        }
    }
}

/// The collectors that a scrape asks for, as node_exporter has it: those that `collect[]` names, or all that run but those
/// that `exclude[]` names. `None`: everything.
fn chosen(query: &str, settings: &CollectorSettings) -> Result<Option<Vec<&'static str>>, String> {
    let (mut collect, mut exclude) = (Vec::new(), Vec::new());
    for (name, value) in pairs(query) {
        match name.as_str() {
            "collect[]" => collect.push(value),
            "exclude[]" => exclude.push(value),
            _ => {}
        }
    }
    if !collect.is_empty() && !exclude.is_empty() {
        return Err("collect[] and exclude[] can't be used in one scrape".to_owned());
    }
    if !exclude.is_empty() {
        // One scrape configuration serves many hosts: a name that runs on some of them only is no fault.
        return Ok(Some(settings.running().filter(|name| !exclude.iter().any(|out| out == name)).collect()));
    }
    let known = |wanted: &String| match collectors::names().find(|name| name == wanted) {
        Some(name) if settings.runs(name) => Ok(name),
        Some(name) => {
            Err(format!("disabled collector: {name}; `collectors.enable` in the configuration switches it on"))
        }
        None => Err(format!("missing collector: {wanted}; `utilizer-agent check` lists what runs")),
    };
    let chosen = collect.iter().map(known).collect::<Result<Vec<_>, _>>()?;
    Ok((!chosen.is_empty()).then_some(chosen))
}

/// What waits on disk, and what became of the rest.
fn describe_spool(post: &Post, out: &mut Families) {
    let mut outbox = post.lock();
    let of = |kind: Kind| Labels::new([("kind", kind.as_str())]);
    let now = Timestamp::from(SystemTime::now());
    let depths: Vec<_> = Kind::ALL.into_iter().map(|kind| (kind, outbox.depth(kind, now))).collect();
    out.gauge("utilizer_spool_bytes", "Size of the spool on disk.");
    depths.iter().for_each(|(kind, depth)| out.push(&of(*kind), depth.bytes as f64));
    out.gauge("utilizer_spool_limit_bytes", "Bound of all kinds together; over it the least valuable records go.");
    out.value(outbox.limit() as f64);
    out.gauge(
        "utilizer_spool_records",
        "Records that some group of exporters, or without a group the broker, has yet to take.",
    );
    depths.iter().for_each(|(kind, depth)| out.push(&of(*kind), depth.records as f64));
    out.gauge("utilizer_spool_oldest_seconds", "Age of the oldest of them; 0 without one.");
    depths.iter().for_each(|(kind, depth)| out.push(&of(*kind), depth.oldest_seconds));
    type Family = (&'static str, &'static str, fn(Counts) -> u64);
    let families: [Family; 6] = [
        ("utilizer_records_total", "Records made.", |c| c.made),
        ("utilizer_records_acknowledged_total", "Publishes that the broker acknowledged, repeated ones too.", |c| {
            c.acknowledged
        }),
        ("utilizer_records_retransmitted_total", "Publishes of records that were published before.", |c| {
            c.retransmitted
        }),
        (
            "utilizer_records_freed_total",
            "Records that every group of exporters has, or that the broker took where there is no group.",
            |c| c.freed,
        ),
        ("utilizer_records_dropped_total", "Records declared lost; the host's status names them.", |c| c.declared),
        ("utilizer_records_refused_total", "Records that never got into the spool.", |c| c.refused),
    ];
    for (name, help, value) in families {
        out.counter(name, help);
        Kind::ALL.into_iter().for_each(|kind| out.push(&of(kind), value(outbox.counts(kind)) as f64));
    }
    out.gauge("utilizer_group_online", "Whether a group of exporters that is waited for looks online.");
    for (group, online) in outbox.groups() {
        out.push(&Labels::new([("group", group.as_str())]), f64::from(u8::from(online)));
    }
}

/// 503, with the time after which another try makes sense.
fn busy(why: String) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
    response
}

/// The machine's architecture by the name that Go has for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    content(status, "application/json", body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_chooses_collectors_that_run() {
        let settings = CollectorSettings { disable: vec!["stat".to_owned()], ..CollectorSettings::default() };
        let chosen = |query| chosen(query, &settings);
        assert_eq!(chosen("").unwrap(), None);
        assert_eq!(chosen("x=1").unwrap(), None);
        assert_eq!(chosen("collect%5B%5D=loadavg&collect[]=cpu").unwrap().unwrap(), ["loadavg", "cpu"]);
        let most = chosen("exclude[]=cpu&exclude[]=nonesuch").unwrap().unwrap();
        assert!(!most.contains(&"cpu") && !most.contains(&"stat") && most.contains(&"loadavg"));
        for (query, part) in [
            ("collect[]=nonesuch", "missing collector: nonesuch"),
            ("collect[]=", "missing collector: ;"),
            ("collect[]=cpu&collect[]=stat", "disabled collector: stat"),
            ("collect[]=cpu&exclude[]=stat", "can't be used in one scrape"),
        ] {
            assert!(chosen(query).unwrap_err().contains(part), "{query}");
        }
    }
}
