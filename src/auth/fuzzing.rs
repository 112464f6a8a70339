//! What must hold of any bytes that come as a token, or as a block in one.
//!
//! These are the targets of `fuzz/`, and of the test below, which runs the same on
//! a stable toolchain for some seconds.

use super::biscuit::library::{
    self, AuthorizerBuilder, AuthorizerExt, AuthorizerLimits, Biscuit, BuilderExt, KeyPair,
    PrivateKey, Term,
};
use super::biscuit::{RootKey, Unverified};
use super::caveat::Caveats;
use super::claims::{Claims, Subject};
use super::inspect;
use super::reach::{Reach, Tenancy};
use crate::domain::{Now, Operation, Scope, ScopeSet, SecretName, TenantId, TenantName, Timestamp};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

/// A token: decoding it never panics; if it decodes, then it can be shown, and what
/// was understood of it, written anew, is understood as the same.
pub fn token(bytes: &[u8]) {
    let Ok(token) = Unverified::decode(&URL_SAFE.encode(bytes)) else { return };
    let shown = inspect(&URL_SAFE.encode(bytes)).expect("what decodes can be shown");
    assert_eq!(shown.narrowed_to.len(), token.caveats().len());
    let checks = token.caveats().checks();
    let root = RootKey::from_secret(&ROOT).expect("any 32 bytes are a key");
    let minted = root.sign(token.root_id(), token.claims()).expect("these claims were signed");
    let Ok(minted) = Unverified::decode(&minted) else { return };
    let Ok(anew) = minted.append(checks) else { return };
    // Written anew it may be longer than a token may be, and no other error is right.
    match Unverified::decode(&anew) {
        Ok(anew) => {
            assert!(anew.claims() == token.claims(), "the claims differ");
            assert!(anew.caveats() == token.caveats(), "the checks differ");
        }
        Err(refusal) => assert_eq!(refusal, super::Refusal::TooLarge),
    }
}

/// A block that the holder of a good token appended, and signed: where it passes
/// the shape guard, biscuit's own authorizer comes to our answers.
pub fn block(bytes: &[u8]) {
    let root = RootKey::from_secret(&ROOT).expect("any 32 bytes are a key");
    let secret = PrivateKey::from_bytes(&ROOT, library::Algorithm::Ed25519).expect("a key");
    let pair = KeyPair::from(&secret);
    let minted = root.sign(1, &claims()).expect("good claims");
    let good = Biscuit::from_base64(minted.as_str(), pair.public()).expect("a good token");
    let container = good.container().append_serialized(&pair, bytes.to_vec(), None);
    let Ok(container) = container else { return };
    let Ok(strange) = container.to_vec() else { return };
    let Ok(token) = Unverified::decode(&URL_SAFE.encode(&strange)) else { return };
    let authorized = Biscuit::from(&strange, pair.public()).expect("what passes is a biscuit");
    for (operation, name, seconds) in [
        (Operation::Read, "a", 1_000),
        (Operation::Write, "ab", 2_000),
        (Operation::Read, "ci-1", 1_999),
        (Operation::Write, "db-password", 2_001),
    ] {
        let ours = allows(token.caveats(), operation, name, seconds);
        assert_eq!(ours, library_allows(&authorized, operation, name, seconds));
    }
    self::token(&strange);
}

const ROOT: [u8; 32] = [7; 32];

fn claims() -> Claims {
    Claims {
        reach: Reach::Tenant(Tenancy {
            tenant: TenantName::parse("acme").expect("a name"),
            tenant_id: TenantId::from_bytes([7; 16]),
            scopes: ScopeSet::NONE.with(Scope::All),
        }),
        subject: Subject::parse("ci").expect("a subject"),
        issued: Timestamp::from_unix_seconds(0),
        expires: Timestamp::from_unix_seconds(4_000_000_000),
    }
}

fn allows(caveats: &Caveats, operation: Operation, name: &str, seconds: i64) -> bool {
    let name = SecretName::parse(name).expect("a name");
    let now = Now::undisputed(Timestamp::from_unix_seconds(seconds));
    caveats.allow(operation, &name, now)
}

/// With limits that never bind.
fn library_allows(token: &Biscuit, operation: Operation, name: &str, seconds: i64) -> bool {
    let limits = AuthorizerLimits {
        max_facts: 100_000,
        max_iterations: 100_000,
        max_time: std::time::Duration::from_secs(60),
    };
    let authorizer = AuthorizerBuilder::new()
        .fact(library::fact("time", &[Term::Date(seconds.unsigned_abs())]))
        .expect("a fact")
        .operation(operation.as_str())
        .resource(name)
        .allow_all()
        .set_limits(limits);
    authorizer.build(token).is_ok_and(|mut authorizer| authorizer.authorize().is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use super::*;

    /// Of both targets together it is twice that.
    const LENGTH: Duration = Duration::from_secs(5);

    fn corpus(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let files = fs::read_dir(corpus(target)).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed ^ (mixed >> 31)) as usize % end.max(1)
        }
    }

    /// Small steps reach a neighbouring operator, symbol or length more often than
    /// random bytes do; pieces of others reach what no step does.
    fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            let piece = &others[random.below(others.len())];
            let from = random.below(piece.len());
            let piece = &piece[from..(from + random.below(32)).min(piece.len())];
            match random.below(6) {
                0 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
                1 if at < bytes.len() => bytes[at] = bytes[at].wrapping_sub(1),
                2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                4 => drop(bytes.splice(at..at, piece.iter().copied())),
                _ => bytes.truncate(bytes.len().saturating_sub(random.below(4))),
            }
        }
    }

    fn run(target: &str, check: fn(&[u8])) {
        let seeds = seeds(target);
        assert!(seeds.len() >= 8, "a corpus of {target}");
        seeds.iter().for_each(|seed| check(seed));
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let (mut random, begun, mut tried) = (Random(seed), Instant::now(), 0_u64);
        while begun.elapsed() < LENGTH {
            let mut bytes = seeds[random.below(seeds.len())].clone();
            mutate(&mut bytes, &seeds, &mut random);
            let outcome = std::panic::catch_unwind(|| check(&bytes));
            assert!(
                outcome.is_ok(),
                "{target} fails after {tried} others of the seed {seed}: {}",
                hex::encode(&bytes)
            );
            tried += 1;
        }
        println!("{target}: {tried} inputs of the seed {seed}");
    }

    #[test]
    fn bytes_that_are_like_a_token_hold_what_is_promised() {
        run("token", token);
    }

    #[test]
    fn bytes_that_are_like_a_block_hold_what_is_promised() {
        run("block", block);
    }

    /// Otherwise most of what is tried could be refused at its first byte.
    #[test]
    fn the_corpus_is_of_the_language() {
        for seed in seeds("token") {
            assert!(Unverified::decode(&URL_SAFE.encode(&seed)).is_ok());
        }
    }
}
