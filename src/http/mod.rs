//! The HTTP edge: requests in, answers out, and nothing decided in between.
//!
//! One table names the routes ([`routes`]); one function takes every request past
//! it ([`dispatch`]): credential, names, permit, body, vault, in that order, so
//! that no body is read for a stranger and no handler has an address that was not
//! authorized. Everything it answers is `application/problem+json` or a success,
//! with the same headers on both. What is refused before it (a request line or
//! header that is not HTTP) actix answers alone.
//!
//! The edge must not know how a token is verified, a secret encrypted or a row
//! stored, nor how it was configured: it takes [`ServerOptions`].

mod accept;
mod admin;
mod admin_client;
mod admin_frames;
mod api_keys;
mod body;
mod certificate;
mod client_address;
mod conditions;
mod credential;
mod dispatch;
mod idle;
mod issuers;
mod leave;
mod listener;
mod listing;
mod live;
mod meter;
mod metrics;
mod notices;
mod openapi;
mod path;
mod problem;
mod process_facts;
mod pulse;
mod reach;
mod record;
mod request_id;
mod routes;
mod secrets;
mod server;
mod sign_in;
mod state;
mod swagger_ui;
mod system;
mod tls;
mod vitals;

pub use admin::{AdminServer, Desk, Turn, Wanted};
pub use admin_client::{AdminClient, AdminError};
pub use issuers::{IssuerSource, IssuerWatch};
pub use listener::{NotListening, adopt, listen};
pub use live::Live;
pub use meter::RequestLog;
pub use metrics::{MetricsRoute, MetricsServer};
pub use notices::{NoticeWatch, Webhook, WebhookError};
pub use openapi::document as openapi_document;
pub use routes::{Access, ApiKeyCall, Endpoint, ROUTES, Route, SecretCall};
pub use server::{Running, Server, ServerOptions, Stop};
pub use state::AppState;
pub use tls::{TlsError, TlsFiles, TlsReloader};
pub use vitals::Vitals;
