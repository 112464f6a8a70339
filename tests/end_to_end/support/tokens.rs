//! Tokens as their holders, and forgers, make them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use biscuit_auth::builder::Algorithm;
use biscuit_auth::format::schema;
use biscuit_auth::{BlockBuilder, KeyPair, UnverifiedBiscuit};
use prost::Message;
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

/// A block whose key is not Ed25519: of a P-256 signature there are two.
pub fn with_p256_block(token: &str) -> String {
    let block = BlockBuilder::new().code(r#"check if operation("read")"#).expect("Datalog");
    let key = KeyPair::new_with_algorithm(Algorithm::Secp256r1);
    text(&parsed(token).append_with_keypair(&key, block).expect("a token that is not sealed"))
}

/// The same, said to be signed by another root or by none.
pub fn with_root_id(token: &str, id: Option<u32>) -> String {
    let bytes = parsed(token).to_vec().expect("a token has bytes");
    let mut changed = schema::Biscuit::decode(&bytes[..]).expect("a token");
    changed.root_key_id = id;
    URL_SAFE.encode(changed.encode_to_vec())
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
