//! Backups over the in-memory model: what comes back, and what is refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::super::tests::{Bench, DAY, Manual, OPEN, START, acme, window};
use super::super::*;
use super::format::{LEAD_BYTES, MAGIC, PROLOGUE_BYTES, TAG_BYTES};
use super::*;
use crate::api::admin::{BackupMade, Command, Failure, FailureKind, HiddenText, Reply, Revocable};
use crate::domain::SecretName;
use crate::store::{ChainPage, Change, Compacted, DatabaseUse, MemoryStore, Page, Snapshot};
use crate::vault::maintenance::{Ends, Exchange, execute};

fn origin() -> KekOrigin {
    KekOrigin { way: crate::crypto::KekWay::File, since: Timestamp::from_unix_seconds(START) }
}

/// As a file would hold it.
async fn backup(vault: &Vault) -> (Vec<u8>, BackupMade) {
    let (sink, mut pieces) = mpsc::channel(1);
    let taking = async {
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.recv().await {
            bytes.extend(piece);
        }
        bytes
    };
    let (made, bytes) = tokio::join!(create::create(vault, sink, &|_| {}), taking);
    let made = made.unwrap();
    assert_eq!(made.bytes, bytes.len() as u64);
    (bytes, made)
}

fn in_pieces(bytes: &[u8], length: usize) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(bytes.len().div_ceil(length).max(1));
    bytes.chunks(length).for_each(|piece| sender.try_send(piece.to_vec()).unwrap());
    receiver
}

async fn verified(bytes: &[u8], kek: &Kek) -> Result<BackupContents, BackupError> {
    verify(begin(in_pieces(bytes, 64 * 1024)).await?, kek, &[], None, &|_| {}).await
}

async fn restored(
    bytes: &[u8],
    kek: &Kek,
    new_kek: &Kek,
    credentials: Credentials,
) -> Result<(Arc<MemoryStore>, BackupRestored), BackupError> {
    restored_without(bytes, kek, new_kek, credentials, &[]).await
}

async fn restored_without(
    bytes: &[u8],
    kek: &Kek,
    new_kek: &Kek,
    credentials: Credentials,
    without: &[&str],
) -> Result<(Arc<MemoryStore>, BackupRestored), BackupError> {
    let store = Arc::new(MemoryStore::new());
    let backup = begin(in_pieces(bytes, 4_096)).await?;
    let without = without.iter().map(|name| TenantName::parse(name).unwrap()).collect();
    let wanted = WantedStore { credentials, without, ..keep() };
    let done =
        restore(backup, kek, store.clone(), (new_kek, origin()), &wanted, None, &|_| {}).await;
    done.map(|restored| (store, restored))
}

fn keep() -> WantedStore {
    WantedStore {
        credentials: Credentials::Keep,
        without: Vec::new(),
        caller: Caller::local(Some(7)),
        at: Timestamp::from_unix_seconds(START),
    }
}

/// A vault on a restored store, an hour later.
async fn reopened(bench: &Bench, store: Arc<MemoryStore>, kek: &Kek) -> Bench {
    let clock = Manual::at(START + 3_600);
    let vault = Vault::open(store.clone(), kek, clock.clone(), VaultOptions::default());
    let kek = Kek::parse(&bench.kek.to_text()).unwrap();
    Bench { vault: vault.await.unwrap(), store, kek, clock }
}

/// Of every shape there is.
async fn filled() -> Bench {
    let bench = Bench::new().await;
    bench.put("null", None, OPEN()).await.unwrap();
    bench.put("empty", Some(""), OPEN()).await.unwrap();
    bench.put("long", Some(&"confidential ".repeat(900)), window(None, Some(DAY))).await.unwrap();
    bench.put("later", Some("v"), window(Some(7_200), None)).await.unwrap();
    bench.put("past", Some("v"), window(None, Some(-DAY))).await.unwrap();
    bench.put("again", Some("first"), OPEN()).await.unwrap();
    bench.put("again", Some("second"), window(None, Some(2 * DAY))).await.unwrap();
    bench
}

async fn create_tenant(bench: &Bench, name: &str) {
    bench.run(Command::TenantCreate { name: name.to_owned() }).await.unwrap();
}

/// One tenant of a backup, as an operator asks for it.
async fn take_in(
    bench: &Bench,
    bytes: &[u8],
    (tenant, new_name): (&str, &str),
    dry_run: bool,
    kek: Option<&Kek>,
) -> Result<BackupRestored, Failure> {
    let (exchange, Ends { upload, .. }) = Exchange::new();
    let kek = kek.map(|kek| HiddenText::new(&kek.to_text()));
    let (tenant, new_name) = (tenant.to_owned(), new_name.to_owned());
    let command = Command::BackupRestore { tenant, new_name, dry_run, bytes: None, kek };
    let sending = async {
        for piece in bytes.chunks(10_000) {
            // Who refused takes no more.
            let _ = upload.send(piece.to_vec()).await;
        }
        drop(upload);
    };
    match tokio::join!(execute(&bench.vault, command, exchange), sending).0? {
        Reply::BackupRestored(restored) => Ok(restored),
        _ => panic!("not a restore"),
    }
}

/// Where each frame begins, and the end.
fn frames_of(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![PROLOGUE_BYTES];
    while let Some(lead) = bytes[*starts.last().unwrap()..].first_chunk::<LEAD_BYTES>() {
        let length = u32::from_be_bytes([lead[1], lead[2], lead[3], lead[4]]) as usize;
        starts.push(starts.last().unwrap() + LEAD_BYTES + length + TAG_BYTES);
    }
    starts
}

#[tokio::test]
async fn a_backup_verifies_and_says_what_it_holds() {
    let bench = filled().await;
    create_tenant(&bench, "beta").await;
    let (bytes, made) = backup(&bench.vault).await;
    assert_eq!((made.tenants, made.left_out.len()), (2, 0));
    for length in [1, 7, 1_000, bytes.len()] {
        let pieces = in_pieces(&bytes, length);
        let backup = begin(pieces).await.unwrap();
        let found = verify(backup, &bench.kek, &[], None, &|_| {}).await.unwrap();
        assert!(found.sound);
        assert_eq!((found.bytes, &found.begun_on), (made.bytes, &made.begun_on));
        let parts = found.parts.iter().map(|part| (part.tenant.as_deref(), part.secrets));
        let parts: Vec<_> = parts.collect();
        assert_eq!(parts, [(None, 0), (None, 0), (Some("acme"), 6), (Some("beta"), 0)]);
    }
}

#[tokio::test]
async fn a_backup_holds_no_plaintext() {
    let bench = filled().await;
    bench.put("strangely-named", Some("value in clear"), OPEN()).await.unwrap();
    let (bytes, _) = backup(&bench.vault).await;
    for secret in ["strangely-named", "value in clear", "confidential", "acme"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let kek = hex::decode(bench.kek.to_text().as_bytes()).unwrap();
    assert!(!bytes.windows(32).any(|window| window == kek));
}

#[tokio::test]
async fn a_restored_store_reads_as_it_did_under_the_same_kek_or_another() {
    let bench = filled().await;
    let large = "x".repeat(SecretValue::HARD_MAX_BYTES);
    let options = VaultOptions { max_value_bytes: large.len(), ..VaultOptions::default() };
    let vault = Vault::open(bench.store.clone(), &bench.kek, bench.clock.clone(), options);
    let bench = Bench { vault: vault.await.unwrap(), ..bench };
    bench.put("large", Some(&large), OPEN()).await.unwrap();
    let (bytes, _) = backup(&bench.vault).await;
    for kek in [Kek::parse(&bench.kek.to_text()).unwrap(), Kek::generate()] {
        let kept = Credentials::Keep;
        let (store, done) = restored(&bytes, &bench.kek, &kek, kept).await.unwrap();
        assert_eq!((done.dry_run, done.credentials.as_str()), (false, "kept"));
        let after = reopened(&bench, store, &kek).await;
        assert_eq!(after.list().await, ["again", "empty", "large", "later", "long", "null"]);
        assert_eq!(after.get("large").await, Some(Some(large.clone())));
        assert_eq!(after.get("null").await, Some(None));
        assert_eq!(after.get("empty").await, Some(Some(String::new())));
        assert_eq!(after.get("long").await, Some(Some("confidential ".repeat(900))));
        assert_eq!(after.get("again").await, Some(Some("second".into())));
        assert_eq!(after.get("later").await, None, "not valid yet");
        assert_eq!(after.get("past").await, None, "expired");
        after.clock.pass(DAY.unsigned_abs());
        assert_eq!(after.get("later").await, Some(Some("v".into())));
        assert_eq!(after.get("long").await, None, "its end came back with it");
        assert_eq!(after.sweep(0, false).await, Ok(2));
        assert_eq!(after.faults().await, (vec![], 5));
    }
}

#[tokio::test]
async fn versions_after_a_restore_are_higher_than_any_before() {
    let bench = filled().await;
    let (bytes, _) = backup(&bench.vault).await;
    let mut highest = 0;
    for round in 0..50 {
        highest = bench.put("again", Some(&round.to_string()), OPEN()).await.unwrap();
    }
    let (store, _) = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    let mut after = reopened(&bench, store, &bench.kek).await;
    assert!(after.put("again", Some("v"), OPEN()).await.unwrap() > highest);
    after.reopen().await;
    assert!(after.put("other", Some("v"), OPEN()).await.unwrap() > highest + (1 << 32) - 100);
    create_tenant(&after, "beta").await;
    after.reopen().await;
    assert_eq!(after.faults().await.0, Vec::<String>::new());
}

#[tokio::test]
async fn a_restored_store_can_be_backed_up_and_restored_again() {
    let bench = filled().await;
    let (first, _) = backup(&bench.vault).await;
    let (store, _) = restored(&first, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    let again = reopened(&bench, store, &bench.kek).await;
    let (second, _) = backup(&again.vault).await;
    let (store, _) = restored(&second, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    let after = reopened(&bench, store, &bench.kek).await;
    assert_eq!(after.get("again").await, Some(Some("second".into())));
}

#[tokio::test]
async fn tokens_of_before_are_kept_or_end_as_it_was_said() {
    let bench = filled().await;
    let token = bench.token("acme").await;
    let old_root = bench.vault.public_roots();
    let (bytes, _) = backup(&bench.vault).await;
    for credentials in [Credentials::Keep, Credentials::Revoke] {
        let (store, done) = restored(&bytes, &bench.kek, &bench.kek, credentials).await.unwrap();
        assert_eq!(done.credentials, credentials.outcome());
        let mut after = reopened(&bench, store, &bench.kek).await;
        for _ in 0..2 {
            let judged = after.vault.authenticate(&token, after.vault.now());
            match credentials {
                Credentials::Keep => assert!(judged.is_ok()),
                Credentials::Revoke => assert_eq!(judged.unwrap_err(), Refusal::UnknownRoot),
            }
            let fresh = after.token("acme").await;
            assert!(after.vault.authenticate(&fresh, after.vault.now()).is_ok());
            after.reopen().await;
        }
        let kept = after.vault.public_roots() == old_root;
        assert_eq!(kept, credentials == Credentials::Keep);
    }
}

#[tokio::test]
async fn api_keys_are_kept_or_end_as_it_was_said_and_what_was_revoked_stays_so() {
    let bench = filled().await;
    create_tenant(&bench, "beta").await;
    let (key, _) = bench.api_key("acme", None).await;
    let (of_beta, _) = bench.api_key("beta", None).await;
    let token = bench.token("acme").await;
    let what = Revocable::Token { token: HiddenText::new(&token) };
    bench.revoke(what).await.unwrap();
    let what = Revocable::Subject { tenant: "beta".into(), subject: "ci".into(), issuer: None };
    bench.revoke(what).await.unwrap();
    let (bytes, _) = backup(&bench.vault).await;
    for credentials in [Credentials::Keep, Credentials::Revoke] {
        let without = ["beta"];
        let restored =
            restored_without(&bytes, &bench.kek, &bench.kek, credentials, &without).await;
        let mut after = reopened(&bench, restored.unwrap().0, &bench.kek).await;
        for _ in 0..2 {
            let judge = |key: &str| after.vault.authenticate_api_key(key, after.vault.now());
            assert_eq!(judge(&key).is_ok(), credentials == Credentials::Keep);
            assert_eq!(judge(&of_beta).unwrap_err(), Refusal::ApiKey);
            assert!(after.vault.authenticate(&token, after.vault.now()).is_err());
            assert_eq!(after.revocations().await.len(), 1, "those of a tenant that is not there");
            let verify = Command::Verify { tenant: None, rows_per_second: None };
            let Reply::Verified(found) = after.run(verify).await.unwrap() else { panic!("found") };
            assert!(found.sound, "{found:?}");
            after.reopen().await;
        }
        let (made, _) = after.api_key("acme", None).await;
        assert!(after.vault.authenticate_api_key(&made, after.vault.now()).is_ok());
    }
}

#[tokio::test]
async fn the_latest_undisputed_time_comes_back_too() {
    let bench = Bench::new().await;
    bench.put("a", Some("v"), window(None, Some(DAY))).await.unwrap();
    bench.clock.pass(2 * DAY.unsigned_abs());
    bench.put("b", Some("v"), OPEN()).await.unwrap();
    let (bytes, _) = backup(&bench.vault).await;
    let (store, _) = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    // Whose clock says an hour after the start.
    let after = reopened(&bench, store, &bench.kek).await;
    assert_eq!(after.get("a").await, None, "an expired secret does not come back");
    assert_eq!(after.sweep(0, false).await, Err(FailureKind::ClockDisputed));
}

/// A small backup, whose every byte is tried.
async fn small() -> (Bench, Vec<u8>) {
    let bench = Bench::new().await;
    bench.put("a", Some("value"), window(None, Some(DAY))).await.unwrap();
    let (bytes, _) = backup(&bench.vault).await;
    assert!(verified(&bytes, &bench.kek).await.unwrap().sound);
    (bench, bytes)
}

#[tokio::test]
async fn every_byte_that_is_altered_is_refused() {
    let (bench, bytes) = small().await;
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] ^= change;
            let refused = verified(&altered, &bench.kek).await.unwrap_err();
            match refused {
                BackupError::NotABackup => assert!(at < PROLOGUE_BYTES, "{at}"),
                BackupError::NewerFormat { .. } => {
                    assert!((MAGIC.len()..PROLOGUE_BYTES).contains(&at), "{at}");
                }
                // In the frame that was altered, or in the one after it, whose tag
                // covers the altered tag.
                BackupError::Damaged { at: told } => {
                    let starts = frames_of(&bytes);
                    // The first tag covers the version too.
                    let frame = starts.iter().rev().find(|start| **start <= at);
                    let frame = *frame.unwrap_or(&PROLOGUE_BYTES);
                    assert!(told >= frame as u64, "{at}: {told}");
                }
                // A length that grew.
                BackupError::Truncated => {}
                other => panic!("{at}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_backup_cut_off_anywhere_is_refused() {
    let (bench, bytes) = small().await;
    assert_eq!(verified(&[], &bench.kek).await, Err(BackupError::NotABackup));
    for length in 1..bytes.len() {
        let refused = verified(&bytes[..length], &bench.kek).await;
        assert_eq!(refused, Err(BackupError::Truncated), "{length}");
    }
}

#[tokio::test]
async fn what_follows_the_seal_is_refused() {
    let (bench, bytes) = small().await;
    let at = bytes.len() as u64;
    for tail in [&[0][..], b"\n", &bytes] {
        let longer = [&bytes, tail].concat();
        assert_eq!(verified(&longer, &bench.kek).await, Err(BackupError::Damaged { at }));
    }
}

#[tokio::test]
async fn frames_swapped_repeated_or_left_out_are_refused() {
    let (bench, bytes) = small().await;
    let starts = frames_of(&bytes);
    let frames: Vec<_> = starts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
    let joined = |frames: &[&[u8]]| [&bytes[..PROLOGUE_BYTES], &frames.concat()].concat();
    assert_eq!(joined(&frames), bytes);
    assert!(frames.len() > 8);
    for at in 0..frames.len() {
        let mut repeated = frames.clone();
        repeated.insert(at, frames[at]);
        let mut left_out = frames.clone();
        left_out.remove(at);
        let mut all = vec![repeated, left_out];
        for other in 0..at {
            let mut swapped = frames.clone();
            swapped.swap(at, other);
            all.push(swapped);
        }
        for frames in all {
            let refused = verified(&joined(&frames), &bench.kek).await.unwrap_err();
            let expected = matches!(refused, BackupError::Damaged { .. } | BackupError::Truncated);
            assert!(expected, "{at}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn two_backups_cannot_be_made_into_one() {
    let (bench, first) = small().await;
    let (second, _) = backup(&bench.vault).await;
    let (a, b) = (frames_of(&first), frames_of(&second));
    assert_eq!(a.len(), b.len());
    for cut in 1..a.len() - 1 {
        let spliced = [&first[..a[cut]], &second[b[cut]..]].concat();
        let refused = verified(&spliced, &bench.kek).await.unwrap_err();
        assert!(matches!(refused, BackupError::Damaged { .. }), "{cut}: {refused:?}");
    }
}

#[tokio::test]
async fn another_kek_another_format_and_another_file_are_told_apart() {
    let (bench, bytes) = small().await;
    assert_eq!(verified(&bytes, &Kek::generate()).await, Err(BackupError::OtherKek));
    let mut newer = bytes.clone();
    newer[MAGIC.len() + 1] = format::VERSION as u8 + 1;
    assert_eq!(
        verified(&newer, &bench.kek).await,
        Err(BackupError::NewerFormat { found: format::VERSION + 1 })
    );
    for other in [&b"SQLite format 3\0"[..], b"x", &[0; 4_096]] {
        assert_eq!(verified(other, &bench.kek).await, Err(BackupError::NotABackup));
    }
}

#[tokio::test]
async fn a_length_beyond_the_bound_is_refused_before_it_is_believed() {
    let (bench, bytes) = small().await;
    for length in [format::MAX_PAYLOAD as u32 + 1, u32::MAX] {
        let mut huge = bytes.clone();
        huge[PROLOGUE_BYTES + 1..PROLOGUE_BYTES + LEAD_BYTES]
            .copy_from_slice(&length.to_be_bytes());
        let at = PROLOGUE_BYTES as u64;
        assert_eq!(verified(&huge, &bench.kek).await, Err(BackupError::Damaged { at }));
    }
}

#[tokio::test]
async fn a_row_put_back_from_an_older_copy_is_found_and_not_restored() {
    let bench = filled().await;
    let space = Space::Tenant(bench.vault.tenant_named(&acme()).unwrap().id);
    let old = bench.all_rows(space).await;
    bench.put("again", Some("third"), window(None, Some(2 * DAY))).await.unwrap();
    let new = bench.all_rows(space).await;
    let gone = new.iter().map(|(key, _)| Change::Delete { key: key.clone() }).collect();
    bench.write_disk(space, gone).await;
    let back = old.into_iter().map(|(key, row)| Change::Put { key, row }).collect();
    bench.write_disk(space, back).await;
    assert_eq!(bench.get("again").await, Some(Some("second".into())), "nothing else shows it");

    let (bytes, _) = backup(&bench.vault).await;
    let found = verified(&bytes, &bench.kek).await.unwrap();
    assert!(!found.sound);
    let whole = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await;
    let Err(BackupError::Unsound(told)) = whole else { panic!("it was restored") };
    assert_eq!(told.parts, found.parts);
    let one = take_in(&bench, &bytes, ("acme", "copy"), false, None).await.unwrap_err();
    assert_eq!(one.kind, FailureKind::Damaged);
    assert!(one.message.contains("put back or altered"), "{one}");
    assert!(bench.vault.tenant_named(&TenantName::parse("copy").unwrap()).is_none());
}

#[tokio::test]
async fn a_keyring_or_system_that_does_not_hold_is_refused() {
    for space in [Space::Keyring, Space::System] {
        let bench = filled().await;
        let (key, mut row) = bench.all_rows(space).await.pop().unwrap();
        *row.bytes.last_mut().unwrap() ^= 1;
        // The keyring's rows are read again, as those of the system are.
        bench.write_disk(space, vec![Change::Put { key, row }]).await;
        let (bytes, _) = backup(&bench.vault).await;
        let refused = verified(&bytes, &bench.kek).await.unwrap_err();
        assert!(matches!(refused, BackupError::Contents { .. }), "{space}: {refused:?}");
    }
}

#[tokio::test]
async fn only_an_empty_store_is_restored_into() {
    let (bench, bytes) = small().await;
    let (kek, store) = (&bench.kek, bench.store.clone());
    let backup = begin(in_pieces(&bytes, 512)).await.unwrap();
    let again = restore(backup, kek, store, (kek, origin()), &keep(), None, &|_| {}).await;
    assert_eq!(again, Err(BackupError::NotEmpty));
    assert_eq!(bench.get("a").await, Some(Some("value".into())));
}

#[tokio::test]
async fn a_restore_that_stopped_anywhere_has_made_no_store() {
    let (bench, bytes) = small().await;
    let (kek, keep) = (&bench.kek, keep());
    for length in frames_of(&bytes).into_iter().filter(|end| *end < bytes.len()) {
        let store = Arc::new(MemoryStore::new());
        let stopped = match begin(in_pieces(&bytes[..length], 512)).await {
            Ok(backup) => {
                restore(backup, kek, store.clone(), (kek, origin()), &keep, None, &|_| {}).await
            }
            Err(error) => Err(error),
        };
        assert_eq!(stopped, Err(BackupError::Truncated));
        assert_eq!(Vault::exists(&*store).await, Ok(false));
        let opened = Vault::open(store.clone(), kek, bench.clock.clone(), VaultOptions::default());
        assert_eq!(opened.await.err(), Some(OpenError::NotInitialized));
        let made = Vault::init(store.clone(), kek, KekWay::File, &*bench.clock).await;
        let untouched = store.tenants().await.unwrap().is_empty();
        assert_eq!(made, if untouched { Ok(()) } else { Err(OpenError::WithoutKeyring) });
    }
}

#[tokio::test]
async fn a_tenant_comes_back_beside_others_with_its_times_and_without_credentials() {
    let bench = filled().await;
    let (bytes, _) = backup(&bench.vault).await;
    bench.put("again", Some("third"), OPEN()).await.unwrap();
    let token = bench.token("acme").await;
    let heads = async |name: &str| {
        let tenant = bench.vault.tenant_named(&TenantName::parse(name).unwrap()).unwrap();
        tenant_heads(&bench, &tenant).await
    };
    let done = take_in(&bench, &bytes, ("acme", "copy"), false, None).await.unwrap();
    let tenant = done.tenant.unwrap();
    assert_eq!((tenant.secrets, tenant.restored_as.as_str()), (6, "copy"));
    assert_eq!(done.credentials, "none");
    let (ours, theirs) = (heads("acme").await, heads("copy").await);
    let but_again = |heads: &[layout::Head]| {
        heads.iter().filter(|head| head.name.as_str() != "again").cloned().collect::<Vec<_>>()
    };
    assert_eq!(but_again(&ours), but_again(&theirs), "names, windows, times and shapes");
    assert_eq!(theirs.len(), 6);
    assert_eq!(bench.get("again").await, Some(Some("third".into())), "the others are untouched");
    assert_eq!(read_in(&bench, "copy", "again").await, Some(Some("second".into())));
    assert_eq!(read_in(&bench, "copy", "long").await, Some(Some("confidential ".repeat(900))));
    assert_eq!(read_in(&bench, "copy", "null").await, Some(None));
    let principal = bench.vault.authenticate(&token, bench.vault.now()).unwrap();
    let copy = TenantName::parse("copy").unwrap();
    let name = SecretName::parse("again").unwrap();
    assert!(principal.may_read(&copy, name, bench.vault.now()).is_err());
    let mut bench = bench;
    bench.reopen().await;
    assert_eq!(read_in(&bench, "copy", "empty").await, Some(Some(String::new())));
    assert_eq!(bench.faults().await, (vec![], 12));
}

async fn tenant_heads(bench: &Bench, tenant: &Tenant) -> Vec<layout::Head> {
    let (keys, seal) = tenant.keys();
    let space = Space::Tenant(tenant.id);
    let part = crate::api::admin::VerifiedPart::default();
    let mut checker = check::TenantChecker::new(tenant.id, keys, seal, part);
    let mut rows = grouped::Grouped::of(&*bench.store, space).await.unwrap();
    let mut heads = Vec::new();
    while let Some((key, row)) = rows.next().await.unwrap() {
        heads.extend(checker.row(&key, &row).map(|secret| secret.head));
    }
    heads.sort_by(|a, b| a.name.cmp(&b.name));
    heads
}

async fn read_in(bench: &Bench, tenant: &str, name: &str) -> Option<Option<String>> {
    let now = bench.vault.now();
    let principal = bench.vault.authenticate(&bench.token(tenant).await, now).unwrap();
    let (tenant, name) = (TenantName::parse(tenant).unwrap(), SecretName::parse(name).unwrap());
    let permit = principal.may_read(&tenant, name, now).unwrap();
    let read = bench.vault.read(&permit, now).await.unwrap();
    read.map(|secret| secret.value.map(|value| value.expose().to_owned()))
}

/// What there is of tenants, spaces and keys.
async fn inventory(bench: &Bench) -> (usize, usize, usize) {
    let spaces = bench.store.tenants().await.unwrap().len();
    (bench.vault.all_tenants().len(), spaces, bench.vault.keyring.tenants().await.len())
}

#[tokio::test]
async fn a_tenant_that_cannot_come_back_leaves_nothing_behind() {
    let bench = filled().await;
    create_tenant(&bench, "beta").await;
    let (bytes, _) = backup(&bench.vault).await;
    let before = inventory(&bench).await;
    let kind = async |bytes: &[u8], names, dry_run| {
        let refused = take_in(&bench, bytes, names, dry_run, None).await.unwrap_err();
        (refused.kind, refused.message)
    };
    for dry_run in [true, false] {
        let (exists, why) = kind(&bytes, ("acme", "beta"), dry_run).await;
        assert_eq!(exists, FailureKind::Conflict, "{why}");
        let (absent, why) = kind(&bytes, ("nobody", "copy"), dry_run).await;
        assert_eq!(absent, FailureKind::NotFound, "{why}");
        for end in frames_of(&bytes).into_iter().filter(|end| *end < bytes.len()) {
            let (cut, why) = kind(&bytes[..end], ("acme", "copy"), dry_run).await;
            assert_eq!(cut, FailureKind::Damaged, "{why}");
            assert_eq!(inventory(&bench).await, before, "{end}");
        }
        let mut altered = bytes.clone();
        *altered.last_mut().unwrap() ^= 1;
        let (damaged, why) = kind(&altered, ("acme", "copy"), dry_run).await;
        assert_eq!(damaged, FailureKind::Damaged, "{why}");
        assert_eq!(inventory(&bench).await, before);
    }
    let dry = take_in(&bench, &bytes, ("acme", "copy"), true, None).await.unwrap();
    assert!(dry.dry_run);
    assert_eq!((dry.tenant.unwrap().secrets, dry.contents.sound), (6, true));
    assert_eq!(inventory(&bench).await, before);
}

#[tokio::test]
async fn a_tenant_of_another_store_comes_with_that_stores_kek() {
    let (there, here) = (filled().await, Bench::new().await);
    let (bytes, _) = backup(&there.vault).await;
    let refused = take_in(&here, &bytes, ("acme", "guest"), false, None).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Usage);
    let other = take_in(&here, &bytes, ("acme", "guest"), false, Some(&here.kek)).await;
    assert_eq!(other.unwrap_err().kind, FailureKind::Usage);
    take_in(&here, &bytes, ("acme", "guest"), false, Some(&there.kek)).await.unwrap();
    assert_eq!(read_in(&here, "guest", "again").await, Some(Some("second".into())));
}

#[tokio::test]
async fn a_tenant_deleted_while_the_backup_is_made_is_left_out_and_told() {
    let bench = filled().await;
    // More than the pieces that wait, so that the backup stands still in acme.
    for n in 0..30 {
        bench.put(&format!("n{n}"), Some(&"x".repeat(60_000)), OPEN()).await.unwrap();
    }
    create_tenant(&bench, "zeta").await;
    let (sink, mut pieces) = mpsc::channel(1);
    let vault = bench.vault.clone();
    let making = tokio::spawn(async move { create::create(&vault, sink, &|_| {}).await });
    let mut bytes = pieces.recv().await.unwrap();
    bench.run(Command::TenantDelete { name: "zeta".into() }).await.unwrap();
    create_tenant(&bench, "too-late").await;
    while let Some(piece) = pieces.recv().await {
        bytes.extend(piece);
    }
    let made = making.await.unwrap().unwrap();
    assert_eq!((made.tenants, made.left_out), (1, vec![]), "it is no part of the store any more");
    let found = verified(&bytes, &bench.kek).await.unwrap();
    assert!(found.sound);
    assert_eq!(found.left_out.len(), 1);
    assert!(found.left_out[0].why.contains("deleted"), "{found:?}");

    let (store, _) = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    let after = reopened(&bench, store, &bench.kek).await;
    assert_eq!(inventory(&after).await, (1, 1, 1));
    assert_eq!(after.get("n7").await, Some(Some("x".repeat(60_000))));
    create_tenant(&after, "zeta").await;
}

#[tokio::test]
async fn each_tenant_is_of_one_moment_while_others_write() {
    let bench = Bench::new().await;
    for n in 0..40 {
        bench
            .put(&format!("n{n}"), Some(&format!("{}:0", "x".repeat(30_000))), OPEN())
            .await
            .unwrap();
    }
    let (sink, mut pieces) = mpsc::channel(1);
    let vault = bench.vault.clone();
    let making = tokio::spawn(async move { create::create(&vault, sink, &|_| {}).await });
    let (mut bytes, mut round) = (pieces.recv().await.unwrap(), 0);
    loop {
        // In the order of their names, so that a later secret is never ahead.
        round += 1;
        for n in 0..40 {
            let value = format!("{}:{round}", "x".repeat(30_000));
            bench.put(&format!("n{n}"), Some(&value), OPEN()).await.unwrap();
        }
        bench.put(&format!("new{round}"), Some("v"), window(None, Some(DAY))).await.unwrap();
        bench.delete(&format!("new{}", round - 1)).await;
        match pieces.recv().await {
            Some(piece) => bytes.extend(piece),
            None => break,
        }
    }
    making.await.unwrap().unwrap();
    assert!(round > 3, "others wrote {round} times");
    let found = verified(&bytes, &bench.kek).await.unwrap();
    assert!(found.sound, "{found:?}");
    let (store, _) = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    let after = reopened(&bench, store, &bench.kek).await;
    let mut rounds = Vec::new();
    for n in 0..40 {
        let value = after.get(&format!("n{n}")).await.unwrap().unwrap();
        rounds.push(value.rsplit_once(':').unwrap().1.parse::<u32>().unwrap());
    }
    let (first, last) = (rounds[0], rounds[39]);
    assert!(rounds.is_sorted_by(|a, b| a >= b) && first - last <= 1, "{rounds:?}");
}

/// A store that is not always there: the model, with pages and commits that fail.
struct Unsteady {
    inner: Arc<MemoryStore>,
    /// How many pages are still given before `pages_refused` fail.
    pages: Arc<AtomicUsize>,
    pages_refused: Arc<AtomicUsize>,
    commits: AtomicUsize,
}

impl Unsteady {
    fn new(inner: Arc<MemoryStore>, pages: usize, pages_refused: usize, commits: usize) -> Self {
        let counter = |n| Arc::new(AtomicUsize::new(n));
        let (pages, pages_refused) = (counter(pages), counter(pages_refused));
        Self { inner, pages, pages_refused, commits: AtomicUsize::new(commits) }
    }
}

const BUSY: StoreError = StoreError::NotApplied { retry_after: Duration::from_millis(1) };

/// Counts down; whether there was something left.
fn spend(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

struct UnsteadySnapshot {
    inner: Box<dyn Snapshot>,
    pages: Arc<AtomicUsize>,
    pages_refused: Arc<AtomicUsize>,
}

#[async_trait]
impl Snapshot for UnsteadySnapshot {
    fn ledger(&self) -> Option<&[u8]> {
        self.inner.ledger()
    }

    async fn next(&mut self, cursor: usize) -> Result<Page, StoreError> {
        if spend(&self.pages) || !spend(&self.pages_refused) {
            return self.inner.next(cursor).await;
        }
        Err(BUSY)
    }
}

#[async_trait]
impl Store for Unsteady {
    async fn get(&self, space: Space, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.inner.get(space, key).await
    }
    async fn scan(&self, space: Space, scan: Scan) -> Result<Page, StoreError> {
        self.inner.scan(space, scan).await
    }
    async fn commit(&self, space: Space, batch: Batch) -> Result<(), StoreError> {
        if spend(&self.commits) { self.inner.commit(space, batch).await } else { Err(BUSY) }
    }
    async fn chain(&self, space: Space, from: u64) -> Result<ChainPage, StoreError> {
        self.inner.chain(space, from).await
    }
    async fn ledger(&self, space: Space) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.ledger(space).await
    }
    async fn snapshot(
        &self,
        space: Space,
        prefixes: &[&[u8]],
    ) -> Result<Box<dyn Snapshot>, StoreError> {
        let inner = self.inner.snapshot(space, prefixes).await?;
        let (pages, pages_refused) = (self.pages.clone(), self.pages_refused.clone());
        Ok(Box::new(UnsteadySnapshot { inner, pages, pages_refused }))
    }
    async fn create_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.inner.create_tenant(id).await
    }
    async fn drop_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.inner.drop_tenant(id).await
    }
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.inner.tenants().await
    }
    async fn replace_keyring(
        &self,
        rows: Vec<(RowKey, Row)>,
        floor: Floor,
        seal: Arc<dyn LedgerSeal>,
    ) -> Result<(), StoreError> {
        self.inner.replace_keyring(rows, floor, seal).await
    }
    async fn usage(&self) -> Result<Vec<DatabaseUse>, StoreError> {
        self.inner.usage().await
    }
    async fn compact(
        &self,
        database: &str,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Option<Compacted>, StoreError> {
        self.inner.compact(database, progress).await
    }
    fn health(&self) -> Health {
        self.inner.health()
    }
    async fn size(&self) -> u64 {
        self.inner.size().await
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

/// The bench's store behind an unsteady one that has `refused` failing pages after
/// `pages` good ones.
async fn on_unsteady(bench: &Bench, pages: usize, refused: usize, commits: usize) -> Arc<Vault> {
    let store = Arc::new(Unsteady::new(bench.store.clone(), pages, refused, commits));
    let opened = Vault::open(store, &bench.kek, bench.clock.clone(), VaultOptions::default());
    opened.await.unwrap()
}

#[tokio::test]
async fn a_tenant_whose_snapshot_ended_is_begun_again_and_counts_once() {
    let bench = filled().await;
    for n in 0..1_200 {
        bench.put(&format!("n{n}"), Some(&"x".repeat(300)), OPEN()).await.unwrap();
    }
    // Keyring, system, and some pages of acme; then more refusals than are waited
    // for.
    for (pages, refused) in [(2, 7), (4, 6), (5, 10), (6, 3)] {
        let vault = on_unsteady(&bench, pages, refused, usize::MAX).await;
        let (bytes, made) = backup(&vault).await;
        assert_eq!(made.tenants, 1);
        let found = verified(&bytes, &bench.kek).await.unwrap();
        assert!(found.sound && found.left_out.is_empty(), "{found:?}");
        assert_eq!(found.parts[2].secrets, 1_206);
        let (store, _) = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
        let after = reopened(&bench, store, &bench.kek).await;
        assert_eq!(after.faults().await, (vec![], 1_206));
        let done = take_in(&after, &bytes, ("acme", "copy"), false, None).await.unwrap();
        assert_eq!(done.tenant.unwrap().secrets, 1_206);
        assert_eq!(after.faults().await, (vec![], 2_412));
    }
}

#[tokio::test]
async fn a_backup_of_a_store_that_stays_busy_fails() {
    let bench = filled().await;
    let vault = on_unsteady(&bench, 2, usize::MAX, usize::MAX).await;
    let (sink, mut pieces) = mpsc::channel(8);
    let taking = async { while pieces.recv().await.is_some() {} };
    let (made, ()) = tokio::join!(create::create(&vault, sink, &|_| {}), taking);
    assert_eq!(made, Err(BackupError::Store(BUSY)));
}

#[tokio::test]
async fn a_restore_whose_commits_fail_leaves_no_store_and_no_tenant() {
    let bench = filled().await;
    let (bytes, _) = backup(&bench.vault).await;
    let (kek, keep) = (&bench.kek, keep());
    for commits in 0..6 {
        let inner = Arc::new(MemoryStore::new());
        let store = Arc::new(Unsteady::new(inner.clone(), usize::MAX, 0, commits));
        let backup = begin(in_pieces(&bytes, 4_096)).await.unwrap();
        let failed = restore(backup, kek, store, (kek, origin()), &keep, None, &|_| {}).await;
        assert_eq!(failed, Err(BackupError::Store(BUSY)), "{commits}");
        assert_eq!(Vault::exists(&*inner).await, Ok(false));
    }
    let before = inventory(&bench).await;
    for commits in 0..3 {
        let vault = on_unsteady(&bench, usize::MAX, 0, commits).await;
        let unsteady = Bench { vault, store: bench.store.clone(), ..filled().await };
        let failed = take_in(&unsteady, &bytes, ("acme", "copy"), false, None).await;
        assert_eq!(failed.unwrap_err().kind, FailureKind::Unavailable, "{commits}");
        assert_eq!(inventory(&unsteady).await, before, "{commits}");
    }
}

#[tokio::test]
async fn a_backup_that_nobody_takes_ends() {
    let bench = filled().await;
    let (sink, pieces) = mpsc::channel(1);
    drop(pieces);
    let made = create::create(&bench.vault, sink, &|_| {}).await;
    assert_eq!(made, Err(BackupError::NotTaken));
}

#[tokio::test]
async fn a_damaged_tenant_is_left_out_and_the_others_are_not() {
    let bench = filled().await;
    create_tenant(&bench, "beta").await;
    // Its space is lost, and its record is not.
    let beta = bench.vault.tenant_named(&TenantName::parse("beta").unwrap()).unwrap();
    bench.store.drop_tenant(beta.id).await.unwrap();
    let (bytes, made) = backup(&bench.vault).await;
    assert_eq!((made.tenants, made.left_out[0].tenant.as_str()), (1, "beta"));
    let found = verified(&bytes, &bench.kek).await.unwrap();
    assert!(found.sound && found.left_out[0].why.contains("damaged"), "{found:?}");
    let refused = take_in(&bench, &bytes, ("beta", "copy"), false, None).await.unwrap_err();
    assert!(refused.message.contains("without tenant 'beta'"), "{refused}");
    let (store, _) = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    let after = reopened(&bench, store, &bench.kek).await;
    assert_eq!(inventory(&after).await, (1, 1, 1));
    assert_eq!(after.get("again").await, Some(Some("second".into())));
}

#[tokio::test]
async fn a_store_is_restored_without_the_tenant_that_was_damaged() {
    let bench = filled().await;
    create_tenant(&bench, "beta").await;
    let beta = bench.vault.tenant_named(&TenantName::parse("beta").unwrap()).unwrap();
    let stray = Change::Put {
        key: RowKey::new(vec![b'v'; 43]),
        row: Row { version: 1, bytes: Vec::new() },
    };
    bench.write_disk(Space::Tenant(beta.id), vec![stray]).await;
    let (bytes, made) = backup(&bench.vault).await;
    assert_eq!(made.tenants, 2);
    let (kek, keep) = (&bench.kek, Credentials::Keep);
    let Err(BackupError::Unsound(found)) = restored(&bytes, kek, kek, keep).await else {
        panic!("it was restored")
    };
    assert_eq!(found.parts.iter().filter(|part| part.fault_count > 0).count(), 1);
    let unknown = restored_without(&bytes, kek, kek, keep, &["beta", "gamma"]).await;
    assert!(matches!(unknown, Err(BackupError::NoSuchTenant { .. })));
    let (store, done) = restored_without(&bytes, kek, kek, keep, &["beta"]).await.unwrap();
    assert_eq!(done.contents.left_out.len(), 1);
    let after = reopened(&bench, store, kek).await;
    assert_eq!(inventory(&after).await, (1, 1, 1));
    assert_eq!(after.faults().await, (vec![], 6));
    create_tenant(&after, "beta").await;
}

/// A backup holds no entries: what is restored begins an audit of its own, which says
/// so, signs with the key of before, and takes no number that was given twice.
#[tokio::test]
async fn a_restored_store_begins_its_audit_with_where_it_came_from() {
    let bench = Bench::new().await;
    let key = bench.run(Command::AuditKey).await.unwrap();
    bench.put("a", Some("x"), OPEN()).await.unwrap();
    bench.run(Command::AuditHead).await.unwrap();
    let (bytes, made) = backup(&bench.vault).await;
    let (store, _) = restored(&bytes, &bench.kek, &bench.kek, Credentials::Keep).await.unwrap();
    let again = reopened(&bench, store, &bench.kek).await;
    let all = Command::AuditQuery {
        tenant: None,
        filter: Default::default(),
        from: crate::api::audit::AuditFrom::Entry(0),
        limit: 1,
    };
    let Reply::Audit { entries, .. } = again.run(all).await.unwrap() else { panic!("entries") };
    let said = &entries[0];
    assert_eq!((said.number, said.entry.op.word()), (0, "store.restore"));
    assert_eq!(said.entry.subject.as_deref(), Some("7"));
    let detail = said.entry.detail.as_ref().unwrap();
    let expected = format!("from a backup of {}; the system's audit had ", made.begun_on);
    assert!(detail.starts_with(&expected), "{detail}");
    let (Reply::AuditKey(before), Reply::AuditKey(after)) =
        (key, again.run(Command::AuditKey).await.unwrap())
    else {
        panic!("keys")
    };
    assert_eq!(before, after);
    let Reply::AuditHead(signed) = again.run(Command::AuditHead).await.unwrap() else {
        panic!("a checkpoint")
    };
    assert!(signed.text.contains(&format!("\"number\":{},", (1u64 << 32) + 2)), "{signed:?}");
    let verify = Command::AuditVerify { key: None, head: None };
    let Reply::AuditProved(proof) = again.run(verify).await.unwrap() else { panic!("a proof") };
    assert!(proof.sound, "{proof:?}");
}
