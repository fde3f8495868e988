//! The PostgreSQL sink against a real server.

// A test that panics has said enough.
#![allow(clippy::unwrap_used)]

mod ledger;
mod retention;
mod tls;

use std::net::TcpListener;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use exporter::rows::{AlertRow, Batch, HostRow, JsonObject, MetricRow, Origin, Record, Rows};
use exporter::sink::{Sink, SinkError};
use serde_json::{Map, Value, json};
use test_servers::Postgres as Server;
use utilizer_exporter_postgres::{Postgres, PostgresConfig};
use wire::{Kind, Timestamp};

/// One server for all tests; each makes a database of its own.
static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

const DAY: Duration = Duration::from_secs(86_400);

struct Fixture {
    database: String,
    sink: Postgres,
}

impl Fixture {
    fn new() -> Self {
        let database = SERVER.create_database();
        let sink = Postgres::new(PostgresConfig::new(SERVER.url(&database)));
        Self { database, sink }
    }

    async fn open() -> Self {
        let mut fixture = Self::new();
        fixture.sink.open().await.unwrap();
        fixture
    }

    fn psql(&self, sql: &str) -> String {
        SERVER.psql(&self.database, sql)
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn row(metric_name: &str, recorded_at: Timestamp) -> MetricRow {
    MetricRow {
        job_id: "host:web-01".into(),
        stage: "cpu".into(),
        metric_name: metric_name.to_owned(),
        metric_value: 12.5,
        metadata: None,
        recorded_at,
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn record(kind: Kind, rows: Rows) -> Record {
    let origin = Origin { host: "web-01".parse().unwrap(), kind, boot: None, seq: None };
    Record { origin, rows }
}

fn metrics(rows: Vec<MetricRow>) -> Batch {
    Batch { records: vec![record(Kind::Metrics, Rows::Metrics(rows))], ..Batch::default() }
}

fn alert() -> AlertRow {
    AlertRow {
        time: now(),
        host: "web-01".to_owned(),
        alert_name: "DiskFull".to_owned(),
        state: "firing",
        severity: "critical".to_owned(),
        labels: object(json!({"alertname": "DiskFull"})),
        annotations: object(json!({"summary": "über 90 %"})),
        value: None,
        active_at: now(),
        resolved_at: None,
        fingerprint: "00ff00ff00ff00ff".to_owned(),
        event_id: "boot-1-0".to_owned(),
    }
}

fn chain(error: &SinkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn rows_arrive_as_they_were_sent() {
    let mut f = Fixture::open().await;
    let time: Timestamp = now();
    let mut sent = row("cpu_percent", time);
    sent.metadata = Some(JsonObject::from(&object(json!({"host": "web-01", "quote": "\" \\ ü 🦀"}))));
    let batch = Batch {
        records: vec![
            record(Kind::Metrics, Rows::Metrics(vec![sent, row("load1", time)])),
            record(Kind::Alerts, Rows::Alert(Box::new(alert()))),
            record(Kind::Metrics, Rows::Metrics(Vec::new())),
        ],
        ..Batch::default()
    };
    f.sink.write(&batch).await.unwrap();
    assert_eq!(
        f.psql(
            "SELECT job_id, stage, metric_name, metric_value, metadata->>'quote' FROM recap_system_metrics ORDER BY id"
        ),
        "host:web-01|cpu|cpu_percent|12.5|\" \\ ü 🦀\nhost:web-01|cpu|load1|12.5|"
    );
    let millis = "SELECT DISTINCT round(extract(epoch FROM recorded_at) * 1000)::bigint FROM recap_system_metrics";
    assert_eq!(f.psql(millis), time.as_millis().to_string());
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "0");
    assert_eq!(
        f.psql("SELECT alert_name, state, severity, labels->>'alertname', annotations->>'summary', value IS NULL FROM alerts"),
        "DiskFull|firing|critical|DiskFull|über 90 %|t"
    );
}

#[tokio::test]
async fn an_empty_batch_is_nothing() {
    let mut f = Fixture::open().await;
    f.sink.write(&Batch::default()).await.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "0");
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let mut f = Fixture::new();
    assert_eq!(f.sink.migrate().await.unwrap(), 2);
    assert_eq!(f.sink.migrate().await.unwrap(), 0);
    assert_eq!(
        f.psql("SELECT version, name FROM utilizer_schema_migrations ORDER BY version"),
        "1|first_tables\n2|delivery_ledger"
    );
    // The columns that users rely on.
    assert_eq!(
        f.psql(
            "SELECT string_agg(column_name || ' ' || data_type || coalesce('(' || character_maximum_length || ')', ''), ', '
                               ORDER BY ordinal_position)
             FROM information_schema.columns WHERE table_name = 'recap_system_metrics'"
        ),
        "id bigint, job_id character varying(100), stage character varying(50), metric_name character varying(100), \
         metric_value double precision, metadata jsonb, recorded_at timestamp with time zone"
    );
}

#[tokio::test]
async fn members_that_start_together_take_turns() {
    let f = Fixture::new();
    let config = PostgresConfig::new(SERVER.url(&f.database));
    let (mut a, mut b, mut c) = (Postgres::new(config.clone()), Postgres::new(config.clone()), Postgres::new(config));
    let (a, b, c) = tokio::join!(a.migrate(), b.migrate(), c.migrate());
    assert_eq!(a.unwrap() + b.unwrap() + c.unwrap(), 2);
    assert_eq!(f.psql("SELECT count(*) FROM utilizer_schema_migrations"), "2");
}

#[tokio::test]
async fn members_that_want_the_same_day_take_turns() {
    let mut f = Fixture::open().await;
    let mut other = Postgres::new(PostgresConfig::new(SERVER.url(&f.database)));
    other.open().await.unwrap();
    let late = metrics(vec![row("late", now().minus(5 * DAY))]);
    let (a, b) = tokio::join!(f.sink.write(&late), other.write(&late));
    a.unwrap();
    b.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "2");
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "0");
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let mut f = Fixture::open().await;
    f.psql("INSERT INTO utilizer_schema_migrations (version, name) VALUES (1000, 'from_the_future')");
    let error = f.sink.migrate().await.unwrap_err();
    assert!(matches!(error, SinkError::Fatal { .. }));
    assert!(chain(&error).contains("install the newer exporter"), "{}", chain(&error));
}

#[tokio::test]
async fn a_table_of_someone_else_is_left_alone() {
    let mut f = Fixture::new();
    f.psql("CREATE TABLE recap_system_metrics (id SERIAL PRIMARY KEY, mine TEXT)");
    let error = f.sink.open().await.unwrap_err();
    assert!(matches!(error, SinkError::Fatal { .. }));
    let text = chain(&error);
    assert!(text.contains("a table recap_system_metrics that utilizer did not make"), "{text}");
    assert!(text.contains("RENAME TO") && text.contains(&f.database), "{text}");
    assert_eq!(f.psql("SELECT to_regclass('hosts') IS NULL"), "t");
}

#[tokio::test]
async fn rows_in_the_default_partition_move_when_their_day_gets_one() {
    let mut f = Fixture::open().await;
    // As a user would: straight SQL, for a day nobody has asked for yet.
    f.psql(
        "INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, recorded_at)
         SELECT 'job', 'classification', 'mine', n, date_trunc('day', now() - interval '3 days') + n * interval '1 hour'
         FROM generate_series(0, 23) n",
    );
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "24");
    let ids = f.psql("SELECT array_agg(id ORDER BY id) FROM recap_system_metrics");
    f.sink.write(&metrics(vec![row("ours", now().minus(3 * DAY))])).await.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "0");
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "25");
    assert_eq!(f.psql("SELECT array_agg(id ORDER BY id) FROM recap_system_metrics WHERE metric_name = 'mine'"), ids);
    // Indexes of the new partition come with ATTACH.
    assert_eq!(
        f.psql(
            "SELECT count(*) FROM pg_indexes WHERE tablename = 'recap_system_metrics_' || \
             to_char(now() at time zone 'UTC' - interval '3 days', 'YYYYMMDD')"
        ),
        "3"
    );
}

#[tokio::test]
async fn days_far_away_share_the_default_partition() {
    let mut f = Fixture::open().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'recap_system_metrics'::regclass";
    let before = f.psql(partitions);
    let times = ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "9999-12-30T21:59:59.999Z"];
    f.sink.write(&metrics(times.map(|time| row("far", time.parse().unwrap())).to_vec())).await.unwrap();
    assert_eq!(f.psql(partitions), before);
    assert_eq!(
        f.psql("SELECT to_char(recorded_at, 'YYYY-MM-DD HH24:MI:SS.MS') FROM recap_system_metrics_default ORDER BY recorded_at"),
        "0001-01-01 00:00:00.000\n1970-01-01 00:00:00.000\n2099-01-01 00:00:00.000\n9999-12-30 21:59:59.999"
    );
}

#[tokio::test]
async fn a_partition_of_another_span_is_respected() {
    let mut f = Fixture::open().await;
    f.psql("CREATE TABLE mine PARTITION OF recap_system_metrics FOR VALUES FROM (now() - interval '20 days') TO (now() - interval '10 days')");
    f.sink.write(&metrics(vec![row("late", now().minus(15 * DAY))])).await.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM mine"), "1");
}

#[tokio::test]
async fn a_refused_row_is_poison_and_nothing_of_its_batch_stays() {
    let mut f = Fixture::open().await;
    let mut long = row("ok", now());
    long.job_id = "x".repeat(101).into();
    let mut nul = row("ok", now());
    nul.metadata = Some(JsonObject::from(&object(json!({"text": "a\0b"}))));
    for bad in [long, nul] {
        let error = f.sink.write(&metrics(vec![row("ok", now()), bad])).await.unwrap_err();
        assert!(matches!(error, SinkError::Poison { .. }), "{}", chain(&error));
        assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "0");
    }
    // The connection goes on.
    f.sink.write(&metrics(vec![row("ok", now())])).await.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "1");
}

/// The server says no while most of the COPY is still on its way to it.
#[tokio::test]
async fn the_refusal_of_a_large_batch_is_heard() {
    let mut f = Fixture::open().await;
    f.psql("ALTER TABLE recap_system_metrics ADD CONSTRAINT mine CHECK (metric_value < 1000)");
    let mut rows = vec![row("good", now()); 20_000];
    rows[0].metric_value = 5000.0;
    let error = f.sink.write(&metrics(rows)).await.unwrap_err();
    assert!(matches!(error, SinkError::Poison { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("mine"), "{}", chain(&error));
    f.sink.write(&metrics(vec![row("good", now()); 20_000])).await.unwrap();
}

/// A long report or a dump reads the table while a new day needs its partition.
#[tokio::test]
async fn a_long_reader_keeps_no_rows_from_being_written() {
    let mut f = Fixture::open().await;
    let reader = SERVER.session(&f.database, "DO $$ BEGIN PERFORM count(*) FROM recap_system_metrics; END $$");
    let late = now().minus(5 * DAY);
    f.sink.write(&metrics(vec![row("late", late)])).await.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "1");
    drop(reader);
    // The next to want that day makes it and moves the row.
    let mut other = Postgres::new(PostgresConfig::new(SERVER.url(&f.database)));
    other.open().await.unwrap();
    other.write(&metrics(vec![row("later", late)])).await.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "0");
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "2");
}

/// As if the default partition held more rows of the day than can be moved in the time allowed.
#[tokio::test]
async fn a_move_that_takes_too_long_keeps_no_rows_from_being_written() {
    let mut f = Fixture::open().await;
    f.psql(
        "INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, recorded_at)
         VALUES ('job', 's', 'm', 1, now() - interval '5 days');
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'; END $$;
         CREATE TRIGGER slow BEFORE DELETE ON recap_system_metrics_default FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    f.sink.write(&metrics(vec![row("late", now().minus(5 * DAY))])).await.unwrap();
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "2");
}

#[tokio::test]
async fn hosts_are_upserted_and_a_last_will_keeps_the_inventory() {
    let mut f = Fixture::open().await;
    let mut host = HostRow {
        host: "web-01".to_owned(),
        state: "online",
        version: "0.1.0".to_owned(),
        boot: "boot-1".parse().unwrap(),
        interval_seconds: Some(10.0),
        inventory: Some(object(json!({"os": "Debian"}))),
        seen_at: now(),
        retained: false,
    };
    f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
    host.state = "offline";
    host.interval_seconds = None;
    host.inventory = None;
    f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
    assert_eq!(
        f.psql("SELECT host, state, boot, interval_seconds, inventory->>'os' FROM hosts"),
        "web-01|offline|boot-1|10|Debian"
    );
}

#[tokio::test]
async fn a_state_that_the_broker_repeats_moves_seen_at_neither_on_nor_back() {
    let mut f = Fixture::open().await;
    let mut host = HostRow {
        host: "web-01".to_owned(),
        state: "online",
        version: "0.1.0".to_owned(),
        boot: "boot-1".parse().unwrap(),
        interval_seconds: None,
        inventory: None,
        seen_at: "2026-11-14T22:30:00Z".parse().unwrap(),
        retained: true,
    };
    let seen_at = |f: &Fixture| f.psql("SELECT to_char(seen_at, 'YYYY-MM-DD HH24:MI') FROM hosts");
    f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
    assert_eq!(seen_at(&f), "2026-11-14 22:30");
    for (retained, time, seen) in [
        (false, "2026-11-15T22:30:00Z", "2026-11-15 22:30"),
        (true, "2026-11-14T22:30:00Z", "2026-11-15 22:30"),
        (true, "2026-11-16T22:30:00Z", "2026-11-16 22:30"),
        // A clock of ours that was wrong once is put right by the next sign of the host.
        (false, "2026-11-13T22:30:00Z", "2026-11-13 22:30"),
    ] {
        (host.retained, host.seen_at) = (retained, time.parse().unwrap());
        f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
        assert_eq!(seen_at(&f), seen, "{retained} {time}");
    }
}

#[tokio::test]
async fn what_a_person_must_mend_is_fatal_and_names_the_place() {
    let database = SERVER.create_database();
    let port = SERVER.port();
    let cases = [
        (format!("postgres://postgres:wrong-hush@127.0.0.1:{port}/{database}"), "password authentication failed"),
        (format!("postgres://postgres@127.0.0.1:{port}/{database}"), "password missing"),
        (SERVER.url("no_such_database"), "does not exist"),
    ];
    for (url, part) in cases {
        let error = Postgres::new(PostgresConfig::new(&url)).open().await.unwrap_err();
        let text = chain(&error);
        assert!(matches!(error, SinkError::Fatal { .. }), "{text}");
        assert!(text.contains(part) && text.contains(&format!("127.0.0.1:{port}/")), "{text}");
        assert!(!text.contains("hush") && !text.contains(SERVER.password()), "{text}");
    }
}

#[tokio::test]
async fn a_role_without_rights_is_fatal() {
    let f = Fixture::open().await;
    f.psql("DO $$ BEGIN CREATE ROLE reader LOGIN PASSWORD 'reader'; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    f.psql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    let url = format!("postgres://reader:reader@127.0.0.1:{}/{}", SERVER.port(), f.database);
    let mut sink = Postgres::new(PostgresConfig::new(url));
    sink.open().await.unwrap();
    let error = sink.write(&metrics(vec![row("x", now())])).await.unwrap_err();
    assert!(matches!(error, SinkError::Fatal { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("permission denied"), "{}", chain(&error));
}

#[tokio::test]
async fn the_password_may_come_beside_the_url() {
    let database = SERVER.create_database();
    let mut config = PostgresConfig::new(format!("postgres://postgres@127.0.0.1:{}/{database}", SERVER.port()));
    config.password = Some(SERVER.password().to_owned());
    Postgres::new(config).open().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_or_comes_back_means_retry() {
    // A server of its own: the others need theirs.
    let server = Server::start();
    let database = server.create_database();
    let mut sink = Postgres::new(PostgresConfig::new(server.url(&database)));
    server.kill();
    let error = sink.open().await.unwrap_err();
    assert!(matches!(error, SinkError::Retry { .. }), "{}", chain(&error));
    assert!(error.to_string().contains(&format!("127.0.0.1:{}/{database}", server.port())), "{error}");

    server.again();
    sink.open().await.unwrap();
    sink.write(&metrics(vec![row("one", now())])).await.unwrap();

    server.kill();
    let error = sink.write(&metrics(vec![row("two", now())])).await.unwrap_err();
    assert!(matches!(error, SinkError::Retry { .. }), "{}", chain(&error));
    let error = sink.write(&metrics(vec![row("two", now())])).await.unwrap_err();
    assert!(matches!(error, SinkError::Retry { .. }), "{}", chain(&error));

    server.again();
    sink.open().await.unwrap();
    sink.write(&metrics(vec![row("two", now())])).await.unwrap();
    assert_eq!(
        server.psql(&database, "SELECT string_agg(metric_name, ',' ORDER BY id) FROM recap_system_metrics"),
        "one,two"
    );
}

#[tokio::test]
async fn something_that_is_not_postgres_means_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let error =
        Postgres::new(PostgresConfig::new(format!("postgres://me:x@127.0.0.1:{port}/d"))).open().await.unwrap_err();
    assert!(matches!(error, SinkError::Retry { .. }), "{}", chain(&error));
    answer.join().unwrap();
}

/// A stopped server, or a machine that is gone without a word: the kernel answers for it and nobody else does.
#[tokio::test]
async fn a_server_that_accepts_and_never_answers_means_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me:x@{}/d?connect_timeout=1", listener.local_addr().unwrap());
    let mut sink = Postgres::new(PostgresConfig::new(url));
    // A generous end, so that a sink that waits for ever fails here.
    let answer = tokio::time::timeout(Duration::from_secs(60), sink.open()).await.expect("it waits for ever");
    let error = answer.unwrap_err();
    assert!(matches!(error, SinkError::Retry { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("no answer within 1 s"), "{}", chain(&error));
}

/// What a member leaves behind that is gone in the middle must not stop the others.
#[tokio::test]
async fn the_server_is_told_to_give_up_what_nobody_waits_for() {
    let mut f = Fixture::open().await;
    f.psql(
        "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION 'statement % lock % idle %', current_setting('statement_timeout'),
                    current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')
                    USING ERRCODE = '23514';
            END $$;
            CREATE TRIGGER spy BEFORE INSERT ON recap_system_metrics FOR EACH ROW EXECUTE FUNCTION spy()",
    );
    let error = f.sink.write(&metrics(vec![row("x", now())])).await.unwrap_err();
    assert!(chain(&error).contains("statement 50s lock 30s idle 1min"), "{}", chain(&error));
}

/// The users' own statements, where the checkout has them beside it.
#[tokio::test]
async fn the_users_statements_run_unchanged() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let Ok(inserts) = std::fs::read_to_string(format!("{fixtures}/alt-recap-inserts.sql")) else {
        return;
    };
    let queries = std::fs::read_to_string(format!("{fixtures}/alt-recap-queries.sql")).unwrap();
    let f = Fixture::open().await;
    f.psql(&inserts);
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics"), "6");
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "0");
    let output = f.psql(&queries);
    assert!(output.contains("deduplication|2500") && output.contains("|0.85"), "{output}");
}

/// The same in our words, for checkouts without them.
#[tokio::test]
async fn statements_of_users_find_their_partition_and_defaults() {
    let f = Fixture::open().await;
    f.psql(
        "INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, metadata) VALUES
         ('run-7', 'clustering', 'clusters', 3, '{\"algorithm\": \"kmeans\"}'), ('run-7', 'clustering', 'seconds', 2, NULL)",
    );
    assert_eq!(f.psql("SELECT count(*) FROM recap_system_metrics_default"), "0");
    assert_eq!(
        f.psql(
            "SELECT stage, avg(metric_value) FROM recap_system_metrics
             WHERE metric_name = 'seconds' AND recorded_at > now() - interval '7 days' GROUP BY stage"
        ),
        "clustering|2"
    );
    f.psql("INSERT INTO admin_jobs (job_type, parameters) VALUES ('retrain', '{}')");
    assert_eq!(f.psql("SELECT status, started_at IS NULL FROM admin_jobs"), "pending|t");
}

/// The program itself, between a real broker and a real database.
struct Program(std::process::Child);

impl Program {
    fn start(broker: &test_servers::Mosquitto, database_url: &str, state: &std::path::Path) -> Self {
        let child =
            program(database_url, state).env("UTILIZER_EXPORTER_POSTGRES__MQTT__URL", broker.url()).spawn().unwrap();
        Self(child)
    }

    /// TERM, by the pid of our own child, and its exit code.
    fn stop(mut self) -> Option<i32> {
        let status = std::process::Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(status.success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(database_url: &str, state: &std::path::Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_utilizer-exporter-postgres"));
    command
        .env("UTILIZER_EXPORTER_POSTGRES__POSTGRES__URL", database_url)
        .env("UTILIZER_EXPORTER_POSTGRES__STATE_DIR", state)
        .env("UTILIZER_EXPORTER_POSTGRES__SERVE__LISTEN", "")
        .env("UTILIZER_EXPORTER_POSTGRES__ROWS__EVERY", "0s");
    command
}

const METRICS: &str = r#"{"v":1,"host":"web-01","boot":"b1","seq":7,"time":"2026-11-21T22:30:00Z","interval_seconds":10,
    "gauges":[{"name":"cpu_percent","value":12.5},{"name":"memory_percent","value":"NaN"}]}"#;

#[test]
fn the_program_writes_what_the_broker_has_and_stops_on_term() {
    let broker = test_servers::Mosquitto::start("");
    let state = tempfile::tempdir().unwrap();
    let database = SERVER.create_database();
    let program = Program::start(&broker, &SERVER.url(&database), state.path());
    test_servers::wait_for("a row", || {
        broker.publish("utilizer/v1/telemetry/web-01/metrics", METRICS, &[]);
        let tables = SERVER.psql(&database, "SELECT to_regclass('recap_system_metrics') IS NOT NULL");
        let row = "SELECT job_id, stage, metric_name, metric_value, metadata FROM recap_system_metrics LIMIT 1";
        (tables == "t").then(|| SERVER.psql(&database, row)).filter(|row| !row.is_empty())
    });
    assert_eq!(
        SERVER.psql(
            &database,
            "SELECT DISTINCT job_id, stage, metric_name, metric_value, metadata->>'host' FROM recap_system_metrics"
        ),
        "host:web-01|cpu|cpu_percent|12.5|web-01"
    );
    assert_eq!(program.stop(), Some(0));
    let letters = std::fs::read_to_string(state.path().join("postgres/dead-letters.ndjson")).unwrap();
    assert!(letters.contains("metric_value is NaN"), "{letters}");
}

#[test]
fn the_program_says_what_is_wrong_and_how() {
    let state = tempfile::tempdir().unwrap();
    let database = SERVER.create_database();
    let wrong = format!("postgres://postgres:hush@127.0.0.1:{}/{database}", SERVER.port());
    let run = |url: &str, arguments: &[&str]| {
        let output = program(url, state.path()).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    for arguments in [&[][..], &["migrate"]] {
        let (code, text) = run(&wrong, arguments);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("password authentication failed") && text.contains(&database), "{text}");
        assert!(!text.contains("hush"), "{text}");
    }
    let (code, text) = run(&SERVER.url(&database), &["migrate"]);
    assert_eq!((code, text.contains("up to date")), (Some(0), true), "{text}");
    let (code, text) = run("nonsense", &["check"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("UTILIZER_EXPORTER_POSTGRES__POSTGRES__URL: postgres.url: it is not of the form"), "{text}");
}
