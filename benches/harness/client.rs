//! A client that costs little: prepared bytes over keep-alive connections, and
//! of each answer only its status and length.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Outcome, scattered};

/// Where a server listens, and whether it is spoken to over TLS.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<TlsConnector>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

/// What came of one measurement.
#[derive(Default)]
pub struct Sample {
    /// Of each request, in microseconds.
    pub latencies: Vec<u32>,
    pub elapsed: Duration,
}

impl Sample {
    pub fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.elapsed += other.elapsed;
    }

    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// In microseconds; `part` is 0.5 for the median.
    pub fn quantile(&mut self, part: f64) -> u32 {
        let rank = (self.latencies.len() as f64 * part) as usize;
        let rank = rank.min(self.latencies.len().saturating_sub(1));
        if self.latencies.is_empty() {
            return 0;
        }
        *self.latencies.select_nth_unstable(rank).1
    }
}

/// As a [`Sample`] has it.
pub fn micros_since(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Sends what `requests` makes for (connection, number) from each of
/// `connections` until the time is over.
pub fn measure(
    target: impl Into<Target>,
    connections: usize,
    time: Duration,
    requests: impl Fn(usize, usize) -> Vec<u8> + Clone + 'static,
) -> Outcome<Sample> {
    let until = Instant::now() + time;
    drive(target.into(), connections, move |connection, number| {
        (Instant::now() < until).then(|| requests(connection, number))
    })
}

/// As [`measure`], but each connection rests after an answer, for `pause` in the mean.
/// Without that both processors are always busy, and the highest latencies tell how long
/// a thread waits for one of them; with it they tell how long an answer takes. Each
/// connection has a thread and rests of its own: with one timer for all, or rests that
/// are equal, all would soon send at the same moment and wait for one another.
pub fn measure_paced(
    target: impl Into<Target>,
    connections: usize,
    pause: Duration,
    time: Duration,
    requests: impl Fn(usize, usize) -> Vec<u8> + Clone + Send + 'static,
) -> Outcome<Sample> {
    let (target, start) = (target.into(), Instant::now());
    let until = start + time;
    let threads: Vec<_> = (0..connections)
        .map(|connection| {
            let (target, requests) = (target.clone(), requests.clone());
            std::thread::spawn(move || {
                let request = move |_, number| {
                    std::thread::sleep(rest(pause, connection, number));
                    (Instant::now() < until).then(|| requests(connection, number))
                };
                drive(target, 1, request).map_err(|error| error.to_string())
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for thread in threads {
        let sample = thread.join().map_err(|_| "a connection's thread panicked")??;
        latencies.extend(sample.latencies);
    }
    Ok(Sample { latencies, elapsed: start.elapsed() })
}

/// From half of `pause` to one and a half, the same in every run.
fn rest(pause: Duration, connection: usize, number: usize) -> Duration {
    const PARTS: u32 = 1 << 12;
    pause / 2 + pause / PARTS * scattered(connection, number, PARTS as usize) as u32
}

/// Sends each of `count` requests once, from several connections.
pub fn send_all(
    target: impl Into<Target>,
    count: usize,
    request: impl Fn(usize) -> Vec<u8> + Clone + 'static,
) -> Outcome<Sample> {
    const CONNECTIONS: usize = 64;
    let next = Rc::new(Cell::new(0));
    drive(target.into(), CONNECTIONS.min(count), move |_, _| {
        let number = next.replace(next.get() + 1);
        (number < count).then(|| request(number))
    })
}

/// Until `requests` has no more for any connection. Every answer is a success.
fn drive(
    target: Target,
    connections: usize,
    requests: impl Fn(usize, usize) -> Option<Vec<u8>> + Clone + 'static,
) -> Outcome<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::open(&target).await?);
        }
        let start = Instant::now();
        let tasks: Vec<_> = open
            .into_iter()
            .enumerate()
            .map(|(number, connection)| {
                let requests = requests.clone();
                tokio::task::spawn_local(connection.repeat(move |n| requests(number, n)))
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        Ok(Sample { latencies, elapsed: start.elapsed() })
    })
}

/// Sends one request on a connection of its own; answers its status.
pub fn send(target: impl Into<Target>, request: &[u8]) -> Outcome<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = target.into();
    runtime.block_on(async { Connection::open(&target).await?.exchange(request).await })
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: &Target) -> Outcome<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(ServerName::try_from("localhost")?, stream).await?),
        };
        Ok(Self { stream, buffer: vec![0; 64 * 1024] })
    }

    async fn repeat(mut self, requests: impl Fn(usize) -> Option<Vec<u8>>) -> Outcome<Vec<u32>> {
        let mut latencies = Vec::new();
        for request in (0..).map_while(requests) {
            let start = Instant::now();
            let status = self.exchange(&request).await?;
            if !(200..300).contains(&status) {
                return Err(format!("a request was answered with {status}").into());
            }
            latencies.push(micros_since(start));
        }
        Ok(latencies)
    }

    async fn exchange(&mut self, request: &[u8]) -> Outcome<u16> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut filled = 0;
        let (status, total) = loop {
            filled += self.read(filled).await?;
            if let Some(head) = Head::parse(self.buffer.get(..filled).unwrap_or_default())? {
                break (head.status, head.length + head.body);
            }
        };
        if self.buffer.len() <= total {
            self.buffer.resize(total + 1, 0);
        }
        while filled < total {
            filled += self.read(filled).await?;
        }
        Ok(status)
    }

    /// Reads behind the first `filled` bytes.
    async fn read(&mut self, filled: usize) -> Outcome<usize> {
        let free = self.buffer.get_mut(filled..).filter(|free| !free.is_empty());
        let free = free.ok_or("an answer's head is larger than 64 KiB")?;
        match self.stream.read(free).await? {
            0 => Err("the server closed a connection".into()),
            read => Ok(read),
        }
    }
}

struct Head {
    status: u16,
    length: usize,
    body: usize,
}

impl Head {
    /// `None` until the head is complete.
    fn parse(bytes: &[u8]) -> Outcome<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
        let status = text.get(9..12).ok_or("an answer without a status")?.parse()?;
        let headers = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut body = 0;
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse()?;
            }
            if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err("an answer without Content-Length".into());
            }
        }
        Ok(Some(Self { status, length: end + 4, body }))
    }
}
