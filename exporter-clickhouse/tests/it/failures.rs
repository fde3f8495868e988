//! What each failure asks of the tier, and what it says.

use exporter::sink::Sink;
use utilizer_exporter_clickhouse::{ClickHouse, ClickHouseConfig};

use crate::rows::{line, lines};
use crate::server::Server;
use crate::{config, expect, open};

#[tokio::test]
async fn a_server_that_goes_away_is_retried_and_gets_the_batch_once() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let server = Server::start(&["--data", data]);
    let (url, port) = (server.url(), server.port());
    let mut sink = open(&server, "away").await;
    let (first, second) = (lines([line("a-1-0")]), lines([line("a-2-0")]));
    sink.write(&first).await.unwrap();
    drop(server);

    let text = expect(sink.write(&second).await, "retry");
    assert!(text.starts_with(&format!("writing 1 rows into away.logs at {url}: ")), "{text}");
    let text = expect(sink.open().await, "retry");
    assert!(text.contains(&url) && text.contains("Connection refused"), "{text}");

    let server = Server::start(&["--data", data, "--port", &port]);
    sink.open().await.unwrap();
    sink.write(&first).await.unwrap();
    sink.write(&second).await.unwrap();
    assert_eq!(server.count("away", "SELECT count() FROM logs").await, 2);
}

#[tokio::test]
async fn a_wrong_password_is_fatal_and_not_repeated() {
    let server = Server::start(&["--user", "writer", "--password", "correct horse"]);
    let with = |password: &str| ClickHouseConfig {
        username: Some("writer".into()),
        password: Some(password.into()),
        ..config(&server, "login")
    };
    let text = expect(ClickHouse::new(with("hunter2")).open().await, "fatal");
    assert!(text.contains("check [clickhouse] username and password_file"), "{text}");
    assert!(text.contains("516") && !text.contains("hunter2"), "{text}");
    expect(ClickHouse::new(config(&server, "login")).open().await, "fatal");
    let mut sink = ClickHouse::new(with("correct horse"));
    sink.open().await.unwrap();
    sink.write(&lines([line("a-1-0")])).await.unwrap();
}

#[tokio::test]
async fn a_bad_database_name_is_said_before_anything_is_asked() {
    let text = expect(ClickHouse::new(config(Server::shared(), "no/such name")).open().await, "fatal");
    assert!(text.starts_with("reading [clickhouse] database: \"no/such name\""), "{text}");
}

#[tokio::test]
async fn writing_before_opening_asks_for_opening() {
    let mut sink = ClickHouse::new(config(Server::shared(), "closed"));
    let text = expect(sink.write(&lines([line("a-1-0")])).await, "retry");
    assert!(text.contains("not open yet"), "{text}");
}

#[tokio::test]
async fn a_table_that_was_dropped_is_fatal() {
    let server = Server::shared();
    let mut sink = open(server, "dropped").await;
    server.run("dropped", "DROP TABLE logs").await;
    let text = expect(sink.write(&lines([line("a-1-0")])).await, "fatal");
    assert!(text.contains("migrate"), "{text}");
    server.run("dropped", "DROP DATABASE dropped").await;
    expect(sink.write(&lines([line("a-1-0")])).await, "fatal");
}

#[tokio::test]
async fn foreign_tables_are_left_alone() {
    let server = Server::shared();
    for name in ["logs", "otel_logs"] {
        let database = format!("taken_{name}");
        server.run("default", &format!("CREATE DATABASE {database}")).await;
        let theirs = format!("CREATE TABLE {name} (message String) ENGINE = MergeTree ORDER BY message");
        server.run(&database, &theirs).await;
        let text = expect(ClickHouse::new(config(server, &database)).open().await, "fatal");
        assert!(text.contains(&format!("has a `{name}` that utilizer did not make")), "{text}");
        let ours = format!("SELECT count() FROM system.tables WHERE database = '{database}' AND comment != ''");
        assert_eq!(server.count(&database, &ours).await, 0);
    }
}

/// A Native block names its columns, and the server skips those that it does not know unless the insert names them.
#[tokio::test]
async fn a_column_that_was_dropped_loses_no_values() {
    let server = Server::shared();
    let mut sink = open(server, "altered").await;
    server.run("altered", "ALTER TABLE logs DROP COLUMN request_id").await;
    let text = expect(sink.write(&lines([line("a-1-0")])).await, "fatal");
    assert!(text.contains("request_id"), "{text}");
    assert_eq!(server.count("altered", "SELECT count() FROM logs").await, 0);
}

#[tokio::test]
async fn rows_that_the_table_refuses_are_poison() {
    let server = Server::shared();
    let mut sink = open(server, "refused").await;
    server.run("refused", "ALTER TABLE logs ADD CONSTRAINT short CHECK length(message) < 100").await;
    let mut long = line("a-1-0");
    long.message = "x".repeat(200);
    let text = expect(sink.write(&lines([long, line("a-1-1")])).await, "poison");
    assert!(text.contains("VIOLATED_CONSTRAINT"), "{text}");
    assert_eq!(server.count("refused", "SELECT count() FROM logs").await, 0, "all or nothing");
    sink.write(&lines([line("a-1-1")])).await.unwrap();
}

#[tokio::test]
async fn something_else_that_answers_http_is_not_taken_for_clickhouse() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n").await;
        }
    });
    let mut sink = ClickHouse::new(ClickHouseConfig::new(url));
    assert!(sink.open().await.is_err());
}
