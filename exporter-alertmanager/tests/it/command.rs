//! Its command line.

use std::path::Path;
use std::process::{Command, Output};

use test_servers::{Mosquitto, Program, built};

use super::support::exporter;

fn run(arguments: &[&str]) -> Output {
    Command::new(built("utilizer-exporter-alertmanager")).args(arguments).output().unwrap()
}

#[test]
fn help_says_what_it_always_said() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &help).unwrap();
    }
    assert_eq!(help, std::fs::read_to_string(&path).unwrap(), "if the change is meant, `make golden` writes it anew");
}

#[test]
fn check_tells_faults_and_the_exit_code_says_it() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/exporter-alertmanager.toml");
    let good = run(&["check", "--config", &example.to_string_lossy()]);
    assert!(good.status.success() && String::from_utf8_lossy(&good.stdout).contains("is good"), "{good:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[alertmanager]\nurl = \"http://h\"\n").unwrap();
    let bad = run(&["check", "--config", &file.to_string_lossy()]);
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(2) && said.contains("did you mean urls?"), "{said}");
}

#[test]
fn it_stops_in_order_and_takes_up_a_new_configuration() {
    let broker = Mosquitto::start("");
    let mut running = exporter(&broker, &["http://127.0.0.1:1"], "one", "");
    let file = running.file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("resend", "resent")).unwrap();
    running.program.signal(rustix::process::Signal::HUP);
    running.program.says("the configuration was not reloaded");
    std::fs::write(&file, text).unwrap();
    running.program.signal(rustix::process::Signal::HUP);
    running.program.says("reloaded the configuration");
    running.program.wait_for("it is connected again", |program: &Program| {
        (program.log().matches("connected to mqtt://").count() == 2).then_some(())
    });
    running.program.stop();
}
