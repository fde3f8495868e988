//! The thread, and who is scraped by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use rules::Interest;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::config::{MOST_TARGETS, Plan};
use super::files::{self, Found};
use super::newest::Newest;
use super::series::Wanted;
use super::target::{Target, targets};
use super::task::{Assigned, Shared, follow};
use super::told::Tally;
use super::{Event, Job};
use crate::snapshot::Families;

/// How often target files are read.
const REFRESH: Duration = Duration::from_secs(10);

/// What target files get to be read at the start, before everything else is scraped without them.
const FILES_TIME: Duration = Duration::from_secs(5);

/// Pages are on the heap; what stands here is relabelling, and TLS.
const STACK: usize = 1 << 20;

/// Targets that the landing page shows.
const MOST_SHOWN: usize = 100;

/// What the thread works with.
pub struct Parts {
    /// What is scraped.
    pub plan: Plan,
    /// Names that are published.
    pub include: Vec<String>,
    /// This host's name, which decides when it asks.
    pub host: String,
    /// What rules look at.
    pub interest: watch::Receiver<Arc<Interest>>,
    /// To the rules.
    pub events: mpsc::Sender<Event>,
    /// To the publisher.
    pub newest: Newest,
}

/// What is to be done.
#[derive(Debug, Clone, Default)]
struct Order {
    plan: Plan,
    include: Arc<[String]>,
}

/// Talks to the thread, which is there as soon as there is a target.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    parts: Parts,
    tally: Tally,
    orders: Mutex<Option<watch::Sender<Order>>>,
    panicked: watch::Sender<bool>,
}

/// Begins to scrape what there is to scrape.
pub fn start(mut parts: Parts) -> io::Result<Handle> {
    let plan = std::mem::take(&mut parts.plan);
    let include = std::mem::take(&mut parts.include);
    let handle = Handle(Arc::new(Inner {
        parts,
        tally: Tally::default(),
        orders: Mutex::new(None),
        panicked: watch::Sender::new(false),
    }));
    handle.order(plan, include)?;
    Ok(handle)
}

impl Handle {
    /// Takes over other targets.
    pub fn reload(&self, plan: Plan, include: Vec<String>) {
        if let Err(error) = self.order(plan, include) {
            error!("nothing is scraped: can't start the thread for it: {error}");
        }
    }

    fn order(&self, plan: Plan, include: Vec<String>) -> io::Result<()> {
        let order = Order { plan, include: include.into() };
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        match &*orders {
            Some(orders) => _ = orders.send_replace(order),
            None if order.plan.is_empty() => {}
            None => *orders = Some(self.spawn(order)?),
        }
        Ok(())
    }

    fn spawn(&self, order: Order) -> io::Result<watch::Sender<Order>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Inner { parts, tally, panicked, .. } = &*self.0;
        let (orders, inbox) = watch::channel(order);
        let shared = Shared::new(parts.host.clone(), parts.events.clone(), parts.newest.clone(), tally.clone());
        let runner = Runner {
            shared: Arc::new(shared),
            interest: parts.interest.clone(),
            order: Order::default(),
            files: Found::new(),
            reading: None,
            faults: Vec::new(),
            running: BTreeMap::new(),
            next: 0,
            tasks: JoinSet::new(),
        };
        let guard = Guard(panicked.clone());
        thread::Builder::new().name("scrape".to_owned()).stack_size(STACK).spawn(move || {
            let _guard = guard;
            runtime.block_on(runner.run(inbox));
            // A file on a server that is gone holds up no stop.
            runtime.shutdown_background();
        })?;
        Ok(orders)
    }

    /// Ends the thread. What is under way is given up.
    pub fn stop(&self) {
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Returns when the thread has panicked.
    pub async fn ended(&self) {
        let mut panicked = self.0.panicked.subscribe();
        // The sender is here.
        let _ = panicked.wait_for(|panicked| *panicked).await;
    }

    /// As metrics of the agent.
    pub fn describe(&self, out: &mut Families) {
        if self.0.orders.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            self.0.tally.describe(self.0.parts.newest.left_out(), out);
        }
    }

    /// The targets and how they are, in the form of Prometheus' interface.
    pub fn json(&self) -> serde_json::Value {
        self.0.tally.json()
    }

    /// As a part of the landing page.
    pub fn html(&self, escape: impl Fn(&str) -> String) -> String {
        self.0.tally.html(MOST_SHOWN, escape)
    }
}

/// Says that the thread panicked.
struct Guard(watch::Sender<bool>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.send_replace(true);
        }
    }
}

/// What is being read, when it is; for ever, where nothing is.
async fn read(reading: &mut Option<JoinHandle<Read>>) -> Result<Read, JoinError> {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

/// What target files hold, and what is wrong with them.
type Read = (Found, Vec<String>);

/// Targets by what tells them from others.
type Targets = BTreeMap<String, (Arc<Job>, Target)>;

struct Running {
    id: u64,
    orders: watch::Sender<Arc<Assigned>>,
    task: AbortHandle,
}

struct Runner {
    shared: Arc<Shared>,
    interest: watch::Receiver<Arc<Interest>>,
    order: Order,
    files: Found,
    /// Target files are being read.
    reading: Option<JoinHandle<Read>>,
    /// What was last wrong with them.
    faults: Vec<String>,
    /// By what tells a target from others.
    running: BTreeMap<String, Running>,
    /// The number of the next target.
    next: u64,
    tasks: JoinSet<()>,
}

impl Runner {
    async fn run(mut self, mut orders: watch::Receiver<Order>) {
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.order = orders.borrow_and_update().clone();
        self.read_files();
        if let Some(reading) = &mut self.reading
            && let Ok(read) = tokio::time::timeout(FILES_TIME, reading).await
        {
            self.take_files(read);
        }
        self.reconcile().await;
        loop {
            tokio::select! {
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.order = orders.borrow_and_update().clone();
                    self.read_files();
                    self.reconcile().await;
                }
                Ok(()) = self.interest.changed() => self.reconcile().await,
                read = read(&mut self.reading) => {
                    if self.take_files(read) {
                        self.reconcile().await;
                    }
                }
                _ = refresh.tick(), if self.reading.is_none() => self.read_files(),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    }

    /// Begins to read the target files, if there are such.
    fn read_files(&mut self) {
        let jobs = self.order.plan.jobs.iter().filter(|job| !job.section.target_files.is_empty());
        let jobs: Vec<Arc<Job>> = jobs.cloned().collect();
        let before = self.files.clone();
        self.reading = (!jobs.is_empty()).then(|| tokio::task::spawn_blocking(move || files::read(&jobs, &before)));
    }

    /// Whether they hold something else than before.
    fn take_files(&mut self, read: Result<Read, JoinError>) -> bool {
        self.reading = None;
        let Ok((files, faults)) = read else { return false };
        let changed = files != self.files || faults != self.faults;
        (self.files, self.faults) = (files, faults);
        changed
    }

    /// All targets, by what tells them from others; and what is wrong with those of files.
    fn wanted(&self) -> (Targets, Vec<String>) {
        let (mut wanted, mut faults) = (Targets::new(), self.faults.clone());
        for job in &self.order.plan.jobs {
            let of_files = self.files.get(&job.section.job).filter(|_| !job.section.target_files.is_empty());
            let of_files = of_files.into_iter().flatten();
            let of_files = of_files
                .flat_map(|(file, groups)| groups.iter().map(move |group| (Some(file.as_str()), group.clone())));
            for (file, group) in job.groups().map(|group| (None, group)).chain(of_files) {
                for target in targets(job, &group, file) {
                    match target {
                        Ok(_) if wanted.len() >= MOST_TARGETS => {
                            faults.push(format!("{MOST_TARGETS} targets are the most, further ones are left out"));
                            return (wanted, faults);
                        }
                        Ok(target) => _ = wanted.insert(target.key(), (job.clone(), target)),
                        Err(why) => faults.push(format!("{}: {why}", file.unwrap_or("the configuration"))),
                    }
                }
            }
        }
        (wanted, faults)
    }

    /// Has a task for each target, and no other.
    async fn reconcile(&mut self) {
        let (mut wanted, faults) = self.wanted();
        let (before, now) = (self.running.len(), wanted.len());
        let interest = self.interest.borrow_and_update().clone();
        let who = Wanted { rules: interest, include: self.order.include.clone() };
        let shared = self.shared.clone();
        self.running.retain(|key, running| match wanted.remove(key) {
            Some((job, target)) => {
                let new = Arc::new(Assigned { job, target, wanted: who.clone() });
                running.orders.send_replace(new);
                true
            }
            None => {
                running.task.abort();
                shared.tally.remove(running.id);
                shared.newest.set(running.id, Vec::new());
                false
            }
        });
        for (key, (job, target)) in wanted {
            let id = self.next;
            self.next += 1;
            shared.tally.add(id, &job.section.job, target.labels.get("instance").unwrap_or_default());
            let (orders, inbox) = watch::channel(Arc::new(Assigned { job, target, wanted: who.clone() }));
            let task = self.tasks.spawn(follow(id, inbox, shared.clone()));
            self.running.insert(key, Running { id, orders, task });
        }
        if before != now {
            info!("{now} targets are scraped");
        }
        if shared.tally.file_faults(faults.len()) != faults.len() {
            faults.iter().take(10).for_each(|fault| warn!("{fault}"));
        }
        let ids = self.running.values().map(|running| running.id).collect();
        // The rules' end is the app's business.
        let _ = shared.events.send(Event::Targets(ids)).await;
    }
}
