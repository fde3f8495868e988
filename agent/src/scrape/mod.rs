//! Scrapes applications, as a Prometheus server does: what they tell feeds the rules of this host, and what
//! `publish.include` names goes along with the host's own record.
//!
//! A thread of its own asks all targets, since a page of many thousand samples takes a while to read, and neither the publisher
//! nor the rules shall wait for that. It has a task for each target, which relabels a series when it comes for the first time
//! and remembers what became of it. The rules get each scrape as a whole, of the series that some rule selects.
//! Without targets the thread is not there.

mod config;
mod files;
mod newest;
pub mod relabel;
mod request;
mod runner;
mod series;
mod target;
mod task;
pub mod text;
mod told;

pub use config::{Faults, Job, MOST_TARGETS, Plan, ScrapeSection, StaticSection, checked};
pub use newest::Newest;
pub use runner::{Handle, Parts, start};
pub use series::{Sample, Series};

/// Scrapes that wait for the rules. They hold what rules select of a page, and the rules take them in a moment.
pub const MOST_WAITING: usize = 64;

/// What the rules hear.
#[derive(Debug)]
pub enum Event {
    /// These are all targets; the series of others have ended.
    Targets(Vec<u64>),
    /// A target was scraped, or was not there.
    Scraped(Scraped),
}

/// One scrape, as far as rules look at it, with what it tells of itself: `up` and `scrape_…`. What the scrape before had and
/// this one does not has ended.
#[derive(Debug)]
pub struct Scraped {
    /// The number of the target.
    pub target: u64,
    /// When it began, in milliseconds since 1970.
    pub time: i64,
    /// With the labels of the target.
    pub samples: Vec<Sample>,
}
