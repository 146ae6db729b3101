//! An HTTP host in the test's own hands: it counts what it gives, and can hold back, change its mind and break off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a path answers.
#[derive(Clone)]
pub(crate) enum Answer {
    File { bytes: Arc<Vec<u8>>, etag: String },
    Redirect(String),
    Status(u16),
}

pub(crate) struct Host {
    port: u16,
    answers: Mutex<BTreeMap<String, Answer>>,
    /// Bytes of bodies that were given, but for the one that a fetch asks for first.
    served: AtomicU64,
    /// Nothing more is given beyond so many.
    gate: watch::Sender<u64>,
    /// Connections of an earlier epoch get nothing more.
    epoch: AtomicU64,
    /// Whether `Range` is understood.
    pub(crate) knows_ranges: AtomicBool,
    /// Whether a whole file is given with its length.
    pub(crate) says_length: AtomicBool,
    /// Requests that said where they came from.
    pub(crate) referers: AtomicU32,
    /// So many answers break off after half of their body.
    pub(crate) breaks: AtomicU32,
    /// So many answers are 503.
    pub(crate) busy: AtomicU32,
}

impl Host {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = Arc::new(Self {
            port: listener.local_addr().expect("an address").port(),
            answers: Mutex::default(),
            served: AtomicU64::new(0),
            gate: watch::Sender::new(u64::MAX),
            epoch: AtomicU64::new(0),
            knows_ranges: AtomicBool::new(true),
            says_length: AtomicBool::new(true),
            referers: AtomicU32::new(0),
            breaks: AtomicU32::new(0),
            busy: AtomicU32::new(0),
        });
        let answering = Arc::clone(&host);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let host = Arc::clone(&answering);
                // A client that goes away is no fault of the host's.
                tokio::spawn(async move { drop(host.serve(stream).await) });
            }
        });
        host
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        let mut answers = self.answers.lock().expect("answers");
        answers.insert(path.to_owned(), answer);
    }

    pub(crate) fn file(&self, path: &str, bytes: &[u8], etag: &str) {
        let answer = Answer::File {
            bytes: Arc::new(bytes.to_vec()),
            etag: etag.to_owned(),
        };
        self.answer(path, answer);
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// Counts anew, and gives so many bytes until it is called again.
    pub(crate) fn gate(&self, bytes: u64) {
        self.served.store(0, Ordering::SeqCst);
        self.gate.send_replace(bytes);
    }

    /// The same, after the connections that there were have been left by their clients.
    pub(crate) fn gate_anew(&self, bytes: u64) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.gate(bytes);
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let epoch = self.epoch.load(Ordering::SeqCst);
        loop {
            let mut path = String::new();
            let mut range = None;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                if let Some(rest) = line.strip_prefix("GET ") {
                    path = rest.split(' ').next().unwrap_or_default().to_owned();
                }
                if line.to_ascii_lowercase().starts_with("referer:") {
                    self.referers.fetch_add(1, Ordering::SeqCst);
                }
                if let Some((name, value)) = line.split_once(": ")
                    && name.eq_ignore_ascii_case("range")
                {
                    let span = value.strip_prefix("bytes=").expect("a range of bytes");
                    let (from, last) = span.split_once('-').expect("two ends");
                    let number = |text: &str| text.parse::<usize>().expect("a number");
                    range = Some((number(from), number(last) + 1));
                }
            }
            if !self.respond(&mut stream, epoch, &path, range).await? {
                return Ok(());
            }
        }
    }

    /// Returns whether the connection stays open.
    async fn respond(
        &self,
        stream: &mut BufReader<TcpStream>,
        epoch: u64,
        path: &str,
        range: Option<(usize, usize)>,
    ) -> std::io::Result<bool> {
        let count_down = |count: &AtomicU32| {
            count
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
        };
        let answer = self.answers.lock().expect("answers").get(path).cloned();
        let (bytes, etag) = match answer {
            _ if count_down(&self.busy) => return status(stream, 503, "").await,
            None => return status(stream, 404, "").await,
            Some(Answer::Status(number)) => return status(stream, number, "").await,
            Some(Answer::Redirect(to)) => {
                return status(stream, 302, &format!("Location: {to}\r\n")).await;
            }
            Some(Answer::File { bytes, etag }) => (bytes, etag),
        };
        let range = range.filter(|_| self.knows_ranges.load(Ordering::SeqCst));
        let (from, to) = range.unwrap_or((0, bytes.len()));
        let head = match range {
            Some(_) => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n",
                to - 1,
                bytes.len()
            ),
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
        };
        let says_length = self.says_length.load(Ordering::SeqCst);
        let length = if says_length {
            format!("Content-Length: {}", to - from)
        } else {
            "Connection: close".to_owned()
        };
        let head = format!("{head}{length}\r\nETag: {etag}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let is_first = range == Some((0, 1));
        let breaks_at = (!is_first && count_down(&self.breaks)).then(|| from + (to - from) / 2);
        let mut at = from;
        while at < breaks_at.unwrap_or(to) {
            let part = (to - at).min(64 << 10);
            if !is_first {
                let mut gate = self.gate.subscribe();
                let is_open = |gate: &u64| self.served() + part as u64 <= *gate;
                drop(gate.wait_for(is_open).await.expect("the host lives"));
                if self.epoch.load(Ordering::SeqCst) != epoch {
                    return Ok(false);
                }
                self.served.fetch_add(part as u64, Ordering::SeqCst);
            }
            stream.write_all(&bytes[at..at + part]).await?;
            at += part;
        }
        stream.flush().await?;
        Ok(breaks_at.is_none() && says_length)
    }
}

async fn status(
    stream: &mut BufReader<TcpStream>,
    number: u16,
    more: &str,
) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 {number} so\r\n{more}Content-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(true)
}
