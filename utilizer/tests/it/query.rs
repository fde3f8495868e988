//! `utilizer query`, against an agent.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use test_servers::{Program, wait_for};

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

fn query(words: &[&str]) -> Output {
    Command::new(UTILIZER).arg("query").args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_agent_answers_and_faults_have_a_place() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let words =
        ["up", "--interval", "1s", "--data-dir", data, "--listen", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"];
    let mut program = Program::start(Path::new(UTILIZER), &words, &[]);
    let url = format!("http://{}", program.address());
    let ask = |expr: &str| query(&["--url", &url, expr]);
    // What collectors read, what is derived of it, and what the agent says of itself.
    let expr = "up + 1 + 0 * (node_load1 + utilizer_memory_percent + utilizer_sampler_passes_total)";
    let line = wait_for("an answer about the host", || {
        let text = String::from_utf8(ask(expr).stdout).unwrap();
        (!text.is_empty()).then_some(text)
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["value"], &line["metric"]["job"]), (&json!(2.0), &json!("node")));
    let output = ask("sum(\n  up @ 5)");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    let text = said(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 3 && lines[0].contains("\"@\"") && lines[1] == "    up @ 5)", "{text}");
    assert_eq!(lines[2].find('^'), lines[1].find('@'), "{text}");
    // Before there was anything.
    let output = query(&["--url", &url, "--time", "2001-01-01T00:00:00Z", "node_load1"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"".as_slice()));
    let output = query(&["--url", &url, "--time", "1.5", "time()"]);
    assert_eq!(output.stdout, b"{\"time\":\"1970-01-01T00:00:01.500Z\",\"value\":1.5}\n");
    program.stop();
    let output = ask("1");
    assert!(output.status.code() == Some(1) && said(&output).contains("nobody listens there"), "{}", said(&output));
}

#[test]
fn a_unix_socket_is_asked_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            heard.extend(byte);
        }
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}]}}"#;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        String::from_utf8(heard).unwrap()
    });
    let output = query(&["--unix", socket.to_str().unwrap(), "a{b=\"c d\"} > 1"]);
    assert_eq!(
        output.stdout,
        b"{\"metric\":{},\"time\":\"1970-01-01T00:00:01.000Z\",\"value\":2.0}\n",
        "{}",
        said(&output)
    );
    let heard = server.join().unwrap();
    assert!(heard.starts_with("GET /api/v1/query?query=a%7Bb%3D%22c%20d%22%7D%20%3E%201 HTTP/1.1\r\n"), "{heard}");
    let output = query(&["--unix", "/nonexistent/socket", "1"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("/nonexistent/socket"), "{}", said(&output));
}

#[test]
fn wrong_calls_are_told() {
    for words in [&["--url", "https://h", "1"][..], &["--time", "noon", "1"], &["--url", "h:1", "1"], &[]] {
        assert_eq!(query(words).status.code(), Some(2), "{words:?}");
    }
}
