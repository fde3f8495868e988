//! The thread that asks a backend, which may hang in it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Backend, Poll};
use crate::snapshot::Families;

/// Held while a backend is asked. After a change of the configuration a new worker may stand beside one that still waits
/// for its answer: it must not ask as well.
static TURN: Mutex<()> = Mutex::new(());

/// The newest answer.
pub(super) enum Answer {
    /// None yet.
    None,
    /// See [`Poll::Absent`]. The thread has ended with it.
    Absent(String),
    /// See [`Poll::Failed`].
    Failed(String),
    /// See [`Poll::Found`].
    Found(Families),
}

struct State {
    /// Since when a question is out.
    asked: Option<Instant>,
    stopped: bool,
    answer: Arc<Answer>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, held: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.lock(), |state| held(state)).unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's life.
    fn run(&self, backend: &mut dyn Backend) {
        loop {
            if self.wait_while(|state| state.asked.is_none() && !state.stopped).stopped {
                return;
            }
            let answer = {
                let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
                match catch_unwind(AssertUnwindSafe(|| backend.poll())) {
                    Ok(Poll::Absent(why)) => Answer::Absent(why),
                    Ok(Poll::Failed(why)) => Answer::Failed(why),
                    Ok(Poll::Found(families)) => Answer::Found(families),
                    Err(_) => Answer::Failed("BUG: the thread that asks for GPUs panicked".to_owned()),
                }
            };
            let ended = matches!(answer, Answer::Absent(_));
            let mut state = self.lock();
            state.answer = Arc::new(answer);
            state.asked = None;
            self.changed.notify_all();
            if ended || state.stopped {
                return;
            }
        }
    }
}

/// The handle. The thread ends when it is dropped, as soon as it can.
pub(super) struct Worker(Arc<Shared>);

impl Worker {
    /// Starts the thread; it asks nothing yet.
    pub(super) fn start(mut backend: Box<dyn Backend>) -> io::Result<Self> {
        let state = Mutex::new(State { asked: None, stopped: false, answer: Arc::new(Answer::None) });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let its = Arc::clone(&shared);
        std::thread::Builder::new().name("gpu".into()).spawn(move || its.run(&mut *backend))?;
        Ok(Self(shared))
    }

    /// Asks, unless a question is out, or the thread has ended because there is nothing to ask.
    pub(super) fn ask(&self) {
        let mut state = self.0.lock();
        if state.asked.is_none() && !matches!(*state.answer, Answer::Absent(_)) {
            state.asked = Some(Instant::now());
            self.0.changed.notify_all();
        }
    }

    /// Since when a question is out.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.0.lock().asked
    }

    /// Waits for the answer to the question that is out, at the latest `until`.
    pub(super) fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            drop(self.0.changed.wait_timeout_while(self.0.lock(), left, |state| state.asked.is_some()));
        }
    }

    /// The newest answer.
    pub(super) fn answer(&self) -> Arc<Answer> {
        Arc::clone(&self.0.lock().answer)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Answers what it is told to, when it is told to.
    struct Told {
        begun: Sender<()>,
        answers: Receiver<Poll>,
    }

    impl Backend for Told {
        fn poll(&mut self) -> Poll {
            self.begun.send(()).unwrap();
            self.answers.recv().unwrap_or_else(|_| panic!("told nothing"))
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn one_question_at_a_time_even_of_two_workers() {
        let (begun, has_begun) = channel();
        let worker = |begun: &Sender<()>| {
            let (tell, answers) = channel();
            (Worker::start(Box::new(Told { begun: begun.clone(), answers })).unwrap(), tell)
        };
        let (first, tell_first) = worker(&begun);
        first.ask();
        first.ask();
        has_begun.recv().unwrap();
        let asked = first.asked().unwrap();
        first.wait(Instant::now());
        assert!(matches!(*first.answer(), Answer::None) && first.asked() == Some(asked));

        // The configuration changes while the first hangs.
        drop(first);
        let (second, tell_second) = worker(&begun);
        tell_second.send(Poll::Failed("second".to_owned())).unwrap();
        second.ask();
        second.wait(Instant::now() + Duration::from_millis(20));
        assert!(has_begun.try_recv().is_err(), "asked while the first was out");
        tell_first.send(Poll::Found(Families::default())).unwrap();
        second.wait(soon());
        assert!(matches!(&*second.answer(), Answer::Failed(why) if why == "second"));
        assert!(second.asked().is_none());

        // A panic is an answer, and the thread goes on; that there is nothing ends it.
        drop(tell_second);
        second.ask();
        second.wait(soon());
        assert!(matches!(&*second.answer(), Answer::Failed(why) if why.starts_with("BUG")));
    }
}
