//! The numbers are right.

use std::time::Duration;

use sysinfo::System;

use super::oracle::{Busy, Moment, since_1970};
use super::site::{HOST, Site, postgres, wait_for};

/// The agent's interval, and so the span of its shares.
const INTERVAL: Duration = Duration::from_secs(3);

/// A look at the host counts for a mark of the interval if it came no later than this. With a later one two spans would
/// be compared that are not the same.
const PUNCTUAL: Duration = Duration::from_millis(100);

/// Spans that are tried. The first in which everybody was punctual decides.
const TRIES: usize = 12;

/// An account of cpu_percent, memory_percent and the busy process from the rows in PostgreSQL, the reading's own time
/// first.
struct Row {
    at: Duration,
    cpu_percent: f64,
    memory_percent: f64,
    busy_percent: Option<f64>,
}

fn row(database: &str, mark: Duration, busy: u32) -> Row {
    let (from, to) = (mark.as_secs(), (mark + INTERVAL).as_secs());
    let value = |filter: &str| {
        format!(
            "(SELECT metric_value FROM recap_system_metrics WHERE job_id = 'host:{HOST}' AND {filter} \
             AND recorded_at >= to_timestamp({from}) AND recorded_at < to_timestamp({to}))"
        )
    };
    let sql = format!(
        "SELECT (SELECT extract(epoch FROM min(recorded_at)) FROM recap_system_metrics \
         WHERE recorded_at >= to_timestamp({from}) AND recorded_at < to_timestamp({to})), {}, {}, {}",
        value("stage = 'cpu' AND metric_name = 'cpu_percent'"),
        value("stage = 'memory' AND metric_name = 'memory_percent'"),
        value(&format!(
            "stage = 'process' AND metric_name = 'cpu_percent' AND metadata->>'pid' = '{busy}' AND metadata->>'name' = 'sh'"
        )),
    );
    wait_for("the rows of an interval", || {
        let line = postgres().psql(database, &sql);
        let fields: Vec<Option<f64>> = line.split('|').map(|field| field.parse().ok()).collect();
        match fields[..] {
            [Some(at), Some(cpu_percent), Some(memory_percent), busy_percent] => {
                Some(Row { at: Duration::from_secs_f64(at), cpu_percent, memory_percent, busy_percent })
            }
            _ => None,
        }
    })
}

#[test]
fn shares_of_cpu_and_memory_agree_with_proc_and_sysinfo_and_the_busy_process_is_named() {
    let busy = Busy::start();
    let site = Site::new();
    let database = postgres().create_database();
    let _exporter =
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &postgres().url(&database)));
    let messages = site.subscribe("utilizer/v1/telemetry/+/metrics");
    let agent = site.start_ready("utilizer-agent", &site.agent().set("interval", "3s"));

    let mut sysinfo = System::new().unwrap();
    let mut before: Option<(Moment, Duration)> = None;
    let mut tries = Vec::new();
    let found = (0..TRIES).find_map(|_| {
        // The agent looks at whole multiples of its interval; so do we.
        let mark = Duration::from_secs(INTERVAL.as_secs() * (since_1970().as_secs() / INTERVAL.as_secs() + 1));
        std::thread::sleep(mark.saturating_sub(since_1970()));
        let moment = Moment::now(&mut sysinfo, &busy);
        let (previous, previous_mark) = before.replace((moment, mark))?;
        let (moment, _) = before.as_ref()?;
        let (first, second) = (row(&database, previous_mark, busy.pid()), row(&database, mark, busy.pid()));
        let late = [(first.at, previous_mark), (second.at, mark), (previous.at, previous_mark), (moment.at, mark)]
            .map(|(at, mark)| at.saturating_sub(mark));
        tries.push(late);
        let same_span = previous_mark + INTERVAL == mark && late.iter().all(|late| *late <= PUNCTUAL);
        let proc = (moment.cpu_percent(&previous), moment.memory_percent, moment.busy_percent(&previous));
        same_span.then_some((second, proc, moment.sysinfo_cpu_percent))
    });
    let (row, (cpu, memory, share), sysinfo_cpu) =
        found.unwrap_or_else(|| panic!("the machine was never punctual: {tries:?}"));

    let near = |what: &str, ours: f64, theirs: f64, points: f64| {
        assert!((ours - theirs).abs() <= points, "{what}: ours {ours:.1}, theirs {theirs:.1}");
    };
    near("cpu_percent and /proc/stat", row.cpu_percent, cpu, 5.0);
    near("cpu_percent and sysinfo", row.cpu_percent, sysinfo_cpu, 5.0);
    near("memory_percent and /proc/meminfo", row.memory_percent, memory, 2.0);
    // A load that is known to be there: agreement over an idle host would show little.
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    assert!(row.cpu_percent * cpus >= share - 5.0 && share > 10.0, "{} of {cpus} CPUs, {share}", row.cpu_percent);
    near("cpu_percent of the busy process", row.busy_percent.expect("it is among the top processes"), share, 10.0);

    let listed = messages.messages().into_iter().any(|(topic, message)| {
        assert_eq!(topic, format!("utilizer/v1/telemetry/{HOST}/metrics"));
        let processes = message["processes"].as_array().unwrap();
        processes.iter().any(|process| process["pid"] == busy.pid() && process["name"] == "sh")
    });
    assert!(listed, "the busy process is in no message");
    drop(agent);
}
