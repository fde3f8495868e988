//! `utilizer spool inspect`, over a spool that is in use.

use std::process::{Command, Output};

use serde_json::Value;
use spool::{Log, Options};

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

fn inspect(words: &[&str]) -> Output {
    Command::new(UTILIZER).args(["spool", "inspect"]).args(words).output().unwrap()
}

#[test]
fn it_tells_what_is_there_and_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("logs");
    std::fs::create_dir(&dir).unwrap();
    let options = Options { segment_bytes: 4096, reserve_bytes: 0, max_record: 1024 };
    let (mut log, _) = Log::open(&dir, options).unwrap();
    for _ in 0..20 {
        log.append(b"head", &[7; 500]).unwrap();
    }
    log.trim(2).unwrap();
    let path = folder.path().to_str().unwrap();
    let output = inspect(&[path]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("records    18 (2 to before 20)"), "{text}");
    let json: Value = serde_json::from_slice(&inspect(&["--json", path]).stdout).unwrap();
    assert_eq!((json["logs"][0]["records"].as_u64(), json["logs"][0]["next"].as_u64()), (Some(18), Some(20)));

    let mut segments: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.metadata().is_ok_and(|file| file.len() > 2000));
    segments.sort();
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&segments[0], bytes).unwrap();
    let output = inspect(&[path]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("missing"), "{text}");
    let output = inspect(&["/nonexistent"]);
    assert!(output.status.code() == Some(1) && !output.stderr.is_empty());
}
