//! The floor: what actix-web alone does for a request of the same shape.

use std::io::Write as _;

use actix_web::http::header;
use actix_web::{App, HttpResponse, HttpServer, web};

use crate::harness::{Outcome, SHORT_VALUE};

/// Serves on a free port, whose address it prints first, until it is killed.
pub fn serve() -> Outcome<()> {
    actix_web::rt::System::new().block_on(async {
        let server = HttpServer::new(|| {
            App::new().route("/api/{tenant}/secrets/{key}", web::get().to(answer))
        })
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().ok_or("no address was bound")?;
        writeln!(std::io::stdout(), "{address}")?;
        server.run().await?;
        Ok(())
    })
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
