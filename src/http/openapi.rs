//! The OpenAPI 3.1 document, generated from the handlers, and Swagger UI, served
//! from inside the binary. A test holds the document against the route table.

use std::sync::{Arc, LazyLock};

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::Config;

use crate::api::problem::{Code, Problem};

use super::problem::{self, Refused};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tenure",
        description = "Secrets with validity windows, by tenant. Every error is an \
                       application/problem+json with a stable `code`.",
    ),
    paths(
        super::secrets::read,
        super::secrets::write,
        super::secrets::delete,
        super::secrets::list,
        super::api_keys::create,
        super::api_keys::list,
        super::api_keys::show,
        super::api_keys::revoke,
        super::system::health,
        super::system::readiness,
        super::system::biscuit_keys,
        serve_document,
        redirect_to_docs,
        serve_docs,
    ),
    components(schemas(Problem)),
    modifiers(&Edited),
)]
struct Api;

/// What the macros cannot say.
struct Edited;

impl Modify for Edited {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "bearer",
            SecurityScheme::Http(
                Http::builder()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some("A token from `tenure token mint`."))
                    .build(),
            ),
        );
        components.add_security_scheme(
            "apiKey",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-KEY"))),
        );
        // GET and HEAD come from one handler; operation ids must differ.
        for item in document.paths.paths.values_mut() {
            if let Some(head) = &mut item.head {
                head.operation_id = head.operation_id.take().map(|id| format!("{id}Head"));
            }
        }
    }
}

/// The document, for whoever wants it without a server.
pub fn document() -> Document {
    Api::openapi()
}

static JSON: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(document().to_pretty_json().unwrap_or_default()));

static UI: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    // Swagger UI would otherwise show the document's address to validator.swagger.io.
    Arc::new(Config::from("/api/openapi.json").validator_url("none").try_it_out_enabled(true))
});

/// This document
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "documentation",
    operation_id = "openApi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")),
)]
pub(super) fn serve_document() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(JSON.clone())
}

/// Swagger UI, at its folder
#[utoipa::path(
    get,
    path = "/api/docs",
    tag = "documentation",
    operation_id = "docsRoot",
    responses((status = 308, description = "To `/api/docs/`")),
)]
pub(super) fn redirect_to_docs() -> HttpResponse {
    // Relative, so that it holds behind a proxy that adds a prefix.
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "docs/")).finish()
}

/// Swagger UI
#[utoipa::path(
    get,
    path = "/api/docs/{file}",
    tag = "documentation",
    operation_id = "docs",
    params(("file" = String, Path, description = "Empty for the page itself")),
    responses(
        (status = 200, description = "The page, or one of its files"),
        (status = 404, description = "`route_not_found`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) fn serve_docs(file: &str) -> Result<HttpResponse, Refused> {
    let file = match utoipa_swagger_ui::serve(file, Arc::clone(&UI)) {
        Ok(file) => file.ok_or_else(unknown)?,
        Err(error) => {
            log::error!("Swagger UI cannot be served: {error}");
            return Err(problem::internal());
        }
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, file.content_type));
    response.insert_header((header::CONTENT_SECURITY_POLICY, OWN_FILES_ALONE));
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    Ok(response.body(file.bytes.into_owned()))
}

/// The page is given tokens: nothing foreign may run in it, and nobody frames it.
const OWN_FILES_ALONE: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

pub(super) fn unknown() -> Refused {
    Refused::new(Code::RouteNotFound, "There is nothing here. /api/docs shows what there is.")
}

pub(super) fn method_not_allowed(allow: &str) -> Refused {
    let value = HeaderValue::from_str(allow).unwrap_or(HeaderValue::from_static(""));
    let allow_header: HeaderName = header::ALLOW;
    Refused::new(Code::MethodNotAllowed, "This resource does not have that method.")
        .with_header(allow_header, value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::routes::{Access, ROUTES};

    #[test]
    fn the_document_holds_every_route_and_no_other() {
        let json: serde_json::Value = serde_json::from_slice(&JSON).unwrap();
        let described: BTreeSet<(String, String)> = json["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let served: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| (route.method.to_string(), route.template.to_owned()))
            .collect();
        assert_eq!(described, served);
        assert_eq!(json["openapi"], "3.1.0");
    }

    #[test]
    fn operation_ids_are_unique_and_references_resolve() {
        let json: serde_json::Value = serde_json::from_slice(&JSON).unwrap();
        let mut ids = BTreeSet::new();
        for item in json["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
            }
        }
        let text = json.to_string();
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(json["components"]["schemas"][name].is_object(), "{name}");
        }
    }

    #[test]
    fn every_call_with_a_credential_may_be_told_to_wait() {
        let json: serde_json::Value = serde_json::from_slice(&JSON).unwrap();
        for route in ROUTES.iter().filter(|route| route.endpoint.access() != Access::Public) {
            let method = route.method.as_str().to_lowercase();
            let responses = &json["paths"][route.template][&method]["responses"];
            let header = &responses["429"]["headers"]["Retry-After"];
            assert!(header.is_object(), "{method} {}: {responses}", route.template);
        }
    }

    #[test]
    fn the_body_of_a_put_is_described_as_it_is_read() {
        let json: serde_json::Value = serde_json::from_slice(&JSON).unwrap();
        let put = &json["components"]["schemas"]["PutSecret"];
        assert_eq!(put["required"], serde_json::json!(["value"]));
        assert_eq!(put["additionalProperties"], false);
        assert_eq!(put["properties"]["value"]["type"], serde_json::json!(["string", "null"]));
        assert_eq!(put["properties"]["expiresOn"]["type"], "string");
        assert_eq!(put["properties"]["notBefore"]["format"], "date-time");
    }

    #[test]
    fn the_page_calls_nobody_else() {
        let response = serve_docs("swagger-initializer.js").unwrap();
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        assert!(serve_docs("").is_ok() && serve_docs("swagger-ui-bundle.js").is_ok());
        assert!(serve_docs("nothing").is_err() && serve_docs("../Cargo.toml").is_err());
    }
}
