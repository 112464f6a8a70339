//! For each allow the deny, with tokens forged by the library itself.

mod limits;
mod narrow;
mod server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::biscuit::library::{
    self, Algorithm, AuthorizerBuilder, AuthorizerExt, AuthorizerLimits, Biscuit, BlockBuilder,
    BuilderExt, KeyPair, Message, Term, UnverifiedBiscuit, schema,
};
use super::*;
use crate::crypto::AnchorKeys;
use crate::domain::{
    Clock, ClockReading, Now, Operation, Scope, ScopeSet, SecretName, Source, TenantId, TenantName,
    Timestamp,
};

const ISSUED: i64 = 1_000;
const EXPIRES: i64 = 10_000;
const ID: TenantId = TenantId::from_bytes([7; 16]);
const AUTHORITY: &str = r#"
    tenant("acme"); tenant_id("07070707070707070707070707070707"); subject("ci");
    issued(1970-01-01T00:16:40Z); scope("Secret.Read");
    check if time($t), $t < 1970-01-01T02:46:40Z;
"#;

/// A server with one tenant, `acme`, and one root, whose pair the tests know.
struct World {
    pair: KeyPair,
    authenticator: Authenticator,
    tenants: Vec<(TenantName, TenantId)>,
}

impl TenantDirectory for Vec<(TenantName, TenantId)> {
    fn is_current(&self, name: &TenantName, id: TenantId) -> bool {
        self.iter().any(|(known, current)| known == name && *current == id)
    }

    fn current(&self, name: &TenantName) -> Option<(TenantId, Timestamp)> {
        let (_, id) = self.iter().find(|(known, _)| known == name)?;
        Some((*id, at(ISSUED).wall()))
    }
}

/// Roots, and nothing beside them.
fn standing(roots: Roots) -> Standing {
    let api_keys = ApiKeys::new(AnchorKeys::generate(ID).api_keys());
    Standing { roots: Arc::new(roots), revocations: Revocations::default(), api_keys }
}

impl World {
    fn new() -> Self {
        Self::limited(Rates::NONE)
    }

    /// Its clock stands still: nobody is forgiven by waiting.
    fn limited(rates: Rates) -> Self {
        let pair = KeyPair::new();
        let roots = Roots::from_keys(vec![(1, library::root_key(&pair))]);
        let clock: Arc<dyn Clock> = Arc::new(Still);
        let limits = Arc::new(Limits::new(rates, &clock));
        let authenticator = Authenticator::new(standing(roots), 100, limits);
        Self { pair, authenticator, tenants: vec![(acme(), ID)] }
    }

    fn mint(&self, scopes: &[Scope]) -> String {
        let subject = Subject::parse("ci").unwrap();
        let wanted = Mint {
            tenant: &acme(),
            tenant_id: ID,
            subject: &subject,
            scopes: scopes.iter().copied().collect(),
            issued: at(ISSUED).wall(),
            expires: at(EXPIRES).wall(),
        };
        mint(&self.authenticator.roots(), &wanted).unwrap().to_string()
    }

    fn good(&self) -> String {
        self.mint(&[Scope::All])
    }

    /// A token with this source for an authority block, signed by the real root.
    fn forge(&self, source: &str) -> String {
        let builder = Biscuit::builder().root_key_id(1).code(source).unwrap();
        builder.build(&self.pair).unwrap().to_base64().unwrap()
    }

    fn ask_from(&self, source: Source, token: &str) -> Result<Arc<Principal>, Refusal> {
        self.authenticator.authenticate(token, source, at(ISSUED), &self.tenants)
    }

    fn ask(&self, token: &str, now: Now) -> Result<Arc<Principal>, Refusal> {
        self.authenticator.authenticate(token, Source::UNKNOWN, now, &self.tenants)
    }

    fn principal(&self, token: &str) -> Arc<Principal> {
        self.ask(token, at(ISSUED)).unwrap()
    }

    fn refusal(&self, token: &str) -> Refusal {
        self.ask(token, at(ISSUED)).unwrap_err()
    }

    fn narrowed(&self, source: &str) -> Arc<Principal> {
        self.principal(&narrow(&self.good(), source))
    }

    fn narrowed_refusal(&self, source: &str) -> Refusal {
        self.refusal(&narrow(&self.good(), source))
    }
}

struct Still;

impl Clock for Still {
    fn read(&self) -> ClockReading {
        ClockReading { wall: at(ISSUED).wall(), since_boot: Duration::from_secs(1_000) }
    }
}

fn at(seconds: i64) -> Now {
    Now::undisputed(Timestamp::from_unix_seconds(seconds))
}

fn at_micros(micros: i64) -> Now {
    Now::undisputed(Timestamp::from_unix_micros(micros))
}

fn acme() -> TenantName {
    TenantName::parse("acme").unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

/// What any holder of a token can do to it.
fn narrow(token: &str, source: &str) -> String {
    append(token, BlockBuilder::new().code(source).unwrap())
}

fn append(token: &str, block: BlockBuilder) -> String {
    let token = UnverifiedBiscuit::from_base64(token).unwrap();
    token.append(block).unwrap().to_base64().unwrap()
}

/// The encoded token, changed without regard to its signatures.
fn tamper(token: &str, change: impl FnOnce(&mut schema::Biscuit)) -> String {
    let bytes = UnverifiedBiscuit::from_base64(token).unwrap().to_vec().unwrap();
    let mut proto = schema::Biscuit::decode(&bytes[..]).unwrap();
    change(&mut proto);
    base64(&proto.encode_to_vec())
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::URL_SAFE.encode(bytes)
}

fn reads(principal: &Principal, secret: &str, now: Now) -> bool {
    principal.may_read(&acme(), name(secret), now).is_ok()
}

fn writes(principal: &Principal, secret: &str, now: Now) -> bool {
    principal.may_write(&acme(), name(secret), now).is_ok()
}

// Minting, and what a token says as it was minted.

#[test]
fn a_minted_token_is_its_tenants() {
    let world = World::new();
    let principal = world.principal(&world.good());
    assert_eq!((principal.tenant(), principal.tenant_id()), (Some(&acme()), Some(ID)));
    assert_eq!(principal.subject().as_str(), "ci");
    assert_eq!(principal.expires(), Some(at(EXPIRES).wall()));
    assert_eq!(principal.scopes(), ScopeSet::NONE.with(Scope::All));
    assert!(principal.caveats().is_empty());
    let permit = principal.may_read(&acme(), name("a"), at(ISSUED)).unwrap();
    assert_eq!((permit.tenant(), permit.name()), (ID, &name("a")));
    assert!(principal.may_list(&acme(), at(ISSUED)).unwrap().shows_all());
}

#[test]
fn a_token_without_padding_is_the_same_token() {
    let world = World::new();
    for length in 1..4 {
        let subject = "x".repeat(length);
        let token = world.forge(&AUTHORITY.replace("\"ci\"", &format!("\"{subject}\"")));
        assert!(world.ask(token.trim_end_matches('='), at(ISSUED)).is_ok());
    }
}

#[test]
fn a_token_needs_a_scope_and_a_term() {
    let world = World::new();
    let subject = Subject::parse("ci").unwrap();
    let tenant = acme();
    let wanted = Mint {
        tenant: &tenant,
        tenant_id: ID,
        subject: &subject,
        scopes: ScopeSet::NONE.with(Scope::SecretRead),
        issued: Timestamp::from_unix_micros(10_900_000),
        expires: Timestamp::from_unix_micros(11_200_000),
    };
    let mint = |wanted: Mint<'_>| mint(&world.authenticator.roots(), &wanted).map(drop);
    assert_eq!(mint(wanted), Ok(()));
    assert_eq!(mint(Mint { scopes: ScopeSet::NONE, ..wanted }), Err(MintError::NoScope));
    assert_eq!(mint(Mint { expires: wanted.issued, ..wanted }), Err(MintError::NoTerm));
    let same_second = Timestamp::from_unix_micros(10_950_000);
    assert_eq!(mint(Mint { expires: same_second, ..wanted }), Err(MintError::NoTerm));
    let early = Timestamp::from_unix_seconds(-5);
    assert_eq!(mint(Mint { issued: early, ..wanted }), Err(MintError::BeforeEpoch));
}

#[test]
fn a_subject_is_never_datalog() {
    let world = World::new();
    let subject = Subject::parse(r#"ci"); scope("*"); tenant("beta"#).unwrap();
    let tenant = acme();
    let wanted = Mint {
        tenant: &tenant,
        tenant_id: ID,
        subject: &subject,
        scopes: ScopeSet::NONE.with(Scope::SecretRead),
        issued: at(ISSUED).wall(),
        expires: at(EXPIRES).wall(),
    };
    let token = mint(&world.authenticator.roots(), &wanted).unwrap();
    let principal = world.principal(&token);
    assert_eq!(principal.subject(), &subject);
    assert_eq!(principal.scopes(), wanted.scopes);
}

#[test]
fn the_longest_claims_fit_into_a_token() {
    let world = World::new();
    let subject = Subject::parse(&"日".repeat(128)).unwrap();
    let tenant = TenantName::parse(&"t".repeat(64)).unwrap();
    let wanted = Mint {
        tenant: &tenant,
        tenant_id: ID,
        subject: &subject,
        scopes: Scope::EVERY.into_iter().collect(),
        issued: at(ISSUED).wall(),
        expires: at(EXPIRES).wall(),
    };
    let token = mint(&world.authenticator.roots(), &wanted).unwrap();
    let tenants = vec![(tenant.clone(), ID)];
    assert!(
        world.authenticator.authenticate(&token, Source::UNKNOWN, at(ISSUED), &tenants).is_ok()
    );
}

#[test]
fn a_scope_allows_its_operation_and_no_other() {
    let world = World::new();
    let now = at(ISSUED);
    for (scope, read, write) in [
        (Scope::SecretRead, true, false),
        (Scope::SecretWrite, false, true),
        (Scope::All, true, true),
    ] {
        let principal = world.principal(&world.mint(&[scope]));
        assert_eq!(reads(&principal, "a", now), read);
        assert_eq!(principal.may_list(&acme(), now).is_ok(), read);
        assert_eq!(writes(&principal, "a", now), write);
    }
}

#[test]
fn another_tenant_is_forbidden_like_everything_else() {
    let world = World::new();
    let principal = world.principal(&world.good());
    for other in ["beta", "Acme", "acme-"] {
        let other = TenantName::parse(other).unwrap();
        let now = at(ISSUED);
        assert_eq!(principal.may_read(&other, name("a"), now).unwrap_err(), Forbidden);
        assert_eq!(principal.may_write(&other, name("a"), now).unwrap_err(), Forbidden);
        assert_eq!(principal.may_list(&other, now).unwrap_err(), Forbidden);
    }
}

#[test]
fn a_tenant_made_again_honours_no_older_token() {
    let mut world = World::new();
    let token = world.good();
    assert!(world.ask(&token, at(ISSUED)).is_ok());
    world.tenants = vec![(acme(), TenantId::from_bytes([8; 16]))];
    assert_eq!(world.refusal(&token), Refusal::TenantGone);
    assert_eq!(world.refusal(&world.good()), Refusal::TenantGone);
    world.tenants.clear();
    assert_eq!(world.refusal(&token), Refusal::TenantGone);
}

#[test]
fn a_token_ends_exactly_at_its_expiry() {
    let world = World::new();
    let token = world.good();
    let (last, end) = (at_micros(EXPIRES * 1_000_000 - 1), at(EXPIRES));
    assert_eq!(world.ask(&token, end).unwrap_err(), Refusal::Expired);
    let principal = world.ask(&token, last).unwrap();
    assert_eq!(world.ask(&token, end).unwrap_err(), Refusal::Expired, "from the cache too");
    assert!(reads(&principal, "a", last) && writes(&principal, "a", last));
    assert!(!reads(&principal, "a", end) && !writes(&principal, "a", end));
    assert!(principal.may_list(&acme(), end).is_err());
}

#[test]
fn a_clock_set_back_revives_no_token() {
    let world = World::new();
    let set_back = Now::new(at(ISSUED).wall(), at(EXPIRES).wall());
    assert_eq!(world.ask(&world.good(), set_back).unwrap_err(), Refusal::Expired);
}

#[test]
fn a_cache_hit_verifies_nothing_again() {
    let world = World::new();
    let token = world.good();
    let first = world.principal(&token);
    assert!(Arc::ptr_eq(&first, &world.principal(&token)));
    assert!(!Arc::ptr_eq(&first, &world.principal(&world.good())));
}

#[test]
fn the_cache_is_bounded() {
    let world = World::new();
    for _ in 0..300 {
        world.principal(&world.good());
    }
    assert!(format!("{:?}", world.authenticator).contains("remembered: "));
    let remembered = format!("{:?}", world.authenticator);
    let count: usize =
        remembered.rsplit_once(": ").unwrap().1.trim_end_matches(" }").parse().unwrap();
    assert!(count <= 150, "{count}");
}

// Roots.

#[test]
fn a_foreign_root_of_the_same_id_is_refused() {
    let world = World::new();
    assert_eq!(world.refusal(&World::new().good()), Refusal::Signature);
}

#[test]
fn an_unknown_or_missing_root_id_is_refused() {
    let world = World::new();
    for id in [0, 2, u32::MAX] {
        let token = tamper(&world.good(), |token| token.root_key_id = Some(id));
        assert_eq!(world.refusal(&token), Refusal::UnknownRoot);
    }
    let token = tamper(&world.good(), |token| token.root_key_id = None);
    assert_eq!(world.refusal(&token), Refusal::UnknownRoot);
}

#[test]
fn an_older_root_is_honoured_and_the_newest_signs() {
    let (old, new) = (KeyPair::new(), KeyPair::new());
    let roots = Roots::from_keys(vec![(1, library::root_key(&old)), (2, library::root_key(&new))]);
    let world = World {
        pair: old,
        authenticator: Authenticator::new(standing(roots), 10, Arc::new(Limits::none())),
        tenants: vec![(acme(), ID)],
    };
    assert_eq!(inspect(&world.good()).unwrap().root_id, 2);
    assert!(world.ask(&world.good(), at(ISSUED)).is_ok());
    assert!(world.ask(&world.forge(AUTHORITY), at(ISSUED)).is_ok());
    let crossed = tamper(&world.forge(AUTHORITY), |token| token.root_key_id = Some(2));
    assert_eq!(world.refusal(&crossed), Refusal::Signature);
}

#[test]
fn p256_is_refused_everywhere() {
    let world = World::new();
    let p256 = || KeyPair::new_with_algorithm(Algorithm::Secp256r1);
    let authority = || Biscuit::builder().root_key_id(1).code(AUTHORITY).unwrap();

    let root = authority().build(&p256()).unwrap().to_base64().unwrap();
    assert_eq!(world.refusal(&root), Refusal::Signature);

    let next = authority()
        .build_with_key_pair(&world.pair, library::datalog::SymbolTable::new(), &p256())
        .unwrap();
    assert_eq!(world.refusal(&next.to_base64().unwrap()), Refusal::Shape);

    let token = authority().build(&world.pair).unwrap();
    let block = || BlockBuilder::new().check_operation("read");
    let last = token.append_with_keypair(&p256(), block()).unwrap();
    assert_eq!(world.refusal(&last.to_base64().unwrap()), Refusal::Shape);
    assert_eq!(world.refusal(&last.seal().unwrap().to_base64().unwrap()), Refusal::Shape);
    let between = last.append(block()).unwrap();
    assert_eq!(world.refusal(&between.to_base64().unwrap()), Refusal::Shape);

    let relabelled = tamper(&world.good(), |token| token.authority.next_key.algorithm = 7);
    assert_eq!(world.refusal(&relabelled), Refusal::Shape);
}

// The authority block.

#[test]
fn an_authority_block_is_exactly_one_shape() {
    let world = World::new();
    assert!(world.ask(&world.forge(AUTHORITY), at(ISSUED)).is_ok());
    let with = |more: &str| format!("{AUTHORITY}{more}");
    let without = |part: &str| {
        assert!(AUTHORITY.contains(part), "{part}");
        AUTHORITY.replacen(part, "", 1)
    };
    for source in [
        with(r#"tenant("beta");"#),
        with(r#"tenant_id("08080808080808080808080808080808");"#),
        with(r#"subject("other");"#),
        with("issued(1970-01-01T00:16:41Z);"),
        with(r#"scope("Server.Admin");"#),
        with(r#"scope("secret.read");"#),
        with(r#"right("a");"#),
        with(r#"scope("*") <- operation("read");"#),
        with(r#"check if operation("read");"#),
        with("check if time($t), $t < 1970-01-01T02:46:39Z;"),
        without(r#"tenant("acme");"#),
        without(r#"tenant_id("07070707070707070707070707070707");"#),
        without(r#"subject("ci");"#),
        without("issued(1970-01-01T00:16:40Z);"),
        without(r#"scope("Secret.Read");"#),
        without("check if time($t), $t < 1970-01-01T02:46:40Z;"),
        AUTHORITY.replace("$t <", "$t <="),
        AUTHORITY.replace("$t <", "$t >"),
        AUTHORITY.replace("check if", "check all"),
        AUTHORITY.replace("check if", "reject if"),
        AUTHORITY.replace("Z;\n", r#"Z or operation("read");"#),
        AUTHORITY.replace("\"ci\"", "1"),
        AUTHORITY.replace("\"ci\"", "\"c\\ni\""),
        AUTHORITY.replace("\"acme\"", "\"a/b\""),
        AUTHORITY.replace("\"acme\"", "\"acme\", \"beta\""),
        AUTHORITY.replace("\"07", "\"7"),
        AUTHORITY.replace("\"07", "\"zz"),
        AUTHORITY.replace("40Z;\n", "40Z trusting authority;\n"),
    ] {
        assert_eq!(world.refusal(&world.forge(&source)), Refusal::Shape, "{source}");
    }
}

#[test]
fn a_block_has_no_context_and_trusts_nobody() {
    let world = World::new();
    let authority = || Biscuit::builder().root_key_id(1).code(AUTHORITY).unwrap();
    for builder in [
        authority().context("x".to_owned()),
        authority().scope(library::Scope::Authority),
        authority().scope(library::Scope::PublicKey(world.pair.public())),
    ] {
        let token = builder.build(&world.pair).unwrap().to_base64().unwrap();
        assert_eq!(world.refusal(&token), Refusal::Shape);
    }
    let block = || BlockBuilder::new().check_operation("read");
    for block in [
        block().context("x".to_owned()),
        block().scope(library::Scope::Previous),
        block().scope(library::Scope::PublicKey(world.pair.public())),
    ] {
        assert_eq!(world.refusal(&append(&world.good(), block)), Refusal::Shape);
    }
}

// Appended blocks: the documented shapes, each in allow and deny.

#[test]
fn narrowed_to_reading() {
    let world = World::new();
    let now = at(ISSUED);
    for source in [
        r#"check if operation("read")"#,
        r#"check if operation($o), ["read"].contains($o)"#,
        r#"check if operation($o), {"read", "list"}.contains($o)"#,
    ] {
        let principal = world.narrowed(source);
        assert!(reads(&principal, "a", now) && !writes(&principal, "a", now), "{source}");
        assert!(principal.may_list(&acme(), now).unwrap().shows_all());
    }
}

#[test]
fn narrowed_to_writing_it_does_not_list() {
    let world = World::new();
    let principal = world.narrowed(r#"check if operation("write")"#);
    let now = at(ISSUED);
    assert!(!reads(&principal, "a", now) && writes(&principal, "a", now));
    assert_eq!(principal.may_list(&acme(), now).unwrap_err(), Forbidden);
}

#[test]
fn narrowed_to_names() {
    let world = World::new();
    let now = at(ISSUED);
    for (source, allowed, denied) in [
        (r#"check if resource("ab")"#, vec!["ab"], vec!["a", "abc", "AB"]),
        (
            r#"check if resource($r), $r.starts_with("ab")"#,
            vec!["ab", "abc"],
            vec!["a", "Abc", "xab"],
        ),
        (r#"check if resource($r), ["a", "b"].contains($r)"#, vec!["a", "b"], vec!["c", "ab"]),
        (r#"check if resource($r), {"b", "a"}.contains($r)"#, vec!["a", "b"], vec!["c", "ab"]),
        (
            r#"check if resource("x") or resource($r), $r.starts_with("y-")"#,
            vec!["x", "y-1"],
            vec!["y", "x1"],
        ),
        (
            r#"check if resource($r), $r.starts_with("a"); check if resource($r), ["ab", "b"].contains($r)"#,
            vec!["ab"],
            vec!["a", "b"],
        ),
        (r#"check if resource("read")"#, vec!["read"], vec!["write"]),
    ] {
        let principal = world.narrowed(source);
        let list = principal.may_list(&acme(), now).unwrap();
        assert!(!list.shows_all());
        for secret in allowed {
            assert!(reads(&principal, secret, now) && writes(&principal, secret, now));
            assert!(list.shows(&name(secret), now), "{source} {secret}");
        }
        for secret in denied {
            assert!(!reads(&principal, secret, now) && !writes(&principal, secret, now));
            assert!(!list.shows(&name(secret), now), "{source} {secret}");
        }
    }
}

#[test]
fn a_name_or_reading_lists_all_but_writes_only_the_name() {
    let world = World::new();
    let now = at(ISSUED);
    let principal = world.narrowed(r#"check if operation("read") or resource("a")"#);
    assert!(reads(&principal, "b", now) && writes(&principal, "a", now));
    assert!(!writes(&principal, "b", now));
    let list = principal.may_list(&acme(), now).unwrap();
    assert!(list.shows(&name("b"), now));
}

#[test]
fn narrowed_to_a_time() {
    let world = World::new();
    // 1970-01-01T00:33:20Z is 2,000; each row: before it, in its second, after it.
    for (comparison, before, within, after) in [
        ("<", true, false, false),
        ("<=", true, true, false),
        (">", false, false, true),
        (">=", false, true, true),
    ] {
        let principal =
            world.narrowed(&format!("check if time($t), $t {comparison} 1970-01-01T00:33:20Z"));
        for (micros, allowed) in [
            (1_999_999_999, before),
            (2_000_000_000, within),
            (2_000_999_999, within),
            (2_001_000_000, after),
        ] {
            let now = at_micros(micros);
            assert_eq!(reads(&principal, "a", now), allowed, "{comparison} {micros}");
            assert_eq!(principal.may_list(&acme(), now).is_ok(), allowed);
        }
    }
}

#[test]
fn each_bound_is_judged_by_the_clock_that_is_safe_for_it() {
    let world = World::new();
    let disputed = Now::new(at(1_500).wall(), at(2_500).wall());
    for (comparison, allowed) in [("<", false), ("<=", false), (">", false), (">=", false)] {
        let principal =
            world.narrowed(&format!("check if time($t), $t {comparison} 1970-01-01T00:33:20Z"));
        assert_eq!(reads(&principal, "a", disputed), allowed, "{comparison}");
    }
    let before_1970 = at(-5);
    let principal = world.narrowed("check if time($t), $t >= 1970-01-01T00:00:00Z");
    assert!(!reads(&principal, "a", before_1970));
}

#[test]
fn blocks_add_up() {
    let world = World::new();
    let now = at(ISSUED);
    let once = narrow(&world.good(), r#"check if operation("read")"#);
    let twice = narrow(&once, r#"check if resource($r), $r.starts_with("a")"#);
    let thrice = narrow(&twice, r#"check if resource("ab")"#);
    let principal = world.principal(&thrice);
    assert!(reads(&principal, "ab", now));
    assert!(!reads(&principal, "abc", now) && !writes(&principal, "ab", now));
    assert!(reads(&world.principal(&twice), "abc", now));
}

#[test]
fn what_the_librarys_helpers_write_is_understood() {
    let world = World::new();
    let now = at(ISSUED);
    let expiry = std::time::UNIX_EPOCH + Duration::from_secs(2_000);
    let block = BlockBuilder::new()
        .check_operation("read")
        .check_resource_prefix("a")
        .check_resource("ab")
        .check_expiration_date(expiry);
    let principal = world.principal(&append(&world.good(), block));
    assert!(reads(&principal, "ab", now) && !reads(&principal, "a", now));
    assert!(!writes(&principal, "ab", now) && !reads(&principal, "ab", at(2_001)));
    let suffix = append(&world.good(), BlockBuilder::new().check_resource_suffix("b"));
    assert_eq!(world.refusal(&suffix), Refusal::Shape);
}

#[test]
fn sealed_tokens_work_and_cannot_be_unsealed() {
    let world = World::new();
    let narrowed = narrow(&world.good(), r#"check if operation("read")"#);
    let sealed = UnverifiedBiscuit::from_base64(&narrowed).unwrap().seal().unwrap();
    let sealed = sealed.to_base64().unwrap();
    let principal = world.principal(&sealed);
    assert!(reads(&principal, "a", at(ISSUED)) && !writes(&principal, "a", at(ISSUED)));
    assert!(inspect(&sealed).unwrap().sealed && !inspect(&narrowed).unwrap().sealed);
    let broken = tamper(&sealed, |token| {
        let secret = KeyPair::new().private().to_bytes().to_vec();
        token.proof.content = Some(schema::proof::Content::NextSecret(secret));
    });
    assert_eq!(world.refusal(&broken), Refusal::Signature);
}

// Appended blocks: everything else.

#[test]
fn anything_else_in_an_appended_block_is_refused() {
    let world = World::new();
    for source in [
        // Facts and rules, the tenant among them: they widen.
        r#"tenant("beta");"#,
        r#"scope("*");"#,
        r#"operation("read");"#,
        r#"resource("a"); check if resource("a");"#,
        r#"resource("a") <- operation("read");"#,
        // Predicates that the request does not supply.
        r#"check if tenant("acme")"#,
        r#"check if scope("Secret.Read")"#,
        r#"check if client_ip("127.0.0.1")"#,
        r#"check if ip_address($i), ["127.0.0.1"].contains($i)"#,
        // Operators beside the documented ones.
        r#"check if resource($r), $r.matches("a.*")"#,
        r#"check if resource($r), $r.ends_with("a")"#,
        r#"check if resource($r), $r.contains("a")"#,
        r#"check if resource($r), $r == "a""#,
        r#"check if resource($r), $r != "a""#,
        r#"check if resource($r), $r.length() < 3"#,
        r#"check if resource($r), !["a"].contains($r)"#,
        r#"check if resource($r), ($r.starts_with("a"))"#,
        r#"check if resource($r), $r.starts_with("a") && $r.starts_with("b")"#,
        r#"check if resource($r), $r.starts_with("a") || true"#,
        r#"check if resource($r), $r.starts_with("a"), $r.starts_with("ab")"#,
        r#"check if resource($r), "abc".starts_with($r)"#,
        r#"check if resource($r), $r.starts_with($r)"#,
        r#"check if resource($r), "abc".starts_with("a")"#,
        r#"check if resource($r), $r.starts_with($q)"#,
        r#"check if resource($r), $r.extern::f()"#,
        r#"check if operation($o), $o.starts_with("r")"#,
        r#"check if time($t), [1970-01-01T00:00:00Z].contains($t)"#,
        r#"check if time($t), 1970-01-01T00:00:00Z < $t"#,
        r#"check if time($t), $t == 1970-01-01T00:00:00Z"#,
        r#"check if time(1970-01-01T00:16:40Z)"#,
        r#"check if time($t), $t < 5"#,
        r#"check if operation($o), $o < 1970-01-01T00:00:00Z"#,
        // Closures.
        r#"check if resource($r), ["a"].any($x -> $x == $r)"#,
        r#"check if resource($r), ["a"].all($x -> $x == $r)"#,
        // Terms of other types.
        r#"check if resource(1)"#,
        r#"check if resource(true)"#,
        r#"check if resource(hex:00)"#,
        r#"check if resource(["a"])"#,
        r#"check if resource($r), [1].contains($r)"#,
        r#"check if resource($r), ["a", 1].contains($r)"#,
        r#"check if resource($r), [["a"]].contains($r)"#,
        r#"check if resource($r), {"a": 1}.contains($r)"#,
        r#"check if resource($r), $r.starts_with(1)"#,
        // Bodies of another size.
        r#"check if true"#,
        r#"check if resource($r)"#,
        r#"check if resource("a"), true"#,
        r#"check if operation("read"), resource("a")"#,
        r#"check if resource("a", "b")"#,
        r#"check if resource($r), operation($r)"#,
        // One bad query spoils the check.
        r#"check if operation("read") or true"#,
        // Other kinds of check, and scopes.
        r#"check all operation("read")"#,
        r#"reject if operation("write")"#,
        r#"check if operation("read") trusting previous"#,
        r#"check if operation("read") trusting authority"#,
    ] {
        assert_eq!(world.narrowed_refusal(source), Refusal::Shape, "{source}");
        let token = narrow(&world.good(), source);
        assert_eq!(inspect(&token).unwrap_err(), Refusal::Shape, "{source}");
    }
}

/// Over 7 s of CPU in the library's authorizer.
#[test]
fn a_four_way_join_is_refused_at_once() {
    let world = World::new();
    let facts: String = (0..60).map(|i| format!("f({i}); ")).collect();
    let token = narrow(
        &world.good(),
        &format!("{facts} check if f($a), f($b), f($c), f($d), $a + $b + $c + $d < 0"),
    );
    assert!(token.len() < 4096);
    let start = Instant::now();
    assert_eq!(world.refusal(&token), Refusal::Shape);
    assert!(start.elapsed() < Duration::from_millis(200));
}

#[test]
fn third_party_blocks_are_refused() {
    let world = World::new();
    let third = KeyPair::new();
    let token = Biscuit::from_base64(world.good(), world.pair.public()).unwrap();
    let block = BlockBuilder::new().check_operation("read");
    let block = token.third_party_request().unwrap().create_block(&third.private(), block);
    let token = token.append_third_party(third.public(), block.unwrap()).unwrap();
    assert_eq!(world.refusal(&token.to_base64().unwrap()), Refusal::Shape);
}

#[test]
fn checks_and_blocks_are_counted() {
    let world = World::new();
    let check = r#"check if operation("read");"#;
    let blocks = |counts: &[usize]| {
        counts.iter().fold(world.good(), |token, count| narrow(&token, &check.repeat(*count)))
    };
    for good in [&[16][..], &[6, 5, 5], &[0, 0, 16]] {
        assert!(world.ask(&blocks(good), at(ISSUED)).is_ok(), "{good:?}");
    }
    for bad in [&[17][..], &[6, 6, 5], &[1, 1, 1, 1], &[0, 0, 0, 0]] {
        assert_eq!(world.refusal(&blocks(bad)), Refusal::Shape, "{bad:?}");
    }
}

#[test]
fn oversize_is_refused_before_anything_else() {
    let world = World::new();
    assert_eq!(world.refusal(&"A".repeat(4097)), Refusal::TooLarge);
    assert_eq!(world.refusal(&".".repeat(8193)), Refusal::TooLarge);
    assert_eq!(world.refusal(&"A".repeat(4096)), Refusal::Malformed);
    let long = format!(r#"check if resource("{}")"#, "n".repeat(3000));
    assert_eq!(world.narrowed_refusal(&long), Refusal::TooLarge);
}

#[test]
fn a_bearer_with_a_dot_is_no_biscuit() {
    let world = World::new();
    assert_eq!(world.refusal("eyJhbGciOiJub25lIn0.e30."), Refusal::TokenType);
    assert_eq!(world.refusal(&format!("{}.", world.good())), Refusal::Malformed);
    assert_eq!(world.refusal(&format!("{}..", world.good())), Refusal::Malformed);
}

#[test]
fn garbage_is_malformed() {
    let world = World::new();
    let good = world.good();
    let prefixed = format!("biscuit:{good}");
    let spaced = format!("{good} ");
    for garbage in ["", "=", "A", "AAAA", "ä", "\0", "++++", "null", "{}", &prefixed, &spaced] {
        let refusal = world.refusal(garbage);
        assert!(matches!(refusal, Refusal::Malformed | Refusal::Shape), "{garbage:?} {refusal:?}");
        assert!(inspect(garbage).is_err());
    }
    // Less than the padding missing, that is.
    for length in 0..good.trim_end_matches('=').len() {
        assert!(world.ask(&good[..length], at(ISSUED)).is_err());
    }
}

#[test]
fn blocks_cannot_be_dropped_swapped_or_moved() {
    let world = World::new();
    let (a, b) = (r#"check if resource("a")"#, r#"check if resource("b")"#);
    let token = narrow(&narrow(&world.good(), a), b);
    let foreign = narrow(&world.good(), a);
    let mut foreign_block = None;
    tamper(&foreign, |token| foreign_block = token.blocks.pop());
    let foreign_block = foreign_block.unwrap();
    for broken in [
        tamper(&token, |token| drop(token.blocks.pop())),
        tamper(&token, |token| token.blocks.clear()),
        tamper(&token, |token| token.blocks.swap(0, 1)),
        tamper(&token, |token| drop(token.blocks.remove(0))),
        tamper(&token, |token| token.blocks[1] = foreign_block),
        tamper(&token, |token| token.authority.signature[0] ^= 1),
        tamper(&token, |token| token.blocks[1].signature[63] ^= 1),
        tamper(&token, |token| {
            let secret = KeyPair::new().private().to_bytes().to_vec();
            token.proof.content = Some(schema::proof::Content::NextSecret(secret));
        }),
    ] {
        // Blocks share a symbol table, so that it may break before a signature is
        // looked at: a symbol that is gone is a shape, one declared twice malformed.
        let refusal = world.refusal(&broken);
        let expected = [Refusal::Signature, Refusal::Shape, Refusal::Malformed];
        assert!(expected.contains(&refusal), "{refusal:?}");
    }
    let proofless = tamper(&token, |token| token.proof.content = None);
    assert_eq!(world.refusal(&proofless), Refusal::Malformed);
}

#[test]
fn symbols_that_do_not_exist_are_refused() {
    let world = World::new();
    let token = narrow(&world.good(), r#"check if resource($r), ["a"].contains($r)"#);
    for unknown in [28, 1023, 1024 + 60, u64::MAX] {
        let broken = tamper(&token, |token| {
            let mut block = schema::Block::decode(&token.blocks[0].block[..]).unwrap();
            block.checks[0].queries[0].body[0].name = unknown;
            token.blocks[0].block = block.encode_to_vec();
        });
        assert_eq!(world.refusal(&broken), Refusal::Shape);
    }
}

/// The library's decoder skips fields that it does not know, so that one token has
/// many texts; each of them is the same principal.
#[test]
fn another_encoding_of_a_token_says_the_same() {
    let world = World::new();
    let token = narrow(&world.good(), r#"check if operation("read")"#);
    let mut bytes = UnverifiedBiscuit::from_base64(&token).unwrap().to_vec().unwrap();
    bytes.extend([0x78, 1]);
    let (one, other) = (world.principal(&token), world.principal(&base64(&bytes)));
    assert!(one.caveats() == other.caveats() && one.scopes() == other.scopes());
}

// Revocation, and roots that end.

impl World {
    fn revoke(&self, target: RevocationTarget, before: Option<i64>) {
        let revocation = Revocation {
            before: before.map(|seconds| at(seconds).wall()),
            token_tenant: None,
            revoked_on: at(ISSUED).wall(),
            keep_until: at(EXPIRES).wall(),
        };
        self.authenticator.change(|standing| standing.revocations.insert(target, revocation));
    }

    /// The revocation ids of a token's blocks.
    fn blocks(&self, token: &str) -> Vec<RevocationId> {
        let ids = inspect(token).unwrap().revocation_ids;
        ids.iter().map(|id| RevocationId::parse(id).unwrap()).collect()
    }
}

const READING: &str = r#"check if operation("read")"#;

#[test]
fn a_revoked_block_ends_its_token_and_all_that_is_narrowed_from_it() {
    let world = World::new();
    let whole = world.good();
    let (inner, other) = (narrow(&whole, READING), narrow(&whole, READING));
    let innermost = narrow(&inner, READING);
    // Remembered or not, it is refused by the next request.
    for token in [&whole, &inner, &other] {
        world.principal(token);
    }
    world.revoke(RevocationTarget::Token(world.blocks(&inner)[1]), None);
    for token in [&inner, &innermost] {
        assert_eq!(world.refusal(token), Refusal::Revoked);
        assert_eq!(world.refusal(token), Refusal::Revoked);
    }
    for token in [&whole, &other] {
        world.principal(token);
    }
    world.revoke(RevocationTarget::Token(world.blocks(&whole)[0]), None);
    for token in [&whole, &inner, &other, &innermost, &narrow(&whole, READING)] {
        assert_eq!(world.refusal(token), Refusal::Revoked);
    }
    world.principal(&world.good());
}

#[test]
fn a_sealed_token_is_revoked_like_any_other() {
    let world = World::new();
    let token = world.good();
    let sealed = UnverifiedBiscuit::from_base64(&token).unwrap().seal().unwrap();
    let sealed = sealed.to_base64().unwrap();
    world.principal(&sealed);
    world.revoke(RevocationTarget::Token(world.blocks(&sealed)[0]), None);
    assert_eq!(world.refusal(&sealed), Refusal::Revoked);
    assert_eq!(world.refusal(&token), Refusal::Revoked);
}

#[test]
fn a_revoked_token_costs_no_signature() {
    let world = World::new();
    let token = world.good();
    let foreign = tamper(&token, |proto| proto.authority.signature[5] ^= 1);
    assert_eq!(world.refusal(&foreign), Refusal::Signature);
    world.revoke(RevocationTarget::Token(world.blocks(&foreign)[0]), None);
    assert_eq!(world.refusal(&foreign), Refusal::Revoked);
    world.principal(&token);
}

#[test]
fn a_subject_or_a_tenant_is_revoked_up_to_a_moment() {
    let subject = |name: &str| Identity::of_biscuit(Subject::parse(name).unwrap());
    let targets = [RevocationTarget::Subject(ID, subject("ci")), RevocationTarget::Tenant(ID)];
    for target in targets {
        let world = World::new();
        let token = world.good();
        world.principal(&token);
        world.revoke(target.clone(), Some(ISSUED));
        world.principal(&token);
        world.revoke(target, Some(ISSUED + 1));
        assert_eq!(world.refusal(&token), Refusal::Revoked);
        assert_eq!(world.refusal(&narrow(&token, READING)), Refusal::Revoked);
    }
    let world = World::new();
    let token = world.good();
    let other = TenantId::from_bytes([8; 16]);
    let of_provider = Identity {
        kind: CredentialKind::Oidc,
        issuer: Some("https://id.example".into()),
        subject: Subject::parse("ci").unwrap(),
    };
    for target in [
        RevocationTarget::Subject(ID, subject("cj")),
        RevocationTarget::Subject(ID, of_provider),
        RevocationTarget::Subject(other, subject("ci")),
        RevocationTarget::Tenant(other),
    ] {
        world.revoke(target, Some(EXPIRES));
        world.principal(&token);
    }
}

#[test]
fn what_is_minted_after_a_revocation_holds() {
    let world = World::new();
    let ci = Identity::of_biscuit(Subject::parse("ci").unwrap());
    let from = |moment: Now| {
        world.authenticator.look(|standing| {
            standing.revocations.issuable_from(ID, &ci, moment.wall()).unix_seconds()
        })
    };
    assert_eq!(from(at(ISSUED)), ISSUED);
    world.revoke(RevocationTarget::Subject(ID, ci.clone()), Some(ISSUED + 1));
    assert_eq!(from(at(ISSUED)), ISSUED + 1);
    world.revoke(RevocationTarget::Tenant(ID), Some(ISSUED + 3));
    assert_eq!(from(at(ISSUED)), ISSUED + 3);
    assert_eq!(from(at(ISSUED + 9)), ISSUED + 9);
}

#[test]
fn a_root_past_its_date_is_unknown_even_to_tokens_that_are_remembered() {
    let world = World::new();
    let old = world.good();
    world.principal(&old);
    world.authenticator.change(|standing| {
        let rotated = standing.roots.rotated(at(2_000).wall(), at(ISSUED)).unwrap();
        standing.roots = Arc::new(rotated);
    });
    let new = world.good();
    assert_eq!(inspect(&new).unwrap().root_id, 2);
    for token in [&old, &new] {
        assert!(world.ask(token, at(1_999)).is_ok());
    }
    assert_eq!(world.ask(&old, at(2_000)).unwrap_err(), Refusal::UnknownRoot);
    let never_seen = narrow(&old, READING);
    assert_eq!(world.ask(&never_seen, at(2_000)).unwrap_err(), Refusal::UnknownRoot);
    assert!(world.ask(&new, at(2_000)).is_ok());
    let set_back = Now::new(at(ISSUED).wall(), at(2_000).wall());
    assert_eq!(world.ask(&old, set_back).unwrap_err(), Refusal::UnknownRoot);
}

#[test]
fn only_a_token_for_all_as_it_was_minted_manages_credentials() {
    let world = World::new();
    let manages = |token: &str, tenant: &TenantName, now: Now| {
        world.principal(token).may_manage_credentials(tenant, now)
    };
    let good = world.good();
    let permit = manages(&good, &acme(), at(ISSUED)).unwrap();
    assert_eq!(permit.tenant(), ID);
    for scopes in [ScopeSet::NONE.with(Scope::SecretRead), ScopeSet::NONE.with(Scope::All)] {
        assert_eq!(permit.hand_on(scopes), Ok(scopes));
    }
    let narrowed = narrow(&good, r#"check if time($t), $t < 1970-01-01T02:46:40Z"#);
    for refused in [
        narrowed,
        append(&good, BlockBuilder::new()),
        world.mint(&[Scope::SecretRead, Scope::SecretWrite]),
    ] {
        assert_eq!(manages(&refused, &acme(), at(ISSUED)).unwrap_err(), Forbidden);
    }
    let other = TenantName::parse("beta").unwrap();
    assert_eq!(manages(&good, &other, at(ISSUED)).unwrap_err(), Forbidden);
    assert_eq!(manages(&good, &acme(), at(EXPIRES)).unwrap_err(), Forbidden);
}

// Reading a token, and what is never shown.

#[test]
fn a_token_reads_in_plain_words() {
    let world = World::new();
    let token = narrow(
        &world.mint(&[Scope::SecretRead]),
        r#"
        check if operation("read");
        check if resource($r), $r.starts_with("ci-") or resource("a");
        check if resource($r), ["y", "x\u{1b}[2J"].contains($r);
        check if time($t), $t < 1970-01-01T00:33:20Z;
        "#
        .replace("\\u{1b}", "\u{1b}")
        .as_str(),
    );
    let inspection = inspect(&token).unwrap();
    let revocation_ids = inspection.revocation_ids.clone();
    assert_eq!(
        inspection,
        Inspection {
            tenant: Some("acme".to_owned()),
            tenant_id: Some("07".repeat(16)),
            subject: "ci".to_owned(),
            issued: "1970-01-01T00:16:40Z".to_owned(),
            expires: "1970-01-01T02:46:40Z".to_owned(),
            scopes: vec!["Secret.Read"],
            root_id: 1,
            narrowed_to: vec![
                "only to read and list".to_owned(),
                "only secrets whose name begins with \"ci-\", or the secret \"a\"".to_owned(),
                "only a secret out of [\"x\\u{1b}[2J\", \"y\"]".to_owned(),
                "only before 1970-01-01T00:33:20Z".to_owned(),
            ],
            sealed: false,
            blocks: 2,
            revocation_ids: revocation_ids.clone(),
        }
    );
    let principal = world.principal(&token);
    let CredentialId::Biscuit(blocks) = principal.id() else { panic!("a biscuit") };
    assert!(blocks.iter().map(ToString::to_string).eq(revocation_ids));
    let json = serde_json::to_value(inspect(&world.good()).unwrap()).unwrap();
    assert_eq!(json["narrowedTo"], serde_json::json!([]));
    assert_eq!(json["scopes"], serde_json::json!(["*"]));
}

#[test]
fn inspection_needs_no_signature() {
    assert_eq!(inspect(&World::new().good()).unwrap().tenant.as_deref(), Some("acme"));
}

#[test]
fn debug_shows_no_token_no_key_and_no_name() {
    let world = World::new();
    let token = narrow(&world.good(), r#"check if resource("hidden-name")"#);
    let principal = world.principal(&token);
    let list = principal.may_list(&acme(), at(ISSUED)).unwrap();
    let permit = principal.may_read(&acme(), name("hidden-name"), at(ISSUED)).unwrap();
    let roots = world.authenticator.roots();
    let shown = format!("{principal:?} {list:?} {permit:?} {:?} {roots:?}", world.authenticator);
    let secret = world.pair.private().to_bytes();
    let digits = format!("{:?}", &secret[..4]);
    for hidden in [
        &token[..40],
        &token[token.len() - 40..],
        "hidden-name",
        &hex::encode(&secret[..4]),
        digits.trim_matches(['[', ']']),
    ] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

// Properties.

#[derive(Debug, Clone)]
enum Clause {
    Is(&'static str, &'static str),
    OneOf(&'static str, Vec<&'static str>, Container),
    Prefix(&'static str),
    Time(library::Binary, u64),
}

#[derive(Debug, Clone, Copy)]
enum Container {
    Array,
    Set,
}

impl Clause {
    fn rule(&self) -> library::Rule {
        use library::{Binary, Expression, Op, Rule, constrained_rule, pred, rule, string, var};
        let compare = |predicate: &str, left: Term, right: Term, operator: Binary| -> Rule {
            let ops = vec![Op::Value(left), Op::Value(right), Op::Binary(operator)];
            let body = pred(predicate, &[var("v")]);
            constrained_rule::<Term, _, _>("query", &[], &[body], &[Expression { ops }])
        };
        match self {
            Self::Is(predicate, word) => {
                rule::<Term, _>("query", &[], &[pred(predicate, &[string(word)])])
            }
            Self::OneOf(predicate, words, container) => {
                let words = words.iter().map(|word| string(word));
                let words = match container {
                    Container::Array => Term::Array(words.collect()),
                    Container::Set => Term::Set(words.collect::<BTreeSet<_>>()),
                };
                compare(predicate, words, var("v"), Binary::Contains)
            }
            Self::Prefix(prefix) => compare("resource", var("v"), string(prefix), Binary::Prefix),
            Self::Time(operator, date) => {
                compare("time", var("v"), Term::Date(*date), operator.clone())
            }
        }
    }
}

fn predicate() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["operation", "resource", "resource"])
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["read", "write", "a", "ab", "b", "abc", "", "é", "tenant"])
}

fn clause() -> impl Strategy<Value = Clause> {
    use library::Binary::{GreaterOrEqual, GreaterThan, LessOrEqual, LessThan};
    let container = prop::sample::select(vec![Container::Array, Container::Set]);
    let operator = prop::sample::select(vec![LessThan, LessOrEqual, GreaterThan, GreaterOrEqual]);
    prop_oneof![
        (predicate(), word()).prop_map(|(predicate, word)| Clause::Is(predicate, word)),
        (predicate(), prop::collection::vec(word(), 0..4), container)
            .prop_map(|(predicate, words, container)| Clause::OneOf(predicate, words, container)),
        word().prop_map(Clause::Prefix),
        (operator, date()).prop_map(|(operator, date)| Clause::Time(operator, date)),
    ]
}

/// Around the time of the requests, and the ends of what can be written.
fn date() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => 1_995..2_005_u64,
        1 => prop::sample::select(vec![0, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX]),
    ]
}

type Blocks = Vec<Vec<Vec<Clause>>>;

fn blocks() -> impl Strategy<Value = Blocks> {
    let check = prop::collection::vec(clause(), 1..4);
    prop::collection::vec(prop::collection::vec(check, 0..3), 0..4)
}

fn build(world: &World, blocks: &Blocks) -> Biscuit {
    let root = world.pair.public();
    blocks.iter().fold(Biscuit::from_base64(world.good(), root).unwrap(), |token, checks| {
        let block = checks.iter().fold(BlockBuilder::new(), |block, queries| {
            let queries = queries.iter().map(Clause::rule).collect();
            block.check(library::Check { queries, kind: library::CheckKind::One }).unwrap()
        });
        token.append(block).unwrap()
    })
}

/// Within the seconds that are compared with, and on their edges.
fn moment() -> impl Strategy<Value = i64> {
    let edge = prop::sample::select(vec![0, 1, 499_999, 999_999]);
    prop_oneof![
        1_994_000_000..2_006_000_000_i64,
        (1_994..2_006_i64, edge).prop_map(|(second, micros)| second * 1_000_000 + micros),
        0..3_000_000_i64,
    ]
}

/// What biscuit's own authorizer says, with limits that never bind.
fn library_allows(token: &Biscuit, operation: Operation, secret: &str, seconds: i64) -> bool {
    let request = request_at(seconds).operation(operation.as_str()).resource(secret);
    request.build(token).is_ok_and(|mut authorizer| authorizer.authorize().is_ok())
}

fn library_allows_server(token: &Biscuit, seconds: i64) -> bool {
    request_at(seconds).build(token).is_ok_and(|mut authorizer| authorizer.authorize().is_ok())
}

fn request_at(seconds: i64) -> AuthorizerBuilder {
    let limits = AuthorizerLimits {
        max_facts: 100_000,
        max_iterations: 100_000,
        max_time: Duration::from_secs(60),
    };
    let time = Term::Date(u64::try_from(seconds).unwrap());
    let time = AuthorizerBuilder::new().fact(library::fact("time", &[time])).unwrap();
    time.allow_all().set_limits(limits)
}

proptest! {
    #[test]
    fn the_matcher_never_disagrees_with_biscuits_authorizer(
        blocks in blocks(),
        requests in prop::collection::vec(
            (any::<bool>(), prop::sample::select(vec!["a", "ab", "abc", "b", "A", "read", "c"]),
             moment()),
            1..8,
        ),
    ) {
        let world = World::new();
        let token = build(&world, &blocks);
        let principal = world.principal(&token.to_base64().unwrap());
        for (write, secret, micros) in requests {
            let now = at_micros(micros);
            let seconds = now.wall().unix_seconds();
            let (operation, ours) = if write {
                (Operation::Write, writes(&principal, secret, now))
            } else {
                (Operation::Read, reads(&principal, secret, now))
            };
            prop_assert_eq!(ours, library_allows(&token, operation, secret, seconds));
            let of_server = principal.caveats().allow_server(now);
            prop_assert_eq!(of_server, library_allows_server(&token, seconds));
        }
    }

    #[test]
    fn a_list_shows_exactly_what_may_be_read(
        blocks in blocks(),
        micros in 1_994_000_000..2_006_000_000_i64,
    ) {
        let world = World::new();
        let principal = world.principal(&build(&world, &blocks).to_base64().unwrap());
        let now = at_micros(micros);
        let list = principal.may_list(&acme(), now);
        for secret in ["a", "ab", "abc", "b", "read", "c"] {
            let shown = list.as_ref().is_ok_and(|list| list.shows(&name(secret), now));
            prop_assert_eq!(shown, reads(&principal, secret, now));
            if list.as_ref().is_ok_and(ListPermit::shows_all) {
                prop_assert!(shown);
            }
        }
    }

    #[test]
    fn what_is_minted_is_what_is_read(
        tenant in "[A-Za-z0-9_-]{1,64}",
        id in any::<[u8; 16]>(),
        subject in "\\PC{1,128}",
        scopes in prop::collection::vec(prop::sample::select(Scope::EVERY.to_vec()), 1..4),
        issued in 0..4_000_000_000_i64,
        term in 1..4_000_000_000_i64,
    ) {
        let Ok(subject) = Subject::parse(&subject) else { return Ok(()) };
        let tenant = TenantName::parse(&tenant).unwrap();
        let id = TenantId::from_bytes(id);
        let wanted = Mint {
            tenant: &tenant,
            tenant_id: id,
            subject: &subject,
            scopes: scopes.into_iter().collect(),
            issued: at(issued).wall(),
            expires: at(issued + term).wall(),
        };
        let standing = standing(Roots::generate());
        let authenticator = Authenticator::new(standing, 1, Arc::new(Limits::none()));
        let token = mint(&authenticator.roots(), &wanted).unwrap();
        let tenants = vec![(tenant.clone(), id)];
        let principal = authenticator.authenticate(&token, Source::UNKNOWN, at(issued), &tenants).unwrap();
        prop_assert_eq!((principal.tenant(), principal.tenant_id()), (Some(&tenant), Some(id)));
        prop_assert_eq!(principal.subject(), &subject);
        prop_assert_eq!(principal.scopes(), wanted.scopes);
        prop_assert_eq!(principal.expires(), Some(wanted.expires));
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let world = World::new();
        prop_assert!(world.ask(&text, at(ISSUED)).is_err());
        prop_assert!(world.ask(&base64(&bytes), at(ISSUED)).is_err());
        prop_assert!(inspect(&base64(&bytes)).is_err());
    }

    #[test]
    fn a_mutated_token_never_authenticates_to_more(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let world = World::new();
        let original = world.good();
        let token = narrow(&original, r#"check if resource("a") or resource($r), $r.starts_with("b")"#);
        let honest = world.principal(&token);
        let mut bytes = UnverifiedBiscuit::from_base64(&token).unwrap().to_vec().unwrap();
        for (index, byte, kind) in changes {
            let index = index.index(bytes.len());
            match kind {
                0 => bytes[index] ^= byte,
                1 => bytes.insert(index, byte),
                _ => drop(bytes.remove(index)),
            }
        }
        let mutated = base64(&bytes);
        let _ = inspect(&mutated);
        if let Ok(principal) = world.ask(&mutated, at(ISSUED)) {
            prop_assert_eq!(principal.tenant_id(), honest.tenant_id());
            prop_assert_eq!(principal.scopes(), honest.scopes());
            prop_assert_eq!(principal.expires(), honest.expires());
            prop_assert!(principal.caveats() == honest.caveats());
        }
    }

    /// The holder of an unsealed token signs whatever block he likes, so only the
    /// shape guard stands between a strange block and the matcher.
    #[test]
    fn a_strange_block_is_refused_or_matched_as_biscuit_would(
        blocks in blocks(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..3),
        micros in 1_994_000_000..2_006_000_000_i64,
    ) {
        let world = World::new();
        let honest = build(&world, &blocks);
        let mut bytes = match honest.container().to_proto().blocks.pop() {
            Some(block) => block.block,
            None => vec![0],
        };
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = bytes[index].wrapping_add(byte);
        }
        let before = build(&world, &blocks[..blocks.len().saturating_sub(1)].to_vec());
        let signed = before.container().append_serialized(&KeyPair::new(), bytes, None).unwrap();
        let strange = signed.to_vec().unwrap();
        if let Ok(principal) = world.ask(&base64(&strange), at(ISSUED)) {
            let token = Biscuit::from(&strange, world.pair.public()).unwrap();
            let now = at_micros(micros);
            let seconds = now.wall().unix_seconds();
            for secret in ["a", "ab", "abc", "b", "read", "c"] {
                let read = library_allows(&token, Operation::Read, secret, seconds);
                prop_assert_eq!(reads(&principal, secret, now), read);
                let write = library_allows(&token, Operation::Write, secret, seconds);
                prop_assert_eq!(writes(&principal, secret, now), write);
            }
        }
    }
}

/// Small steps reach the neighbouring operator, symbol or type more often than
/// random bytes do.
fn change() -> impl Strategy<Value = u8> {
    prop_oneof![1..4_u8, 253..=255_u8, any::<u8>()]
}
