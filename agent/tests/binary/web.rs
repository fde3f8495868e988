//! TLS, certificates, passwords and tokens, as who scrapes meets them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_servers::{Prometheus, wait_for};

use super::support::{Agent, Setup, ask, request, run};

/// `horse-staple`, at the cost that the exporters' documents name.
const HASH: &str = "$2y$10$zGVYdjgrdf9uvhwXqIoUhewzzFJOPMC6/NMKNd0DcqHxXZqAxBv4a";
const TOKEN: &str = "0123456789abcdef-token";

/// A folder with an authority, a server's certificate for 127.0.0.1, two clients' and one that nobody signed.
pub(super) struct Keys(tempfile::TempDir);

impl Keys {
    pub(super) fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for own in ["ca", "stranger"] {
            keys.openssl(&format!("req -x509 {key} -keyout {own}.key -out {own}.pem -days 2 -subj /CN={own}"));
        }
        keys.sign("server", "subjectAltName=IP:127.0.0.1\n");
        keys.sign("client", "extendedKeyUsage=clientAuth\nsubjectAltName=DNS:scraper.example,URI:spiffe://example/s\n");
        keys.sign("other", "extendedKeyUsage=clientAuth\nsubjectAltName=DNS:other.example\n");
        keys
    }

    fn sign(&self, who: &str, extensions: &str) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        std::fs::write(self.path(&format!("{who}.ext")), format!("{extensions}basicConstraints=CA:FALSE\n")).unwrap();
        self.openssl(&format!("req {key} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
        self.openssl(&format!(
            "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {who}.pem -days 2 -extfile {who}.ext"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").current_dir(self.0.path()).args(arguments.split(' ')).output();
        let output =
            output.unwrap_or_else(|e| panic!("can't run openssl ({e}); install it with: apt-get install openssl"));
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Puts a web configuration beside the keys.
    fn web(&self, text: &str) -> String {
        std::fs::write(self.path("web.yml"), text).unwrap();
        self.text("web.yml")
    }

    fn agent(&self, web: &str) -> Agent {
        Setup::new().set("serve.web_config_file", self.web(web)).set("log.level", "debug").start()
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

/// What curl got: the status, 0 where there was no answer; head and body.
fn curl(keys: &Keys, agent: &Agent, scheme: &str, path: &str, more: &[&str]) -> (u16, String) {
    let url = format!("{scheme}://{}{path}", agent.address());
    let output = Command::new("curl")
        .current_dir(keys.0.path())
        .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*", "--include", "--cacert", "ca.pem"])
        .args(more)
        .args(["--write-out", "\n%{http_code}", &url])
        .output()
        .unwrap_or_else(|e| panic!("can't run curl ({e}); install it with: apt-get install curl"));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), format!("{body}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_password_or_a_token_opens_every_page_and_nothing_else_does() {
    let keys = Keys::new();
    std::fs::write(keys.path("token"), format!("{TOKEN}\n")).unwrap();
    let agent = keys.agent(&format!(
        "{TLS}basic_auth_users:\n  anna: {HASH}\nbearer_auth_token_files:\n  prometheus: token\n\
         http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    ));
    let bearer = format!("authorization: Bearer {TOKEN}");
    for path in ["/metrics", "/healthz", "/"] {
        for right in [["--user", "anna:horse-staple"], ["--header", &bearer]] {
            let (status, answer) = curl(&keys, &agent, "https", path, &right);
            assert_eq!(status, 200, "{path} {right:?}: {answer}");
            assert!(answer.to_lowercase().contains("x-frame-options: deny"), "{answer}");
        }
        for wrong in [["--user", "anna:horse"], ["--user", "ben:horse-staple"], ["--header", "authorization: Bearer x"]]
        {
            let (status, answer) = curl(&keys, &agent, "https", path, &wrong);
            assert_eq!(status, 401, "{path} {wrong:?}: {answer}");
            let head = answer.to_lowercase();
            assert!(head.contains("www-authenticate: basic") && head.contains("www-authenticate: bearer"), "{answer}");
        }
        assert_eq!(curl(&keys, &agent, "https", path, &[]).0, 401);
    }
    assert!(!agent.log().contains("horse") && !agent.log().contains(TOKEN));
    let page = curl(&keys, &agent, "https", "/metrics", &["--header", &bearer]).1;
    assert!(
        page.contains("\nutilizer_web_denied_total 12\n") && page.contains("\nutilizer_web_config_valid 1\n"),
        "{page}"
    );
    // A header as large as the server reads at all, and one larger.
    for (size, expected) in [(50_000, 401), (200_000, 431)] {
        let header = format!("authorization: Basic {}", "A".repeat(size));
        std::fs::write(keys.path("header"), header).unwrap();
        let (status, answer) = curl(&keys, &agent, "https", "/metrics", &["--header", "@header"]);
        assert_eq!(status, expected, "{answer}");
    }
}

#[test]
fn only_a_certificate_of_the_authority_with_the_right_name_gets_in() {
    let keys = Keys::new();
    let verified = format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n");
    let with = |who: &str| {
        let (key, certificate) = (format!("{who}.key"), format!("{who}.pem"));
        ["--cert".to_owned(), certificate, "--key".to_owned(), key]
    };
    let status = |agent: &Agent, who: &str| {
        let arguments = with(who);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        curl(&keys, agent, "https", "/metrics", if who.is_empty() { &[] } else { &arguments }).0
    };
    let all = |web: &str, expected: [u16; 4]| {
        let agent = keys.agent(web);
        let found = ["client", "other", "stranger", ""].map(|who| status(&agent, who));
        assert_eq!(found, expected, "{web}\n{}", agent.log());
    };
    all(&verified, [200, 200, 0, 0]);
    all(&format!("{verified}  client_allowed_sans: [scraper.example]\n"), [200, 0, 0, 0]);
    all(&format!("{verified}  client_allowed_sans:\n    - spiffe://example/s\n  max_version: TLS12\n"), [200, 0, 0, 0]);
    all(&format!("{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n"), [200, 200, 0, 200]);
    all(&format!("{TLS}  client_auth_type: RequireAnyClientCert\n"), [200, 200, 200, 0]);
    all(&format!("{TLS}  client_auth_type: RequestClientCert\n"), [200, 200, 200, 200]);
}

#[test]
fn versions_and_suites_are_those_that_the_file_names() {
    let keys = Keys::new();
    let agent = keys.agent(&format!(
        "{TLS}  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  curve_preferences: [CurveP384]\n"
    ));
    assert_eq!(curl(&keys, &agent, "https", "/healthz", &["--tls-max", "1.2"]).0, 200);
    assert_eq!(curl(&keys, &agent, "https", "/healthz", &["--tlsv1.3"]).0, 0);
    let other = ["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"];
    assert_eq!(curl(&keys, &agent, "https", "/healthz", &other).0, 0);
}

#[test]
fn what_changes_in_the_files_is_taken_up_and_faults_are_not() {
    let keys = Keys::new();
    let agent = keys.agent(TLS);
    assert_eq!(curl(&keys, &agent, "https", "/healthz", &[]).0, 200);
    // Users come; a fault changes nothing; users go; the certificate is another one.
    keys.web(&format!("{TLS}basic_auth_users:\n  anna: {HASH}\n"));
    wait_for("a password is asked for", || (curl(&keys, &agent, "https", "/healthz", &[]).0 == 401).then_some(()));
    keys.web("tls_server_config:\n  cert_file: nonexistent.pem\n");
    wait_for("the fault is met", || {
        assert_eq!(curl(&keys, &agent, "https", "/healthz", &[]).0, 401);
        agent.log().contains("is not read anew, the old one stays in force").then_some(())
    });
    let page = curl(&keys, &agent, "https", "/metrics", &["--user", "anna:horse-staple"]).1;
    assert!(page.contains("\nutilizer_web_config_valid 0\n"), "{page}");
    // A pipe is a fault as well, and nothing that is waited for.
    std::fs::remove_file(keys.path("web.yml")).unwrap();
    assert!(Command::new("mkfifo").arg(keys.path("web.yml")).status().unwrap().success());
    wait_for("the pipe is refused", || {
        assert_eq!(curl(&keys, &agent, "https", "/healthz", &[]).0, 401);
        agent.log().contains("web.yml: is no regular file").then_some(())
    });
    std::fs::remove_file(keys.path("web.yml")).unwrap();
    keys.web(TLS);
    wait_for("no password is asked for", || (curl(&keys, &agent, "https", "/healthz", &[]).0 == 200).then_some(()));
    keys.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=new");
    keys.sign("server", "subjectAltName=IP:127.0.0.1\n");
    wait_for("the new certificate", || (curl(&keys, &agent, "https", "/healthz", &[]).0 == 200).then_some(()));
}

#[test]
fn who_does_not_speak_tls_is_told_or_sent_away() {
    let keys = Keys::new();
    let mut agent = keys.agent(TLS);
    let address = agent.address();
    let plain = ask(address, request("GET", "/metrics").as_bytes());
    assert_eq!((plain.status, plain.body.as_str()), (400, "This port speaks TLS; ask it by https:// instead\n"));
    // A handshake that turns to garbage, and one that is none.
    for bytes in [
        &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0xff, 0xff][..],
        &[0x16; 20_000],
        &[0, 1, 2],
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut line = TcpStream::connect(address).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = line.write_all(bytes);
        let _ = line.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    // Handshakes that stop in the middle hold up nobody.
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let mut line = TcpStream::connect(address).unwrap();
            line.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
            line
        })
        .collect();
    assert_eq!(curl(&keys, &agent, "https", "/metrics", &[]).0, 200);
    wait_for("slow handshakes are given up", || agent.log().contains("no TLS handshake within 10 s").then_some(()));
    drop(slow);
    agent.stop();
}

#[test]
fn prometheus_scrapes_by_tls_and_password() {
    let keys = Keys::new();
    std::fs::write(keys.path("password"), "horse-staple").unwrap();
    std::fs::write(keys.path("wrong"), "horse").unwrap();
    std::fs::write(keys.path("token"), TOKEN).unwrap();
    let agent = keys.agent(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\nbasic_auth_users:\n  anna: {HASH}\n\
         bearer_auth_token_files:\n  prometheus: token\n"
    ));
    let job = |name: &str, user: &str| {
        format!(
            "- job_name: {name}\n  scheme: https\n{user}  tls_config:\n    ca_file: {}\n    cert_file: {}\n    key_file: {}\n  \
             params:\n    collect[]: [loadavg, uname]\n  static_configs:\n  - targets: ['{}']\n",
            keys.text("ca.pem"),
            keys.text("client.pem"),
            keys.text("client.key"),
            agent.address()
        )
    };
    let basic = |file: &str| format!("  basic_auth:\n    username: anna\n    password_file: {}\n", keys.text(file));
    let bearer = format!("  authorization:\n    credentials_file: {}\n", keys.text("token"));
    let jobs = [job("right", &basic("password")), job("token", &bearer), job("wrong", &basic("wrong"))];
    let prometheus = Prometheus::start(&jobs.concat());
    for job in ["right", "token"] {
        prometheus.becomes(&format!("up{{job=\"{job}\"}}"), |up| up == 1.0);
        prometheus.becomes(&format!("node_load1{{job=\"{job}\"}}"), |load| load >= 0.0);
    }
    prometheus.becomes("up{job=\"wrong\"}", |up| up == 0.0);
    assert_eq!(prometheus.query("node_load1{job=\"wrong\"}"), None);
    let targets = prometheus.get("/api/v1/targets").body;
    assert!(targets.contains("server returned HTTP status 401"), "{targets}");
}

/// All that the agent shows, as a Prometheus without ado takes it: it asks for OpenMetrics and gzip by itself.
#[test]
fn prometheus_takes_all_families() {
    let agent = Setup::new().start();
    let text = agent.get("/metrics").body;
    let prometheus =
        Prometheus::start(&format!("- job_name: agent\n  static_configs:\n  - targets: ['{}']\n", agent.address()));
    prometheus.becomes("up", |up| up == 1.0);
    let series = text.lines().filter(|line| !line.starts_with('#')).count() as f64;
    prometheus.becomes("scrape_samples_scraped", |scraped| scraped >= series * 0.8);
    prometheus.becomes("count(node_cpu_seconds_total)", |count| count >= 8.0);
    let metadata = prometheus.get("/api/v1/metadata?metric=node_cpu_seconds_total").body;
    let open = prometheus.get("/api/v1/metadata?metric=node_cpu_seconds").body;
    assert!(metadata.contains("counter") || open.contains("counter"), "{metadata} {open}");
}

#[test]
fn check_looks_into_the_web_configuration() {
    let keys = Keys::new();
    let path = keys.web(&format!("{TLS}basic_auth_users:\n  anna: {HASH}\n"));
    let checked = |path: &str| {
        let output = run(&["check", "--web.config.file", path], &[("UTILIZER_AGENT__MQTT__ENABLED", "false")]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, said) = checked(&path);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("(TLS, 1 users with passwords, 0 with tokens)"), "{said}");
    keys.openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out v1.pem -days 2");
    keys.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp521r1 -nodes -keyout p521.key -out p521.pem -days 2 -subj /CN=p521");
    keys.openssl("pkey -in server.key -aes256 -passout pass:horse -out closed.key");
    // A pipe that nobody writes into would be waited for.
    assert!(Command::new("mkfifo").arg(keys.path("pipe")).status().unwrap().success());
    std::fs::write(keys.path("ca.ext"), "short\n").unwrap();
    for (text, part) in [
        (
            "tls_server_config:\n  cert_fil: server.pem\n",
            "web.yml:2:3: unknown key tls_server_config.cert_fil; did you mean cert_file?",
        ),
        (
            "tls_server_config:\n  cert_file: server.pem\n",
            "web.yml:1:1: tls_server_config: the server's private key is missing",
        ),
        (
            "tls_server_config:\n  cert_file: server.pem\n  key_file: other.key\n",
            "certificate and private key do not go together",
        ),
        ("tls_server_config:\n  cert_file: server.key\n  key_file: server.pem\n", "holds no private key in PEM form"),
        (
            "tls_server_config:\n  cert_file: v1.pem\n  key_file: server.key\n",
            "web.yml:2:3: tls_server_config.cert_file: the certificate is of X.509 version 1",
        ),
        (
            "tls_server_config:\n  cert_file: p521.pem\n  key_file: p521.key\n",
            "web.yml:3:3: tls_server_config.key_file: can't be used: keys are RSA of 2048",
        ),
        ("tls_server_config:\n  cert_file: server.pem\n  key_file: closed.key\n", "the private key is encrypted"),
        ("TLS  client_auth_type: Maybe\n", "\"Maybe\" is none of NoClientCert"),
        ("TLS  client_auth_type: RequireAndVerifyClientCert\n", "needs a client_ca_file"),
        ("TLS  client_ca_file: ca.pem\n", "needs a client_auth_type"),
        ("TLS  client_allowed_sans: [a]\n", "needs client_auth_type RequireAndVerifyClientCert"),
        ("TLS  min_version: TLS14\n", "\"TLS14\" is none of"),
        ("TLS  max_version: TLS11\n", "leaves no version"),
        ("TLS  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n", "can't be had"),
        ("TLS  curve_preferences: [CurveP521]\n", "can't be had"),
        ("basic_auth_users:\n  anna: horse-staple\n", "web.yml:2:3: basic_auth_users.anna: is no bcrypt hash"),
        ("bearer_auth_tokens:\n  x: sha256:abc\n", "is not sha256: with 64 hexadecimal digits"),
        ("bearer_auth_token_files:\n  x: ca.ext\n", "less than 16 bytes"),
        ("bearer_auth_token_files:\n  x: /dev/zero\n", "can't read /dev/zero: is no regular file"),
        ("bearer_auth_token_files:\n  x: pipe\n", "pipe: is no regular file"),
        ("tls_server_config:\n  cert_file: pipe\n  key_file: server.key\n", "pipe: is no regular file"),
        ("http_server_config:\n  headers:\n    Server: x\n", "can't be set"),
        ("rate_limit:\n  burst: 1\n", "rate_limit: is not supported here"),
        ("- a\n", "web.yml:1:1: expected keys with values"),
    ] {
        let path = keys.web(&text.replace("TLS  ", &format!("{TLS}  ")));
        let (code, said) = checked(&path);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(part), "{text}: {said}");
        assert!(!said.contains("horse"), "{said}");
    }
    assert!(Path::new(&path).exists());
}
