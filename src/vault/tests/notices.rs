//! What is told of secrets that come to their end, over the in-memory model.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::counting::Counting;
use super::*;
use crate::vault::notices::{Expired, MOST_NOTICES, Messenger, Notice, NoticeKind};

const RETAIN: u64 = 3_600;

fn policy() -> NoticePolicy {
    let days = |days: u64| Duration::from_secs(days * DAY.unsigned_abs());
    NoticePolicy {
        expiring_within: vec![days(7), days(30), days(1)],
        expired: Expired::Told,
        swept_after: Some(Duration::from_secs(RETAIN)),
        tenants: None,
    }
}

fn days(days: i64) -> ValidityWindow {
    window(None, Some(days * DAY))
}

/// Takes everything, and remembers it.
#[derive(Default)]
struct Taker {
    messages: Vec<Vec<Notice>>,
}

#[async_trait]
impl Messenger for Taker {
    async fn tell(&mut self, notices: &[Notice]) {
        self.messages.push(notices.to_vec());
    }
}

/// Takes so many messages, and then nothing more, which it says.
struct Tired(Taker, usize, Arc<Notify>);

#[async_trait]
impl Messenger for Tired {
    async fn tell(&mut self, notices: &[Notice]) {
        if self.0.messages.len() == self.1 {
            self.2.notify_one();
            std::future::pending::<()>().await;
        }
        self.0.tell(notices).await;
    }
}

fn words(notice: &Notice) -> String {
    let what = match notice.kind {
        NoticeKind::Expiring { within } => format!("{}d", within.as_secs() / DAY.unsigned_abs()),
        NoticeKind::Expired => "expired".to_owned(),
        NoticeKind::Swept => "swept".to_owned(),
    };
    format!("{} {what}", notice.name.as_str())
}

impl Bench {
    async fn reopen_telling(&mut self) {
        self.reopen_over(self.store.clone(), policy()).await;
    }

    async fn reopen_over(&mut self, store: Arc<dyn Store>, policy: NoticePolicy) {
        let options = VaultOptions { notices: Some(policy), ..VaultOptions::default() };
        let opened = Vault::open(store, &self.kek, self.clock.clone(), options).await;
        self.vault = opened.unwrap();
    }

    async fn notices(&self) -> Vec<Notice> {
        let mut taker = Taker::default();
        self.vault.tell_due(&mut taker).await;
        taker.messages.concat()
    }

    async fn told(&self) -> Vec<String> {
        self.notices().await.iter().map(words).collect()
    }

    /// Tells what the messenger takes, and is killed over the rest.
    async fn told_until_killed(&self, messages: usize) -> Vec<Notice> {
        let enough = Arc::new(Notify::new());
        let mut tired = Tired(Taker::default(), messages, enough.clone());
        tokio::select! {
            () = self.vault.tell_due(&mut tired) => panic!("it told everything"),
            () = enough.notified() => {}
        }
        tired.0.messages.concat()
    }

    async fn swept(&self) {
        self.vault.sweep_expired(Duration::from_secs(RETAIN)).await;
    }
}

async fn telling() -> Bench {
    let mut bench = Bench::new().await;
    bench.reopen_telling().await;
    bench
}

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn a_secret_is_told_of_once_at_each_threshold_until_it_is_swept() {
    let bench = telling().await;
    bench.put("far", Some("x"), days(90)).await.unwrap();
    bench.put("open", Some("x"), OPEN()).await.unwrap();
    assert_eq!(bench.told().await, NOTHING);
    for (pass, expected) in [
        (59, None),
        (1, Some("far 30d")),
        (10, None),
        (13, Some("far 7d")),
        (6, Some("far 1d")),
        (1, Some("far expired")),
    ] {
        // A start as far past the last one would be disputed.
        for _ in 0..pass {
            bench.clock.pass(DAY.unsigned_abs());
            bench.vault.now();
        }
        bench.clock.pass(1);
        let told = bench.told().await;
        assert_eq!(told.first().map(String::as_str), expected, "{told:?}");
        assert!(told.len() <= 1 && bench.told().await.is_empty());
    }
    bench.clock.pass(RETAIN);
    assert_eq!(bench.told().await, ["far swept"]);
    bench.swept().await;
    assert_eq!(bench.counts().await.expired, 0);
    assert_eq!(bench.told().await, NOTHING);
}

#[tokio::test]
async fn what_is_near_when_it_is_stored_or_changed_is_told_with_its_nearest_threshold() {
    let bench = telling().await;
    bench.put("before", Some("x"), days(5)).await.unwrap();
    bench.put("later", Some("x"), days(200)).await.unwrap();
    assert_eq!(bench.told().await, ["before 7d"], "at the first telling too");
    bench.put("soon", Some("x"), window(None, Some(DAY / 2))).await.unwrap();
    bench.put("later", Some("x"), days(20)).await.unwrap();
    bench.put("past", Some("x"), window(None, Some(-5))).await.unwrap();
    assert_eq!(bench.told().await, ["soon 1d", "later 30d"]);
    assert_eq!(bench.told().await, NOTHING);
    bench.put("later", Some("x"), days(300)).await.unwrap();
    bench.delete("before").await;
    bench.clock.pass(4 * DAY.unsigned_abs() + 1);
    assert_eq!(bench.told().await, ["past swept", "soon expired", "soon swept"]);
}

#[tokio::test]
async fn what_was_told_stays_told_over_a_restart_and_what_was_cut_off_is_told_again() {
    let mut bench = telling().await;
    for number in 0..250 {
        bench.put(&format!("n{number:03}"), None, days(3)).await.unwrap();
    }
    let first = bench.told_until_killed(2).await;
    assert_eq!(first.len(), 2 * MOST_NOTICES);
    bench.reopen_telling().await;
    let mut taker = Taker::default();
    bench.vault.tell_due(&mut taker).await;
    let sizes: Vec<_> = taker.messages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let again = taker.messages.concat();
    let ids: BTreeSet<_> = again.iter().map(|notice| notice.id.clone()).collect();
    assert_eq!(ids.len(), 250, "each is told apart");
    assert!(first.iter().all(|notice| ids.contains(&notice.id)), "and has its id again");
    bench.reopen_telling().await;
    assert_eq!(bench.told().await, NOTHING);
    // What comes due while nobody runs.
    bench.clock.pass(2 * DAY.unsigned_abs() + 10);
    bench.reopen_telling().await;
    assert_eq!(bench.told().await.len(), 250);
}

#[tokio::test]
async fn a_version_that_a_crash_took_back_is_told_of_when_it_is_given_again() {
    let mut bench = telling().await;
    bench.put("a", None, days(3)).await.unwrap();
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    // A write that drew a version and was refused.
    tenant.draw_version();
    assert_eq!(bench.told().await, ["a 7d"]);
    bench.reopen_telling().await;
    bench.put("b", None, days(3)).await.unwrap();
    assert_eq!(bench.told().await, ["b 7d"]);
}

#[tokio::test]
async fn while_the_clock_is_disputed_nothing_is_told() {
    let bench = telling().await;
    bench.put("a", None, days(40)).await.unwrap();
    assert_eq!(bench.told().await, NOTHING);
    bench.clock.step(20 * DAY);
    assert_eq!(bench.told().await, NOTHING);
    bench.run(Command::ClockAccept).await.unwrap();
    assert_eq!(bench.told().await, ["a 30d"]);
}

#[tokio::test]
async fn a_sweep_waits_for_what_is_untold_but_for_a_day_at_most() {
    let bench = telling().await;
    bench.put("a", None, window(None, Some(10))).await.unwrap();
    assert_eq!(bench.told().await, ["a 1d"]);
    bench.clock.pass(RETAIN + 20);
    bench.swept().await;
    assert_eq!(bench.counts().await.expired, 1, "it was not told yet");
    assert_eq!(bench.told_until_killed(0).await, []);
    bench.swept().await;
    assert_eq!(bench.counts().await.expired, 1, "nobody took it");
    bench.clock.pass(DAY.unsigned_abs());
    bench.swept().await;
    assert_eq!(bench.counts().await.expired, 0, "a dead receiver keeps nothing for ever");
}

#[tokio::test]
async fn an_operators_sweep_waits_for_nobody() {
    let bench = telling().await;
    bench.put("a", None, window(None, Some(10))).await.unwrap();
    bench.clock.pass(20);
    assert_eq!(bench.sweep(0, false).await, Ok(1));
    assert_eq!(bench.told().await, NOTHING);
}

#[tokio::test]
async fn only_the_tenants_and_events_that_are_configured_are_told() {
    let mut bench = Bench::new().await;
    let others = [TenantName::parse("beta").unwrap()];
    let of_others = NoticePolicy { tenants: Some(others.into()), ..policy() };
    bench.put("a", None, days(3)).await.unwrap();
    bench.reopen_over(bench.store.clone(), of_others).await;
    assert_eq!(bench.told().await, NOTHING);
    let swept = NoticePolicy { expiring_within: vec![], expired: Expired::Untold, ..policy() };
    bench.reopen_over(bench.store.clone(), swept).await;
    assert_eq!(bench.told().await, NOTHING);
    bench.clock.pass(3 * DAY.unsigned_abs() + RETAIN + 2);
    assert_eq!(bench.told().await, ["a swept"]);
}

#[tokio::test]
async fn a_deleted_tenant_leaves_nothing_of_its_notices() {
    let mut bench = telling().await;
    bench.put("a", None, days(3)).await.unwrap();
    assert_eq!(bench.told().await, ["a 7d"]);
    let rows = async |bench: &Bench| bench.vault.system.export().await.unwrap().rows.len();
    let before = rows(&bench).await;
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    assert_eq!(rows(&bench).await, before - 2, "its record, and what was told");
    bench.reopen_telling().await;
    assert_eq!(bench.told().await, NOTHING);
}

#[tokio::test]
async fn the_cost_follows_what_is_near_and_not_what_exists() {
    let mut bench = Bench::new().await;
    for number in 0..1_200 {
        bench.put(&format!("far{number}"), None, days(400 + number % 100)).await.unwrap();
    }
    bench.put("near", None, days(3)).await.unwrap();
    let counting = Counting::over(bench.store.clone());
    bench.reopen_over(counting.clone(), policy()).await;
    assert_eq!(bench.told().await, ["near 7d"]);
    counting.reads();
    assert_eq!(bench.told().await, NOTHING);
    let idle = counting.reads();
    assert_eq!((idle.calls, idle.rows), (0, 0), "in the same second nothing new is due");
    bench.put("new", None, days(2)).await.unwrap();
    counting.reads();
    assert_eq!(bench.told().await, ["new 7d"]);
    let written = counting.reads();
    assert!(written.calls <= 4 && written.rows <= 32, "{written:?}");
    bench.clock.pass(60);
    assert_eq!(bench.told().await, NOTHING);
    let later = counting.reads();
    assert!(later.calls <= 5 && later.rows <= 80, "{later:?}");
}

#[tokio::test]
async fn what_is_being_written_meanwhile_is_told_the_next_time() {
    let mut bench = Bench::new().await;
    let counting = Counting::over(bench.store.clone());
    bench.reopen_over(counting.clone(), policy()).await;
    assert_eq!(bench.told().await, NOTHING);
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let held = counting.hold(Space::Tenant(tenant.id)).await;
    let (put, told) = {
        let put = bench.put("slow", None, days(3));
        let told = async {
            counting.holds_one().await;
            let told = bench.told();
            tokio::pin!(told);
            // It waits for the write that drew a version.
            let waits = poll_fn(|context| Poll::Ready(told.as_mut().poll(context).is_pending()));
            assert!(waits.await);
            drop(held);
            told.await
        };
        tokio::join!(put, told)
    };
    put.unwrap();
    assert_eq!(told, ["slow 7d"]);
}

#[tokio::test]
async fn what_is_told_is_changed_while_it_serves() {
    let mut bench = Bench::new().await;
    bench.reopen_telling().await;
    let mut taker = Taker::default();
    bench.vault.set_notices(None);
    bench.put("a", None, days(5)).await.unwrap();
    bench.vault.tell_due(&mut taker).await;
    assert!(taker.messages.is_empty());
    bench.vault.set_notices(Some(NoticePolicy { expiring_within: Vec::new(), ..policy() }));
    bench.vault.tell_due(&mut taker).await;
    assert!(taker.messages.is_empty());
    bench.vault.set_notices(Some(policy()));
    bench.put("b", None, days(5)).await.unwrap();
    bench.vault.tell_due(&mut taker).await;
    let told: Vec<_> = taker.messages.iter().flatten().map(words).collect();
    assert_eq!(told, ["b 7d"], "what nobody asked for when it was looked at is over");
}
