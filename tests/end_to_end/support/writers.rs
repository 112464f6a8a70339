//! Clients that write without end and know what must be there afterwards.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::json;

use super::{Answer, Client, Dev, Random, Request};

const NAMES_OF_EACH: usize = 12;
const SIZES: [usize; 3] = [500, 9_000, 60_000];

/// One value ever written; no two are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    sequence: u64,
    size: usize,
}

impl Written {
    fn text(self, place: &str) -> String {
        let head = format!("{place}#{}#", self.sequence);
        let pattern = format!("{:016x}", self.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        head.chars().chain(pattern.chars().cycle()).take(self.size).collect()
    }
}

/// What a writer is about to do to one of its secrets.
#[derive(Clone, Copy)]
enum Wish {
    Put(Written),
    /// Unreadable at once, and there for the sweeps to find.
    PutExpired,
    Delete,
}

impl Wish {
    /// What a reader finds once it is done.
    fn leaves(self) -> Option<Written> {
        match self {
            Self::Put(written) => Some(written),
            Self::PutExpired | Self::Delete => None,
        }
    }

    fn request(self, held: &Held) -> Request {
        let body = match self {
            Self::Put(written) => json!({ "value": written.text(&held.place()) }),
            Self::PutExpired => {
                json!({ "value": "x".repeat(5_000), "expiresOn": "2001-01-01T00:00:00Z" })
            }
            Self::Delete => return Request::delete(held.path()),
        };
        Request::put(held.path(), body.to_string())
    }
}

/// One secret, and what may be there: one state after an acknowledgement, more
/// while an answer is missing. `None` is nothing to read.
struct Held {
    tenant: &'static str,
    name: String,
    possible: Vec<Option<Written>>,
}

impl Held {
    fn place(&self) -> String {
        format!("{}/{}", self.tenant, self.name)
    }

    fn path(&self) -> String {
        format!("/api/{}/secrets/{}", self.tenant, self.name)
    }

    /// Settles what was open; an error says what is not as it was left.
    fn settle(&mut self, answer: &Answer) -> Result<(), String> {
        let place = self.place();
        let found = self.possible.iter().copied().find(|state| match state {
            Some(written) => {
                answer.status == 200 && answer.body == written.text(&place).into_bytes()
            }
            None => answer.status == 404,
        });
        let Some(found) = found else {
            let start: String = answer.text().chars().take(60).collect();
            let (status, possible) = (answer.status, &self.possible);
            return Err(format!("{place} answers {status} {start:?}, not one of {possible:?}"));
        };
        self.possible = vec![found];
        Ok(())
    }
}

/// A thread's own secrets.
struct Writer {
    random: Random,
    token: String,
    held: Vec<Held>,
    sequence: u64,
    /// How many writers there are, so that no two draw the same sequence.
    stride: u64,
}

impl Writer {
    /// Writes until the connection ends.
    fn write(&mut self, address: SocketAddr, done: &Done) {
        let mut client = Client::new(address);
        while !done.over.load(Ordering::Relaxed)
            && let Some(outcome) = self.write_one(&mut client)
        {
            let counter = match outcome {
                Outcome::Acknowledged => &done.acknowledged,
                Outcome::NotApplied => &done.refused,
                Outcome::Unknown => &done.unknown,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wish(&mut self) -> Wish {
        match self.random.below(20) {
            0..5 => Wish::Delete,
            5 => Wish::PutExpired,
            _ => {
                self.sequence += self.stride;
                Wish::Put(Written { sequence: self.sequence, size: self.random.one_of(&SIZES) })
            }
        }
    }

    /// `None` where no answer came.
    fn write_one(&mut self, client: &mut Client) -> Option<Outcome> {
        let wish = self.wish();
        let at = self.random.below(self.held.len() as u64) as usize;
        let held = &mut self.held[at];
        let request = wish.request(held).bearer(&self.token);
        let nothing_there = held.possible.contains(&None);
        held.possible.push(wish.leaves());
        let answer = client.send_unless_closed(&request)?;
        match (answer.status, wish) {
            (204, _) => {}
            (404, Wish::Delete) if nothing_there => {}
            (503, _) if answer.code() == "outcome_unknown" => return Some(Outcome::Unknown),
            // Every other 503 says that nothing was changed.
            (503, _) => {
                held.possible.pop();
                return Some(Outcome::NotApplied);
            }
            _ => panic!("{}: {answer:?} with {:?} there", held.place(), held.possible),
        }
        held.possible = vec![wish.leaves()];
        Some(Outcome::Acknowledged)
    }
}

enum Outcome {
    Acknowledged,
    NotApplied,
    Unknown,
}

/// How much was done so far.
#[derive(Debug, Default)]
pub struct Done {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    /// Whether the load is to end, should the server go on.
    over: AtomicBool,
}

/// Ends the load, after a panic too: the writers would never notice.
struct Over<'a>(&'a Done);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Done {
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }
}

/// Writers of some tenants, each with secrets of its own.
pub struct Writers {
    writers: Vec<Writer>,
    tokens: Vec<(&'static str, String)>,
}

impl Writers {
    /// The writers of all tenants use the same names.
    pub fn new(number: u64, tokens: Vec<(&'static str, String)>, random: &mut Random) -> Self {
        let writer = |index: u64| {
            let nth = index as usize;
            let (tenant, token) = &tokens[nth % tokens.len()];
            let name = |n| format!("w{}-n{n}", nth / tokens.len());
            let held = |n| Held { tenant, name: name(n), possible: vec![None] };
            Writer {
                random: random.fork(),
                token: token.clone(),
                held: (0..NAMES_OF_EACH).map(held).collect(),
                sequence: index,
                stride: number,
            }
        };
        Self { writers: (0..number).map(writer).collect(), tokens }
    }

    /// All write until `end` has ended the server; answers how much they did.
    pub fn under_load(&mut self, address: SocketAddr, end: impl FnOnce(&Done)) -> Done {
        let done = Done::default();
        thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(|| writer.write(address, &done));
            }
            let _over = Over(&done);
            end(&done);
        });
        done
    }

    /// Every secret is as it was left, and the lists agree; what was in flight is
    /// settled from now on.
    pub fn check(&mut self, address: SocketAddr) -> Result<(), String> {
        let mut client = Client::new(address);
        for Writer { held, token, .. } in &mut self.writers {
            for held in held {
                let request = Request::get(held.path()).bearer(token);
                held.settle(&client.send(&request.header("Accept", "text/plain")))?;
            }
        }
        for (tenant, token) in &self.tokens {
            let list = Request::get(format!("/api/{tenant}/secrets")).bearer(token);
            let mut listed: BTreeSet<String> =
                serde_json::from_slice(&client.send(&list).body).expect("a list of names");
            // Secrets of others may be beside ours.
            listed.retain(|name| name.starts_with('w'));
            let present = self.present(tenant);
            if listed != present {
                return Err(format!("the list of {tenant} is {listed:?}, not {present:?}"));
            }
        }
        Ok(())
    }

    /// # Panics
    /// If something is not as it was left.
    pub fn assert_kept(&mut self, address: SocketAddr) {
        self.check(address).unwrap_or_else(|error| panic!("{error}"));
    }

    fn present(&self, tenant: &str) -> BTreeSet<String> {
        let all = self.writers.iter().flat_map(|writer| &writer.held);
        let present = all.filter(|held| held.tenant == tenant && held.possible != [None]);
        present.map(|held| held.name.clone()).collect()
    }
}

/// For a server that logs what it does, but not each request.
pub fn quiet(command: &mut Command) {
    command.env("RUST_LOG", "info");
}

/// A store with two tenants, and a token for each that outlives restarts.
pub fn two_tenants(data: &Path) -> Vec<(&'static str, String)> {
    let dev = Dev::start_with(data, quiet);
    assert_eq!(dev.run(&["tenant", "create", "acme"]).code, Some(0));
    let tokens = ["dev", "acme"].map(|tenant| (tenant, dev.mint(tenant, &["*"])));
    assert_eq!(dev.stop(), Some(0));
    tokens.into()
}
