//! A server whose pages a test writes, well or badly.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a request gets.
#[derive(Debug, Clone)]
pub(super) enum Page {
    /// A page in the classic text.
    Classic(String),
    /// A page of this type.
    Typed(&'static str, String),
    /// These bytes, head and all.
    Raw(Vec<u8>),
    /// A head that promises much, and bytes without end.
    Endless,
    /// Nothing, for as long as the server is there.
    Silence,
}

/// Decides by the request's lines, the first of them `GET /path HTTP/1.1`.
type Script = dyn Fn(&[String]) -> Page + Send + Sync;

struct Inner {
    script: Mutex<Arc<Script>>,
    gone: AtomicBool,
}

/// The server. It stops with this.
pub(super) struct Pages {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Pages {
    /// One page for whatever is asked.
    pub(super) fn of(page: Page) -> Self {
        Self::with(move |_| page.clone())
    }

    /// The same in the classic text.
    pub(super) fn text(text: &str) -> Self {
        Self::of(Page::Classic(text.to_owned()))
    }

    pub(super) fn with(script: impl Fn(&[String]) -> Page + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner { script: Mutex::new(Arc::new(script)), gone: AtomicBool::new(false) });
        let for_thread = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.gone.load(Ordering::SeqCst) {
                    return;
                }
                let inner = for_thread.clone();
                // A client that goes away is no matter of ours.
                std::thread::spawn(move || stream.and_then(|stream| inner.serve(stream)));
            }
        });
        Self { address, inner }
    }

    /// As `HOST:PORT`.
    pub(super) fn place(&self) -> String {
        self.address.to_string()
    }

    /// Another page from now on.
    pub(super) fn becomes(&self, text: &str) {
        let page = Page::Classic(text.to_owned());
        *self.inner.script.lock().unwrap() = Arc::new(move |_| page.clone());
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.inner.gone.store(true, Ordering::SeqCst);
        // Wakes the thread, which lets go of the port.
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut lines = Vec::new();
        for line in BufReader::new(stream.try_clone()?).lines() {
            match line? {
                line if line.is_empty() => break,
                line => lines.push(line),
            }
        }
        let script = self.script.lock().unwrap().clone();
        let (kind, text) = match script(&lines) {
            Page::Classic(text) => ("text/plain; version=0.0.4", text),
            Page::Typed(kind, text) => (kind, text),
            Page::Raw(bytes) => return stream.write_all(&bytes),
            Page::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")?;
                let line = "a_series_that_comes_again_and_again{x=\"1\"} 1\n".repeat(1000);
                while !self.gone.load(Ordering::SeqCst) {
                    stream.write_all(line.as_bytes())?;
                }
                return Ok(());
            }
            Page::Silence => {
                while !self.gone.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(());
            }
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", text.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(text.as_bytes())
    }
}
