//! Who may ask what, by address. A network namespace gives the host an address that is neither loopback nor private.

use std::process::Command;

use test_servers::wait_for;

use super::support::{Agent, Setup};

/// Reserved for documentation (RFC 5737), so that no network here has it.
const OUTSIDE: &str = "192.0.2.10";
const PORT: u16 = 9100;

/// An agent in a network of its own. A machine that allows no namespaces fails these tests: they must not be skipped.
fn isolated(allow: &str) -> Agent {
    isolated_by(allow, Setup::new())
}

fn isolated_by(allow: &str, setup: Setup) -> Agent {
    let script = format!(
        "ip link set lo up && ip address add {OUTSIDE}/32 dev lo || \
         {{ echo 'ip can not set up the namespace; install it with: apt-get install iproute2' >&2; exit 99; }}; exec \"$@\""
    );
    let unshare =
        if is_root() { vec!["unshare", "--net"] } else { vec!["unshare", "--user", "--map-root-user", "--net"] };
    let agent = setup
        .set("serve.listen", format!("[::]:{PORT}"))
        .set("serve.allow", vec![allow])
        .run_by(&[&unshare[..], &["sh", "-c", &script, "sh"]].concat())
        .start();
    wait_for("the agent serves in its namespace", || {
        let log = agent.log();
        let failed = log.contains("unshare: ") || log.contains("can not set up the namespace");
        assert!(
            !failed,
            "this machine lets no process have a network namespace, which the test of peers needs; run it as root or \
             with user namespaces switched on (sysctl kernel.unprivileged_userns_clone=1): {log}"
        );
        log.contains("serving on http://").then_some(())
    });
    agent
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Status and body of a request from inside the agent's namespace, sent from one of its addresses to the same.
fn asked(agent: &Agent, from: &str, path: &str, more: &[&str]) -> (u16, String) {
    let pid = agent.pid().as_raw_nonzero().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--net"]);
    if !is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    let host = if from.contains(':') { format!("[{from}]") } else { from.to_owned() };
    let output = command
        .args(["curl", "--silent", "--show-error", "--max-time", "30", "--noproxy", "*", "--interface", from])
        .args(["--write-out", "\n%{http_code}", &format!("http://{host}:{PORT}{path}")])
        .args(more)
        .output()
        .unwrap_or_else(|e| panic!("can't run nsenter ({e}); install it with: apt-get install util-linux"));
    let text = String::from_utf8(output.stdout).unwrap();
    let parsed = text.rsplit_once('\n').and_then(|(body, status)| Some((status.parse().ok()?, body.to_owned())));
    parsed.unwrap_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("no answer from inside the namespace; is curl installed (apt-get install curl)? {text:?} {said}")
    })
}

const LINE: &[&str] = &["--data-binary", "{\"message\":\"m\"}"];

#[test]
fn a_push_from_another_host_is_refused_though_it_may_scrape() {
    let agent = isolated("all");
    for path in ["/metrics", "/healthz", "/"] {
        assert_eq!(asked(&agent, OUTSIDE, path, &[]).0, 200, "{path}");
    }
    let (status, body) = asked(&agent, OUTSIDE, "/api/v1/query?query=up", &[]);
    assert!(status == 403 && body.contains("forbidden") && body.contains(" may not query: only programs"), "{body}");
    assert_eq!(asked(&agent, "127.0.0.1", "/api/v1/query?query=up", &[]).0, 200);
    for path in ["/v1/logs", "/v1/pipeline"] {
        let (status, body) = asked(&agent, OUTSIDE, path, LINE);
        assert_eq!(status, 403, "{body}");
        assert_eq!(
            body,
            format!(
                "{OUTSIDE} may not push: only programs on this host may, over loopback or the Unix socket, and peers \
                 that prove who they are (`serve.web_config_file`)\n"
            )
        );
        for loopback in ["127.0.0.1", "::1"] {
            let (status, body) = asked(&agent, loopback, path, LINE);
            assert_eq!(status, 503, "only the broker is missing: {body}");
        }
    }
}

#[test]
fn a_peer_that_proves_who_it_is_may_push_from_another_host() {
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("web.yml");
    // "peer-0123456789abcdef"
    let hash = "2258f82bbd302688266c16646c1b275f25f042e5ccffe5bd21a6fee8ef62929d";
    std::fs::write(&web, format!("bearer_auth_tokens:\n  peer: sha256:{hash}\n")).unwrap();
    let setup = Setup::new().set("serve.web_config_file", web.display().to_string());
    let agent = isolated_by("all", setup.clone());
    let token = ["--header", "authorization: Bearer peer-0123456789abcdef"];
    let (status, body) = asked(&agent, OUTSIDE, "/v1/logs", &[LINE, &token].concat());
    assert_eq!(status, 503, "only the broker is missing: {body}");
    assert_eq!(asked(&agent, OUTSIDE, "/api/v1/query?query=up", &token).0, 200);
    for from in [OUTSIDE, "127.0.0.1"] {
        assert_eq!(asked(&agent, from, "/v1/logs", LINE).0, 401, "{from}");
        assert_eq!(asked(&agent, from, "/metrics", &[]).0, 401, "{from}");
    }
    drop(agent);
    // The list of addresses stands before everything.
    let agent = isolated_by("loopback", setup);
    assert_eq!(asked(&agent, OUTSIDE, "/metrics", &token).0, 403);
    assert_eq!(asked(&agent, "127.0.0.1", "/metrics", &token).0, 200);
}

#[test]
fn a_scrape_from_an_address_that_is_not_allowed_names_the_key() {
    let agent = isolated("loopback");
    for path in ["/metrics", "/healthz", "/", "/nothing"] {
        let (status, body) = asked(&agent, OUTSIDE, path, &[]);
        assert_eq!(status, 403, "{path}: {body}");
        assert_eq!(
            body,
            format!("{OUTSIDE} is not answered here; `[serve] allow` in the configuration decides who is\n")
        );
        assert_eq!(asked(&agent, OUTSIDE, path, &["--head"]).0, 403);
    }
    assert_eq!(asked(&agent, OUTSIDE, "/v1/logs", LINE).0, 403);
    assert_eq!(asked(&agent, "127.0.0.1", "/metrics", &[]).0, 200);
    assert_eq!(asked(&agent, "::1", "/metrics", &[]).0, 200);
}
