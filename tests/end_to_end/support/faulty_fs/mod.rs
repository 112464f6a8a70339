//! A disk that fails on command, mounted over FUSE, with the test in place of the
//! hardware.
//!
//! `disk` is the model: what a reader sees, what is durable, and what a power cut
//! leaves. `front` shows it to the kernel. Here is the machine around it, which
//! can lose its power at any moment: what a program was told to be synced by then
//! is what it may count on.

mod disk;
mod faults;
mod file;
mod front;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption};
use tempfile::TempDir;

use self::disk::{Disk, Outcome, Owner};
pub use self::disk::{Loss, Syncs};
pub use self::faults::{Act, FaultId};
use self::front::Front;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing is done any more, and nothing answered: who waits is to be killed.
    Failing,
    Off,
}

struct State {
    power: Power,
    disk: Disk,
    /// How many steps changed the disk or synced something.
    steps: u64,
    /// From which step on the power fails, and before which.
    fails: Option<(u64, Before)>,
}

/// What the power fails before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    AnyStep,
    /// When there is something to lose.
    Sync,
}

struct Machine {
    state: Mutex<State>,
    changed: Condvar,
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_power(&self, power: Power) {
        let mut state = self.state();
        state.power = power;
        state.fails = None;
        self.changed.notify_all();
    }

    /// Until the power fails by itself, or for some time.
    fn wait_for_failure(&self, most: Duration) {
        let on = |state: &mut State| state.power == Power::On;
        // Which of the two it was does not matter.
        let _ = self.changed.wait_timeout_while(self.state(), most, on);
    }

    fn look<T>(&self, act: impl FnOnce(&mut Disk) -> Outcome<T>) -> Outcome<T> {
        self.operate(self.state(), act)
    }

    fn change<T>(&self, what: Before, act: impl FnOnce(&mut Disk) -> Outcome<T>) -> Outcome<T> {
        let mut state = self.state();
        if state.power == Power::On {
            let due = |(from, before): (u64, Before)| {
                from <= state.steps && (before == Before::AnyStep || before == what)
            };
            if state.fails.is_some_and(due) {
                state.power = Power::Failing;
                self.changed.notify_all();
            } else {
                state.steps += 1;
            }
        }
        self.operate(state, act)
    }

    fn operate<T>(
        &self,
        state: MutexGuard<'_, State>,
        act: impl FnOnce(&mut Disk) -> Outcome<T>,
    ) -> Outcome<T> {
        let failing = |state: &mut State| state.power == Power::Failing;
        let mut state =
            self.changed.wait_while(state, failing).unwrap_or_else(PoisonError::into_inner);
        if state.power == Power::On { act(&mut state.disk) } else { Err(libc::EIO) }
    }
}

/// A mounted disk.
pub struct FaultyFs {
    machine: Arc<Machine>,
    /// `None` only while it is dropped.
    session: Option<BackgroundSession>,
    folder: TempDir,
}

const DEVICE: &str = "/dev/fuse";

impl FaultyFs {
    /// `None`, said loudly, where there is no FUSE.
    ///
    /// # Panics
    /// Instead, under CI and in `tests/run`: there these tests must not be missing.
    pub fn mount() -> Option<Self> {
        if !fs::exists(DEVICE).unwrap_or(false) {
            let required = ["CI", "TENURE_TEST_REQUIRE_FUSE"]
                .into_iter()
                .find(|name| std::env::var_os(name).is_some());
            if let Some(name) = required {
                panic!("there is no {DEVICE}, and {name} asks for these tests; try: modprobe fuse");
            }
            eprintln!("\n*** SKIPPED: there is no {DEVICE}. Power loss, a full disk and I/O");
            eprintln!("*** errors were NOT tested. Try: modprobe fuse\n");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder to mount on");
        let owner = Owner {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        };
        let disk = Disk::new(owner);
        let state = State { power: Power::On, disk, steps: 0, fails: None };
        let machine = Arc::new(Machine { state: Mutex::new(state), changed: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("tenure-test".to_owned())];
        let session = fuser::spawn_mount(Front::new(Arc::clone(&machine)), &data, &config);
        let session = session.unwrap_or_else(|error| {
            panic!("{DEVICE} is there, but mounting is not possible: {error}; be root, or install fuse3")
        });
        Some(Self { machine, session: Some(session), folder })
    }

    /// Where it is mounted: a data folder, empty at first.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Looks at the disk, or changes what it does.
    pub fn with<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        act(&mut self.machine.state().disk)
    }

    /// The disk as it is, to begin from more than once.
    pub fn image(&self) -> Disk {
        self.with(|disk| disk.clone())
    }

    /// Puts another disk in its place. Nobody may use this one.
    pub fn restore_image(&self, image: Disk) {
        self.with(|disk| *disk = image);
    }

    /// How many steps changed the disk or synced something, ever.
    pub fn steps(&self) -> u64 {
        self.machine.state().steps
    }

    /// As [`FaultyFs::cut_power`], but after so many further steps and just before the
    /// next one, or the next sync; or after `most` where there are fewer by then.
    ///
    /// Between a write and its sync is hardly any time on a disk of memory, so a
    /// random moment would find everything synced; a random step does not.
    pub fn cut_power_after(&self, steps: u64, before: Before, most: Duration, pid: u32) {
        let mut state = self.machine.state();
        state.fails = Some((state.steps + steps, before));
        drop(state);
        self.machine.wait_for_failure(most);
        self.cut_power(pid);
    }

    /// The power fails at this moment: nothing that was asked of the disk and not
    /// answered yet is done, and the process ends without a further step. Other
    /// processes get errors until the power is back.
    pub fn cut_power(&self, pid: u32) {
        self.machine.set_power(Power::Failing);
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let killed =
            pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        // A process that had ended by itself is what a start may be cut off from.
        assert!(killed.is_some(), "a process has a number");
        self.machine.set_power(Power::Off);
    }

    pub fn has_power(&self) -> bool {
        self.machine.state().power == Power::On
    }

    /// After the process was waited for. Answers how much was not durable.
    pub fn restore_power(&self, loss: Loss) -> usize {
        let unsynced = self.with(|disk| {
            let unsynced = disk.unsynced();
            disk.lose(loss);
            unsynced
        });
        self.machine.set_power(Power::On);
        unsynced
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        // What waits for an answer must not keep the mount.
        self.machine.set_power(Power::Off);
        let Some(session) = self.session.take() else { return };
        if session.umount_and_join().is_err() {
            // A process of a test that failed is still in it.
            let _ = Command::new("umount").arg("--lazy").arg(self.data()).status();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// A process that only waits to be killed.
    fn cut(disk: &FaultyFs) {
        let mut waiting = Command::new("sleep").arg("60").spawn().expect("sleep");
        disk.cut_power(waiting.id());
        waiting.wait().expect("the child is ours");
    }

    #[test]
    fn through_the_kernel_synced_data_is_kept_and_the_rest_is_lost() {
        let Some(disk) = FaultyFs::mount() else { return };
        let folder = disk.data().join("folder");
        fs::create_dir(&folder).expect("a folder");
        File::open(disk.data()).expect("a folder").sync_all().expect("a sync");
        let mut file = File::create(folder.join("kept")).expect("a file");
        file.write_all(b"synced").expect("a write");
        file.sync_data().expect("a sync");
        File::open(&folder).expect("a folder").sync_all().expect("a sync");
        file.write_all(b" and not").expect("a write");
        fs::write(folder.join("lost"), "text").expect("a write");
        assert_eq!(fs::read(folder.join("kept")).expect("a file"), b"synced and not");
        cut(&disk);
        let without_power = fs::read(folder.join("kept")).expect_err("an error");
        assert_eq!(without_power.raw_os_error(), Some(libc::EIO));
        assert!(disk.restore_power(Loss::EverythingUnsynced) > 0);
        assert_eq!(fs::read(folder.join("kept")).expect("a file"), b"synced");
        let names: Vec<_> = fs::read_dir(&folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["kept"]);
        fs::write(folder.join("kept"), "again").expect("a write");
        assert_eq!(fs::read(folder.join("kept")).expect("a file"), b"again");
    }

    #[test]
    fn it_does_what_a_data_folder_asks_of_a_file_system() {
        let Some(disk) = FaultyFs::mount() else { return };
        let data = disk.data();
        let file = File::create(data.join("LOCK")).expect("a file");
        file.try_lock().expect("a lock");
        let other = File::open(data.join("LOCK")).expect("a file");
        assert!(other.try_lock().is_err(), "it is locked");
        let socket = data.join("admin.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let mut client = UnixStream::connect(&socket).expect("a connection");
        client.write_all(b"x").expect("a write");
        listener.accept().expect("a connection");
        fs::create_dir_all(data.join("a/b")).expect("folders");
        for n in 0..200 {
            fs::write(data.join(format!("a/b/{n}")), vec![7; 10_000]).expect("a write");
        }
        fs::rename(data.join("a/b/1"), data.join("a/one")).expect("a rename");
        assert_eq!(fs::read(data.join("a/one")).expect("a file"), vec![7; 10_000]);
        fs::remove_dir_all(data.join("a")).expect("a removal");
        assert!(!data.join("a").exists());
    }

    #[test]
    fn space_and_errors_arrive_as_they_were_asked_for() {
        let Some(disk) = FaultyFs::mount() else { return };
        let path = disk.data().join("file");
        fs::write(&path, "text").expect("a write");
        disk.with(|disk| disk.leave_free(1 << 20));
        let free = rustix::fs::statvfs(&path).expect("a file system");
        assert_eq!(free.f_bavail * free.f_frsize, 1 << 20);
        let error = fs::write(disk.data().join("large"), vec![1; 2 << 20]).expect_err("no space");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        disk.with(|disk| disk.leave_free(1 << 20));
        let file = File::options().write(true).open(&path).expect("a file");
        let errno = |result: std::io::Result<()>| result.err().and_then(|e| e.raw_os_error());
        disk.with(|disk| disk.faults.inject(Act::Sync, "file", Some(1)));
        assert_eq!(errno(file.sync_all()), Some(libc::EIO));
        assert_eq!(errno(file.sync_all()), None);
        disk.with(|disk| {
            disk.drop_caches();
            disk.faults.inject(Act::Read, "file", Some(1))
        });
        assert_eq!(errno(fs::read(&path).map(drop)), Some(libc::EIO));
        assert_eq!(fs::read(&path).expect("a file"), b"text");
    }
}
