//! Telling every task at once that it is time to stop.

use tokio::sync::watch;

/// Asks everyone who holds the [`Shutdown`] to stop. Dropping it asks as well: a program whose main future is gone
/// must not run on.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Knows whether stopping was asked for.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A connected pair.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks for the stop. Asking twice is asking once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether stopping was asked for.
    pub fn is_set(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns once stopping is asked for.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which asks for the stop as well.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::channel;

    #[tokio::test]
    async fn dropping_the_trigger_stops_as_well() {
        let (trigger, shutdown) = channel();
        assert!(!shutdown.is_set());
        drop(trigger);
        shutdown.wait().await;
        assert!(shutdown.is_set());
    }
}
