use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use super::wire::tests::{Built, call};
use super::wire::{FIXED_HEADER, message_length};
use super::*;

/// A unit of the peer's: name, load, active, and its properties.
type PeerUnit = (&'static str, &'static str, &'static str, &'static [(&'static str, PeerValue)]);

#[derive(Clone, Copy)]
enum PeerValue {
    Text(&'static str),
    U32(u32),
    U64(u64),
}

const UNITS: &[PeerUnit] = &[
    (
        "web.service",
        "loaded",
        "active",
        &[
            ("Type", PeerValue::Text("notify")),
            ("NRestarts", PeerValue::U32(3)),
            ("TasksCurrent", PeerValue::U64(12)),
            ("TasksMax", PeerValue::U64(u64::MAX)),
            ("ActiveEnterTimestamp", PeerValue::U64(1_700_000_000_500_000)),
        ],
    ),
    ("old.service", "loaded", "failed", &[("Type", PeerValue::Text("simple"))]),
    ("gone.service", "not-found", "inactive", &[]),
    (
        "api.socket",
        "loaded",
        "active",
        &[("NAccepted", PeerValue::U32(40)), ("NConnections", PeerValue::U32(2)), ("NRefused", PeerValue::U32(1))],
    ),
    ("nightly.timer", "loaded", "active", &[("LastTriggerUSec", PeerValue::U64(1_699_999_999_000_000))]),
    ("data.mount", "loaded", "active", &[]),
    ("re.target", "loaded", "reloading", &[]),
];

/// How the peer behaves.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Manner {
    #[default]
    Good,
    /// Refuses the handshake.
    Refuses,
    /// Says nothing at all.
    Silent,
    /// Answers every call with an error.
    Denies,
    /// Sends garbage instead of the list.
    Garbage,
    /// Closes each connection after its first round.
    Forgets,
}

#[derive(Default)]
struct Log {
    connections: usize,
    hellos: usize,
    calls: usize,
}

/// Something that speaks as systemd does.
struct Peer {
    dir: tempfile::TempDir,
    manner: Arc<Mutex<Manner>>,
    log: Arc<Mutex<Log>>,
}

impl Peer {
    fn new(socket: &str, manner: Manner) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(socket);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        let (manner, log) = (Arc::new(Mutex::new(manner)), Arc::new(Mutex::new(Log::default())));
        let shared = (manner.clone(), log.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (manner, log) = shared.clone();
                std::thread::spawn(move || {
                    // The collector hangs up when it has what it wants.
                    let _ = serve(stream.unwrap(), &manner, &log);
                });
            }
        });
        Self { dir, manner, log }
    }

    fn host(&self) -> HostRoot {
        HostRoot { root: self.dir.path().to_path_buf(), ..HostRoot::default() }
    }

    fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

fn expect(stream: &mut UnixStream, text: &str) -> io::Result<()> {
    let mut found = vec![0; text.len()];
    stream.read_exact(&mut found)?;
    assert_eq!(found, text.as_bytes());
    Ok(())
}

fn serve(mut stream: UnixStream, manner: &Mutex<Manner>, log: &Mutex<Log>) -> io::Result<()> {
    log.lock().unwrap().connections += 1;
    let manner = || *manner.lock().unwrap();
    expect(&mut stream, "\0AUTH EXTERNAL\r\n")?;
    match manner() {
        Manner::Refuses => return stream.write_all(b"REJECTED EXTERNAL\r\n"),
        Manner::Silent => return stream.read(&mut [0]).map(drop),
        _ => {}
    }
    stream.write_all(b"DATA\r\n")?;
    expect(&mut stream, "DATA\r\n")?;
    stream.write_all(b"OK 0123456789abcdef\r\n")?;
    expect(&mut stream, "BEGIN\r\n")?;
    loop {
        let mut message = vec![0; FIXED_HEADER];
        stream.read_exact(&mut message)?;
        message.resize(message_length(&message).unwrap(), 0);
        stream.read_exact(&mut message[FIXED_HEADER..])?;
        let (serial, path, member, arguments) = call(&message);
        log.lock().unwrap().calls += 1;
        let answer = match (manner(), member.as_str()) {
            (Manner::Denies, _) => Built::body().answer(serial, "", Some("org.freedesktop.DBus.Error.AccessDenied")),
            (Manner::Garbage, "ListUnits") => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            (_, "Hello") => {
                log.lock().unwrap().hellos += 1;
                let mut signal = Built::body().text(":1.7").answer(0, "s", None);
                signal[1] = 4;
                stream.write_all(&signal)?;
                Built::body().text(":1.7").answer(serial, "s", None)
            }
            (_, "ListUnits") => list().answer(serial, "a(ssssssouso)", None),
            (_, "Get") => property(&path, &arguments[1], serial),
            (_, other) => panic!("{other} was called"),
        };
        let last = manner() == Manner::Forgets && path.ends_with("re_2etarget");
        stream.write_all(&answer)?;
        if last || (manner() == Manner::Forgets && arguments.last().is_some_and(|name| name == "LastTriggerUSec")) {
            return Ok(());
        }
    }
}

fn object(name: &str) -> String {
    format!("/org/freedesktop/systemd1/unit/{}", name.replace('.', "_2e"))
}

fn list() -> Built {
    let mut rows = Built::body();
    for (name, load, active, _) in UNITS {
        rows = rows.align(8).text(name).text("A description.").text(load).text(active).text("sub").text("");
        rows = rows.text(&object(name)).u32(0).text("").text("/");
    }
    // The rows begin at a multiple of eight behind the array's length.
    let mut body = Built::body().u32(rows.0.len() as u32).align(8);
    body.0.extend_from_slice(&rows.0);
    body
}

fn property(path: &str, name: &str, serial: u32) -> Vec<u8> {
    let unknown =
        || Built::body().text("Unknown.").answer(serial, "s", Some("org.freedesktop.DBus.Error.UnknownProperty"));
    let value = match name {
        "Version" => PeerValue::Text("252.6-1"),
        "Virtualization" => PeerValue::Text("kvm"),
        "SystemState" => PeerValue::Text("degraded"),
        _ => {
            let unit = UNITS.iter().find(|(unit, ..)| object(unit) == path);
            match unit.and_then(|(.., properties)| properties.iter().find(|(property, _)| *property == name)) {
                Some((_, value)) => *value,
                None => return unknown(),
            }
        }
    };
    match value {
        PeerValue::Text(text) => Built::body().signature("s").text(text),
        PeerValue::U32(number) => Built::body().signature("u").u32(number),
        PeerValue::U64(number) => Built::body().signature("t").u64(number),
    }
    .answer(serial, "v", None)
}

/// Long enough on a machine with other things to do.
const LONG: Duration = Duration::from_secs(60);

fn all_metrics() -> Settings {
    Settings {
        enable_task_metrics: true,
        enable_restarts_metrics: true,
        enable_start_time_metrics: true,
        timeout: LONG,
        ..Settings::default()
    }
}

/// A pass of which the answer has come.
fn run(collector: &mut Systemd) -> Result<String, String> {
    collector.begin(Pass::Interval);
    collector.receive(LONG);
    shown(collector)
}

fn shown(collector: &mut Systemd) -> Result<String, String> {
    let mut out = Families::default();
    collector.collect(&mut out).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    crate::exposition::encode(&[&out], &mut text);
    let text = String::from_utf8(text).unwrap();
    Ok(text.lines().filter(|line| !line.starts_with("# ")).map(|line| line.to_owned() + "\n").collect())
}

const EVERYTHING: &str = r#"node_systemd_service_restart_total{name="web.service"} 3
node_systemd_socket_accepted_connections_total{name="api.socket"} 40
node_systemd_socket_current_connections{name="api.socket"} 2
node_systemd_socket_refused_connections_total{name="api.socket"} 1
node_systemd_system_running 0
node_systemd_timer_last_trigger_seconds{name="nightly.timer"} 1699999999
node_systemd_unit_start_time_seconds{name="web.service"} 1700000000.5
node_systemd_unit_start_time_seconds{name="old.service"} 0
node_systemd_unit_start_time_seconds{name="re.target"} 0
node_systemd_unit_state{name="web.service",state="active",type="notify"} 1
node_systemd_unit_state{name="web.service",state="activating",type="notify"} 0
node_systemd_unit_state{name="web.service",state="deactivating",type="notify"} 0
node_systemd_unit_state{name="web.service",state="inactive",type="notify"} 0
node_systemd_unit_state{name="web.service",state="failed",type="notify"} 0
node_systemd_unit_state{name="old.service",state="active",type="simple"} 0
node_systemd_unit_state{name="old.service",state="activating",type="simple"} 0
node_systemd_unit_state{name="old.service",state="deactivating",type="simple"} 0
node_systemd_unit_state{name="old.service",state="inactive",type="simple"} 0
node_systemd_unit_state{name="old.service",state="failed",type="simple"} 1
"#;

#[test]
fn units_are_shown_as_node_exporter_does() {
    let peer = Peer::new("run/dbus/system_bus_socket", Manner::Good);
    let mut collector = Systemd::new(&peer.host(), &all_metrics());
    let text = run(&mut collector).unwrap();
    assert!(text.starts_with(EVERYTHING), "{text}");
    for line in [
        r#"node_systemd_unit_state{name="re.target",state="active",type=""} 0"#,
        r#"node_systemd_units{state="active"} 4"#,
        r#"node_systemd_units{state="activating"} 0"#,
        r#"node_systemd_units{state="failed"} 1"#,
        r#"node_systemd_units{state="inactive"} 1"#,
        r#"node_systemd_units{state="reloading"} 1"#,
        r#"node_systemd_unit_tasks_current{name="web.service"} 12"#,
        r#"node_systemd_version{version="252.6-1"} 252.6"#,
        r#"node_systemd_virtualization_info{virtualization_type="kvm"} 1"#,
        "utilizer_systemd_units_dropped 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}\n--\n{text}");
    }
    for part in ["tasks_max", "gone.service", "data.mount"] {
        assert!(!text.contains(part), "{part}\n--\n{text}");
    }
    // A scrape shows the same and asks nobody; another interval asks over the same connection, for what may change.
    let calls = peer.log.lock().unwrap().calls;
    collector.begin(Pass::Scrape);
    assert_eq!(shown(&mut collector).unwrap(), text);
    assert_eq!(run(&mut collector).unwrap(), text);
    let log = peer.log.lock().unwrap();
    assert_eq!((log.connections, log.hellos), (1, 1));
    assert_eq!(log.calls, calls * 2 - 3, "hello and two services' types are not asked for again");
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let peer = Peer::new("run/systemd/private", Manner::Good);
    let settings = Settings {
        unit_include: Pattern::new("web|old.service|data.*").unwrap(),
        unit_exclude: Pattern::default(),
        timeout: LONG,
        ..Settings::default()
    };
    let text = run(&mut Systemd::new(&peer.host(), &settings)).unwrap();
    let units: Vec<_> = text.lines().filter(|line| line.contains("state=\"failed\",type")).collect();
    assert_eq!(
        units,
        [
            r#"node_systemd_unit_state{name="old.service",state="failed",type="simple"} 1"#,
            r#"node_systemd_unit_state{name="data.mount",state="failed",type=""} 0"#
        ]
    );
    assert!(!text.contains("restart_total") && !text.contains("start_time") && !text.contains("tasks"), "{text}");
    assert_eq!(peer.log.lock().unwrap().hellos, 0, "there is no bus behind systemd's own socket");

    let text = run(&mut Systemd::new(&peer.host(), &Settings { max_units: 2, timeout: LONG, ..Settings::default() }));
    assert!(text.unwrap().contains("\nutilizer_systemd_units_dropped 3\n"));
}

#[test]
fn without_systemd_there_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let host = HostRoot { root: dir.path().to_path_buf(), ..HostRoot::default() };
    let mut collector = Systemd::new(&host, &Settings::default());
    collector.begin(Pass::Interval);
    assert_eq!(collector.collect(&mut Families::default()).unwrap(), Outcome::Nothing);
    assert!(collector.worker.is_none());
    // A socket that nobody listens at is another matter.
    std::fs::create_dir_all(dir.path().join("run/dbus")).unwrap();
    drop(UnixListener::bind(dir.path().join("run/dbus/system_bus_socket")).unwrap());
    let error = run(&mut collector).unwrap_err();
    assert!(error.starts_with("cannot ask systemd: cannot connect to ") && error.contains("bus_socket"), "{error}");
}

#[test]
fn each_way_of_failing_is_told_and_passes() {
    for (manner, part) in [
        (Manner::Refuses, "does not let the agent in: \"REJECTED EXTERNAL\""),
        (Manner::Denies, "fails: org.freedesktop.DBus.Error.AccessDenied"),
        (Manner::Garbage, "a D-Bus message does not begin as one"),
    ] {
        let peer = Peer::new("run/dbus/system_bus_socket", manner);
        let mut collector = Systemd::new(&peer.host(), &all_metrics());
        for _ in 0..2 {
            let error = run(&mut collector).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        peer.behave(Manner::Good);
        assert!(run(&mut collector).unwrap().starts_with(EVERYTHING));
    }
}

#[test]
fn a_connection_that_was_lost_is_made_anew() {
    let peer = Peer::new("run/systemd/private", Manner::Forgets);
    let mut collector = Systemd::new(&peer.host(), &all_metrics());
    for connections in 1..4 {
        assert!(run(&mut collector).unwrap().starts_with(EVERYTHING));
        assert_eq!(peer.log.lock().unwrap().connections, connections);
    }
}

#[test]
fn a_silent_one_holds_nobody_and_is_asked_once_at_a_time() {
    let peer = Peer::new("run/systemd/private", Manner::Silent);
    let mut collector = Systemd::new(&peer.host(), &Settings { timeout: LONG, ..Settings::default() });
    let begun = Instant::now();
    for _ in 0..3 {
        collector.begin(Pass::Interval);
        assert_eq!(shown(&mut collector).unwrap(), "", "nothing yet is no failure yet");
    }
    assert!(begun.elapsed() < LONG / 2);
    assert_eq!(peer.log.lock().unwrap().connections, 1);

    let timeout = Duration::from_millis(50);
    let mut collector = Systemd::new(&peer.host(), &Settings { timeout, ..Settings::default() });
    assert_eq!(run(&mut collector).unwrap_err(), "cannot ask systemd: no answer within 50ms");
    peer.behave(Manner::Good);
    // A short timeout on a busy machine may strike again.
    while run(&mut collector).is_err() {}
}

#[test]
fn versions_of_distributions() {
    for (version, number) in [
        ("252", Some(252.0)),
        ("252.6-1", Some(252.6)),
        ("v249.11-0ubuntu3", Some(249.11)),
        ("systemd 39 but 257~rc1", Some(257.0)),
        ("255.", Some(255.0)),
        ("45", None),
        ("", None),
        ("é", None),
    ] {
        assert_eq!(version_number(version), number, "{version}");
    }
}
