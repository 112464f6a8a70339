//! A disk that fills up: what grows is refused, then what shrinks too, reads go on,
//! and freed space is all that it takes to mend it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::faulty_fs::{FaultyFs, Loss};
use crate::support::{
    Answer, Dev, Random, Request, Writers, eventually, quiet, secret, two_tenants,
};

const MIB: u64 = 1 << 20;
const ROOMY: u64 = 1024 * MIB;
/// Free space between the two floors, and below both.
const FULL: u64 = 12 * MIB;
const NEARLY_NOTHING: u64 = 2 * MIB;

fn with_floors(command: &mut Command) {
    quiet(command);
    command.env("TENURE_STORE_FULL_FLOOR_BYTES", "16MiB");
    command.env("TENURE_STORE_HARD_FLOOR_BYTES", "8MiB");
}

fn put(dev: &Dev, name: &str, value: &str) -> u16 {
    dev.put(name, value).status
}

fn delete(dev: &Dev, name: &str) -> Answer {
    dev.send(Request::delete(secret(name)))
}

fn assert_full(answer: &Answer) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "full"), "{answer:?}");
    let wait = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(wait.is_some_and(|seconds| seconds > 0), "{answer:?}");
}

fn names(dev: &Dev) -> Vec<String> {
    let answer = dev.send(Request::get("/api/dev/secrets"));
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).expect("a list of names")
}

/// How many secrets a sweep removed.
fn swept(dev: &Dev) -> u64 {
    let output = dev.run(&["sweep", "--json"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let reply: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    let tenants = reply["tenants"].as_array().expect("a list").iter();
    tenants.map(|tenant| tenant["secrets"].as_u64().expect("a number")).sum()
}

fn put_expired(dev: &Dev, name: &str) {
    let body = json!({ "value": "x", "expiresOn": "2001-01-01T00:00:00Z" }).to_string();
    assert_eq!(dev.send(Request::put(secret(name), body)).status, 204);
}

#[test]
fn a_full_disk_refuses_writes_in_two_steps_and_recovers_without_a_restart() {
    let Some(disk) = FaultyFs::mount() else { return };
    let free = |bytes| disk.with(|disk| disk.leave_free(bytes));
    let dev = Dev::start_with(&disk.data(), with_floors);
    for name in ["kept", "deleted", "late"] {
        assert_eq!(put(&dev, name, name), 204);
    }
    put_expired(&dev, "expired-1");
    put_expired(&dev, "expired-2");

    free(FULL);
    assert_full(&dev.put("new", "value"));
    assert_full(&dev.put("kept", "replaced"));
    assert_eq!(dev.get("kept").json(), "kept");
    assert_eq!(delete(&dev, "deleted").status, 204);
    assert_eq!(swept(&dev), 2, "what has expired is removed");
    assert_eq!(names(&dev), ["kept", "late"]);
    let create = dev.run(&["tenant", "create", "acme"]);
    assert_eq!(create.code, Some(5), "{create:?}");
    assert!(create.stderr.contains("free some space"), "{create:?}");
    let ready = dev.client().send(&Request::get("/readyz"));
    assert_eq!(ready.status, 503, "{ready:?}");

    free(NEARLY_NOTHING);
    assert_full(&dev.put("new", "value"));
    assert_full(&delete(&dev, "late"));
    assert_eq!(dev.get("late").json(), "late");
    assert_eq!(names(&dev), ["kept", "late"]);

    free(ROOMY);
    assert_eq!(put(&dev, "new", "value"), 204);
    assert_eq!(delete(&dev, "late").status, 204);
    assert_eq!(dev.run(&["tenant", "create", "acme"]).code, Some(0));
    assert_eq!(dev.client().send(&Request::get("/readyz")).status, 200);

    disk.cut_power(dev.pid());
    dev.kill();
    disk.restore_power(Loss::EverythingUnsynced);
    let dev = Dev::start_with(&disk.data(), with_floors);
    assert_eq!(names(&dev), ["kept", "new"]);
    assert_eq!(dev.get("kept").json(), "kept");
}

const VALUE: &str = "the value";

/// A tenant whom nobody writes to, in the database that all write to.
struct Still {
    token: String,
}

impl Still {
    const SECRET: &str = "/api/still/secrets/name";

    fn make(data: &Path) -> Self {
        let dev = Dev::start_with(data, quiet);
        assert_eq!(dev.run(&["tenant", "create", "still"]).code, Some(0));
        let token = dev.mint("still", &["*"]);
        let body = json!({ "value": VALUE }).to_string();
        let put = Request::put(Self::SECRET, body).bearer(&token);
        assert_eq!(dev.client().send(&put).status, 204);
        assert_eq!(dev.stop(), Some(0));
        Self { token }
    }

    fn get(&self, dev: &Dev) -> Answer {
        let get = Request::get(Self::SECRET).bearer(&self.token).header("Accept", "text/plain");
        dev.client().send(&get)
    }
}

/// The free space said to be there is not: a quota, another process that is faster.
#[test]
fn a_write_that_finds_no_space_loses_nothing_and_writes_resume_by_themselves() {
    let Some(disk) = FaultyFs::mount() else { return };
    let mut random = Random::seeded();
    println!("seed {}", random.0);
    let data = disk.data();
    let mut writers = Writers::new(16, two_tenants(&data), &mut random);
    let still = Still::make(&data);
    let (mut acknowledged, mut unknown) = (0, 0);
    for round in 0..3 {
        let dev = Dev::start_with(&data, quiet);
        writers.assert_kept(dev.address);
        assert_eq!(put(&dev, "fixed", VALUE), 204);
        let done = writers.under_load(dev.address, |done| {
            eventually("writes", || (done.acknowledged() > 20).then_some(()));
            let before = disk.with(|disk| {
                disk.claim_free(Some(ROOMY));
                disk.leave_free(random.below(MIB));
                disk.refused_for_space()
            });
            eventually("a write without space", || {
                (disk.with(|disk| disk.refused_for_space()) > before).then_some(())
            });
            eventually("a write of unknown outcome", || (done.unknown() > 0).then_some(()));
            eventually("refused writes", || (done.refused() > 50).then_some(()));
            for _ in 0..20 {
                let read = still.get(&dev);
                assert_eq!((read.status, read.text()), (200, VALUE.to_owned()), "reads go on");
                // Where the error broke off the split of a page, sled finishes it
                // when the page is next read, which is a write.
                let beside = dev.get("fixed");
                match beside.status {
                    200 => assert_eq!(beside.json(), VALUE),
                    _ => assert_eq!((beside.status, beside.code().as_str()), (503, "unavailable")),
                }
            }
            disk.with(|disk| {
                disk.claim_free(None);
                disk.leave_free(ROOMY);
            });
            let so_far = done.acknowledged();
            eventually("writes again", || (done.acknowledged() > so_far + 20).then_some(()));
            eventually("a sweep", || (dev.run(&["sweep"]).code == Some(0)).then_some(()));
            disk.cut_power(dev.pid());
        });
        dev.kill();
        disk.restore_power(Loss::Half { seed: round });
        acknowledged += done.acknowledged();
        unknown += done.unknown();
    }
    writers.assert_kept(Dev::start_with(&data, quiet).address);
    println!("no space: 3 rounds, {acknowledged} writes acknowledged, {unknown} unknown, 0 lost");
}

/// A start needs some space, and says so where there is none.
#[test]
fn a_start_without_space_ends_with_a_sentence_and_harms_nothing() {
    let Some(disk) = FaultyFs::mount() else { return };
    let dev = Dev::start_with(&disk.data(), quiet);
    assert_eq!(put(&dev, "kept", "value"), 204);
    disk.cut_power(dev.pid());
    dev.kill();
    disk.restore_power(Loss::Half { seed: 1 });
    disk.with(|disk| disk.leave_free(0));
    let refused = crate::support::Starting::spawn(&disk.data(), quiet).ready().err();
    let refused = refused.expect("a start without space fails");
    assert!(refused.contains("No space left"), "{refused}");
    disk.with(|disk| disk.leave_free(ROOMY));
    assert_eq!(Dev::start_with(&disk.data(), quiet).get("kept").json(), "value");
}
