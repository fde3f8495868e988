//! Probes against servers of a few lines: what they find, and what they say of servers that are broken.

use std::net::SocketAddr;
use std::time::Instant as StdInstant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// Long enough that a busy machine does not reach it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A probe by its table in TOML; `{}` is the address.
fn probe(table: &str, address: SocketAddr) -> Probe {
    let text = format!("name = \"p\"\ntimeout = \"20s\"\n{}", table.replace("{}", &address.to_string()));
    let section: ProbeSection = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    checked(&[section]).unwrap_or_else(|faults| panic!("{text}\n{faults:?}")).remove(0)
}

/// Runs it once.
async fn ask(probe: &Probe, timeout: Duration) -> (Result<(), String>, Found) {
    let (mut found, mut memory, tools) = (Found::default(), Memory::default(), Tools::default());
    let until = Instant::now() + timeout;
    let mut run = Run { found: &mut found, memory: &mut memory, tools: &tools, until, timeout, family: probe.family };
    let result = tokio::time::timeout_at(until, probe.kind.look().run(&mut run)).await;
    let result = result.unwrap_or_else(|_| Err(format!("{} took too long", found.at())));
    (result, found)
}

/// A server that reads something and sends this, for each connection.
async fn server(says: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                // Who asks first is let, and who waits to hear something hears it.
                let _ = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut asked)).await;
                let _ = stream.write_all(says).await;
            });
        }
    });
    address
}

/// One that takes connections and never says anything.
async fn silence() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// A table for each kind that connects to a port.
const OVER_TCP: &[&str] = &[
    "[http]\nurl = \"http://{}/health\"",
    "[tcp]\nurl = \"tcp://{}\"\nquery_response = [{ expect = \"^220 \" }]",
    "[dns]\nurl = \"dns://{}\"\nquery_name = \"example.org\"\ntransport = \"tcp\"",
    "[mqtt]\nurl = \"mqtt://{}\"",
    "[postgres]\nurl = \"postgres://me@{}/db\"",
    "[redis]\nurl = \"redis://{}\"",
    "[clickhouse]\nurl = \"http://{}\"",
    "[prometheus]\nurl = \"http://{}\"",
    "[grafana]\nurl = \"http://{}\"",
];

#[tokio::test]
async fn a_closed_port_is_named() {
    let closed = silence().await.0;
    for table in OVER_TCP {
        let (result, found) = ask(&probe(table, closed), PATIENCE).await;
        let why = result.expect_err(table);
        assert!(why.contains("refused") || why.contains("nobody listens"), "{table}: {why}");
        assert!(table.contains("mqtt") || found.value("probe_ip_protocol") == Some(4.0), "{table}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_takes_the_timeout() {
    let (hanging, _listener) = silence().await;
    for table in OVER_TCP {
        let begun = StdInstant::now();
        let (result, _) = ask(&probe(table, hanging), Duration::from_millis(300)).await;
        let why = result.expect_err(table);
        assert!(why.contains("took") || why.contains("answer") || why.contains("no "), "{table}: {why}");
        assert!(begun.elapsed() < PATIENCE, "{table}");
    }
}

#[tokio::test]
async fn garbage_is_no_answer() {
    for says in [
        &b"\x00\xff\x13garbage that nobody speaks, and then some more of it\r\n\r\n\x00\x00"[..],
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"-ERR hush\r\n",
        b"",
    ] {
        let address = server(says).await;
        for table in OVER_TCP {
            let (result, _) = ask(&probe(table, address), PATIENCE).await;
            let why = result.expect_err(table);
            assert!(!why.contains("took too long") && !why.contains("hush"), "{table}: {why}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_says_what_is_in_its_json() {
    let body = b"HTTP/1.1 200 OK\r\ncontent-length: 55\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n\
        {\"database\": \"ok\", \"usage\": {\"rows\": \"812345\", \"n\": 1}}";
    let address = server(body).await;
    let table = "[http]\nurl = \"http://{}/x?token=hush\"\nbody_must_match = ['\"database\": ?\"ok\"']\n\
        body_must_not_match = [\"error\"]\n\
        json = [{ path = \"usage.rows\", metric = \"rows_read\" }, { path = \"/usage/n\", metric = \"n\" }]";
    let probe_ = probe(table, address);
    assert_eq!(probe_.target, format!("http://{address}/x?…"));
    let (result, found) = ask(&probe_, PATIENCE).await;
    assert_eq!(result, Ok(()));
    for (name, value) in [
        ("rows_read", 812_345.0),
        ("n", 1.0),
        ("probe_http_status_code", 200.0),
        ("probe_http_ssl", 0.0),
        ("probe_http_version", 1.1),
        ("probe_http_redirects", 0.0),
        ("probe_http_content_length", 55.0),
        ("probe_http_uncompressed_body_length", 55.0),
        ("probe_http_last_modified_timestamp_seconds", 784_111_777.0),
        ("probe_failed_due_to_regex", 0.0),
    ] {
        assert_eq!(found.value(name), Some(value), "{name}");
    }
    let (result, found) = ask(&probe(&table.replace("\"error\"", "\"rows\""), address), PATIENCE).await;
    assert_eq!(result, Err("the body matches \"rows\"".to_owned()));
    assert_eq!(found.value("probe_failed_due_to_regex"), Some(1.0));
    let (result, _) = ask(&probe("[grafana]\nurl = \"http://{}\"", address), PATIENCE).await;
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn secrets_do_not_follow_a_redirect_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), elsewhere.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let mut heard = Vec::new();
        for (listener, answer) in [
            (&listener, "HTTP/1.1 302 Found\r\nlocation: /next\r\ncontent-length: 0\r\n\r\n".to_owned()),
            (&listener, format!("HTTP/1.1 302 Found\r\nlocation: http://{to}/\r\ncontent-length: 0\r\n\r\n")),
            (&elsewhere, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            heard.push(String::from_utf8_lossy(&asked[..length]).to_ascii_lowercase());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        heard
    });
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hush\n").unwrap();
    let table = format!("[http]\nurl = \"http://{{}}/\"\nbearer_token_file = \"{}\"", token.display());
    let (result, found) = ask(&probe(&table, address), PATIENCE).await;
    assert_eq!((result, found.value("probe_http_redirects")), (Ok(()), Some(2.0)));
    let heard = heard.await.unwrap();
    assert!(heard[0].contains("authorization: bearer hush") && heard[1].contains("hush"), "{heard:?}");
    assert!(heard[1].starts_with("get /next ") && !heard[2].contains("hush"), "{heard:?}");
}

#[tokio::test]
async fn a_dialogue_is_held() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220-mail.example\r\n220 ready\r\n").await.unwrap();
            let mut asked = [0; 100];
            let length = stream.read(&mut asked).await.unwrap();
            let answer: &[u8] = if &asked[..length] == b"EHLO probe\r\n" { b"250 hello\r\n" } else { b"500 what\r\n" };
            stream.write_all(answer).await.unwrap();
        }
    });
    let table = "[tcp]\nurl = \"tcp://{}\"\n\
        query_response = [{ expect = \"^220 \", send = \"EHLO probe\\r\" }, { expect = \"^250 \" }]";
    let (result, found) = ask(&probe(table, address), PATIENCE).await;
    assert_eq!((result, found.value("probe_failed_due_to_regex")), (Ok(()), Some(0.0)));
    let (result, found) = ask(&probe(&table.replace("EHLO", "HELO"), address), PATIENCE).await;
    assert!(result.unwrap_err().starts_with("no line matched \"^250 \": it closed the connection"));
    assert_eq!(found.value("probe_failed_due_to_regex"), Some(1.0));
}

#[tokio::test]
async fn a_name_server_is_asked() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            // A forged answer first.
            let _ = socket.send_to(b"\x00\x00\x81\x80\x00\x00\x00\x00\x00\x00\x00\x00", from).await;
            let mut answer = buffer[..length].to_vec();
            let is_known = answer[13..].starts_with(b"known");
            answer[2..4].copy_from_slice(if is_known { &[0x81, 0x80] } else { &[0x81, 0x83] });
            if is_known {
                answer[7] = 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    let table =
        "[dns]\nurl = \"dns://{}\"\nquery_name = \"known.example\"\nanswers_must_match = ['A 192\\.0\\.2\\.7$']";
    let (result, found) = ask(&probe(table, address), PATIENCE).await;
    assert_eq!(result, Ok(()));
    assert_eq!(found.value("probe_dns_answer_rrs"), Some(1.0));
    assert_eq!(found.value("probe_dns_query_succeeded"), Some(1.0));
    let (result, found) = ask(&probe(&table.replace("known", "other"), address), PATIENCE).await;
    assert_eq!(result, Err("the answer's code is NXDOMAIN".to_owned()));
    assert_eq!(found.value("probe_dns_query_succeeded"), Some(1.0), "as blackbox_exporter has it");
    let (result, _) = ask(&probe(&table.replace(".7$", ".8$"), address), PATIENCE).await;
    assert_eq!(result, Err("no record of the answer matches \"A 192\\\\.0\\\\.2\\\\.8$\"".to_owned()));
}

#[tokio::test]
async fn this_host_answers_an_echo_request() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let (result, found) = ask(&probe("[icmp]\nhost = \"127.0.0.1\"", nobody), PATIENCE).await;
    match result {
        Ok(()) => assert!(found.value("probe_icmp_duration_seconds").is_some()),
        // As the kernel has it by default in many places.
        Err(why) => assert!(why.contains("net.ipv4.ping_group_range"), "{why}"),
    }
}

#[tokio::test]
async fn changes_of_a_file_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watched");
    let table = format!("[file]\npath = \"{}\"\nmode = \"0600\"\nmay_be_missing = true\n", path.display());
    let probe = probe(&table, SocketAddr::from(([127, 0, 0, 1], 1)));
    let (tools, mut memory, timeout) = (Tools::default(), Memory::default(), PATIENCE);
    let mut look = async || {
        let mut found = Found::default();
        let until = Instant::now() + timeout;
        let mut run =
            Run { found: &mut found, memory: &mut memory, tools: &tools, until, timeout, family: Family::Any };
        let result = probe.kind.look().run(&mut run).await;
        (result, found.value("probe_file_changes_total"), found.value("probe_file_mode"))
    };
    assert_eq!(look().await, (Ok(()), Some(0.0), None));
    let mode = |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    std::fs::write(&path, "a").unwrap();
    mode(0o600);
    assert_eq!(look().await, (Ok(()), Some(1.0), Some(600.0)));
    assert_eq!(look().await, (Ok(()), Some(1.0), Some(600.0)));
    mode(0o644);
    let wrong = Err("its mode is 0644 and must be 0600".to_owned());
    assert_eq!(look().await, (wrong, Some(2.0), Some(644.0)));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(look().await, (Ok(()), Some(3.0), None));
}

#[tokio::test]
async fn the_newest_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let table = format!("[freshness]\npath = \"{}/*.dump\"\nmax_age = \"1h\"", folder.path().display());
    assert_eq!(ask(&probe(&table, nobody), PATIENCE).await.0, Err("there is no such file".to_owned()));
    let old = |name: &str, hours: u64| {
        let file = std::fs::File::create(folder.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    old("a.dump", 5);
    old("b.other", 0);
    let (result, found) = ask(&probe(&table, nobody), PATIENCE).await;
    assert_eq!(result, Err("the newest is older than 1h (`max_age`)".to_owned()));
    assert!(found.value("probe_freshness_age_seconds").unwrap() >= 5.0 * 3600.0);
    old("c.dump", 0);
    let (result, found) = ask(&probe(&table, nobody), PATIENCE).await;
    assert_eq!((result, found.value("probe_freshness_files")), (Ok(()), Some(2.0)));
}

#[test]
fn parsers_survive_anything() {
    let beginnings: &[&[u8]] = &[
        b"$5\r\nhello\r\n*1\r\n+OK\r\n-ERR x\r\n",
        b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0D\0\0\0\x10\0\x02\0\0\0\x01a\xff\xff\xff\xff",
        b"r=nonceabc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
        b"\0\x03\0\x01\0\0\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04\x01\x02\x03\x04",
        b"a.b[0].c{\"a\":{\"b\":[{\"c\":1}]}}",
        b"0\x82\x01\x000\x30\x81\x80\xa0\x03\x02\x01\x02\x02\x010\x000\x000\x1e\x17\x0d700101000000Z\x17\x0d700101000000Z",
    ];
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for round in 0..20_000 {
        let mut bytes = beginnings[round % beginnings.len()].to_vec();
        for _ in 0..random() % 6 {
            let at = random() % bytes.len();
            match random() % 4 {
                0 => bytes[at] = random() as u8,
                1 => bytes[at] ^= 1 << (random() % 8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, [0, 0xff, 0xc0, b'\n'][random() % 4]),
            }
        }
        read_anything(&bytes);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_key() {
    let faults = |text: &str| {
        let file: crate::config::File = toml::from_str(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let faults = checked(&file.probe).unwrap_err();
        faults.into_iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>()
    };
    for (text, said) in [
        ("[[probe]]\n[probe.icmp]\nhost = \"h\"", "probe[0].name: a probe needs a name"),
        ("[[probe]]\nname = \"a\"", "probe[0].name: must say what it asks, by exactly one table of http, tcp, dns"),
        (
            "[[probe]]\nname = \"a\"\n[probe.icmp]\nhost = \"h\"\n[probe.redis]",
            "probe[0].name: must say what it asks, by exactly one",
        ),
        ("[[probe]]\nname = \"a\"\ntimeout = \"31s\"\n[probe.redis]", "probe[0].timeout: must not be longer"),
        ("[[probe]]\nname = \"a\"\nlabels = { kind = \"x\" }\n[probe.redis]", "probe[0].labels.kind: is a label"),
        (
            "[[probe]]\nname = \"a\"\n[probe.redis]\n[[probe]]\nname = \"a\"\n[probe.redis]",
            "probe[1].name: there are two probes \"a\"",
        ),
        ("[[probe]]\nname = \"a\"\n[probe.http]\nurl = \"http://me:hush@h/\"", "probe[0].http.url: it carries a user"),
        ("[[probe]]\nname = \"a\"\n[probe.redis]\nurl = \"redis://:hush@h\"", "probe[0].redis.url: carries a password"),
        (
            "[[probe]]\nname = \"a\"\n[probe.postgres]\nurl = \"postgres://a:hush@h/d\"",
            "probe[0].postgres.url: carries",
        ),
        ("[[probe]]\nname = \"a\"\n[probe.mqtt]\nurl = \"mqtt://a:hush@h\"", "probe[0].mqtt.url: the broker's URL"),
        (
            "[[probe]]\nname = \"a\"\n[probe.http]\nurl = \"http://h\"\njson = [{ metric = \"probe_x\", path = \"a\" }]",
            "probe[0].http.json[0].metric: must be the name",
        ),
        ("[[probe]]\nname = \"a\"\n[probe.dns]\nquery_name = \"a..b\"", "probe[0].dns.query_name: must be a name"),
        ("[[probe]]\nname = \"a\"\n[probe.file]\npath = \"x\"", "probe[0].file.path: must be an absolute path"),
        ("[[probe]]\nname = \"a\"\n[probe.freshness]", "probe[0].freshness.path: says nothing"),
        ("[[probe]]\nname = \"a\"\n[probe.tcp]\nurl = \"tcp://h\"", "probe[0].tcp.url: must be tcp://HOST:PORT"),
    ] {
        let faults = faults(text);
        assert!(faults.iter().any(|fault| fault.starts_with(said)), "{text}\n{faults:#?}");
        assert!(!faults.concat().contains("hush"), "{faults:?}");
    }
}

#[test]
fn what_did_not_run_for_three_intervals_is_gone() {
    let shared = Shared::default();
    let table = "interval = \"100ms\"\n[icmp]\nhost = \"h\"";
    let section: ProbeSection = toml::from_str(&format!("name = \"p\"\ntimeout = \"100ms\"\n{table}")).unwrap();
    let probe = checked(&[section]).unwrap().remove(0);
    shared.keep(std::slice::from_ref(&probe));
    let shows = || {
        let mut families = crate::snapshot::Families::default();
        shared.append_to(&mut families);
        families.samples("probe_success").to_vec()
    };
    assert!(shows().is_empty());
    let mut found = Found::default();
    found.gauge("probe_success", "", 1.0);
    shared.put(&probe, found, Ok(()), Duration::ZERO);
    let shown = shows();
    assert!(shown.len() <= 1, "it may be gone already on a busy machine");
    if let Some(sample) = shown.first() {
        let labels: Vec<_> = sample.labels.iter().collect();
        assert_eq!(labels, [("probe", "p"), ("target", "h"), ("kind", "icmp")]);
    }
    test_servers::wait_for("the result is gone", || shows().is_empty().then_some(()));
    assert!(shared.states().is_empty());
}

#[test]
fn the_page_of_the_documentation_has_every_key() {
    let page = include_str!("../../../docs/probes.md");
    let mut missing = Vec::new();
    for (kind, keys) in defaults() {
        let section = page.split(&format!("\n## `{kind}`")).nth(1);
        let section = section.unwrap_or_else(|| panic!("docs/probes.md has no heading ## `{kind}`"));
        let section = section.split("\n## ").next().unwrap();
        for (key, value) in keys {
            let shown = format!("\n| `{key}` | ");
            let default = match &value {
                toml::Value::String(text) if text.is_empty() => String::new(),
                toml::Value::Array(list) if list.is_empty() => String::new(),
                toml::Value::Table(_) => String::new(),
                value => format!("`{value}`"),
            };
            if !section.contains(&format!("{shown}{default}")) {
                missing.push(format!("## `{kind}`: | `{key}` | {default}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_examples_of_the_documentation_are_configurations() {
    let page = include_str!("../../../docs/probes.md");
    let blocks: Vec<_> = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 12, "{}", blocks.len());
    for block in blocks {
        let file: crate::config::File = toml::from_str(block).unwrap_or_else(|error| panic!("{block}\n{error}"));
        // Files with secrets are not there.
        let faults = checked(&file.probe).err().unwrap_or_default();
        let faults: Vec<_> = faults.iter().filter(|(_, why)| !why.contains("can't read")).collect();
        assert!(faults.is_empty() && !file.probe.is_empty(), "{block}\n{faults:?}");
    }
}

#[tokio::test]
async fn a_broker_that_is_there_later_than_the_probe_is_listened_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // The first connection breaks.
        drop(listener.accept().await);
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    let answer: &[u8] = match bytes[0] {
                        0x10 => &[0x20, 3, 0, 0, 0],
                        // The number of the packet stands behind the length, which is one byte.
                        0x82 => &[0x90, 4, bytes[2], bytes[3], 0, 1],
                        _ => panic!("{:?}", &bytes[..length]),
                    };
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let probe = probe("[freshness]\ntopic = \"a/b\"\nurl = \"mqtt://{}\"", address);
    let (mut memory, tools) = (Memory::default(), Tools::default());
    let until = Instant::now() + PATIENCE;
    let mut failed = 0;
    loop {
        let mut found = Found::default();
        let (timeout, family) = (PATIENCE, Family::Any);
        let mut run = Run { found: &mut found, memory: &mut memory, tools: &tools, until, timeout, family };
        match tokio::time::timeout_at(until, probe.kind.look().run(&mut run)).await.unwrap() {
            Ok(()) => break,
            Err(why) => assert!(Instant::now() < until, "{why}"),
        }
        failed += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(failed > 0);
}

#[tokio::test]
async fn a_server_that_asks_for_a_proof_has_to_give_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 1024];
            let _ = stream.read(&mut bytes).await;
            let _ = stream.write_all(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0").await;
            let _ = stream.read(&mut bytes).await;
            let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await;
            let _ = stream.read(&mut bytes).await;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "x\n").unwrap();
    let table = format!("[postgres]\nurl = \"postgres://me@{{}}/db\"\npassword_file = \"{}\"", file.display());
    let (result, _) = ask(&probe(&table, address), PATIENCE).await;
    assert!(result.as_ref().is_err_and(|why| why.contains("does not prove")), "{result:?}");
}
