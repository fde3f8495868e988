//! One command, from its start to the end of everything that it started.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::pin::pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::shutdown::Shutdown;
use daemon::signals::Children;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Job;
use crate::output::Tail;
use crate::result::Outcome;

/// How long a command has between the request to end and its end by force.
const GRACE: Duration = Duration::from_secs(5);

/// The same when the daemon stops, which has 5 s for all.
const STOP_GRACE: Duration = Duration::from_millis(1500);

/// How long the kernel may take to end what was killed. What waits for a dead disk takes longer.
const REAP: Duration = Duration::from_secs(10);
const STOP_REAP: Duration = Duration::from_millis(500);

/// How long output is waited for after the command itself has ended, from what it left running.
const AFTERMATH: Duration = Duration::from_secs(1);
const STOP_AFTERMATH: Duration = Duration::from_millis(300);

/// How often a command is looked at, beside when the kernel tells that one ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where programs are looked up that a command starts, if the daemon's own environment doesn't say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to run.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) job: Arc<Job>,
    pub(crate) argv: Vec<String>,
    pub(crate) body: Bytes,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) pid: Option<u32>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: Tail,
    pub(crate) stderr: Tail,
    pub(crate) error: Option<String>,
}

/// Runs it. `place` is held for as long as anything of it may still be there.
pub(crate) async fn run<P: Send + Sync + 'static>(task: Task, stop: &Shutdown, place: Arc<P>) -> Ended {
    let (job, body) = (task.job.clone(), task.body.clone());
    let mut ended = Ended {
        outcome: Outcome::NotStarted,
        pid: None,
        exit_code: None,
        signal: None,
        stdout: Tail::new(job.max_output),
        stderr: Tail::new(job.max_output),
        error: None,
    };
    let (mut process, pipes) = match Process::start(task).await {
        Ok(started) => started,
        Err(error) => {
            let (program, folder) = (job.argv.program(), job.working_dir.display());
            ended.error = Some(format!("can't start {program} in {folder}: {error}"));
            return ended;
        }
    };
    ended.pid = Some(process.child.id());
    let (asked, gone) = attend(&mut process, pipes, body, job.timeout, stop, &mut ended).await;
    if !gone {
        ended.outcome = asked.unwrap_or(Outcome::TimedOut);
        ended.error = Some(
            "it was killed and has not ended yet: it waits in the kernel, for a disk or a network drive".to_owned(),
        );
        tokio::spawn(async move {
            process.exited().await;
            let _ = process.end();
            drop(place);
        });
        return ended;
    }
    match process.end() {
        Ok(status) => {
            ended.exit_code = status.code();
            ended.signal = status.signal();
            let by_itself = if status.code().is_some() { Outcome::Exited } else { Outcome::Signaled };
            ended.outcome = asked.unwrap_or(by_itself);
        }
        Err(error) => {
            ended.outcome = asked.unwrap_or(Outcome::Unknown);
            ended.error = Some(format!("can't tell how it ended: {error}"));
        }
    }
    ended
}

fn start(task: &Task) -> io::Result<Child> {
    let Some((program, arguments)) = task.argv.split_first() else {
        return Err(io::Error::other("BUG: there is no program"));
    };
    let job = &task.job;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&job.working_dir).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
    command.envs(job.env.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("UTILIZER_JOB", &job.name).env("UTILIZER_JOB_ID", &task.id);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that all that it starts can be ended with it.
    command.process_group(0).spawn()
}

struct Pipes {
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// Waits for the end, and brings it about when it is time. Gives what was done to it, and whether it is gone.
async fn attend(
    process: &mut Process,
    pipes: Pipes,
    body: Bytes,
    time: Duration,
    stop: &Shutdown,
    ended: &mut Ended,
) -> (Option<Outcome>, bool) {
    enum Stage {
        Running,
        Asked,
        Killed,
    }
    let Pipes { stdin, stdout, stderr } = pipes;
    let mut exchange = pin!(async {
        tokio::join!(feed(stdin, body), drain(stdout, &mut ended.stdout), drain(stderr, &mut ended.stderr));
    });
    let mut exchanged = false;
    let (mut stage, mut asked, mut stopping) = (Stage::Running, None, false);
    let mut deadline = Instant::now() + time;
    loop {
        tokio::select! {
            () = process.exited() => break,
            () = exchange.as_mut(), if !exchanged => exchanged = true,
            () = stop.wait(), if !stopping => {
                stopping = true;
                let now = Instant::now();
                deadline = match stage {
                    Stage::Running => {
                        asked = Some(Outcome::Stopped);
                        stage = Stage::Asked;
                        process.signal(Signal::TERM);
                        now + STOP_GRACE
                    }
                    Stage::Asked => deadline.min(now + STOP_GRACE),
                    Stage::Killed => deadline.min(now + STOP_REAP),
                };
            }
            () = sleep_until(deadline) => {
                let now = Instant::now();
                (stage, deadline) = match stage {
                    Stage::Running => {
                        asked = Some(Outcome::TimedOut);
                        process.signal(Signal::TERM);
                        (Stage::Asked, now + if stopping { STOP_GRACE } else { GRACE })
                    }
                    Stage::Asked => {
                        process.signal(Signal::KILL);
                        (Stage::Killed, now + if stopping { STOP_REAP } else { REAP })
                    }
                    Stage::Killed => return (asked, false),
                };
            }
        }
    }
    if !exchanged {
        // What it left running may hold its pipes open for ever.
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(AFTERMATH) => {}
                () = async { stop.wait().await; tokio::time::sleep(STOP_AFTERMATH).await } => {}
            }
        };
        tokio::select! {
            () = exchange.as_mut() => {}
            () = patience => {}
        }
    }
    (asked, true)
}

/// A command need not read what it is handed.
async fn feed(mut stdin: pipe::Sender, body: Bytes) {
    let _ = stdin.write_all(&body).await;
}

async fn drain(mut from: pipe::Receiver, tail: &mut Tail) {
    let mut chunk = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        tail.push(chunk.get(..read).unwrap_or_default());
    }
}

/// A child that was not waited for yet: until then its process id, which is also that of its group, is nobody else's.
struct Process {
    child: Child,
    group: Option<Pid>,
    children: Children,
}

impl Process {
    async fn start(task: Task) -> io::Result<(Self, Pipes)> {
        // Before the start, so that no end is missed.
        let children = Children::watch()?;
        // A file system that hangs may hold up the start.
        let mut child = tokio::task::spawn_blocking(move || start(&task)).await.map_err(io::Error::other)??;
        let pipes = Pipes::of(&mut child);
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = Self { child, group, children };
        match pipes {
            Ok(pipes) => Ok((process, pipes)),
            Err(error) => {
                let _ = process.end();
                Err(error)
            }
        }
    }

    /// To the whole group.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // That it ended meanwhile is no fault.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Returns when the command itself has ended. It stays to be waited for.
    async fn exited(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while let Some(pid) = self.group {
            match waitid(WaitId::Pid(pid), options) {
                Ok(None) => {
                    // The signal is enough; who counts on it alone hangs for ever where somebody takes it away.
                    let _ = timeout(LOOK_AGAIN, self.children.changed()).await;
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }

    /// Ends what is left of its group, and waits for it.
    fn end(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.child.wait()
    }
}

impl Pipes {
    fn of(child: &mut Child) -> io::Result<Self> {
        let missing = || io::Error::other("BUG: a pipe is missing");
        Ok(Self {
            stdin: pipe::Sender::from_owned_fd(OwnedFd::from(child.stdin.take().ok_or_else(missing)?))?,
            stdout: pipe::Receiver::from_owned_fd(OwnedFd::from(child.stdout.take().ok_or_else(missing)?))?,
            stderr: pipe::Receiver::from_owned_fd(OwnedFd::from(child.stderr.take().ok_or_else(missing)?))?,
        })
    }
}
