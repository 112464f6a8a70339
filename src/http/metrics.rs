//! `GET /metrics`: what was counted, and how it stands now.
//!
//! What stands is asked for when it is read, and read from memory alone: nothing here
//! walks rows. It must not name a tenant, a secret or a credential.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServerHandle, ServiceRequest, fn_service};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{KeepAlive, Method};
use actix_web::{App, Error, HttpResponse, HttpServer};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::api::problem::Problem;
use crate::auth::ServerPermit;
use crate::domain::Timestamp;
use crate::measure::{self, Meters};
use crate::vault::{AuditVitals, Survey, Vault, Vitals};

use super::problem::{self, Refused};
use super::process_facts::ProcessFacts;
use super::state::{AppState, Phase};

/// The text format of Prometheus.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// On whichever listener.
pub(super) const PATH: &str = "/metrics";

/// Of a listener that a scraper or two talk to.
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);
const KEPT: Duration = Duration::from_secs(90);

/// Whether the listener for secrets has metrics too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsRoute {
    /// For tokens that were minted for the server itself.
    ServerAdmin,
    /// As any other path that nothing is at.
    Absent,
}

/// One is written at a time: however many ask, at most one thread does it.
static SCRAPES: Mutex<()> = Mutex::const_new(());

/// What was counted, and how it stands
///
/// In the text format of Prometheus. It names no tenant, no secret and no credential.
/// Only for a token of the scope `Server.Admin` (`tenure token mint --server-admin`).
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "system",
    operation_id = "metrics",
    responses(
        (status = 200, description = "All samples", body = String, content_type = "text/plain"),
        (status = 401, description = "No credential, or an invalid or expired one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: any credential of a tenant", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: `metrics.on_main` is false", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`rate_limited`: of this address, or with this credential", body = Problem, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`starting`, `sealed`", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = [])),
)]
pub(super) async fn scrape(_: ServerPermit, state: AppState) -> Result<HttpResponse, Refused> {
    let _one = SCRAPES.lock().await;
    // The files of the process are counted and the text is written elsewhere: a worker
    // answers other requests meanwhile.
    let written = actix_web::web::block(move || text(&state)).await;
    Ok(response(written.map_err(|_| problem::internal())?))
}

fn text(state: &AppState) -> String {
    let meters = measure::begin();
    note_state(meters, state);
    ProcessFacts::read().note(meters);
    meters.text()
}

fn response(text: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(text)
}

fn note_state(meters: &Meters, state: &AppState) {
    let phase = state.phase();
    let (vault, sealed) = match &**phase {
        Phase::Open(vault) => (Some(vault), false),
        Phase::Starting => (None, false),
        Phase::Sealing | Phase::Sealed(_) => (None, true),
    };
    let ready = vault.is_some_and(|vault| vault.readiness().writable);
    meters.set(&measure::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    meters.set(&measure::READY, &[], from(ready));
    meters.set(&measure::SEALED, &[], from(sealed));
    if let Some(vault) = vault {
        note_vault(meters, vault);
    }
}

fn note_vault(meters: &Meters, vault: &Vault) {
    let Vitals {
        writable,
        free_bytes,
        tenants,
        clock_disputed,
        last_sweep,
        kek_since,
        survey,
        audit,
    } = vault.vitals();
    meters.set(&measure::WRITABLE, &[], from(writable));
    meters.set(&measure::TENANTS, &[], count(tenants as u64));
    meters.set(&measure::CLOCK_DISPUTED, &[], from(clock_disputed));
    note_audit(meters, audit, vault.now().wall());
    if let Some(bytes) = free_bytes {
        meters.set(&measure::FREE_BYTES, &[], count(bytes));
    }
    if let Some(at) = last_sweep {
        meters.set(&measure::LAST_SWEEP, &[], seconds(at));
    }
    if let Some(since) = kek_since {
        meters.set(&measure::KEK, &[], seconds(since));
    }
    if let Some(survey) = survey {
        note_survey(meters, &survey);
    }
}

fn note_audit(meters: &Meters, AuditVitals { bytes, since }: AuditVitals, now: Timestamp) {
    meters.set(&measure::AUDIT_QUEUE_BYTES, &[], count(bytes as u64));
    let waits = since.map_or(0, |since| now.unix_micros().saturating_sub(since.unix_micros()));
    // A clock that was set back makes none of it younger than nothing.
    let waits = Duration::from_micros(waits.max(0).unsigned_abs());
    meters.set(&measure::AUDIT_QUEUE_AGE, &[], waits.as_secs_f64());
}

fn note_survey(meters: &Meters, survey: &Survey) {
    let Survey {
        counted_on,
        valid,
        pending,
        expired,
        expiring,
        next_expiry,
        uncounted,
        oldest_dek,
    } = survey;
    for (state, secrets) in [("valid", valid), ("pending", pending), ("expired", expired)] {
        meters.set(&measure::SECRETS, &[state], count(*secrets));
    }
    for ((within, _), secrets) in Survey::HORIZONS.into_iter().zip(expiring) {
        meters.set(&measure::EXPIRING, &[within], count(*secrets));
    }
    meters.set(&measure::NEXT_EXPIRY, &[], next_expiry.map_or(f64::NAN, seconds));
    meters.set(&measure::COUNTED, &[], seconds(*counted_on));
    meters.set(&measure::UNCOUNTED, &[], count(*uncounted));
    if let Some(drawn) = oldest_dek {
        meters.set(&measure::OLDEST_DEK, &[], seconds(*drawn));
    }
}

fn from(state: bool) -> f64 {
    if state { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and nothing counts to that")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "seconds are exact for millions of years")]
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.unix_seconds() as f64
}

/// A listener that answers `GET /metrics` to whoever reaches it, and nothing else.
pub struct MetricsServer {
    address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl MetricsServer {
    /// Binds and serves, whatever state the store is in. Whether it may listen there is
    /// the caller's to judge. Must be called within a tokio runtime.
    pub fn start(listen: SocketAddr, state: AppState) -> io::Result<Self> {
        let app = move || {
            let state = state.clone();
            App::new().default_service(fn_service(move |request: ServiceRequest| {
                let response = respond(&state, &request);
                async move { Ok::<_, Error>(request.into_response(response)) }
            }))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .max_connections(CONNECTIONS)
            .client_request_timeout(PATIENCE)
            .keep_alive(KeepAlive::Timeout(KEPT))
            .shutdown_timeout(PATIENCE.as_secs())
            .disable_signals()
            .bind(listen)?;
        let address = *server.addrs().first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let server = server.run();
        Ok(Self { address, handle: server.handle(), task: tokio::spawn(server) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn stop(self) -> io::Result<()> {
        self.handle.stop(false).await;
        self.task.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    }
}

fn respond(state: &AppState, request: &ServiceRequest) -> HttpResponse<BoxBody> {
    match (request.method(), request.path()) {
        (&Method::GET, PATH) => response(text(state)),
        (_, PATH) => {
            HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, "GET")).finish()
        }
        _ => HttpResponse::NotFound().body("Metrics are at /metrics.\n"),
    }
}
