//! The token library, behind types of our own. No other file names it.
//!
//! A token goes through two states. [`Unverified`] has passed the shape guard:
//! its blocks are exactly the documented shapes, compiled, and every key in it is
//! Ed25519; nobody has vouched for it yet. [`Verified`] can only be had from it
//! by checking every signature.
//!
//! The guard reads the encoding itself. The library's printer does not escape
//! quotes, and its authorizer runs whatever the token's holder appended.
//!
//! This module must not know which roots there are, what time it is, or which
//! tenants exist.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use biscuit_auth::builder::{
    Algorithm, Binary, BiscuitBuilder, BlockBuilder, Check as NewCheck, CheckKind, Expression, Op,
    Rule, Term, boolean, constrained_rule, fact, pred, rule, string, var,
};
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::format::convert::proto_block_to_token_block;
use biscuit_auth::format::schema;
use biscuit_auth::format::schema::op_binary::Kind as BinaryKind;
use biscuit_auth::format::schema::proof::Content as Proof;
use biscuit_auth::format::schema::term::Content as Value;
use biscuit_auth::{Biscuit, KeyPair, PrivateKey, UnverifiedBiscuit};
use prost::Message;
use zeroize::Zeroizing;

use crate::crypto::Kept;
use crate::domain::{Scope, ScopeSet, TenantId, TenantName, Timestamp};

use super::caveat::{Caveats, Check, Comparison, OneOf, Query, TimeBound};
use super::claims::{Claims, Subject};
use super::principal::Grant;
use super::reach::{Reach, SERVER_ADMIN, Tenancy};
use super::{CredentialId, Family, Identity, MintError, Refusal, RevocationId};

/// The longest token that is looked at, in bytes of text.
const MAX_TEXT: usize = 4096;
pub(super) const MAX_APPENDED_BLOCKS: usize = 3;
/// Over all appended blocks.
pub(super) const MAX_APPENDED_CHECKS: usize = 16;

/// What the library writes, and the same with its padding lost, as happens in
/// shells and URLs.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What can be said of a token without decoding it.
///
/// A bearer with a dot in it is a JWT and nothing else: no text may be two kinds
/// of credential, or checks made of the one could be escaped as the other.
pub(super) fn check_text(bearer: &str) -> Result<(), Refusal> {
    if bearer.len() > MAX_TEXT {
        Err(Refusal::TooLarge)
    } else if bearer.contains('.') {
        Err(Refusal::Malformed)
    } else {
        Ok(())
    }
}

/// A root's key pair (Ed25519, RFC 8032). The library's own type prints its
/// private bytes in `Debug`; it wipes them when dropped.
pub(super) struct RootKey(Kept<KeyPair>);

impl RootKey {
    pub const SECRET_LEN: usize = 32;

    pub fn generate() -> Self {
        Self(Kept::new(KeyPair::new_with_algorithm(Algorithm::Ed25519)))
    }

    pub fn from_secret(secret: &[u8; Self::SECRET_LEN]) -> Option<Self> {
        let private = PrivateKey::from_bytes(secret, Algorithm::Ed25519).ok()?;
        Some(Self(Kept::new(KeyPair::from(&private))))
    }

    /// For a set of roots that takes the place of the one it is in.
    pub fn copy(&self) -> Self {
        Self(Kept::new(KeyPair::from(&self.0.private())))
    }

    pub fn secret(&self) -> Zeroizing<Vec<u8>> {
        self.0.private().to_bytes()
    }

    pub fn public(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&self.0.public().to_bytes());
        bytes
    }

    /// The authority block for these claims, signed, as text.
    ///
    /// Built from terms: a subject pasted into Datalog source could close its
    /// quotes and grant itself a scope.
    pub fn sign(&self, root_id: u32, claims: &Claims) -> Result<Zeroizing<String>, MintError> {
        let Claims { reach, subject, issued, expires } = claims;
        let library = |_| MintError::Library;
        let mut builder = belonging_to(reach, Biscuit::builder().root_key_id(root_id))
            .and_then(|b| b.fact(fact("subject", &[string(subject.as_str())])))
            .map_err(library)?
            .fact(fact("issued", &[date(*issued)?]))
            .map_err(library)?;
        for scope in reach.scopes() {
            builder = builder.fact(fact("scope", &[string(scope)])).map_err(library)?;
        }
        let token = builder
            .check(expires_at(*expires)?)
            .and_then(|builder| builder.build(&self.0))
            .and_then(|token| token.to_vec())
            .map(Zeroizing::new)
            .map_err(library)?;
        Ok(Zeroizing::new(BASE64.encode(&*token)))
    }
}

fn belonging_to(
    reach: &Reach,
    builder: BiscuitBuilder,
) -> Result<BiscuitBuilder, biscuit_auth::error::Token> {
    match reach {
        Reach::Tenant(Tenancy { tenant, tenant_id, scopes: _ }) => builder
            .fact(fact("tenant", &[string(tenant.as_str())]))?
            .fact(fact("tenant_id", &[string(&tenant_id.to_string())])),
        Reach::Server => builder.fact(fact("server", &[boolean(true)])),
    }
}

fn date(moment: Timestamp) -> Result<Term, MintError> {
    u64::try_from(moment.unix_seconds()).map(Term::Date).map_err(|_| MintError::BeforeEpoch)
}

/// `check if time($t), $t < <expires>`
fn expires_at(expires: Timestamp) -> Result<NewCheck, MintError> {
    let query = compare("time", [Op::Value(var("v")), Op::Value(date(expires)?)], Binary::LessThan);
    Ok(NewCheck { queries: vec![query], kind: CheckKind::One })
}

/// One of the documented checks, built from terms.
fn written(check: &Check) -> NewCheck {
    let queries = check.queries.iter().map(written_query).collect();
    NewCheck { queries, kind: CheckKind::One }
}

fn written_query(query: &Query) -> Rule {
    let value = || Op::Value(var("v"));
    match query {
        Query::Operation(words) => written_words("operation", words),
        Query::Resource(words) => written_words("resource", words),
        Query::ResourcePrefix(prefix) => {
            compare("resource", [value(), Op::Value(string(prefix))], Binary::Prefix)
        }
        Query::Time(TimeBound { comparison, date }) => {
            let operator = match comparison {
                Comparison::Before => Binary::LessThan,
                Comparison::Until => Binary::LessOrEqual,
                Comparison::After => Binary::GreaterThan,
                Comparison::From => Binary::GreaterOrEqual,
            };
            compare("time", [value(), Op::Value(Term::Date(*date))], operator)
        }
    }
}

/// A set rather than an array, which older libraries do not know.
fn written_words(predicate: &str, words: &OneOf) -> Rule {
    if let [word] = words.as_slice() {
        return rule::<Term, _>("query", &[], &[pred(predicate, &[string(word)])]);
    }
    let words: BTreeSet<_> = words.as_slice().iter().map(|word| string(word)).collect();
    compare(predicate, [Op::Value(Term::Set(words)), Op::Value(var("v"))], Binary::Contains)
}

/// `predicate($v), <left> <operator> <right>`
fn compare(predicate: &str, [left, right]: [Op; 2], operator: Binary) -> Rule {
    let expression = Expression { ops: vec![left, right, Op::Binary(operator)] };
    let body = pred(predicate, &[var("v")]);
    constrained_rule::<Term, _, _>("query", &[], &[body], &[expression])
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// A token whose shape is known and whose signatures nobody has checked. It has
/// no `Debug`: it holds the key that appends to it.
pub(super) struct Unverified {
    root_id: u32,
    claims: Claims,
    caveats: Caveats,
    sealed: bool,
    /// Of each block, in their order.
    revocation_ids: Vec<RevocationId>,
    token: UnverifiedBiscuit,
}

/// A token that one of our roots signed, and whose appended blocks are in an
/// unbroken chain from there.
pub(super) struct Verified {
    claims: Claims,
    caveats: Caveats,
    revocation_ids: Vec<RevocationId>,
}

/// Why the library would not write what it was asked to; none of our inputs is
/// known to bring that about.
pub(super) struct Unwritable;

impl Unverified {
    /// The shape guard. It runs before any key is decoded or used, and its work
    /// is bounded by the 4 KiB of text.
    pub fn decode(bearer: &str) -> Result<Self, Refusal> {
        check_text(bearer)?;
        let bytes = BASE64.decode(bearer).map_err(|_| Refusal::Malformed)?;
        let signed = decode::<schema::Biscuit>(&bytes)?;
        check_envelope(&signed)?;
        let schema::Biscuit { root_key_id, authority, blocks, proof } = signed;

        let mut symbols = Symbols::default();
        let claims = claims(&decode_block(&authority.block, &mut symbols)?, &symbols)?;
        let mut checks = Vec::new();
        for signed in &blocks {
            let block = decode_block(&signed.block, &mut symbols)?;
            checks.append(&mut appended_checks(&block, &symbols)?);
        }
        if checks.len() > MAX_APPENDED_CHECKS {
            return Err(Refusal::Shape);
        }

        // The library decodes the same bytes with the same decoder, so what it
        // verifies is what was read above. It also refuses what biscuit itself
        // forbids: a symbol declared twice, a key of a wrong length.
        let token = UnverifiedBiscuit::from(&bytes).map_err(|_| Refusal::Malformed)?;
        let root_id = root_key_id.ok_or(Refusal::UnknownRoot)?;
        let sealed = matches!(proof.content, Some(Proof::FinalSignature(_)));
        let revocation_ids = revocation_ids(&token)?;
        let caveats = Caveats::new(checks);
        Ok(Self { root_id, claims, caveats, sealed, revocation_ids, token })
    }

    /// Checks the signature of every block, and the proof at the end.
    pub fn verify(self, root: &RootKey) -> Result<Verified, Refusal> {
        let Self { root_id: _, claims, caveats, sealed: _, revocation_ids, token } = self;
        token.verify(root.0.public()).map_err(|_| Refusal::Signature)?;
        Ok(Verified { claims, caveats, revocation_ids })
    }

    /// The same token with these checks in one block more, as text. It takes the
    /// key that every unsealed token carries, and no other.
    pub fn append(&self, checks: &[Check]) -> Result<Zeroizing<String>, Unwritable> {
        let block = checks.iter().try_fold(BlockBuilder::new(), |block, check| {
            block.check(written(check)).map_err(|_| Unwritable)
        });
        let token = self.token.append(block?).map_err(|_| Unwritable)?;
        let bytes = Zeroizing::new(token.to_vec().map_err(|_| Unwritable)?);
        Ok(Zeroizing::new(BASE64.encode(&*bytes)))
    }

    /// The same token without the key that appends to it, as text.
    pub fn seal(&self) -> Result<Zeroizing<String>, Unwritable> {
        let sealed = self.token.seal().map_err(|_| Unwritable)?;
        let bytes = Zeroizing::new(sealed.to_vec().map_err(|_| Unwritable)?);
        Ok(Zeroizing::new(BASE64.encode(&*bytes)))
    }

    /// Nobody has vouched for it either.
    pub fn family(&self) -> Option<Family> {
        self.revocation_ids.first().map(Family::of_minted)
    }

    pub fn root_id(&self) -> u32 {
        self.root_id
    }

    /// The authority block's first: with it, whoever narrowed it however.
    pub fn revocation_ids(&self) -> &[RevocationId] {
        &self.revocation_ids
    }

    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    pub fn caveats(&self) -> &Caveats {
        &self.caveats
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The authority block included.
    pub fn blocks(&self) -> usize {
        self.token.block_count()
    }
}

impl Verified {
    pub fn into_grant(self) -> Grant {
        let Self { claims, caveats, revocation_ids } = self;
        let Claims { reach, subject, issued, expires } = claims;
        Grant {
            id: CredentialId::Biscuit(revocation_ids.into()),
            identity: Identity::of_biscuit(subject),
            reach,
            issued,
            expires: Some(expires),
            caveats,
        }
    }
}

/// The blocks' signatures. One of another length is none of Ed25519.
fn revocation_ids(token: &UnverifiedBiscuit) -> Result<Vec<RevocationId>, Refusal> {
    let ids = token.revocation_identifiers().into_iter();
    let ids = ids.map(|signature| signature.try_into().map(RevocationId::from_bytes));
    ids.collect::<Result<_, _>>().map_err(|_| Refusal::Signature)
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Refusal> {
    M::decode(bytes).map_err(|_| Refusal::Malformed)
}

/// What surrounds the blocks.
///
/// Every key must be Ed25519: of a P-256 signature the negated s is valid too, so
/// that anyone could give a revoked token a new identity. A third party's block
/// may say what only its signer vouches for, and we trust no third party.
fn check_envelope(token: &schema::Biscuit) -> Result<(), Refusal> {
    let schema::Biscuit { root_key_id: _, authority, blocks, proof } = token;
    if blocks.len() > MAX_APPENDED_BLOCKS {
        return Err(Refusal::Shape);
    }
    for block in std::iter::once(authority).chain(blocks) {
        let is_ed25519 = block.next_key.algorithm == schema::public_key::Algorithm::Ed25519 as i32;
        if !is_ed25519 || block.external_signature.is_some() {
            return Err(Refusal::Shape);
        }
    }
    // The proof is made with the last block's next key, which is Ed25519 by now.
    match &proof.content {
        Some(Proof::NextSecret(_) | Proof::FinalSignature(_)) => Ok(()),
        None => Err(Refusal::Malformed),
    }
}

/// Strings by number: those that every biscuit knows, then those that the blocks
/// declared, each block going on where the one before it ended.
#[derive(Default)]
struct Symbols {
    common: SymbolTable,
    declared: Vec<Arc<str>>,
}

impl Symbols {
    /// Numbers below this are for the common table.
    const OFFSET: u64 = 1024;

    fn get(&self, number: u64) -> Result<Arc<str>, Refusal> {
        match number.checked_sub(Self::OFFSET) {
            None => self.common.get_symbol(number).map(Arc::from),
            Some(index) => {
                usize::try_from(index).ok().and_then(|index| self.declared.get(index)).cloned()
            }
        }
        .ok_or(Refusal::Shape)
    }

    fn text(&self, term: &schema::Term) -> Result<Arc<str>, Refusal> {
        match &term.content {
            Some(Value::String(number)) => self.get(*number),
            _ => Err(Refusal::Shape),
        }
    }
}

/// A block without what neither kind of block may hold.
struct Block {
    facts: Vec<schema::Fact>,
    checks: Vec<schema::Check>,
}

fn decode_block(bytes: &[u8], symbols: &mut Symbols) -> Result<Block, Refusal> {
    let block = decode::<schema::Block>(bytes)?;
    let schema::Block { context, rules, scope, public_keys, .. } = &block;
    if context.is_some() || !rules.is_empty() || !scope.is_empty() || !public_keys.is_empty() {
        return Err(Refusal::Shape);
    }
    // Biscuit ties some shapes to a version of the language (arrays to 3.3, a
    // check's kind to 3.1). A token that its authorizer would not load must not
    // pass here either.
    proto_block_to_token_block(&block, None).map_err(|_| Refusal::Shape)?;
    symbols.declared.extend(block.symbols.into_iter().map(Arc::from));
    Ok(Block { facts: block.facts, checks: block.checks })
}

/// The authority block: each of its facts once, the expiry, and either a tenant's facts
/// with a scope or more, or the server's.
fn claims(block: &Block, symbols: &Symbols) -> Result<Claims, Refusal> {
    let Block { facts, checks } = block;
    let (mut tenant, mut tenant_id, mut subject, mut issued) = (None, None, None, None);
    let (mut server, mut server_admin) = (None, None);
    let mut scopes = ScopeSet::NONE;
    for schema::Fact { predicate } in facts {
        let (name, term) = unary(predicate, symbols)?;
        match &*name {
            "tenant" => set_once(&mut tenant, TenantName::parse(&symbols.text(term)?).ok()),
            "tenant_id" => set_once(&mut tenant_id, parse_id(&symbols.text(term)?)),
            "subject" => set_once(&mut subject, Subject::parse(&symbols.text(term)?).ok()),
            "issued" => set_once(&mut issued, Some(moment(date_of(term)?)?)),
            "server" => set_once(&mut server, is_true(term)),
            "scope" => match &*symbols.text(term)? {
                SERVER_ADMIN => set_once(&mut server_admin, Some(())),
                word => {
                    let scope = Scope::parse(word).map_err(|_| Refusal::Shape)?;
                    let twice = scopes.contains(scope);
                    scopes = scopes.with(scope);
                    if twice { Err(Refusal::Shape) } else { Ok(()) }
                }
            },
            _ => Err(Refusal::Shape),
        }?;
    }
    // One or the other, each with all of its facts and none of the other's.
    let reach = match (tenant, tenant_id, server, server_admin) {
        (Some(tenant), Some(tenant_id), None, None) if scopes != ScopeSet::NONE => {
            Reach::Tenant(Tenancy { tenant, tenant_id, scopes })
        }
        (None, None, Some(()), Some(())) if scopes == ScopeSet::NONE => Reach::Server,
        _ => return Err(Refusal::Shape),
    };
    Ok(Claims {
        reach,
        subject: subject.ok_or(Refusal::Shape)?,
        issued: issued.ok_or(Refusal::Shape)?,
        expires: expiry(checks, symbols)?,
    })
}

fn set_once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), Refusal> {
    if slot.is_some() || value.is_none() {
        return Err(Refusal::Shape);
    }
    *slot = value;
    Ok(())
}

fn is_true(term: &schema::Term) -> Option<()> {
    matches!(term.content, Some(Value::Bool(true))).then_some(())
}

fn parse_id(text: &str) -> Option<TenantId> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(TenantId::from_bytes(bytes))
}

/// The single check of an authority block.
fn expiry(checks: &[schema::Check], symbols: &Symbols) -> Result<Timestamp, Refusal> {
    let [check] = checks else { return Err(Refusal::Shape) };
    match &*compile_check(check, symbols)?.queries {
        [Query::Time(TimeBound { comparison: Comparison::Before, date })] => moment(*date),
        _ => Err(Refusal::Shape),
    }
}

fn moment(seconds: u64) -> Result<Timestamp, Refusal> {
    const LAST: i64 = i64::MAX / 1_000_000;
    match i64::try_from(seconds) {
        Ok(seconds @ 0..=LAST) => Ok(Timestamp::from_unix_seconds(seconds)),
        _ => Err(Refusal::Shape),
    }
}

/// An appended block may only take away: it holds checks.
fn appended_checks(block: &Block, symbols: &Symbols) -> Result<Vec<Check>, Refusal> {
    let Block { facts, checks } = block;
    if !facts.is_empty() || checks.len() > MAX_APPENDED_CHECKS {
        return Err(Refusal::Shape);
    }
    checks.iter().map(|check| compile_check(check, symbols)).collect()
}

fn compile_check(check: &schema::Check, symbols: &Symbols) -> Result<Check, Refusal> {
    let schema::Check { queries, kind } = check;
    let is_check_if = matches!(kind, None | Some(0));
    if !is_check_if || queries.is_empty() {
        return Err(Refusal::Shape);
    }
    let queries = queries.iter().map(|query| compile_query(query, symbols));
    Ok(Check { queries: queries.collect::<Result<_, _>>()? })
}

/// One predicate of one term, and at most one comparison of that term.
fn compile_query(query: &schema::Rule, symbols: &Symbols) -> Result<Query, Refusal> {
    let schema::Rule { head, body, expressions, scope } = query;
    let [predicate] = &**body else { return Err(Refusal::Shape) };
    if !scope.is_empty() {
        return Err(Refusal::Shape);
    }
    let (subject, term) = unary(predicate, symbols)?;
    check_head(head, term, symbols)?;
    match (&**expressions, &term.content) {
        ([], Some(Value::String(word))) => is_one_of(&subject, vec![symbols.get(*word)?]),
        ([schema::Expression { ops }], Some(Value::Variable(variable))) => {
            symbols.get(u64::from(*variable))?;
            let [left, right, operator] = &**ops else { return Err(Refusal::Shape) };
            let (left, right) = (operand(left, *variable)?, operand(right, *variable)?);
            compile_comparison(&subject, left, binary(operator)?, right, symbols)
        }
        _ => Err(Refusal::Shape),
    }
}

/// The head of a check's query says nothing; the library's parser writes
/// `query()`, its builder helpers other names, with a word or the variable. It is
/// held to that, so that the library has nothing unknown to look up either.
fn check_head(
    head: &schema::Predicate,
    variable: &schema::Term,
    symbols: &Symbols,
) -> Result<(), Refusal> {
    let schema::Predicate { name, terms } = head;
    symbols.get(*name)?;
    match &**terms {
        [] => Ok(()),
        [term] if term == variable => Ok(()),
        [term] => symbols.text(term).map(drop),
        _ => Err(Refusal::Shape),
    }
}

enum Operand<'a> {
    Variable,
    Literal(&'a schema::Term),
}

fn operand(op: &schema::Op, variable: u32) -> Result<Operand<'_>, Refusal> {
    match &op.content {
        Some(schema::op::Content::Value(term)) => match &term.content {
            Some(Value::Variable(other)) if *other == variable => Ok(Operand::Variable),
            _ => Ok(Operand::Literal(term)),
        },
        _ => Err(Refusal::Shape),
    }
}

fn binary(op: &schema::Op) -> Result<BinaryKind, Refusal> {
    match &op.content {
        Some(schema::op::Content::Binary(schema::OpBinary { kind, ffi_name: None })) => {
            BinaryKind::from_i32(*kind).ok_or(Refusal::Shape)
        }
        _ => Err(Refusal::Shape),
    }
}

fn compile_comparison(
    subject: &str,
    left: Operand<'_>,
    operator: BinaryKind,
    right: Operand<'_>,
    symbols: &Symbols,
) -> Result<Query, Refusal> {
    use Operand::{Literal, Variable};
    let bound = |comparison, date| Ok(Query::Time(TimeBound { comparison, date: date_of(date)? }));
    match (subject, left, operator, right) {
        (_, Literal(words), BinaryKind::Contains, Variable) => {
            is_one_of(subject, words_of(words, symbols)?)
        }
        ("resource", Variable, BinaryKind::Prefix, Literal(prefix)) => {
            Ok(Query::ResourcePrefix(symbols.text(prefix)?))
        }
        ("time", Variable, BinaryKind::LessThan, Literal(d)) => bound(Comparison::Before, d),
        ("time", Variable, BinaryKind::LessOrEqual, Literal(d)) => bound(Comparison::Until, d),
        ("time", Variable, BinaryKind::GreaterThan, Literal(d)) => bound(Comparison::After, d),
        ("time", Variable, BinaryKind::GreaterOrEqual, Literal(d)) => bound(Comparison::From, d),
        _ => Err(Refusal::Shape),
    }
}

fn is_one_of(subject: &str, words: Vec<Arc<str>>) -> Result<Query, Refusal> {
    match subject {
        "operation" => Ok(Query::Operation(OneOf::new(words))),
        "resource" => Ok(Query::Resource(OneOf::new(words))),
        _ => Err(Refusal::Shape),
    }
}

fn unary<'a>(
    predicate: &'a schema::Predicate,
    symbols: &Symbols,
) -> Result<(Arc<str>, &'a schema::Term), Refusal> {
    let schema::Predicate { name, terms } = predicate;
    let [term] = &**terms else { return Err(Refusal::Shape) };
    Ok((symbols.get(*name)?, term))
}

fn words_of(term: &schema::Term, symbols: &Symbols) -> Result<Vec<Arc<str>>, Refusal> {
    let words = match &term.content {
        Some(Value::Array(schema::Array { array })) => array,
        Some(Value::Set(schema::TermSet { set })) => set,
        _ => return Err(Refusal::Shape),
    };
    words.iter().map(|word| symbols.text(word)).collect()
}

fn date_of(term: &schema::Term) -> Result<u64, Refusal> {
    match &term.content {
        Some(Value::Date(seconds)) => Ok(*seconds),
        _ => Err(Refusal::Shape),
    }
}

/// The library itself, for tests that forge tokens.
#[cfg(any(test, fuzzing))]
pub(super) mod library {
    pub use biscuit_auth::builder::*;
    pub use biscuit_auth::builder_ext::{AuthorizerExt, BuilderExt};
    #[cfg(test)]
    pub use biscuit_auth::format::schema;
    pub use biscuit_auth::*;
    #[cfg(test)]
    pub use prost::Message;

    #[cfg(test)]
    use super::RootKey;

    #[cfg(test)]
    pub fn root_key(pair: &KeyPair) -> RootKey {
        let secret = pair.private().to_bytes()[..].try_into().expect("Ed25519 keys are 32 bytes");
        RootKey::from_secret(&secret).expect("it was a key before")
    }
}
