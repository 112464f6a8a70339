//! API keys, revocations and roots: that they last, and that they end.

use super::*;
use crate::api::admin::{ApiKeyRow, Failure, Revocable, RevocationRow, RootRow, When};
use crate::auth::{CredentialId, ManagePermit};
use crate::domain::{Scope, ScopeSet};
use crate::vault::credentials::{CredentialError, NewApiKey};

const HOUR: u64 = 60 * 60;
const MONTH: u64 = 30 * 24 * HOUR;

impl Bench {
    pub(in crate::vault) async fn api_key(
        &self,
        tenant: &str,
        expires: Option<u64>,
    ) -> (String, ApiKeyRow) {
        let scopes = vec!["*".to_owned()];
        let expires = expires.map(When::InSeconds);
        let (tenant, name) = (tenant.to_owned(), Some("ci".to_owned()));
        match self.run(Command::ApiKeyCreate { tenant, scopes, name, expires }).await.unwrap() {
            Reply::ApiKeyCreated { key, api_key } => (key, api_key),
            _ => panic!("not a key"),
        }
    }

    async fn api_keys(&self) -> Vec<ApiKeyRow> {
        match self.run(Command::ApiKeyList { tenant: None }).await.unwrap() {
            Reply::ApiKeys { api_keys } => api_keys,
            _ => panic!("not a list"),
        }
    }

    pub(in crate::vault) async fn revoke(&self, what: Revocable) -> Result<RevocationRow, Failure> {
        match self.run(Command::TokenRevoke { what, dry_run: false }).await? {
            Reply::TokensRevoked { revocation, .. } => Ok(revocation),
            _ => panic!("not a revocation"),
        }
    }

    pub(in crate::vault) async fn revocations(&self) -> Vec<RevocationRow> {
        let all = Command::TokenRevocations { tenant: None, after: None, limit: 1_000 };
        match self.run(all).await.unwrap() {
            Reply::Revocations { revocations, next: None } => revocations,
            _ => panic!("not all revocations"),
        }
    }

    async fn rotate(&self, honour_old: When) -> Result<Vec<RootRow>, Failure> {
        match self.run(Command::TokenRotateRoot { honour_old }).await? {
            Reply::RootRotated { roots } => Ok(roots),
            _ => panic!("not roots"),
        }
    }

    async fn mint(&self, subject: &str, ttl_seconds: u64) -> String {
        let (tenant, scopes) = ("acme".to_owned(), vec!["*".to_owned()]);
        let subject = subject.to_owned();
        match self.run(Command::TokenMint { tenant, scopes, ttl_seconds, subject }).await.unwrap() {
            Reply::Token { token, .. } => token,
            _ => panic!("not a token"),
        }
    }

    fn judge(&self, token: &str) -> Result<(), Refusal> {
        self.vault.authenticate(token, self.vault.now()).map(drop)
    }

    fn judge_key(&self, key: &str) -> Result<(), Refusal> {
        self.vault.authenticate_api_key(key, self.vault.now()).map(drop)
    }

    async fn permit(&self) -> ManagePermit {
        let now = self.vault.now();
        self.principal().await.may_manage_credentials(&acme(), now).unwrap()
    }

    async fn system_rows(&self) -> usize {
        let scan = Scan { prefix: Vec::new(), after: None, limit: usize::MAX };
        self.store.scan(Space::System, scan).await.unwrap().rows.len()
    }

    async fn verify(&self) {
        let verify = Command::Verify { tenant: None, rows_per_second: None };
        match self.run(verify).await.unwrap() {
            Reply::Verified(found) => assert!(found.sound, "{found:?}"),
            _ => panic!("not a verification"),
        }
    }
}

fn subject(name: &str) -> Revocable {
    Revocable::Subject { tenant: "acme".to_owned(), subject: name.to_owned(), issuer: None }
}

fn before(when: When) -> Revocable {
    Revocable::Tenant { tenant: "acme".to_owned(), before: when }
}

fn token_of(token: &str) -> Revocable {
    Revocable::Token { token: crate::api::admin::HiddenText::new(token) }
}

#[tokio::test]
async fn an_api_key_outlives_a_restart_and_ends_when_it_is_revoked() {
    let mut bench = Bench::new().await;
    let (key, row) = bench.api_key("acme", None).await;
    let (other, _) = bench.api_key("acme", None).await;
    for _ in 0..2 {
        bench.judge_key(&key).unwrap();
        bench.reopen().await;
    }
    let dry = Command::ApiKeyRevoke { id: row.id.clone(), dry_run: true };
    bench.run(dry).await.unwrap();
    bench.judge_key(&key).unwrap();
    let revoke = Command::ApiKeyRevoke { id: format!("tnr_{}", row.id), dry_run: false };
    bench.run(revoke.clone()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bench.judge_key(&key), Err(Refusal::ApiKey));
        bench.judge_key(&other).unwrap();
        assert_eq!(bench.run(revoke.clone()).await.err().unwrap().kind, FailureKind::NotFound);
        bench.verify().await;
        bench.reopen().await;
    }
}

#[tokio::test]
async fn the_last_use_of_a_key_is_stored_by_the_hour_and_off_the_requests_path() {
    let mut bench = Bench::new().await;
    let (key, _) = bench.api_key("acme", None).await;
    let (unused, _) = bench.api_key("acme", None).await;
    let version = |bench: &Bench| {
        let store = bench.store.clone();
        async move {
            let sealed = store.ledger(Space::System).await.unwrap().unwrap();
            crate::crypto::sha256(&sealed)
        }
    };
    let before = version(&bench).await;
    bench.judge_key(&key).unwrap();
    assert_eq!(version(&bench).await, before, "a request writes nothing");
    bench.vault.keep_house().await.unwrap();
    let stored = version(&bench).await;
    assert_ne!(stored, before);
    for _ in 0..5 {
        bench.judge_key(&key).unwrap();
        bench.vault.keep_house().await.unwrap();
    }
    assert_eq!(version(&bench).await, stored, "once an hour is enough");
    bench.reopen().await;
    let used: Vec<_> = bench.api_keys().await.into_iter().map(|row| row.last_used_on).collect();
    let hour = START - START.rem_euclid(HOUR.cast_signed());
    let hour = Timestamp::from_unix_seconds(hour).to_string();
    assert!(used.contains(&Some(hour)) && used.contains(&None), "{used:?}");
    bench.judge_key(&unused).unwrap();
    bench.vault.keep_house().await.unwrap();
    bench.reopen().await;
    assert!(bench.api_keys().await.iter().all(|row| row.last_used_on.is_some()));
    bench.verify().await;
}

#[tokio::test]
async fn a_key_that_was_revoked_is_not_put_back_by_its_last_use() {
    let mut bench = Bench::new().await;
    let (key, row) = bench.api_key("acme", None).await;
    bench.judge_key(&key).unwrap();
    bench.run(Command::ApiKeyRevoke { id: row.id, dry_run: false }).await.unwrap();
    bench.vault.keep_house().await.unwrap();
    bench.reopen().await;
    assert_eq!(bench.judge_key(&key), Err(Refusal::ApiKey));
    assert!(bench.api_keys().await.is_empty());
}

#[tokio::test]
async fn an_expired_key_is_refused_and_forgotten_a_month_later() {
    let bench = Bench::new().await;
    let (key, _) = bench.api_key("acme", Some(HOUR)).await;
    bench.judge_key(&key).unwrap();
    bench.clock.pass(HOUR);
    assert_eq!(bench.judge_key(&key), Err(Refusal::ApiKeyExpired));
    assert!(bench.api_keys().await.iter().all(|row| row.expired));
    bench.clock.pass(MONTH - 1);
    bench.sweep(0, false).await.unwrap();
    assert_eq!(bench.api_keys().await.len(), 1);
    bench.clock.pass(1);
    bench.sweep(0, true).await.unwrap();
    assert_eq!(bench.api_keys().await.len(), 1, "a dry run removes nothing");
    bench.sweep(0, false).await.unwrap();
    assert!(bench.api_keys().await.is_empty());
    assert_eq!(bench.judge_key(&key), Err(Refusal::ApiKey));
    bench.verify().await;
}

#[tokio::test]
async fn a_tenant_has_so_many_keys_and_no_more() {
    let bench = Bench::new().await;
    let options = VaultOptions { max_api_keys: 2, ..VaultOptions::default() };
    let clock = bench.clock.clone();
    let vault = Vault::open(bench.store.clone(), &bench.kek, clock, options).await.unwrap();
    let bench = Bench { vault, ..bench };
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    let (_, first) = bench.api_key("acme", None).await;
    bench.api_key("acme", None).await;
    let permit = bench.permit().await;
    let new = || NewApiKey {
        scopes: ScopeSet::NONE.with(Scope::SecretRead),
        name: None,
        expires_on: None,
    };
    let refused = bench.vault.create_api_key(&permit, new()).await.unwrap_err();
    assert_eq!(refused, CredentialError::TooManyApiKeys { max: 2 });
    bench.api_key("beta", None).await;
    bench.run(Command::ApiKeyRevoke { id: first.id, dry_run: false }).await.unwrap();
    let made = bench.vault.create_api_key(&permit, new()).await.unwrap();
    bench.judge_key(&made.text).unwrap();
}

#[tokio::test]
async fn a_key_needs_a_scope_and_a_future() {
    let bench = Bench::new().await;
    let permit = bench.permit().await;
    let now = bench.vault.now().wall();
    let scopes = ScopeSet::NONE.with(Scope::SecretRead);
    for (scopes, expires_on, error) in [
        (ScopeSet::NONE, None, CredentialError::NoScope),
        (scopes, Some(now), CredentialError::ExpiresInThePast),
    ] {
        let new = NewApiKey { scopes, name: None, expires_on };
        assert_eq!(bench.vault.create_api_key(&permit, new).await.unwrap_err(), error);
    }
    assert!(bench.vault.api_keys(&permit).is_empty());
}

#[tokio::test]
async fn who_manages_one_tenant_neither_sees_nor_ends_the_keys_of_another() {
    let bench = Bench::new().await;
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    let (key, _) = bench.api_key("beta", None).await;
    let principal = bench.vault.authenticate_api_key(&key, bench.vault.now()).unwrap();
    let CredentialId::ApiKey(id) = *principal.id() else { panic!("an API key") };
    let permit = bench.permit().await;
    assert!(bench.vault.api_keys(&permit).is_empty());
    assert!(bench.vault.api_key(&permit, id).is_none());
    let refused = bench.vault.revoke_api_key(&permit, id).await.unwrap_err();
    assert_eq!(refused, CredentialError::NoSuchApiKey);
    bench.judge_key(&key).unwrap();
}

#[tokio::test]
async fn a_tenant_takes_its_keys_and_revocations_along() {
    let mut bench = Bench::new().await;
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    let rows = bench.system_rows().await;
    let (key, _) = bench.api_key("acme", None).await;
    bench.revoke(subject("ci")).await.unwrap();
    bench.revoke(before(When::Now)).await.unwrap();
    let token = bench.mint("ci", HOUR).await;
    bench.revoke(token_of(&token)).await.unwrap();
    let (key_since, _) = bench.api_key("acme", None).await;
    assert_eq!(bench.judge_key(&key), Err(Refusal::ApiKey));
    bench.judge_key(&key_since).unwrap();
    let (of_beta, _) = bench.api_key("beta", None).await;
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    let gone = bench.revoke(token_of(&token)).await.unwrap_err();
    assert_eq!(gone.kind, FailureKind::NotFound, "there is nothing left to revoke: {gone}");
    bench.run(Command::TenantCreate { name: "acme".into() }).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bench.judge_key(&key_since), Err(Refusal::ApiKey));
        assert!(bench.judge(&token).is_err());
        bench.judge_key(&of_beta).unwrap();
        assert!(bench.revocations().await.is_empty());
        assert_eq!(bench.system_rows().await, rows + 1);
        bench.verify().await;
        bench.reopen().await;
    }
}

#[tokio::test]
async fn what_was_revoked_stays_so_over_a_restart_and_what_is_minted_since_holds() {
    for what in [subject("ci"), before(When::Now)] {
        let mut bench = Bench::new().await;
        let old = bench.mint("ci", HOUR).await;
        bench.judge(&old).unwrap();
        bench.revoke(what).await.unwrap();
        let new = bench.mint("ci", HOUR).await;
        let other = bench.mint("other", HOUR).await;
        for _ in 0..2 {
            assert_eq!(bench.judge(&old), Err(Refusal::Revoked));
            bench.judge(&new).unwrap();
            bench.judge(&other).unwrap();
            bench.verify().await;
            bench.reopen().await;
        }
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_itself_or_by_its_id() {
    let mut bench = Bench::new().await;
    let (a, b, c) =
        (bench.mint("ci", HOUR).await, bench.mint("ci", HOUR).await, bench.mint("ci", HOUR).await);
    let dry = Command::TokenRevoke { what: token_of(&a), dry_run: true };
    bench.run(dry).await.unwrap();
    bench.judge(&a).unwrap();
    let by_itself = bench.revoke(token_of(&a)).await.unwrap();
    assert_eq!(by_itself.tenant.as_deref(), Some("acme"));
    let id = crate::auth::inspect(&b).unwrap().revocation_ids[0].clone();
    let by_id = bench.revoke(Revocable::Id { id }).await.unwrap();
    assert_eq!(by_id.tenant, None);
    let at = |text: &str| Timestamp::parse(text).unwrap().unix_seconds() - START;
    let lasts = |row: &RevocationRow| at(&row.kept_until).cast_unsigned();
    assert_eq!(lasts(&by_itself), HOUR + MONTH);
    assert_eq!(lasts(&by_id), 10 * 366 * 24 * HOUR + MONTH);
    for _ in 0..2 {
        assert_eq!(bench.judge(&a), Err(Refusal::Revoked));
        assert_eq!(bench.judge(&b), Err(Refusal::Revoked));
        bench.judge(&c).unwrap();
        bench.reopen().await;
    }
    // Again is no error, and adds nothing.
    bench.revoke(token_of(&a)).await.unwrap();
    assert_eq!(bench.revocations().await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_revoked_is_told_and_nothing_is() {
    let bench = Bench::new().await;
    let elsewhere = Bench::new().await;
    let foreign = elsewhere.mint("ci", HOUR).await;
    let (key, _) = bench.api_key("acme", None).await;
    let future = Timestamp::from_unix_seconds(START + 60).to_string();
    for (what, kind, words) in [
        (token_of(&foreign), FailureKind::Usage, "signature"),
        (token_of("garbage"), FailureKind::Usage, "not well-formed"),
        (token_of(&key), FailureKind::Usage, "tenure api-key revoke"),
        (Revocable::Id { id: "ab".into() }, FailureKind::Usage, "128 hexadecimal"),
        (before(When::At(future)), FailureKind::Usage, "in the future"),
        (before(When::InSeconds(5)), FailureKind::Usage, "a date"),
        (before(When::At("yesterday".into())), FailureKind::Usage, "RFC 3339"),
        (
            Revocable::Subject { tenant: "none".into(), subject: "ci".into(), issuer: None },
            FailureKind::NotFound,
            "no tenant 'none'",
        ),
        (subject(""), FailureKind::Usage, "must not be empty"),
    ] {
        let failure = bench.revoke(what).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
        assert!(!failure.message.contains(&key[..30]) && !failure.message.contains(&foreign[..30]));
    }
    assert!(bench.revocations().await.is_empty());
    bench.judge_key(&key).unwrap();
}

#[tokio::test]
async fn a_revocation_is_forgotten_a_month_after_its_token_expired_but_not_by_a_disputed_clock() {
    let bench = Bench::new().await;
    let token = bench.mint("ci", HOUR).await;
    bench.revoke(token_of(&token)).await.unwrap();
    bench.clock.pass(HOUR + MONTH - 1);
    bench.vault.sweep_expired(Duration::ZERO).await;
    assert_eq!(bench.revocations().await.len(), 1);
    bench.clock.step(3_600);
    bench.vault.sweep_expired(Duration::ZERO).await;
    assert_eq!(bench.revocations().await.len(), 1, "somebody set the clock");
    bench.clock.step(-3_600);
    bench.clock.pass(1);
    bench.run(Command::ClockAccept).await.unwrap();
    bench.vault.sweep_expired(Duration::ZERO).await;
    assert!(bench.revocations().await.is_empty());
    assert_eq!(bench.judge(&token), Err(Refusal::Expired));
    bench.verify().await;
}

#[tokio::test]
async fn revocations_are_bounded_and_listed_page_by_page() {
    let bench = Bench::new().await;
    let id = |n: u16| hex::encode([&n.to_be_bytes()[..], &[7; 62]].concat());
    bench.vault.authenticator.change(|standing| {
        for n in 0..10_000u16 {
            let id = crate::auth::RevocationId::parse(&id(n)).unwrap();
            let said = crate::auth::Revocation {
                before: None,
                token_tenant: None,
                revoked_on: bench.vault.now().wall(),
                keep_until: bench.vault.now().wall(),
            };
            standing.revocations.insert(crate::auth::RevocationTarget::Token(id), said);
        }
    });
    let failure = bench.revoke(subject("ci")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Conflict);
    assert!(failure.message.contains("10000") && failure.message.contains("rotate-root"));
    // What is there may be said again.
    bench.revoke(Revocable::Id { id: id(77) }).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = Command::TokenRevocations { tenant: None, after: after.clone(), limit: 4_000 };
        let Reply::Revocations { revocations, next } = bench.run(page).await.unwrap() else {
            panic!("not revocations")
        };
        seen.extend(revocations.into_iter().filter_map(|row| row.id));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert!(seen.iter().eq((0..10_000).map(id).collect::<Vec<_>>().iter()));
    let lost = Command::TokenRevocations { tenant: None, after: Some("xy".into()), limit: 1 };
    assert_eq!(bench.run(lost).await.err().unwrap().kind, FailureKind::Usage);
}

#[tokio::test]
async fn an_old_root_is_honoured_until_its_date_over_restarts_too() {
    let mut bench = Bench::new().await;
    let old = bench.mint("ci", 10 * HOUR).await;
    let (key, _) = bench.api_key("acme", None).await;
    let roots = bench.rotate(When::InSeconds(HOUR)).await.unwrap();
    let signs: Vec<_> = roots.iter().map(|root| (root.id, root.signs)).collect();
    assert_eq!(signs, [(1, false), (2, true)]);
    let new = bench.mint("ci", 10 * HOUR).await;
    for _ in 0..2 {
        bench.judge(&old).unwrap();
        bench.judge(&new).unwrap();
        assert_eq!(bench.vault.public_roots().len(), 2);
        bench.reopen().await;
    }
    bench.clock.pass(HOUR);
    for _ in 0..2 {
        assert_eq!(bench.judge(&old), Err(Refusal::UnknownRoot));
        bench.judge(&new).unwrap();
        bench.judge_key(&key).unwrap();
        assert_eq!(bench.vault.public_roots().len(), 1);
        bench.verify().await;
        bench.reopen().await;
    }
    let roots = bench.rotate(When::Now).await.unwrap();
    assert_eq!(roots.iter().map(|root| root.id).collect::<Vec<_>>(), [3]);
    assert_eq!(bench.judge(&new), Err(Refusal::UnknownRoot));
    bench.judge_key(&key).unwrap();
    let past = Timestamp::from_unix_seconds(START).to_string();
    for refused in [When::At(past), When::InSeconds(0)] {
        assert_eq!(bench.rotate(refused).await.unwrap_err().kind, FailureKind::Usage);
    }
    for _ in 1..32 {
        bench.rotate(When::InSeconds(HOUR)).await.unwrap();
    }
    let failure = bench.rotate(When::InSeconds(HOUR)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Conflict, "{failure}");
    bench.reopen().await;
    assert_eq!(bench.vault.public_roots().len(), 32);
}
