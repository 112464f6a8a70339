//! Route x credential kind x scope x tenant x state. It goes through the server's own
//! table of routes: one that has no row here does not compile. A further kind of
//! credential is further holders, and further arms of `World::credential` and
//! `expected`.

use tenure::http::{ApiKeyCall, Endpoint, ROUTES, Route, SecretCall};

use crate::support::tokens::{foreign, narrowed, of_unknown_root};
use crate::support::{Answer, ApiKey, Client, Dev, Inside, Issued, Operated, Request};

/// Where a request goes: two tenants, one that was deleted, one that was deleted
/// and made again, and one that never was.
const TENANTS: [&str; 5] = ["alpha", "beta", "gone", "again", "never"];
/// Those that exist.
const LIVE: [&str; 3] = ["alpha", "beta", "again"];
const KEY: &str = "k";

/// Whose credential a request carries, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    // Tokens.
    Garbage,
    Expired,
    /// Signed by another server's root, for a tenant that exists.
    Foreign,
    UnknownRoot,
    Revoked,
    Read(&'static str),
    Write(&'static str),
    ReadWrite(&'static str),
    All(&'static str),
    /// A token for all, narrowed to other names.
    Narrowed(&'static str),
    /// A token for all, narrowed to a time that has not come.
    NotYet(&'static str),
    /// A token for all, with a block that takes nothing away.
    Lengthened(&'static str),
    /// From before its tenant was deleted.
    Outlived(&'static str),
    // API keys.
    KeyOfNobody,
    KeyExpired,
    KeyRevoked,
    KeyRead(&'static str),
    KeyWrite(&'static str),
    KeyAll(&'static str),
    KeyOutlived(&'static str),
    /// A token as an API key.
    TokenAsKey,
    /// A token for the server itself.
    ServerAdmin,
    /// The same, narrowed to a time that goes on.
    ServerAdminUntil,
    /// The same, narrowed to a time that has not come.
    ServerAdminNotYet,
    /// The same, narrowed to something of a secret's, which it has none of.
    ServerAdminToRead,
    ServerAdminRevoked,
    /// A token of another issuer, for this tenant.
    Of(&'static str, Issued),
}

const HOLDERS: [Holder; 42] = [
    Holder::Nobody,
    Holder::Garbage,
    Holder::Expired,
    Holder::Foreign,
    Holder::UnknownRoot,
    Holder::Revoked,
    Holder::Read("alpha"),
    Holder::Write("alpha"),
    Holder::ReadWrite("alpha"),
    Holder::All("alpha"),
    Holder::Narrowed("alpha"),
    Holder::NotYet("alpha"),
    Holder::Lengthened("alpha"),
    Holder::All("beta"),
    Holder::All("again"),
    Holder::Outlived("gone"),
    Holder::Outlived("again"),
    Holder::KeyOfNobody,
    Holder::KeyExpired,
    Holder::KeyRevoked,
    Holder::KeyRead("alpha"),
    Holder::KeyWrite("alpha"),
    Holder::KeyAll("alpha"),
    Holder::KeyOutlived("again"),
    Holder::TokenAsKey,
    Holder::ServerAdmin,
    Holder::ServerAdminUntil,
    Holder::ServerAdminNotYet,
    Holder::ServerAdminToRead,
    Holder::ServerAdminRevoked,
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

/// What is sent.
#[derive(Debug, Clone)]
enum Sent {
    Nothing,
    Bearer(String),
    Key(String),
}

impl Sent {
    fn with(&self, request: Request) -> Request {
        match self {
            Self::Nothing => request,
            Self::Bearer(token) => request.bearer(token),
            Self::Key(key) => request.api_key(key),
        }
    }
}

/// Credentials that were good before the world began.
#[derive(Clone)]
struct Before {
    outlived: [String; 2],
    key_outlived: ApiKey,
    alpha_id: String,
    /// Of alpha, where there can be any: a token and a key that have expired.
    expired: Option<(String, String)>,
}

struct World<'s> {
    server: &'s dyn Operated,
    sent: Vec<(Holder, Sent)>,
    owners: Vec<(&'static str, String)>,
    /// The id of an API key of each tenant, if it has one.
    keys: Vec<(&'static str, String)>,
    client: Client,
}

impl<'s> World<'s> {
    /// `expired`: makes a token and a key of alpha that no longer are any.
    fn new(server: &'s dyn Operated, expired: impl FnOnce() -> Option<(String, String)>) -> Self {
        let ids = ["alpha", "beta", "gone", "again"].map(|name| server.create_tenant(name));
        let outlived = ["gone", "again"].map(|name| server.mint(name, &["*"]));
        let key_outlived = server.api_key("again", &["*"]);
        server.delete_tenant("gone");
        server.delete_tenant("again");
        server.create_tenant("again");
        let [alpha_id, ..] = ids;
        let before = Before { outlived, key_outlived, alpha_id, expired: expired() };
        let owners = LIVE.map(|name| (name, server.mint(name, &["*"]))).to_vec();
        let sent = HOLDERS
            .into_iter()
            .filter_map(|holder| Some((holder, Self::credential(server, &before, holder)?)));
        let sent = sent.collect();
        let client = Client::new(server.address());
        Self { server, sent, owners, keys: Vec::new(), client }
    }

    /// `None` where there can be none.
    fn credential(server: &dyn Operated, before: &Before, holder: Holder) -> Option<Sent> {
        let token = |token: String| Some(Sent::Bearer(token));
        let narrow =
            |tenant: &str, check: &str| token(narrowed(&server.mint(tenant, &["*"]), check));
        let narrow_server = |check: &str| token(narrowed(&server.mint_server_admin(), check));
        let key = |key: String| Some(Sent::Key(key));
        match holder {
            Holder::Nobody => Some(Sent::Nothing),
            Holder::Garbage => token("garbage".to_owned()),
            Holder::Expired => token(before.expired.clone()?.0),
            Holder::Foreign => token(foreign("alpha", &before.alpha_id)),
            Holder::UnknownRoot => token(of_unknown_root("alpha", &before.alpha_id)),
            Holder::Revoked => {
                let revoked = server.mint("alpha", &["*"]);
                server.revoke_token(&revoked);
                token(revoked)
            }
            Holder::Read(tenant) => token(server.mint(tenant, &["Secret.Read"])),
            Holder::Write(tenant) => token(server.mint(tenant, &["Secret.Write"])),
            Holder::ReadWrite(tenant) => {
                token(server.mint(tenant, &["Secret.Read", "Secret.Write"]))
            }
            Holder::All(tenant) => token(server.mint(tenant, &["*"])),
            Holder::Narrowed(tenant) => narrow(tenant, r#"check if resource("other")"#),
            Holder::NotYet(tenant) => {
                narrow(tenant, "check if time($t), $t > 2200-01-01T00:00:00Z")
            }
            Holder::Lengthened(tenant) => narrow(tenant, ""),
            Holder::Outlived("gone") => token(before.outlived[0].clone()),
            Holder::Outlived(_) => token(before.outlived[1].clone()),
            Holder::KeyOfNobody => key(format!("tnr_{}_{}", "0".repeat(16), "A".repeat(43))),
            Holder::KeyExpired => key(before.expired.clone()?.1),
            Holder::KeyRevoked => {
                let ApiKey { id, key: text } = server.api_key("alpha", &["*"]);
                server.revoke_api_key(&id);
                key(text)
            }
            Holder::KeyRead(tenant) => key(server.api_key(tenant, &["Secret.Read"]).key),
            Holder::KeyWrite(tenant) => key(server.api_key(tenant, &["Secret.Write"]).key),
            Holder::KeyAll(tenant) => key(server.api_key(tenant, &["*"]).key),
            Holder::KeyOutlived(_) => key(before.key_outlived.key.clone()),
            Holder::TokenAsKey => key(server.mint("alpha", &["*"])),
            Holder::ServerAdmin => token(server.mint_server_admin()),
            Holder::ServerAdminUntil => {
                narrow_server("check if time($t), $t < 2200-01-01T00:00:00Z")
            }
            Holder::ServerAdminNotYet => {
                narrow_server("check if time($t), $t > 2200-01-01T00:00:00Z")
            }
            Holder::ServerAdminToRead => narrow_server(r#"check if operation("read")"#),
            Holder::ServerAdminRevoked => {
                let revoked = server.mint_server_admin();
                server.revoke_token(&revoked);
                token(revoked)
            }
            Holder::Of(tenant, said) => token(server.issue(tenant, said)?),
        }
    }

    fn owner(&self, tenant: &str) -> &str {
        let (_, token) = self.owners.iter().find(|(name, _)| *name == tenant).unwrap();
        token
    }

    /// In every tenant there is one secret, which names its tenant, and an API key.
    fn restore(&mut self) {
        self.keys.clear();
        for tenant in LIVE {
            let body = format!(r#"{{"value":"treasure of {tenant}"}}"#);
            let put = Request::put(path(tenant, KEY), body).bearer(self.owner(tenant));
            assert_eq!(self.client.send(&put).status, 204);
            let post = Request::post(keys_of(tenant), NEW_KEY).bearer(self.owner(tenant));
            let made = self.client.send(&post);
            assert_eq!(made.status, 201);
            self.keys.push((tenant, made.json()["id"].as_str().expect("an id").to_owned()));
        }
    }

    /// Values and versions, and which API keys there are, as their owners see them.
    fn state(&mut self) -> Vec<Answer> {
        let asked = LIVE.into_iter().flat_map(|tenant| {
            let gets = [path(tenant, KEY), keys_of(tenant)].map(Request::get);
            gets.map(|get| get.bearer(self.owner(tenant)))
        });
        let asked: Vec<_> = asked.collect();
        asked.iter().map(|get| without_last_use(self.client.send(get).comparable())).collect()
    }

    /// Of a tenant that has none: one that nobody has.
    fn key_of(&self, tenant: &str) -> &str {
        let found = self.keys.iter().find(|(name, _)| *name == tenant);
        found.map_or("00000000deadbeef", |(_, id)| id)
    }

    fn request(&self, route: &Route, tenant: &str, sent: &Sent) -> Request {
        let target = route.template.replace("{tenantId}", tenant).replace("{key}", KEY);
        let target = target.replace("{file}", "index.css").replace("{id}", self.key_of(tenant));
        assert!(!target.contains('{'), "{target}: what stands for this brace?");
        sent.with(match route.method.as_str() {
            "PUT" => Request::put(target, r#"{"value":"changed"}"#),
            "POST" if route.endpoint == Endpoint::Secret(SecretCall::WriteAll) => {
                Request::post(target, NEW_SECRETS)
            }
            "POST" => Request::post(target, NEW_KEY),
            method => Request::new(method, target),
        })
    }
}

const NEW_KEY: &str = r#"{"scopes":["Secret.Read"]}"#;
const NEW_SECRETS: &str = r#"{"secrets":[{"name":"k","value":"changed"}]}"#;

/// A use of a key changes nothing that matters here.
fn without_last_use(mut answer: Answer) -> Answer {
    if let Ok(serde_json::Value::Array(mut keys)) = serde_json::from_slice(&answer.body) {
        keys.iter_mut().for_each(|key| key["lastUsedOn"] = serde_json::Value::Null);
        answer.body = serde_json::to_vec(&keys).expect("JSON");
        answer.headers.retain(|(name, _)| name != "content-length");
    }
    answer
}

fn path(tenant: &str, key: &str) -> String {
    format!("/api/{tenant}/secrets/{key}")
}

fn keys_of(tenant: &str) -> String {
    format!("/api/{tenant}/api-keys")
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
        Endpoint::Metrics => (Need::Server, 200),
        Endpoint::Secret(SecretCall::Read) => (Need::Read, 200),
        Endpoint::Secret(SecretCall::List) => (Need::List, 200),
        Endpoint::Secret(SecretCall::Write) => (Need::Write, 204),
        Endpoint::Secret(SecretCall::WriteAll) => (Need::Write, 200),
        Endpoint::Secret(SecretCall::Delete) => (Need::Write, 204),
        Endpoint::ApiKeys(ApiKeyCall::Create) => (Need::Manage, 201),
        Endpoint::ApiKeys(ApiKeyCall::List | ApiKeyCall::Show) => (Need::Manage, 200),
        Endpoint::ApiKeys(ApiKeyCall::Revoke) => (Need::Manage, 204),
    };
    let (own, allowed) = match holder {
        Holder::Nobody => return (401, Some("credential_missing")),
        Holder::Garbage
        | Holder::Foreign
        | Holder::UnknownRoot
        | Holder::Revoked
        | Holder::Outlived(_)
        | Holder::KeyOfNobody
        | Holder::KeyRevoked
        | Holder::KeyOutlived(_)
        | Holder::TokenAsKey
        | Holder::ServerAdminRevoked => return (401, Some("credential_invalid")),
        Holder::Expired => return (401, Some("token_expired")),
        Holder::KeyExpired => return (401, Some("api_key_expired")),
        // It has nothing of any tenant's, and is for nothing else than this.
        Holder::ServerAdmin | Holder::ServerAdminUntil => {
            let allowed = operation == Need::Server;
            return if allowed { (success, None) } else { (403, Some("forbidden")) };
        }
        Holder::ServerAdminNotYet | Holder::ServerAdminToRead => return (403, Some("forbidden")),
        Holder::Read(own) | Holder::KeyRead(own) => {
            (own, matches!(operation, Need::Read | Need::List))
        }
        Holder::Write(own) | Holder::KeyWrite(own) => (own, operation == Need::Write),
        Holder::All(own) => (own, operation != Need::Server),
        Holder::ReadWrite(own) | Holder::Lengthened(own) | Holder::KeyAll(own) => {
            (own, !matches!(operation, Need::Manage | Need::Server))
        }
        // It may list what it may read.
        Holder::Narrowed(own) => (own, operation == Need::List),
        Holder::NotYet(own) => (own, false),
        Holder::Of("gone", _) => return (401, Some("credential_invalid")),
        Holder::Of(own, Issued::With(scopes)) => {
            let needed = match operation {
                Need::Read | Need::List => "Secret.Read",
                Need::Write => "Secret.Write",
                Need::Manage => "*",
                Need::Server => "",
            };
            let is_it = |scope: &str| scope == needed || scope == "*";
            (own, operation != Need::Server && scopes.split(' ').any(is_it))
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
    Manage,
    /// How the server fares: of no tenant.
    Server,
}

fn hold(world: &mut World<'_>) {
    let holders = world.sent.clone();
    world.restore();
    let mut before = world.state();
    for route in ROUTES {
        for (holder, sent) in &holders {
            for tenant in TENANTS {
                let answer = world.client.send(&world.request(route, tenant, sent));
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
                    Endpoint::Secret(SecretCall::Write | SecretCall::WriteAll | SecretCall::Delete)
                        | Endpoint::ApiKeys(ApiKeyCall::Create | ApiKeyCall::Revoke)
                );
                let after = world.state();
                let changed = after != before;
                assert_eq!(changed, changes && code.is_none(), "{what}: {before:?} {after:?}");
                if changed {
                    world.restore();
                    before = world.state();
                }
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
        (Endpoint::ApiKeys(ApiKeyCall::Create), 201) => assert!(text.contains(r#""key":"tnr_"#)),
        (Endpoint::ApiKeys(_), _) => assert!(!text.contains("tnr_"), "{text}"),
        (Endpoint::Metrics, 200) => assert!(text.contains("tenure_ready 1"), "{text}"),
        (Endpoint::Metrics, _) => assert!(!text.contains("tenure_ready"), "{text}"),
        _ => {}
    }
}

#[test]
fn every_route_asks_for_its_right_and_for_its_tenant() {
    let inside = Inside::start();
    inside.create_tenant("short");
    inside.delete_tenant("short");
    // The clock passes over the expiry of these only.
    let expired = || {
        let token = inside.mint_for("alpha", &["*"], 5);
        let key = inside.api_key_for("alpha", &["*"], Some(5));
        inside.pass(5);
        Some((token, key.key))
    };
    hold(&mut World::new(&inside, expired));
}

#[test]
fn every_route_of_the_program_asks_for_its_right_and_for_its_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("RUST_LOG", "warn");
    });
    hold(&mut World::new(&dev, || None));
}

/// Every way to ask about one path.
fn asked(world: &World<'_>, tenant: &str, sent: &Sent) -> Vec<Answer> {
    let ours =
        |route: &&Route| matches!(route.endpoint, Endpoint::Secret(_) | Endpoint::ApiKeys(_));
    let requests = ROUTES.iter().filter(ours).map(|route| world.request(route, tenant, sent));
    requests.map(|request| world.server.send(&request).comparable()).collect()
}

#[test]
fn a_stranger_cannot_tell_whether_a_tenant_or_a_secret_exists() {
    let inside = Inside::start();
    let world = World::new(&inside, || None);
    let strangers = || world.sent.iter().map(|(_, sent)| sent);
    let all = || strangers().map(|sent| asked(&world, "target", sent)).collect::<Vec<_>>();
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
    let key = Request::post(keys_of("target"), NEW_KEY).bearer(&owner);
    assert_eq!(inside.send(&key).status, 201);
    assert_eq!(all(), never, "an API key");
    inside.delete_tenant("target");
    assert_eq!(all(), never, "a deleted tenant");
    inside.create_tenant("target");
    assert_eq!(all(), never, "a tenant made again");
}

#[test]
fn who_may_not_read_a_secret_cannot_tell_whether_it_exists() {
    let inside = Inside::start();
    let world = World::new(&inside, || None);
    let owner = world.owner("alpha").to_owned();
    let reading = inside.mint("alpha", &["Secret.Read"]);
    let writing = inside.mint("alpha", &["Secret.Write"]);
    let key_to_write = inside.api_key("alpha", &["Secret.Write"]);
    let narrow = narrowed(&owner, r#"check if resource($r), $r.starts_with("other-")"#);
    let secret = || path("alpha", "s");
    let both = r#"{"secrets":[{"name":"other-1","value":"x"},
        {"name":"s","value":"x","ifNoneMatch":"*"}]}"#;
    let ask = || {
        let requests = [
            Request::get(secret()).api_key(&key_to_write.key),
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
            Request::post("/api/alpha/secrets", both).bearer(&reading),
            Request::post("/api/alpha/secrets", both).bearer(&narrow),
            Request::get("/api/alpha/secrets").bearer(&narrow),
        ];
        requests.map(|request| inside.send(&request).comparable())
    };
    let absent = ask();
    let put = Request::put(secret(), r#"{"value":"x"}"#).bearer(&owner);
    assert_eq!(inside.send(&put).status, 204);
    assert_eq!(ask(), absent);
}
