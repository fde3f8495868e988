//! Files that are read again and again: opened once, read from the start with `pread` into a shared buffer.
//!
//! Opening costs more than reading for most of `/proc`. Files stay open up to a bound for all readers together: a machine
//! with thousands of devices has more attributes than a process may have descriptors, and those beyond are opened at each
//! reading. The buffer is one per thread, lent to whoever reads, so that
//! fifty collectors do not keep fifty buffers.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Each open file holds kernel memory besides its descriptor.
const MOST_KEPT: usize = 2048;

/// Files that are kept open now.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// An open file that counts among the kept ones.
#[derive(Debug)]
struct Kept(OwnedFd);

impl Kept {
    /// `None` at the bound: a quarter of the descriptors that the process may have. The process table takes half.
    fn new(fd: OwnedFd) -> Option<Self> {
        static BOUND: OnceLock<usize> = OnceLock::new();
        let bound = *BOUND.get_or_init(|| {
            let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            usize::try_from(limit / 4).unwrap_or(usize::MAX).min(MOST_KEPT)
        });
        let taken = KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| (kept < bound).then_some(kept + 1));
        taken.ok().map(|_| Self(fd))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// No file that a collector reads is larger in earnest: more means that a path points to the wrong thing.
const MAX_BYTES: usize = 32 << 20;

/// Holds `/proc/stat` of a large machine, so that growing is rare.
const FIRST_BYTES: usize = 16 << 10;

/// Asked for at once: files below `/proc/sys` refuse to be asked for 4 MiB, whatever they hold (ENOMEM).
const MOST_AT_ONCE: usize = 1 << 20;

/// To open a file for reading. Without NONBLOCK a pipe under a file's name would wait for a writer, and all collectors with
/// it; files of the kernel and of disks do not know the difference.
pub(crate) const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused to open or read it.
    #[error("cannot read {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It goes on and on.
    #[error("{} is larger than {MAX_BYTES} bytes: is it the file that the path switches mean?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; allow the agent's user to read it, or disable the collector",
        _ => "",
    }
}

impl ReadError {
    /// Whether it says that the kernel or the machine does not have this, rather than that reading went wrong.
    pub fn is_nothing_here(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                let code = source.raw_os_error();
                [Errno::NOENT, Errno::OPNOTSUPP, Errno::NODEV, Errno::NOTDIR]
                    .into_iter()
                    .any(|errno| code == Some(errno.raw_os_error()))
            }
            Self::TooLarge { .. } => false,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::TooLarge { path } => path,
        }
    }
}

/// Lends the thread's buffer, with room for at least so many bytes.
pub(super) fn with_buffer<R>(room: usize, with: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFER.take();
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let result = with(&mut buffer);
    BUFFER.set(buffer);
    result
}

/// How the kernel produces a file, which decides when a reader knows that it has it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One record: a read that leaves room in the buffer has reached the end.
    Record,
    /// Many records: the kernel hands out about a page at a time, so only an empty read is the end.
    Listing,
    /// A listing that the kernel can be asked about, whether it changed.
    Telling,
}

/// A file that stays open between readings.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    shape: Shape,
    fd: Option<Kept>,
}

impl KeptFile {
    /// A file that the kernel writes in one piece, such as `/proc/stat`, `meminfo`, `loadavg` and the pressure files.
    pub fn record(path: PathBuf) -> Self {
        Self { path, shape: Shape::Record, fd: None }
    }

    /// A file with an entry for each of something, such as `/proc/diskstats`. Right for every file, one read dearer.
    pub fn listing(path: PathBuf) -> Self {
        Self { path, shape: Shape::Listing, fd: None }
    }

    /// A listing of procfs that can be asked by [`KeptFile::is_unchanged`]. That are few: `/proc/PID/mountinfo`.
    pub fn telling(path: PathBuf) -> Self {
        Self { path, shape: Shape::Telling, fd: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the kernel promises that it reads as it did the last time: a change is told once. Of a file that is not
    /// [`KeptFile::telling`], that lies elsewhere than in a real procfs, or that did not stay open, nothing is promised.
    #[cfg(target_os = "linux")]
    pub fn is_unchanged(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};

        let Some(fd) = self.fd.as_ref().filter(|_| self.shape == Shape::Telling) else { return false };
        if !fstatfs(&fd.0).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC) {
            return false;
        }
        let changed = PollFlags::PRI | PollFlags::ERR;
        let mut polled = [PollFd::new(&fd.0, changed)];
        poll(&mut polled, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
            && !polled[0].revents().intersects(changed)
    }

    /// Other systems make no such promise.
    #[cfg(not(target_os = "linux"))]
    pub fn is_unchanged(&self) -> bool {
        false
    }

    /// Reads it whole and hands the bytes to `with`. Opened at the first reading and again after an error.
    pub fn read<R>(&mut self, with: impl FnOnce(&[u8]) -> R) -> Result<R, ReadError> {
        let mut buffer = BUFFER.take();
        let result = self.fill(&mut buffer).map(|length| with(&buffer[..length]));
        BUFFER.set(buffer);
        result
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<usize, ReadError> {
        if let Some(fd) = &self.fd {
            match read_all(&fd.0, self.shape, buffer) {
                Ok(Some(length)) => return Ok(length),
                // A device or process behind it has gone, or it has grown beyond all bounds; another may stand under the
                // same path.
                Ok(None) | Err(_) => self.fd = None,
            }
        }
        let io = |errno: Errno| ReadError::Io { path: self.path.clone(), source: errno.into() };
        let fd = rustix::fs::open(&self.path, TO_READ, Mode::empty()).map_err(io)?;
        match read_all(&fd, self.shape, buffer).map_err(io)? {
            Some(length) => {
                self.fd = Kept::new(fd);
                Ok(length)
            }
            None => {
                // Nothing else needs so much room.
                *buffer = Vec::new();
                Err(ReadError::TooLarge { path: self.path.clone() })
            }
        }
    }
}

/// Reads from the start to the end; `None` where the end does not come within [`MAX_BYTES`].
fn read_all(fd: &OwnedFd, shape: Shape, buffer: &mut Vec<u8>) -> Result<Option<usize>, Errno> {
    if buffer.is_empty() {
        buffer.resize(FIRST_BYTES, 0);
    }
    let mut length = 0;
    loop {
        let end = buffer.len().min(length + MOST_AT_ONCE);
        let read = match rustix::io::pread(fd, &mut buffer[length..end], length as u64) {
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        length += read;
        if read == 0 || (shape == Shape::Record && length < end) {
            return Ok(Some(length));
        }
        if length == buffer.len() {
            if length >= MAX_BYTES {
                return Ok(None);
            }
            buffer.resize(length * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let mut file = KeptFile::record(path.clone());
        assert_eq!(file.read(<[u8]>::to_vec).unwrap(), b"one");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(file.read(<[u8]>::to_vec).unwrap(), b"three");
        std::fs::write(&path, "").unwrap();
        assert_eq!(file.read(<[u8]>::to_vec).unwrap(), b"");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_procfs_promises_that_nothing_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mountinfo");
        std::fs::write(&path, "one").unwrap();
        let mut frozen = KeptFile::telling(path);
        frozen.read(|_| ()).unwrap();
        assert!(!frozen.is_unchanged());
        let mut real = KeptFile::telling(super::super::HostRoot::default().proc("self/mountinfo"));
        assert!(!real.is_unchanged(), "not read yet");
        real.read(|_| ()).unwrap();
        // Somebody else may mount something just now.
        assert!((0..10).any(|_| real.is_unchanged()));
        let mut other = KeptFile::listing(real.path().into());
        other.read(|_| ()).unwrap();
        assert!(!other.is_unchanged());
    }

    #[test]
    fn reads_more_than_the_buffer_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..FIRST_BYTES * 5 + 1).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        assert_eq!(KeptFile::record(path.clone()).read(<[u8]>::to_vec).unwrap(), content);
        assert_eq!(KeptFile::listing(path).read(<[u8]>::to_vec).unwrap(), content);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn settings_of_the_kernel_can_be_read_after_a_large_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..(5 << 20) + 1).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        assert_eq!(KeptFile::record(path).read(<[u8]>::to_vec).unwrap(), content);
        let mut setting = KeptFile::record(super::super::HostRoot::default().proc("sys/kernel/ostype"));
        assert_eq!(setting.read(<[u8]>::to_vec).unwrap(), b"Linux\n");
    }

    #[test]
    fn a_reader_may_read_another_file_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "a").unwrap();
        std::fs::write(dir.path().join("b"), "b").unwrap();
        let (mut a, mut b) = (KeptFile::record(dir.path().join("a")), KeptFile::record(dir.path().join("b")));
        let both = a.read(|a| b.read(|b| [a, b].concat())).unwrap().unwrap();
        assert_eq!(both, b"ab");
    }

    #[test]
    fn the_error_names_the_file() {
        let mut file = KeptFile::record("/nowhere/at/all".into());
        let error = file.read(|_| ()).unwrap_err();
        assert!(error.is_nothing_here());
        assert!(error.to_string().starts_with("cannot read /nowhere/at/all: No such file"), "{error}");
    }

    #[test]
    fn a_directory_or_an_endless_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(KeptFile::record(dir.path().into()).read(|_| ()), Err(ReadError::Io { .. })));
        let error = KeptFile::record("/dev/zero".into()).read(|_| ()).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
        assert!(BUFFER.take().capacity() <= FIRST_BYTES, "the room that it took is given back");
    }

    #[test]
    fn a_pipe_is_an_error_and_nothing_to_wait_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for mut file in [KeptFile::record(path.clone()), KeptFile::listing(path)] {
                let _ = answer.send(file.read(|_| ()));
            }
        });
        for _ in 0..2 {
            let result = answered.recv_timeout(std::time::Duration::from_secs(10)).expect("it does not wait");
            assert!(matches!(result, Err(ReadError::Io { .. })), "{result:?}");
        }
    }

    #[test]
    fn a_file_that_appears_later_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = KeptFile::listing(path.clone());
        assert!(file.read(|_| ()).is_err());
        std::fs::write(&path, "here").unwrap();
        assert_eq!(file.read(<[u8]>::to_vec).unwrap(), b"here");
    }
}
