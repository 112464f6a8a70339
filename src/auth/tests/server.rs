//! Tokens for the server itself: what they open is nothing of a tenant's, and nothing of a
//! tenant's opens what they do.

use super::*;
use crate::domain::NamePrefix;

const SERVER: &str = r#"
    server(true); subject("prometheus"); issued(1970-01-01T00:16:40Z); scope("Server.Admin");
    check if time($t), $t < 1970-01-01T02:46:40Z;
"#;

impl World {
    fn server_admin(&self) -> String {
        let subject = Subject::parse("prometheus").unwrap();
        let (issued, expires) = (at(ISSUED).wall(), at(EXPIRES).wall());
        let wanted = MintServer { subject: &subject, issued, expires };
        mint_server(&self.authenticator.roots(), &wanted).unwrap().to_string()
    }

    fn sees(&self, token: &str, now: Now) -> bool {
        self.ask(token, at(ISSUED)).unwrap().may_see_server(now).is_ok()
    }
}

#[test]
fn a_token_for_the_server_sees_it_and_nothing_of_a_tenant() {
    let world = World::new();
    let now = at(ISSUED);
    for token in [world.server_admin(), world.forge(SERVER)] {
        let principal = world.principal(&token);
        assert!(principal.may_see_server(now).is_ok());
        assert_eq!((principal.tenant(), principal.tenant_id()), (None, None));
        assert_eq!(principal.scopes(), ScopeSet::NONE);
        for tenant in ["acme", "system", "beta"] {
            let tenant = TenantName::parse(tenant).unwrap();
            assert_eq!(principal.may_read(&tenant, name("a"), now).unwrap_err(), Forbidden);
            assert_eq!(principal.may_write(&tenant, name("a"), now).unwrap_err(), Forbidden);
            assert_eq!(principal.may_list(&tenant, now).unwrap_err(), Forbidden);
            assert_eq!(principal.may_write_some(&tenant, now).unwrap_err(), Forbidden);
            assert_eq!(principal.may_manage_credentials(&tenant, now).unwrap_err(), Forbidden);
        }
    }
}

#[test]
fn no_credential_of_a_tenant_sees_the_server() {
    let world = World::new();
    for scopes in [vec![Scope::All], Scope::EVERY.to_vec(), vec![Scope::SecretRead]] {
        let principal = world.principal(&world.mint(&scopes));
        assert_eq!(principal.may_see_server(at(ISSUED)).unwrap_err(), Forbidden);
    }
}

#[test]
fn an_authority_block_is_a_tenants_or_the_servers_and_never_both() {
    let world = World::new();
    let with = |more: &str| format!("{SERVER}{more}");
    let without = |part: &str| {
        assert!(SERVER.contains(part), "{part}");
        SERVER.replacen(part, "", 1)
    };
    for source in [
        with(r#"tenant("acme");"#),
        with(r#"tenant_id("07070707070707070707070707070707");"#),
        with(r#"tenant("acme"); tenant_id("07070707070707070707070707070707");"#),
        with(r#"scope("*");"#),
        with(r#"scope("Secret.Read");"#),
        with("server(true, true);"),
        with("server(false);"),
        with(r#"right("a");"#),
        with("check if time($t), $t < 1970-01-01T02:46:39Z;"),
        without("server(true);"),
        without(r#"subject("prometheus");"#),
        without("issued(1970-01-01T00:16:40Z);"),
        without(r#"scope("Server.Admin");"#),
        without("check if time($t), $t < 1970-01-01T02:46:40Z;"),
        SERVER.replace("server(true)", "server(false)"),
        SERVER.replace("server(true)", "server(1)"),
        SERVER.replace("server(true)", r#"server("true")"#),
        SERVER.replace("Server.Admin", "server.admin"),
        SERVER.replace("Server.Admin", "*"),
        format!(r#"{AUTHORITY} server(true);"#),
        AUTHORITY.replace("Secret.Read", "Server.Admin"),
        format!(r#"{AUTHORITY} server(true); scope("Server.Admin");"#),
    ] {
        assert_eq!(world.refusal(&world.forge(&source)), Refusal::Shape, "{source}");
    }
}

#[test]
fn a_token_for_the_server_is_narrowed_to_times_alone() {
    let world = World::new();
    let (early, late) = (at(1_999), at(2_000));
    let until = "check if time($t), $t < 1970-01-01T00:33:20Z";
    let from = "check if time($t), $t >= 1970-01-01T00:33:20Z";
    let either = r#"check if operation("read") or time($t), $t < 1970-01-01T00:33:20Z"#;
    for (source, then, later) in [
        (until, true, false),
        (from, false, true),
        (either, true, false),
        (r#"check if operation("read")"#, false, false),
        (r#"check if operation($o), ["read", "write"].contains($o)"#, false, false),
        (r#"check if resource("metrics")"#, false, false),
        (r#"check if resource($r), $r.starts_with("")"#, false, false),
    ] {
        let token = narrow(&world.server_admin(), source);
        let seen = (world.sees(&token, early), world.sees(&token, late));
        assert_eq!(seen, (then, later), "{source}");
    }
    let narrowed = world.principal(&narrow(&world.server_admin(), until));
    assert_eq!(narrowed.may_read(&acme(), name("a"), early).unwrap_err(), Forbidden);
    let fact = narrow(&world.server_admin(), r#"tenant("acme")"#);
    assert_eq!(world.refusal(&fact), Refusal::Shape);
}

#[test]
fn our_own_narrowing_makes_no_token_that_is_good_for_nothing() {
    let world = World::new();
    let make = |wanted| super::super::narrow(&world.server_admin(), &wanted, at(ISSUED).wall());
    for wanted in [
        Narrowing { operation: Some(Operation::Read), ..Narrowing::default() },
        Narrowing { names: vec![name("a")], ..Narrowing::default() },
        Narrowing { prefixes: vec![NamePrefix::parse("a").unwrap()], ..Narrowing::default() },
    ] {
        assert_eq!(make(wanted).unwrap_err(), NarrowError::OfTheServer);
    }
    let ttl = Some(Duration::from_secs(60));
    let token = make(Narrowing { ttl, ..Narrowing::default() }).unwrap();
    assert!(world.sees(&token, at(ISSUED)) && !world.sees(&token, at(ISSUED + 60)));
}

#[test]
fn a_token_for_the_server_expires_and_is_revoked_like_any_other() {
    let world = World::new();
    let token = world.server_admin();
    let (last, end) = (at_micros(EXPIRES * 1_000_000 - 1), at(EXPIRES));
    assert!(world.sees(&token, last) && !world.sees(&token, end));
    assert_eq!(world.ask(&token, end).unwrap_err(), Refusal::Expired);
    let narrowed = narrow(&token, "check if time($t), $t < 2200-01-01T00:00:00Z");
    assert!(world.ask(&narrowed, last).is_ok());
    let CredentialId::Biscuit(blocks) = world.principal(&token).id().clone() else {
        panic!("it is a biscuit")
    };
    world.revoke(RevocationTarget::Token(blocks[0]), None);
    for token in [token, narrowed] {
        assert_eq!(world.refusal(&token), Refusal::Revoked);
    }
    assert!(world.ask(&world.server_admin(), at(ISSUED)).is_ok());
}

/// Nothing that ends a tenant's tokens reaches it: it has no tenant, not even that of which
/// all bytes are zero.
#[test]
fn what_is_revoked_in_a_tenant_leaves_tokens_for_the_server() {
    let world = World::new();
    let token = world.server_admin();
    for tenant in [ID, TenantId::from_bytes([0; 16])] {
        let who = Identity::of_biscuit(Subject::parse("prometheus").unwrap());
        world.revoke(RevocationTarget::Tenant(tenant), Some(EXPIRES));
        world.revoke(RevocationTarget::Subject(tenant, who), Some(EXPIRES));
    }
    assert!(world.sees(&token, at(ISSUED)));
    assert_eq!(world.refusal(&world.good()), Refusal::Revoked);
}

#[test]
fn a_token_for_the_server_says_so() {
    let world = World::new();
    let said = inspect(&world.server_admin()).unwrap();
    assert_eq!((said.tenant, said.tenant_id), (None, None));
    assert_eq!((said.subject.as_str(), said.scopes), ("prometheus", vec!["Server.Admin"]));
}
