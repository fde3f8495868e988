//! Peers that do not behave: the agent refuses them, samples on, and answers the others.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use test_servers::{Mosquitto, free_port, wait_for};

use super::support::{Setup, Watch, ask};

#[test]
fn what_is_no_request_is_refused() {
    // A broker that is away: without one configured no body would be read.
    let agent = Setup::with_broker(&format!("mqtt://127.0.0.1:{}", free_port())).start();
    let address = agent.address();
    let post = "POST /v1/logs HTTP/1.1\r\nhost: a\r\nconnection: close\r\n";
    for (request, status) in [
        ("\u{1}\u{2}\u{3} garbage\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(200_000)), 431),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000)), 431),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)), 414),
        ("GET /../../etc/passwd HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), 404),
        ("CONNECT a:1 HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), 404),
        (format!("{post}content-length: 99999999999999999999\r\n\r\n"), 400),
        (format!("{post}content-length: -1\r\n\r\n"), 400),
    ] {
        assert_eq!(ask(address, request.as_bytes()).status, status, "{request:.100}");
    }
    // A body that ends before its length.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{post}content-length: 30\r\n\r\n{{\"mess").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("the body broke off"), "{answer}");
    assert_eq!(agent.get("/metrics").status, 200);
}

#[test]
fn hundreds_of_open_connections_and_slow_readers_end_nothing() {
    let agent = Setup::new().start();
    let address = agent.address();
    let passes = agent.metric("utilizer_sampler_passes_total").unwrap();
    let lines: Vec<_> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    for mut line in lines.iter().take(200) {
        // Those over the bound are closed at once.
        let _ = line.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20).as_slice());
    }
    drop(lines);
    wait_for("the agent answers again", || {
        let mut line = TcpStream::connect(address).ok()?;
        line.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        line.read_to_string(&mut answer).ok()?;
        answer.ends_with("ok\n").then_some(())
    });
    agent.metric_becomes("utilizer_sampler_passes_total", |now| now > passes);
}

#[test]
fn large_bodies_take_turns_and_small_ones_pass_them() {
    let agent = Setup::with_broker(&format!("mqtt://127.0.0.1:{}", free_port())).start();
    let address = agent.address();
    // The server says "100 Continue" when it begins to read the body.
    let begin = || {
        let mut line = TcpStream::connect(address).unwrap();
        let head = "POST /v1/logs HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
        line.write_all(head.as_bytes()).unwrap();
        line
    };
    let read_begins = |line: &mut TcpStream| {
        let mut answer = [0; 12];
        line.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100");
    };
    let mut lines: Vec<_> = (0..4).map(|_| begin()).collect();
    lines.iter_mut().for_each(read_begins);
    let mut fifth = begin();
    assert_eq!(agent.post("/v1/logs", r#"{"message":"small"}"#).status, 202);
    fifth.set_nonblocking(true).unwrap();
    let early = fifth.read(&mut [0]);
    assert!(early.is_err(), "the fifth waits: {early:?}");
    fifth.set_nonblocking(false).unwrap();
    drop(lines.pop());
    read_begins(&mut fifth);
}

#[test]
fn a_machine_that_slept_goes_on_and_counts_what_it_missed() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let agent = Setup::with_broker(&broker.url()).start();
    watch.metrics(1);
    agent.signal(Signal::STOP);
    // Its own clock goes on while it stands still: wait until it has missed some intervals.
    let asleep = std::time::Instant::now();
    wait_for("some intervals", || (asleep.elapsed().as_millis() > 500).then_some(()));
    agent.signal(Signal::CONT);
    agent.says("intervals were missed");
    // It says so before the pass, and counts it after.
    wait_for("the count of missed intervals", || {
        (agent.metric("utilizer_sampler_missed_total") >= Some(3.0)).then_some(())
    });
    let heard = watch.payloads("metrics").len();
    watch.metrics(heard + 2);
}
