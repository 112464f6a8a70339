//! The floor: what actix-web alone does for a request of the same shape.

use std::io::Write as _;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::{App, HttpResponse, HttpServer, web};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::{Outcome, SHORT_VALUE};

/// Serves on a free port, whose address it prints first, until it is killed. `tls`:
/// the files of a certificate and its key, or nothing.
pub fn serve(tls: &[&str]) -> Outcome<()> {
    actix_web::rt::System::new().block_on(async {
        let server = HttpServer::new(|| {
            App::new().route("/api/{tenant}/secrets/{key}", web::get().to(answer))
        })
        .disable_signals();
        let any = ("127.0.0.1", 0);
        let server = match tls {
            [chain, key] => server.bind_rustls_0_23(any, with_certificate(chain, key)?)?,
            _ => server.bind(any)?,
        };
        let address = server.addrs().first().copied().ok_or("no address was bound")?;
        writeln!(std::io::stdout(), "{address}")?;
        server.run().await?;
        Ok(())
    })
}

fn with_certificate(chain: &str, key: &str) -> Outcome<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth().with_single_cert(chain, key)?)
}

/// Takes its path apart as Tenure must, and answers as many bytes.
async fn answer(path: web::Path<(String, String)>) -> HttpResponse {
    let (tenant, key) = path.into_inner();
    std::hint::black_box((tenant, key));
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("application/json")
        .body(format!("\"{SHORT_VALUE}\""))
}
