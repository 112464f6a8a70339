//! What a holder makes of a token with our own means.

use super::*;
use crate::domain::NamePrefix;

const NOW: i64 = 2_000;

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

fn make(token: &str, wanted: &Narrowing) -> Result<String, NarrowError> {
    super::super::narrow(token, wanted, seconds(NOW)).map(|token| token.to_string())
}

fn names(names: &[&str]) -> Narrowing {
    let names = names.iter().map(|text| name(text)).collect();
    Narrowing { names, ..Narrowing::default() }
}

fn prefixes(prefixes: &[&str]) -> Narrowing {
    let prefixes = prefixes.iter().map(|text| NamePrefix::parse(text).unwrap()).collect();
    Narrowing { prefixes, ..Narrowing::default() }
}

fn reading() -> Narrowing {
    Narrowing { operation: Some(Operation::Read), ..Narrowing::default() }
}

fn ttl(seconds: u64) -> Narrowing {
    Narrowing { ttl: Some(Duration::from_secs(seconds)), ..Narrowing::default() }
}

fn from(moment: i64) -> Narrowing {
    Narrowing { not_before: Some(seconds(moment)), ..Narrowing::default() }
}

#[test]
fn what_is_asked_for_is_what_a_server_holds_it_to() {
    let world = World::new();
    let wanted = Narrowing {
        operation: Some(Operation::Read),
        names: vec![name("a"), name("b")],
        prefixes: vec![NamePrefix::parse("ci-").unwrap(), NamePrefix::parse("x").unwrap()],
        ttl: Some(Duration::from_secs(600)),
        not_before: Some(Timestamp::from_unix_micros(2_100_000_001)),
    };
    let token = make(&world.good(), &wanted).unwrap();
    assert_eq!(
        inspect(&token).unwrap().narrowed_to,
        [
            "only to read and list",
            "only a secret out of [\"a\", \"b\"], or secrets whose name begins with \"ci-\", or \
             secrets whose name begins with \"x\"",
            "only before 1970-01-01T00:43:20Z",
            "only from 1970-01-01T00:35:01Z on",
        ]
    );
    let principal = world.principal(&token);
    let within = at(2_101);
    for allowed in ["a", "b", "ci-", "ci-1", "x", "xy"] {
        assert!(reads(&principal, allowed, within) && !writes(&principal, allowed, within));
    }
    for denied in ["A", "c", "ab", "ci", "_"] {
        assert!(!reads(&principal, denied, within), "{denied}");
    }
    for (micros, allowed) in [
        (2_100_999_999, false),
        (2_101_000_000, true),
        (2_599_999_999, true),
        (2_600_000_000, false),
    ] {
        assert_eq!(reads(&principal, "a", at_micros(micros)), allowed, "{micros}");
    }
}

#[test]
fn each_part_narrows_by_itself() {
    let world = World::new();
    let now = at(NOW);
    let make = |wanted: &Narrowing| world.principal(&make(&world.good(), wanted).unwrap());
    let principal = make(&reading());
    assert!(reads(&principal, "a", now) && !writes(&principal, "a", now));
    for wanted in [names(&["a"]), names(&["a", "ab"]), prefixes(&["a"])] {
        let principal = make(&wanted);
        assert!(reads(&principal, "a", now) && writes(&principal, "a", now));
        assert!(!reads(&principal, "b", now) && !writes(&principal, "b", now));
    }
    let principal = make(&ttl(1));
    assert!(reads(&principal, "a", now) && !reads(&principal, "a", at(NOW + 1)));
    let principal = make(&from(NOW + 5));
    assert!(!reads(&principal, "a", now) && reads(&principal, "a", at(NOW + 5)));
}

#[test]
fn what_it_makes_can_be_narrowed_again_and_never_widens() {
    let world = World::new();
    let once = make(&world.good(), &prefixes(&["a"])).unwrap();
    let twice = make(&once, &names(&["ab", "b"])).unwrap();
    let thrice = make(&twice, &prefixes(&["b", "a"])).unwrap();
    let principal = world.principal(&thrice);
    let now = at(NOW);
    assert!(reads(&principal, "ab", now) && !reads(&principal, "b", now));
    assert!(!reads(&principal, "a", now));
    assert_eq!(make(&thrice, &reading()), Err(NarrowError::TooManyBlocks));
}

#[test]
fn a_lifetime_ends_within_that_of_the_token() {
    let world = World::new();
    let token = world.good();
    let left = u64::try_from(EXPIRES - NOW).unwrap();
    make(&token, &ttl(left)).unwrap();
    let ends = seconds(EXPIRES);
    assert_eq!(make(&token, &ttl(left + 1)), Err(NarrowError::Outlasts { ends }));
    assert_eq!(make(&token, &ttl(u64::MAX)), Err(NarrowError::Outlasts { ends }));
    // What it was narrowed to counts as well.
    let short = make(&token, &ttl(100)).unwrap();
    let ends = seconds(NOW + 100);
    assert_eq!(make(&short, &ttl(101)), Err(NarrowError::Outlasts { ends }));
    make(&short, &ttl(100)).unwrap();
    let until = narrow(&token, "check if time($t), $t <= 1970-01-01T00:35:00Z");
    assert_eq!(make(&until, &ttl(102)), Err(NarrowError::Outlasts { ends: seconds(2_101) }));
    make(&until, &ttl(101)).unwrap();
    let either = narrow(&token, r#"check if time($t), $t < 1970-01-01T00:35:00Z or resource("a")"#);
    make(&either, &ttl(5_000)).expect("the secret a has no such end");
    assert_eq!(make(&token, &ttl(0)), Err(NarrowError::NoTerm));
}

#[test]
fn a_beginning_lies_before_the_end() {
    let world = World::new();
    let token = world.good();
    make(&token, &from(EXPIRES - 1)).unwrap();
    let ends = seconds(EXPIRES);
    assert_eq!(make(&token, &from(EXPIRES)), Err(NarrowError::NeverValid { ends }));
    let both = Narrowing { not_before: Some(seconds(NOW + 10)), ..ttl(10) };
    let ends = seconds(NOW + 10);
    assert_eq!(make(&token, &both), Err(NarrowError::NeverValid { ends }));
    assert_eq!(make(&token, &from(-5)), Err(NarrowError::BeforeEpoch));
    make(&token, &from(0)).unwrap();
}

#[test]
fn an_expired_token_is_not_worth_narrowing() {
    let world = World::new();
    let make_at = |token: &str, now| {
        super::super::narrow(token, &reading(), seconds(now)).map(|token| token.to_string())
    };
    let token = world.good();
    make_at(&token, EXPIRES - 1).unwrap();
    let expired = seconds(EXPIRES);
    assert_eq!(make_at(&token, EXPIRES), Err(NarrowError::Expired { expired }));
    let short = make(&token, &ttl(100)).unwrap();
    let expired = seconds(NOW + 100);
    assert_eq!(make_at(&short, NOW + 100), Err(NarrowError::Expired { expired }));
    let sealed = seal(&token, seconds(EXPIRES)).map(drop);
    assert_eq!(sealed, Err(NarrowError::Expired { expired: seconds(EXPIRES) }));
}

#[test]
fn a_sealed_token_allows_the_same_and_is_never_narrowed() {
    let world = World::new();
    let token = make(&world.good(), &names(&["a"])).unwrap();
    let sealed = seal(&token, seconds(NOW)).unwrap();
    let principal = world.principal(&sealed);
    assert!(reads(&principal, "a", at(NOW)) && !reads(&principal, "b", at(NOW)));
    assert!(inspect(&sealed).unwrap().sealed);
    assert_eq!(make(&sealed, &reading()), Err(NarrowError::Sealed));
    assert_eq!(seal(&sealed, seconds(NOW)).map(drop), Err(NarrowError::Sealed));
}

#[test]
fn the_limits_of_a_token_are_refused_before_a_server_does() {
    let world = World::new();
    let check = r#"check if operation("read");"#;
    let full = narrow(&world.good(), &check.repeat(15));
    make(&full, &reading()).unwrap();
    let two = Narrowing { operation: Some(Operation::Read), ..ttl(5) };
    assert_eq!(make(&full, &two), Err(NarrowError::TooManyChecks { checks: 17 }));
    let many: Vec<_> = (0..200).map(|number| format!("{number:0>30}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(make(&world.good(), &names(&many)), Err(NarrowError::TooLarge));
    make(&world.good(), &names(&many[..50])).unwrap();
}

#[test]
fn nothing_and_everything_are_no_narrowing() {
    let world = World::new();
    assert_eq!(make(&world.good(), &Narrowing::default()), Err(NarrowError::Nothing));
    assert_eq!(make(&world.good(), &prefixes(&["a", ""])), Err(NarrowError::EmptyPrefix));
}

#[test]
fn what_a_server_would_refuse_is_refused() {
    let world = World::new();
    let shape = narrow(&world.good(), r#"scope("*")"#);
    let rootless = tamper(&world.good(), |token| token.root_key_id = None);
    for (token, refusal) in [
        (shape.as_str(), Refusal::Shape),
        ("AAAA", Refusal::Malformed),
        ("a.b", Refusal::Malformed),
        (&"A".repeat(4_097), Refusal::TooLarge),
        (&rootless, Refusal::UnknownRoot),
    ] {
        assert_eq!(make(token, &reading()), Err(NarrowError::Refused(refusal)));
    }
}

#[test]
fn debug_of_a_narrowing_shows_no_name() {
    let wanted = Narrowing { prefixes: prefixes(&["hidden-p"]).prefixes, ..names(&["hidden-n"]) };
    assert!(!format!("{wanted:?}").contains("hidden"));
}

proptest! {
    #[test]
    fn narrowing_is_what_biscuits_authorizer_makes_of_it(
        read_only in any::<bool>(),
        name_texts in prop::collection::vec("[a-b]{1,2}", 0..3),
        prefix_texts in prop::collection::vec("[a-b]{1,2}", 0..3),
        term in prop::option::of(1..8_000_u64),
        before in blocks(),
        requests in prop::collection::vec((any::<bool>(), "[a-b]{1,3}", 1_995..2_010_i64), 1..6),
    ) {
        let world = World::new();
        let before = build(&world, &before[..before.len().min(2)].to_vec()).to_base64().unwrap();
        let wanted = Narrowing {
            operation: read_only.then_some(Operation::Read),
            names: name_texts.iter().map(|text| name(text)).collect(),
            prefixes: prefix_texts.iter().map(|text| NamePrefix::parse(text).unwrap()).collect(),
            ttl: term.map(Duration::from_secs),
            not_before: None,
        };
        let Ok(after) = make(&before, &wanted) else { return Ok(()) };
        let (wide, slim) = (world.principal(&before), world.principal(&after));
        let token = Biscuit::from_base64(&after, world.pair.public()).unwrap();
        for (write, secret, second) in requests {
            let now = at(second);
            let ask = |principal: &Principal| {
                if write { writes(principal, &secret, now) } else { reads(principal, &secret, now) }
            };
            let operation = if write { Operation::Write } else { Operation::Read };
            prop_assert_eq!(ask(&slim), library_allows(&token, operation, &secret, second));
            prop_assert!(ask(&wide) || !ask(&slim), "narrowing never widens");
            let named = name_texts.contains(&secret)
                || prefix_texts.iter().any(|prefix| secret.starts_with(prefix))
                || (name_texts.is_empty() && prefix_texts.is_empty());
            let in_term = term.is_none_or(|term| second < NOW + i64::try_from(term).unwrap());
            prop_assert_eq!(ask(&slim), ask(&wide) && named && in_term && !(write && read_only));
        }
    }
}
