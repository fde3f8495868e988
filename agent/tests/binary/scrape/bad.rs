//! Targets that misbehave.

use std::path::Path;
use std::process::Command;

use test_servers::wait_for;

use super::pages::{Page, Pages};
use super::{ALL, Files, becomes, query};
use crate::binary::support::run;

/// A gzip file of a great many zeros, in few bytes.
fn bomb() -> Vec<u8> {
    let shell = "head -c 100000000 /dev/zero | gzip -1 | gzip -dc | gzip -9";
    let packed = Command::new("sh").args(["-c", shell]).output().unwrap().stdout;
    let mut page =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len()).into_bytes();
    page.extend(packed);
    page
}

/// A certificate for another name, and a server that shows it.
struct Stranger {
    _folder: tempfile::TempDir,
    server: std::process::Child,
    place: String,
}

impl Stranger {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let port = test_servers::free_port();
        let made = Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=else".split(' '))
            .args(["-addext", "subjectAltName=DNS:else.example", "-keyout", &path("key"), "-out", &path("cert")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(path("metrics"), "app_secure 1\n").unwrap();
        // Answers files of its folder over HTTP.
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "openssl", "s_server", "-quiet", "-WWW", "-cert", &path("cert")])
            .args(["-key", &path("key"), "-accept", &format!("127.0.0.1:{port}")])
            .current_dir(&folder)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let place = format!("127.0.0.1:{port}");
        wait_for("the TLS server listens", || std::net::TcpStream::connect(&place).ok());
        Self { _folder: folder, server, place }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn targets_that_misbehave_are_down_and_hold_nobody_up() {
    let stranger = Stranger::start();
    let raw = |text: &str| Page::Raw(text.as_bytes().to_vec());
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\napp_half 1\n";
    let bad: Vec<(&str, &str, Page)> = vec![
        ("hangs", "timeout", Page::Silence),
        ("garbage", "connection", Page::Raw(vec![0xff; 5000])),
        ("page", "format", Page::Typed("text/html", "<!doctype html><title>no</title>\n".to_owned())),
        ("binary", "format", Page::Typed("application/vnd.google.protobuf", "x".to_owned())),
        ("half", "connection", raw(half)),
        ("open", "format", Page::Typed("application/openmetrics-text", "app_open 1\n".to_owned())),
        ("large", "too_large", Page::Endless),
        ("bomb", "too_large", Page::Raw(bomb())),
        ("denied", "status", raw("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")),
        ("circle", "status", raw("HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n")),
        ("many", "limit", Page::Classic((0..30).map(|at| format!("app_many{{x=\"{at}\"}} 1\n")).collect())),
    ];
    let servers: Vec<(&str, &str, Pages)> =
        bad.into_iter().map(|(name, result, page)| (name, result, Pages::of(page))).collect();
    let good = Pages::text("app_good 7\n");
    let nobody = test_servers::free_port();
    let mut tables = String::new();
    let mut table = |name: &str, place: &str, keys: &str| {
        tables += &format!(
            "[[scrape]]\njob = 'app-{name}'\ntargets = ['{place}']\ninterval = '500ms'\nsample_limit = 20\n{keys}\n"
        );
    };
    for (name, _, pages) in &servers {
        table(name, &pages.place(), "");
    }
    table("good", &good.place(), "");
    table("nobody", &format!("127.0.0.1:{nobody}"), "");
    table("stranger", &stranger.place, "scheme = 'https'");
    table("trusted", &stranger.place, "scheme = 'https'\ninsecure_skip_verify = true");
    table("keyless", &good.place(), "bearer_token_file = '/nonexistent/token'");
    let files = Files::new(ALL);
    let agent = files.setup(&tables).start();

    let results = servers.iter().map(|(name, result, _)| (*name, *result));
    let others =
        [("nobody", "connection"), ("stranger", "tls"), ("keyless", "credentials"), ("good", "ok"), ("trusted", "ok")];
    for (name, result) in results.chain(others) {
        let series = format!("utilizer_agent_scrapes_total{{job=\"app-{name}\",result=\"{result}\"}}");
        agent.metric_becomes(&series, |count| count >= 2.0);
        let up = f64::from(result == "ok");
        becomes(&agent, &format!("up{{job=\"app-{name}\"}}"), &[up]);
    }
    // Nothing of a page that is refused is taken; and it is said how many samples there were.
    let taken: Vec<String> = query(&agent, "{__name__=~\"app_.*\"}").into_keys().collect();
    assert_eq!(taken.len(), 2, "{taken:?}");
    becomes(&agent, "scrape_samples_scraped{job=\"app-many\"}", &[30.0]);
    let memory = agent.metric("process_resident_memory_bytes").unwrap();
    assert!(memory < 160e6, "{memory}: pages of 100 MB are not held");
    // Once a change, and nothing of the secret place.
    agent.says("app-denied 127.0.0.1");
    assert_eq!(agent.log().matches("app-denied").count(), 1, "{}", agent.log());
    for part in ["it answers 401 (Unauthorized)", "insecure", "can't read /nonexistent/token"].iter().step_by(2) {
        assert!(agent.log().contains(part), "{part}");
    }
    let targets: serde_json::Value = serde_json::from_str(&agent.get("/api/v1/targets").body).unwrap();
    let target = |job: &str| {
        let targets = targets["data"]["activeTargets"].as_array().unwrap();
        targets.iter().find(|target| target["scrapePool"] == job).cloned().unwrap()
    };
    assert_eq!((&target("app-good")["health"], &target("app-denied")["health"]), (&"up".into(), &"down".into()));
    assert!(target("app-denied")["lastError"].as_str().unwrap().contains("it answers 401"));
    let page = agent.get("/").body;
    assert!(page.contains("<h2>Targets</h2>") && page.contains("it sends on more than 10 times"), "{page}");
}

#[test]
fn faults_of_the_configuration_are_named_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = run(&["check", "--config", file.to_str().unwrap()], &[]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap().replace(&shown(&file), "F"))
    };
    let text = "[[scrape]]\njob = 'a'\ntargets = ['h:1']\nintervall = '1s'\n";
    let (code, said) = check(text);
    assert_eq!(code, Some(2));
    assert!(said.contains("F:4:1: unknown key scrape[0].intervall; did you mean interval?"), "{said}");
    let text =
        "[[scrape]]\njob = 'a'\ntargets = ['h:1']\n[[scrape.relabel_configs]]\ntarget_label = 'x'\nregex = '('\n";
    let (code, said) = check(text);
    assert_eq!(code, Some(2));
    assert!(said.contains("F:6:1: scrape[0].relabel_configs[0].regex: \"(\" is no regular expression"), "{said}");
    let (code, said) = check("[[scrape]]\njob = 'a'\ntargets = ['h:1', 'h:2']\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("scrapes:    a (2 targets)"), "{said}");
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
