//! States of systemd's units, asked over D-Bus.
//!
//! Asking means waking two other processes and may wait for them, so a worker does it at interval passes; scrapes show
//! the last answers. The worker keeps its connection. A systemd that hangs is a failure of this collector and of nothing
//! else: there is one worker, it is never asked twice at the same time, and each of its waits has an end.
//!
//! The client is our own: docs/decisions/0006-dbus-client.md.

mod bus;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::collectors::cache::Cache;
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::HostRoot;
use crate::pattern::{Pattern, shows};
use crate::snapshot::{Families, Labels, MetricType};
use bus::{BusError, Connection, Deadline};
use wire::{Call, Value, WireError};

pub use wire::{Incoming, Reader, incoming};

/// How long an interval pass waits for the answers. Later ones are shown from the next pass on.
const PATIENCE: Duration = Duration::from_millis(100);
/// On top of the configured time, before a worker that does not come back is a failure.
const GRACE: Duration = Duration::from_secs(1);
/// What changes with a unit's file only is asked for at its first sight and then every so many passes.
const SLOW_EVERY: u32 = 30;
/// The worker reads and writes a socket.
const STACK_BYTES: usize = 128 << 10;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The states of a unit that have a series each.
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

/// `[collectors.systemd]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only units that match from begin to end.
    pub unit_include: Pattern,
    /// Show no units that match from begin to end.
    pub unit_exclude: Pattern,
    /// `node_systemd_unit_tasks_current` and `_max` of services.
    pub enable_task_metrics: bool,
    /// `node_systemd_service_restart_total`.
    pub enable_restarts_metrics: bool,
    /// `node_systemd_unit_start_time_seconds`.
    pub enable_start_time_metrics: bool,
    /// How long systemd may take to answer.
    #[serde(with = "daemon::config::duration")]
    pub timeout: Duration,
    /// More units than these are not shown one by one.
    pub max_units: usize,
}

impl Default for Settings {
    /// node_exporter's.
    fn default() -> Self {
        Self {
            unit_include: Pattern::fixed(".+"),
            unit_exclude: Pattern::fixed(r".+\.(automount|device|mount|scope|slice)"),
            enable_task_metrics: false,
            enable_restarts_metrics: false,
            enable_start_time_metrics: false,
            timeout: Duration::from_secs(5),
            max_units: 2000,
        }
    }
}

/// As the pattern says, from begin to end.
fn anchored(pattern: &Pattern) -> Pattern {
    match pattern.as_str() {
        "" => Pattern::default(),
        text => Pattern::new(&format!("^(?:{text})$")).unwrap_or_else(|_| pattern.clone()),
    }
}

/// A property of a unit that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Property {
    ServiceType,
    MountType,
    ActiveEnterTimestamp,
    Restarts,
    TasksCurrent,
    TasksMax,
    Accepted,
    Connections,
    Refused,
    LastTrigger,
}

impl Property {
    /// Interface and name.
    fn address(self) -> (&'static str, &'static str) {
        const SERVICE: &str = "org.freedesktop.systemd1.Service";
        const SOCKET: &str = "org.freedesktop.systemd1.Socket";
        match self {
            Property::ServiceType => (SERVICE, "Type"),
            Property::MountType => ("org.freedesktop.systemd1.Mount", "Type"),
            Property::ActiveEnterTimestamp => ("org.freedesktop.systemd1.Unit", "ActiveEnterTimestamp"),
            Property::Restarts => (SERVICE, "NRestarts"),
            Property::TasksCurrent => (SERVICE, "TasksCurrent"),
            Property::TasksMax => (SERVICE, "TasksMax"),
            Property::Accepted => (SOCKET, "NAccepted"),
            Property::Connections => (SOCKET, "NConnections"),
            Property::Refused => (SOCKET, "NRefused"),
            Property::LastTrigger => ("org.freedesktop.systemd1.Timer", "LastTriggerUSec"),
        }
    }
}

/// Families with a sample of each unit that has the property: name, help, type, what the number is divided by. Their
/// types are node_exporter's, refused connections among them.
const NUMBERS: [(Property, &str, &str, MetricType, f64); 8] = {
    use MetricType::{Counter, Gauge};
    [
        (
            Property::Restarts,
            "node_systemd_service_restart_total",
            "Service unit count of Restart triggers",
            Counter,
            1.0,
        ),
        (
            Property::Accepted,
            "node_systemd_socket_accepted_connections_total",
            "Total number of accepted socket connections",
            Counter,
            1.0,
        ),
        (
            Property::Connections,
            "node_systemd_socket_current_connections",
            "Current number of socket connections",
            Gauge,
            1.0,
        ),
        (
            Property::Refused,
            "node_systemd_socket_refused_connections_total",
            "Total number of refused socket connections",
            Gauge,
            1.0,
        ),
        (
            Property::LastTrigger,
            "node_systemd_timer_last_trigger_seconds",
            "Seconds since epoch of last trigger.",
            Gauge,
            1e6,
        ),
        (
            Property::ActiveEnterTimestamp,
            "node_systemd_unit_start_time_seconds",
            "Start time of the unit since unix epoch in seconds.",
            Gauge,
            1e6,
        ),
        (
            Property::TasksCurrent,
            "node_systemd_unit_tasks_current",
            "Current number of tasks per Systemd unit",
            Gauge,
            1.0,
        ),
        (Property::TasksMax, "node_systemd_unit_tasks_max", "Maximum number of tasks per Systemd unit", Gauge, 1.0),
    ]
};

/// A unit, kept from pass to pass.
struct Unit {
    path: Box<str>,
    /// Its name has a place among those shown.
    chosen: bool,
    loaded: bool,
    active: Box<str>,
    /// Of a service or mount; empty for others and where it is not known.
    kind: Box<str>,
    /// `kind` was asked for.
    kind_known: bool,
    labels: Labels,
    /// One for each of [`STATES`]; `None` before they are needed, and when `kind` changed.
    state_labels: Option<[Labels; STATES.len()]>,
    /// One for each of [`NUMBERS`].
    numbers: [Option<u64>; NUMBERS.len()],
}

impl Unit {
    fn new(name: &str, path: &str, chosen: bool) -> Self {
        Self {
            path: path.into(),
            chosen,
            loaded: false,
            active: Box::default(),
            kind: Box::default(),
            kind_known: false,
            labels: Labels::new([("name", name)]),
            state_labels: None,
            numbers: [None; NUMBERS.len()],
        }
    }

    fn name(&self) -> &str {
        self.labels.get("name").unwrap_or_default()
    }

    fn is_shown(&self) -> bool {
        self.chosen && self.loaded
    }

    /// What to ask systemd about it.
    fn wanted(&self, settings: &Settings, slow_too: bool) -> impl Iterator<Item = Property> + use<> {
        let suffix = self.name().rsplit_once('.').map_or("", |(_, suffix)| suffix);
        let (service, socket) = (suffix == "service", suffix == "socket");
        let slow = slow_too || !self.kind_known;
        [
            (Property::ServiceType, service && slow),
            (Property::MountType, suffix == "mount" && slow),
            (Property::ActiveEnterTimestamp, settings.enable_start_time_metrics && &*self.active == "active"),
            (Property::Restarts, service && settings.enable_restarts_metrics),
            (Property::TasksCurrent, service && settings.enable_task_metrics),
            (Property::TasksMax, service && settings.enable_task_metrics),
            (Property::Accepted, socket),
            (Property::Connections, socket),
            (Property::Refused, socket),
            (Property::LastTrigger, suffix == "timer"),
        ]
        .into_iter()
        .filter_map(|(property, wanted)| wanted.then_some(property))
    }

    fn set(&mut self, property: Property, answer: Option<Answer>) {
        if matches!(property, Property::ServiceType | Property::MountType) {
            let kind = match answer {
                Some(Answer::Text(text)) => text.into_boxed_str(),
                _ => Box::default(),
            };
            self.kind_known = true;
            if self.kind != kind {
                self.kind = kind;
                self.state_labels = None;
            }
            return;
        }
        let number = match answer {
            // systemd's way of saying that there is none.
            Some(Answer::Number(u64::MAX)) => None,
            Some(Answer::Number(number)) => Some(number),
            _ => None,
        };
        for (slot, (of, ..)) in self.numbers.iter_mut().zip(&NUMBERS) {
            if *of == property {
                *slot = number;
            }
        }
    }

    fn state_labels(&mut self) -> &[Labels; STATES.len()] {
        let (labels, kind) = (&self.labels, &self.kind);
        let name = labels.get("name").unwrap_or_default();
        self.state_labels.get_or_insert_with(|| {
            STATES.map(|state| Labels::new([("name", name), ("state", state), ("type", &**kind)]))
        })
    }
}

/// A property's value, taken out of its message.
enum Answer {
    Number(u64),
    Text(String),
}

impl From<Value<'_>> for Answer {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Text(text) => Answer::Text(text.to_owned()),
            Value::U32(number) => Answer::Number(number.into()),
            Value::U64(number) => Answer::Number(number),
        }
    }
}

/// One row of the list of units.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// `ssh.service`
    pub name: &'a str,
    /// `loaded`, `not-found`, …
    pub load: &'a str,
    /// `active`, `failed`, …
    pub active: &'a str,
    /// The unit's object.
    pub path: &'a str,
}

/// Goes through the answer to `ListUnits`.
pub fn rows<'a>(mut body: Reader<'a>, mut each: impl FnMut(Row<'a>)) -> Result<(), WireError> {
    let array = body.array(8)?;
    while body.within(&array) {
        body.align(8)?;
        let name = body.text()?;
        body.text()?; // Description.
        let load = body.text()?;
        let active = body.text()?;
        body.text()?; // Its finer state,
        body.text()?; // the unit it follows,
        let path = body.text()?;
        body.u32()?; // and its job.
        body.text()?;
        body.text()?;
        each(Row { name, load, active, path });
    }
    Ok(())
}

/// The number in systemd's version: `252` of `252.6-1`, as node_exporter reads it.
fn version_number(version: &str) -> Option<f64> {
    let bytes = version.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = 0;
    while at < bytes.len() {
        let count = digits(at);
        if count >= 3 {
            let mut end = at + count;
            if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
                end += 1 + digits(end + 1);
            }
            return version.get(at..end)?.parse().ok();
        }
        at += count.max(1);
    }
    None
}

/// What the worker does.
struct Asker {
    /// The system bus, and systemd's own socket, which takes root only.
    sockets: [(PathBuf, bool); 2],
    settings: Settings,
    include: Pattern,
    exclude: Pattern,
    connection: Option<(Connection, bool)>,
    units: Cache<Unit>,
    rounds: u32,
    version: Option<(String, Labels)>,
    virtualization: Option<(String, Labels)>,
    /// Labels of states that were ever met, and how many units are in each.
    summary: Vec<(Box<str>, Labels, u32)>,
}

impl Asker {
    fn new(sockets: [(PathBuf, bool); 2], settings: &Settings) -> Self {
        Self {
            sockets,
            include: anchored(&settings.unit_include),
            exclude: anchored(&settings.unit_exclude),
            settings: settings.clone(),
            connection: None,
            units: Cache::default(),
            rounds: 0,
            version: None,
            virtualization: None,
            summary: STATES.iter().map(|state| ((*state).into(), Labels::new([("state", state)]), 0)).collect(),
        }
    }

    fn connect(&mut self, deadline: Deadline) -> Result<(Connection, bool), BusError> {
        let mut first = None;
        for (path, is_bus) in &self.sockets {
            match Connection::open(path, *is_bus, deadline) {
                Ok(connection) => return Ok((connection, *is_bus)),
                Err(BusError::Connect { source, .. }) if first.is_some() && is_absent(&source) => {}
                // What the bus said says more than what the private socket does, unless there is no bus.
                Err(error) => match &first {
                    Some(BusError::Connect { source, .. }) if is_absent(source) => first = Some(error),
                    Some(_) => {}
                    None => first = Some(error),
                },
            }
        }
        Err(first.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
    }

    /// Asks for everything and writes it into `out`. After a failure the next round connects anew.
    fn round(&mut self, out: &mut Families) -> Result<(), BusError> {
        let deadline = Deadline::after(self.settings.timeout);
        if let Some((mut connection, is_bus)) = self.connection.take() {
            match self.ask(&mut connection, is_bus, deadline, out) {
                // The bus, or systemd, was started anew since.
                Err(BusError::Io(_)) => {}
                result => {
                    self.connection = result.is_ok().then(|| {
                        connection.shrink();
                        (connection, is_bus)
                    });
                    return result;
                }
            }
        }
        let (mut connection, is_bus) = self.connect(deadline)?;
        self.ask(&mut connection, is_bus, deadline, out)?;
        connection.shrink();
        self.connection = Some((connection, is_bus));
        Ok(())
    }

    fn ask(
        &mut self,
        connection: &mut Connection,
        is_bus: bool,
        deadline: Deadline,
        out: &mut Families,
    ) -> Result<(), BusError> {
        let destination = is_bus.then_some(SYSTEMD);
        let [version, virtualization, state] = self.manager(connection, destination, deadline)?;
        let dropped = self.list(connection, destination, deadline)?;
        self.properties(connection, destination, deadline)?;
        self.rounds = self.rounds.wrapping_add(1);
        self.write(version, virtualization.as_deref(), state.as_deref(), dropped, out);
        Ok(())
    }

    /// Version, virtualization and state of the whole; `None` for what this systemd does not tell.
    fn manager(
        &self,
        connection: &mut Connection,
        destination: Option<&str>,
        deadline: Deadline,
    ) -> Result<[Option<String>; 3], BusError> {
        let arguments = ["Version", "Virtualization", "SystemState"].map(|name| [MANAGER, name]);
        let calls = arguments.each_ref().map(|arguments| Call {
            destination,
            path: MANAGER_PATH,
            interface: PROPERTIES,
            member: "Get",
            arguments,
        });
        let mut answers = [const { None }; 3];
        connection.calls(&calls, deadline, |number, body| {
            if let (Ok(mut body), Some(slot)) = (body, answers.get_mut(number))
                && let Value::Text(text) = body.variant()?
            {
                *slot = Some(text.to_owned());
            }
            Ok(())
        })?;
        Ok(answers)
    }

    /// Brings the units up to date; how many have no place among those shown.
    fn list(
        &mut self,
        connection: &mut Connection,
        destination: Option<&str>,
        deadline: Deadline,
    ) -> Result<usize, BusError> {
        let call = Call { destination, path: MANAGER_PATH, interface: MANAGER, member: "ListUnits", arguments: &[] };
        let Self { settings, include, exclude, units, summary, .. } = self;
        summary.iter_mut().for_each(|(.., count)| *count = 0);
        units.begin();
        connection.call(&call, deadline, |body| {
            if body.signature() != "a(ssssssouso)" {
                return Err(WireError::unlike("is no list of units"));
            }
            rows(body, |row| {
                match summary.iter_mut().find(|(state, ..)| **state == *row.active) {
                    Some((.., count)) => *count += 1,
                    None => summary.push((row.active.into(), Labels::new([("state", row.active)]), 1)),
                }
                let unit = units.get(row.name.as_bytes(), |name| {
                    // A class of empty names would match nothing, as elsewhere.
                    Unit::new(name, row.path, shows(include, exclude, name))
                });
                unit.loaded = row.load == "loaded";
                if *unit.active != *row.active {
                    unit.active = row.active.into();
                }
                unit.numbers = [None; NUMBERS.len()];
            })
        })?;
        units.end();
        let mut room = settings.max_units;
        let mut dropped = 0;
        for unit in units.asked_mut().filter(|unit| unit.is_shown()) {
            if room == 0 {
                unit.loaded = false;
                dropped += 1;
            } else {
                room -= 1;
            }
        }
        Ok(dropped)
    }

    /// Asks for what the list does not say.
    fn properties(
        &mut self,
        connection: &mut Connection,
        destination: Option<&str>,
        deadline: Deadline,
    ) -> Result<(), BusError> {
        let slow = self.rounds.is_multiple_of(SLOW_EVERY);
        let wanted: Vec<(usize, Property)> = self
            .units
            .asked()
            .enumerate()
            .filter(|(_, unit)| unit.is_shown())
            .flat_map(|(number, unit)| unit.wanted(&self.settings, slow).map(move |property| (number, property)))
            .collect();
        let units: Vec<&Unit> = self.units.asked().collect();
        let arguments: Vec<[&str; 2]> = wanted
            .iter()
            .map(|(_, property)| {
                let (interface, name) = property.address();
                [interface, name]
            })
            .collect();
        let calls: Vec<Call<'_>> = wanted
            .iter()
            .zip(&arguments)
            .filter_map(|((number, _), arguments)| {
                let path = &*units.get(*number)?.path;
                Some(Call { destination, path, interface: PROPERTIES, member: "Get", arguments })
            })
            .collect();
        let mut answers: Vec<Option<Answer>> = Vec::new();
        answers.resize_with(calls.len(), || None);
        connection.calls(&calls, deadline, |number, body| {
            // Units go away between list and question, and old versions lack properties: both are no failure.
            if let (Ok(mut body), Some(slot)) = (body, answers.get_mut(number)) {
                *slot = Some(body.variant()?.into());
            }
            Ok(())
        })?;
        let mut answered = wanted.into_iter().zip(answers).peekable();
        for (number, unit) in self.units.asked_mut().enumerate() {
            while let Some(((_, property), answer)) = answered.next_if(|((of, _), _)| *of == number) {
                unit.set(property, answer);
            }
            unit.kind_known |= unit.is_shown();
        }
        Ok(())
    }

    fn write(
        &mut self,
        version: Option<String>,
        virtualization: Option<&str>,
        state: Option<&str>,
        dropped: usize,
        out: &mut Families,
    ) {
        for (index, (_, name, help, kind, divisor)) in NUMBERS.into_iter().enumerate() {
            out.family(name, help, kind);
            for unit in self.units.asked().filter(|unit| unit.is_shown()) {
                let mut number = unit.numbers.get(index).copied().flatten();
                if name == "node_systemd_unit_start_time_seconds"
                    && self.settings.enable_start_time_metrics
                    && &*unit.active != "active"
                {
                    number = Some(0);
                }
                if let Some(number) = number {
                    out.push(&unit.labels, number as f64 / divisor);
                }
            }
        }
        if let Some(state) = state {
            out.gauge(
                "node_systemd_system_running",
                "Whether the system is operational (see 'systemctl is-system-running')",
            );
            out.value(f64::from(state == "running"));
        }
        out.gauge("node_systemd_unit_state", "Systemd unit");
        for unit in self.units.asked_mut().filter(|unit| unit.is_shown()) {
            let active = STATES.iter().position(|state| **state == *unit.active);
            for (number, labels) in unit.state_labels().iter().enumerate() {
                out.push(labels, f64::from(active == Some(number)));
            }
        }
        out.gauge("node_systemd_units", "Summary of systemd unit states");
        for (position, (_, labels, count)) in self.summary.iter().enumerate() {
            if position < STATES.len() || *count > 0 {
                out.push(labels, f64::from(*count));
            }
        }
        if let Some(version) = version
            && let Some(number) = version_number(&version)
        {
            if self.version.as_ref().is_none_or(|(known, _)| *known != version) {
                let labels = Labels::new([("version", &*version)]);
                self.version = Some((version, labels));
            }
            if let Some((_, labels)) = &self.version {
                out.gauge("node_systemd_version", "Detected systemd version");
                out.push(labels, number);
            }
        }
        let virtualization = match virtualization {
            None => "unknown",
            Some("") => "none",
            Some(text) => text,
        };
        if self.virtualization.as_ref().is_none_or(|(known, _)| known != virtualization) {
            let labels = Labels::new([("virtualization_type", virtualization)]);
            self.virtualization = Some((virtualization.to_owned(), labels));
        }
        if let Some((_, labels)) = &self.virtualization {
            out.gauge("node_systemd_virtualization_info", "Detected virtualization technology");
            out.push(labels, 1.0);
        }
        out.gauge(
            "utilizer_systemd_units_dropped",
            "Units that are not shown one by one because there are more than collectors.systemd.max_units.",
        );
        out.value(dropped as f64);
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// What the worker found, in the buffer that it was lent.
type Found = (Families, Result<(), String>);

/// The thread, and the way to it.
struct Worker {
    requests: SyncSender<Families>,
    found: Receiver<Found>,
    /// When it was asked, where it has not answered.
    asked: Option<Instant>,
}

impl Worker {
    fn start(mut asker: Asker) -> io::Result<Self> {
        let (requests, inbox) = sync_channel::<Families>(1);
        let (answer, found) = sync_channel(1);
        std::thread::Builder::new().name("systemd".into()).stack_size(STACK_BYTES).spawn(move || {
            while let Ok(mut out) = inbox.recv() {
                out.clear();
                let result = asker.round(&mut out).map_err(|error| error.to_string());
                if answer.send((out, result)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, found, asked: None })
    }
}

/// See the module.
pub(crate) struct Systemd {
    sockets: [(PathBuf, bool); 2],
    settings: Settings,
    worker: Option<Worker>,
    /// Lent to the worker while it asks.
    buffer: Families,
    shown: Families,
    /// Why nothing is shown; `None` before the first answer too.
    failure: Option<String>,
    /// There is no systemd to ask.
    absent: bool,
}

impl Systemd {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self {
            sockets: [
                (host.at_root(Path::new("/run/dbus/system_bus_socket")), true),
                (host.at_root(Path::new("/run/systemd/private")), false),
            ],
            settings: settings.clone(),
            worker: None,
            buffer: Families::default(),
            shown: Families::default(),
            failure: None,
            absent: false,
        }
    }

    fn take(&mut self, (families, result): Found) {
        self.buffer = std::mem::replace(&mut self.shown, families);
        self.failure = result.err();
        if self.failure.is_some() {
            self.shown.clear();
        }
    }

    /// Waits no longer than this for an answer that is out.
    fn receive(&mut self, patience: Duration) {
        let Some(worker) = &mut self.worker else { return };
        let Some(asked) = worker.asked else { return };
        let found = match patience.is_zero() {
            true => worker.found.try_recv().map_err(|error| error == TryRecvError::Disconnected),
            false => worker.found.recv_timeout(patience).map_err(|error| error == RecvTimeoutError::Disconnected),
        };
        match found {
            Ok(found) => {
                worker.asked = None;
                self.take(found);
            }
            Err(true) => {
                self.worker = None;
                self.shown.clear();
                self.failure = Some("BUG: the thread that asks ended by itself".to_owned());
            }
            Err(false) if asked.elapsed() > self.settings.timeout + GRACE => {
                self.shown.clear();
                self.failure = Some(format!("no answer within {:?}", self.settings.timeout));
            }
            Err(false) => {}
        }
    }

    fn ask(&mut self) -> io::Result<()> {
        let worker = match &mut self.worker {
            Some(worker) if worker.asked.is_some() => return Ok(()),
            Some(worker) => worker,
            None => {
                self.absent = !self.sockets.iter().any(|(path, _)| path.exists());
                if self.absent {
                    return Ok(());
                }
                self.worker.insert(Worker::start(Asker::new(self.sockets.clone(), &self.settings))?)
            }
        };
        if worker.requests.try_send(std::mem::take(&mut self.buffer)).is_ok() {
            worker.asked = Some(Instant::now());
        }
        Ok(())
    }
}

impl Collector for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn begin(&mut self, pass: Pass) {
        self.receive(Duration::ZERO);
        if pass == Pass::Interval {
            match self.ask() {
                Ok(()) => self.receive(PATIENCE),
                Err(error) => self.failure = Some(format!("can't start a thread: {error}")),
            }
        }
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if let Some(failure) = &self.failure {
            return Err(CollectError::System { what: "ask systemd", source: io::Error::other(failure.clone()) });
        }
        if self.absent {
            return Ok(Outcome::Nothing);
        }
        out.append(&self.shown);
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests;
