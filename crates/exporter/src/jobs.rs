//! How admin jobs get from the table `admin_jobs` to a host and back: the store's side. See
//! `docs/decisions/0005-how-admin-jobs-travel.md`.

use std::future::Future;
use std::time::Duration;

use serde_json::{Map, Value};
use wire::HostName;
use wire::messages::JobTransition;

use crate::sink::SinkError;

/// A pending job that this member claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    /// `admin_jobs.id`.
    pub job: i64,
    /// `admin_jobs.job_type`.
    pub job_type: String,
    /// `admin_jobs.parameters`.
    pub parameters: Map<String, Value>,
    /// The host that shall run it: from `parameters.host`, or the one that an earlier claim handed it out to, which may
    /// run it already; `None`: any that can.
    pub host: Option<HostName>,
}

/// A store that keeps the queue of admin jobs. PostgreSQL and SQLite will implement it.
///
/// As with [`Sink`](crate::sink::Sink), the tier calls one method at a time, and errors say what to do.
pub trait JobStore: Send + 'static {
    /// Claims up to `limit` pending jobs for `member`, oldest first. Two members never hold one claim: rows that
    /// another member has locked are passed over. A claim lapses after `lease`; the job is then pending again, and the
    /// `start_before` of its command lies before that moment, so that no host begins it late.
    fn claim(
        &mut self,
        member: &str,
        limit: usize,
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<ClaimedJob>, SinkError>> + Send;

    /// Notes that the broker took the command for `host`. The status stays `pending`: only the host knows that it runs.
    fn handed_out(&mut self, job: i64, host: &HostName) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Enters a transition that a host reported. Only forward: one that comes twice or late changes nothing, a job
    /// that is `completed` or `failed` stays so. `false` where it changed nothing.
    fn transition(
        &mut self,
        host: &HostName,
        transition: &JobTransition,
    ) -> impl Future<Output = Result<bool, SinkError>> + Send;
}
