//! ZFS' caches, pools and datasets, from `/proc/spl/kstat/zfs`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::collectors::devices::{Devices, Live};
use crate::collectors::{CollectError, Collector, Outcome, Pass, names};
use crate::host::{Directory, HostRoot, KeptFile, ReadError, TextError, fields, lines, number};
use crate::snapshot::{Families, Labels, MetricType};

/// Files of the whole of ZFS, with what stands before their fields in a family's name. An older ZFS lacks some, a newer
/// others.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "node_zfs_abd_"),
    ("arcstats", "node_zfs_arc_"),
    ("dbufstats", "node_zfs_dbuf_"),
    ("dmu_tx", "node_zfs_dmu_tx_"),
    ("dnodestats", "node_zfs_dnode_"),
    ("fm", "node_zfs_fm_"),
    ("vdev_cache_stats", "node_zfs_vdev_cache_"),
    ("vdev_mirror_stats", "node_zfs_vdev_mirror_"),
    ("xuio_stats", "node_zfs_xuio_"),
    ("zfetchstats", "node_zfs_zfetch_"),
    ("zil", "node_zfs_zil_"),
];

const STATES: [&str; 7] = ["degraded", "faulted", "offline", "online", "removed", "suspended", "unavail"];

/// More fields than any version has: beyond, a file is garbage.
const MOST_FIELDS: usize = 1024;

/// The fields that files of one kind have. Found once, so that later passes make no names.
struct Columns {
    /// Before a field's name, in a family's name and in its help.
    family: &'static str,
    help: &'static str,
    fields: Vec<Field>,
}

struct Field {
    name: Box<[u8]>,
    family: Cow<'static, str>,
    help: Cow<'static, str>,
}

impl Columns {
    fn new(family: &'static str, help: &'static str) -> Self {
        Self { family, help, fields: Vec::new() }
    }

    /// Which field this is. They come in the same order at every reading: `next` is the one expected.
    fn find(&mut self, name: &[u8], next: usize) -> Result<usize, TextError> {
        if self.fields.get(next).is_some_and(|field| *field.name == *name) {
            return Ok(next);
        }
        if let Some(at) = self.fields.iter().position(|field| *field.name == *name) {
            return Ok(at);
        }
        let text = String::from_utf8_lossy(name);
        let last = text.rsplit('.').next().unwrap_or_default().replace('-', "_");
        if !names::is_metric_part(&last) || self.fields.len() >= MOST_FIELDS {
            return Err(TextError::expected("a field's name", name));
        }
        self.fields.push(Field {
            name: name.into(),
            family: names::keep(format!("{}{last}", self.family)),
            help: names::keep(format!("kstat.zfs.misc.{}.{text}", self.help)),
        });
        Ok(self.fields.len() - 1)
    }
}

/// A file's values, by [`Columns`].
#[derive(Default)]
struct Values(Vec<Option<f64>>);

impl Values {
    fn set(&mut self, column: usize, value: f64) {
        if column >= self.0.len() {
            self.0.resize(column + 1, None);
        }
        if let Some(slot) = self.0.get_mut(column) {
            *slot = Some(value);
        }
    }

    fn get(&self, column: usize) -> Option<f64> {
        self.0.get(column).copied().flatten()
    }
}

/// Reads lines such as `hits 4 8919`: a name, a type, and a value. Only whole numbers of 64 bits are shown: types 3 and 4.
fn parse(text: &[u8], columns: &mut Columns, values: &mut Values) -> Result<(), TextError> {
    values.0.fill(None);
    let mut in_table = false;
    let mut next = 0;
    for line in lines(text)? {
        let mut words = fields(line);
        let [Some(name), Some(kind), Some(value)] = [words.next(), words.next(), words.next()] else { continue };
        if !in_table {
            in_table = [name, kind, value] == [&b"name"[..], b"type", b"data"] && words.next().is_none();
            continue;
        }
        let value = match kind {
            b"3" => signed(value),
            b"4" => number(value).map(|value| value as f64),
            _ => continue,
        };
        let value = value.ok_or_else(|| TextError::expected("a field and its value", line))?;
        let column = columns.find(name, next)?;
        values.set(column, value);
        next = column + 1;
    }
    if in_table { Ok(()) } else { Err(TextError::expected("a table with the title \"name type data\"", text)) }
}

fn signed(text: &[u8]) -> Option<f64> {
    let digits = text.strip_prefix(b"-");
    let value = number(digits.unwrap_or(text)).filter(|value| *value <= i64::MAX as u64)? as f64;
    Some(if digits.is_some() { -value } else { value })
}

/// Reads the titles of columns and a line of values, as older versions have a pool's I/O.
fn parse_io(text: &[u8], columns: &mut Columns, values: &mut Values) -> Result<(), TextError> {
    values.0.fill(None);
    let mut lines = lines(text)?.skip_while(|line| fields(line).next() != Some(b"nread"));
    let titles = lines.next().ok_or_else(|| TextError::expected("a pool's I/O", text))?;
    let mut found = fields(lines.next().ok_or_else(|| TextError::expected("a line below the titles", titles))?);
    for (next, title) in fields(titles).enumerate() {
        let value = found.number("a pool's I/O")?;
        let column = columns.find(title, next)?;
        values.set(column, value as f64);
    }
    Ok(())
}

/// The name of the dataset that the text is about; it may have blanks.
fn dataset_name(text: &[u8]) -> Option<String> {
    let line = text.split(|byte| *byte == b'\n').find(|line| fields(line).next() == Some(b"dataset_name"))?;
    let rest = line.trim_ascii().strip_prefix(b"dataset_name")?.trim_ascii_start();
    let name = rest.iter().position(u8::is_ascii_whitespace).and_then(|end| rest.get(end..))?;
    Some(String::from_utf8_lossy(name.trim_ascii()).into_owned())
}

/// A file with values. Read as long as it takes: it may be longer than a page.
struct Source {
    file: KeptFile,
    values: Values,
}

type Parser = fn(&[u8], &mut Columns, &mut Values) -> Result<(), TextError>;

impl Source {
    /// `None` where there is no such file, or where it can't be read.
    fn at(path: PathBuf) -> Option<Self> {
        let mut file = KeptFile::listing(path);
        file.read(|_| ()).ok()?;
        Some(Self { file, values: Values::default() })
    }

    /// Whether it is still there.
    fn read(&mut self, parse: Parser, columns: &mut Columns) -> Result<bool, CollectError> {
        let Self { file, values } = self;
        match file.read(|text| parse(text, columns, values)) {
            Ok(parsed) => parsed.map(|()| true).map_err(CollectError::malformed(file.path())),
            Err(ReadError::Io { .. }) => {
                values.0.fill(None);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

struct Dataset {
    labels: Labels,
    source: Source,
}

struct Pool {
    labels: Labels,
    io: Option<Source>,
    state: Option<Live>,
    states: [Labels; STATES.len()],
    datasets: Vec<Dataset>,
}

impl Pool {
    fn new(name: &str, place: &Path) -> Option<Self> {
        if !place.is_dir() {
            return None;
        }
        let mut directory = Directory::new(place.to_owned());
        let entries = directory.list().ok().flatten().unwrap_or_default();
        let entries = entries.iter().filter_map(|entry| std::str::from_utf8(entry).ok());
        let datasets = entries.filter(|entry| entry.starts_with("objset-")).filter_map(|entry| {
            let path = place.join(entry);
            let dataset = KeptFile::listing(path.clone()).read(dataset_name).ok().flatten()?;
            let labels = Labels::new([("dataset", &*dataset), ("zpool", name)]);
            Some(Dataset { labels, source: Source::at(path)? })
        });
        Some(Self {
            labels: Labels::new([("zpool", name)]),
            io: Source::at(place.join("io")),
            state: Live::at(place.join("state")),
            states: STATES.map(|state| Labels::new([("state", state), ("zpool", name)])),
            datasets: datasets.collect(),
        })
    }
}

/// See the module.
pub(crate) struct Zfs {
    pools: Devices<Pool>,
    files: Vec<(Source, Columns)>,
    io: Columns,
    datasets: Columns,
}

impl Zfs {
    pub(crate) fn new(host: &HostRoot) -> Self {
        let directory = host.proc("spl/kstat/zfs");
        let file = |(file, family)| {
            let source = Source { file: KeptFile::listing(directory.join(file)), values: Values::default() };
            (source, Columns::new(family, file))
        };
        Self {
            files: FILES.into_iter().map(file).collect(),
            pools: Devices::new(directory.clone()),
            io: Columns::new("node_zfs_zpool_", "io"),
            datasets: Columns::new("node_zfs_zpool_dataset_", "objset"),
        }
    }
}

impl Collector for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn begin(&mut self, pass: Pass) {
        self.pools.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { pools: list, files, io, datasets } = self;
        let Some(pools) = list.get(Pool::new)? else { return Ok(Outcome::Nothing) };
        for (source, columns) in files {
            if !source.read(parse, columns)? {
                continue;
            }
            for (column, Field { family, help, .. }) in columns.fields.iter().enumerate() {
                out.family(family.clone(), help.clone(), MetricType::Untyped);
                source.values.get(column).inspect(|value| out.value(*value));
            }
        }

        let mut lost = false;
        for Pool { io: source, datasets: list, .. } in pools.iter_mut() {
            if let Some(source) = source {
                lost |= !source.read(parse_io, io)?;
            }
            for Dataset { source, .. } in list {
                lost |= !source.read(parse, datasets)?;
            }
        }
        for (column, Field { family, help, .. }) in io.fields.iter().enumerate() {
            out.family(family.clone(), help.clone(), MetricType::Untyped);
            for Pool { labels, io, .. } in pools.iter() {
                let value = io.as_ref().and_then(|source| source.values.get(column));
                value.inspect(|value| out.push(labels, *value));
            }
        }
        for (column, Field { family, help, .. }) in datasets.fields.iter().enumerate() {
            out.family(family.clone(), help.clone(), MetricType::Untyped);
            for Dataset { labels, source } in pools.iter().flat_map(|pool| &pool.datasets) {
                source.values.get(column).inspect(|value| out.push(labels, *value));
            }
        }
        out.gauge("node_zfs_zpool_state", "kstat.zfs.misc.state");
        for Pool { state, states, .. } in pools.iter_mut() {
            let Some(state) = state else { continue };
            let read = state.with(|now| {
                for (labels, state) in states.iter().zip(STATES) {
                    out.push(labels, f64::from(now.eq_ignore_ascii_case(state.as_bytes())));
                }
                Ok(())
            })?;
            lost |= state.is_lost(read.is_some());
        }
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

    fn parsed(text: &[u8]) -> Result<Vec<(String, Option<f64>)>, TextError> {
        let (mut columns, mut values) = (Columns::new("node_zfs_arc_", "arcstats"), Values::default());
        parse(text, &mut columns, &mut values)?;
        let all = columns.fields.iter().enumerate();
        Ok(all.map(|(column, field)| (field.family.clone().into_owned(), values.get(column))).collect())
    }

    const HEADER: &str = "6 1 0x01 91 4368 5266997922 97951858082072\nname                            type data\n";

    #[test]
    fn reads_whole_numbers() {
        let text = format!("{HEADER}hits  4 8919\nneed-free 3 -12\nlabel 7 words here\nshort\n");
        assert_eq!(
            parsed(text.as_bytes()).unwrap(),
            [("node_zfs_arc_hits".into(), Some(8919.0)), ("node_zfs_arc_need_free".into(), Some(-12.0))]
        );
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            "hits 4 x\n",
            "hits 4 18446744073709551616\n",
            "hits 3 9223372036854775808\n",
            "hi\u{1}ts 4 1\n",
            "hits 4 89",
        ] {
            assert!(parsed(format!("{HEADER}{bad}").as_bytes()).is_err(), "{bad}");
        }
        assert!(parsed(b"").is_err());
        assert!(parsed(b"hits 4 1\n").is_err());
        assert!(parsed(b"\xff\xfe\n").is_err());
        let (mut columns, mut values) = (Columns::new("x_", "io"), Values::default());
        assert!(parse_io(b"nread nwritten\n1\n", &mut columns, &mut values).is_err());
        assert!(parse_io(b"nread\n", &mut columns, &mut values).is_err());
        parse_io(b"12 3\nnread nwritten\n1 2\n", &mut columns, &mut values).unwrap();
        assert_eq!(values.get(1), Some(2.0));
    }

    #[test]
    fn a_dataset_may_have_blanks_in_its_name() {
        assert_eq!(
            dataset_name(b"name type data\ndataset_name   7    tank/my data\nwrites 4 1\n").unwrap(),
            "tank/my data"
        );
        assert_eq!(dataset_name(b"dataset_name 7\n"), None);
        assert_eq!(dataset_name(b""), None);
    }

    #[test]
    fn a_new_pool_is_seen_when_the_pools_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path().join("spl/kstat/zfs/tank");
        fs::create_dir_all(&pool).unwrap();
        fs::write(pool.join("state"), "DEGRADED\n").unwrap();
        let host = HostRoot { proc: dir.path().into(), ..HostRoot::default() };
        let mut zfs = Zfs::new(&host);
        let mut run = || {
            let mut out = Families::default();
            zfs.begin(Pass::Interval);
            assert_eq!(zfs.collect(&mut out).unwrap(), Outcome::Data);
            out.samples("node_zfs_zpool_state").iter().map(|s| s.value).collect::<Vec<_>>()
        };
        assert_eq!(run(), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        fs::create_dir_all(pool.with_file_name("other")).unwrap();
        fs::write(pool.with_file_name("other").join("state"), "ONLINE\n").unwrap();
        assert!((0..30).any(|_| run().len() == 14));
    }
}
