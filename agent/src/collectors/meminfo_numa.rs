//! Memory of each NUMA node and where pages came from, from `meminfo` and `numastat` of the nodes in sysfs. Hundreds of
//! samples on large machines: off by default.

use std::borrow::Cow;

use crate::collectors::devices::{self, Rarely};
use crate::collectors::names;
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Directory, HostRoot, KeptFile, TextError, fields, lines};
use crate::snapshot::{Families, Labels, MetricType};

/// A field, with its value for each node that has it.
struct Field {
    key: Box<[u8]>,
    metric: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: MetricType,
    /// Number of the node in the list, and value.
    values: Vec<(usize, f64)>,
}

/// The fields of all nodes. They come in the same order for each node and at each pass.
#[derive(Default)]
struct Table {
    fields: Vec<Field>,
    cursor: usize,
}

impl Table {
    fn clear(&mut self) {
        self.fields.iter_mut().for_each(|field| field.values.clear());
        self.cursor = 0;
    }

    /// `suffix` stands behind the key in the family's name. What can't be a name is left out.
    fn add(&mut self, node: usize, key: &[u8], suffix: &str, kind: MetricType, value: f64) {
        let same = |field: &Field| *field.key == *key && field.kind == kind;
        let at = match self.fields.get(self.cursor) {
            Some(field) if same(field) => Some(self.cursor),
            _ => self.fields.iter().position(same),
        };
        let at = at.or_else(|| {
            let name = String::from_utf8_lossy(key).replace('(', "_").replace(')', "");
            if !names::is_metric_part(&name) {
                return None;
            }
            self.fields.push(Field {
                key: key.into(),
                metric: names::keep(format!("node_memory_numa_{name}{suffix}")),
                help: names::keep(format!("Memory information field {name}{suffix}.")),
                kind,
                values: Vec::new(),
            });
            Some(self.fields.len() - 1)
        });
        if let Some(at) = at {
            self.fields[at].values.push((node, value));
            self.cursor = at + 1;
        }
    }
}

struct Node {
    labels: Labels,
    meminfo: KeptFile,
    numastat: KeptFile,
}

/// See the module.
pub(crate) struct MemInfoNuma {
    directory: Directory,
    rarely: Rarely,
    nodes: Vec<Node>,
    table: Table,
}

impl MemInfoNuma {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self {
            directory: Directory::new(host.sys("devices/system/node")),
            rarely: Rarely::new(),
            nodes: Vec::new(),
            table: Table::default(),
        }
    }

    fn scan(&mut self) -> Result<(), CollectError> {
        self.nodes.clear();
        let place = self.directory.path().to_owned();
        let names = self.directory.list()?.unwrap_or_default();
        let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
        let mut numbers: Vec<u32> = names.filter_map(|name| devices::index(name, "node")?.parse().ok()).collect();
        numbers.sort_unstable();
        self.nodes.extend(numbers.into_iter().map(|number| {
            let file = |name: &str| KeptFile::record(place.join(format!("node{number}")).join(name));
            let labels = Labels::new([("node", &*number.to_string())]);
            Node { labels, meminfo: file("meminfo"), numastat: file("numastat") }
        }));
        Ok(())
    }

    fn read(&mut self) -> Result<(), CollectError> {
        let Self { nodes, table, .. } = self;
        table.clear();
        for (number, node) in nodes.iter_mut().enumerate() {
            let read = node.meminfo.read(|text| parse_meminfo(text, number, table))?;
            read.map_err(CollectError::malformed(node.meminfo.path()))?;
            let read = node.numastat.read(|text| parse_numastat(text, number, table))?;
            read.map_err(CollectError::malformed(node.numastat.path()))?;
        }
        Ok(())
    }
}

/// `Node 0 Active(anon):   123 kB`
fn parse_meminfo(text: &[u8], node: usize, table: &mut Table) -> Result<(), TextError> {
    let mut any = false;
    for line in lines(text)? {
        let mut fields = fields(line);
        if fields.next() != Some(b"Node") {
            return Err(TextError::expected("a line that begins with Node", line));
        }
        fields.number("a node's number")?;
        let key = fields.text("a key")?;
        let key = key.strip_suffix(b":").ok_or_else(|| TextError::expected("a key with a colon", key))?;
        let value = fields.number("an amount of memory")? as f64;
        let value = match fields.next() {
            None => value,
            Some(b"kB") => value * 1024.0,
            Some(unit) => return Err(TextError::expected("the unit kB or none", unit)),
        };
        table.add(node, key, "", MetricType::Gauge, value);
        any = true;
    }
    if any { Ok(()) } else { Err(TextError::new("the file is empty")) }
}

/// `numa_hit 123`
fn parse_numastat(text: &[u8], node: usize, table: &mut Table) -> Result<(), TextError> {
    for line in lines(text)? {
        let mut fields = fields(line);
        let key = fields.text("a key")?;
        let value = fields.number("a count of pages")? as f64;
        table.add(node, key, "_total", MetricType::Counter, value);
    }
    Ok(())
}

impl Collector for MemInfoNuma {
    fn name(&self) -> &'static str {
        "meminfo_numa"
    }

    fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if self.rarely.is_due() {
            self.scan().inspect_err(|_| self.rarely.soon())?;
        }
        // A node may have been taken out.
        self.read().inspect_err(|_| self.rarely.soon())?;
        for field in self.table.fields.iter().filter(|field| !field.values.is_empty()) {
            out.family(field.metric.clone(), field.help.clone(), field.kind);
            for (node, value) in &field.values {
                out.push(&self.nodes[*node].labels, *value);
            }
        }
        Ok(if self.nodes.is_empty() { Outcome::Nothing } else { Outcome::Data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn fields_of_all_nodes_stand_together() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().into(), ..HostRoot::default() };
        let mut collector = MemInfoNuma::new(&host);
        assert_eq!(collector.collect(&mut Families::default()).unwrap(), Outcome::Nothing);
        let write = |node: u32, meminfo: &str, numastat: &str| {
            let place = host.sys(format!("devices/system/node/node{node}"));
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("meminfo"), meminfo).unwrap();
            fs::write(place.join("numastat"), numastat).unwrap();
        };
        write(0, "\nNode 0 MemTotal: 4 kB\n".trim_start(), "numa_hit 7\n");
        write(10, "Node 10 MemTotal: 5 kB\nNode 10 HugePages_Free: 3\nNode 10 Active(anon): 1 kB\n", "numa_hit 8\n");
        fs::create_dir_all(host.sys("devices/system/node/power")).unwrap();
        collector.rarely.soon();
        for _ in 0..2 {
            let mut out = Families::default();
            assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
            let found = |name: &str| {
                let samples = out.samples(name).iter();
                samples.map(|s| (s.labels.get("node").unwrap().to_owned(), s.value)).collect::<Vec<_>>()
            };
            let of = |node: &str, value: f64| (node.to_owned(), value);
            assert_eq!(found("node_memory_numa_MemTotal"), [of("0", 4096.0), of("10", 5120.0)]);
            assert_eq!(found("node_memory_numa_HugePages_Free"), [of("10", 3.0)]);
            assert_eq!(found("node_memory_numa_Active_anon"), [of("10", 1024.0)]);
            assert_eq!(found("node_memory_numa_numa_hit_total"), [of("0", 7.0), of("10", 8.0)]);
        }
        write(10, "Node 10 MemTotal: x\n", "");
        let error = collector.collect(&mut Families::default()).unwrap_err();
        assert!(error.to_string().contains("node10/meminfo"), "{error}");
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        let mut table = Table::default();
        for bad in [
            &b""[..],
            b"Node 0 MemTotal: 4 kB",
            b"Node 0 MemTotal 4 kB\n",
            b"Node 0 MemTotal: 4 MB\n",
            b"MemTotal: 4 kB\n",
            b"Node 0 MemTotal: 99999999999999999999 kB\n",
            b"\xff\n",
        ] {
            assert!(parse_meminfo(bad, 0, &mut table).is_err(), "{}", bad.escape_ascii());
        }
        for bad in [&b"numa_hit"[..], b"numa_hit x\n", b"numa_hit 99999999999999999999\n", b"\n"] {
            assert!(parse_numastat(bad, 0, &mut table).is_err(), "{}", bad.escape_ascii());
        }
    }
}
