//! Opening with much behind.

use std::fs::File;
use std::time::Instant;

use utilizer_spool::{Log, Options};

use crate::folder;

/// 20 GiB in 320 segments, of which only the first bytes are really there.
#[test]
fn opening_reads_one_segment_however_many_there_are() {
    const SEGMENTS: u64 = 320;
    const BYTES: u64 = 64 << 20;
    let dir = folder();
    let one_each = Options { segment_bytes: 100, ..Options::default() };
    let (mut log, _) = Log::open(dir.path(), one_each).unwrap();
    for index in 0..=SEGMENTS {
        assert_eq!(log.append(b"", &[7; 1000]).unwrap(), index);
    }
    drop(log);
    for index in 0..SEGMENTS {
        let file = dir.path().join(format!("{index:020}.seg"));
        File::options().write(true).open(file).unwrap().set_len(BYTES).unwrap();
    }

    let begin = Instant::now();
    let (log, recovered) = Log::open(dir.path(), Options::default()).unwrap();
    println!("{} MiB in {} segments opened in {:?}", log.bytes() >> 20, log.segments(), begin.elapsed());
    assert_eq!((log.first(), log.next(), log.segments() as u64), (0, SEGMENTS + 1, SEGMENTS + 1));
    assert!(log.bytes() >= SEGMENTS * BYTES);
    assert_eq!(recovered.bytes_read, 32 + 28 + 1000, "the last segment alone");
    assert!(log.reader().read(SEGMENTS / 2, &mut Vec::new()).unwrap().is_some());
}

#[test]
fn a_last_segment_of_zeros_ends_the_search_soon() {
    let dir = folder();
    let (mut log, _) = Log::open(dir.path(), Options::default()).unwrap();
    log.append(b"", b"the only one").unwrap();
    drop(log);
    let file = dir.path().join("00000000000000000000.seg");
    File::options().write(true).open(file).unwrap().set_len(8 << 30).unwrap();
    let (mut log, recovered) = Log::open(dir.path(), Options::default()).unwrap();
    assert_eq!(log.next(), 1);
    assert!(recovered.torn_bytes > 7 << 30);
    assert_eq!(log.append(b"", b"the next").unwrap(), 1);
    assert!(log.bytes() < 200);
}
