//! Starts that must fail, and say why, and the environment.

use std::net::TcpListener;
use std::process::Output;

use test_servers::free_port;

use super::support::{Setup, get, run};

/// Exit code and stderr of a start with this configuration; it must write nothing to stdout.
fn refused(arguments: &[&str], text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("agent.toml");
    std::fs::write(&config, text).unwrap();
    let mut words = arguments.to_vec();
    let config = config.display().to_string();
    words.extend(["--config", &config]);
    let Output { status, stdout, stderr } = run(&words, &[]);
    assert_eq!(String::from_utf8(stdout).unwrap(), "");
    (status.code(), String::from_utf8(stderr).unwrap().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn each_fault_of_the_configuration_is_named_with_its_line_by_start_check_and_sample() {
    let text = "intervall = \"10s\"\n[collectors]\ndisable = [\"cpuu\"]\n[serve]\nlisten = 9100\n";
    for arguments in [&[][..], &["check"], &["sample"]] {
        let (code, said) = refused(arguments, text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("agent.toml:1:1: unknown key intervall; did you mean interval?"), "{said}");
        assert!(said.contains("agent.toml:5:10: serve.listen: invalid type: integer `9100`"), "{said}");
    }
    for (text, expected) in [
        (
            "[collectors]\ndisable = [\"cpuu\"]\n",
            "agent.toml:2:1: collectors.disable: there is no collector \"cpuu\"; there are ",
        ),
        ("interval = \"1ms\"\n", "agent.toml:1:1: interval: must lie between 100ms and 1h"),
        ("[mqtt\n", "agent.toml:1:"),
        (
            "[mqtt]\nurl = \"mqtt://a:b@c\"\n",
            "agent.toml:2:1: mqtt.url: the broker's URL carries a user name or password",
        ),
        ("[mqtt]\npassword = \"hush\"\n", "agent.toml:2:1: mqtt.password: a secret does not belong in this file"),
        (
            "[mqtt]\nusername = \"u\"\npassword_file = \"/nonexistent/password\"\n",
            "agent.toml:3:1: mqtt.password_file: can't read /nonexistent/password: ",
        ),
    ] {
        let (code, said) = refused(&[], text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
    let missing = run(&["--config", "/nonexistent/agent.toml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(said.contains("can't read the configuration file /nonexistent/agent.toml"), "{said}");
}

#[test]
fn certificates_that_are_none_end_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let text = format!(
        "[serve]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nurl = \"mqtts://127.0.0.1\"\nca_file = \"{}\"\n",
        file.display()
    );
    let (code, said) = refused(&[], &text);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("agent.toml:3:2: mqtt: ") && said.contains("`ca_file`"), "{said}");
}

#[test]
fn a_taken_port_names_the_keys_that_choose_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, said) = refused(&[], &format!("[mqtt]\nenabled = false\n[serve]\nlisten = \"{address}\"\n"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("can't listen on {address}: the port is taken by another program")), "{said}");
    for key in ["`serve.listen`", "UTILIZER_AGENT__SERVE__LISTEN", "PROMETHEUS_PORT"] {
        assert!(said.contains(key), "{key} is missing in {said}");
    }
}

#[test]
fn wrong_switches_are_usage() {
    for (arguments, part) in
        [(&["--confg", "x"][..], "--config"), (&["smaple"], "sample"), (&["sample", "--format", "xml"], "prometheus")]
    {
        let output = run(arguments, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn the_documents_names_are_understood() {
    let port = free_port();
    let agent = Setup::new()
        .set("interval", "1h")
        .environment("PROMETHEUS_PORT", port.to_string())
        .environment("MONITORING_INTERVAL", "1")
        .environment("LOG_LEVEL", "WARNING")
        .environment("ALERT_WEBHOOK_URL", "https://hooks.example/T0/secret")
        .start();
    let address = ([127, 0, 0, 1], port).into();
    test_servers::wait_for("the agent serves", || std::net::TcpStream::connect(address).ok());
    let text = get(address, "/metrics").body;
    assert!(text.lines().any(|line| line == "utilizer_interval_seconds 1"), "{text}");
    assert!(
        text.contains(r#"utilizer_notify_waiting{receiver="alert-webhook",integration="webhook",number="0"} 0"#),
        "{text}"
    );
    let log = agent.log();
    assert!(!log.contains("INFO") && !log.contains("secret"), "{log}");

    let output = run(&["check", "--config", "/dev/null"], &[("PROMETHEUS_PORT", "many"), ("LOG_LEVEL", "loud")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("PROMETHEUS_PORT: \"many\" is not a port") && said.contains("LOG_LEVEL: \"loud\""), "{said}");
}
