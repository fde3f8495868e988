//! Caches of bcache and the devices that they stand before, from `/sys/fs/bcache/UUID`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::collectors::devices::{Devices, Live, index};
use crate::collectors::table::{self, Column, Row, Scale, human};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot, TextError, fields, number};
use crate::snapshot::{Families, Labels, MetricType};

use MetricType::{Counter, Gauge};
use Scale::{Human, Nanoseconds};

macro_rules! columns {
    ($($file:literal $name:literal $kind:ident $scale:ident $help:literal),* $(,)?) => {
        [$(Column {
            file: $file,
            family: concat!("node_bcache_", $name),
            help: $help,
            kind: $kind,
            scale: $scale,
        }),*]
    };
}

const OF_SET: [Column; 10] = columns![
    "average_key_size" "average_key_size_sectors" Gauge Human "Average data per key in the btree (sectors).",
    "btree_cache_size" "btree_cache_size_bytes" Gauge Human "Amount of memory currently used by the btree cache.",
    "cache_available_percent" "cache_available_percent" Gauge Human
        "Percentage of cache device without dirty data, usable for writeback (may contain clean cached data).",
    "congested" "congested" Gauge Human "Congestion.",
    "root_usage_percent" "root_usage_percent" Gauge Human
        "Percentage of the root btree node in use (tree depth increases if too high).",
    "tree_depth" "tree_depth" Gauge Human "Depth of the btree.",
    "internal/active_journal_entries" "active_journal_entries" Gauge Human
        "Number of journal entries that are newer than the index.",
    "internal/btree_nodes" "btree_nodes" Gauge Human "Total nodes in the btree.",
    // The file's name says microseconds. node_exporter takes them for nanoseconds, and dashboards know its numbers.
    "internal/btree_read_average_duration_us" "btree_read_average_duration_seconds" Gauge Nanoseconds
        "Average btree read duration.",
    "internal/cache_read_races" "cache_read_races_total" Counter Human
        "Counts instances where while data was being read from the cache, the bucket was reused and invalidated - i.e. \
         where the pointer was stale after the read completed.",
];

const OF_BACKING: [Column; 8] = columns![
    "dirty_data" "dirty_data_bytes" Gauge Human "Amount of dirty data for this backing device in the cache.",
    "stats_total/bypassed" "bypassed_bytes_total" Counter Human
        "Amount of IO (both reads and writes) that has bypassed the cache.",
    "stats_total/cache_hits" "cache_hits_total" Counter Human "Hits counted per individual IO as bcache sees them.",
    "stats_total/cache_misses" "cache_misses_total" Counter Human
        "Misses counted per individual IO as bcache sees them.",
    "stats_total/cache_bypass_hits" "cache_bypass_hits_total" Counter Human
        "Hits for IO intended to skip the cache.",
    "stats_total/cache_bypass_misses" "cache_bypass_misses_total" Counter Human
        "Misses for IO intended to skip the cache.",
    "stats_total/cache_miss_collisions" "cache_miss_collisions_total" Counter Human
        "Instances where data insertion from cache miss raced with write (data already present).",
    // Newer kernels have no such file.
    "stats_total/cache_readaheads" "cache_readaheads_total" Counter Human "Count of times readahead occurred.",
];

const OF_CACHE: [Column; 3] = columns![
    "io_errors" "io_errors" Gauge Human "Number of errors that have occurred, decayed by io_error_halflife.",
    "metadata_written" "metadata_written_bytes_total" Counter Human
        "Sum of all non data writes (btree writes and all other metadata).",
    "written" "written_bytes_total" Counter Human "Sum of all data that has been written to the cache.",
];

/// A line of `writeback_rate_debug`: what it begins with, family, help.
type Term = (&'static [u8], &'static str, &'static str);

const WRITEBACK: [Term; 5] = [
    (
        b"target:",
        "node_bcache_dirty_target_bytes",
        "Current dirty data target threshold for this backing device in bytes.",
    ),
    (b"rate:", "node_bcache_writeback_rate", "Current writeback rate for this backing device in bytes."),
    (
        b"proportional:",
        "node_bcache_writeback_rate_proportional_term",
        "Current result of proportional controller, part of writeback rate",
    ),
    (
        b"integral:",
        "node_bcache_writeback_rate_integral_term",
        "Current result of integral controller, part of writeback rate",
    ),
    (b"change:", "node_bcache_writeback_change", "Last writeback rate change step for this backing device."),
];

/// A line of `priority_stats`.
const PRIORITIES: [Term; 2] = [
    (
        b"Unused:",
        "node_bcache_priority_stats_unused_percent",
        "The percentage of the cache that doesn't contain any data.",
    ),
    (b"Metadata:", "node_bcache_priority_stats_metadata_percent", "Bcache's metadata overhead."),
];

/// The values of lines such as `rate: 1.1M/sec`; `None` for a line that is not there.
fn parse<const N: usize>(
    text: &[u8],
    terms: &[Term; N],
    value_of: impl Fn(&[u8]) -> Option<f64>,
) -> Result<[Option<f64>; N], TextError> {
    let mut values = [None; N];
    for line in text.split(|byte| *byte == b'\n') {
        let Some(((word, ..), value)) = terms.iter().zip(&mut values).find(|((word, ..), _)| line.starts_with(word))
        else {
            continue;
        };
        let field = fields(line.get(word.len()..).unwrap_or_default()).last();
        *value = Some(field.and_then(&value_of).ok_or_else(|| TextError::expected("a word and its value", line))?);
    }
    if values.iter().all(Option::is_none) {
        return Err(TextError::expected("statistics of bcache", text));
    }
    Ok(values)
}

/// `-1.1M/sec`
fn rate(text: &[u8]) -> Option<f64> {
    let text = text.strip_suffix(b"/sec").unwrap_or(text);
    match text.strip_prefix(b"-") {
        Some(text) => human(text).map(|value| -value),
        None => human(text),
    }
}

/// `99%`
fn percent(text: &[u8]) -> Option<f64> {
    number(text.strip_suffix(b"%").unwrap_or(text)).map(|value| value as f64)
}

/// `[collectors.bcache]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether `priority_stats` is read too, for which the kernel walks all buckets of the cache.
    pub priority_stats: bool,
}

/// A file of several values.
struct Terms<const N: usize> {
    labels: Labels,
    file: Live,
    values: [Option<f64>; N],
}

impl<const N: usize> Terms<N> {
    fn at(place: &Path, labels: Labels) -> Option<Self> {
        Some(Self { labels, file: Live::at(place.to_owned())?, values: [None; N] })
    }

    /// Whether the file was lost.
    fn read(&mut self, terms: &[Term; N], value_of: fn(&[u8]) -> Option<f64>) -> Result<bool, CollectError> {
        let values = self.file.with(|text| parse(text, terms, value_of))?;
        self.values = values.unwrap_or([None; N]);
        Ok(self.file.is_lost(values.is_some()))
    }

    /// Appends the families of all these files.
    fn show<'a>(all: impl Iterator<Item = &'a Self> + Clone, terms: &[Term; N], out: &mut Families) {
        for (column, (_, name, help)) in terms.iter().enumerate() {
            out.gauge(*name, *help);
            for Self { labels, values, .. } in all.clone() {
                let value = values.get(column).copied().flatten();
                value.inspect(|value| out.push(labels, *value));
            }
        }
    }
}

/// Caches that work together, and the devices behind them.
struct Set {
    own: Row,
    backing: Vec<Row>,
    writeback: Vec<Terms<{ WRITEBACK.len() }>>,
    caches: Vec<Row>,
    priorities: Vec<Terms<{ PRIORITIES.len() }>>,
}

impl Set {
    fn new(uuid: &str, place: &Path, settings: &Settings) -> Option<Self> {
        // Beside the sets there are files by which devices are registered.
        if !uuid.contains('-') || !place.is_dir() {
            return None;
        }
        let own = Row::new(place, Labels::new([("uuid", uuid)]), &OF_SET);
        let mut set =
            Self { own, backing: Vec::new(), writeback: Vec::new(), caches: Vec::new(), priorities: Vec::new() };
        let mut directory = Directory::new(place.to_owned());
        let entries = directory.list().ok().flatten().unwrap_or_default();
        for name in entries.iter().filter_map(|entry| std::str::from_utf8(entry).ok()) {
            let place = place.join(name);
            if index(name, "bdev").is_some() {
                let labels = Labels::new([("backing_device", name), ("uuid", uuid)]);
                set.backing.push(Row::new(&place, labels.clone(), &OF_BACKING));
                set.writeback.extend(Terms::at(&place.join("writeback_rate_debug"), labels));
            } else if index(name, "cache").is_some() {
                let labels = Labels::new([("cache_device", name), ("uuid", uuid)]);
                set.caches.push(Row::new(&place, labels.clone(), &OF_CACHE));
                if settings.priority_stats {
                    set.priorities.extend(Terms::at(&place.join("priority_stats"), labels));
                }
            }
        }
        Some(set)
    }
}

/// See the module.
pub(crate) struct Bcache {
    settings: Settings,
    sets: Devices<Set>,
}

impl Bcache {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self { settings: settings.clone(), sets: Devices::new(host.sys("fs/bcache")) }
    }
}

impl Collector for Bcache {
    fn name(&self) -> &'static str {
        "bcache"
    }

    fn begin(&mut self, pass: Pass) {
        self.sets.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { settings, sets: list } = self;
        let Some(sets) = list.get(|uuid, place| Set::new(uuid, place, settings))? else {
            return Ok(Outcome::Nothing);
        };
        type Visit<'a> = &'a mut dyn FnMut(&mut Row) -> Result<(), CollectError>;
        let mut lost =
            table::collect(&OF_SET, |visit: Visit<'_>| sets.iter_mut().try_for_each(|set| visit(&mut set.own)), out)?;
        let backing = |visit: Visit<'_>| sets.iter_mut().flat_map(|set| &mut set.backing).try_for_each(visit);
        lost |= table::collect(&OF_BACKING, backing, out)?;
        let caches = |visit: Visit<'_>| sets.iter_mut().flat_map(|set| &mut set.caches).try_for_each(visit);
        lost |= table::collect(&OF_CACHE, caches, out)?;
        for set in sets.iter_mut() {
            for file in &mut set.writeback {
                lost |= file.read(&WRITEBACK, rate)?;
            }
            for file in &mut set.priorities {
                lost |= file.read(&PRIORITIES, percent)?;
            }
        }
        Terms::show(sets.iter().flat_map(|set| &set.writeback), &WRITEBACK, out);
        Terms::show(sets.iter().flat_map(|set| &set.priorities), &PRIORITIES, out);
        if lost {
            list.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn rates_have_signs_and_units() {
        let text =
            b"rate:\t\t1.5M/sec\ndirty:\t3.0G\ntarget:\t0\nproportional:\t12.5k\nchange:\t\t-2.0k/sec\nnext io:\t9ms\n";
        let values = parse(text, &WRITEBACK, rate).unwrap();
        assert_eq!(values, [Some(0.0), Some(1560576.0), Some(12788.0), None, Some(-2048.0)]);
        assert_eq!(
            parse(b"Unused:\t\t99%\nMetadata:\t0%\nAverage: 3\n", &PRIORITIES, percent).unwrap(),
            [Some(99.0), Some(0.0)]
        );
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in
            [&b""[..], b"rate:", b"rate: /sec", b"rate: x", b"target: 99999999999999999999", b"\xff\x00", b"dirty: 1"]
        {
            assert!(parse(bad, &WRITEBACK, rate).is_err(), "{}", bad.escape_ascii());
        }
        assert!(parse(b"Unused: 1.5%", &PRIORITIES, percent).is_err());
    }

    #[test]
    fn a_set_has_backing_devices_and_caches() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let settings = Settings { priority_stats: true };
        let run = |bcache: &mut Bcache| {
            let mut out = Families::default();
            bcache.begin(Pass::Interval);
            bcache.collect(&mut out).map(|outcome| (outcome, out)).map_err(|error| error.to_string())
        };
        let mut bcache = Bcache::new(&host, &settings);
        assert_eq!(run(&mut bcache).unwrap().0, Outcome::Nothing);
        let class = dir.path().join("fs/bcache");
        let write = |file: &str, text: &str| {
            let path = class.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("register", "");
        write("a-b/tree_depth", "2\n");
        write("a-b/bdev0/dirty_data", "1.0k\n");
        write("a-b/bdev0/writeback_rate_debug", "rate:\t2.0k/sec\n");
        write("a-b/bdevs/dirty_data", "x\n");
        write("a-b/cache0/priority_stats", "Unused: 7%\n");
        let mut bcache = Bcache::new(&host, &settings);
        let out = run(&mut bcache).unwrap().1;
        assert_eq!(out.single("node_bcache_tree_depth"), Some(2.0));
        assert_eq!(out.single("node_bcache_dirty_data_bytes"), Some(1024.0));
        assert_eq!(out.single("node_bcache_writeback_rate"), Some(2048.0));
        assert_eq!(out.single("node_bcache_writeback_change"), None);
        assert_eq!(out.single("node_bcache_priority_stats_unused_percent"), Some(7.0));
        assert_eq!(out.single("node_bcache_written_bytes_total"), None);
        for (file, bad) in
            [("a-b/tree_depth", "\u{1}"), ("a-b/bdev0/writeback_rate_debug", ""), ("a-b/bdev0/dirty_data", "1.0q")]
        {
            let before = fs::read_to_string(class.join(file)).unwrap();
            write(file, bad);
            let error = run(&mut bcache).unwrap_err();
            assert!(error.contains(file), "{error}");
            write(file, &before);
        }
        // Without the key the expensive file is not opened.
        let out = run(&mut Bcache::new(&host, &Settings::default())).unwrap().1;
        assert_eq!(out.single("node_bcache_priority_stats_unused_percent"), None);
        // The cache is detached. Other than sysfs', a plain file that was removed is still read by whom has it open.
        fs::remove_dir_all(class.join("a-b/cache0")).unwrap();
        fs::remove_file(class.join("a-b/tree_depth")).unwrap();
        bcache.sets.soon();
        let out = run(&mut bcache).unwrap().1;
        assert_eq!(out.single("node_bcache_tree_depth"), None);
        assert_eq!(out.single("node_bcache_priority_stats_unused_percent"), None);
        assert_eq!(out.single("node_bcache_dirty_data_bytes"), Some(1024.0));
    }
}
