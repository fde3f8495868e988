//! How fast this machine's disk takes records and gives them back: `cargo run --release -p utilizer-spool --example speed
//! [DIR] [BODY_BYTES] [RECORDS] [RECORDS_PER_SYNC]`.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use utilizer_spool::{Log, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (bytes, records, group) = (number(4000)?, number(100_000)?, number(500)?.max(1));

    let dir = tempfile::tempdir_in(dir)?;
    let (mut log, _) = Log::open(dir.path(), Options::default())?;
    let body: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
    let rate = |what: &str, begin: Instant| {
        let seconds = begin.elapsed().as_secs_f64();
        let megabytes = (records * bytes) as f64 / 1e6;
        println!("{what}: {:.0} records/s, {:.0} MB/s", records as f64 / seconds, megabytes / seconds);
    };

    let begin = Instant::now();
    for record in 0..records {
        log.append(b"0123456789", &body)?;
        if record % group == group - 1 {
            log.sync()?;
        }
    }
    log.sync()?;
    rate(&format!("append, sync each {group} records"), begin);

    let begin = Instant::now();
    let (mut reader, mut buffer) = (log.reader(), Vec::new());
    for index in 0..log.next() {
        reader.read(index, &mut buffer)?.ok_or("a record is missing")?;
    }
    rate("read in order", begin);

    drop((log, reader));
    let begin = Instant::now();
    let (log, recovered) = Log::open(dir.path(), Options::default())?;
    let (records, read) = (log.next(), recovered.bytes_read);
    println!("open: {:?}, {records} records, {read} bytes read", begin.elapsed());
    Ok(())
}
