//! What becomes of a target's samples: relabelled once, remembered as long as they come.

use std::collections::HashMap;
use std::sync::Arc;

use rules::Interest;
use rules::sample::NAME;

use super::config::Job;
use super::relabel::{self, Pairs, get, set};
use super::request::{Failure, Reason};
use super::target::Target;
use super::text::{Format, Line, Page, is_label_name, is_metric_name};
use crate::message::included;
use crate::snapshot::{Labels, MetricType};

/// Samples may be stamped so many milliseconds ahead, as in Prometheus.
const AHEAD: i64 = 600_000;

/// A series that somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its metric.
    pub name: Box<str>,
    /// Its labels, without the name.
    pub labels: Labels,
    /// Counter or gauge, where that is known.
    pub kind: MetricType,
    /// Whether rules look at it.
    pub of_rules: bool,
    /// Whether it is published.
    pub of_publish: bool,
}

/// A sample of a page.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Whose.
    pub series: Arc<Series>,
    /// Its value.
    pub value: f64,
    /// When, in milliseconds, where the page says so and that counts.
    pub time: Option<i64>,
}

/// Who wants which series.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// What rules select.
    pub(super) rules: Arc<Interest>,
    /// Names that are published.
    pub(super) include: Arc<[String]>,
}

impl Wanted {
    /// The series, if somebody wants it. The labels have a name among them.
    pub(super) fn of(&self, labels: &Pairs, kind: MetricType) -> Option<Arc<Series>> {
        let name = get(labels, NAME);
        let of_rules = self.rules.selects(|label| get(labels, label));
        let of_publish = included(name, &self.include);
        (of_rules || of_publish).then(|| {
            let rest = labels.iter().filter(|(label, _)| label != NAME).cloned();
            Arc::new(Series { name: name.into(), labels: Labels::owned(rest), kind, of_rules, of_publish })
        })
    }
}

#[derive(Debug, Clone)]
enum Fate {
    /// Relabelling drops it.
    Dropped,
    /// It counts, and nobody wants it.
    Unwanted,
    Wanted(Arc<Series>),
}

/// The series of a target, by how the page writes them.
#[derive(Debug, Default)]
pub(super) struct Fates {
    known: HashMap<Box<str>, (u32, Fate)>,
    round: u32,
}

/// How many samples a page had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// On the page.
    pub(super) scraped: usize,
    /// Left after relabelling.
    pub(super) kept: usize,
    /// Of those, of series that the page before did not have.
    pub(super) added: usize,
}

impl Fates {
    /// Forgets everything: rules or labels are others.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Reads a page: all samples that somebody wants, or why the page is refused as a whole. What was counted before stands
    /// in `counts` either way.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        format: Format,
        now: i64,
        (job, target, wanted): (&Job, &Target, &Wanted),
        counts: &mut Counts,
    ) -> Result<Vec<Sample>, Failure> {
        self.round = self.round.wrapping_add(1);
        let limit = job.section.sample_limit;
        // What relabelling drops counts towards no limit.
        let most = limit.saturating_mul(2).max(1000);
        if self.known.len() >= most {
            // Pages that are refused bring new series without end.
            self.known.clear();
        }
        let mut samples = Vec::new();
        let mut page = Page::new(text, format).map_err(|error| Reason::Format.failure(error.to_string()))?;
        let fault = |error: super::text::PageError| Reason::Format.failure(format!("its page can't be read: {error}"));
        while let Some(line) = page.next_line().map_err(fault)? {
            counts.scraped += 1;
            let fate = match self.known.get_mut(line.series) {
                Some((seen, fate)) => {
                    *seen = self.round;
                    fate.clone()
                }
                None => {
                    let fate = fate(&line, job, target, wanted).map_err(|failure| {
                        let what = format!("its page is refused: {}", page.fault(failure.what));
                        Failure { what, ..failure }
                    })?;
                    counts.added += usize::from(!matches!(fate, Fate::Dropped));
                    if self.known.len() < most {
                        self.known.insert(line.series.into(), (self.round, fate.clone()));
                    }
                    fate
                }
            };
            let series = match fate {
                Fate::Dropped => continue,
                Fate::Unwanted => None,
                Fate::Wanted(series) => Some(series),
            };
            counts.kept += 1;
            if let Some(series) = series.filter(|_| counts.kept <= limit) {
                let time = line.time.filter(|_| job.section.honor_timestamps);
                if time.is_none_or(|time| time <= now.saturating_add(AHEAD)) {
                    samples.push(Sample { series, value: line.value, time });
                }
            }
        }
        let Counts { kept, .. } = *counts;
        if kept > limit {
            return Err(Reason::Limit.failure(format!(
                "its page is refused: it has {kept} samples after relabelling, and sample_limit is {limit}"
            )));
        }
        let round = self.round;
        self.known.retain(|_, (seen, _)| *seen == round);
        if self.known.len() * 4 < self.known.capacity() {
            self.known.shrink_to_fit();
        }
        Ok(samples)
    }
}

fn fate(line: &Line<'_>, job: &Job, target: &Target, wanted: &Wanted) -> Result<Fate, Failure> {
    let format = |what| Reason::Format.failure(what);
    let mut labels = Page::labels(line).map_err(format)?;
    add_target(&mut labels, &target.labels, job.section.honor_labels);
    if !relabel::relabel(&job.metric_relabel, &mut labels) {
        return Ok(Fate::Dropped);
    }
    if labels.is_empty() {
        return Ok(Fate::Dropped);
    }
    let name = get(&labels, NAME);
    if !is_metric_name(name) {
        return Err(format(format!("relabelling makes {name:?} the metric's name")));
    }
    let section = &job.section;
    for (name, value) in &labels {
        if !is_label_name(name) {
            return Err(format(format!("{name:?} is no name of a label")));
        }
        let too_long = if name.len() > section.label_name_length_limit {
            ("name", "label_name_length_limit")
        } else if value.len() > section.label_value_length_limit {
            ("value", "label_value_length_limit")
        } else {
            continue;
        };
        let shown: String = name.chars().take(60).collect();
        let what = format!("the {} of the label {shown:?} is longer than {} allows", too_long.0, too_long.1);
        return Err(Reason::Limit.failure(what));
    }
    if labels.len() > section.label_limit {
        let what =
            format!("a sample of {name} has {} labels, and label_limit is {}", labels.len(), section.label_limit);
        return Err(Reason::Limit.failure(what));
    }
    order_by_name(&mut labels);
    Ok(wanted.of(&labels, line.kind).map_or(Fate::Unwanted, Fate::Wanted))
}

fn order_by_name(labels: &mut Pairs) {
    rules::order::sort_by(labels, &|a, b| a.0.cmp(&b.0));
}

/// Gives a sample the labels of its target. One that it has itself stays under `exported_` and its name, or, where the page's
/// labels count more, as it is. An empty label is none, but there it keeps the target's away: a gateway says so that a
/// sample is not its own.
fn add_target(labels: &mut Pairs, target: &Labels, honor: bool) {
    let (empty, full): (Pairs, Pairs) = std::mem::take(labels).into_iter().partition(|(_, value)| value.is_empty());
    *labels = full;
    let mut theirs = Vec::new();
    for (name, value) in target.iter() {
        if honor && empty.iter().any(|(own, _)| own == name) {
            continue;
        }
        let own = get(labels, name).to_owned();
        if !own.is_empty() {
            if honor {
                continue;
            }
            theirs.push((name, own));
        }
        set(labels, name, value);
    }
    for (name, value) in theirs {
        let mut name = format!("exported_{name}");
        while !get(labels, &name).is_empty() {
            name.insert_str(0, "exported_");
        }
        set(labels, &name, &value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::config::{ScrapeSection, checked};
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    struct Case {
        job: Arc<Job>,
        target: Target,
        wanted: Wanted,
        fates: Fates,
    }

    impl Case {
        fn new(keys: &str, rules: &str) -> Self {
            let text = format!("job = 'j'\ntargets = ['h:1']\nlabels = {{ env = 'p' }}\n{keys}");
            let section: ScrapeSection = toml::from_str(&text).unwrap();
            let job = checked(&[section]).unwrap().jobs[0].clone();
            let group = job.groups().next().unwrap();
            let target = super::super::target::targets(&job, &group, None).remove(0).unwrap();
            assert_eq!(target.timeout, Duration::from_secs(10));
            let rules = Interest::new(rules::needs(&rules::parse(rules).unwrap()));
            let wanted = Wanted { rules: Arc::new(rules), include: Arc::new(["pub_*".to_owned()]) };
            Self { job, target, wanted, fates: Fates::default() }
        }

        fn read(&mut self, text: &str) -> (Result<Vec<String>, Failure>, [usize; 3]) {
            let mut counts = Counts::default();
            let about = (&*self.job, &self.target, &self.wanted);
            let samples = self.fates.read(text.as_bytes(), Format::Classic, NOW, about, &mut counts);
            let samples = samples.map(|samples| {
                let shown = |sample: &Sample| {
                    let Series { name, labels, of_rules, of_publish, .. } = &*sample.series;
                    let labels: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
                    let time = sample.time.map(|time| format!(" @{time}")).unwrap_or_default();
                    let who = [("", "p"), ("r", "rp")][usize::from(*of_rules)];
                    let who = if *of_publish { who.1 } else { who.0 };
                    format!("{who} {name}{{{}}} {}{time}", labels.join(","), sample.value)
                };
                samples.iter().map(shown).collect()
            });
            (samples, [counts.scraped, counts.kept, counts.added])
        }
    }

    #[test]
    fn samples_get_their_targets_labels_and_only_wanted_ones_are_kept() {
        let mut case = Case::new("", "a + sum(b{env=\"p\"}) + c{x=\"2\"}");
        let text = "a{job=\"own\",exported_job=\"x\",z=\"\"} 1\nb 2 5\nc{x=\"1\"} 3\npub_x{instance=\"i\"} 4\n";
        let (samples, counts) = case.read(text);
        let expected = [
            "r a{env=p,exported_exported_job=own,exported_job=x,instance=h:1,job=j} 1",
            "r b{env=p,instance=h:1,job=j} 2 @5",
            "p pub_x{env=p,exported_instance=i,instance=h:1,job=j} 4",
        ];
        assert_eq!((samples.unwrap(), counts), (expected.map(str::to_owned).to_vec(), [4, 4, 4]));
        assert_eq!(case.read(text).1, [4, 4, 0], "known by now");
        assert_eq!(case.read("a{job=\"own\"} 1\n").1, [1, 1, 1]);
        assert_eq!(case.fates.known.len(), 1, "what does not come is forgotten");
        let ahead = format!("b 2 {}\nb 3 {}\n", NOW + AHEAD, NOW + AHEAD + 1);
        assert_eq!(case.read(&ahead).0.unwrap().len(), 1);

        let mut case = Case::new("honor_labels = true\nhonor_timestamps = false", "a");
        let (samples, _) = case.read("a{job=\"own\",instance=\"\"} 1 5\n");
        assert_eq!(samples.unwrap(), ["r a{env=p,job=own} 1"]);
    }

    #[test]
    fn metrics_are_relabelled_once() {
        let rules = "metric_relabel_configs = [\n\
             { source_labels = ['__name__'], regex = 'go_.*', action = 'drop' },\n\
             { source_labels = ['__name__'], regex = 'old_(.*)', target_label = '__name__', replacement = 'new_$1' },\n\
             { regex = 'env', action = 'labeldrop' }]";
        let mut case = Case::new(rules, "{__name__=~\"new_.*\"}");
        let text = "go_x 1\nold_a{b=\"c\"} 2\n";
        for added in [1, 0] {
            let (samples, counts) = case.read(text);
            assert_eq!(samples.unwrap(), ["r new_a{b=c,instance=h:1,job=j} 2"]);
            assert_eq!(counts, [2, 1, added]);
        }
        let mut case = Case::new("metric_relabel_configs = [{ regex = '__name__', action = 'labeldrop' }]", "a");
        let (error, counts) = case.read("a 1\n");
        let what = error.unwrap_err().what;
        assert!(what.contains("line 1: relabelling makes \"\" the metric's name") && counts == [1, 0, 0], "{what}");
    }

    #[test]
    fn limits_refuse_the_page_as_a_whole() {
        for (limit, text, reason, part, counts) in [
            ("sample_limit = 1", "a 1\nb 2\nc 3\n", Reason::Limit, "has 3 samples after relabelling", [3, 3, 3]),
            ("label_limit = 4", "a 1\na{x=\"1\",y=\"2\"} 1\n", Reason::Limit, "label_limit is 4", [2, 1, 1]),
            (
                "label_value_length_limit = 3",
                "a 1\na{x=\"1234\"} 1\n",
                Reason::Limit,
                "the value of the label \"x\"",
                [2, 1, 1],
            ),
            (
                "label_name_length_limit = 8",
                "a{longername=\"1\"} 1\n",
                Reason::Limit,
                "the name of the label",
                [1, 0, 0],
            ),
            ("", "a 1\n<html>\n", Reason::Format, "line 2: \"<html>\" does not begin", [1, 1, 1]),
        ] {
            let mut case = Case::new(limit, "a");
            let (result, counted) = case.read(text);
            let failure = result.unwrap_err();
            assert!(failure.reason == reason && failure.what.contains(part), "{limit}: {failure}");
            assert_eq!(counted, counts, "{limit}");
        }
        assert_eq!(Case::new("sample_limit = 2", "a").read("a 1\nb 2\n").0.unwrap().len(), 1);
    }
}
