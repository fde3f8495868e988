//! A service that is told of alerts: it keeps what it gets and answers as a script says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_servers::wait_for;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) at: Instant,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// The notification's.
    pub(crate) fn id(&self) -> &str {
        self.header("idempotency-key")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Name, status and a label of each of its alerts.
    pub(crate) fn alerts(&self, label: &str) -> Vec<(String, String, String)> {
        let alerts = self.json()["alerts"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alerts = alerts
            .iter()
            .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["status"]), text(&alert["labels"][label])));
        alerts.collect()
    }
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    Later(u64),
    /// Nothing, for as long as the service is there.
    Silence,
    /// The connection is closed.
    Cut,
    /// 200 after so many milliseconds.
    Slowly(u64),
    /// To another server.
    SendsOn,
}

/// Decides by the number of the request, from 0.
type Script = dyn Fn(usize, &Told) -> Reply + Send + Sync;

struct Inner {
    told: Mutex<Vec<Told>>,
    script: Mutex<Arc<Script>>,
    gone: AtomicBool,
    /// Those that hang wait for its end.
    end: (Mutex<bool>, Condvar),
}

/// The service. It stops with this.
pub(crate) struct Hooks {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Hooks {
    /// On a free port, with 200 for everything.
    pub(crate) fn start() -> Self {
        Self::with(|_, _| Reply::Status(200))
    }

    /// The same by a script.
    pub(crate) fn with(script: impl Fn(usize, &Told) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(0, script)
    }

    /// The same on a port.
    pub(crate) fn on(port: u16, script: impl Fn(usize, &Told) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            told: Mutex::default(),
            script: Mutex::new(Arc::new(script)),
            gone: AtomicBool::new(false),
            end: Default::default(),
        });
        let for_thread = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.gone.load(Ordering::SeqCst) {
                    return;
                }
                let inner = for_thread.clone();
                // One that was cut is no matter of ours.
                std::thread::spawn(move || stream.and_then(|stream| inner.serve(stream)));
            }
        });
        Self { address, inner }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// A URL with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Another script, from now on.
    pub(crate) fn answers(&self, script: impl Fn(usize, &Told) -> Reply + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap() = Arc::new(script);
    }

    /// All that it got.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.inner.told.lock().unwrap().clone()
    }

    /// Waits for so many requests, and gives the last of them.
    pub(crate) fn gets(&self, count: usize) -> Told {
        wait_for(&format!("request {count}"), || self.told().into_iter().nth(count - 1))
    }

    /// Waits for a request of which this holds.
    pub(crate) fn waits(&self, what: &str, wanted: impl Fn(&Told) -> bool) -> Told {
        wait_for(what, || self.told().into_iter().find(&wanted))
    }

    /// Waits until an alert with this value of a label was told in this state.
    pub(crate) fn hears(&self, status: &str, label: &str, value: &str) -> Told {
        self.waits(&format!("{label}={value} is {status}"), |told| {
            told.alerts(label).iter().any(|(_, is, of)| is == status && of == value)
        })
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.inner.gone.store(true, Ordering::SeqCst);
        *self.inner.end.0.lock().unwrap() = true;
        self.inner.end.1.notify_all();
        // Wakes the thread, which lets go of the port.
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some(path) = line.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut told = Told { at: Instant::now(), path, headers, body: String::new() };
        let mut body = vec![0; told.header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body)?;
        told.body = String::from_utf8_lossy(&body).into_owned();
        let number = {
            let mut all = self.told.lock().unwrap();
            all.push(told.clone());
            all.len() - 1
        };
        let script = self.script.lock().unwrap().clone();
        let (status, more) = match script(number, &told) {
            Reply::Status(status) => (status, String::new()),
            Reply::Later(seconds) => (429, format!("retry-after: {seconds}\r\n")),
            Reply::SendsOn => (302, format!("location: https://elsewhere.example{}\r\n", told.path)),
            Reply::Slowly(millis) => {
                std::thread::sleep(Duration::from_millis(millis));
                (200, String::new())
            }
            Reply::Cut => return Ok(()),
            Reply::Silence => {
                let ended = self.end.0.lock().unwrap();
                drop(self.end.1.wait_while(ended, |ended| !*ended).unwrap());
                return Ok(());
            }
        };
        // Some services say again what they were told.
        let said = format!("{} {}", told.path, told.header("authorization"));
        let length = said.len();
        let head = format!("HTTP/1.1 {status} x\r\n{more}connection: close\r\ncontent-length: {length}\r\n\r\n{said}");
        (&stream).write_all(head.as_bytes())
    }
}
