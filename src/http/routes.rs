//! The one table of routes. Dispatch, the `Allow` header, the OpenAPI document's
//! test and the matrix of route and credential all go through it: what has no row
//! is not served.
//!
//! Paths are matched as they came over the wire, undecoded: actix would turn
//! `%00` and `%FF` into something else before anyone could refuse them.

use actix_web::http::Method;

use crate::domain::Operation;

use super::metrics;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone who can reach the server.
    Public,
    /// A credential of the path's tenant with this operation.
    Tenant(Operation),
    /// A credential that may manage those of the path's tenant: for all of it, no API
    /// key, and a token only as it was minted.
    Administrator,
    /// A token for the server itself (`Server.Admin`), which is no tenant's.
    ServerAdmin,
}

/// What answers. Who may call it follows from it ([`Endpoint::access`]), so that a
/// row cannot say something else than what is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Health,
    Readiness,
    BiscuitKeys,
    Metrics,
    OpenApi,
    DocsRoot,
    Docs,
    Secret(SecretCall),
    ApiKeys(ApiKeyCall),
}

/// A call that needs a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretCall {
    Read,
    Write,
    WriteAll,
    Delete,
    List,
}

/// A call that manages API keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKeyCall {
    Create,
    List,
    Show,
    Revoke,
}

impl Endpoint {
    pub const fn access(self) -> Access {
        match self {
            Self::Secret(SecretCall::Read | SecretCall::List) => Access::Tenant(Operation::Read),
            Self::Secret(SecretCall::Write | SecretCall::WriteAll | SecretCall::Delete) => {
                Access::Tenant(Operation::Write)
            }
            Self::ApiKeys(_) => Access::Administrator,
            Self::Metrics => Access::ServerAdmin,
            Self::Health
            | Self::Readiness
            | Self::BiscuitKeys
            | Self::OpenApi
            | Self::DocsRoot
            | Self::Docs => Access::Public,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Route {
    pub method: Method,
    /// Segments, of which those in braces match anything. A last one in braces
    /// matches all that remains, slashes too: `/api/t/secrets/a/b` asks for a
    /// secret with a bad name, not for an unknown resource.
    pub template: &'static str,
    pub endpoint: Endpoint,
}

const fn route(method: Method, template: &'static str, endpoint: Endpoint) -> Route {
    Route { method, template, endpoint }
}

const SECRET: &str = "/api/{tenantId}/secrets/{key}";
const SECRETS: &str = "/api/{tenantId}/secrets";
const API_KEY: &str = "/api/{tenantId}/api-keys/{id}";
const API_KEYS: &str = "/api/{tenantId}/api-keys";

/// The first row that matches serves. Tenants stand before the documentation, so
/// that a tenant may be called `docs`.
pub static ROUTES: &[Route] = &[
    route(Method::GET, SECRET, Endpoint::Secret(SecretCall::Read)),
    route(Method::HEAD, SECRET, Endpoint::Secret(SecretCall::Read)),
    route(Method::PUT, SECRET, Endpoint::Secret(SecretCall::Write)),
    route(Method::DELETE, SECRET, Endpoint::Secret(SecretCall::Delete)),
    route(Method::GET, SECRETS, Endpoint::Secret(SecretCall::List)),
    route(Method::POST, SECRETS, Endpoint::Secret(SecretCall::WriteAll)),
    route(Method::GET, API_KEY, Endpoint::ApiKeys(ApiKeyCall::Show)),
    route(Method::DELETE, API_KEY, Endpoint::ApiKeys(ApiKeyCall::Revoke)),
    route(Method::GET, API_KEYS, Endpoint::ApiKeys(ApiKeyCall::List)),
    route(Method::POST, API_KEYS, Endpoint::ApiKeys(ApiKeyCall::Create)),
    route(Method::GET, "/healthz", Endpoint::Health),
    route(Method::GET, "/readyz", Endpoint::Readiness),
    route(Method::GET, "/.well-known/biscuit-keys", Endpoint::BiscuitKeys),
    route(Method::GET, metrics::PATH, Endpoint::Metrics),
    route(Method::GET, "/api/openapi.json", Endpoint::OpenApi),
    route(Method::GET, "/api/docs", Endpoint::DocsRoot),
    route(Method::GET, "/api/docs/{file}", Endpoint::Docs),
];

/// What a template's braces stood for, undecoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Captures<'p> {
    /// A segment in the middle.
    pub segment: &'p str,
    /// All that remained.
    pub tail: &'p str,
}

#[derive(Debug)]
pub(super) enum Found<'p> {
    Route(&'static Route, Captures<'p>),
    /// The path is known, the method is not: these are.
    OtherMethods(String),
    Nothing,
}

pub(super) fn find<'p>(method: &Method, path: &'p str) -> Found<'p> {
    let mut known: Option<&'static str> = None;
    for route in ROUTES {
        if known.is_some_and(|template| template != route.template) {
            break;
        }
        if let Some(captures) = captures(route.template, path) {
            if route.method == *method {
                return Found::Route(route, captures);
            }
            known = Some(route.template);
        }
    }
    known.map_or(Found::Nothing, |template| Found::OtherMethods(methods(template)))
}

fn methods(template: &str) -> String {
    let of_template = ROUTES.iter().filter(|route| route.template == template);
    of_template.map(|route| route.method.as_str()).collect::<Vec<_>>().join(", ")
}

fn captures<'p>(template: &str, path: &'p str) -> Option<Captures<'p>> {
    let mut captures = Captures::default();
    let mut template = template.strip_prefix('/')?;
    let mut path = path.strip_prefix('/')?;
    loop {
        match (template.split_once('/'), path.split_once('/')) {
            (None, _) if template.starts_with('{') => {
                captures.tail = path;
                return Some(captures);
            }
            (None, None) if template == path => return Some(captures),
            (Some((expected, template_rest)), Some((segment, path_rest))) => {
                if expected.starts_with('{') {
                    captures.segment = segment;
                } else if expected != segment {
                    return None;
                }
                (template, path) = (template_rest, path_rest);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(method: Method, path: &str) -> Option<(Endpoint, Captures<'_>)> {
        match find(&method, path) {
            Found::Route(route, captures) => Some((route.endpoint, captures)),
            _ => None,
        }
    }

    #[test]
    fn a_secret_is_what_follows_the_tenant() {
        for (path, segment, tail) in [
            ("/api/t/secrets/k", "t", "k"),
            ("/api/t/secrets/", "t", ""),
            ("/api/t/secrets/a/b", "t", "a/b"),
            ("/api//secrets/k", "", "k"),
            ("/api/../secrets/..", "..", ".."),
            ("/api/%2F/secrets/%00", "%2F", "%00"),
            ("/api/docs/secrets/k", "docs", "k"),
        ] {
            let found = endpoint(Method::GET, path);
            assert_eq!(
                found,
                Some((Endpoint::Secret(SecretCall::Read), Captures { segment, tail })),
                "{path}"
            );
        }
        let list = endpoint(Method::GET, "/api/docs/secrets");
        assert!(matches!(list, Some((Endpoint::Secret(SecretCall::List), _))));
    }

    #[test]
    fn documentation_is_found_below_its_folder() {
        assert!(matches!(endpoint(Method::GET, "/api/docs"), Some((Endpoint::DocsRoot, _))));
        for (path, tail) in [("/api/docs/", ""), ("/api/docs/index.css", "index.css")] {
            let found = endpoint(Method::GET, path);
            assert_eq!(found, Some((Endpoint::Docs, Captures { segment: "", tail })), "{path}");
        }
    }

    #[test]
    fn other_paths_are_nothing() {
        for path in [
            "",
            "/",
            "/api",
            "/api/",
            "/api/t",
            "/api/t/",
            "/api/t/Secrets",
            "/healthz/",
            "//healthz",
            "/api/a/b/secrets/k",
            "*",
            "/api/t/secretsx",
        ] {
            assert!(matches!(find(&Method::GET, path), Found::Nothing), "{path}");
        }
    }

    #[test]
    fn a_known_path_tells_its_methods() {
        let allow = |method, path| match find(&method, path) {
            Found::OtherMethods(allow) => allow,
            other => panic!("{other:?}"),
        };
        assert_eq!(allow(Method::OPTIONS, "/api/t/secrets/k"), "GET, HEAD, PUT, DELETE");
        assert_eq!(allow(Method::PUT, "/api/t/secrets"), "GET, POST");
        assert_eq!(allow(Method::PUT, "/api/docs/index.css"), "GET");
    }

    #[test]
    fn rows_of_one_template_stand_together() {
        let mut seen: Vec<&str> = Vec::new();
        for route in ROUTES {
            if seen.last() != Some(&route.template) {
                assert!(!seen.contains(&route.template), "{}", route.template);
                seen.push(route.template);
            }
        }
    }
}
