//! States, the cursor, the reserve.

use std::fs;
use std::io::ErrorKind;

use utilizer_spool::{Log, Options, Reserve, state};

use crate::folder;

#[test]
fn a_state_is_read_as_it_was_written_or_not_at_all() {
    let dir = folder();
    assert_eq!(state::read(dir.path(), "groups").unwrap(), None);
    for content in [&b"{\"a\": 1}"[..], b"", b"\n#crc32 00000000\n", &[0, 255, 10]] {
        state::write(dir.path(), "groups", content).unwrap();
        assert_eq!(state::read(dir.path(), "groups").unwrap().as_deref(), Some(content));
    }
    let path = dir.path().join("groups.state");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(state::read(dir.path(), "groups").unwrap_err().kind(), ErrorKind::InvalidData, "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert_eq!(state::read(dir.path(), "groups").unwrap_err().kind(), ErrorKind::InvalidData, "cut at {at}");
    }
}

#[test]
fn what_was_trimmed_stays_trimmed() {
    let dir = folder();
    let options = Options { segment_bytes: 400, ..Options::default() };
    let (mut log, _) = Log::open(dir.path(), options).unwrap();
    (0..50).for_each(|_| assert!(log.append(b"", &[1; 50]).is_ok()));
    for to in [3, 4, 30, 31, 45] {
        log.trim(to).unwrap();
        drop(log);
        (log, _) = Log::open(dir.path(), options).unwrap();
        assert_eq!((log.first(), log.next()), (to, 50));
    }
    // Both slots gone: what is there again is bounded by what is unlinked.
    drop(log);
    fs::remove_file(dir.path().join("cursor")).unwrap();
    let (log, _) = Log::open(dir.path(), options).unwrap();
    assert!((40..=45).contains(&log.first()) && log.next() == 50);
}

#[test]
fn a_reserve_has_the_size_that_is_asked_for() {
    let dir = folder();
    let length = || fs::metadata(dir.path().join("reserve")).unwrap().len();
    for bytes in [100_000, 200_000, 50_000] {
        Reserve::take(dir.path(), bytes).unwrap();
        assert_eq!(length(), bytes);
    }
}

#[test]
fn inspect_looks_into_the_folders_of_a_spool() {
    let dir = folder();
    for name in ["metrics", "logs"] {
        let (mut log, _) = Log::open(&dir.path().join(name), Options::default()).unwrap();
        log.append(b"head", b"body").unwrap();
        log.append(b"head", b"more").unwrap();
        log.trim(1).unwrap();
        // In use: looking takes no lock.
        let report = utilizer_spool::inspect(dir.path()).unwrap();
        let report = report.logs.iter().find(|log| log.dir.ends_with(name)).unwrap();
        assert_eq!((report.first, report.next, report.records, report.body_bytes), (1, 2, 1, 4));
        assert!(report.appended_ms.is_some());
    }
    let text = utilizer_spool::inspect(dir.path()).unwrap().to_string();
    assert!(text.contains("logs\n  records    1 (1 to before 2), 4 bytes"), "{text}");
    assert_eq!(utilizer_spool::inspect(&dir.path().join("lo")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(utilizer_spool::inspect(folder().path()).unwrap().to_string().contains("no spool here"));
}
