//! The listening server: bound first, so that `/healthz` answers while the vault
//! is still being opened, and stopped without dropping what it began.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::ServerHandle;
use actix_web::http::KeepAlive;
use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use crate::domain::Network;
use crate::measure::{self, Meters};

use super::dispatch::{self, Shared};
use super::idle::Watch;
use super::live::Live;
use super::meter::RequestLog;
use super::metrics::{self, MetricsRoute};
use super::pulse::Pulse;
use super::state::AppState;
use super::tls::TlsReloader;
use super::vitals::Vitals;
use super::{leave, listener};

const MEASURED_EVERY: Duration = Duration::from_secs(1);

/// How a server listens and what it puts up with.
#[derive(Clone)]
pub struct ServerOptions {
    /// Port 0 picks a free one; [`Running::address`] tells which.
    pub listen: SocketAddr,
    /// Plain HTTP where there is none. Whether that may be is the caller's to judge.
    pub tls: Option<TlsReloader>,
    pub workers: NonZeroUsize,
    /// Of all workers together. Beyond it connections wait in the backlog.
    pub max_connections: NonZeroUsize,
    /// For a request's head: the first counts from the connection's start, later
    /// ones have `keep_alive` on top.
    pub header_timeout: Duration,
    /// For a whole body, counted from when its request was accepted.
    pub body_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long a graceful stop waits for requests under way; whole seconds.
    pub shutdown_timeout: Duration,
    /// Who may say in `X-Forwarded-For` for whom it speaks.
    pub trusted_proxies: Vec<Network>,
    pub request_log: RequestLog,
    pub metrics: MetricsRoute,
}

impl ServerOptions {
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            max_connections: NonZeroUsize::new(10_000).unwrap_or(NonZeroUsize::MIN),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            request_log: RequestLog::Off,
            metrics: MetricsRoute::ServerAdmin,
        }
    }
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Requests are answered until each connection has ended with an answer that says
    /// so; who connects later waits where somebody else holds the listening socket.
    Graceful,
    /// Connections are dropped.
    Now,
}

pub struct Server;

impl Server {
    /// Binds and serves. Signals are the caller's. Must be called within a tokio
    /// runtime; the workers have threads of their own.
    pub fn start(options: ServerOptions, state: AppState) -> io::Result<Running> {
        let listener = listener::listen(options.listen)?;
        Self::start_on(listener, options, state)
    }

    /// The same on a socket that listens already; `options.listen` is not looked at.
    pub fn start_on(
        listener: TcpListener,
        options: ServerOptions,
        state: AppState,
    ) -> io::Result<Running> {
        let ServerOptions {
            listen: _,
            tls,
            workers,
            max_connections,
            header_timeout,
            body_timeout,
            keep_alive,
            shutdown_timeout,
            trusted_proxies,
            request_log,
            metrics: metrics_route,
        } = options;
        let measuring = tokio::spawn(keep_measuring(measure::begin(), tls.clone()));
        let live = ArcSwap::from_pointee(Live { body_timeout, trusted_proxies });
        let shared = Arc::new(Shared { state, live, request_log, metrics: metrics_route });
        let watch = Watch::new(keep_alive.saturating_add(header_timeout));
        let idle = Arc::clone(&watch);
        let connections = Arc::clone(&watch);
        let (pulse, app) = (Pulse::new(), Arc::clone(&shared));
        let worker = Arc::clone(&pulse);
        let server = HttpServer::new(move || {
            worker.join();
            dispatch::app(Arc::clone(&app))
        })
        .workers(workers.get())
        // actix counts per worker.
        .max_connections(max_connections.get().div_ceil(workers.get()))
        .client_request_timeout(header_timeout)
        .tls_handshake_timeout(header_timeout)
        .keep_alive(KeepAlive::Timeout(keep_alive))
        .on_connect(move |stream, facts| watch.connected(stream, facts))
        .shutdown_timeout(shutdown_timeout.as_secs())
        .disable_signals();
        let server = match tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls.server_config())?,
            None => server.listen(listener)?,
        };
        let address = *server.addrs().first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let server = server.run();
        Ok(Running {
            address,
            handle: server.handle(),
            task: Some(tokio::spawn(server)),
            shared,
            pulse,
            connections,
            patience: shutdown_timeout,
            idle: tokio::spawn(idle.run()),
            measuring,
        })
    }
}

/// Sums up what was timed, which until then takes 24 bytes for each request.
async fn keep_measuring(meters: &'static Meters, tls: Option<TlsReloader>) {
    let mut every = tokio::time::interval(MEASURED_EVERY);
    loop {
        every.tick().await;
        meters.keep_up();
        if let Some(expiry) = tls.as_ref().and_then(TlsReloader::expiry) {
            meters.set(&measure::CERTIFICATE_EXPIRY, &[], metrics::seconds(expiry));
        }
    }
}

/// A server that serves until it is stopped.
pub struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    /// Taken when it has ended.
    task: Option<JoinHandle<io::Result<()>>>,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    connections: Arc<Watch>,
    /// With what is under way at a graceful stop.
    patience: Duration,
    /// Ends with this.
    idle: JoinHandle<()>,
    /// So does this.
    measuring: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.idle.abort();
        self.measuring.abort();
    }
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves by these from now on.
    pub fn adjust(&self, live: Live) {
        self.shared.live.store(Arc::new(live));
    }

    pub fn vitals(&self) -> Vitals {
        Vitals::new(Arc::clone(&self.pulse), self.shared.state.clone())
    }

    /// Returns when the server has ended, by whatever cause.
    pub async fn wait(&mut self) -> io::Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    }

    pub async fn stop(mut self, stop: Stop) -> io::Result<()> {
        match stop {
            Stop::Graceful => leave::leave(&self.handle, &self.connections, self.patience).await,
            Stop::Now => self.handle.stop(false).await,
        }
        self.wait().await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn starting() -> Running {
        let mut options = ServerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.workers = NonZeroUsize::MIN;
        options.header_timeout = Duration::from_millis(300);
        Server::start(options, AppState::starting()).unwrap()
    }

    /// The answer's head, lower-cased, and its body.
    async fn exchange(server: &Running, request: impl Into<Vec<u8>>) -> (String, String) {
        let (address, request) = (server.address(), request.into());
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&request).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            let answer = String::from_utf8(answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.to_lowercase(), body.to_owned())
        })
        .await
        .unwrap()
    }

    fn plain(line: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    }

    fn code(body: &str) -> String {
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn health_is_answered_while_the_vault_is_opened() {
        let server = starting();
        let (head, body) = exchange(&server, plain("GET /healthz")).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(body, r#"{"status":"up"}"#);
        for path in ["/readyz", "/api/t/secrets/k", "/api/docs/", "/.well-known/biscuit-keys"] {
            let (head, body) = exchange(&server, plain(&format!("GET {path}"))).await;
            assert!(head.starts_with("http/1.1 503") && head.contains("retry-after: 1"), "{head}");
            assert_eq!(code(&body), "starting");
        }
        server.stop(Stop::Graceful).await.unwrap();
    }

    #[tokio::test]
    async fn every_answer_past_routing_is_a_problem_with_the_headers() {
        let server = starting();
        for (line, status, expected) in [
            ("GET /", "404", "route_not_found"),
            ("GET /api/t/Secrets", "404", "route_not_found"),
            ("POST /api/t/secrets/k", "405", "method_not_allowed"),
            ("OPTIONS /api/t/secrets", "405", "method_not_allowed"),
            ("BREW /healthz", "405", "method_not_allowed"),
            ("GET /api/t/secrets/%00", "503", "starting"),
            ("GET /api/t/secrets/a%", "503", "starting"),
            ("GET http://x/api/t/secrets/k", "503", "starting"),
        ] {
            let (head, body) = exchange(&server, plain(line)).await;
            assert!(head.starts_with(&format!("http/1.1 {status}")), "{line}: {head}");
            assert_eq!(code(&body), expected, "{line}");
            assert!(head.contains("content-type: application/problem+json"), "{head}");
            assert!(head.contains("cache-control: no-store"), "{head}");
            assert!(head.contains("x-content-type-options: nosniff"), "{head}");
            assert!(head.contains("x-request-id: "), "{head}");
            assert_eq!(head.contains("allow: "), status == "405", "{head}");
        }
        server.stop(Stop::Graceful).await.unwrap();
    }

    #[tokio::test]
    async fn head_answers_the_head_alone() {
        let server = starting();
        let (head, body) = exchange(&server, plain("HEAD /api/t/secrets/k")).await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert!(!head.contains("content-length: 0") && head.contains("content-length: "), "{head}");
        assert_eq!(body, "");
        server.stop(Stop::Graceful).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_id_is_taken_over_and_stays_out_of_the_body() {
        let server = starting();
        let with = |id: &str| {
            format!("GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: {id}\r\n\r\n")
        };
        let (head, body) = exchange(&server, with("req-7")).await;
        assert!(head.contains("x-request-id: req-7"), "{head}");
        let (head, other) = exchange(&server, with("re q")).await;
        assert!(!head.contains("re q"), "{head}");
        assert_eq!(body, other);
        server.stop(Stop::Graceful).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_http_is_refused_by_status_alone() {
        let server = starting();
        for line in ["GET /api/t/secrets/\u{e4}", "GET /a b", "NONSENSE"] {
            let (head, _) = exchange(&server, plain(line)).await;
            assert!(head.starts_with("http/1.1 400"), "{line}: {head}");
        }
        let (head, _) = exchange(&server, "GET /healthz HTTP/1.1\r\nHost:").await;
        assert!(head.starts_with("http/1.1 408"), "{head}");
        server.stop(Stop::Graceful).await.unwrap();
    }

    #[tokio::test]
    async fn a_second_head_that_does_not_end_ends_the_connection() {
        let mut options = ServerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.workers = NonZeroUsize::MIN;
        options.header_timeout = Duration::from_millis(100);
        options.keep_alive = Duration::from_millis(400);
        let server = Server::start(options, AppState::starting()).unwrap();
        let address = server.address();
        let ended = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = [0; 4096];
            assert!(stream.read(&mut answer).unwrap() > 0);
            stream.write_all(b"GET /he").unwrap();
            stream.read(&mut answer)
        })
        .await
        .unwrap();
        // Closed, with or without a last word; not a time-out of our own.
        assert!(
            !matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
            "{ended:?}"
        );
        server.stop(Stop::Graceful).await.unwrap();
    }

    #[tokio::test]
    async fn a_stopped_server_may_be_waited_for() {
        let mut server = starting();
        server.handle.stop(true).await;
        server.wait().await.unwrap();
        server.wait().await.unwrap();
        server.stop(Stop::Now).await.unwrap();
    }
}
