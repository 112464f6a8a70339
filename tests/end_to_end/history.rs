//! Whatever clients saw, before and after any kill -9, could have happened one
//! act at a time: each read saw the last acknowledged write or a concurrent one.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::linearizable::{Act, Recorded, Value, check};
use crate::support::{Answer, Client, Dev, Random, Request, Tenants, secret};

const CLIENTS: usize = 6;
const SECRETS: usize = 4;
const SIZES: [usize; 3] = [40, 500, 9_000];

/// What all clients share: a clock that orders their calls and returns, and
/// numbers for values, no two alike.
#[derive(Default)]
struct Shared {
    moments: AtomicU64,
    values: AtomicU64,
}

impl Shared {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }
}

fn text(value: u64) -> String {
    let size = SIZES[value as usize % SIZES.len()];
    let head = format!("{value}#");
    let pattern = format!("{:016x}", value.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    head.chars().chain(pattern.chars().cycle()).take(size).collect()
}

/// # Panics
/// If it is not the whole of a value ever written.
fn value_of(answer: &Answer) -> u64 {
    let found = answer.text();
    let number = found.split('#').next().and_then(|number| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("not a value of ours: {answer:?}"));
    assert!(found == text(number), "a value that was never written: {answer:?}");
    number
}

/// What a client is about to do to one secret.
#[derive(Clone, Copy)]
enum Wish {
    Read,
    Write(u64),
    /// Unreadable at once, and there for the sweeps to find.
    WriteExpired,
    Delete,
}

impl Wish {
    fn draw(random: &mut Random, shared: &Shared) -> Self {
        match random.below(100) {
            0..45 => Self::Read,
            45..80 => Self::Write(shared.values.fetch_add(1, Ordering::SeqCst)),
            80..85 => Self::WriteExpired,
            _ => Self::Delete,
        }
    }

    fn request(self, path: String) -> Request {
        match self {
            Self::Read => Request::get(path).header("Accept", "text/plain"),
            Self::Write(value) => Request::put(path, json!({ "value": text(value) }).to_string()),
            Self::WriteExpired => {
                let body = json!({ "value": "x", "expiresOn": "2001-01-01T00:00:00Z" });
                Request::put(path, body.to_string())
            }
            Self::Delete => Request::delete(path),
        }
    }

    /// What is known to have happened.
    fn answered(self, answer: &Answer) -> Option<Act> {
        match (self, answer.status) {
            (Self::Read, 200) => Some(Act::Read(Some(value_of(answer)))),
            (Self::Read, 404) => Some(Act::Read(None)),
            (Self::Write(value), 204) => Some(Act::Write(Some(value))),
            (Self::WriteExpired, 204) => Some(Act::Write(None)),
            (Self::Delete, 204) => Some(Act::Delete { found: true }),
            (Self::Delete, 404) => Some(Act::Delete { found: false }),
            (_, 503) => None,
            _ => panic!("{answer:?}"),
        }
    }

    /// What may have happened where no answer tells.
    fn unanswered(self) -> Option<Act> {
        match self {
            Self::Read => None,
            Self::Write(value) => Some(Act::Write(Some(value))),
            Self::WriteExpired => Some(Act::Write(None)),
            Self::Delete => Some(Act::DeleteUnanswered),
        }
    }
}

type History = Vec<(usize, Recorded)>;

/// Acts at random until the connection ends.
fn act(dev: &Dev, shared: &Shared, mut random: Random) -> History {
    let mut connection = Client::new(dev.address);
    let mut history = Vec::new();
    loop {
        let which = random.below(SECRETS as u64) as usize;
        let wish = Wish::draw(&mut random, shared);
        let request = wish.request(name(which)).bearer(&dev.token);
        let called = shared.moment();
        let answer = connection.send_unless_closed(&request);
        let returned = shared.moment();
        let recorded = match answer.as_ref().and_then(|answer| wish.answered(answer)) {
            Some(act) => Some(Recorded { act, called, returned: Some(returned) }),
            None => wish.unanswered().map(|act| Recorded { act, called, returned: None }),
        };
        history.extend(recorded.map(|recorded| (which, recorded)));
        if answer.is_none() {
            return history;
        }
    }
}

fn name(which: usize) -> String {
    secret(&format!("shared-{which}"))
}

fn is_alive(dev: &Dev) -> bool {
    std::net::TcpStream::connect(dev.address).is_ok()
}

/// One life of the server, ended by kill -9; answers what the clients saw.
fn round(dev: &Dev, shared: &Shared, random: &mut Random, tenants: &mut Tenants) -> History {
    let pause = Duration::from_micros(random.below(600_000));
    let seeds: Vec<_> = (0..CLIENTS).map(|_| random.below(u64::MAX)).collect();
    thread::scope(|scope| {
        let clients: Vec<_> =
            seeds.iter().map(|seed| scope.spawn(|| act(dev, shared, Random(*seed)))).collect();
        scope.spawn(|| {
            while is_alive(dev) {
                let swept = dev.run(&["sweep", "--retain", "0s"]);
                assert!(matches!(swept.code, Some(0 | 5)), "{swept:?}");
            }
        });
        scope.spawn(|| tenants.come_and_go(dev, || is_alive(dev)));
        // A random moment: nothing is waited for.
        thread::sleep(pause);
        dev.signal("KILL");
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    })
}

#[test]
fn what_clients_see_through_kill_9_could_have_happened_one_act_at_a_time() {
    let rounds = if std::env::var_os("TENURE_TEST_LONG").is_some() { 100 } else { 10 };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let (shared, mut tenants) = (Shared::default(), Tenants::default());
    let mut possible: BTreeMap<usize, HashSet<Value>> =
        (0..SECRETS).map(|which| (which, HashSet::from([None]))).collect();
    let mut acts = 0;
    for round_number in 0..rounds {
        println!("round {round_number}, seed {}", random.0);
        let dev = Dev::start_with(&data, |command| _ = command.env("RUST_LOG", "info"));
        tenants.check(&dev);
        let history = round(&dev, &shared, &mut random, &mut tenants);
        acts += history.iter().filter(|(_, recorded)| recorded.returned.is_some()).count();
        for (which, states) in &mut possible {
            let own: Vec<_> =
                history.iter().filter(|(secret, _)| secret == which).map(|(_, act)| *act).collect();
            *states =
                check(states, &own).unwrap_or_else(|error| panic!("{}: {error}", name(*which)));
        }
    }
    let dev = Dev::start_with(&data, |command| _ = command.env("RUST_LOG", "info"));
    tenants.check(&dev);
    for (which, states) in possible {
        let answer = dev.send(Wish::Read.request(name(which)));
        let found = (answer.status == 200).then(|| value_of(&answer));
        assert!(states.contains(&found), "{}: {found:?}, not one of {states:?}", name(which));
    }
    println!("{rounds} rounds, {acts} acts answered, {} tenants made", tenants.made());
    assert!(acts > 10 * rounds, "there was next to no load: {acts} acts");
}
