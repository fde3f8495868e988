//! GPUs over a stand-in for NVIDIA's library, built here from `stub.c`: no machine that runs these tests needs a GPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::Value;
use test_servers::{Mosquitto, wait_for};

use super::support::{Agent, Setup, Watch};

const GPU_0: &str = "GPU-5717b000-0000-4000-8000-000000000000";
const GPU_1: &str = "GPU-5717b000-0000-4000-8000-000000000001";

/// The library of a driver of today.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("stub-nvml.so", &[]))
}

/// The library of a driver that lacks functions.
fn old_library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("stub-nvml-old.so", &["-DOLD_DRIVER"]))
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/gpu")
}

fn build(name: &str, switches: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (library, mine) = (folder.join(name), folder.join(format!("{name}.{}", std::process::id())));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&mine)
        .args(switches)
        .arg(here().join("stub.c"))
        .output()
        .unwrap_or_else(|e| {
            panic!("there is no C compiler (cc: {e}); install one with: apt-get install gcc libc6-dev")
        });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Another run of the tests may use the file that is there.
    fs::rename(&mine, &library).unwrap();
    library
}

/// An agent over the stand-in, and the file that says what goes wrong.
struct Machine {
    agent: Agent,
    folder: tempfile::TempDir,
}

impl Machine {
    fn setup(folder: &Path, library: &Path, setup: Setup) -> Setup {
        for (pid, name) in [(4242, "trainer"), (4545, "worker")] {
            let process = folder.join(format!("proc/{pid}"));
            fs::create_dir_all(&process).unwrap();
            fs::write(process.join("comm"), format!("{name}\n")).unwrap();
        }
        let library = library.display().to_string();
        let gpu = toml::Table::from_iter([("library".to_owned(), library.into())]);
        setup
            .set("path.procfs", folder.join("proc").display().to_string())
            .set("collectors.disable_defaults", true)
            .set("collectors.enable", vec!["gpu", "uname"])
            .set("collectors.gpu", gpu)
            .environment("UTILIZER_TEST_NVML", folder.join("control").display().to_string())
    }

    fn with(library: &Path, setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let agent = Self::setup(folder.path(), library, setup).start();
        Self { agent, folder }
    }

    fn start() -> Self {
        Self::with(library(), Setup::new())
    }

    /// What goes wrong from here on.
    fn control(&self, lines: &str) {
        // Never seen half written.
        let (new, file) = (self.folder.path().join("new"), self.folder.path().join("control"));
        fs::write(&new, lines).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn page(&self) -> String {
        self.agent.get("/metrics").body
    }

    /// The value of the family's sample whose labels hold all of these.
    fn value(&self, family: &str, labels: &[&str]) -> Option<f64> {
        value(&self.page(), family, labels)
    }

    /// Waits until it has such a value.
    fn becomes(&self, family: &str, labels: &[&str], wanted: impl Fn(Option<f64>) -> bool) {
        wait_for(&format!("{family} {labels:?}"), || wanted(self.value(family, labels)).then_some(()));
    }
}

fn value(page: &str, family: &str, labels: &[&str]) -> Option<f64> {
    let mut found = page.lines().filter(|line| {
        line.split(['{', ' ']).next() == Some(family) && labels.iter().all(|label| line.contains(label))
    });
    let line = found.next()?;
    let (_, value) = line.rsplit_once(' ')?;
    Some(value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
}

fn uuid(uuid: &str) -> String {
    format!("UUID=\"{uuid}\"")
}

/// The families about GPUs, with what is this machine's taken out.
fn of_gpus(page: &str) -> String {
    let name = |line: &str| {
        let line = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
        line.starts_with("DCGM_") || line.starts_with("utilizer_gpu_")
    };
    let own = rustix::system::uname();
    let own = format!("Hostname=\"{}\"", own.nodename().to_string_lossy());
    page.lines().filter(|line| name(line)).map(|line| line.replace(&own, "Hostname=\"host\"") + "\n").collect()
}

#[test]
fn two_gpus_read_as_the_golden_text() {
    let machine = Machine::start();
    // Errors are heard from a moment after the start on; rates need two passes.
    machine.becomes("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", &[], |value| value.is_some());
    machine.becomes("DCGM_FI_DEV_XID_ERRORS", &[], |value| value.is_some());
    let text = of_gpus(&machine.page());
    let path = here().join("golden.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (number, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of {}", number + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{}", path.display());
    assert_eq!(machine.value("utilizer_collector_success", &["gpu"]), Some(1.0));
}

#[test]
fn what_an_old_driver_lacks_is_missing_and_nothing_else() {
    let machine = Machine::with(old_library(), Setup::new());
    let gpu = uuid(GPU_0);
    machine.becomes("DCGM_FI_DEV_GPU_UTIL", &[&gpu], |value| value == Some(87.0));
    let page = machine.page();
    for missing in [
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "DCGM_FI_DEV_MEMORY_TEMP",
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
        "DCGM_FI_DEV_FB_RESERVED",
    ] {
        assert_eq!(value(&page, missing, &[]), None, "{missing}");
    }
    // What is reserved counts as used there.
    assert_eq!(value(&page, "DCGM_FI_DEV_FB_USED", &[&gpu]), Some(6345.0 + 640.0));
    assert_eq!(value(&page, "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", &[&gpu]), Some(4.0));
    assert_eq!(value(&page, "utilizer_gpu_process_memory_bytes", &["trainer"]), Some(f64::from(6 << 10) * 1048576.0));
    assert_eq!(value(&page, "utilizer_gpu_query_errors_total", &[&gpu]), Some(0.0));
    assert_eq!(value(&page, "utilizer_collector_success", &["gpu"]), Some(1.0));
}

#[test]
fn a_question_that_fails_costs_one_family_of_one_gpu() {
    let machine = Machine::start();
    let (first, second) = (uuid(GPU_0), uuid(GPU_1));
    machine.becomes("DCGM_FI_DEV_POWER_USAGE", &[&first], |value| value == Some(412.345));
    machine.control("broken 0\n");
    machine.becomes("DCGM_FI_DEV_POWER_USAGE", &[&first], |value| value.is_none());
    let page = machine.page();
    assert_eq!(value(&page, "DCGM_FI_DEV_POWER_USAGE", &[&second]), Some(412.345));
    assert_eq!(value(&page, "DCGM_FI_DEV_GPU_TEMP", &[&first]), Some(61.0));
    assert_eq!(value(&page, "utilizer_gpu_power_watts", &[GPU_0]), None, "a gauge that is not known is absent");
    assert_eq!(value(&page, "utilizer_gpu_temperature_celsius", &[GPU_0]), Some(61.0));
    machine.becomes("utilizer_gpu_query_errors_total", &[&first], |value| value > Some(2.0));
    assert_eq!(machine.value("utilizer_gpu_query_errors_total", &[&second]), Some(0.0));
    machine.control("");
    machine.becomes("DCGM_FI_DEV_POWER_USAGE", &[&first], |value| value.is_some());
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_down_with_its_error() {
    let machine = Machine::start();
    let (first, second) = (uuid(GPU_0), uuid(GPU_1));
    machine.becomes("DCGM_FI_DEV_XID_ERRORS", &[&second], |value| value == Some(0.0));
    machine.control("xid 79 1 1\n");
    machine.becomes("DCGM_FI_DEV_XID_ERRORS", &[&second], |value| value == Some(79.0));
    machine.control("lost 1\n");
    machine.becomes("utilizer_gpu_up", &[&second], |value| value == Some(0.0));
    let page = machine.page();
    for line in page.lines().filter(|line| line.starts_with("DCGM_") && line.contains(GPU_1)) {
        assert!(line.starts_with("DCGM_FI_DEV_XID_ERRORS{"), "{line}");
        assert!(line.contains("err_code=\"79\",err_msg=\"GPU has fallen off the bus\""), "{line}");
    }
    assert_eq!(value(&page, "DCGM_FI_DEV_GPU_UTIL", &[&first]), Some(87.0));
    assert_eq!(value(&page, "utilizer_gpu_up", &[&first]), Some(1.0));
    assert_eq!(value(&page, "utilizer_collector_success", &["gpu"]), Some(1.0));
    machine.agent.says("the GPU does not answer any more");

    machine.control("");
    machine.becomes("utilizer_gpu_up", &[&second], |value| value == Some(1.0));
    machine.becomes("DCGM_FI_DEV_FB_TOTAL", &[&second], |value| value.is_some());
    machine.agent.says("the GPU answers again");
    assert_eq!(machine.agent.log().matches("does not answer any more").count(), 1, "said once");
}

#[test]
fn errors_are_counted_by_number() {
    let machine = Machine::start();
    let first = uuid(GPU_0);
    machine.becomes("DCGM_FI_DEV_XID_ERRORS", &[&first], |value| value == Some(0.0));
    let count = |code: &str| machine.value("utilizer_gpu_xid_errors_total", &[&first, &format!("xid=\"{code}\"")]);
    assert_eq!(count("31"), None);
    machine.control("xid 31 0 1\nxid 31 0 2\nxid 4711 0 3\n");
    machine.becomes("DCGM_FI_DEV_XID_ERRORS", &[&first], |value| value == Some(4711.0));
    assert_eq!((count("31"), count("4711")), (Some(2.0), Some(1.0)));
    assert!(machine.page().contains("err_code=\"4711\",err_msg=\"Unknown Error\""));
    machine.agent.says("the driver reports an error of the GPU: GPU memory page fault");
}

#[test]
fn gpus_come_and_go_and_drivers_are_loaded_anew() {
    let machine = Machine::start();
    let (first, second) = (uuid(GPU_0), uuid(GPU_1));
    machine.becomes("DCGM_FI_DEV_GPU_TEMP", &[&second], |value| value.is_some());
    machine.control("count 1\n");
    machine.becomes("utilizer_gpu_up", &[&second], |value| value.is_none());
    assert_eq!(machine.value("utilizer_gpu_up", &[&first]), Some(1.0));
    machine.control("");
    machine.becomes("DCGM_FI_DEV_GPU_TEMP", &[&second], |value| value.is_some());

    // Loaded anew between two questions: nobody sees a gap, but the log.
    machine.control("epoch 1\n");
    machine.agent.says("NVML is opened anew: NVML was not first initialized");
    machine.becomes("DCGM_FI_DEV_GPU_TEMP", &[&first], |value| value.is_some());

    machine.control("epoch 1\nno-driver\n");
    machine.becomes("utilizer_collector_success", &["gpu"], |value| value == Some(0.0));
    let page = machine.page();
    assert!(of_gpus(&page).is_empty(), "{page}");
    assert!(value(&page, "utilizer_collector_success", &["uname"]).is_some());
    machine.agent.says("NVIDIA driver is not loaded");
    machine.control("epoch 2\n");
    machine.becomes("DCGM_FI_DEV_GPU_TEMP", &[&first], |value| value.is_some());
    // Errors are heard after that as well.
    machine.control("epoch 2\nxid 48 0 1\n");
    machine.becomes("DCGM_FI_DEV_XID_ERRORS", &[&first], |value| value == Some(48.0));
}

#[test]
fn a_driver_that_hangs_holds_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = [("library", library().display().to_string()), ("timeout", "700ms".to_owned())];
    let gpu = toml::Table::from_iter(gpu.map(|(key, value)| (key.to_owned(), value.into())));
    let setup = Machine::setup(folder.path(), library(), Setup::new()).set("collectors.gpu", gpu);
    let mut machine = Machine { agent: setup.start(), folder };
    let first = uuid(GPU_0);
    machine.becomes("DCGM_FI_DEV_GPU_UTIL", &[&first], |value| value.is_some());
    machine.control("hang\n");
    machine.becomes("utilizer_collector_success", &["gpu"], |value| value == Some(0.0));
    let page = machine.page();
    assert!(of_gpus(&page).is_empty(), "old values must vanish: {page}");
    machine.agent.says("cannot ask the driver for its GPUs: it does not answer");
    // Intervals go on, and only one thread waits.
    let passes = machine.value("utilizer_sampler_passes_total", &[]);
    machine.becomes("utilizer_sampler_passes_total", &[], |value| value > passes.map(|passes| passes + 5.0));
    let tasks = fs::read_dir(format!("/proc/{}/task", machine.agent.pid().as_raw_nonzero())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    assert_eq!(names.filter(|name| name == "gpu\n").count(), 1);

    machine.control("");
    machine.becomes("DCGM_FI_DEV_GPU_UTIL", &[&first], |value| value.is_some());
    machine.agent.says("collector works again");

    // A hung driver does not hold the stop either.
    machine.control("hang\n");
    machine.becomes("utilizer_collector_success", &["gpu"], |value| value == Some(0.0));
    machine.agent.stop();
}

#[test]
fn no_library_is_one_line_and_one_that_comes_later_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libnvidia-ml.so.1");
    let machine = Machine::with(&path, Setup::new());
    machine.agent.says("no GPU figures: NVIDIA's library is not here");
    machine.becomes("utilizer_collector_success", &["gpu"], |value| value == Some(1.0));
    assert!(of_gpus(&machine.page()).is_empty());
    fs::copy(library(), &path).unwrap();
    machine.becomes("DCGM_FI_DEV_GPU_UTIL", &[], |value| value == Some(87.0));
    let log = machine.agent.log();
    assert_eq!(log.matches("no GPU figures").count(), 1, "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// A driver package without the hardware is no fault either; nor is a file that is no library.
#[test]
fn a_library_without_a_driver_or_none_at_all_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("control"), "no-driver\n").unwrap();
    let agent = Machine::setup(folder.path(), library(), Setup::new()).start();
    agent.says("but NVIDIA's driver is not loaded");
    let garbage = folder.path().join("garbage.so");
    fs::write(&garbage, "not an ELF file").unwrap();
    agent.reload(&Machine::setup(folder.path(), &garbage, Setup::new()));
    agent.says("NVIDIA's library is not here");
    assert_eq!(agent.metric("utilizer_collector_success{collector=\"gpu\"}"), Some(1.0));
}

#[test]
fn gauges_and_inventory_go_over_mqtt() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let machine = Machine::with(library(), Setup::with_broker(&broker.url()));
    let gauges = watch.wait("metrics", "GPU gauges", |all| {
        let gauges = all.last()?["gauges"].as_array()?.clone();
        gauges.iter().any(|gauge| gauge["name"] == "gpu_load").then_some(gauges)
    });
    let gauge = |name: &str, index: &str| {
        let found = gauges.iter().find(|gauge| gauge["name"] == name && gauge["labels"]["gpu"] == index);
        found.map(|gauge| gauge["value"].as_f64().unwrap())
    };
    assert_eq!((gauge("gpu_load", "0"), gauge("gpu_load", "1")), (Some(87.0), None), "in MIG mode there is no load");
    assert_eq!(gauge("gpu_memory_total_bytes", "1"), Some(85_899_345_920.0));
    assert_eq!(gauge("gpu_temperature_celsius", "1"), Some(62.0));
    let load = gauges.iter().find(|gauge| gauge["name"] == "gpu_load").unwrap();
    assert_eq!((&load["labels"]["name"], &load["labels"]["uuid"]), (&"NVIDIA Stub".into(), &GPU_0.into()));

    let gpus = watch.wait("status", "a status with GPUs", |all| {
        Some(all.last()?["inventory"]["gpus"].as_array()?.clone()).filter(|gpus| gpus.len() == 2)
    });
    let expected = serde_json::json!({
        "index": 1, "uuid": GPU_1, "name": "NVIDIA Stub", "memory_total_bytes": 85_899_345_920_u64,
    });
    assert_eq!(gpus[1], expected);
    // One that falls off its bus is still this host's.
    let statuses = watch.payloads("status").len();
    machine.control("lost 1\n");
    machine.becomes("utilizer_gpu_up", &[&uuid(GPU_1)], |value| value == Some(0.0));
    machine.agent.signal(Signal::HUP);
    machine.agent.says("configuration reloaded");
    let status: Value = watch.wait("status", "another status", |all| all.get(statuses).cloned());
    assert_eq!(status["inventory"]["gpus"].as_array().unwrap().len(), 2);
}

#[test]
fn demo_gpus_say_that_they_are_not_real() {
    let backend = toml::Table::from_iter([("backend".to_owned(), "demo".into())]);
    let agent = Setup::new().set("collectors.gpu", backend).start();
    agent.metric_becomes(
        "utilizer_gpu_memory_total_bytes{gpu=\"0\",name=\"Demo GPU (not real)\",uuid=\"GPU-demo-0000-0000-0000-000000000000\"}",
        |value| value > 0.0,
    );
    let page = agent.get("/metrics").body;
    let samples = page.lines().filter(|line| line.starts_with("DCGM_"));
    assert!(samples.clone().count() > 20);
    for line in samples {
        assert!(line.contains("modelName=\"Demo GPU (not real)\"") && line.contains("UUID=\"GPU-demo-"), "{line}");
    }
}
