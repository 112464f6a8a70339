//! The OpenAPI 3.1 document, generated from the handlers, and Swagger UI, served
//! from inside the binary. A test holds the document against the route table.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::path::{Operation as Described, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, AuthorizationCode, Flow, Http, HttpAuthScheme, Implicit, OAuth2, Scopes,
    SecurityRequirement, SecurityScheme,
};
use utoipa::{Modify, OpenApi};

use crate::api::problem::{Code, Problem};
use crate::domain::{Operation, Scope};

use super::accept;
use super::problem::Refused;
use super::routes::{Access, ROUTES};
use super::sign_in::Offer;
use super::swagger_ui::{Client, Coding, Page};

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
        super::secrets::write_all,
        super::api_keys::create,
        super::api_keys::list,
        super::api_keys::show,
        super::api_keys::revoke,
        super::system::health,
        super::system::readiness,
        super::system::biscuit_keys,
        super::metrics::scrape,
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
                    .description(Some(
                        "A token from `tenure token mint`, or of an issuer that is configured.",
                    ))
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

/// The document and the page, as they are served.
pub(super) struct Docs {
    json: Bytes,
    page: Page,
    /// The page's Content-Security-Policy.
    policy: HeaderValue,
}

impl Default for Docs {
    fn default() -> Self {
        Self::with(&BTreeMap::new())
    }
}

impl Docs {
    /// With issuers to sign in with, by their places in the configuration.
    pub fn with(offers: &BTreeMap<usize, Offer>) -> Self {
        let mut document = document();
        for (place, offer) in offers {
            add_sign_in(&mut document, &scheme_name(*place), offer);
        }
        Self {
            json: Bytes::from(document.to_pretty_json().unwrap_or_default()),
            page: page(offers),
            policy: content_security_policy(offers),
        }
    }
}

/// `oauth2`, `oauth2-2`, `oauth2-3`, …
fn scheme_name(place: usize) -> String {
    match place {
        0 => "oauth2".to_owned(),
        later => format!("oauth2-{}", later.saturating_add(1)),
    }
}

fn add_sign_in(document: &mut Document, name: &str, offer: &Offer) {
    let words = offer.scopes.iter().map(|(word, scope)| (word.as_str(), scope.as_str()));
    let scopes = Scopes::from_iter(words);
    let authorization = offer.authorization.as_str();
    let implicit = Flow::Implicit(Implicit::new(authorization, scopes.clone()));
    let code = offer.token.as_ref().map(|token| {
        let code = AuthorizationCode::new(authorization, token.as_str(), scopes);
        Flow::AuthorizationCode(code)
    });
    let scheme = SecurityScheme::OAuth2(OAuth2::new([implicit].into_iter().chain(code)));
    document.components.get_or_insert_default().add_security_scheme(name, scheme);
    for route in ROUTES {
        let words = match route.endpoint.access() {
            // No issuer has a word for the server itself.
            Access::Public | Access::ServerAdmin => continue,
            Access::Tenant(operation) => words_for(offer, operation),
            Access::Administrator => words_of(offer, Scope::All),
        };
        let item = document.paths.paths.get_mut(route.template);
        let described = item.and_then(|item| described(item, &route.method));
        // Without a word for it no token of this issuer will do.
        if let Some(described) = described.filter(|_| !words.is_empty()) {
            let required = SecurityRequirement::new(name, words);
            described.security.get_or_insert_default().push(required);
        }
    }
}

fn described<'i>(item: &'i mut PathItem, method: &Method) -> Option<&'i mut Described> {
    match method.as_str() {
        "GET" => item.get.as_mut(),
        "HEAD" => item.head.as_mut(),
        "PUT" => item.put.as_mut(),
        "POST" => item.post.as_mut(),
        "DELETE" => item.delete.as_mut(),
        _ => None,
    }
}

/// The issuer's words for just this operation; for all of them where it has none.
fn words_for(offer: &Offer, operation: Operation) -> Vec<String> {
    let own = match operation {
        Operation::Read => words_of(offer, Scope::SecretRead),
        Operation::Write => words_of(offer, Scope::SecretWrite),
    };
    if own.is_empty() { words_of(offer, Scope::All) } else { own }
}

fn words_of(offer: &Offer, wanted: Scope) -> Vec<String> {
    let words = offer.scopes.iter().filter(|(_, scope)| **scope == wanted);
    words.map(|(word, _)| word.clone()).collect()
}

fn page(offers: &BTreeMap<usize, Offer>) -> Page {
    let client = offers.values().find_map(|offer| {
        let scopes = offer.scopes.keys().map(String::as_str).collect();
        Some(Client { id: offer.client_id.as_ref()?, scopes })
    });
    Page::new("/api/openapi.json", client.as_ref())
}

/// The page is given tokens: nothing foreign may run in it, nobody frames it, and it
/// talks to this server alone, and to issuers that redeem a code.
fn content_security_policy(offers: &BTreeMap<usize, Offer>) -> HeaderValue {
    // A query is no part of a source; the rest of an address can stand in a header.
    let redeemed_at =
        offers.values().filter_map(|offer| Some(offer.token.as_ref()?.before_query()));
    let connect: String = redeemed_at.map(|address| format!(" {address}")).collect();
    let policy = format!(
        "default-src 'self'; connect-src 'self'{connect}; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// This document
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "documentation",
    operation_id = "openApi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")),
)]
pub(super) fn serve_document(docs: &Docs) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(docs.json.clone())
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
        (status = 406, description = "`not_acceptable`: the file is compressed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) fn serve_docs(
    file: &str,
    headers: &HeaderMap,
    docs: &Docs,
) -> Result<HttpResponse, Refused> {
    let file = docs.page.file(file).ok_or_else(unknown)?;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(file.media_type)));
    response.insert_header((header::CONTENT_SECURITY_POLICY, docs.policy.clone()));
    if file.coding == Coding::Gzip {
        if !accept::takes_gzip(headers) {
            let detail = "This file is compressed. Send Accept-Encoding: gzip.";
            return Err(accept::not_acceptable(detail));
        }
        response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        response.insert_header((header::VARY, HeaderValue::from_static("Accept-Encoding")));
    }
    Ok(response.body(file.bytes))
}

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
        let json: serde_json::Value = serde_json::from_slice(&Docs::default().json).unwrap();
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
        let json: serde_json::Value = serde_json::from_slice(&Docs::default().json).unwrap();
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
        let json: serde_json::Value = serde_json::from_slice(&Docs::default().json).unwrap();
        for route in ROUTES.iter().filter(|route| route.endpoint.access() != Access::Public) {
            let method = route.method.as_str().to_lowercase();
            let responses = &json["paths"][route.template][&method]["responses"];
            let header = &responses["429"]["headers"]["Retry-After"];
            assert!(header.is_object(), "{method} {}: {responses}", route.template);
        }
    }

    #[test]
    fn the_body_of_a_put_is_described_as_it_is_read() {
        let json: serde_json::Value = serde_json::from_slice(&Docs::default().json).unwrap();
        let put = &json["components"]["schemas"]["PutSecret"];
        assert_eq!(put["required"], serde_json::json!(["value"]));
        assert_eq!(put["additionalProperties"], false);
        assert_eq!(put["properties"]["value"]["type"], serde_json::json!(["string", "null"]));
        assert_eq!(put["properties"]["expiresOn"]["type"], "string");
        assert_eq!(put["properties"]["notBefore"]["format"], "date-time");
    }

    #[test]
    fn the_page_calls_nobody_else() {
        let docs = Docs::default();
        let serve = |file: &str| serve_docs(file, &HeaderMap::new(), &docs);
        let response = serve("swagger-initializer.js").unwrap();
        let policy = response.headers().get(header::CONTENT_SECURITY_POLICY).unwrap();
        assert!(policy.to_str().unwrap().contains("connect-src 'self';"), "{policy:?}");
        assert!(serve("").is_ok() && serve("swagger-ui-bundle.js").is_ok());
        assert!(serve("nothing").is_err() && serve("../Cargo.toml").is_err());
    }

    #[test]
    fn a_compressed_file_is_for_who_takes_it() {
        let docs = Docs::default();
        let serve = |file: &str, takes: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(takes));
            serve_docs(file, &headers, &docs)
        };
        let script = serve("swagger-ui-bundle.js", "gzip, br").unwrap();
        assert_eq!(script.headers().get(header::CONTENT_ENCODING).unwrap(), "gzip");
        assert_eq!(script.headers().get(header::VARY).unwrap(), "Accept-Encoding");
        let refused = serve("swagger-ui-bundle.js", "identity").unwrap_err();
        assert_eq!(refused.code(), Code::NotAcceptable);
        let page = serve("", "identity").unwrap();
        assert_eq!(page.headers().get(header::CONTENT_ENCODING), None);
    }

    fn offer(host: &str, client_id: Option<&str>) -> Offer {
        let address = |path: &str| format!("https://{host}/{path}").parse().unwrap();
        Offer {
            authorization: address("authorize"),
            token: Some(address("token?policy=p")),
            client_id: client_id.map(str::to_owned),
            scopes: BTreeMap::from([
                ("t:read".to_owned(), Scope::SecretRead),
                ("t:all".to_owned(), Scope::All),
            ]),
        }
    }

    #[test]
    fn without_an_issuer_there_is_no_oauth2() {
        let json: serde_json::Value = serde_json::from_slice(&Docs::default().json).unwrap();
        let schemes = json["components"]["securitySchemes"].as_object().unwrap();
        assert_eq!(schemes.keys().collect::<Vec<_>>(), ["apiKey", "bearer"]);
    }

    #[test]
    fn an_issuer_is_a_way_to_sign_in_for_every_call_that_needs_a_credential() {
        let offers = BTreeMap::from([(0, offer("a.example", None)), (2, offer("b.example", None))]);
        let json: serde_json::Value = serde_json::from_slice(&Docs::with(&offers).json).unwrap();
        let scheme = &json["components"]["securitySchemes"]["oauth2"];
        assert_eq!(scheme["type"], "oauth2");
        let flows = &scheme["flows"];
        assert_eq!(flows["implicit"]["authorizationUrl"], "https://a.example/authorize");
        assert_eq!(flows["authorizationCode"]["tokenUrl"], "https://a.example/token?policy=p");
        assert_eq!(flows["implicit"]["scopes"]["t:read"], "Secret.Read");
        assert!(json["components"]["securitySchemes"]["oauth2-3"].is_object());
        for route in ROUTES {
            let method = route.method.as_str().to_lowercase();
            let security = &json["paths"][route.template][method]["security"];
            let word = match route.endpoint.access() {
                Access::Public => {
                    assert!(security.is_null(), "{}", route.template);
                    continue;
                }
                Access::ServerAdmin => {
                    assert_eq!(*security, serde_json::json!([{ "bearer": [] }]));
                    continue;
                }
                Access::Tenant(Operation::Read) => "t:read",
                Access::Tenant(Operation::Write) | Access::Administrator => "t:all",
            };
            for name in ["oauth2", "oauth2-3"] {
                let required = serde_json::json!({ name: [word] });
                assert!(security.as_array().unwrap().contains(&required), "{security}");
            }
        }
    }

    #[test]
    fn the_page_signs_in_as_the_client_configured_with_pkce_and_talks_to_its_issuer() {
        let offers =
            BTreeMap::from([(0, offer("a.example", None)), (1, offer("b.example", Some("docs")))]);
        let docs = Docs::with(&offers);
        let script = docs.page.file("swagger-initializer.js").unwrap();
        let script = String::from_utf8(script.bytes.to_vec()).unwrap();
        assert!(script.contains(r#""clientId": "docs""#), "{script}");
        assert!(script.contains(r#""usePkceWithAuthorizationCodeGrant": true"#), "{script}");
        let connect = "connect-src 'self' https://a.example/token https://b.example/token;";
        assert!(docs.policy.to_str().unwrap().contains(connect), "{:?}", docs.policy);
    }
}
