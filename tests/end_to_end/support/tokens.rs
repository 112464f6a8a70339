//! Tokens as their holders, and forgers, make them.

use biscuit_auth::{BlockBuilder, KeyPair, UnverifiedBiscuit};
use tenure::auth::{Mint, Roots, Subject};
use tenure::domain::{Scope, ScopeSet, TenantId, TenantName, Timestamp};

/// Appends one block, in biscuit's Datalog.
pub fn narrowed(token: &str, source: &str) -> String {
    append(token, BlockBuilder::new().code(source).expect("Datalog"))
}

pub fn append(token: &str, block: BlockBuilder) -> String {
    text(&parsed(token).append(block).expect("a token that is not sealed"))
}

pub fn sealed(token: &str) -> String {
    text(&parsed(token).seal().expect("a token that is not sealed"))
}

/// A block that somebody else signed.
pub fn with_third_party_block(token: &str, source: &str) -> String {
    let (token, other) = (parsed(token), KeyPair::new());
    let block = BlockBuilder::new().code(source).expect("Datalog");
    let request = token.third_party_request().expect("a token that is not sealed");
    let block = request.create_block(&other.private(), block).expect("a block");
    let block = block.serialize().expect("a block has bytes");
    text(&token.append_third_party(&block).expect("a signed block"))
}

/// Just what the server mints, but signed by another server's root.
pub fn foreign(tenant: &str, tenant_id: &str) -> String {
    signed_by(&Roots::generate(), tenant, tenant_id)
}

/// The same, and by a root whose id this server does not have.
pub fn of_unknown_root(tenant: &str, tenant_id: &str) -> String {
    let mut encoded = Roots::generate().encode().to_vec();
    encoded[4] = 77;
    signed_by(&Roots::decode(&encoded).expect("roots"), tenant, tenant_id)
}

fn signed_by(roots: &Roots, tenant: &str, tenant_id: &str) -> String {
    let mut id = [0; 16];
    hex::decode_to_slice(tenant_id, &mut id).expect("an id of 16 bytes");
    let mint = Mint {
        tenant: &TenantName::parse(tenant).expect("a name"),
        tenant_id: TenantId::from_bytes(id),
        subject: &Subject::parse("test").expect("a subject"),
        scopes: ScopeSet::NONE.with(Scope::All),
        issued: Timestamp::from_unix_seconds(1_700_000_000),
        expires: Timestamp::from_unix_seconds(4_000_000_000),
    };
    tenure::auth::mint(roots, &mint).expect("a token").to_string()
}

fn parsed(token: &str) -> UnverifiedBiscuit {
    UnverifiedBiscuit::from_base64(token).expect("a token")
}

fn text(token: &UnverifiedBiscuit) -> String {
    token.to_base64().expect("a token has a text")
}
