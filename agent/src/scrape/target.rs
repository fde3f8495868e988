//! From what the configuration and target files name to targets, as Prometheus makes them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use daemon::client::SecretUrl;
use rules::order;

use super::config::{self, Job, StaticSection};
use super::relabel::{self, Pairs, get, set};
use super::text::is_label_name;
use crate::snapshot::Labels;

/// The largest label of a target.
const LONGEST: usize = 4096;

/// A target, ready to be scraped.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// The labels that its samples get, sorted by name.
    pub(super) labels: Labels,
    /// Where its page is.
    pub(super) url: SecretUrl,
    /// Time between two scrapes.
    pub(super) interval: Duration,
    /// What one may take.
    pub(super) timeout: Duration,
}

impl Target {
    /// What tells it from others: as long as this is the same, its series go on.
    pub(super) fn key(&self) -> String {
        let mut key = self.url.expose();
        for (name, value) in self.labels.iter() {
            key.push_str(&format!("\n{name}={value:?}"));
        }
        key
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        let label = |name| self.labels.get(name).unwrap_or_default();
        format!("{} {}", label("job"), label("instance"))
    }

    /// When in each interval it is scraped: targets, and hosts with the same configuration, spread over it.
    pub(super) fn offset(&self, seed: &str) -> Duration {
        let mut hasher = DefaultHasher::new();
        (seed, self.key()).hash(&mut hasher);
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(hasher.finish() % interval)
    }
}

/// The targets of a group, without those that rules drop; or why one can't be scraped. `file` is where the group stands.
pub(super) fn targets(job: &Job, group: &StaticSection, file: Option<&str>) -> Vec<Result<Target, String>> {
    group.targets.iter().filter_map(|address| one(job, address, group, file).transpose()).collect()
}

fn one(job: &Job, address: &str, group: &StaticSection, file: Option<&str>) -> Result<Option<Target>, String> {
    let section = &job.section;
    let mut labels = Pairs::new();
    for (name, value) in group.labels.iter() {
        set(&mut labels, name, value);
    }
    set(&mut labels, "__address__", address);
    if let Some(file) = file {
        set(&mut labels, "__meta_filepath", file);
    }
    let interval = daemon::config::duration::format(section.interval);
    let timeout = daemon::config::duration::format(section.timeout.min(section.interval));
    for (name, value) in [
        ("job", section.job.as_str()),
        ("__scrape_interval__", &interval),
        ("__scrape_timeout__", &timeout),
        ("__metrics_path__", &section.metrics_path),
        ("__scheme__", &section.scheme),
    ] {
        if get(&labels, name).is_empty() {
            set(&mut labels, name, value);
        }
    }
    for (name, values) in &section.params {
        if let Some(first) = values.first() {
            set(&mut labels, &format!("__param_{name}"), first);
        }
    }
    if !relabel::relabel(&job.relabel, &mut labels) {
        return Ok(None);
    }
    let address = get(&labels, "__address__").to_owned();
    if address.is_empty() || address.contains(['/', '?', '#', '@']) || address.contains(char::is_whitespace) {
        return Err(format!("{address:?} is no HOST:PORT; scheme and metrics_path have keys of their own"));
    }
    let time = |name| {
        let text = get(&labels, name);
        let time = daemon::config::duration::parse(text).ok();
        // A file can name any, too.
        let time = time.filter(|time| (config::SHORTEST..=config::LONGEST).contains(time));
        time.ok_or_else(|| format!("{name}: {text:?} is no duration between 100ms and 1d"))
    };
    let interval = time("__scrape_interval__")?;
    let timeout = time("__scrape_timeout__")?.min(interval);
    let url = format!(
        "{}://{address}{}{}",
        get(&labels, "__scheme__"),
        escaped(get(&labels, "__metrics_path__"), "/"),
        query(job, &labels)
    );
    let url = url.parse().map_err(|error| format!("{address}: {error}"))?;
    if get(&labels, "instance").is_empty() {
        set(&mut labels, "instance", &address);
    }
    labels.retain(|(name, _)| !name.starts_with("__"));
    if let Some((name, _)) = labels.iter().find(|(name, value)| !is_label_name(name) || value.len() > LONGEST) {
        return Err(format!("{address}: the label {name:?} is no label, or longer than {LONGEST} bytes"));
    }
    order::sort_by(&mut labels, &|a, b| a.0.cmp(&b.0));
    Ok(Some(Target { labels: Labels::owned(labels), url, interval, timeout }))
}

/// The parameters by name, the first value of each as relabelling left it.
fn query(job: &Job, labels: &Pairs) -> String {
    let mut params = job.section.params.clone();
    for (name, value) in labels.iter().filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, value))) {
        match params.entry(name.to_owned()).or_default().first_mut() {
            Some(first) => first.clone_from(value),
            None => params.entry(name.to_owned()).or_default().push(value.clone()),
        }
    }
    let mut query = String::new();
    for (name, values) in &params {
        for value in values {
            query.push(if query.is_empty() { '?' } else { '&' });
            query += &format!("{}={}", escaped(name, ""), escaped(value, ""));
        }
    }
    query
}

/// Percent-encoded, but for letters, digits, `-._~` and what else may stand.
fn escaped(text: &str, besides: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte) && (byte != b'%' || !besides.is_empty());
        if plain || besides.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::config::{ScrapeSection, checked};
    use super::*;

    fn made(text: &str) -> Vec<String> {
        let section: ScrapeSection = toml::from_str(text).unwrap();
        let plan = checked(&[section]).unwrap();
        let job = &plan.jobs[0];
        let all = job.groups().flat_map(|group| targets(job, &group, Some("/f.json"))).map(Result::unwrap);
        all.map(|target| {
            let labels: Vec<_> = target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let times = format!("{:?}/{:?}", target.timeout, target.interval);
            format!("{} {} {times}", target.url.expose(), labels.join(","))
        })
        .collect()
    }

    #[test]
    fn targets_get_the_labels_that_prometheus_gives_them() {
        let found = made(
            "job = 'a'\ntargets = ['h:1', '[::1]:2']\nlabels = { env = 'p', none = '' }\ninterval = '5s'\nscheme = 'https'\n\
             static_configs = [{ targets = ['h:3'], labels = { job = 'own', instance = 'i', __metrics_path__ = '/x' } }]",
        );
        let expected = [
            "https://h:1/metrics env=p,instance=h:1,job=a 5s/5s",
            "https://[::1]:2/metrics env=p,instance=[::1]:2,job=a 5s/5s",
            "https://h:3/x instance=i,job=own 5s/5s",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn relabelling_sends_a_probe_to_another_address() {
        let found = made(
            "job = 'probe'\ntargets = ['https://a/?b=c', 'drop-me']\nmetrics_path = '/probe'\n\
             params = { module = ['http_2xx'], target = [], both = ['1', 'x y'] }\nrelabel_configs = [\n\
             { source_labels = ['__address__'], regex = 'drop.*', action = 'drop' },\n\
             { source_labels = ['__address__'], target_label = '__param_target' },\n\
             { source_labels = ['__param_target'], target_label = 'instance' },\n\
             { source_labels = ['__meta_filepath'], target_label = 'file' },\n\
             { target_label = '__scrape_interval__', replacement = '1m' },\n\
             { target_label = '__address__', replacement = '127.0.0.1:9115' }]",
        );
        let url = "http://127.0.0.1:9115/probe?both=1&both=x%20y&module=http_2xx&target=https%3A%2F%2Fa%2F%3Fb%3Dc";
        assert_eq!(found, [format!("{url} file=/f.json,instance=https://a/?b=c,job=probe 10s/60s")]);
    }

    #[test]
    fn times_that_a_file_names_have_bounds() {
        let section =
            ScrapeSection { job: "a".to_owned(), targets: vec!["h:1".to_owned()], ..ScrapeSection::default() };
        let job = checked(&[section]).unwrap().jobs[0].clone();
        for (time, is_good) in
            [("1m", true), ("1ms", false), ("0s", false), ("x", false), ("18446744073709551615ms", false)]
        {
            let labels = wire::LabelSet::from_iter([("__scrape_interval__".to_owned(), time.to_owned())]);
            let group = StaticSection { targets: vec!["h:1".to_owned()], labels };
            assert_eq!(targets(&job, &group, Some("/f.json"))[0].is_ok(), is_good, "{time}");
        }
    }

    #[test]
    fn targets_spread_over_their_interval() {
        let target = |instance: &str| Target {
            labels: Labels::owned([("instance".to_owned(), instance.to_owned())]),
            url: "http://h:1/metrics".parse().unwrap(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
        };
        let offsets: Vec<_> = (0..100).map(|at| target(&format!("h:{at}")).offset("host")).collect();
        let early = offsets.iter().filter(|offset| **offset < Duration::from_secs(5)).count();
        assert!((25..75).contains(&early) && offsets.iter().all(|offset| *offset < Duration::from_secs(10)), "{early}");
        assert_ne!(target("a").offset("x"), target("a").offset("y"), "two hosts of one configuration");
        assert_eq!(target("a").offset("x"), target("a").offset("x"));
    }
}
