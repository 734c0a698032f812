//! A server of a folder's files over plain HTTP, which counts what it sends and fails on demand.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Answer,
    /// So many answers break off in the middle.
    BreakOff(u64),
    /// After so many more requests nothing is answered.
    FallSilent(u64),
    /// After so many more requests every file is another version.
    Change(u64),
    /// Ranges are not known.
    WholeFiles,
}

struct Served {
    folder: PathBuf,
    sent: AtomicU64,
    asked: AtomicU64,
    manner: Mutex<Manner>,
}

/// The server; its thread ends with the process.
pub struct FileServer {
    port: u16,
    served: Arc<Served>,
}

impl FileServer {
    pub fn of(folder: PathBuf) -> FileServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sent, asked) = (AtomicU64::new(0), AtomicU64::new(0));
        let served = Arc::new(Served { folder, sent, asked, manner: Mutex::new(Manner::Answer) });
        let all = served.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let served = all.clone();
                std::thread::spawn(move || while served.answer(&stream).is_some() {});
            }
        });
        FileServer { port, served }
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    pub fn will(&self, manner: Manner) {
        *self.served.manner.lock().unwrap() = manner;
    }

    /// Bytes of files that were sent since this was asked last, and requests.
    pub fn sent(&self) -> (u64, u64) {
        (self.served.sent.swap(0, Ordering::Relaxed), self.served.asked.swap(0, Ordering::Relaxed))
    }
}

impl Served {
    /// The manner of the next answer; counts down.
    fn next(&self) -> Manner {
        let mut manner = self.manner.lock().unwrap();
        let now = *manner;
        *manner = match now {
            Manner::BreakOff(0 | 1) => Manner::Answer,
            Manner::BreakOff(times) => Manner::BreakOff(times - 1),
            Manner::FallSilent(more) => Manner::FallSilent(more.saturating_sub(1)),
            Manner::Change(more) => Manner::Change(more.saturating_sub(1)),
            other => other,
        };
        now
    }

    /// Answers one request; none where the connection ends.
    fn answer(&self, mut stream: &TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let path = lines.next()?.split_whitespace().nth(1)?.to_owned();
        let headers: Vec<(String, String)> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
            .collect();
        let header = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        self.asked.fetch_add(1, Ordering::Relaxed);
        let manner = self.next();
        if manner == Manner::FallSilent(0) {
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        let name = path.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
        let Ok(bytes) = fs::read(self.folder.join(name)) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
        };
        let version = if manner == Manner::Change(0) { 2 } else { 1 };
        let etag = format!("\"{}-{version}\"", bytes.len());
        if header("if-match").is_some_and(|wanted| wanted != etag) {
            return stream.write_all(b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n").ok();
        }
        let range = header("range").filter(|_| manner != Manner::WholeFiles);
        let asked = range.as_deref().and_then(|range| range.strip_prefix("bytes=")).and_then(|range| {
            let (start, end) = range.split_once('-')?;
            match start.parse::<usize>() {
                Ok(start) => Some(start..end.parse::<usize>().map_or(bytes.len(), |end| bytes.len().min(end + 1))),
                Err(_) => Some(bytes.len().saturating_sub(end.parse().ok()?)..bytes.len()),
            }
        });
        let part = asked.clone().unwrap_or(0..bytes.len());
        let status = if asked.is_some() { "206 Partial Content" } else { "200 OK" };
        let (start, end) = (part.start, part.end.max(1) - 1);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{end}/{}\r\nETag: {etag}\r\n\r\n",
            part.len(),
            bytes.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        let body = &bytes[part];
        if matches!(manner, Manner::BreakOff(_)) {
            let _ = stream.write_all(&body[..body.len() / 2]);
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        stream.write_all(body).ok()?;
        self.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        Some(())
    }
}
