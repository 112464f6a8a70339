//! Disks that answer with errors: a write is then of unknown outcome or refused, a
//! read an error and never another value; what is not struck goes on, and when the
//! error is gone so does the rest, without a restart.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tenure::store::{SledOptions, SledStore};

use crate::support::faulty_fs::{Act, Before, FaultId, FaultyFs, Loss};
use crate::support::{
    Answer, Dev, Inside, Operated, Random, Request, Starting, Writers, eventually, quiet, secret,
    two_tenants,
};

const NAME: &str = "NmMarkerQ7";
const VALUE: &str = "VlMarkerX3";

fn inject(disk: &FaultyFs, act: Act, part: &str, count: Option<u64>) -> FaultId {
    disk.with(|disk| {
        disk.drop_caches();
        disk.faults.inject(act, part, count)
    })
}

fn heal(disk: &FaultyFs, fault: FaultId) {
    disk.with(|disk| disk.faults.heal(fault));
}

/// Refused or of unknown outcome, as it is said.
fn assert_unavailable(answer: &Answer) -> String {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    answer.code()
}

/// The power fails and comes back; the server starts again.
fn cut_and_start(disk: &FaultyFs, dev: Dev, seed: u64) -> Dev {
    disk.cut_power(dev.pid());
    dev.kill();
    disk.restore_power(Loss::Half { seed });
    Dev::start_with(&disk.data(), quiet)
}

/// It names the database, and neither a name, nor a value, nor a token.
fn assert_log(dev: &Dev, database: &str) {
    let log = dev.log();
    // What it told its user on standard output is no part of the log.
    let lines = || log.lines().filter(|line| line.starts_with("20"));
    assert!(lines().any(|line| line.contains(database)), "{log}");
    for line in lines() {
        for secret in [NAME, VALUE, &dev.token] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn a_write_or_sync_that_fails_leaves_the_outcome_unknown_and_is_mended_without_a_restart() {
    for act in [Act::Write, Act::Sync] {
        let Some(disk) = FaultyFs::mount() else { return };
        let dev = Dev::start_with(&disk.data(), quiet);
        assert_eq!(dev.put(NAME, VALUE).status, 204);
        let fault = inject(&disk, act, "tenants-0000", None);
        assert_eq!(assert_unavailable(&dev.put(NAME, "another")), "outcome_unknown", "{act:?}");
        assert_eq!(assert_unavailable(&dev.put("other", "x")), "unavailable", "{act:?}");
        assert_eq!(dev.run(&["tenant", "list"]).code, Some(0), "{act:?}");
        heal(&disk, fault);
        eventually("writes again", || (dev.put("after", VALUE).status == 204).then_some(()));
        let left = dev.get(NAME).json();
        assert!(left == VALUE || left == "another", "{left}");
        assert_eq!(dev.get("other").status, 404);
        assert_log(&dev, "tenants-0000");
        let dev = cut_and_start(&disk, dev, 1);
        assert_eq!(dev.get(NAME).json(), left, "{act:?}");
        assert_eq!(dev.get("after").json(), VALUE, "{act:?}");
        assert_eq!(dev.run(&["verify"]).code, Some(0), "{act:?}");
    }
}

#[test]
fn errors_of_system_and_keyring_leave_secrets_alone_and_pass() {
    for (act, database) in [Act::Write, Act::Sync]
        .into_iter()
        .flat_map(|act| ["store-2/system", "store-2/keyring"].map(|database| (act, database)))
    {
        let Some(disk) = FaultyFs::mount() else { return };
        let dev = Dev::start_with(&disk.data(), quiet);
        assert_eq!(dev.put(NAME, VALUE).status, 204);
        let fault = inject(&disk, act, database, None);
        let refused = dev.run(&["tenant", "create", "acme"]);
        assert_eq!(refused.code, Some(5), "{act:?} {database}: {refused:?}");
        assert_eq!(dev.put(NAME, "replaced").status, 204, "{act:?} {database}");
        assert_eq!(dev.get(NAME).json(), "replaced", "{act:?} {database}");
        heal(&disk, fault);
        eventually("tenants again", || {
            // Created by the first attempt after all, or now.
            let created = dev.run(&["tenant", "create", "acme"]);
            assert!(matches!(created.code, Some(0 | 4 | 5)), "{created:?}");
            (created.code != Some(5)).then_some(())
        });
        assert_log(&dev, database.trim_start_matches("store-2/"));
        let dev = cut_and_start(&disk, dev, 2);
        assert_eq!(dev.get(NAME).json(), "replaced", "{act:?} {database}");
        let token = dev.mint("acme", &["*"]);
        let list = Request::get("/api/acme/secrets").bearer(&token);
        assert_eq!(dev.client().send(&list).status, 200, "{act:?} {database}");
        assert_eq!(dev.run(&["verify"]).code, Some(0), "{act:?} {database}");
    }
}

#[test]
fn a_read_that_fails_is_an_error_of_that_request_and_of_no_other() {
    let Some(disk) = FaultyFs::mount() else { return };
    let value = VALUE.repeat(6_000);
    let dev = Dev::start_with(&disk.data(), quiet);
    let names: Vec<String> = (0..20).map(|n| format!("{NAME}-{n}")).collect();
    for name in &names {
        assert_eq!(dev.put(name, &value).status, 204);
    }
    // Started anew, it has none of the values in memory.
    let dev = cut_and_start(&disk, dev, 3);
    let fault = inject(&disk, Act::Read, "tenants-0000", None);
    let answers: Vec<Answer> = names.iter().map(|name| dev.get(name)).collect();
    let (failed, read): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 503);
    assert!(!failed.is_empty(), "all was read from memory");
    failed.into_iter().for_each(|answer| _ = assert_unavailable(answer));
    read.into_iter().for_each(|answer| assert_eq!(answer.json(), *value));
    let struck = disk.with(|disk| disk.faults.times(fault));
    assert!(struck > 0);
    heal(&disk, fault);
    for name in &names {
        // An entry of the audit may have met the error too: then all is opened again.
        let read = || Some(dev.get(name)).filter(|answer| answer.status != 503);
        assert_eq!(eventually("it to be read again", read).json(), *value);
    }
    eventually("a write again", || (dev.put(NAME, VALUE).status == 204).then_some(()));
    assert_log(&dev, "tenants-0000");
    assert_eq!(dev.run(&["verify"]).code, Some(0));
}

#[test]
fn a_start_from_a_disk_that_cannot_be_read_says_so_and_harms_nothing() {
    let Some(disk) = FaultyFs::mount() else { return };
    let dev = Dev::start_with(&disk.data(), quiet);
    assert_eq!(dev.put(NAME, VALUE).status, 204);
    dev.kill();
    for database in ["system", "keyring"] {
        let fault = inject(&disk, Act::Read, &format!("store-2/{database}"), None);
        let refused = Starting::spawn(&disk.data(), quiet).ready().err();
        let refused = refused.expect("a start without its files fails");
        assert!(refused.contains(&format!("the database {database}")), "{refused}");
        assert!(refused.contains("look at the disk"), "{refused}");
        heal(&disk, fault);
    }
    assert_eq!(Dev::start_with(&disk.data(), quiet).get(NAME).json(), VALUE);
}

/// sled goes on without what it cannot read, and writes that down.
#[test]
fn a_read_that_fails_once_during_an_opening_costs_nothing() {
    let Some(disk) = FaultyFs::mount() else { return };
    let mut random = Random::seeded();
    println!("seed {}", random.0);
    let value = VALUE.repeat(6_000);
    let names: BTreeSet<String> = (0..40).map(|n| format!("{NAME}-{n}")).collect();
    let dev = Dev::start_with(&disk.data(), quiet);
    for name in &names {
        assert_eq!(dev.put(name, &value).status, 204);
    }
    dev.kill();
    let image = disk.image();
    for (database, samples) in [("tenants-0000", 8), ("system", 3), ("keyring", 3)] {
        let count = inject_after(&disk, u64::MAX, database);
        Dev::start_with(&disk.data(), quiet).kill();
        let reads = disk.with(|disk| disk.faults.seen(count));
        for sample in 0..samples {
            disk.restore_image(image.clone());
            let nth = sample * reads / samples + random.below(reads.div_ceil(samples));
            let fault = inject_after(&disk, nth, database);
            // It may refuse, or serve without this database.
            let started = Starting::spawn(&disk.data(), quiet).ready();
            let struck = disk.with(|disk| disk.faults.times(fault));
            println!("read {nth} of {reads} of {database}: struck {struck}");
            started.map(Dev::kill).unwrap_or_default();
            heal(&disk, fault);
            let dev = Dev::start_with(&disk.data(), quiet);
            let list = dev.send(Request::get("/api/dev/secrets"));
            let listed: BTreeSet<String> = serde_json::from_slice(&list.body).expect("names");
            assert_eq!(listed, names, "read {nth} of {reads} of {database}");
            let verified = dev.run(&["verify"]);
            assert_eq!(verified.code, Some(0), "read {nth} of {database}: {verified:?}");
        }
        disk.restore_image(image.clone());
    }
}

/// One read of a cold disk fails, after so many that do not.
fn inject_after(disk: &FaultyFs, spared: u64, database: &str) -> FaultId {
    disk.with(|disk| {
        disk.drop_caches();
        disk.faults.inject_after(spared, Act::Read, database, Some(1))
    })
}

/// Two tenants in two databases; the disk fails for one of them.
#[test]
fn other_databases_of_tenants_keep_serving() {
    for act in [Act::Write, Act::Sync] {
        let Some(disk) = FaultyFs::mount() else { return };
        let options = SledOptions {
            tenants_per_database: 1,
            full_floor_bytes: 1 << 20,
            hard_floor_bytes: 1 << 20,
            ..SledOptions::default()
        };
        let store = SledStore::open(&disk.data().join("store"), options, &|_| {});
        let inside = Inside::start_over(Arc::new(store.expect("an empty folder")), |_| {});
        let tokens = ["struck", "spared"].map(|tenant| {
            inside.create_tenant(tenant);
            inside.mint(tenant, &["*"])
        });
        let put = |tenant: &str, token: &str, value: &str| {
            let body = format!(r#"{{"value":"{value}"}}"#);
            let path = format!("/api/{tenant}/secrets/name");
            inside.send(&Request::put(path, body).bearer(token))
        };
        let get = |tenant: &str, token: &str| {
            inside.send(&Request::get(format!("/api/{tenant}/secrets/name")).bearer(token))
        };
        assert_eq!(put("struck", &tokens[0], "one").status, 204);
        let fault = inject(&disk, act, "tenants-0000", None);
        assert_eq!(assert_unavailable(&put("struck", &tokens[0], "two")), "outcome_unknown");
        for n in 0..20 {
            let value = format!("value {n}");
            assert_eq!(put("spared", &tokens[1], &value).status, 204, "{act:?}");
            assert_eq!(get("spared", &tokens[1]).json(), *value, "{act:?}");
        }
        heal(&disk, fault);
        let written = || (put("struck", &tokens[0], "three").status == 204).then_some(());
        eventually("writes again", written);
        assert_eq!(get("struck", &tokens[0]).json(), "three", "{act:?}");
        inside.stop();
    }
}

/// Whether every database takes writes.
fn is_ready(dev: &Dev) -> bool {
    dev.client().send(&Request::get("/readyz")).status == 200
}

/// Reads one secret, and accepts its value or an error, until the power fails.
fn read_on(dev: &Dev, disk: &FaultyFs) {
    let mut client = dev.client();
    let request = Request::get(secret("fixed")).bearer(&dev.token);
    while disk.has_power() {
        let Some(answer) = client.send_unless_closed(&request) else { return };
        match answer.status {
            200 => assert_eq!(answer.json(), VALUE),
            _ => drop(assert_unavailable(&answer)),
        }
    }
}

#[test]
fn errors_at_random_under_load_lose_nothing() {
    let rounds = if std::env::var_os("TENURE_TEST_LONG").is_some() { 50 } else { 5 };
    let Some(disk) = FaultyFs::mount() else { return };
    let mut random = Random::seeded();
    let mut writers = Writers::new(16, two_tenants(&disk.data()), &mut random);
    let (mut acknowledged, mut unknown, mut struck) = (0, 0, 0);
    for round in 0..rounds {
        println!("round {round}, seed {}", random.0);
        let dev = Dev::start_with(&disk.data(), quiet);
        writers.assert_kept(dev.address);
        assert_eq!(dev.run(&["verify"]).code, Some(0));
        assert_eq!(dev.put("fixed", VALUE).status, 204);
        let done = thread::scope(|scope| {
            // Until the power fails.
            scope.spawn(|| read_on(&dev, &disk));
            writers.under_load(dev.address, |done| {
                for _ in 0..3 {
                    let act = random.one_of(&[Act::Read, Act::Write, Act::Sync]);
                    let part = random.one_of(&["tenants-0000", "system", "/mark", "/db", ""]);
                    let count = random.one_of(&[Some(1), Some(2), Some(5), None]);
                    let fault = inject(&disk, act, part, count);
                    random.pause(Duration::from_millis(200));
                    heal(&disk, fault);
                    struck += disk.with(|disk| disk.faults.times(fault));
                    let before = done.acknowledged();
                    eventually("writes again", || {
                        (done.acknowledged() > before + 10).then_some(())
                    });
                    eventually("all databases", || is_ready(&dev).then_some(()));
                }
                disk.cut_power_after(
                    random.below(100),
                    Before::Sync,
                    Duration::from_secs(2),
                    dev.pid(),
                );
            })
        });
        dev.kill();
        disk.restore_power(Loss::Half { seed: random.fork().0 });
        acknowledged += done.acknowledged();
        unknown += done.unknown();
    }
    let dev = Dev::start_with(&disk.data(), quiet);
    writers.assert_kept(dev.address);
    assert_eq!(dev.run(&["verify"]).code, Some(0));
    println!(
        "I/O errors: {rounds} rounds, {struck} operations struck, {acknowledged} writes \
         acknowledged, {unknown} of unknown outcome, 0 lost"
    );
    assert!(struck > rounds, "hardly anything was struck: {struck}");
}
