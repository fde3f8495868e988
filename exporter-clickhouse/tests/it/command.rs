//! The program's own commands.

use std::path::Path;
use std::process::Command;

/// What the program with this spool says, and whether it is content.
fn ask(folder: &Path, arguments: &[&Path]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_utilizer-exporter-clickhouse"))
        .env("UTILIZER_EXPORTER_CLICKHOUSE__STATE_DIR", folder)
        .args(["ledger", "import"])
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn ledgers_are_imported() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
    let spool = |of: &Path| of.join("clickhouse/spool");
    // Its own folder is no other ledger, and is made.
    std::fs::create_dir_all(spool(&old)).unwrap();
    assert_eq!(ask(&old, &[&spool(&old)]), (true, "took over 0 entries of 0 ledgers; this one has 0 now\n".to_owned()));

    // Two losses, which an exporter booked.
    let mut log = spool::Log::open(&spool(&old).join("ledger"), spool::Options::default()).unwrap().0;
    let lost = |host| serde_json::json!([host, ["b1", "logs", 1, 7, "full"]]);
    let change = serde_json::json!({"lost": {"at": "2026-11-21T00:00:00Z", "lost": [lost("a"), lost("b")]}});
    log.append(&[], change.to_string().as_bytes()).unwrap();
    log.sync().unwrap();
    let (fine, locked) = ask(&new, &[&spool(&old)]);
    assert!(!fine && locked.contains("spool/ledger"), "another process has it: {locked}");
    drop(log);
    let imported = "took over 2 entries of 1 ledgers; this one has 2 now\n";
    for _ in 0..2 {
        assert_eq!(ask(&new, &[&spool(&old)]), (true, imported.to_owned()));
    }
    let (fine, missing) = ask(&new, &[&spool(&old), &folder.path().join("nowhere")]);
    assert!(!fine && missing.contains("nowhere"), "{missing}");
    assert!(!ask(&new, &[]).0);
}
