//! Who shows too many credentials, and who must not suffer from it.

use super::*;
use crate::domain::Rate;

fn source(last: u8) -> Source {
    Source::of([192, 0, 2, last].into())
}

fn failures(burst: usize) -> Rates {
    Rates { failures: Rate::of(1, burst), ..Rates::NONE }
}

fn first_sights(burst: usize) -> Rates {
    Rates { first_sights: Rate::of(1, burst), ..Rates::NONE }
}

fn is_limited(asked: &Result<Arc<Principal>, Refusal>) -> bool {
    matches!(asked, Err(Refusal::Limited(_)))
}

/// The same token with a field that no library knows, so another text each time.
fn encoded_anew(token: &str, number: u32) -> String {
    let mut bytes = UnverifiedBiscuit::from_base64(token).unwrap().to_vec().unwrap();
    // Field 15, a varint.
    bytes.push(0x78);
    let mut rest = number;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    base64(&bytes)
}

#[test]
fn failures_limit_the_strangers_of_their_source_alone() {
    let world = World::limited(failures(5));
    let (known, fresh) = (world.good(), world.good());
    world.ask_from(source(1), &known).unwrap();
    let foreign = World::new().good();
    for _ in 0..5 {
        assert_eq!(world.ask_from(source(1), &foreign).unwrap_err(), Refusal::Signature);
    }
    // Whatever it shows, nothing of it is looked at.
    for token in [&foreign, &fresh, &"AAAA".to_owned()] {
        let limited = Limited { retry_after: Duration::from_secs(1) };
        let refusal = world.ask_from(source(1), token).unwrap_err();
        assert_eq!(refusal, Refusal::Limited(limited));
    }
    world.ask_from(source(1), &known).expect("what is remembered is no stranger");
    world.ask_from(source(2), &fresh).expect("another address is not to blame");
    world.ask_from(source(1), &fresh).expect("and now it is remembered");
}

#[test]
fn every_way_of_failing_is_counted() {
    let world = World::new();
    let gone = world.forge(&AUTHORITY.replace("acme", "beta"));
    let expired = world.forge(&AUTHORITY.replace("02:46:40", "00:16:40"));
    let unknown = tamper(&world.good(), |token| token.root_key_id = Some(9));
    let shape = narrow(&world.good(), r#"scope("*")"#);
    for (token, refusal) in [
        (gone, Refusal::TenantGone),
        (expired, Refusal::Expired),
        (unknown, Refusal::UnknownRoot),
        (shape, Refusal::Shape),
        ("AAAA".to_owned(), Refusal::Malformed),
        (World::new().good(), Refusal::Signature),
    ] {
        let mut limited = World::limited(failures(2));
        let roots = Roots::from_keys(vec![(1, library::root_key(&world.pair))]);
        let clock: Arc<dyn Clock> = Arc::new(Still);
        let limits = Arc::new(Limits::new(failures(2), &clock));
        limited.authenticator = Authenticator::new(standing(roots), 100, limits);
        for _ in 0..2 {
            assert_eq!(limited.ask_from(source(1), &token).unwrap_err(), refusal);
        }
        assert!(is_limited(&limited.ask_from(source(1), &token)), "{refusal:?}");
    }
}

#[test]
fn a_remembered_token_that_expired_is_no_failure() {
    let world = World::limited(failures(2));
    let token = world.good();
    world.ask(&token, at(ISSUED)).unwrap();
    for _ in 0..10 {
        assert_eq!(world.ask(&token, at(EXPIRES)).unwrap_err(), Refusal::Expired);
    }
}

#[test]
fn an_encoding_of_ones_own_token_meets_the_limit_of_its_authority_and_of_no_other() {
    let world = World::limited(first_sights(10));
    let (mine, other) = (world.good(), world.good());
    world.ask_from(source(1), &mine).unwrap();
    for number in 0..9 {
        world.ask_from(source(1), &encoded_anew(&mine, number)).unwrap();
    }
    let narrowed = narrow(&mine, r#"check if operation("read")"#);
    for number in 9..1_000 {
        // From wherever, and however it is written.
        let asked = world.ask_from(source(number as u8), &encoded_anew(&mine, number));
        assert!(is_limited(&asked), "{number}");
    }
    assert!(is_limited(&world.ask_from(source(1), &narrowed)));
    world.ask_from(source(1), &mine).expect("what is remembered goes on");
    world.ask_from(source(1), &other).expect("another minting is another count");
}

/// Concatenated messages are merged, so that a field given again makes another text
/// of the same token.
#[test]
fn merged_encodings_count_as_well() {
    let world = World::limited(first_sights(3));
    let token = world.good();
    let bytes = UnverifiedBiscuit::from_base64(&token).unwrap().to_vec().unwrap();
    // Field 1 is the root's id.
    let merged = |times: usize| base64(&[bytes.clone(), [0x08, 1].repeat(times)].concat());
    for times in 0..3 {
        world.ask_from(source(1), &merged(times)).unwrap();
    }
    assert!(is_limited(&world.ask_from(source(1), &merged(3))));
    world.ask_from(source(1), &merged(0)).expect("it is remembered");
}

#[test]
fn a_limited_stranger_is_refused_before_any_signature() {
    let world = World::limited(Rates { failures: Rate::of(1, 1), ..first_sights(1) });
    let foreign = World::new().good();
    assert_eq!(world.ask_from(source(1), &foreign).unwrap_err(), Refusal::Signature);
    // By its authority, from an address that has not failed yet.
    assert!(is_limited(&world.ask_from(source(2), &foreign)));
    // A limit is no failure, or who shows good tokens too often would be one.
    world.ask_from(source(2), &world.good()).unwrap();
}

#[test]
fn variants_of_one_token_push_out_nobody_elses() {
    let world = World::new();
    let others: Vec<_> = (0..30).map(|_| world.good()).collect();
    let principals: Vec<_> = others.iter().map(|token| world.principal(token)).collect();
    let mine = world.good();
    for number in 0..1_000 {
        world.principal(&encoded_anew(&mine, number));
    }
    for (token, principal) in others.iter().zip(&principals) {
        assert!(Arc::ptr_eq(&world.principal(token), principal), "it is remembered still");
    }
}

#[test]
fn a_narrowed_token_is_the_same_credential_to_who_counts() {
    let world = World::new();
    let token = world.good();
    let narrowed = narrow(&token, r#"check if operation("read")"#);
    let of = |token: &str| world.principal(token).family();
    assert_eq!(of(&token), of(&narrowed));
    assert_eq!(of(&token), of(&encoded_anew(&narrowed, 5)));
    assert_ne!(of(&token), of(&world.good()));
}
