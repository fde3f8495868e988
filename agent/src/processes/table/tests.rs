use std::path::Path;

use super::*;

/// A frozen procfs whose processes tests write.
struct Frozen {
    dir: tempfile::TempDir,
    table: ProcessTable,
    start: Instant,
}

impl Frozen {
    fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// In memory where there is such a place: a disk takes a minute for ten thousand processes.
    fn large() -> Self {
        Self::within(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn within(dir: tempfile::TempDir) -> Self {
        let table = ProcessTable::new(
            &HostRoot { proc: dir.path().into(), ..HostRoot::default() },
            &ProcessSettings::default(),
        );
        Self { dir, table, start: Instant::now() }
    }

    fn path(&self, pid: u32) -> std::path::PathBuf {
        self.dir.path().join(pid.to_string())
    }

    fn write(&self, pid: u32, name: &str, cpu_ticks: u64, started: u64, pages: u64) {
        let fields = format!(
            "{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {cpu_ticks} 0 0 0 20 0 3 0 {started} 1000000 {pages} 1 2 3\n"
        );
        std::fs::create_dir_all(self.path(pid)).unwrap();
        std::fs::write(self.path(pid).join("stat"), fields).unwrap();
    }

    fn remove(&self, pid: u32) {
        std::fs::remove_dir_all(self.path(pid)).unwrap();
    }

    /// A pass so many seconds after the start; the top processes as pid, name and percent.
    fn pass(&mut self, second: u64) -> Option<Vec<(u32, String, f64)>> {
        self.table.sample(self.start + Duration::from_secs(second)).unwrap();
        let top = self.table.top(None)?;
        Some(top.into_iter().map(|usage| (usage.pid, usage.name, usage.cpu_percent)).collect())
    }
}

fn row(pid: u32, name: &str, percent: f64) -> (u32, String, f64) {
    (pid, name.into(), percent)
}

#[test]
fn the_first_pass_knows_no_shares() {
    let mut frozen = Frozen::new();
    frozen.write(7, "seven", 500, 10, 1);
    assert_eq!(frozen.pass(0), None);
    frozen.write(7, "seven", 600, 10, 1);
    assert_eq!(frozen.pass(2), Some(vec![row(7, "seven", 50.0)]));
}

#[test]
fn the_busiest_first_and_the_larger_among_equals() {
    let mut frozen = Frozen::new();
    for (pid, pages) in [(5, 1), (30, 9), (4, 2), (100, 1)] {
        frozen.write(pid, "p", 0, pid.into(), pages);
    }
    frozen.pass(0);
    frozen.write(100, "p", 300, 100, 1);
    assert_eq!(
        frozen.pass(1).unwrap().iter().map(|row| (row.0, row.2)).collect::<Vec<_>>(),
        [(100, 300.0), (30, 0.0), (4, 0.0), (5, 0.0)]
    );
    for (top, expected) in [(3, vec![100, 30, 4]), (2, vec![100, 30, 4]), (1, vec![100, 30]), (0, vec![])] {
        frozen.table.configure(&ProcessSettings { top, ..ProcessSettings::default() });
        let found: Vec<_> = frozen.table.top(None).unwrap().into_iter().map(|usage| usage.pid).collect();
        assert_eq!(found, expected, "{top}");
    }
}

#[test]
fn counts_by_state() {
    let mut frozen = Frozen::new();
    for pid in 1..=3 {
        frozen.write(pid, "p", 0, 1, 1);
    }
    let path = frozen.path(3).join("stat");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(") S ", ") \u{7f} ")).unwrap();
    frozen.pass(0);
    let counts = frozen.table.counts();
    assert_eq!((counts.processes, counts.threads), (3, 9));
    assert_eq!(counts.states().collect::<Vec<_>>(), [(b'S', 2)]);
}

#[test]
fn threads_by_state_where_they_are_asked_for() {
    let mut frozen = Frozen::new();
    for pid in 1..=3 {
        frozen.write(pid, "p", 0, 1, 1);
    }
    let single = std::fs::read_to_string(frozen.path(2).join("stat")).unwrap().replace(" 20 0 3 0 ", " 20 0 1 0 ");
    std::fs::write(frozen.path(2).join("stat"), single).unwrap();
    let thread = |thread: &str, text: &[u8]| {
        let path = frozen.path(1).join("task").join(thread);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("stat"), text).unwrap();
    };
    // That of the process itself is not read again.
    thread("1", b"garbage");
    thread("10", b"10 (a) b)) D 1 2");
    thread("11", b"11 (cut");
    thread("12", b"\xff\x00) \xff\xfe");
    thread("13", b"");
    thread("14", b"14 (long) Running 1");
    thread("none", b"15 (no thread) R 1");
    std::fs::create_dir(frozen.path(1).join("task/99999999999")).unwrap();
    std::fs::create_dir(frozen.path(1).join("task/16")).unwrap();
    frozen.pass(0);
    assert!(frozen.table.counts().thread_states().is_none());
    frozen.table.configure(&ProcessSettings { thread_states: true, ..ProcessSettings::default() });
    frozen.pass(1);
    // The third says that it has threads, but they can't be listed.
    let states: Vec<_> = frozen.table.counts().thread_states().unwrap().collect();
    assert_eq!(states, [(b'D', 1), (b'S', 2)]);
    std::fs::remove_dir_all(frozen.path(1).join("task")).unwrap();
    frozen.pass(2);
    let states: Vec<_> = frozen.table.counts().thread_states().unwrap().collect();
    assert_eq!(states, [(b'S', 1)]);
}

#[test]
fn a_reused_pid_is_not_a_continuation() {
    let mut frozen = Frozen::new();
    frozen.write(9, "old", 100_000, 10, 1);
    frozen.pass(0);
    frozen.write(9, "new", 30, 777, 1);
    assert_eq!(frozen.pass(1), Some(vec![row(9, "new", 30.0)]));
}

#[test]
fn a_new_process_used_all_it_used_since() {
    let mut frozen = Frozen::new();
    frozen.write(1, "init", 0, 1, 1);
    frozen.pass(0);
    frozen.write(2, "born", 40, 500, 1);
    assert_eq!(frozen.pass(4), Some(vec![row(2, "born", 10.0), row(1, "init", 0.0)]));
}

#[test]
fn the_gone_and_the_unreadable_are_left_out() {
    let mut frozen = Frozen::new();
    for pid in [1, 2, 3] {
        frozen.write(pid, "p", 0, 1, 1);
    }
    frozen.pass(0);
    frozen.remove(2);
    std::fs::write(frozen.path(3).join("stat"), "3 (p) S 1").unwrap();
    std::fs::create_dir(frozen.path(4)).unwrap();
    std::fs::write(frozen.dir.path().join("uptime"), "no process").unwrap();
    assert_eq!(frozen.pass(1), Some(vec![row(1, "p", 0.0)]));
    assert_eq!(frozen.table.counts().processes, 1);
    // One that was listed but not readable may have run for long before: its ticks are not this interval's.
    frozen.write(3, "p", 5000, 1, 1);
    assert_eq!(frozen.pass(2), Some(vec![row(1, "p", 0.0)]));
    assert_eq!(frozen.pass(3).unwrap().len(), 2);
}

#[test]
fn ticks_that_run_backwards_are_not_shown() {
    let mut frozen = Frozen::new();
    frozen.write(1, "p", 100, 1, 1);
    frozen.pass(0);
    frozen.write(1, "p", 99, 1, 1);
    assert_eq!(frozen.pass(1), Some(vec![]));
}

#[test]
fn time_that_stands_still_gives_no_shares() {
    let mut frozen = Frozen::new();
    frozen.write(1, "p", 100, 1, 1);
    frozen.pass(5);
    assert_eq!(frozen.pass(5), None);
    assert_eq!(frozen.pass(4), None);
    assert!(frozen.pass(6).is_some());
}

#[test]
fn memory_is_a_share_of_the_hosts() {
    let mut frozen = Frozen::new();
    frozen.write(1, "p", 0, 1, 10);
    frozen.pass(0);
    frozen.pass(1);
    let resident = 10.0 * rustix::param::page_size() as f64;
    let usage = &frozen.table.top(Some(resident * 4.0)).unwrap()[0];
    assert_eq!((usage.resident_memory_bytes, usage.memory_percent), (resident, Some(25.0)));
    assert_eq!((usage.threads, usage.state, usage.start_ticks), (3, 'S', 1));
    assert_eq!(frozen.table.top(None).unwrap()[0].memory_percent, None);
    assert_eq!(frozen.table.top(Some(0.0)).unwrap()[0].memory_percent, None);
}

/// The details of the process that is listed first.
fn details(frozen: &mut Frozen, second: u64) -> Details {
    frozen.table.sample(frozen.start + Duration::from_secs(second)).unwrap();
    frozen.table.top(None).unwrap().remove(0).details
}

#[test]
fn the_listed_are_told_in_detail() {
    let mut frozen = Frozen::new();
    frozen.write(7, "web", 0, 10, 1);
    let path = frozen.path(7);
    let put = |file: &str, text: &str| std::fs::write(path.join(file), text).unwrap();
    put("cmdline", "web\0--token\0hunter2\0");
    put("cgroup", "0::/system.slice/web.service\n");
    put("io", "read_bytes: 100\nwrite_bytes: 4000\n");
    put("limits", "Max open files 64 128 files\n");
    put("status", "Uid:\t0\t4242\t0\t0\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n");
    std::fs::create_dir(path.join("fd")).unwrap();
    put("fd/0", "");
    put("fd/19", "");
    frozen.pass(0);
    assert_eq!(details(&mut frozen, 1).read_bytes_per_second, None);
    put("io", "read_bytes: 300\nwrite_bytes: 4000\n");
    let found = details(&mut frozen, 3);
    let expected = Details {
        open_fds: Some(2),
        max_fds: Some(64),
        read_bytes_per_second: Some(100.0),
        write_bytes_per_second: Some(0.0),
        command_line: Some("web --token ***".into()),
        user: Some("4242".into()),
        unit: Some("web.service".into()),
        container: None,
    };
    assert_eq!(found, expected);

    // What is slow is read again with the name, and now and then.
    put("cmdline", "other\0");
    assert_eq!(details(&mut frozen, 4).command_line, expected.command_line);
    frozen.write(7, "renamed", 0, 10, 1);
    assert_eq!(details(&mut frozen, 5).command_line.as_deref(), Some("other"));
    put("cmdline", "again\0");
    assert!((6..40).any(|second| details(&mut frozen, second).command_line.as_deref() == Some("again")));
    // Another process of that number has other files.
    put("cmdline", "successor\0");
    frozen.write(7, "renamed", 0, 99, 1);
    let found = details(&mut frozen, 41);
    assert_eq!((found.command_line.as_deref(), found.read_bytes_per_second), (Some("successor"), None));

    let settings = ProcessSettings { command_line: false, ..ProcessSettings::default() };
    frozen.table.configure(&settings);
    assert_eq!(details(&mut frozen, 42).command_line, None);
    let redact = vec![crate::pattern::Pattern::new("succ").unwrap()];
    frozen.table.configure(&ProcessSettings { redact, ..ProcessSettings::default() });
    assert_eq!(details(&mut frozen, 43).command_line.as_deref(), Some("***essor"));
}

#[test]
fn what_may_not_be_read_is_missing() {
    let mut frozen = Frozen::new();
    frozen.write(7, "other", 0, 10, 1);
    // A directory can be opened and not read, by root too.
    for file in ["io", "limits", "status", "cgroup", "cmdline"] {
        std::fs::create_dir(frozen.path(7).join(file)).unwrap();
    }
    frozen.pass(0);
    for second in 1..5 {
        assert_eq!(details(&mut frozen, second), Details::default());
    }
    for file in ["io", "limits", "status", "cgroup", "cmdline"] {
        std::fs::remove_dir(frozen.path(7).join(file)).unwrap();
        std::fs::write(frozen.path(7).join(file), b"\xff\x00\n garbage").unwrap();
    }
    let found = (5..40).map(|second| details(&mut frozen, second)).last().unwrap();
    assert_eq!(found, Details { command_line: Some("\u{fffd}   garbage".into()), ..Details::default() });
}

#[test]
fn the_boot_time_moves_when_the_clock_is_set_and_not_by_rounding() {
    let mut frozen = Frozen::new();
    frozen.write(7, "p", 0, 250, 1);
    let stat = frozen.dir.path().join("stat");
    let mut start = |text: &str, seconds: std::ops::Range<u64>| {
        std::fs::write(&stat, text).unwrap();
        seconds
            .map(|second| frozen.pass(second).and_then(|_| frozen.table.top(None)?.remove(0).start_time_seconds))
            .last()
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    assert_eq!(start("cpu0 1\nbtime 1000\n", 0..2), Some(Some(1000.0 + 250.0 / ticks)));
    assert_eq!(start("btime 1001\n", 2..40), Some(Some(1000.0 + 250.0 / ticks)));
    assert_eq!(start("btime 5000\n", 40..80), Some(Some(5000.0 + 250.0 / ticks)));
    assert_eq!(start("btime 70", 80..120), Some(Some(5000.0 + 250.0 / ticks)), "cut");
}

fn settings(text: &str) -> ProcessSettings {
    toml::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

impl Frozen {
    /// The series of a family after a pass, as the labels' values and the value.
    fn series(&mut self, second: u64, family: &str) -> Vec<(String, f64)> {
        self.table.sample(self.start + Duration::from_secs(second)).unwrap();
        let mut out = Families::default();
        self.table.group_families(&mut out);
        let values = |labels: &crate::snapshot::Labels| {
            labels.iter().map(|(_, value)| value.to_owned()).collect::<Vec<_>>().join(" ")
        };
        let name = format!("namedprocess_namegroup_{family}");
        out.samples(&name).iter().map(|sample| (values(&sample.labels), sample.value)).collect()
    }
}

fn one(name: &str, value: f64) -> (String, f64) {
    (name.to_owned(), value)
}

#[test]
fn counters_of_groups_go_on_when_members_end() {
    let mut frozen = Frozen::new();
    frozen
        .table
        .configure(&settings("group_children = false\n[[groups]]\nname = '{{.Comm}}'\ncomm = ['web', 'idle']\n"));
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    frozen.write(1, "web", 700, 1, 10);
    frozen.write(2, "other", 700, 1, 10);
    let user = |series: Vec<(String, f64)>| {
        series.into_iter().filter(|(name, _)| name == "web user").map(|(_, value)| value * ticks).next_back()
    };
    assert_eq!(user(frozen.series(0, "cpu_seconds_total")), Some(0.0), "older than the agent");
    frozen.write(1, "web", 750, 1, 10);
    frozen.write(3, "web", 30, 5, 10);
    assert_eq!(user(frozen.series(1, "cpu_seconds_total")), Some(80.0), "one went on, one is new");
    frozen.remove(1);
    frozen.write(3, "web", 20, 6, 10);
    assert_eq!(user(frozen.series(2, "cpu_seconds_total")), Some(100.0), "one ended, one number was taken over");
    frozen.remove(3);
    assert_eq!(user(frozen.series(3, "cpu_seconds_total")), Some(100.0));
    assert_eq!(frozen.series(4, "num_procs"), [one("web", 0.0)]);
    assert_eq!(frozen.series(5, "oldest_start_time_seconds"), []);
    // One whose stat can't be read for a pass is not counted twice.
    frozen.write(4, "web", 5, 7, 10);
    frozen.series(6, "num_procs");
    std::fs::write(frozen.path(4).join("stat"), "4 (web) S").unwrap();
    frozen.series(7, "num_procs");
    frozen.write(4, "web", 9, 7, 10);
    assert!(user(frozen.series(8, "cpu_seconds_total")).unwrap() <= 109.0);
    std::fs::remove_dir_all(frozen.dir.path().join("4")).unwrap();
}

#[test]
fn groups_have_what_their_members_have() {
    let mut frozen = Frozen::new();
    frozen
        .table
        .configure(&settings("[[groups]]\nname = 'all'\ncomm = ['web']\n[[groups]]\nname = 'none'\ncomm = ['x']"));
    frozen.write(1, "web", 0, 300, 10);
    frozen.write(2, "web", 0, 200, 5);
    for (pid, bytes, files) in [(1, 100, 2), (2, 5, 1)] {
        let path = frozen.path(pid);
        let put = |file: &str, text: &str| std::fs::write(path.join(file), text).unwrap();
        put("io", &format!("read_bytes: {bytes}\nwrite_bytes: 1\n"));
        put("limits", "Max open files 8 8 files\n");
        put("status", "Uid:\t0\t0\t0\t0\nVmSwap:\t3 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t1\n");
        std::fs::create_dir(path.join("fd")).unwrap();
        (0..files).for_each(|fd| put(&format!("fd/{fd}"), ""));
    }
    std::fs::write(frozen.dir.path().join("stat"), "btime 1000\n").unwrap();
    let page = rustix::param::page_size() as f64;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    assert_eq!(frozen.series(0, "num_procs"), [one("all", 2.0), one("none", 0.0)]);
    assert_eq!(frozen.series(1, "num_threads")[0], one("all", 6.0));
    assert_eq!(frozen.series(2, "open_filedesc"), [one("all", 3.0), one("none", 0.0)]);
    assert_eq!(frozen.series(3, "worst_fd_ratio"), [one("all", 0.25), one("none", 0.0)]);
    assert_eq!(frozen.series(4, "oldest_start_time_seconds"), [one("all", 1000.0 + 200.0 / ticks)]);
    assert_eq!(frozen.series(5, "states")[..2], [one("all Running", 0.0), one("all Sleeping", 2.0)]);
    let expected = [one("all resident", 15.0 * page), one("all virtual", 2e6), one("all swapped", 6144.0)];
    assert_eq!(frozen.series(6, "memory_bytes")[..3], expected);
    std::fs::write(frozen.path(1).join("io"), "read_bytes: 140\nwrite_bytes: 0\n").unwrap();
    assert_eq!(frozen.series(7, "read_bytes_total"), [one("all", 40.0)]);
    assert_eq!(frozen.series(8, "write_bytes_total"), [one("all", 0.0)], "ran backwards");
    assert_eq!(frozen.series(9, "context_switches_total")[0], one("all voluntary", 0.0));
    // Another that may not be read is not half a group.
    std::fs::remove_file(frozen.path(2).join("io")).unwrap();
    assert_eq!(frozen.series(10, "read_bytes_total"), [one("all", 40.0)]);
    frozen.table.configure(&settings("group_files = []\n[[groups]]\nname = 'all'\ncomm = ['web']\n"));
    assert_eq!(frozen.series(11, "open_filedesc"), []);
    assert_eq!(frozen.series(12, "num_procs"), [one("all", 2.0)]);
}

#[test]
fn children_are_in_the_group_of_their_parents() {
    let mut frozen = Frozen::new();
    let groups = "[[groups]]\nname = '{{.Comm}}'\ncomm = ['shell', 'daemon']\n";
    frozen.table.configure(&settings(groups));
    let write = |frozen: &Frozen, pid: u32, name: &str, parent: u32| {
        frozen.write(pid, name, 0, pid.into(), 1);
        let path = frozen.path(pid).join("stat");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(") S 1 ", &format!(") S {parent} "))).unwrap();
    };
    write(&frozen, 1, "init", 0);
    write(&frozen, 50, "shell", 1);
    // The parent may have the greater number.
    write(&frozen, 20, "make", 50);
    write(&frozen, 10, "cc", 20);
    write(&frozen, 60, "alone", 1);
    write(&frozen, 70, "circle", 71);
    write(&frozen, 71, "circle", 70);
    assert_eq!(frozen.series(0, "num_procs"), [one("shell", 3.0)]);
    // It stays there when the parent ends, until it becomes another program.
    frozen.remove(50);
    write(&frozen, 20, "make", 1);
    assert_eq!(frozen.series(1, "num_procs"), [one("shell", 2.0)]);
    write(&frozen, 20, "daemon", 1);
    assert_eq!(frozen.series(2, "num_procs"), [one("shell", 1.0), one("daemon", 1.0)]);
    frozen.table.configure(&settings(&format!("group_children = false\n{groups}")));
    assert_eq!(frozen.series(3, "num_procs"), [one("daemon", 1.0)]);
}

#[test]
fn too_many_groups_are_counted_and_not_shown() {
    let mut frozen = Frozen::large();
    let waits = "[[groups]]\nname = 'waits'\ncomm = ['nonesuch']\n";
    let groups = "[[groups]]\nname = '{{.PID}}'\nuser = ['4242']\n";
    frozen.table.configure(&settings(&format!("group_children = false\n{waits}{groups}")));
    let status = "Uid:\t0\t4242\t0\t0\nvoluntary_ctxt_switches:\t1\nnonvoluntary_ctxt_switches:\t1\n";
    for pid in 1..=600 {
        frozen.write(pid, "p", 0, 1, 1);
        std::fs::write(frozen.path(pid).join("status"), status).unwrap();
    }
    assert_eq!(frozen.series(0, "num_procs").len(), 500);
    let dropped = |frozen: &Frozen| {
        let mut out = Families::default();
        frozen.table.group_families(&mut out);
        out.single("utilizer_process_groups_dropped_total")
    };
    assert_eq!(dropped(&frozen), Some(101.0));
    // Groups without members make room.
    (1..=50).for_each(|pid| frozen.remove(pid));
    frozen.series(1, "num_procs");
    (601..=640).for_each(|pid| {
        frozen.write(pid, "p", 0, 1, 1);
        std::fs::write(frozen.path(pid).join("status"), status).unwrap();
    });
    let found = frozen.series(2, "num_procs");
    assert_eq!((found.len(), dropped(&frozen)), (500, Some(101.0)));
    assert_eq!(found.iter().filter(|(_, count)| *count == 1.0).count(), 489);
    // One whose name has no fields is not among those.
    (641..=700).for_each(|pid| {
        frozen.write(pid, "p", 0, 1, 1);
        std::fs::write(frozen.path(pid).join("status"), status).unwrap();
    });
    let found = frozen.series(3, "num_procs");
    assert_eq!(found.iter().filter(|(_, count)| *count == 0.0).count(), 1, "{found:?}");
}

#[test]
fn secrets_are_in_no_groups_name() {
    let mut frozen = Frozen::new();
    let groups = "[[groups]]\nname = '{{.ExeBase}} {{.Matches.All}}'\ncmdline = ['(?P<All>.+)']\n";
    frozen.table.configure(&settings(groups));
    frozen.write(1, "web", 0, 1, 1);
    std::fs::write(frozen.path(1).join("cmdline"), "/bin/web\0--password=hunter2\0").unwrap();
    assert_eq!(frozen.series(0, "num_procs"), [one("web /bin/web --password=***", 1.0)]);
    frozen.write(2, "title", 0, 1, 1);
    std::fs::write(frozen.path(2).join("cmdline"), "title --password=/hunter2").unwrap();
    let shown = format!("{:?}", frozen.series(1, "num_procs"));
    assert!(shown.contains("title --password=***") && !shown.contains("hunter2"), "{shown}");
}

/// With names that no format likes, some that can't be read, and some that go away between listing and reading.
#[test]
fn ten_thousand_processes() {
    let mut frozen = Frozen::large();
    frozen.table.most_kept_files = 300;
    frozen.table.configure(&settings("[[groups]]\nname = '{{.Comm}}'\ncmdline = ['.+']\ncomm = ['even']\n"));
    for pid in 1..=10_000 {
        let name = match pid % 5 {
            0 => "new\nline",
            1 => "quo\"te\\",
            2 => "a) R 1 (b",
            3 => "even",
            _ => "caf\u{e9}",
        };
        frozen.write(pid, name, u64::from(pid), 7, 1);
    }
    for pid in (5..=10_000).step_by(500) {
        let text = std::fs::read(frozen.path(pid).join("stat")).unwrap();
        let text: Vec<u8> = text.iter().map(|byte| if *byte == b'\n' { 0xff } else { *byte }).collect();
        std::fs::write(frozen.path(pid).join("stat"), text).unwrap();
    }
    // Listed and gone, listed and not to be read.
    for pid in [77, 78, 79] {
        std::fs::remove_file(frozen.path(pid).join("stat")).unwrap();
    }
    std::fs::create_dir(frozen.path(77).join("stat")).unwrap();
    frozen.pass(0);
    let counts = frozen.table.counts().clone();
    assert_eq!((counts.processes, counts.threads), (9_997, 3 * 9_997));
    assert_eq!(frozen.table.kept_files, 300);
    frozen.write(9_000, "busy \u{1}", 100_000, 7, 1);
    (100..1000).for_each(|pid| frozen.remove(pid));
    let top = frozen.pass(10).unwrap();
    assert_eq!(top[0].0, 9_000);
    assert_eq!(top.len(), 20);
    assert_eq!(frozen.table.counts().processes, 9_097);
    assert!(frozen.table.kept_files <= 300);
}

/// sysinfo reads the same processes by ways of its own.
#[test]
fn agrees_with_sysinfo() {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
    let mut table = ProcessTable::new(&HostRoot::default(), &settings("top = 100000"));
    let start = Instant::now();
    table.sample(start).unwrap();
    let mut system = System::new().unwrap();
    let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    table.sample(start + Duration::from_secs(1)).unwrap();
    let own = table.top(None).unwrap();
    let mut compared = 0;
    for usage in &own {
        let Some(other) = system.process(sysinfo::Pid::from_u32(usage.pid)) else { continue };
        // What began or changed meanwhile is another story.
        if usage.name.as_str() != &*other.name().to_string_lossy() {
            continue;
        }
        let (a, b) = (usage.resident_memory_bytes, other.memory() as f64);
        assert!((a - b).abs() <= 0.2 * a.max(b) + 8e6, "{} {}: {a}, {b}", usage.pid, usage.name);
        let start = usage.start_time_seconds.unwrap();
        assert!((start - other.start_time() as f64).abs() <= 2.0, "{}", usage.name);
        compared += 1;
    }
    let expected = system.processes().len();
    assert!(compared * 10 >= expected * 8, "{compared} of {expected} processes agree, of {}", own.len());
}

#[test]
fn files_beyond_the_bound_are_opened_each_time() {
    let mut frozen = Frozen::new();
    frozen.table.most_kept_files = 2;
    for pid in 1..=5 {
        frozen.write(pid, "p", 0, 1, 1);
    }
    frozen.pass(0);
    assert_eq!(frozen.pass(1).unwrap().len(), 5);
    assert_eq!(frozen.table.kept_files, 2);
    frozen.remove(1);
    frozen.remove(5);
    frozen.pass(2);
    let kept = frozen.table.entries.iter().filter(|entry| entry.file.is_some()).count();
    assert_eq!((kept, frozen.table.kept_files), (2, 2));
    for pid in 2..=4 {
        frozen.remove(pid);
    }
    frozen.pass(3);
    assert_eq!(frozen.table.kept_files, 0);
}

#[test]
fn a_procfs_that_is_not_there_is_an_error_that_names_it() {
    let host = HostRoot { proc: "/nowhere/at/all".into(), ..HostRoot::default() };
    let error = ProcessTable::new(&host, &ProcessSettings::default()).sample(Instant::now()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nowhere/at/all"), "{error}");
}

#[test]
fn finds_this_very_process() {
    let host = HostRoot::default();
    let settings = ProcessSettings { top: usize::MAX, ..ProcessSettings::default() };
    let mut table = ProcessTable::new(&host, &settings);
    let start = Instant::now();
    table.sample(start).unwrap();
    table.sample(start + Duration::from_secs(1)).unwrap();
    let all = table.top(None).unwrap();
    let this = all.iter().find(|usage| usage.pid == std::process::id()).unwrap();
    let comm = std::fs::read_to_string(Path::new(&host.proc("self/comm"))).unwrap();
    assert_eq!(this.name, comm.trim_end());
    assert!(this.resident_memory_bytes > 100_000.0);
    assert!(all.iter().all(|usage| usage.cpu_percent >= 0.0));
}

#[test]
fn paths_are_spelled_without_allocating() {
    let mut buffer = [0; 24];
    assert_eq!(stat_path(0, &mut buffer), c"0/stat");
    assert_eq!(stat_path(u32::MAX, &mut buffer), c"4294967295/stat");
}
