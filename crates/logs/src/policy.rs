//! What leaves the host, and what is counted: shared by all streams of an input.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use wire::Timestamp;
use wire::messages::{Level, LogRecord};

use crate::counts::Counts;
use crate::formats::Facts;
use crate::plan::{CounterPlan, Plan, RESERVED, label_of};

/// Services that are told apart; those beyond share one.
const MOST_SERVICES: usize = 100;

/// Bytes of a service's name; a longer one is no name, and no label.
const LONGEST_SERVICE: usize = 256;

/// What services beyond those are called, and series beyond a counter's bound.
const OTHER: &str = "other";

const DAY: i64 = 86_400_000;

/// A time further ahead than this is counted.
const AHEAD: i64 = DAY;

/// And one further back.
const BEHIND: i64 = 30 * DAY;

const LEVELS: [Level; 5] = [Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];

/// Why a record was left out.
#[derive(Debug, Clone, Copy)]
enum Why {
    Drop,
    Sample,
    Limit,
}

const WHYS: [(Why, &str); 3] = [(Why::Drop, "drop"), (Why::Sample, "sample"), (Why::Limit, "limit")];

/// Rate limits, sampling and counters of an input.
#[derive(Debug)]
pub struct Policy {
    plan: Arc<Plan>,
    services: BTreeMap<String, Service>,
    counters: Vec<BTreeMap<Vec<String>, u64>>,
    left_out: [u64; WHYS.len()],
    strange: u64,
    no_time: u64,
    ahead: u64,
    behind: u64,
    cut: u64,
    redacted: u64,
    told: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Service {
    lines: [u64; LEVELS.len()],
    /// Thousandths of lines that may come at once, and when they were last counted.
    bucket: Option<(u64, Timestamp)>,
    /// Of each rule of sampling: lines so far.
    sampled: Vec<u64>,
    /// Left out since it was last told.
    untold: [u64; WHYS.len()],
}

impl Policy {
    /// Of an input.
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: plan.clone(),
            services: BTreeMap::new(),
            counters: vec![BTreeMap::new(); plan.counters.len()],
            left_out: [0; WHYS.len()],
            strange: 0,
            no_time: 0,
            ahead: 0,
            behind: 0,
            cut: 0,
            redacted: 0,
            told: None,
        }
    }

    /// Takes a record that was handed in whole ([`Plan::record`], [`Plan::otlp`]).
    pub fn push(&mut self, record: LogRecord, now: Timestamp, out: &mut Vec<LogRecord>) {
        self.take(record, Facts::default(), now, out);
    }

    pub(crate) fn take(&mut self, mut record: LogRecord, facts: Facts, now: Timestamp, out: &mut Vec<LogRecord>) {
        let plan = self.plan.clone();
        self.strange += u64::from(facts.strange);
        self.no_time += u64::from(facts.bad_time);
        self.cut += facts.cut;
        let off = record.timestamp.as_millis() - now.as_millis();
        self.ahead += u64::from(off > AHEAD);
        self.behind += u64::from(off < -BEHIND);

        complete(&plan, &mut record);
        self.redacted += u64::from(plan.redactor.record(&mut record));
        for (counter, series) in plan.counters.iter().zip(&mut self.counters) {
            count(counter, &record, series);
        }
        let mut service = self.service(&record.service_name);
        if let Some(lines) = service.lines.get_mut(record.level as usize) {
            *lines += 1;
        }
        let why = if plan.drop.iter().any(|rule| rule.takes(&record)) {
            Some(Why::Drop)
        } else if plan.limit.spare.is_some_and(|spare| record.level >= spare) {
            None
        } else if service.samples_out(&plan, &record) {
            Some(Why::Sample)
        } else if service.is_over(&plan, now) {
            Some(Why::Limit)
        } else {
            None
        };
        match why {
            None => out.push(record),
            Some(why) => {
                service = self.service(&record.service_name);
                if let Some(untold) = service.untold.get_mut(why as usize) {
                    *untold += 1;
                }
                if let Some(all) = self.left_out.get_mut(why as usize) {
                    *all += 1;
                }
            }
        }
    }

    fn service(&mut self, name: &str) -> &mut Service {
        let is_known = self.services.contains_key(name);
        let fits = self.services.len() < MOST_SERVICES && name.len() <= LONGEST_SERVICE;
        let name = if is_known || fits { name } else { OTHER };
        if !self.services.contains_key(name) {
            self.services.insert(name.to_owned(), Service::default());
        }
        // It is there now; an entry would copy the name each time.
        self.services.get_mut(name).unwrap_or_else(|| unreachable!("BUG: a service that was just made is gone"))
    }

    /// To be called now and then: appends records that tell what was left out.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<LogRecord>) {
        let since = *self.told.get_or_insert(now);
        let every = self.plan.limit.tell_every;
        // A clock that was set back must not silence this until it is there again.
        if now >= since && now < since.plus(every) {
            return;
        }
        self.told = Some(now);
        for (name, service) in &mut self.services {
            let [_, sampled, limited] = std::mem::take(&mut service.untold);
            if sampled + limited == 0 {
                continue;
            }
            let mut reasons = Vec::new();
            if sampled > 0 {
                reasons.push(format!("{sampled} by sampling"));
            }
            if limited > 0 {
                reasons.push(format!("{limited} over the limit of {} a second", self.plan.limit.rate));
            }
            let seconds = (now.as_millis() - since.as_millis()).max(0) / 1000;
            let message =
                format!("{} lines were left out within {seconds} s: {}", sampled + limited, reasons.join(", "));
            let fields = [
                ("input", self.plan.name.clone()),
                ("left_out_sample", sampled.to_string()),
                ("left_out_limit", limited.to_string()),
            ];
            let mut record = LogRecord {
                timestamp: now,
                level: Level::Info,
                level_original: None,
                service_name: name.clone(),
                message,
                latency_ms: None,
                logger: "utilizer".to_owned(),
                environment: String::new(),
                category: String::new(),
                trace_id: String::new(),
                request_id: String::new(),
                fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            };
            complete(&self.plan, &mut record);
            out.push(record);
        }
    }

    /// Adds what was counted since the beginning.
    pub fn counts(&self, out: &mut Counts) {
        if self.plan.is_default && self.services.is_empty() {
            return;
        }
        let input = || (Cow::Borrowed("input"), self.plan.name.clone());
        let label = |name: &'static str, value: &str| (Cow::Borrowed(name), value.to_owned());
        let [lines, left_out, strange, bad_times, cut, redacted] = RESERVED else {
            unreachable!("BUG: metrics that every input has are missing")
        };
        for (name, service) in &self.services {
            for (level, count) in LEVELS.iter().zip(service.lines).filter(|(_, count)| *count > 0) {
                let labels = vec![input(), label("level", level.as_str()), label("service", name)];
                out.add(lines.0, lines.1, labels, count);
            }
        }
        for ((_, why), count) in WHYS.iter().zip(self.left_out) {
            out.add(left_out.0, left_out.1, vec![input(), label("why", why)], count);
        }
        out.add(strange.0, strange.1, vec![input()], self.strange);
        for (what, count) in [("none", self.no_time), ("ahead", self.ahead), ("behind", self.behind)] {
            out.add(bad_times.0, bad_times.1, vec![input(), label("time", what)], count);
        }
        out.add(cut.0, cut.1, vec![input()], self.cut);
        out.add(redacted.0, redacted.1, vec![input()], self.redacted);
        for (counter, series) in self.plan.counters.iter().zip(&self.counters) {
            let names: Vec<String> = counter.by.iter().map(|field| label_of(field)).collect();
            if counter.by.is_empty() && series.is_empty() {
                out.add(&counter.name, counter.help.clone(), vec![input()], 0);
            }
            for (values, count) in series {
                let pairs = names.iter().cloned().map(Cow::Owned).zip(values.iter().cloned());
                let labels = std::iter::once(input()).chain(pairs).collect();
                out.add(&counter.name, counter.help.clone(), labels, *count);
            }
        }
    }
}

impl Service {
    /// Whether the first rule of sampling that is for a record leaves it out.
    fn samples_out(&mut self, plan: &Plan, record: &LogRecord) -> bool {
        let Some(at) = plan.sample.iter().position(|(_, rule)| rule.takes(record)) else { return false };
        self.sampled.resize(plan.sample.len(), 0);
        let (Some(so_far), Some((one_in, _))) = (self.sampled.get_mut(at), plan.sample.get(at)) else { return false };
        let goes = so_far.is_multiple_of(*one_in);
        *so_far += 1;
        !goes
    }

    /// Whether there was more of the service than it may have.
    fn is_over(&mut self, plan: &Plan, now: Timestamp) -> bool {
        let limit = &plan.limit;
        if limit.rate == 0 {
            return false;
        }
        let full = limit.burst.max(1).saturating_mul(1000);
        let (left, last) = self.bucket.unwrap_or((full, now));
        // A clock that was set back gives nothing.
        let passed = u64::try_from(now.as_millis() - last.as_millis()).unwrap_or(0);
        let left = left.saturating_add(passed.saturating_mul(limit.rate)).min(full);
        let goes = left >= 1000;
        self.bucket = Some((if goes { left - 1000 } else { left }, now));
        !goes
    }
}

/// What the input says of all its lines.
fn complete(plan: &Plan, record: &mut LogRecord) {
    if record.service_name.is_empty()
        && let Some(service) = &plan.service
    {
        record.service_name.clone_from(service);
    }
    if record.environment.is_empty()
        && let Some(environment) = &plan.environment
    {
        record.environment.clone_from(environment);
    }
    for (key, value) in &plan.fields {
        if !record.fields.contains_key(key) {
            record.fields.insert(key.clone(), value.clone());
        }
    }
    if let Some((name, _)) = plan.categories.iter().find(|(_, rule)| rule.takes(record)) {
        record.category.clone_from(name);
    } else if record.category.is_empty()
        && let Some(category) = &plan.category
    {
        record.category.clone_from(category);
    }
}

/// Counts a record, where the rule is for it.
fn count(counter: &CounterPlan, record: &LogRecord, series: &mut BTreeMap<Vec<String>, u64>) {
    if !counter.condition.takes_but_message(record) {
        return;
    }
    let needs_groups = counter
        .condition
        .message()
        .is_some_and(|pattern| counter.by.iter().any(|field| pattern.groups().any(|group| group == field)));
    let found = match counter.condition.message() {
        None => None,
        Some(pattern) if needs_groups => match pattern.captures(&record.message) {
            Some(found) => Some(found),
            None => return,
        },
        Some(pattern) if pattern.matches(&record.message) => None,
        Some(_) => return,
    };
    let value = |field: &String| {
        let of_group = found.as_ref().and_then(|found| found.name(field)).map(|group| group.as_str());
        let text = of_group.unwrap_or_else(|| match field.as_str() {
            "service" => &record.service_name,
            "level" => record.level.as_str(),
            "logger" => &record.logger,
            "category" => &record.category,
            "environment" => &record.environment,
            field => record.fields.get(field).map_or("", String::as_str),
        });
        // A label is no place for a page of text.
        text.chars().take(100).collect::<String>()
    };
    let mut values: Vec<String> = counter.by.iter().map(value).collect();
    if !series.contains_key(&values) && series.len() >= counter.max_series {
        values = vec![OTHER.to_owned(); counter.by.len()];
    }
    *series.entry(values).or_default() += 1;
}
