//! For each allow the deny, with tokens that the tests sign themselves.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD as BASE64};
use futures_util::FutureExt;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use serde_json::{Value, json};

use super::*;
use crate::auth::{
    ApiKeys, Authenticator, CredentialId, CredentialKind, Identity, Limits, Principal, Revocation,
    RevocationTarget, Revocations, Roots, Standing, Subject, TenantDirectory,
};
use crate::crypto::AnchorKeys;
use crate::domain::{Scope, ScopeSet, Source, TenantId, TenantName};

const ISSUER: &str = "https://issuer.test";
const ISSUED: i64 = 1_000;
const EXPIRES: i64 = 10_000;

/// A private key that the tests made.
enum Signer {
    Es256(EcdsaKeyPair),
    Es384(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn es256() -> Self {
        Self::Es256(ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Es384(_) => "ES384",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Self::Es256(pair) | Self::Es384(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        let public = self.public();
        let of_curve = |crv: &str| {
            let (x, y) = public[1..].split_at(public.len() / 2);
            json!({"kty": "EC", "crv": crv, "x": BASE64.encode(x), "y": BASE64.encode(y), "kid": kid})
        };
        match self {
            Self::Es256(_) => of_curve("P-256"),
            Self::Es384(_) => of_curve("P-384"),
            Self::Ed(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(&public), "kid": kid})
            }
        }
    }

    fn sign(&self, message: &str) -> String {
        BASE64.encode(match self {
            Self::Es256(pair) | Self::Es384(pair) => {
                pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
            }
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        })
    }

    /// The texts of header and claims, signed as they are.
    fn token(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        format!("{message}.{}", self.sign(&message))
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
}

fn ed25519() -> Signer {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Signer::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
}

fn policy() -> IssuerPolicy {
    IssuerPolicy {
        issuer: ISSUER.into(),
        audience: "https://tenure.test".into(),
        tenant_claim: "tenant".into(),
        tenants: [("acme-corp".into(), tenant("acme")), ("b".into(), tenant("beta"))].into(),
        other_tenants: OtherTenants::Refused,
        scopes: [
            ("t:read".into(), Scope::SecretRead),
            ("t:write".into(), Scope::SecretWrite),
            ("t:all".into(), Scope::All),
        ]
        .into(),
    }
}

fn tenant(name: &str) -> TenantName {
    TenantName::parse(name).unwrap()
}

fn at(seconds: i64) -> Now {
    Now::undisputed(Timestamp::from_unix_seconds(seconds))
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// One issuer with one key, `k`.
struct World {
    signer: Signer,
    issuers: Issuers,
}

impl World {
    fn new() -> Self {
        Self::with(Signer::es256(), policy())
    }

    fn with(signer: Signer, policy: IssuerPolicy) -> Self {
        let issuers = Issuers::new([policy]);
        let world = Self { signer, issuers };
        world.issuer().install(key_set(&[world.signer.jwk("k")]), at(ISSUED));
        world
    }

    fn issuer(&self) -> &Arc<Issuer> {
        self.issuers.iter().next().unwrap()
    }

    fn header(&self) -> Value {
        json!({"alg": self.signer.alg(), "typ": "at+jwt", "kid": "k"})
    }

    fn good(&self) -> String {
        self.signed(self.header(), claims())
    }

    fn signed(&self, header: Value, claims: Value) -> String {
        self.signer.token(&header.to_string(), &claims.to_string())
    }

    fn ask_at(&self, token: &str, now: Now) -> Result<Claimed, Refusal> {
        let (_, claimed) = self.issuers.verify(token, now)?;
        claimed.validity.check(now)?;
        Ok(claimed)
    }

    fn ask(&self, token: &str) -> Result<Claimed, Refusal> {
        self.ask_at(token, at(ISSUED))
    }

    fn refusal(&self, token: &str) -> Refusal {
        self.ask(token).err().expect("a refusal")
    }

    /// The same token with one claim that is another, or none.
    fn with_claim(&self, name: &str, value: Value) -> Result<Claimed, Refusal> {
        self.ask(&self.signed(self.header(), changed(claims(), name, value)))
    }

    fn with_header(&self, name: &str, value: Value) -> Result<Claimed, Refusal> {
        self.ask(&self.signed(changed(self.header(), name, value), claims()))
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "aud": "https://tenure.test", "iat": ISSUED,
        "exp": EXPIRES, "jti": "1", "tenant": "acme-corp", "scope": "openid t:read",
    })
}

/// `null` takes it away.
fn changed(mut object: Value, name: &str, value: Value) -> Value {
    if value.is_null() {
        object.as_object_mut().unwrap().remove(name);
    } else {
        object[name] = value;
    }
    object
}

fn err(outcome: Result<Claimed, Refusal>) -> Refusal {
    outcome.err().expect("a refusal")
}

// What is honoured.

#[test]
fn a_token_is_its_subjects_in_its_tenant() {
    let world = World::new();
    let claimed = world.ask(&world.good()).unwrap();
    assert_eq!(claimed.tenant, tenant("acme"));
    assert_eq!(claimed.subject.as_str(), "alice");
    assert_eq!(claimed.id.as_deref(), Some("1"));
    assert_eq!(claimed.scopes, ScopeSet::NONE.with(Scope::SecretRead));
    let (issued, expires) = (at(ISSUED).wall(), at(EXPIRES).wall());
    assert_eq!(claimed.validity, Validity { issued, not_before: None, expires });
}

#[test]
fn every_algorithm_that_is_documented_is_verified() {
    let es384 = Signer::Es384(ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING));
    for signer in [Signer::es256(), es384, ed25519()] {
        let world = World::with(signer, policy());
        assert!(world.ask(&world.good()).is_ok(), "{}", world.signer.alg());
        let other = World::with(Signer::es256(), policy());
        assert!(other.ask(&world.good()).is_err(), "{}", world.signer.alg());
    }
}

/// Of RSA, ring makes no keys: these were signed elsewhere.
#[test]
fn rsa_signatures_are_verified_by_the_keys_own_algorithm() {
    let samples = include_str!("../../../tests/vectors/access-tokens.json");
    let samples: Value = serde_json::from_str(samples).unwrap();
    for (alg, other) in [("RS256", "PS256"), ("PS256", "RS256")] {
        let (jwk, token) = (&samples[alg]["jwk"], samples[alg]["token"].as_str().unwrap());
        let world = World::new();
        let with = |jwk: &Value| {
            world.issuer().install(key_set(std::slice::from_ref(jwk)), at(ISSUED));
            world.ask(token).map(|claimed| claimed.subject)
        };
        // The sample's tenant claim is not of the policy; all before it is judged.
        assert_eq!(with(jwk), Err(Refusal::UnknownTenant), "{alg}");
        assert_eq!(with(&changed(jwk.clone(), "alg", other.into())), Err(Refusal::Algorithm));
        let natural = with(&changed(jwk.clone(), "alg", Value::Null));
        let expected = if alg == "RS256" { Refusal::UnknownTenant } else { Refusal::Algorithm };
        assert_eq!(natural, Err(expected), "{alg}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{message}.{}A{}", &signature[..9], &signature[10..]);
        world.issuer().install(key_set(std::slice::from_ref(jwk)), at(ISSUED));
        assert_eq!(world.refusal(&forged), Refusal::Signature, "{alg}");
    }
}

#[test]
fn the_newer_name_of_eddsa_is_the_same_algorithm() {
    let world = World::with(ed25519(), policy());
    assert!(world.with_header("alg", "Ed25519".into()).is_ok());
    let jwk = changed(world.signer.jwk("k"), "alg", "Ed25519".into());
    world.issuer().install(key_set(&[jwk]), at(ISSUED));
    assert!(world.ask(&world.good()).is_ok());
}

#[test]
fn an_access_token_says_so_in_any_case() {
    let world = World::new();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(world.with_header("typ", typ.into()).is_ok(), "{typ}");
    }
    for typ in [Value::Null, "JWT".into(), "".into(), "at+jwt2".into(), "jwt".into(), json!(1)] {
        assert_eq!(err(world.with_header("typ", typ)), Refusal::TokenType);
    }
    // An ID token, which the same key signs.
    let id_token = json!({"alg": "ES256", "kid": "k"});
    assert_eq!(world.refusal(&world.signed(id_token, claims())), Refusal::TokenType);
}

#[test]
fn an_audience_may_be_one_of_several() {
    let world = World::new();
    let ours = "https://tenure.test";
    for aud in [json!([ours]), json!(["https://other.test", ours])] {
        assert!(world.with_claim("aud", aud).is_ok());
    }
    for aud in [
        Value::Null,
        json!(""),
        json!("https://other.test"),
        json!("https://tenure.test/"),
        json!("HTTPS://tenure.test"),
        json!([]),
        json!(["https://other.test"]),
        json!([ours, 1]),
        json!([[ours]]),
        json!({ ours: ours }),
        json!(1),
    ] {
        assert_eq!(err(world.with_claim("aud", aud.clone())), Refusal::Audience, "{aud}");
    }
}

#[test]
fn a_tenant_is_what_the_list_says_a_claim_means() {
    let world = World::new();
    let told = |value: Value| world.with_claim("tenant", value).map(|claimed| claimed.tenant);
    assert_eq!(told("b".into()), Ok(tenant("beta")));
    for unlisted in
        [Value::Null, "acme".into(), "beta".into(), "*".into(), "".into(), json!(["b"]), json!(1)]
    {
        assert_eq!(told(unlisted.clone()), Err(Refusal::UnknownTenant), "{unlisted}");
    }
}

#[test]
fn a_wildcard_takes_a_claim_at_its_word() {
    let policy = IssuerPolicy { other_tenants: OtherTenants::ByName, ..policy() };
    let world = World::with(Signer::es256(), policy);
    let told = |value: &str| world.with_claim("tenant", value.into()).map(|claimed| claimed.tenant);
    assert_eq!(told("gamma"), Ok(tenant("gamma")));
    assert_eq!(told("acme-corp"), Ok(tenant("acme")), "what is listed comes first");
    for bad in ["", "*", "a/b", "..", "ä"] {
        assert_eq!(told(bad), Err(Refusal::UnknownTenant), "{bad}");
    }
}

#[test]
fn any_claim_can_be_the_one_that_names_the_tenant() {
    let policy = IssuerPolicy {
        tenant_claim: "iss".into(),
        tenants: [(ISSUER.into(), tenant("acme"))].into(),
        ..policy()
    };
    let world = World::with(Signer::es256(), policy);
    assert_eq!(world.with_claim("tenant", "b".into()).unwrap().tenant, tenant("acme"));
}

#[test]
fn scopes_are_the_listed_words_of_three_claims() {
    let world = World::new();
    let told = |name: &str, value: Value| {
        let bare = changed(claims(), "scope", Value::Null);
        let token = world.signed(world.header(), changed(bare, name, value));
        world.ask(&token).unwrap().scopes.iter().collect::<Vec<_>>()
    };
    for name in ["scope", "scp", "permissions"] {
        assert_eq!(told(name, "t:read t:write".into()), [Scope::SecretRead, Scope::SecretWrite]);
        assert_eq!(told(name, json!(["t:all", "x", 1])), [Scope::All]);
        for none in [
            json!(""),
            json!("T:READ"),
            json!("t:read,t:write"),
            json!("t:readt:write"),
            json!("Secret.Read *"),
            json!("Server.Admin"),
            json!({"t:read": true}),
            json!([["t:read"]]),
            json!(1),
        ] {
            assert_eq!(told(name, none.clone()), [], "{name} {none}");
        }
    }
    assert_eq!(told("roles", "t:read".into()), []);
    let both = changed(claims(), "permissions", json!(["t:write"]));
    let both = world.ask(&world.signed(world.header(), both)).unwrap().scopes;
    assert_eq!(both.iter().collect::<Vec<_>>(), [Scope::SecretRead, Scope::SecretWrite]);
}

// When it is good.

#[test]
fn a_token_expires_to_the_second_by_the_clock_that_does_not_go_back() {
    let world = World::new();
    let token = world.good();
    assert!(world.ask_at(&token, at(EXPIRES - 1)).is_ok());
    assert_eq!(err(world.ask_at(&token, at(EXPIRES))), Refusal::Expired);
    let back = Now::new(at(ISSUED).wall(), at(EXPIRES).wall());
    assert_eq!(err(world.ask_at(&token, back)), Refusal::Expired);
}

#[test]
fn a_token_may_be_half_a_minute_early_and_no_more() {
    let world = World::new();
    let token = world.signed(world.header(), changed(claims(), "nbf", json!(2_000)));
    assert!(world.ask_at(&token, at(1_970)).is_ok());
    assert_eq!(err(world.ask_at(&token, at(1_969))), Refusal::NotYetValid);
    let ahead = Now::new(at(1_000).wall(), at(5_000).wall());
    assert_eq!(err(world.ask_at(&token, ahead)), Refusal::NotYetValid, "by the wall clock");
    assert!(world.with_claim("iat", json!(ISSUED + 30)).is_ok());
    assert_eq!(err(world.with_claim("iat", json!(ISSUED + 31))), Refusal::NotYetValid);
}

#[test]
fn times_are_seconds_and_those_that_must_be_there_are() {
    let world = World::new();
    for name in ["exp", "iat"] {
        assert_eq!(err(world.with_claim(name, Value::Null)), Refusal::Claims, "{name}");
    }
    for name in ["exp", "iat", "nbf"] {
        for bad in [json!("9000"), json!(-1), json!(1e300), json!(253_402_300_800_i64), json!([1])]
        {
            assert_eq!(err(world.with_claim(name, bad.clone())), Refusal::Claims, "{name} {bad}");
        }
    }
    let explicit_null = r#"{"iss":"https://issuer.test","sub":"a","aud":"https://tenure.test",
        "iat":1000,"exp":null,"tenant":"b"}"#;
    let token = world.signer.token(&world.header().to_string(), explicit_null);
    assert_eq!(world.refusal(&token), Refusal::Claims);
    let whole = world.with_claim("exp", json!(9_999.9)).unwrap().validity.expires;
    assert_eq!(whole, at(9_999).wall(), "a fraction is cut off");
}

// What is refused.

#[test]
fn only_the_issuer_itself_is_the_issuer() {
    let world = World::new();
    for iss in [
        Value::Null,
        json!(""),
        json!("https://issuer.test/"),
        json!("https://ISSUER.test"),
        json!("https://other.test"),
        json!([ISSUER]),
        json!({ "iss": ISSUER }),
    ] {
        assert_eq!(err(world.with_claim("iss", iss.clone())), Refusal::UnknownIssuer, "{iss}");
    }
}

#[test]
fn a_key_vouches_for_its_own_issuer_alone() {
    let world = World::new();
    let other = IssuerPolicy { issuer: "https://other.test".into(), ..policy() };
    let issuers = Issuers::new([policy(), other]);
    let strangers = Signer::es256();
    for (issuer, signer) in issuers.iter().zip([&strangers, &world.signer]) {
        issuer.install(key_set(&[signer.jwk("k")]), at(ISSUED));
    }
    let refusal = issuers.verify(&world.good(), at(ISSUED)).err();
    assert_eq!(refusal, Some(Refusal::Signature));
}

#[test]
fn no_token_chooses_its_algorithm() {
    let world = World::new();
    for alg in ["none", "None", "nOnE", "HS256", "HS384", "es256", "ES512", "RS384", "", "dir"] {
        assert_eq!(err(world.with_header("alg", alg.into())), Refusal::Algorithm, "{alg}");
    }
    for alg in [Value::Null, json!(1), json!(["ES256"])] {
        assert_eq!(err(world.with_header("alg", alg)), Refusal::Algorithm);
    }
    for alg in ["RS256", "PS256", "ES384", "EdDSA"] {
        assert_eq!(err(world.with_header("alg", alg.into())), Refusal::Algorithm, "{alg}");
    }
    let unsigned = json!({"alg": "none", "typ": "at+jwt", "kid": "k"});
    let message =
        format!("{}.{}", BASE64.encode(unsigned.to_string()), BASE64.encode(claims().to_string()));
    assert_eq!(world.refusal(&format!("{message}.")), Refusal::Algorithm);
}

#[test]
fn a_public_key_is_no_secret_of_an_hmac() {
    let world = World::new();
    let public = world.signer.public();
    let jwk = world.signer.jwk("k").to_string();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&public)
    );
    for secret in [&public[..], &public[1..], jwk.as_bytes(), pem.as_bytes(), b""] {
        for alg in ["HS256", "ES256"] {
            let header = json!({"alg": alg, "typ": "at+jwt", "kid": "k"}).to_string();
            let message =
                format!("{}.{}", BASE64.encode(header), BASE64.encode(claims().to_string()));
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
            let tag = BASE64.encode(ring::hmac::sign(&key, message.as_bytes()));
            let refusal = world.refusal(&format!("{message}.{tag}"));
            assert!(matches!(refusal, Refusal::Algorithm | Refusal::Signature), "{refusal:?}");
        }
    }
}

#[test]
fn a_key_in_or_beside_the_token_is_not_looked_at() {
    let (world, mine) = (World::new(), Signer::es256());
    for (name, value) in [
        ("jwk", mine.jwk("k")),
        ("jku", json!("https://evil.test/keys")),
        ("x5u", json!("https://evil.test/chain")),
        ("x5c", json!([STANDARD.encode("certificate")])),
        ("x5t", json!("thumb")),
    ] {
        assert!(world.with_header(name, value.clone()).is_ok(), "{name}");
        let header = changed(world.header(), name, value);
        let token = mine.token(&header.to_string(), &claims().to_string());
        assert_eq!(world.refusal(&token), Refusal::Signature, "{name}");
    }
}

#[test]
fn an_extension_that_must_be_understood_is_not() {
    let world = World::new();
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("exp")] {
        assert_eq!(err(world.with_header("crit", crit)), Refusal::Malformed);
    }
}

#[test]
fn a_token_names_one_key_that_is_there() {
    let world = World::new();
    for kid in ["K", "k ", "other", "../k", "' or 1=1"] {
        assert_eq!(err(world.with_header("kid", kid.into())), Refusal::UnknownKey, "{kid}");
    }
    for kid in [Value::Null, json!(""), json!(1), json!(["k"]), json!("k".repeat(257))] {
        assert_eq!(err(world.with_header("kid", kid)), Refusal::UnknownKey);
    }
}

#[test]
fn members_that_stand_twice_are_refused() {
    let world = World::new();
    let (header, claims) = (world.header().to_string(), claims().to_string());
    let twice = |object: &str, member: &str| format!("{{{member},{}", &object[1..]);
    for token in [
        world.signer.token(&twice(&header, r#""alg":"none""#), &claims),
        world.signer.token(&twice(&header, r#""typ":"at+jwt""#), &claims),
        world.signer.token(&header, &twice(&claims, r#""sub":"bob""#)),
        world.signer.token(&header, &twice(&claims, r#""su\u0062":"bob""#)),
    ] {
        assert_eq!(world.refusal(&token), Refusal::Malformed);
    }
}

#[test]
fn what_is_bound_to_a_key_is_no_bearer_token() {
    let world = World::new();
    let bound = json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"});
    assert_eq!(err(world.with_claim("cnf", bound)), Refusal::Claims);
}

#[test]
fn a_subject_is_somebody_who_can_be_shown() {
    let world = World::new();
    for sub in [Value::Null, json!(""), json!(1), json!("a\n"), json!("a".repeat(129))] {
        assert_eq!(err(world.with_claim("sub", sub)), Refusal::Claims);
    }
    assert_eq!(
        world.with_claim("sub", "auth0|5f7c".into()).unwrap().subject.as_str(),
        "auth0|5f7c"
    );
}

#[test]
fn a_token_is_at_most_8_kib() {
    let world = World::new();
    let padded = |length: usize| {
        let claims = changed(claims(), "groups", "g".repeat(length).into());
        world.signed(world.header(), claims)
    };
    let length = (0..6_000).rev().find(|length| padded(*length).len() <= 8 * 1_024).unwrap();
    assert!(world.ask(&padded(length)).is_ok());
    assert_eq!(world.refusal(&padded(length + 3)), Refusal::TooLarge);
    assert_eq!(world.refusal(&".".repeat(1_000_000)), Refusal::TooLarge);
}

#[test]
fn what_is_no_signed_token_is_malformed() {
    let world = World::new();
    let good = world.good();
    let parts: Vec<_> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    let claims = claims().to_string();
    for bad in [
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        format!("{header}.{payload}"),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}.{signature}"),
        format!(" {good}"),
        format!("{header}.{} .{signature}", payload),
        format!("{}.{payload}.{signature}", URL_SAFE.encode(world.header().to_string() + " ")),
        world.signer.token("[]", &claims),
        world.signer.token("null", &claims),
        world.signer.token(&world.header().to_string(), "\"claims\""),
        world.signer.token(&world.header().to_string(), &format!("{claims}{claims}")),
        world.signer.token(&world.header().to_string(), "\u{feff}{}"),
    ] {
        assert_eq!(world.refusal(&bad), Refusal::Malformed, "{bad}");
    }
}

#[test]
fn a_signature_is_of_just_these_bytes_by_just_this_key() {
    let world = World::new();
    let good = world.good();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = changed(claims(), "sub", "bob".into()).to_string();
    let (header, _) = message.split_once('.').unwrap();
    let Signer::Es256(pair) = Signer::es256() else { panic!("as it was made") };
    let strangers = Signer::Es256(pair);
    let der = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let der = der.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    for forged in [
        format!("{header}.{}.{signature}", BASE64.encode(other)),
        format!("{message}.{}", strangers.sign(message)),
        format!("{message}."),
        format!("{message}.{}", &signature[..signature.len() - 2]),
        format!("{message}.{signature}AA"),
        format!("{message}.{}", BASE64.encode([0; 64])),
        format!("{message}.{}", BASE64.encode(der)),
        format!("{message}.{signature}="),
        format!("{message}.?"),
    ] {
        assert_eq!(world.refusal(&forged), Refusal::Signature, "{forged}");
    }
}

// Keys, and how long they are used.

#[test]
fn a_key_that_is_not_fit_is_passed_over_and_the_others_are_used() {
    let signer = Signer::es256();
    let good = signer.jwk("good");
    let rsa = |bits: usize| {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] = if bits.is_multiple_of(8) { 0x80 } else { 1 };
        let numbers = (BASE64.encode(modulus), BASE64.encode([1, 0, 1]));
        json!({"kty": "RSA", "kid": "rsa", "n": numbers.0, "e": numbers.1})
    };
    let changed_good = |name: &str, value: Value| changed(good.clone(), name, value);
    let unfit = [
        json!({"kty": "oct", "kid": "hmac", "k": BASE64.encode([7; 32]), "alg": "HS256"}),
        json!({"kty": "oct", "kid": "hmac", "k": BASE64.encode([7; 32])}),
        json!({"kty": "EC", "crv": "secp256k1", "kid": "k", "x": "AA", "y": "AA"}),
        json!({"kty": "new", "kid": "k"}),
        json!({}),
        json!("key"),
        rsa(1_024),
        rsa(2_047),
        rsa(8_200),
        changed(rsa(2_048), "n", BASE64.encode([&[0][..], &[0xff; 256]].concat()).into()),
        changed(rsa(2_048), "e", Value::Null),
        changed_good("kid", Value::Null),
        changed_good("kid", "".into()),
        changed_good("kid", json!(7)),
        changed_good("use", "enc".into()),
        changed_good("key_ops", json!(["encrypt"])),
        changed_good("alg", "ES384".into()),
        changed_good("alg", "RS256".into()),
        changed_good("alg", "HS256".into()),
        changed_good("alg", "ECDH-ES".into()),
        changed_good("crv", "P-384".into()),
        changed_good("y", Value::Null),
        changed_good("y", "AA".into()),
        changed_good("d", BASE64.encode([7; 32]).into()),
    ];
    for key in &unfit {
        let set = key_set(&[key.clone(), signer.jwk("other")]);
        assert_eq!((set.len(), set.passed_over()), (1, 1), "{key}");
        assert!(set.get("other").is_some());
    }
    for fit in [
        changed_good("use", "sig".into()),
        changed_good("key_ops", json!(["verify", "sign"])),
        changed_good("alg", "ES256".into()),
        changed_good("x5c", json!(["ignored"])),
        rsa(2_048),
        rsa(8_192),
        changed(rsa(4_096), "alg", "PS256".into()),
    ] {
        assert_eq!(key_set(std::slice::from_ref(&fit)).len(), 1, "{fit}");
    }
}

#[test]
fn two_keys_of_one_id_are_neither() {
    let (one, two) = (Signer::es256(), Signer::es256());
    let set = key_set(&[one.jwk("k"), two.jwk("k"), two.jwk("other")]);
    assert!(set.get("k").is_none() && set.get("other").is_some());
    assert_eq!(set.passed_over(), 2);
    let set = key_set(&[one.jwk("k"), one.jwk("k")]);
    assert_eq!((set.len(), set.passed_over()), (1, 1), "the same twice is one");
    let set = key_set(&[one.jwk("k"), two.jwk("k"), one.jwk("k")]);
    assert!(set.is_empty(), "a third does not settle it");
}

#[test]
fn a_set_is_an_object_with_few_keys() {
    let parse = |text: &str| KeySet::parse(text.as_bytes()).map(|set| set.len());
    for text in
        ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":null}", "{\"keys\":[],\"keys\":[]}", "<html>"]
    {
        assert_eq!(parse(text), Err(KeySetError::Shape), "{text}");
    }
    assert_eq!(parse("{\"keys\":[]}"), Ok(0));
    let many = |count: usize| json!({"keys": vec![json!({}); count]}).to_string();
    assert_eq!(parse(&many(100)), Ok(0));
    assert_eq!(parse(&many(101)), Err(KeySetError::TooMany));
}

#[test]
fn without_keys_a_token_cannot_be_judged() {
    let world = World::new();
    let issuers = Issuers::new([policy()]);
    assert_eq!(issuers.verify(&world.good(), at(ISSUED)).err(), Some(Refusal::NoKeys));
    assert!(!issuers.iter().next().unwrap().has_keys(at(ISSUED)));
}

#[test]
fn a_set_is_used_for_a_day_and_no_longer() {
    let world = World::new();
    let exp = json!(ISSUED + 10 * 86_400);
    let token = world.signed(world.header(), changed(claims(), "exp", exp));
    let (voucher, _) = world.issuers.verify(&token, at(ISSUED)).unwrap();
    let last = at(ISSUED + 86_399);
    assert!(world.ask_at(&token, last).is_ok() && voucher.check(last).is_ok());
    let stale = at(ISSUED + 86_400);
    assert_eq!(err(world.ask_at(&token, stale)), Refusal::NoKeys);
    assert_eq!(voucher.check(stale), Err(Refusal::NoKeys));
    let back = Now::new(at(ISSUED).wall(), stale.wall());
    assert_eq!(voucher.check(back), Err(Refusal::NoKeys), "a clock set back renews nothing");
    world.issuer().install(key_set(&[world.signer.jwk("k")]), stale);
    assert!(world.ask_at(&token, stale).is_ok() && voucher.check(stale).is_ok());
}

#[test]
fn a_key_that_leaves_the_set_ends_what_it_vouched_for() {
    let world = World::new();
    let (voucher, _) = world.issuers.verify(&world.good(), at(ISSUED)).unwrap();
    assert_eq!(voucher.check(at(ISSUED)), Ok(()));
    let jwk = world.signer.jwk("k");
    let next = Signer::es256();
    for (what, keys) in [
        ("gone", vec![next.jwk("next")]),
        ("none at all", vec![]),
        ("another under its id", vec![next.jwk("k")]),
        ("the same under another id", vec![world.signer.jwk("k2")]),
        ("no longer for signatures", vec![changed(jwk.clone(), "use", "enc".into())]),
    ] {
        world.issuer().install(key_set(&keys), at(ISSUED));
        assert_eq!(voucher.check(at(ISSUED)), Err(Refusal::UnknownKey), "{what}");
        assert!(world.ask(&world.good()).is_err(), "{what}");
    }
    world.issuer().install(key_set(&[next.jwk("next"), jwk]), at(ISSUED));
    assert_eq!(voucher.check(at(ISSUED)), Ok(()));
}

#[test]
fn a_token_by_an_unknown_key_asks_for_the_set_and_no_other_does() {
    let world = World::new();
    let wanted = || world.issuer().key_wanted().now_or_never().is_some();
    world.ask(&world.good()).unwrap();
    for token in ["a.b.c".to_owned(), world.good() + "AAAA"] {
        world.refusal(&token);
    }
    assert!(!wanted());
    for _ in 0..3 {
        assert_eq!(err(world.with_header("kid", "new".into())), Refusal::UnknownKey);
    }
    assert!(wanted() && !wanted(), "many ask once");
}

// Through the authenticator, which remembers them.

const ID: TenantId = TenantId::from_bytes([7; 16]);

/// `acme` alone, created at some second.
struct Acme(TenantId, i64);

impl TenantDirectory for Acme {
    fn is_current(&self, name: &TenantName, id: TenantId) -> bool {
        *name == tenant("acme") && id == self.0
    }

    fn current(&self, name: &TenantName) -> Option<(TenantId, Timestamp)> {
        (*name == tenant("acme")).then(|| (self.0, at(self.1).wall()))
    }
}

struct Server {
    world: World,
    authenticator: Authenticator,
}

impl Server {
    fn new() -> Self {
        let world = World::new();
        let standing = Standing {
            roots: Arc::new(Roots::generate()),
            revocations: Revocations::default(),
            api_keys: ApiKeys::new(AnchorKeys::generate(ID).api_keys()),
        };
        let issuers = Issuers(Box::new([Arc::clone(world.issuer())]));
        let authenticator =
            Authenticator::new(standing, 100, Arc::new(Limits::none())).trusting(issuers);
        Self { world, authenticator }
    }

    fn ask(&self, token: &str, now: Now, acme: &Acme) -> Result<Arc<Principal>, Refusal> {
        self.authenticator.authenticate(token, Source::UNKNOWN, now, acme)
    }
}

#[test]
fn a_token_becomes_a_principal_of_its_issuer() {
    let server = Server::new();
    let token = server.world.good();
    let acme = Acme(ID, ISSUED);
    let principal = server.ask(&token, at(ISSUED), &acme).unwrap();
    assert_eq!(principal.tenant(), Some(&tenant("acme")));
    assert_eq!(principal.tenant_id(), Some(ID));
    assert_eq!(
        principal.identity(),
        &Identity {
            kind: CredentialKind::Oidc,
            issuer: Some(ISSUER.into()),
            subject: Subject::parse("alice").unwrap(),
        }
    );
    assert_eq!(principal.id(), &CredentialId::Oidc(Some("1".into())));
    assert_eq!(principal.issued(), at(ISSUED).wall());
    let again = server.ask(&token, at(ISSUED), &acme).unwrap();
    assert!(Arc::ptr_eq(&principal, &again), "it is remembered");
}

#[test]
fn what_is_remembered_is_judged_at_every_request() {
    let server = Server::new();
    let (token, acme) = (server.world.good(), Acme(ID, ISSUED));
    let ask = |now: Now, acme: &Acme| server.ask(&token, now, acme).err();
    assert_eq!(ask(at(ISSUED), &acme), None);
    assert_eq!(ask(at(EXPIRES), &acme), Some(Refusal::Expired));
    assert_eq!(ask(at(ISSUED - 31), &acme), Some(Refusal::NotYetValid));
    let again = Acme(TenantId::from_bytes([8; 16]), ISSUED);
    assert_eq!(ask(at(ISSUED), &again), Some(Refusal::TenantGone));
    let world = &server.world;
    world.issuer().install(key_set(&[Signer::es256().jwk("k")]), at(ISSUED));
    assert_eq!(ask(at(ISSUED), &acme), Some(Refusal::UnknownKey));
    world.issuer().install(key_set(&[world.signer.jwk("k")]), at(ISSUED));
    assert_eq!(ask(at(ISSUED), &acme), None);
    let principal = server.ask(&token, at(ISSUED), &acme).unwrap();
    let target = RevocationTarget::Subject(ID, principal.identity().clone());
    let (revoked_on, keep_until) = (at(ISSUED).wall(), at(EXPIRES).wall());
    let revocation = Revocation { before: None, token_tenant: None, revoked_on, keep_until };
    server.authenticator.change(|standing| standing.revocations.insert(target, revocation));
    assert_eq!(ask(at(ISSUED), &acme), Some(Refusal::Revoked));
}

#[test]
fn what_was_issued_before_its_tenant_was_created_is_for_another() {
    let server = Server::new();
    let token = server.world.good();
    let ask = |created: i64| server.ask(&token, at(ISSUED), &Acme(ID, created)).err();
    assert_eq!(ask(ISSUED + 1), Some(Refusal::TenantGone));
    assert_eq!(ask(ISSUED), None);
    let beta = changed(claims(), "tenant", "b".into());
    let beta = server.world.signed(server.world.header(), beta);
    let refusal = server.ask(&beta, at(ISSUED), &Acme(ID, ISSUED)).err();
    assert_eq!(refusal, Some(Refusal::TenantGone), "there is no such tenant");
}

#[test]
fn a_refusal_is_not_remembered() {
    let server = Server::new();
    let acme = Acme(ID, ISSUED);
    for number in 0..200 {
        let token = server.world.good() + &format!("{number}");
        assert!(server.ask(&token, at(ISSUED), &acme).is_err());
    }
    assert!(format!("{:?}", server.authenticator).contains("remembered: 0"));
}

#[test]
fn debug_shows_no_token_and_no_key() {
    let world = World::new();
    let shown = format!("{:?} {:?}", world.issuers, world.refusal(&(world.good() + "AA")));
    let public = world.signer.public();
    for hidden in
        [&world.good()[60..100], &BASE64.encode(&public[1..])[..20], &hex::encode(&public[1..5])]
    {
        assert!(!shown.contains(hidden), "{shown}");
    }
    assert!(shown.contains(ISSUER));
}

proptest! {
    #[test]
    fn random_text_never_panics(text in "\\PC{0,300}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,80}", 0..5)) {
        let world = World::new();
        prop_assert!(world.ask(&text).is_err());
        prop_assert!(world.ask(&parts.join(".")).is_err());
        let _ = KeySet::parse(text.as_bytes());
    }

    #[test]
    fn a_mutated_token_is_refused_or_says_the_same(
        index in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"AQgw-_.= \0".to_vec()),
        kind in 0..3_u8,
    ) {
        let world = World::with(ed25519(), policy());
        let good = world.good();
        let mut bytes = good.clone().into_bytes();
        let index = index.index(bytes.len());
        match kind {
            0 => bytes[index] = byte,
            1 => bytes.insert(index, byte),
            _ => drop(bytes.remove(index)),
        }
        let mutated = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(world.ask(&mutated).is_ok(), mutated == good);
    }
}
