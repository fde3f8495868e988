//! Sensors of mainboards, CPUs, disks and adapters, from `/sys/class/hwmon`.
//!
//! A chip has some files that move (what a sensor measures, alarms) and many that are set up once (limits, names,
//! curves of fans). The first are read at each pass, the others when the chips are listed, which is rarely. Some sensors
//! take long to answer, as a bus has to be asked or a disk woken: such a one is read the less often the longer it takes,
//! and shown with its last value in between.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::collectors::devices::{Live, Rarely, resolved, text};
use crate::collectors::{CollectError, Collector, Outcome, Pass, names};
use crate::host::{Directory, HostRoot, decimal};
use crate::pattern::{Pattern, shows};
use crate::snapshot::{Families, Labels, MetricType};
use ::rules::order;

/// Kinds of sensors. A file is of a kind when it begins with its name, a number, and `_` or nothing.
const KINDS: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// A sensor that answers faster is read at each pass.
const SLOW: Duration = Duration::from_millis(20);

/// A slow one may take so much of the time, as one part of so many, at a pass a second.
const SHARE: u128 = 100;

/// But it is asked at last after so many passes.
const LONGEST_REST: u128 = 300;

/// `[collectors.hwmon]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show only chips that match.
    pub chip_include: Pattern,
    /// Show no chips that match.
    pub chip_exclude: Pattern,
    /// Show only sensors that match, where `CHIP;SENSOR` is compared.
    pub sensor_include: Pattern,
    /// Show no sensors that match.
    pub sensor_exclude: Pattern,
}

/// A file's name taken apart: `temp1_crit_alarm` is property `crit_alarm` of `temp1`.
#[derive(Debug, PartialEq, Eq)]
struct FileName<'a> {
    kind: &'static str,
    number: u32,
    property: &'a str,
}

fn file_name(name: &str) -> Option<FileName<'_>> {
    let digit = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (kind, rest) = name.split_at(digit);
    let kind = KINDS.into_iter().find(|known| *known == kind)?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    let number = if number.is_empty() { 0 } else { number.parse().ok()? };
    let property = match rest {
        "" => "",
        rest => rest.strip_prefix('_').filter(|property| !property.is_empty())?,
    };
    Some(FileName { kind, number, property })
}

/// Whether a property is set up rather than measured.
fn is_setting(kind: &str, property: &str) -> bool {
    const NAMES: &[&str] = &[
        "accuracy",
        "average_interval",
        "average_interval_max",
        "average_interval_min",
        "beep",
        "cap",
        "cap_default",
        "cap_max",
        "cap_min",
        "crit",
        "div",
        "emergency",
        "enable",
        "label",
        "lcrit",
        "max",
        "min",
        "mode",
        "model",
        "offset",
        "pulses",
        "type",
    ];
    matches!(kind, "vrm" | "beep_enable" | "update_interval")
        || NAMES.contains(&property)
        || property.ends_with("_hyst")
        || ["auto_", "rated_", "weight_"].iter().any(|prefix| property.starts_with(prefix))
}

/// A name as node_exporter makes it part of a metric or a label.
fn cleaned(name: &str) -> String {
    let clean = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | ':' | '_') => c,
        _ => '_',
    };
    name.chars().map(clean).collect::<String>().trim_matches('_').to_owned()
}

/// How a file's number becomes the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Whole,
    Thousandths,
    Millionths,
    /// 1 is 1, all else 0.
    Flag,
}

impl Scale {
    fn of(self, number: f64) -> f64 {
        match self {
            Self::Whole => number,
            Self::Thousandths => number * 0.001,
            Self::Millionths => number / 1_000_000.0,
            Self::Flag => f64::from(number == 1.0),
        }
    }
}

/// The family of a sensor's property: name, help, type, scale. `None` for what is not shown. `has_plain` tells that the
/// sensor has a file without property, which then is what `input` is for others.
fn family(kind: &str, property: &str, has_plain: bool) -> Option<(String, String, MetricType, Scale)> {
    use MetricType::{Counter, Gauge};
    use Scale::{Flag, Millionths, Thousandths, Whole};

    let base = match property {
        "" => format!("node_hwmon_{kind}"),
        "input" if !has_plain => format!("node_hwmon_{kind}"),
        property => format!("node_hwmon_{kind}_{}", cleaned(property)),
    };
    let (suffix, help, metric, scale) = match (kind, property) {
        (_, "label") => return None,
        ("beep_enable", _) => {
            return Some(("node_hwmon_beep_enabled".into(), "Hardware beep enabled".into(), Gauge, Flag));
        }
        ("vrm", _) => {
            let name = "node_hwmon_voltage_regulator_version";
            return Some((name.into(), "Hardware voltage regulator".into(), Gauge, Whole));
        }
        ("update_interval", _) => {
            let name = "node_hwmon_update_interval_seconds";
            return Some((name.into(), "Hardware monitor update interval".into(), Gauge, Thousandths));
        }
        (_, "fault" | "alarm") => ("", format!("Hardware sensor {property} status ({kind})"), Gauge, Whole),
        (_, "beep") => ("_enabled", "Hardware monitor sensor has beeping enabled".into(), Gauge, Whole),
        ("in" | "cpu", _) => ("_volts", format!("Hardware monitor for voltage ({property})"), Gauge, Thousandths),
        ("temp", property) if property != "type" => {
            let property = if property.is_empty() { "input" } else { property };
            ("_celsius", format!("Hardware monitor for temperature ({property})"), Gauge, Thousandths)
        }
        ("curr", _) => ("_amps", format!("Hardware monitor for current ({property})"), Gauge, Thousandths),
        ("energy", _) => {
            ("_joule_total", format!("Hardware monitor for joules used so far ({property})"), Counter, Millionths)
        }
        ("power", "accuracy") => ("", "Hardware monitor power meter accuracy, as a ratio".into(), Gauge, Millionths),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            let help = format!("Hardware monitor power usage update interval ({property})");
            ("_seconds", help, Gauge, Thousandths)
        }
        ("power", _) => ("_watt", format!("Hardware monitor for power usage in watts ({property})"), Gauge, Millionths),
        ("humidity", _) => {
            let help = "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a \
                        percentage)";
            ("", format!("{help} ({property})"), Gauge, Millionths)
        }
        ("fan", "input" | "min" | "max" | "target") => {
            ("_rpm", format!("Hardware monitor for fan revolutions per minute ({property})"), Gauge, Whole)
        }
        ("freq", "input") => ("_freq_mhz", "Hardware monitor for GPU frequency in MHz".into(), Gauge, Millionths),
        _ => ("", format!("Hardware monitor {kind} element {property}"), Gauge, Whole),
    };
    Some((base + suffix, help, metric, scale))
}

/// A file that is read at each pass, but for a slow one.
struct Source {
    live: Live,
    last: Option<f64>,
    /// Interval passes until it is read again.
    rest: u32,
}

impl Source {
    fn read(&mut self, pass: Pass) -> Option<f64> {
        if self.rest > 0 {
            self.rest -= u32::from(pass == Pass::Interval);
            return self.last;
        }
        let begun = Instant::now();
        self.last = self.live.number();
        self.rest = rest(begun.elapsed());
        self.last
    }
}

/// How many passes a sensor is left alone that took so long.
fn rest(took: Duration) -> u32 {
    if took < SLOW {
        return 0;
    }
    u32::try_from((took.as_millis() * SHARE / 1000).clamp(1, LONGEST_REST)).unwrap_or(u32::MAX)
}

enum Value {
    Live(PathBuf, Source),
    Set(f64),
}

struct Series {
    family: Cow<'static, str>,
    help: Cow<'static, str>,
    metric: MetricType,
    labels: Labels,
    scale: Scale,
    value: Value,
}

/// A directory of the class.
struct Chip {
    place: PathBuf,
    /// Its entry's name, as in `hwmon3`.
    entry: String,
    /// Its `name` file.
    given: String,
    /// Where its device stands, or else what it is called.
    base: String,
}

impl Chip {
    fn new(entry: &str, place: PathBuf) -> Option<Self> {
        if !place.is_dir() {
            return None;
        }
        let given = text(place.join("name")).unwrap_or_default();
        let device = place.join("device").canonicalize().ok();
        let part = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            cleaned(&name.unwrap_or_default())
        };
        let device_name = part(device.as_deref());
        let bus = part(device.as_deref().and_then(Path::parent));
        let candidates = match (&*bus, &*device_name) {
            ("", name) => [name.to_owned(), cleaned(&given), part(Some(&place))],
            (bus, name) if !name.is_empty() => [format!("{bus}_{name}"), String::new(), String::new()],
            _ => [cleaned(&given), part(Some(&place)), String::new()],
        };
        let base = candidates.into_iter().find(|name| !name.is_empty())?;
        Some(Self { place, entry: entry.to_owned(), given, base })
    }
}

/// Labels for all chips that differ, as several may belong to one device.
fn labelled(chips: Vec<Chip>) -> Vec<(String, Chip)> {
    let mut by_base: HashMap<String, u32> = HashMap::new();
    let mut by_name: HashMap<(String, String), u32> = HashMap::new();
    for chip in &chips {
        *by_base.entry(chip.base.clone()).or_default() += 1;
        *by_name.entry((chip.base.clone(), chip.given.clone())).or_default() += 1;
    }
    let label = |chip: &Chip| {
        if by_base.get(&chip.base) == Some(&1) {
            return chip.base.clone();
        }
        let given = cleaned(&chip.given);
        let is_only = by_name.get(&(chip.base.clone(), chip.given.clone())) == Some(&1);
        let suffix = if is_only && !given.is_empty() { given } else { cleaned(&chip.entry) };
        format!("{}_{suffix}", chip.base)
    };
    chips.into_iter().map(|chip| (label(&chip), chip)).collect()
}

/// See the module.
pub(crate) struct HwMon {
    class: Directory,
    settings: Settings,
    rarely: Rarely,
    pass: Pass,
    /// Sorted by family; `None` where there is no such class.
    series: Option<Vec<Series>>,
}

impl HwMon {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self {
            class: Directory::new(host.sys("class/hwmon")),
            settings: settings.clone(),
            rarely: Rarely::new(),
            pass: Pass::Interval,
            series: None,
        }
    }

    /// Lists the chips and what they have.
    fn list(&mut self) -> Result<(), CollectError> {
        // Open files go on being used, and slow ones go on resting.
        let mut open = HashMap::new();
        for series in self.series.take().into_iter().flatten() {
            if let Value::Live(path, source) = series.value {
                open.insert(path, source);
            }
        }
        let class = self.class.path().to_owned();
        let Some(entries) = self.class.list().inspect_err(|_| self.rarely.soon())? else { return Ok(()) };
        let entries = entries.iter().filter_map(|entry| std::str::from_utf8(entry).ok());
        let chips = entries.filter_map(|entry| Chip::new(entry, resolved(&class.join(entry))));
        let chips = labelled(chips.collect());
        let mut list = Vec::new();
        for (chip, Chip { place, given, .. }) in &chips {
            if !shows(&self.settings.chip_include, &self.settings.chip_exclude, chip) {
                continue;
            }
            let name = cleaned(given);
            if !name.is_empty() {
                let labels = Labels::new([("chip", &**chip), ("chip_name", &*name)]);
                list.push(note("node_hwmon_chip_names", "Annotation metric for human-readable chip names", labels));
            }
            for (sensor, files) in sensors(place) {
                let settings = &self.settings;
                if shows(&settings.sensor_include, &settings.sensor_exclude, &format!("{chip};{sensor}")) {
                    append(chip, &sensor, files, &mut open, &mut list);
                }
            }
        }
        let mut seen = HashSet::new();
        list.retain(|series| seen.insert((series.family.clone(), series.labels.clone())));
        // A family's series are to stand together.
        order::sort_by(&mut list, &|a, b| a.family.cmp(&b.family));
        self.series = Some(list);
        Ok(())
    }
}

/// A series that says something by its labels.
fn note(family: &'static str, help: &'static str, labels: Labels) -> Series {
    Series {
        family: family.into(),
        help: help.into(),
        metric: MetricType::Gauge,
        labels,
        scale: Scale::Whole,
        value: Value::Set(1.0),
    }
}

/// A sensor's properties, and where each stands.
type Files = BTreeMap<String, (&'static str, PathBuf)>;

/// The sensors of a chip by name. Older drivers have the files in the device's directory.
fn sensors(place: &Path) -> BTreeMap<String, Files> {
    let mut sensors: BTreeMap<String, Files> = BTreeMap::new();
    for place in [place.to_owned(), resolved(&place.join("device"))] {
        let mut directory = Directory::new(place.clone());
        let names = directory.list().ok().flatten().unwrap_or_default();
        for name in names.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
            let Some(FileName { kind, number, property }) = file_name(name) else { continue };
            let path = place.join(name);
            if path.is_file() {
                let files = sensors.entry(format!("{kind}{number}")).or_default();
                files.insert(property.to_owned(), (kind, path));
            }
        }
    }
    sensors
}

fn append(chip: &str, sensor: &str, files: Files, open: &mut HashMap<PathBuf, Source>, list: &mut Vec<Series>) {
    let labels = Labels::new([("chip", chip), ("sensor", sensor)]);
    let label = files.get("label").and_then(|(_, path)| text(path.clone()));
    if let Some(label) = &label {
        let labels = Labels::new([("chip", chip), ("label", &**label), ("sensor", sensor)]);
        list.push(note("node_hwmon_sensor_label", "Label for given chip and sensor", labels));
    }
    let has_plain = files.contains_key("");
    for (property, (kind, path)) in files {
        let Some((name, help, metric, scale)) = family(kind, &property, has_plain) else { continue };
        let labels = match (kind, &*property, &label) {
            // A clock goes by its label, and one without is not shown.
            ("freq", "input", Some(label)) => Labels::new([("chip", chip), ("sensor", &*cleaned(label))]),
            ("freq", "input", None) => continue,
            _ => labels.clone(),
        };
        let value = if is_setting(kind, &property) {
            let number = text(path).and_then(|text| match scale {
                Scale::Flag => Some(f64::from(text == "1")),
                _ => decimal(text.as_bytes()),
            });
            let Some(number) = number else { continue };
            Value::Set(number)
        } else {
            let source = open.remove(&path).filter(|source| !source.live.is_refused());
            let source = source.or_else(|| Some(Source { live: Live::at(path.clone())?, last: None, rest: 0 }));
            let Some(source) = source else { continue };
            Value::Live(path, source)
        };
        list.push(Series { family: names::keep(name), help: names::keep(help), metric, labels, scale, value });
    }
}

impl Collector for HwMon {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn begin(&mut self, pass: Pass) {
        self.pass = pass;
        self.rarely.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if self.rarely.is_due() {
            self.list()?;
        }
        let Some(list) = &mut self.series else { return Ok(Outcome::Nothing) };
        let mut before: Option<&str> = None;
        let mut lost = false;
        for Series { family, help, metric, labels, scale, value } in list {
            if before != Some(family) {
                out.family(family.clone(), help.clone(), *metric);
                before = Some(family);
            }
            let value = match value {
                Value::Set(value) => Some(*value),
                Value::Live(_, source) => {
                    let value = source.read(self.pass);
                    lost |= source.live.is_lost(value.is_some());
                    value
                }
            };
            value.inspect(|value| out.push(labels, scale.of(*value)));
        }
        if lost {
            self.rarely.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn file_names_are_taken_apart_as_node_exporter_does() {
        let parts = |name| file_name(name).map(|f| (f.kind, f.number, f.property));
        for (name, found) in [
            ("temp1_input", ("temp", 1, "input")),
            ("temp12_crit_alarm", ("temp", 12, "crit_alarm")),
            ("pwm1", ("pwm", 1, "")),
            ("pwm1_auto_point2_temp", ("pwm", 1, "auto_point2_temp")),
            ("fan_input", ("", 0, "")),
            ("in0_min", ("in", 0, "min")),
            ("beep_enable", ("beep_enable", 0, "")),
            ("update_interval", ("update_interval", 0, "")),
            ("vrm", ("vrm", 0, "")),
            ("cpu0_vid", ("cpu", 0, "vid")),
            ("intrusion0_alarm", ("intrusion", 0, "alarm")),
        ] {
            assert_eq!(parts(name), (!found.0.is_empty()).then_some(found), "{name}");
        }
        for none in
            ["name", "uevent", "temp1x", "temp1_", "1temp", "temp99999999999_input", "", "power_state", "tempé1"]
        {
            assert_eq!(parts(none), None, "{none}");
        }
    }

    #[test]
    fn families_are_node_exporters() {
        for (kind, property, name) in [
            ("temp", "input", "node_hwmon_temp_celsius"),
            ("temp", "crit_alarm", "node_hwmon_temp_crit_alarm_celsius"),
            ("temp", "alarm", "node_hwmon_temp_alarm"),
            ("temp", "type", "node_hwmon_temp_type"),
            ("temp", "beep", "node_hwmon_temp_beep_enabled"),
            ("in", "input", "node_hwmon_in_volts"),
            ("cpu", "vid", "node_hwmon_cpu_vid_volts"),
            ("fan", "input", "node_hwmon_fan_rpm"),
            ("fan", "target", "node_hwmon_fan_target_rpm"),
            ("fan", "div", "node_hwmon_fan_div"),
            ("pwm", "", "node_hwmon_pwm"),
            ("pwm", "enable", "node_hwmon_pwm_enable"),
            ("curr", "max", "node_hwmon_curr_max_amps"),
            ("power", "input", "node_hwmon_power_watt"),
            ("power", "average", "node_hwmon_power_average_watt"),
            ("power", "average_interval", "node_hwmon_power_average_interval_seconds"),
            ("power", "accuracy", "node_hwmon_power_accuracy"),
            ("energy", "input", "node_hwmon_energy_joule_total"),
            ("humidity", "input", "node_hwmon_humidity"),
            ("intrusion", "alarm", "node_hwmon_intrusion_alarm"),
            ("freq", "input", "node_hwmon_freq_freq_mhz"),
            ("update_interval", "", "node_hwmon_update_interval_seconds"),
        ] {
            assert_eq!(family(kind, property, false).unwrap().0, name);
        }
        assert_eq!(family("fan", "input", true).unwrap().0, "node_hwmon_fan_input_rpm");
        assert!(family("temp", "label", false).is_none());
    }

    #[test]
    fn a_slow_sensor_rests_the_longer_the_slower_it_is() {
        assert_eq!(rest(Duration::from_millis(19)), 0);
        assert_eq!(rest(Duration::from_millis(20)), 2);
        assert_eq!(rest(Duration::from_secs(1)), 100);
        assert_eq!(rest(Duration::from_secs(60)), 300);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("temp1_input");
        fs::write(&path, "41000\n").unwrap();
        let mut source = Source { live: Live::at(path.clone()).unwrap(), last: None, rest: 0 };
        assert_eq!(source.read(Pass::Interval), Some(41000.0));
        fs::write(&path, "42000\n").unwrap();
        source.rest = 2;
        for pass in [Pass::Interval, Pass::Scrape, Pass::Scrape, Pass::Interval] {
            assert_eq!(source.read(pass), Some(41000.0));
        }
        assert_eq!(source.read(Pass::Scrape), Some(42000.0));
    }

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(files: &[(&str, &str)]) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.0.path().join("class/hwmon")).unwrap();
            files.iter().for_each(|(file, text)| machine.write(file, text));
            machine
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.path().join("class/hwmon").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn collector(&self, settings: &Settings) -> HwMon {
            HwMon::new(&HostRoot { sys: self.0.path().into(), ..HostRoot::default() }, settings)
        }
    }

    fn run(collector: &mut HwMon) -> Families {
        let mut out = Families::default();
        collector.begin(Pass::Interval);
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        out
    }

    fn series(out: &Families, family: &str) -> Vec<(String, f64)> {
        let name =
            |labels: &Labels| [labels.get("chip"), labels.get("sensor")].map(Option::unwrap_or_default).join(";");
        out.samples(family).iter().map(|s| (name(&s.labels), s.value)).collect()
    }

    #[test]
    fn what_can_not_be_read_costs_itself_only() {
        let machine = Machine::new(&[
            ("hwmon0/name", "nct 6775\n"),
            ("hwmon0/temp1_input", "38500\n"),
            ("hwmon0/temp2_input", "off\n"),
            ("hwmon0/temp3_input", ""),
            ("hwmon0/temp4_max", "none\n"),
            ("hwmon0/beep_enable", "1\n"),
            ("hwmon0/freq1_input", "1200000000\n"),
            ("hwmon0/freq2_input", "800000000\n"),
            ("hwmon0/freq2_label", "mclk#\n"),
            ("hwmon0/power/async", "disabled\n"),
            ("hwmon0/power1_input/x", ""),
        ]);
        let mut collector = machine.collector(&Settings::default());
        let out = run(&mut collector);
        assert_eq!(series(&out, "node_hwmon_temp_celsius"), [("nct_6775;temp1".into(), 38.5)]);
        assert_eq!(series(&out, "node_hwmon_beep_enabled"), [("nct_6775;beep_enable0".into(), 1.0)]);
        assert_eq!(series(&out, "node_hwmon_freq_freq_mhz"), [("nct_6775;mclk".into(), 800.0)]);
        assert!(out.samples("node_hwmon_temp_max_celsius").is_empty());
        assert_eq!(out.samples("node_hwmon_chip_names")[0].labels.get("chip_name"), Some("nct_6775"));
        // It comes back.
        machine.write("hwmon0/temp3_input", "-1000\n");
        assert_eq!(series(&run(&mut collector), "node_hwmon_temp_celsius").len(), 2);
    }

    #[test]
    fn chips_of_one_device_are_told_apart() {
        let chip = |entry: &str, given: &str, base: &str| Chip {
            place: PathBuf::new(),
            entry: entry.into(),
            given: given.into(),
            base: base.into(),
        };
        let chips = vec![
            chip("hwmon0", "fan", "platform_x"),
            chip("hwmon1", "wmi sensors", "platform_x"),
            chip("hwmon2", "a", "pci_y"),
            chip("hwmon3", "b", "z"),
            chip("hwmon4", "b", "z"),
        ];
        let labels: Vec<_> = labelled(chips).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["platform_x_fan", "platform_x_wmi_sensors", "pci_y", "z_hwmon3", "z_hwmon4"]);
    }

    #[test]
    fn patterns_choose_chips_and_sensors() {
        let machine = Machine::new(&[
            ("hwmon0/name", "a\n"),
            ("hwmon0/temp1_input", "1000\n"),
            ("hwmon0/temp2_input", "2000\n"),
            ("hwmon1/name", "b\n"),
            ("hwmon1/temp1_input", "3000\n"),
        ]);
        let found = |settings: Settings| series(&run(&mut machine.collector(&settings)), "node_hwmon_temp_celsius");
        let pattern = |text| Pattern::new(text).unwrap();
        assert_eq!(found(Settings::default()).len(), 3);
        let settings = Settings { chip_exclude: pattern("^a$"), ..Default::default() };
        assert_eq!(found(settings), [("b;temp1".into(), 3.0)]);
        let settings =
            Settings { chip_include: pattern("a"), sensor_exclude: pattern("^a;temp1$"), ..Default::default() };
        assert_eq!(found(settings), [("a;temp2".into(), 2.0)]);
        let settings = Settings { sensor_include: pattern(";temp2"), ..Default::default() };
        assert_eq!(found(settings), [("a;temp2".into(), 2.0)]);
    }

    #[test]
    fn a_chip_that_goes_and_one_that_comes_are_seen() {
        let machine = Machine::new(&[("hwmon0/name", "a\n"), ("hwmon0/temp1_input", "1000\n")]);
        let mut collector = machine.collector(&Settings::default());
        let names = |out: &Families| out.samples("node_hwmon_chip_names").len();
        assert_eq!(names(&run(&mut collector)), 1);
        machine.write("hwmon1/name", "b\n");
        assert_eq!(names(&run(&mut collector)), 1);
        machine.write("hwmon0/temp1_input", "");
        fs::remove_dir_all(machine.0.path().join("class/hwmon/hwmon0")).unwrap();
        machine.write("hwmon2/name", "c\n");
        run(&mut collector);
        assert_eq!(names(&run(&mut collector)), 2);
    }
}
