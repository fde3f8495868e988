//! Probes of real servers, by the real agent.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use test_servers::{ClickHouse, Mosquitto, Nginx, Postgres, Prometheus, Redis, wait_for};

use super::support::{Agent, Setup, exchange, request};

/// Files that servers and probes need.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Servers run as users of their own.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").current_dir(self.0.path()).args(arguments.split(' ')).output();
        let output =
            output.unwrap_or_else(|e| panic!("can't run openssl ({e}); install it with: apt-get install openssl"));
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An authority, a certificate of it for 127.0.0.1 that is good for two days, and one that expired yesterday.
    fn certificates(&self) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        self.write("server.ext", "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
        self.openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
        self.openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=server"));
        for (name, days) in [("good", 2), ("expired", -1)] {
            self.openssl(&format!(
                "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days {days} -extfile server.ext"
            ));
        }
    }
}

/// An agent with these probes, each a name and a table.
fn setup(probes: &[(&str, String)]) -> Setup {
    let mut text = String::new();
    for (name, table) in probes {
        write!(text, "[[probe]]\nname = \"{name}\"\ninterval = \"1s\"\ntimeout = \"1s\"\n{table}\n").unwrap();
    }
    let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    Setup::new().set("probe", table.get("probe").cloned().unwrap_or_else(|| toml::Value::Array(Vec::new())))
}

/// The value of a metric of a probe, with these words in its labels.
fn value(page: &str, metric: &str, probe: &str, more: &str) -> Option<f64> {
    let line = page.lines().find(|line| {
        line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'))
            && line.contains(&format!("probe=\"{probe}\""))
            && line.contains(more)
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn page(agent: &Agent) -> String {
    agent.get("/metrics").body
}

/// Waits until a probe has succeeded, or failed, and gives the page.
fn ends(agent: &Agent, probe: &str, success: bool) -> String {
    wait_for(&format!("{probe} ends with {success}; {}", agent.get("/api/v1/probes").body), || {
        let page = page(agent);
        (value(&page, "probe_success", probe, "") == Some(f64::from(success))).then_some(page)
    })
}

/// Why a probe failed last.
fn reason(agent: &Agent, probe: &str) -> String {
    let states: serde_json::Value = serde_json::from_str(&agent.get("/api/v1/probes").body).unwrap();
    let state = states["data"].as_array().unwrap().iter().find(|state| state["probe"] == probe).cloned();
    state.unwrap()["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn databases_and_caches_are_asked() {
    let files = Files::new();
    files.certificates();
    // PostgreSQL wants its key for itself.
    let key = files.path("server.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let hba = files.write(
        "hba.conf",
        "host all open 127.0.0.1/32 trust\nhost all old 127.0.0.1/32 md5\nhost all clear 127.0.0.1/32 password\n\
         host all all 127.0.0.1/32 scram-sha-256\n",
    );
    if rustix::process::geteuid().is_root() {
        assert!(Command::new("chown").arg("postgres").arg(&key).status().unwrap().success());
    }
    let postgres = Postgres::start_with(&[
        "fsync=off",
        &format!("hba_file={hba}"),
        "ssl=on",
        &format!("ssl_cert_file={}", files.path("good.pem").display()),
        &format!("ssl_key_file={}", key.display()),
    ]);
    postgres.psql(
        "postgres",
        "CREATE ROLE open LOGIN; CREATE ROLE clear LOGIN PASSWORD 'hush'; SET password_encryption = md5; \
         CREATE ROLE old LOGIN PASSWORD 'hush'",
    );
    let _oldest = postgres.session("postgres", "SET LOCAL lock_timeout = 0");
    let redis = Redis::start(&["--requirepass", "hush", "--maxmemory", "64mb"]);
    let clickhouse = ClickHouse::start(&[]);
    let (right, hush, wrong) =
        (files.write("right", postgres.password()), files.write("hush", "hush\n"), files.write("wrong", "horse\n"));
    let ca = files.path("ca.pem").display().to_string();
    let pg = |user: &str, more: &str| {
        format!("[probe.postgres]\nurl = \"postgres://{user}@127.0.0.1:{}/postgres\"\n{more}", postgres.port())
    };
    let secret = |file: &str| format!("password_file = \"{file}\"\n");
    let require = format!("tls_mode = \"require\"\n[probe.postgres.tls]\nca_file = \"{ca}\"\n");
    let agent = setup(&[
        ("scram", pg("postgres", &secret(&right))),
        ("scram-tls", pg("postgres", &(secret(&right) + &require))),
        ("open", pg("open", "")),
        ("old", pg("old", &secret(&hush))),
        ("clear", pg("clear", &secret(&hush))),
        ("clear-tls", pg("clear", &(secret(&hush) + &require))),
        ("refused", pg("postgres", &secret(&wrong))),
        ("nobody", pg("nobody", &secret(&wrong))),
        ("cache", format!("[probe.redis]\nurl = \"{}\"\n{}", redis.url(), secret(&hush))),
        ("cache-refused", format!("[probe.redis]\nurl = \"{}\"\n{}", redis.url(), secret(&wrong))),
        ("cache-open", format!("[probe.redis]\nurl = \"{}\"\n", redis.url())),
        ("logs", format!("[probe.clickhouse]\nurl = \"{}\"\n", clickhouse.url())),
    ])
    .start();
    let shown = ends(&agent, "scram", true);
    assert_eq!(value(&shown, "pg_up", "scram", "kind=\"postgres\""), Some(1.0), "{shown}");
    assert_eq!(value(&shown, "pg_settings_max_connections", "scram", ""), Some(40.0));
    assert_eq!(value(&shown, "pg_replication_is_replica", "scram", ""), Some(0.0));
    assert!(value(&shown, "pg_stat_activity_count", "scram", "state=\"active\"").unwrap() >= 1.0);
    assert_eq!(value(&shown, "pg_stat_activity_count", "scram", "state=\"idle in transaction\""), Some(1.0));
    assert!(value(&shown, "pg_stat_activity_max_tx_duration", "scram", "state=\"idle in transaction\"").unwrap() > 0.0);
    let shown = ends(&agent, "scram-tls", true);
    assert!(value(&shown, "probe_ssl_earliest_cert_expiry", "scram-tls", "").is_some());
    for probe in ["open", "old", "clear-tls", "cache", "logs"] {
        ends(&agent, probe, true);
    }
    for (probe, why) in [
        ("clear", "it wants the password in clear text, which is sent over TLS only"),
        ("refused", "it refuses the password (SQLSTATE 28P01)"),
        ("nobody", "it refuses the password (SQLSTATE 28P01)"),
        ("cache-refused", "AUTH: it refuses the user or the password"),
        ("cache-open", "it wants a password"),
    ] {
        let shown = ends(&agent, probe, false);
        assert!(reason(&agent, probe).starts_with(why), "{probe}: {}", reason(&agent, probe));
        assert!(agent.log().contains(&format!("probe {probe} (")), "{}", agent.log());
        let up = if probe.starts_with("cache") { "redis_up" } else { "pg_up" };
        assert_eq!(value(&shown, up, probe, ""), Some(0.0));
    }
    let shown = page(&agent);
    assert!(value(&shown, "redis_memory_used_bytes", "cache", "").unwrap() > 100_000.0);
    assert_eq!(value(&shown, "redis_memory_max_bytes", "cache", ""), Some(67_108_864.0));
    assert!(value(&shown, "redis_connected_clients", "cache", "").unwrap() >= 1.0);
    assert!(value(&shown, "redis_instantaneous_ops_per_sec", "cache", "").is_some());
    assert_eq!(value(&shown, "clickhouse_up", "logs", "kind=\"clickhouse\""), Some(1.0));
    for text in [shown, agent.log(), agent.get("/api/v1/probes").body] {
        assert!(!text.contains("horse") && !text.contains("of-the-tests"), "{text}");
    }
    // Stopped, it is told once.
    postgres.kill();
    let shown = ends(&agent, "scram", false);
    assert_eq!(value(&shown, "pg_up", "scram", ""), Some(0.0));
    assert_eq!(value(&shown, "pg_settings_max_connections", "scram", ""), None, "an old value");
    agent.says("probe scram (postgres://127.0.0.1:");
    postgres.again();
    ends(&agent, "scram", true);
    agent.says("is answered again");
}

#[test]
fn servers_of_http_and_brokers_are_asked() {
    let files = Files::new();
    files.certificates();
    files.write("health", "all is well");
    let root = files.0.path().display();
    let site = format!("root {root};\nlocation /moved {{ return 302 /health; }}\nlocation /gone {{ return 410; }}");
    let certificate = |name: &str| {
        let (chain, key) = (files.path(name), files.path("server.key"));
        format!("{site}\nssl_certificate {};\nssl_certificate_key {};", chain.display(), key.display())
    };
    let (plain, good, expired) =
        (Nginx::start(&site), Nginx::start(&certificate("good.pem")), Nginx::start(&certificate("expired.pem")));
    let broker = Mosquitto::start("");
    let prometheus = Prometheus::start("");
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = test_servers::free_port();
    let ca = files.path("ca.pem").display().to_string();
    let http = |scheme: &str, port: u16, path: &str, more: &str| {
        format!("[probe.http]\nurl = \"{scheme}://127.0.0.1:{port}{path}\"\n{more}")
    };
    let trust = format!("[probe.http.tls]\nca_file = \"{ca}\"\n");
    let watched = files.write("watched", "one");
    let agent = setup(&[
        ("page", http("http", plain.port(), "/moved", "body_must_match = [\"well\"]\n")),
        ("wrong", http("http", plain.port(), "/health", "body_must_match = [\"^ill\"]\n")),
        ("gone", http("http", plain.port(), "/gone", "")),
        ("secure", http("https", good.port(), "/health", &trust)),
        ("expired", http("https", expired.port(), "/health", &trust)),
        ("stranger", http("https", good.port(), "/health", "")),
        ("anyone", http("https", expired.port(), "/health", "[probe.http.tls]\nverify = false\n")),
        ("closed", http("http", closed, "/", "")),
        ("hangs", http("http", hanging.local_addr().unwrap().port(), "/", "")),
        (
            "port",
            format!("[probe.tcp]\nurl = \"tls://127.0.0.1:{}\"\n[probe.tcp.tls]\nca_file = \"{ca}\"\n", good.port()),
        ),
        ("broker", format!("[probe.mqtt]\nurl = \"{}\"\ntopic = \"probe/h\"\n", broker.url())),
        ("flow", format!("[probe.freshness]\nurl = \"{}\"\ntopic = \"orders/#\"\nmax_age = \"1h\"\n", broker.url())),
        ("prometheus", format!("[probe.prometheus]\nurl = \"{}\"\n", prometheus.url())),
        ("watched", format!("[probe.file]\npath = \"{watched}\"\ndigest = true\n")),
    ])
    .start();
    let shown = ends(&agent, "page", true);
    for (metric, wanted) in [
        ("probe_http_status_code", 200.0),
        ("probe_http_redirects", 1.0),
        ("probe_http_ssl", 0.0),
        ("probe_http_content_length", 11.0),
        ("probe_failed_due_to_regex", 0.0),
        ("probe_ip_protocol", 4.0),
    ] {
        assert_eq!(value(&shown, metric, "page", ""), Some(wanted), "{metric}");
    }
    for phase in ["resolve", "connect", "tls", "processing", "transfer"] {
        let phase = format!("phase=\"{phase}\"");
        assert!(value(&shown, "probe_http_duration_seconds", "page", &phase).is_some(), "{phase}");
    }
    for probe in ["secure", "anyone", "port", "broker", "flow", "prometheus", "watched"] {
        ends(&agent, probe, true);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for (probe, why) in [
        ("wrong", "the body does not match \"^ill\""),
        ("gone", "it answers 410 (Gone)"),
        ("expired", "no TLS with 127.0.0.1:"),
        ("stranger", "no TLS with 127.0.0.1:"),
        ("closed", "can't connect to 127.0.0.1:"),
        ("hangs", "http://127.0.0.1:"),
    ] {
        ends(&agent, probe, false);
        let said = reason(&agent, probe);
        assert!(said.starts_with(why), "{probe}: {said}");
    }
    assert!(reason(&agent, "expired").contains("has to be renewed"), "{}", reason(&agent, "expired"));
    assert!(reason(&agent, "hangs").contains("took longer than 1 s"), "{}", reason(&agent, "hangs"));
    let shown = page(&agent);
    assert_eq!(value(&shown, "probe_failed_due_to_regex", "wrong", ""), Some(1.0));
    assert_eq!(value(&shown, "probe_http_status_code", "gone", ""), Some(410.0));
    assert_eq!(value(&shown, "probe_tls_version_info", "secure", "version=\"TLS 1."), Some(1.0));
    // It ends with the authority's, which is as old.
    let expiry = |probe: &str| value(&shown, "probe_ssl_earliest_cert_expiry", probe, "").unwrap() - now;
    assert!((86_400.0..3.0 * 86_400.0).contains(&expiry("secure")), "{}", expiry("secure"));
    assert!((-2.0 * 86_400.0..0.0).contains(&expiry("expired")), "{}", expiry("expired"));
    assert_eq!(expiry("expired"), expiry("anyone"));
    assert!(value(&shown, "probe_mqtt_duration_seconds", "broker", "phase=\"round_trip\"").is_some());

    assert_eq!(value(&shown, "probe_freshness_messages_total", "flow", ""), Some(0.0));
    broker.publish("orders/7", "x", &[]);
    wait_for("the message counts", || {
        (value(&page(&agent), "probe_freshness_messages_total", "flow", "") == Some(1.0)).then_some(())
    });
    assert_eq!(value(&shown, "probe_file_changes_total", "watched", ""), Some(0.0));
    std::fs::write(Path::new(&watched), "two").unwrap();
    wait_for("the change counts", || {
        (value(&page(&agent), "probe_file_changes_total", "watched", "").unwrap_or_default() >= 1.0).then_some(())
    });

    // The reason is told when it changes, and not at each run.
    let said = agent.log().matches("probe closed (").count();
    assert_eq!(said, 1, "{}", agent.log());
}

#[test]
fn a_reload_changes_probes_and_a_query_sees_them() {
    let page_ = Nginx::start("location / { return 200 '{\"rows\": 900000}'; }");
    let table = |metric: &str| {
        let url = format!("http://127.0.0.1:{}/", page_.port());
        format!("[probe.http]\nurl = \"{url}\"\njson = [{{ path = \"rows\", metric = \"{metric}\" }}]\n")
    };
    let agent = setup(&[("first", table("rows_read"))]).start();
    assert_eq!(value(&ends(&agent, "first", true), "rows_read", "first", "kind=\"http\""), Some(900_000.0));
    let answer = wait_for("rules see it", || {
        let body = agent.get("/api/v1/query?query=rows_read%20%3E%20800000").body;
        body.contains("\"first\"").then_some(body)
    });
    assert!(answer.contains("\"instance\":\"h\"") && answer.contains("\"900000\""), "{answer}");
    agent.reload(&setup(&[("second", table("rows_read_2"))]));
    let shown = ends(&agent, "second", true);
    assert_eq!(value(&shown, "rows_read_2", "second", ""), Some(900_000.0));
    wait_for("the first is gone", || value(&page(&agent), "probe_success", "first", "").is_none().then_some(()));
    let broken = setup(&[("second", "[probe.http]\nurl = \"http://me:hush@h/\"\n".to_owned())]);
    agent.reload(&broken);
    agent.says("probe[0].http.url: it carries a user name or password");
    assert!(!agent.log().contains("hush"));
    ends(&agent, "second", true);
    agent.reload(&setup(&[]));
    wait_for("all are gone", || (!page(&agent).contains("probe_success")).then_some(()));
}

#[test]
fn echo_requests_are_answered_where_the_kernel_lets_them_out() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    // A network of its own, in which the agent's group may have such sockets.
    let script = "ip link set lo up && sysctl -q -w net.ipv4.ping_group_range='0 0' && exec \"$@\"";
    let mut unshare = vec!["unshare", "--net"];
    if !rustix::process::geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    let host = |host: &str| format!("[probe.icmp]\nhost = \"{host}\"\n");
    let agent = setup(&[("v4", host("127.0.0.1")), ("v6", host("::1")), ("nobody", host("192.0.2.1"))])
        .set("serve.unix", socket.display().to_string())
        .run_by(&[&unshare[..], &["sh", "-c", script, "sh"]].concat())
        .start();
    let page = || {
        let stream = UnixStream::connect(&socket).ok()?;
        Some(exchange(stream, request("GET", "/metrics").as_bytes()).body)
    };
    let page = wait_for("all have ended", || page().filter(|page| page.matches("\nprobe_success{").count() == 3));
    assert_eq!(value(&page, "probe_success", "v4", ""), Some(1.0), "{page}\n{}", agent.log());
    assert_eq!(value(&page, "probe_success", "v6", ""), Some(1.0), "{}", agent.log());
    assert_eq!(value(&page, "probe_success", "nobody", ""), Some(0.0));
    assert!(value(&page, "probe_icmp_duration_seconds", "v6", "phase=\"rtt\"").is_some_and(|rtt| rtt > 0.0));
    assert_eq!(value(&page, "probe_icmp_duration_seconds", "nobody", "phase=\"rtt\""), None);
    agent.says("probe nobody (192.0.2.1): it can't be reached");
}
