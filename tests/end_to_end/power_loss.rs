//! What was answered 204 is there after a power cut at any moment, on a disk that
//! forgets what was not synced: all of it, or each piece with a chance of one half.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::support::faulty_fs::{Before, FaultyFs, Loss, Syncs};
use crate::support::program::end_of;
use crate::support::{Dev, Random, Starting, Tenants, Writers, quiet, two_tenants};

const WRITERS: u64 = 16;
/// The power fails within so many steps of the disk after the writers began, and
/// within this time.
const STEPS: u64 = 300;
const MOST: Duration = Duration::from_secs(2);

/// Of each kind.
fn rounds() -> u64 {
    if std::env::var_os("TENURE_TEST_LONG").is_some() { 50 } else { 5 }
}

/// Both kinds of loss in turn, the harder one first.
fn loss(round: u64, random: &mut Random) -> Loss {
    if round.is_multiple_of(2) {
        Loss::Half { seed: random.fork().0 }
    } else {
        Loss::EverythingUnsynced
    }
}

/// Before a sync, mostly, when there is something to lose.
fn before(random: &mut Random) -> Before {
    if random.below(4) == 0 { Before::AnyStep } else { Before::Sync }
}

/// What an operator does while the writers write.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Nothing,
    /// Tenants are created and deleted.
    Tenants,
    /// What has expired is removed.
    Sweeps,
    /// Every database is written anew.
    Compactions,
    /// New DEKs are drawn, everything is encrypted anew, and the old ones destroyed.
    Rotations,
    /// Everything is read as of one moment, into a file elsewhere.
    Backups,
}

impl Beside {
    /// Until the power fails.
    fn act(self, dev: &Dev, disk: &FaultyFs, tenants: &mut Tenants) {
        match self {
            Self::Nothing => {}
            Self::Tenants => tenants.come_and_go(dev, || disk.has_power()),
            Self::Sweeps => again_and_again(dev, disk, &["sweep", "--retain", "0s"]),
            Self::Compactions => again_and_again(dev, disk, &["compact", "--all"]),
            Self::Rotations => {
                again_and_again(dev, disk, &["dek", "rotate", "--rewrite", "--rate", "0"]);
            }
            Self::Backups => {
                let folder = tempfile::tempdir().expect("a folder");
                let file = folder.path().join("backup").display().to_string();
                while disk.has_power() {
                    again(dev, disk, &["backup", "create", &file]);
                    // Of one that was cut off there is none.
                    let _ = std::fs::remove_file(&file);
                }
            }
        }
    }
}

/// A command of an operator who does not tire.
fn again_and_again(dev: &Dev, disk: &FaultyFs, command: &[&str]) {
    while disk.has_power() {
        again(dev, disk, command);
    }
}

fn again(dev: &Dev, disk: &FaultyFs, command: &[&str]) {
    let done = dev.run(command);
    assert!(done.code == Some(0) || !disk.has_power(), "{done:?}");
}

/// One store, through many power cuts.
struct Trial {
    disk: FaultyFs,
    data: PathBuf,
    random: Random,
    writers: Writers,
    tenants: Tenants,
    acknowledged: u64,
    /// Pages, sizes and changes of entries that were at stake in the cuts.
    unsynced: usize,
}

impl Trial {
    /// A store with two tenants; `None` without FUSE.
    fn begin() -> Option<Self> {
        let disk = FaultyFs::mount()?;
        let (data, mut random) = (disk.data(), Random::seeded());
        println!("seed {}", random.0);
        let writers = Writers::new(WRITERS, two_tenants(&data), &mut random);
        let tenants = Tenants::beside(&["acme"]);
        Some(Self { disk, data, random, writers, tenants, acknowledged: 0, unsynced: 0 })
    }

    /// Starts, and checks what the cuts before left: every acknowledged write is
    /// there, and nothing is there by halves.
    fn start(&mut self) -> Result<Dev, String> {
        let dev = Starting::spawn(&self.data, quiet).ready()?;
        self.writers
            .check(dev.address)
            .map_err(|lost| format!("{lost}\n{}", end_of(&dev.log())))?;
        self.tenants.check(&dev);
        let verified = dev.run(&["verify"]);
        if verified.code == Some(0) { Ok(dev) } else { Err(format!("{verified:?}")) }
    }

    /// Writes until the power fails, at a random moment.
    fn life(&mut self, dev: Dev, beside: Beside, loss: Loss) {
        let Self { disk, random, writers, tenants, .. } = self;
        let done = thread::scope(|scope| {
            let operator = scope.spawn(|| beside.act(&dev, disk, tenants));
            let done = writers.under_load(dev.address, |_| {
                let (steps, before) = (random.below(STEPS), before(random));
                disk.cut_power_after(steps, before, MOST, dev.pid());
            });
            operator.join().expect("the operator's commands do what they should");
            done
        });
        dev.kill();
        self.acknowledged += done.acknowledged();
        self.unsynced += disk.restore_power(loss);
    }

    fn report(&self, kind: &str, rounds: u64) {
        let Self { acknowledged, unsynced, tenants, .. } = self;
        println!(
            "{kind}: {rounds} rounds, {acknowledged} writes acknowledged, 0 lost; {} tenants made; \
             {unsynced} unsynced pieces were at stake",
            tenants.made()
        );
        assert!(*acknowledged > 2 * rounds, "there was next to no load: {acknowledged} writes");
        assert!(*unsynced > 0, "the cuts had nothing to take");
    }
}

fn survives(beside: Beside) {
    let Some(mut trial) = Trial::begin() else { return };
    for round in 0..rounds() {
        let seed = trial.random.0;
        let loss = loss(round, &mut trial.random);
        println!("round {round}, seed {seed}, {loss:?}");
        let dev = trial.start().unwrap_or_else(|error| panic!("{error}"));
        trial.life(dev, beside, loss);
    }
    trial.start().unwrap_or_else(|error| panic!("{error}"));
    trial.report(&format!("{beside:?} beside"), rounds());
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut_at_any_moment() {
    survives(Beside::Nothing);
}

#[test]
fn tenants_created_and_deleted_stay_so_after_a_power_cut() {
    survives(Beside::Tenants);
}

#[test]
fn a_power_cut_during_a_sweep_leaves_what_has_not_expired() {
    survives(Beside::Sweeps);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut_during_a_compaction() {
    survives(Beside::Compactions);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut_while_all_is_encrypted_anew() {
    survives(Beside::Rotations);
}

#[test]
fn a_power_cut_during_a_backup_leaves_all_that_was_acknowledged() {
    survives(Beside::Backups);
}

#[test]
fn a_second_power_cut_during_the_opening_after_the_first_loses_nothing() {
    const OPENINGS: u64 = 4;
    let Some(mut trial) = Trial::begin() else { return };
    for round in 0..rounds() {
        let seed = trial.random.0;
        let first = loss(round, &mut trial.random);
        println!("round {round}, seed {seed}, {first:?}");
        let dev = trial.start().unwrap_or_else(|error| panic!("{error}"));
        trial.life(dev, Beside::Nothing, first);
        let image = trial.disk.image();
        let steps = opening_steps(&mut trial);
        for opening in 0..OPENINGS {
            trial.disk.restore_image(image.clone());
            let opens = Starting::spawn(&trial.data, quiet);
            let step = nth_part(opening, OPENINGS, steps, &mut trial.random);
            trial.disk.cut_power_after(step, Before::AnyStep, MOST, opens.pid());
            opens.ended();
            let second = loss(0, &mut trial.random);
            trial.unsynced += trial.disk.restore_power(second);
            let opened = trial.start().map(Dev::kill);
            opened.unwrap_or_else(|error| panic!("cut at step {step}, {second:?}: {error}"));
        }
    }
    trial.report("two cuts in a row", rounds());
}

/// How many steps it takes until the server serves.
fn opening_steps(trial: &mut Trial) -> u64 {
    let before = trial.disk.steps();
    let dev = trial.start().unwrap_or_else(|error| panic!("{error}"));
    let steps = trial.disk.steps() - before;
    dev.kill();
    steps
}

/// A step in the nth of so many parts of all, which together cover them.
fn nth_part(n: u64, parts: u64, steps: u64, random: &mut Random) -> u64 {
    let part = (steps / parts).max(1);
    (n * part + random.below(part)).min(steps)
}

#[test]
fn a_power_cut_during_the_first_start_leaves_a_folder_that_starts() {
    let mut random = Random::seeded();
    let (mut acknowledged, mut unsynced) = (0, 0);
    let mut opening = 100;
    for round in 0..rounds() {
        let seed = random.0;
        let Some(disk) = FaultyFs::mount() else { return };
        let first = Starting::spawn(&disk.data(), quiet);
        let step = nth_part(round, rounds(), opening, &mut random);
        println!("round {round}, seed {seed}, cut at step {step}");
        disk.cut_power_after(step, Before::AnyStep, MOST, first.pid());
        first.ended();
        unsynced += disk.restore_power(loss(round, &mut random));

        // And again right after it began to serve.
        let before = disk.steps();
        let dev = Dev::start_with(&disk.data(), quiet);
        opening = step + disk.steps() - before;
        let tokens = vec![("dev", dev.token.clone())];
        let mut writers = Writers::new(WRITERS, tokens, &mut random);
        let done = writers.under_load(dev.address, |_| {
            disk.cut_power_after(random.below(STEPS / 4), Before::Sync, MOST, dev.pid());
        });
        dev.kill();
        acknowledged += done.acknowledged();
        unsynced += disk.restore_power(loss(round + 1, &mut random));
        writers.assert_kept(Dev::start_with(&disk.data(), quiet).address);
    }
    println!(
        "fresh stores: {} rounds, {acknowledged} writes acknowledged, 0 lost; {unsynced} unsynced \
         pieces were at stake; a first start takes some {opening} steps",
        rounds()
    );
    assert!(acknowledged > rounds() && unsynced > 0);
}

/// That the tests above can fail: on a disk whose syncs do nothing they do.
#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    for kind in 0..2 {
        let Some(mut trial) = Trial::begin() else { return };
        trial.disk.with(|disk| disk.syncs = Syncs::Lying);
        let lost = (0..5).find_map(|_| {
            let loss = loss(kind, &mut trial.random);
            let dev = match trial.start() {
                Ok(dev) => dev,
                Err(lost) => return Some(lost),
            };
            trial.life(dev, Beside::Nothing, loss);
            None
        });
        let lost = lost.or_else(|| trial.start().err()).expect("a loss that the check notices");
        let end = lost.chars().count().saturating_sub(200);
        let end: String = lost.chars().skip(end).collect();
        println!("found out after {} writes acknowledged: …{end}", trial.acknowledged);
    }
}
