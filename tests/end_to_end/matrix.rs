//! Route x credential x scope x tenant. It goes through the server's own table of
//! routes: one that has no row here does not compile.

use tenure::http::{Endpoint, ROUTES, Route, SecretCall};

use crate::support::tokens::{foreign, narrowed, of_unknown_root};
use crate::support::{Answer, Client, Dev, Inside, Issued, Operated, Request};

/// Where a request goes: two tenants, one that was deleted, one that was deleted
/// and made again, and one that never was.
const TENANTS: [&str; 5] = ["alpha", "beta", "gone", "again", "never"];
/// Those that exist.
const LIVE: [&str; 3] = ["alpha", "beta", "again"];
const KEY: &str = "k";

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Garbage,
    Expired,
    /// Signed by another server's root, for a tenant that exists.
    Foreign,
    UnknownRoot,
    Read(&'static str),
    Write(&'static str),
    ReadWrite(&'static str),
    All(&'static str),
    /// A token for all, narrowed to other names.
    Narrowed(&'static str),
    /// From before its tenant was deleted.
    Outlived(&'static str),
    /// A token of another issuer, for this tenant.
    Of(&'static str, Issued),
}

const HOLDERS: [Holder; 26] = [
    Holder::Nobody,
    Holder::Garbage,
    Holder::Expired,
    Holder::Foreign,
    Holder::UnknownRoot,
    Holder::Read("alpha"),
    Holder::Write("alpha"),
    Holder::ReadWrite("alpha"),
    Holder::All("alpha"),
    Holder::Narrowed("alpha"),
    Holder::All("beta"),
    Holder::All("again"),
    Holder::Outlived("gone"),
    Holder::Outlived("again"),
    Holder::Of("alpha", Issued::With("Secret.Read")),
    Holder::Of("alpha", Issued::With("Secret.Write")),
    Holder::Of("alpha", Issued::With("openid Secret.Read Secret.Write")),
    Holder::Of("alpha", Issued::With("*")),
    Holder::Of("alpha", Issued::With("openid Server.Admin")),
    Holder::Of("again", Issued::With("*")),
    Holder::Of("gone", Issued::With("*")),
    Holder::Of("alpha", Issued::Expired),
    Holder::Of("alpha", Issued::NotYetValid),
    Holder::Of("alpha", Issued::ForOthers),
    Holder::Of("alpha", Issued::ByOthers),
    Holder::Of("alpha", Issued::Forged),
];

struct World<'s> {
    server: &'s dyn Operated,
    tokens: Vec<(Holder, Option<String>)>,
    owners: Vec<(&'static str, String)>,
    client: Client,
}

impl<'s> World<'s> {
    /// `expired`: a token of alpha that no longer is one, where there can be one.
    fn new(server: &'s dyn Operated, expired: Option<String>) -> Self {
        let ids = ["alpha", "beta", "gone", "again"].map(|name| server.create_tenant(name));
        let outlived = ["gone", "again"].map(|name| server.mint(name, &["*"]));
        server.delete_tenant("gone");
        server.delete_tenant("again");
        server.create_tenant("again");
        let owners = LIVE.map(|name| (name, server.mint(name, &["*"]))).to_vec();
        let token = |holder| match holder {
            Holder::Nobody => None,
            Holder::Garbage => Some("garbage".to_owned()),
            Holder::Expired => expired.clone(),
            Holder::Foreign => Some(foreign("alpha", &ids[0])),
            Holder::UnknownRoot => Some(of_unknown_root("alpha", &ids[0])),
            Holder::Read(tenant) => Some(server.mint(tenant, &["Secret.Read"])),
            Holder::Write(tenant) => Some(server.mint(tenant, &["Secret.Write"])),
            Holder::ReadWrite(tenant) => {
                Some(server.mint(tenant, &["Secret.Read", "Secret.Write"]))
            }
            Holder::All(tenant) => Some(server.mint(tenant, &["*"])),
            Holder::Narrowed(tenant) => {
                Some(narrowed(&server.mint(tenant, &["*"]), r#"check if resource("other")"#))
            }
            Holder::Outlived("gone") => Some(outlived[0].clone()),
            Holder::Outlived(_) => Some(outlived[1].clone()),
            Holder::Of(tenant, said) => server.issue(tenant, said),
        };
        let tokens = HOLDERS.map(|holder| (holder, token(holder))).into_iter();
        let tokens = tokens.filter(|(holder, token)| *holder == Holder::Nobody || token.is_some());
        let tokens = tokens.collect();
        Self { server, tokens, owners, client: Client::new(server.address()) }
    }

    fn owner(&self, tenant: &str) -> &str {
        let (_, token) = self.owners.iter().find(|(name, _)| *name == tenant).unwrap();
        token
    }

    /// In every tenant there is one secret, which names its tenant.
    fn restore(&mut self) {
        for tenant in LIVE {
            let body = format!(r#"{{"value":"treasure of {tenant}"}}"#);
            let put = Request::put(path(tenant, KEY), body).bearer(self.owner(tenant));
            assert_eq!(self.client.send(&put).status, 204);
        }
    }

    /// Values and versions, as their owners see them.
    fn state(&mut self) -> Vec<Answer> {
        let gets = LIVE.map(|tenant| Request::get(path(tenant, KEY)).bearer(self.owner(tenant)));
        gets.iter().map(|get| self.client.send(get).comparable()).collect()
    }
}

fn path(tenant: &str, key: &str) -> String {
    format!("/api/{tenant}/secrets/{key}")
}

fn request(route: &Route, tenant: &str, token: Option<&str>) -> Request {
    let target = route.template.replace("{tenantId}", tenant).replace("{key}", KEY);
    let target = target.replace("{file}", "index.css");
    assert!(!target.contains('{'), "{target}: what stands for this brace?");
    let mut request = Request::new(route.method.as_str(), target);
    if route.method == "PUT" {
        request = request.header("Content-Type", "application/json").body(r#"{"value":"changed"}"#);
    }
    match token {
        Some(token) => request.bearer(token),
        None => request,
    }
}

/// What is to come of it: a status and, where it is refused, a code.
fn expected(endpoint: Endpoint, holder: Holder, tenant: &str) -> (u16, Option<&'static str>) {
    let (operation, success) = match endpoint {
        // Whoever asks, and whatever they carry.
        Endpoint::Health
        | Endpoint::Readiness
        | Endpoint::BiscuitKeys
        | Endpoint::OpenApi
        | Endpoint::Docs => return (200, None),
        Endpoint::DocsRoot => return (308, None),
        Endpoint::Secret(SecretCall::Read) => (Need::Read, 200),
        Endpoint::Secret(SecretCall::List) => (Need::List, 200),
        Endpoint::Secret(SecretCall::Write) => (Need::Write, 204),
        Endpoint::Secret(SecretCall::Delete) => (Need::Write, 204),
    };
    let (own, allowed) = match holder {
        Holder::Nobody => return (401, Some("credential_missing")),
        Holder::Garbage | Holder::Foreign | Holder::UnknownRoot | Holder::Outlived(_) => {
            return (401, Some("credential_invalid"));
        }
        Holder::Expired => return (401, Some("token_expired")),
        Holder::Read(own) => (own, operation != Need::Write),
        Holder::Write(own) => (own, operation == Need::Write),
        Holder::ReadWrite(own) | Holder::All(own) => (own, true),
        // It may list what it may read.
        Holder::Narrowed(own) => (own, operation == Need::List),
        Holder::Of("gone", _) => return (401, Some("credential_invalid")),
        Holder::Of(own, Issued::With(scopes)) => {
            let needed = if operation == Need::Write { "Secret.Write" } else { "Secret.Read" };
            (own, scopes.split(' ').any(|scope| scope == needed || scope == "*"))
        }
        Holder::Of(_, Issued::Expired) => return (401, Some("token_expired")),
        Holder::Of(..) => return (401, Some("credential_invalid")),
    };
    if own == tenant && allowed { (success, None) } else { (403, Some("forbidden")) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Read,
    List,
    Write,
}

fn hold(world: &mut World<'_>) {
    let holders = world.tokens.clone();
    for route in ROUTES {
        for (holder, token) in &holders {
            for tenant in TENANTS {
                world.restore();
                let before = world.state();
                let answer = world.client.send(&request(route, tenant, token.as_deref()));
                let what = format!(
                    "{} {} in {tenant} by {holder:?}: {answer:?}",
                    route.method, route.template
                );
                let (status, code) = expected(route.endpoint, *holder, tenant);
                assert_eq!(answer.status, status, "{what}");
                answer.assert_proper();
                let head = route.method == "HEAD";
                if let Some(code) = code.filter(|_| !head) {
                    assert_eq!(answer.code(), code, "{what}");
                }
                tells_only_what_it_may(route.endpoint, *holder, tenant, &answer, head);
                let changes = matches!(
                    route.endpoint,
                    Endpoint::Secret(SecretCall::Write | SecretCall::Delete)
                );
                let after = world.state();
                let changed = after != before;
                assert_eq!(changed, changes && code.is_none(), "{what}: {before:?} {after:?}");
            }
        }
    }
}

fn tells_only_what_it_may(
    endpoint: Endpoint,
    holder: Holder,
    tenant: &str,
    answer: &Answer,
    head: bool,
) {
    let text = String::from_utf8_lossy(&answer.body);
    match (endpoint, answer.status) {
        (Endpoint::Secret(SecretCall::Read), 200) if !head => {
            assert_eq!(answer.json(), format!("treasure of {tenant}"));
        }
        (Endpoint::Secret(SecretCall::List), 200) => {
            let narrowed = matches!(holder, Holder::Narrowed(_));
            assert_eq!(text, if narrowed { "[]" } else { r#"["k"]"# });
        }
        (Endpoint::Secret(_), _) => assert!(!text.contains("treasure"), "{text}"),
        _ => {}
    }
}

#[test]
fn every_route_asks_for_its_right_and_for_its_tenant() {
    let inside = Inside::start();
    inside.create_tenant("short");
    inside.delete_tenant("short");
    let mut world = World::new(&inside, None);
    // The clock passes over the expiry of this one only.
    let expired = inside.mint_for("alpha", &["*"], 5);
    inside.pass(5);
    world.tokens.push((Holder::Expired, Some(expired)));
    hold(&mut world);
}

#[test]
fn every_route_of_the_program_asks_for_its_right_and_for_its_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("RUST_LOG", "warn");
    });
    hold(&mut World::new(&dev, None));
}

/// Every way to ask about one path.
fn asked(world: &World<'_>, tenant: &str, token: &str) -> Vec<Answer> {
    let secrets = ROUTES.iter().filter(|route| matches!(route.endpoint, Endpoint::Secret(_)));
    let requests = secrets.map(|route| request(route, tenant, Some(token)));
    requests.map(|request| world.server.send(&request).comparable()).collect()
}

#[test]
fn a_stranger_cannot_tell_whether_a_tenant_or_a_secret_exists() {
    let inside = Inside::start();
    let world = World::new(&inside, None);
    let strangers: Vec<_> = world
        .tokens
        .iter()
        .filter(|(holder, _)| !matches!(holder, Holder::Nobody))
        .filter_map(|(_, token)| token.clone())
        .collect();
    let all = || strangers.iter().map(|token| asked(&world, "target", token)).collect::<Vec<_>>();
    let never = all();
    for answers in never.iter().flatten() {
        assert!(matches!(answers.status, 401 | 403), "{answers:?}");
    }
    inside.create_tenant("target");
    assert_eq!(all(), never, "an empty tenant");
    let owner = inside.mint("target", &["*"]);
    let put = |body: String| {
        let put = Request::put(path("target", KEY), body).bearer(&owner);
        assert_eq!(inside.send(&put).status, 204);
    };
    put(r#"{"value":"x"}"#.to_owned());
    assert_eq!(all(), never, "a secret");
    put(format!(r#"{{"value":"x","notBefore":"{}"}}"#, inside.at(60)));
    assert_eq!(all(), never, "a pending secret");
    put(format!(r#"{{"value":"x","expiresOn":"{}"}}"#, inside.at(-60)));
    assert_eq!(all(), never, "an expired secret");
    inside.delete_tenant("target");
    assert_eq!(all(), never, "a deleted tenant");
    inside.create_tenant("target");
    assert_eq!(all(), never, "a tenant made again");
}

#[test]
fn who_may_not_read_a_secret_cannot_tell_whether_it_exists() {
    let inside = Inside::start();
    let world = World::new(&inside, None);
    let owner = world.owner("alpha").to_owned();
    let reading = inside.mint("alpha", &["Secret.Read"]);
    let writing = inside.mint("alpha", &["Secret.Write"]);
    let narrow = narrowed(&owner, r#"check if resource($r), $r.starts_with("other-")"#);
    let secret = || path("alpha", "s");
    let ask = || {
        let requests = [
            Request::put(secret(), r#"{"value":"x"}"#).bearer(&reading),
            Request::delete(secret()).bearer(&reading),
            Request::get(secret()).bearer(&writing),
            Request::new("HEAD", secret()).bearer(&writing),
            Request::get("/api/alpha/secrets").bearer(&writing),
            Request::get(secret()).bearer(&narrow),
            Request::new("HEAD", secret()).bearer(&narrow),
            Request::put(secret(), r#"{"value":"x"}"#).bearer(&narrow),
            Request::put(secret(), r#"{"value":"x"}"#).header("If-Match", "*").bearer(&narrow),
            Request::delete(secret()).bearer(&narrow),
            Request::get("/api/alpha/secrets").bearer(&narrow),
        ];
        requests.map(|request| inside.send(&request).comparable())
    };
    let absent = ask();
    let put = Request::put(secret(), r#"{"value":"x"}"#).bearer(&owner);
    assert_eq!(inside.send(&put).status, 204);
    assert_eq!(ask(), absent);
}
