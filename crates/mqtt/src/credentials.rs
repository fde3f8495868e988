//! Password and certificates, read anew before each attempt to connect.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::link::Template;
use crate::{Credentials, Options, Source};

type Answer = Result<Credentials, String>;

/// What is remembered between two readings.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    /// A reading that did not end in its time, on a file system that hangs: it is waited for, not joined by another.
    hanging: Option<JoinHandle<Answer>>,
    /// Why the last reading was of no use.
    fault: Option<String>,
}

impl Renewal {
    /// Reads, for at most `limit`. What comes with the answer goes back by [`keep`](Self::keep).
    pub(crate) fn read(
        &mut self,
        source: Source,
        limit: Duration,
    ) -> impl Future<Output = (Option<JoinHandle<Answer>>, Answer)> + use<> {
        let hanging = self.hanging.take();
        async move {
            let mut reading = hanging.unwrap_or_else(|| tokio::task::spawn_blocking(move || source.read()));
            match timeout(limit, &mut reading).await {
                Ok(Ok(answer)) => (None, answer),
                Ok(Err(panic)) => (None, Err(format!("BUG: reading them failed: {panic}"))),
                Err(_) => (Some(reading), Err(format!("the files could not be read within {limit:?}"))),
            }
        }
    }

    pub(crate) fn keep(&mut self, hanging: Option<JoinHandle<Answer>>) {
        self.hanging = hanging;
    }

    /// Options with what was read, if that is new and a connection can be made of it; otherwise the old ones stay.
    pub(crate) fn take_up(&mut self, read: Answer, options: &Options) -> Option<(Options, Template)> {
        let made = read.and_then(|Credentials { password, tls }| {
            if password == options.password && tls == options.tls {
                return Ok(None);
            }
            let options = Options { password, tls, ..options.clone() };
            let template = Template::new(&options).map_err(|error| error.to_string())?;
            Ok(Some((options, template)))
        });
        match made {
            Ok(made) => {
                if made.is_some() {
                    info!("the new password or certificates for the broker are taken up");
                } else if self.fault.is_some() {
                    info!("the password and certificates for the broker can be used again; they are the old ones");
                }
                self.fault = None;
                made
            }
            Err(fault) => {
                let fault = format!("the password or certificates for the broker can't be renewed: {fault}");
                if self.fault.as_ref() != Some(&fault) {
                    warn!("{fault}; the old ones stay in use");
                }
                self.fault = Some(fault);
                None
            }
        }
    }

    /// Why the last reading was of no use, if it was.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}
