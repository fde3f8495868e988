//! Arguments, the configuration, reloads, the socket's rights.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::Signal;
use test_servers::Program;

use super::support::{Daemon, binary, output, shell, write_config};

#[test]
fn help_says_what_it_always_said() {
    let help = String::from_utf8(output(&["--help"]).stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &help).unwrap();
    }
    assert_eq!(help, fs::read_to_string(&path).unwrap(), "if the change is meant, `make golden` writes it anew");
    assert_eq!(output(&["--version"]).stdout, format!("utilizer-jobs {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}

#[test]
fn check_tells_and_exit_codes_say_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("jobs.toml");
    let path = config.to_str().unwrap();
    write_config(folder.path(), "", &shell("good", "true", ""));
    let good = output(&["check", "--config", path]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(
        good.status.success() && text.contains("the configuration is valid") && text.contains("jobs:    good"),
        "{text}"
    );
    write_config(folder.path(), "sockett = \"x\"", "[[job]]\nname = \"x\"\nargv = [\"ls\"]\n");
    let bad = output(&["check", "--config", path]);
    let text = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(bad.status.code(), Some(2));
    assert!(text.contains("jobs.toml:5:1: unknown key jobs.sockett; did you mean socket?"), "{text}");
    write_config(folder.path(), "", &shell("good", "true", ""));
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    let open = output(&["check", "--config", path]);
    let text = String::from_utf8(open.stderr).unwrap();
    assert!(open.status.code() == Some(2) && text.contains("everybody may write this file"), "{text}");
    for wrong in [&["chekc"][..], &["--confg", "x"], &["--config", "/nowhere/jobs.toml"]] {
        assert_eq!(output(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_is_in_the_way_is_named_and_exits_with_1() {
    let daemon = Daemon::start(&shell("x", "true", ""));
    let config = daemon.path("jobs.toml");
    let mut second = Program::start(binary(), &["--config", config.to_str().unwrap()], &[]);
    assert_eq!(second.ended(), Some(1));
    assert!(second.log().contains("another utilizer-jobs works with"), "{}", second.log());
    let other = tempfile::tempdir().unwrap();
    let state = [("UTILIZER_JOBS__JOBS__STATE_DIR", other.path().to_str().unwrap())];
    let mut second = Program::start(binary(), &["--config", config.to_str().unwrap()], &state);
    assert_eq!(second.ended(), Some(1));
    assert!(second.log().contains("taken by another program; `jobs.socket`"), "{}", second.log());
    assert_eq!(daemon.run("x", None, "{}").status, 200, "the first is as it was");
}

#[test]
fn the_socket_is_for_whom_the_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let gid = rustix::process::getgid().as_raw();
    write_config(
        folder.path(),
        &format!("socket_mode = \"0600\"\nsocket_group = \"{gid}\"\nallow_users = [\"4294967\"]"),
        &shell("x", "true", ""),
    );
    let program = super::support::run(folder.path(), &[]);
    let mut daemon = Daemon { program, folder };
    let metadata = fs::metadata(daemon.path("jobs.sock")).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.gid()), (0o600, gid));
    for path in ["/v1/jobs", "/metrics"] {
        let got = daemon.get(path);
        assert!(got.status == 403 && got.body.contains("`jobs.allow_users`"), "{got:?}");
    }
    assert_eq!(daemon.run("x", None, "{}").status, 403);
    assert!(fs::read_to_string(daemon.path("audit.log")).unwrap().is_empty());
    // A group lets in as well, after a reload.
    write_config(daemon.folder.path(), &format!("allow_groups = [\"{gid}\"]"), &shell("x", "true", ""));
    daemon.program.signal(Signal::HUP);
    daemon.program.says("reloaded the configuration");
    assert!(daemon.program.log().contains("jobs.socket_mode has changed; it counts after a restart"));
    assert_eq!(daemon.run("x", None, "{}").status, 200);
    for private in ["state/runs.ndjson", "state/lock"] {
        assert_eq!(fs::metadata(daemon.path(private)).unwrap().mode() & 0o077, 0, "{private}");
    }
    assert_eq!(fs::metadata(daemon.path("audit.log")).unwrap().mode() & 0o007, 0);
    daemon.program.stop();
}

#[test]
fn a_reload_takes_a_good_file_and_a_bad_one_changes_nothing() {
    let daemon = Daemon::start(&shell("old", "echo old", ""));
    for (bad, why) in [
        ("[[job]]\nname = \"new\"\nargv = [\"ls\"]\n", "absolute path"),
        ("[[job]\n", "jobs.toml:"),
        ("[[job]]\nname = \"new\"\nargv = [\"/bin/echo\"]\ntimeuot = \"1s\"\n", "did you mean timeout?"),
    ] {
        daemon.configure(bad);
        daemon.program.signal(Signal::HUP);
        daemon.program.says(why);
        assert_eq!((daemon.run("old", None, "{}").status, daemon.run("new", None, "{}").status), (200, 404));
        assert_eq!(daemon.metric("utilizer_jobs_config_last_reload_successful"), Some(0.0));
    }
    daemon.program.says("the configuration is not reloaded, the old one stays");
    fs::remove_file(daemon.path("jobs.toml")).unwrap();
    daemon.program.signal(Signal::HUP);
    daemon.program.says("can't read the configuration file");
    assert_eq!(daemon.run("old", Some("kept"), "{}").status, 200);
    daemon.configure(&shell("new", "echo new", ""));
    daemon.program.signal(Signal::HUP);
    daemon.program.says("reloaded the configuration, 1 jobs");
    assert_eq!((daemon.run("old", None, "{}").status, daemon.run("new", None, "{}").status), (404, 200));
    assert_eq!(daemon.run("old", Some("kept"), "{}").json()["stdout_tail"], "old\n", "what ran is remembered");
    assert_eq!(daemon.metric("utilizer_jobs_config_last_reload_successful"), Some(1.0));
}
