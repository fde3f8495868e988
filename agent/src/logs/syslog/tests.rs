//! Messages over real sockets.

use std::io::Write;

use logs::sections::{LogsSection, RedactSection};
use logs::{Plans, Policy};
use wire::Timestamp;
use wire::messages::LogRecord;

use super::*;
use crate::logs::batch::Batch;

/// Longer than a loaded machine takes.
const DEADLINE: Duration = Duration::from_secs(20);

struct Rig {
    syslog: Syslog,
    policy: Policy,
    counts: Counts,
    records: Vec<LogRecord>,
}

impl Rig {
    fn new(syslog: SyslogSection) -> Self {
        let section = LogsSection { syslog: Some(syslog), max_line: 1000, ..LogsSection::default() };
        let plans = Plans::new(&[section], &RedactSection::default(), &|_| Some(jiff::tz::TimeZone::UTC)).unwrap();
        let plan = plans.inputs[0].clone();
        let policy = Policy::new(&plan);
        let syslog = Syslog::new(plan, &HostRoot::default());
        Self { syslog, policy, counts: Counts::default(), records: Vec::new() }
    }

    fn look(&mut self) {
        let (mut batch, mut out) = (Batch::new(512 << 10), Vec::new());
        let mut feed = Feed {
            policy: &mut self.policy,
            batch: &mut batch,
            buffer: &mut Vec::new(),
            out: &mut out,
            max_line: 1000,
            now: Instant::now(),
            time: Timestamp::from(std::time::SystemTime::now()),
            counts: &mut self.counts,
        };
        self.syslog.read(&mut feed);
        let json = [b"[", batch.json(), b"]"].concat();
        self.records.extend(serde_json::from_slice::<Vec<LogRecord>>(&json).unwrap());
        self.syslog.count(&mut self.counts);
    }

    fn wait(&mut self, what: &str, until: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !until(self) {
            assert!(Instant::now() < end, "{what} did not come: {:?}, {:?}", self.records, self.counts);
            self.look();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn udp(&self) -> SocketAddr {
        self.syslog.udp.as_ref().unwrap().socket.local_addr().unwrap()
    }

    fn tcp(&self) -> SocketAddr {
        self.syslog.tcp.as_ref().unwrap().local_addr().unwrap()
    }
}

fn local() -> Option<String> {
    Some("127.0.0.1:0".to_owned())
}

#[test]
fn messages_come_over_udp_tcp_and_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("syslog.sock");
    // A dead socket is no obstacle.
    drop(UnixDatagram::bind(&path).unwrap());
    let section = SyslogSection { udp: local(), tcp: local(), unix: Some(path.clone()), ..SyslogSection::default() };
    let mut rig = Rig::new(section);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"<11>1 2026-11-22T15:00:00.5Z web-02 shop 77 ID1 [a@1 b=\"c\"] no more tea", rig.udp()).unwrap();
    let unix = UnixDatagram::unbound().unwrap();
    unix.send_to(b"<13>Nov 22 15:00:00 logger: hello\n", &path).unwrap();
    let mut tcp = TcpStream::connect(rig.tcp()).unwrap();
    tcp.write_all(b"<14>1 - - app - - - first\n31 <14>1 - - app - - - second\nline").unwrap();
    rig.wait("the messages", |rig| rig.records.len() == 4);
    let of = |message: &str| rig.records.iter().find(|record| record.message.contains(message)).unwrap();
    let record = of("no more tea");
    assert_eq!((record.service_name.as_str(), record.level.as_str()), ("shop", "ERROR"));
    assert_eq!(record.timestamp.to_string(), "2026-11-22T15:00:00.500Z");
    let fields = ["host", "pid", "a@1.b", "peer"].map(|name| record.fields[name].as_str());
    assert_eq!(fields, ["web-02", "77", "c", "127.0.0.1"]);
    assert_eq!((of("hello").service_name.as_str(), of("hello").fields.get("peer")), ("logger", None));
    assert_eq!((of("first").message.as_str(), of("second").message.as_str()), ("first", "second\nline"));
    assert_eq!(rig.counts.open, 1);
    // What was begun is a message when the connection ends.
    tcp.write_all(b"<14>last words").unwrap();
    drop(tcp);
    rig.wait("the end", |rig| rig.counts.open == 0);
    assert!(rig.records.iter().any(|record| record.message == "last words"));
    drop(rig);
    assert!(!path.exists());
}

#[test]
fn only_who_is_named_may_send_and_only_so_many() {
    let allow = vec!["192.0.2.1".to_owned()];
    let mut rig = Rig::new(SyslogSection { udp: local(), tcp: local(), allow, ..SyslogSection::default() });
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"<11>secret", rig.udp()).unwrap();
    let mut tcp = TcpStream::connect(rig.tcp()).unwrap();
    rig.wait("two refusals", |rig| rig.counts.refused == 2);
    assert_eq!(tcp.read(&mut [0; 9]).unwrap_or(0), 0, "it was closed");
    assert_eq!(rig.records, []);

    let mut rig = Rig::new(SyslogSection { tcp: local(), max_connections: 1, ..SyslogSection::default() });
    let mut first = TcpStream::connect(rig.tcp()).unwrap();
    rig.wait("a connection", |rig| rig.counts.open == 1);
    let mut second = TcpStream::connect(rig.tcp()).unwrap();
    rig.wait("a refusal", |rig| rig.counts.refused == 1);
    assert_eq!(second.read(&mut [0; 9]).unwrap_or(0), 0);
    first.write_all(b"<14>still here\n").unwrap();
    rig.wait("a message", |rig| rig.records.len() == 1);
}

#[test]
fn long_messages_are_cut_and_a_flood_that_is_not_read_is_counted() {
    let mut rig = Rig::new(SyslogSection { udp: local(), ..SyslogSection::default() });
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(&[&b"<11>"[..], &[b'x'; 30_000]].concat(), rig.udp()).unwrap();
    rig.wait("a long message", |rig| rig.records.len() == 1);
    assert_eq!(rig.counts.truncated, 29_004);
    for _ in 0..2000 {
        udp.send_to(&[b'y'; 9000], rig.udp()).unwrap();
    }
    // The kernel is asked only now and then.
    rig.syslog.udp.as_mut().unwrap().asked = Instant::now();
    rig.wait("the count of drops", |rig| rig.counts.dropped > 0 && rig.records.len() > 1);
    rig.wait("the rest", |rig| rig.records.len() as u64 + rig.counts.dropped == 2001);
}

#[test]
fn an_address_that_is_taken_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut rig = Rig::new(SyslogSection { tcp: Some(address), ..SyslogSection::default() });
    rig.look();
    assert_eq!(rig.counts.errors, 1);
    drop(taken);
    rig.syslog.bind = Some(Instant::now());
    rig.wait("a socket", |rig| rig.syslog.tcp.is_some());
}
