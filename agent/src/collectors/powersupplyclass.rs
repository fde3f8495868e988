//! Batteries, mains and USB supplies, from `/sys/class/power_supply`.
//!
//! A supply's `uevent` file has all its properties in one text, so a pass reads one file for each supply. A driver that
//! fails at one property fails at that file: then the properties' own files are read.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::collectors::devices::{Devices, text};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Attribute, Directory, HostRoot, decimal};
use crate::pattern::Pattern;
use crate::snapshot::{Families, Labels};
use ::rules::order;

/// What a number is divided by to get to base units.
const WHOLE: f64 = 1.0;
const TENTHS: f64 = 10.0;
const MILLIONTHS: f64 = 1e6;

/// File, family, help, divisor.
macro_rules! numbers {
    ($($file:literal $name:literal $divisor:ident),* $(,)?) => {
        [$((
            $file,
            concat!("node_power_supply_", $name),
            concat!($name, " value of /sys/class/power_supply/<power_supply>."),
            $divisor,
        )),*]
    };
}

/// The properties that are numbers, sorted by file.
const NUMBERS: [(&str, &str, &str, f64); 49] = numbers![
    "authentic" "authentic" WHOLE,
    "calibrate" "calibrate" WHOLE,
    "capacity" "capacity" WHOLE,
    "capacity_alert_max" "capacity_alert_max" WHOLE,
    "capacity_alert_min" "capacity_alert_min" WHOLE,
    "charge_control_limit" "charge_control_limit" MILLIONTHS,
    "charge_control_limit_max" "charge_control_limit_max" MILLIONTHS,
    "charge_counter" "charge_counter" MILLIONTHS,
    "charge_empty" "charge_empty" MILLIONTHS,
    "charge_empty_design" "charge_empty_design" MILLIONTHS,
    "charge_full" "charge_full" MILLIONTHS,
    "charge_full_design" "charge_full_design" MILLIONTHS,
    "charge_now" "charge_ampere" MILLIONTHS,
    "charge_term_current" "charge_term_current" MILLIONTHS,
    "constant_charge_current" "constant_charge_current" MILLIONTHS,
    "constant_charge_current_max" "constant_charge_current_max" MILLIONTHS,
    "constant_charge_voltage" "constant_charge_voltage" MILLIONTHS,
    "constant_charge_voltage_max" "constant_charge_voltage_max" MILLIONTHS,
    "current_boot" "current_boot" MILLIONTHS,
    "current_max" "current_max" MILLIONTHS,
    "current_now" "current_ampere" MILLIONTHS,
    "cycle_count" "cyclecount" WHOLE,
    "energy_empty" "energy_empty" MILLIONTHS,
    "energy_empty_design" "energy_empty_design" MILLIONTHS,
    "energy_full" "energy_full" MILLIONTHS,
    "energy_full_design" "energy_full_design" MILLIONTHS,
    "energy_now" "energy_watthour" MILLIONTHS,
    "input_current_limit" "input_current_limit" MILLIONTHS,
    "online" "online" WHOLE,
    "power_now" "power_watt" MILLIONTHS,
    "precharge_current" "precharge_current" MILLIONTHS,
    "present" "present" WHOLE,
    "temp" "temp_celsius" TENTHS,
    "temp_alert_max" "temp_alert_max_celsius" TENTHS,
    "temp_alert_min" "temp_alert_min_celsius" TENTHS,
    "temp_ambient" "temp_ambient_celsius" TENTHS,
    "temp_ambient_max" "temp_ambient_max_celsius" TENTHS,
    "temp_ambient_min" "temp_ambient_min_celsius" TENTHS,
    "temp_max" "temp_max_celsius" TENTHS,
    "temp_min" "temp_min_celsius" TENTHS,
    "time_to_empty_now" "time_to_empty_seconds" WHOLE,
    "time_to_full_now" "time_to_full_seconds" WHOLE,
    "voltage_boot" "voltage_boot" MILLIONTHS,
    "voltage_max" "voltage_max" MILLIONTHS,
    "voltage_max_design" "voltage_max_design" MILLIONTHS,
    "voltage_min" "voltage_min" MILLIONTHS,
    "voltage_min_design" "voltage_min_design" MILLIONTHS,
    "voltage_now" "voltage_volt" MILLIONTHS,
    "voltage_ocv" "voltage_ocv" MILLIONTHS,
];

/// The properties that are labels of `node_power_supply_info`, sorted.
const TEXTS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

/// `[collectors.powersupplyclass]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Show no supplies that match.
    pub ignored_supplies: Pattern,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ignored_supplies: Pattern::fixed("^$") }
    }
}

/// The properties of a supply at one pass.
struct Properties {
    numbers: [Option<f64>; NUMBERS.len()],
    /// One after the other; `ends` tells where each ends.
    texts: Vec<u8>,
    ends: [usize; TEXTS.len()],
}

impl Properties {
    fn new() -> Self {
        Self { numbers: [None; NUMBERS.len()], texts: Vec::new(), ends: [0; TEXTS.len()] }
    }

    /// Reads lines such as `POWER_SUPPLY_VOLTAGE_NOW=12100000`. What is not one of ours, or is no number where one is
    /// asked for, is left out. Older kernels do not say the type there: then it is `kind`.
    fn parse(&mut self, text: &[u8], kind: &str) {
        self.numbers = [None; NUMBERS.len()];
        let mut texts = TEXTS.map(|name| if name == "type" { kind.as_bytes() } else { b"" });
        for line in text.split(|byte| *byte == b'\n') {
            let Some(property) = line.strip_prefix(b"POWER_SUPPLY_") else { continue };
            let Some(equals) = property.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (&property[..equals], property[equals + 1..].trim_ascii());
            let cmp = |name: &str| name.bytes().map(|byte| byte.to_ascii_uppercase()).cmp(key.iter().copied());
            if let Ok(at) = NUMBERS.binary_search_by(|(file, ..)| cmp(file)) {
                self.numbers[at] = decimal(value);
            } else if let Ok(at) = TEXTS.binary_search_by(|name| cmp(name)) {
                texts[at] = value;
            }
        }
        self.texts.clear();
        for (text, end) in texts.into_iter().zip(&mut self.ends) {
            self.texts.extend_from_slice(text);
            *end = self.texts.len();
        }
    }

    /// The texts that say something, with their names.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends);
        let texts = starts.zip(self.ends).map(|(start, end)| self.texts.get(start..end).unwrap_or_default());
        TEXTS.into_iter().zip(texts).filter(|(_, text)| !text.is_empty())
    }
}

struct Supply {
    name: String,
    kind: String,
    labels: Labels,
    uevent: Attribute,
    /// The properties' own files, by key; opened when the uevent does not do.
    files: Option<Vec<(String, Attribute)>>,
    properties: Properties,
    /// The labels of the info with the texts and their ends from which they were made.
    info: Option<(Vec<u8>, [usize; TEXTS.len()], Labels)>,
}

impl Supply {
    fn new(name: &str, place: &Path) -> Self {
        Self {
            name: name.to_owned(),
            kind: text(place.join("type")).unwrap_or_default(),
            labels: Labels::new([("power_supply", name)]),
            uevent: Attribute::new(place.join("uevent")),
            files: None,
            properties: Properties::new(),
            info: None,
        }
    }

    /// Reads the properties; whether there are any.
    fn read(&mut self) -> bool {
        let Self { kind, uevent, files, properties, .. } = self;
        let parse = |text: &[u8]| {
            let is_whole = text.starts_with(b"POWER_SUPPLY_") || text.windows(14).any(|at| at == b"\nPOWER_SUPPLY_");
            if is_whole {
                properties.parse(text, kind);
            }
            is_whole
        };
        if !matches!(uevent.bytes(parse), Ok(Some(true))) {
            let place = uevent.path().parent();
            let files = files.get_or_insert_with(|| place.map(own_files).unwrap_or_default());
            let mut text = Vec::new();
            for (key, file) in files {
                // What the driver refuses is missing; writing to a vector does not fail.
                let _ = file.bytes(|value| {
                    let _ = write!(text, "POWER_SUPPLY_{key}=");
                    text.extend(value.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
                    text.push(b'\n');
                });
            }
            properties.parse(&text, kind);
            if text.is_empty() {
                return false;
            }
        }
        let known = self
            .info
            .as_ref()
            .is_some_and(|(texts, ends, _)| *texts == self.properties.texts && *ends == self.properties.ends);
        if !known {
            let texts = self.properties.texts().map(|(name, now)| {
                // Its own file shows what else there may be, and marks what is.
                let shown = (name == "usb_type").then(|| text(self.uevent.path().with_file_name(name))).flatten();
                (name, shown.unwrap_or_else(|| String::from_utf8_lossy(now).into_owned()))
            });
            let mut pairs: Vec<_> = texts.chain([("power_supply", self.name.clone())]).collect();
            order::sort_by(&mut pairs, &Ord::cmp);
            let labels = Labels::owned(pairs.into_iter().map(|(name, text)| (name.to_owned(), text)));
            self.info = Some((self.properties.texts.clone(), self.properties.ends, labels));
        }
        true
    }
}

fn own_files(place: &Path) -> Vec<(String, Attribute)> {
    let mut directory = Directory::new(place.to_owned());
    let names = directory.list().ok().flatten().unwrap_or_default();
    let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
    let ours = names.filter(|name| NUMBERS.iter().any(|(file, ..)| file == name) || TEXTS.contains(name));
    ours.map(|name| (name.to_ascii_uppercase(), Attribute::new(place.join(name)))).collect()
}

/// See the module.
pub(crate) struct PowerSupplies {
    settings: Settings,
    supplies: Devices<Supply>,
}

impl PowerSupplies {
    pub(crate) fn new(host: &HostRoot, settings: &Settings) -> Self {
        Self { settings: settings.clone(), supplies: Devices::new(host.sys("class/power_supply")) }
    }
}

impl Collector for PowerSupplies {
    fn name(&self) -> &'static str {
        "powersupplyclass"
    }

    fn begin(&mut self, pass: Pass) {
        self.supplies.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Self { settings, supplies: devices } = self;
        let make =
            |name: &str, place: &Path| (!settings.ignored_supplies.matches(name)).then(|| Supply::new(name, place));
        let Some(supplies) = devices.get(make)? else { return Ok(Outcome::Nothing) };
        let before = supplies.len();
        supplies.retain_mut(Supply::read);
        for (number, (_, name, help, divisor)) in NUMBERS.into_iter().enumerate() {
            out.gauge(name, help);
            for supply in supplies.iter() {
                supply.properties.numbers[number].inspect(|value| out.push(&supply.labels, value / divisor));
            }
        }
        out.gauge("node_power_supply_info", "info of /sys/class/power_supply/<power_supply>.");
        for (_, _, info) in supplies.iter().filter_map(|supply| supply.info.as_ref()) {
            out.push(info, 1.0);
        }
        if supplies.len() != before {
            devices.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_tables_are_sorted() {
        assert!(NUMBERS.is_sorted_by_key(|(file, ..)| file.to_ascii_uppercase()));
        assert!(TEXTS.is_sorted_by_key(|name| name.to_ascii_uppercase()));
    }

    #[test]
    fn lines_that_say_nothing_are_left_out() {
        let mut properties = Properties::new();
        properties.parse(
            b"DEVTYPE=power_supply\nPOWER_SUPPLY_NAME=BAT0\nPOWER_SUPPLY_STATUS=Not charging\nPOWER_SUPPLY_TEMP=-12\n\
              POWER_SUPPLY_CAPACITY=full\nPOWER_SUPPLY_\nPOWER_SUPPLY_ONLINE\nPOWER_SUPPLY_VOLTAGE_NOW=\nPOWER_SUPPLY_MANUFACTURER=a=b\n\xff\xfe",
            "Battery",
        );
        let numbers: Vec<_> =
            NUMBERS.iter().zip(properties.numbers).filter_map(|((n, ..), v)| Some((*n, v?))).collect();
        assert_eq!(numbers, [("temp", -12.0)]);
        assert_eq!(
            properties.texts().collect::<Vec<_>>(),
            [("manufacturer", &b"a=b"[..]), ("status", b"Not charging"), ("type", b"Battery")]
        );
        properties.parse(b"", "");
        assert_eq!(properties.texts().count(), 0);
    }

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn write(&self, file: &str, text: &str) {
            let path = self.0.path().join("class/power_supply").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn collector(&self, settings: &Settings) -> PowerSupplies {
            PowerSupplies::new(&HostRoot { sys: self.0.path().into(), ..HostRoot::default() }, settings)
        }
    }

    fn run(collector: &mut PowerSupplies) -> Families {
        let mut out = Families::default();
        collector.begin(Pass::Interval);
        assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
        out
    }

    #[test]
    fn a_supply_is_read_from_its_own_files_where_uevent_fails() {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.write(
            "BAT0/uevent",
            "POWER_SUPPLY_NAME=BAT0\nPOWER_SUPPLY_STATUS=Charging\nPOWER_SUPPLY_VOLTAGE_NOW=12345000\n",
        );
        machine.write("UPS/uevent", "");
        machine.write("UPS/status", "Full\n");
        machine.write("UPS/voltage_now", "27100000\n");
        machine.write("UPS/device", "27100000\n");
        let mut collector = machine.collector(&Settings::default());
        let out = run(&mut collector);
        let volts: Vec<_> = out.samples("node_power_supply_voltage_volt").iter().map(|s| s.value).collect();
        assert_eq!(volts, [12.345, 27.1]);
        let status = |out: &Families| {
            let info = out.samples("node_power_supply_info").iter();
            info.map(|s| s.labels.get("status").unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(status(&out), ["Charging", "Full"]);
        machine.write("BAT0/uevent", "POWER_SUPPLY_NAME=BAT0\nPOWER_SUPPLY_STATUS=Discharging\n");
        machine.write("UPS/status", "Charging\n");
        let out = run(&mut collector);
        assert_eq!(status(&out), ["Discharging", "Charging"]);
        assert_eq!(out.samples("node_power_supply_voltage_volt").len(), 1);
        // What has nothing any more is gone, and looked for at the next pass.
        machine.write("BAT0/uevent", "");
        assert_eq!(status(&run(&mut collector)), ["Charging"]);
        machine.write("BAT0/uevent", "POWER_SUPPLY_STATUS=Full\n");
        assert_eq!(status(&run(&mut collector)), ["Full", "Charging"]);
    }

    #[test]
    fn ignored_ones_are_not_shown() {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.write("BAT0/uevent", "POWER_SUPPLY_STATUS=Charging\n");
        machine.write("AC/uevent", "POWER_SUPPLY_ONLINE=1\n");
        let out = run(&mut machine.collector(&Settings { ignored_supplies: Pattern::new("^AC").unwrap() }));
        assert_eq!(out.samples("node_power_supply_online").len(), 0);
        assert_eq!(out.samples("node_power_supply_info").len(), 1);
    }
}
