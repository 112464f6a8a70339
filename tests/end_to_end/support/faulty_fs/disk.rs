//! A file system in memory that knows what of it a power cut would leave.
//!
//! A sync of a file makes its pages and size durable; a sync of a folder makes
//! what happened to its entries durable. Nothing else does: a file that was
//! synced may vanish with its entry. A rename is one act, so its file is under
//! the old name or the new one. Errors are those of errno(3).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use super::faults::{Act, Faults};
use super::file::{File, PAGE};
use crate::support::Random;

/// Never used again, not even for the same file after a power cut: nothing that
/// the kernel remembers of before can be taken for it.
pub type Number = u64;

pub const ROOT: Number = 1;

pub type Outcome<T> = Result<T, i32>;

/// What a power cut takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    EverythingUnsynced,
    /// Each unsynced page, size and change of an entry is lost with a chance of one
    /// half, independently.
    Half {
        seed: u64,
    },
}

/// Whether a sync syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    Honest,
    /// It says so and does nothing.
    Lying,
}

#[derive(Debug, Clone)]
enum Body {
    File(File),
    Folder(Folder),
    Socket,
}

#[derive(Debug, Clone, Default)]
struct Folder {
    entries: BTreeMap<OsString, Number>,
    synced: BTreeMap<OsString, Number>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Socket,
}

#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
}

#[derive(Clone)]
struct Node {
    body: Body,
    mode: u16,
    owner: Owner,
    changed: SystemTime,
    /// Where it is; `None` once it was removed. There are no hard links.
    place: Option<Place>,
    /// Open handles, which keep what was removed.
    opened: u64,
}

type Place = (Number, OsString);

/// What happened to entries and is not durable, in order.
#[derive(Debug, Clone)]
enum Change {
    Link { to: Place, number: Number },
    Unlink { from: Place, number: Number },
    Rename { from: Place, to: Place, number: Number },
}

impl Change {
    fn places(&self) -> Vec<&Place> {
        match self {
            Self::Link { to: place, .. } | Self::Unlink { from: place, .. } => vec![place],
            Self::Rename { from, to, .. } => vec![from, to],
        }
    }

    fn is_in(&self, folder: Number) -> bool {
        self.places().iter().any(|(parent, _)| *parent == folder)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    pub number: Number,
    pub kind: Kind,
    pub size: u64,
    pub pages: u64,
    pub mode: u16,
    pub owner: Owner,
    pub changed: SystemTime,
}

#[derive(Clone)]
pub struct Disk {
    nodes: BTreeMap<Number, Node>,
    next: Number,
    changes: Vec<Change>,
    /// In pages.
    capacity: u64,
    /// What it says is free, in bytes, if that is not what is free.
    claimed_free: Option<u64>,
    refused_for_space: u64,
    pub syncs: Syncs,
    pub faults: Faults,
}

const GIB: u64 = 1 << 30;

impl Disk {
    /// An empty root of mode 0700.
    pub fn new(owner: Owner) -> Self {
        let root = Node {
            body: Body::Folder(Folder::default()),
            mode: 0o700,
            owner,
            changed: SystemTime::now(),
            place: Some((ROOT, OsString::new())),
            opened: 0,
        };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            changes: Vec::new(),
            capacity: 8 * GIB / PAGE,
            claimed_free: None,
            refused_for_space: 0,
            syncs: Syncs::Honest,
            faults: Faults::default(),
        }
    }
}

// Space.

impl Disk {
    fn used_pages(&self) -> u64 {
        let there = self.nodes.values().filter(|node| node.place.is_some() || node.opened > 0);
        there.map(|node| if let Body::File(file) = &node.body { file.pages() } else { 0 }).sum()
    }

    fn free_pages(&self) -> u64 {
        self.capacity.saturating_sub(self.used_pages())
    }

    /// Makes the disk just so large that `bytes` are free.
    pub fn leave_free(&mut self, bytes: u64) {
        self.capacity = self.used_pages() + bytes / PAGE;
    }

    /// Says that `bytes` are free, whatever is; `None` is the truth again.
    pub fn claim_free(&mut self, bytes: Option<u64>) {
        self.claimed_free = bytes;
    }

    /// How many writes found no space.
    pub fn refused_for_space(&self) -> u64 {
        self.refused_for_space
    }

    /// All and free, in pages.
    pub fn space(&self) -> (u64, u64) {
        let free = self.claimed_free.map_or_else(|| self.free_pages(), |bytes| bytes / PAGE);
        (self.capacity.max(free), free)
    }
}

// Nodes.

impl Disk {
    fn node(&self, number: Number) -> Outcome<&Node> {
        self.nodes.get(&number).ok_or(libc::ESTALE)
    }

    fn node_mut(&mut self, number: Number) -> Outcome<&mut Node> {
        self.nodes.get_mut(&number).ok_or(libc::ESTALE)
    }

    fn file_mut(&mut self, number: Number) -> Outcome<&mut File> {
        match &mut self.node_mut(number)?.body {
            Body::File(file) => Ok(file),
            Body::Folder(_) => Err(libc::EISDIR),
            Body::Socket => Err(libc::EINVAL),
        }
    }

    fn folder(&self, number: Number) -> Outcome<&Folder> {
        match &self.node(number)?.body {
            Body::Folder(folder) => Ok(folder),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn folder_mut(&mut self, number: Number) -> Outcome<&mut Folder> {
        match &mut self.node_mut(number)?.body {
            Body::Folder(folder) => Ok(folder),
            _ => Err(libc::ENOTDIR),
        }
    }

    /// From the root, without a leading slash.
    pub fn path(&self, number: Number) -> String {
        let mut parts = Vec::new();
        let mut at = number;
        while at != ROOT
            && let Some((parent, name)) = self.nodes.get(&at).and_then(|node| node.place.as_ref())
        {
            parts.push(name.to_string_lossy());
            at = *parent;
        }
        parts.reverse();
        parts.join("/")
    }

    pub fn attributes(&self, number: Number) -> Outcome<Attributes> {
        let Node { body, mode, owner, changed, .. } = self.node(number)?;
        let (kind, size, pages) = match body {
            Body::File(file) => (Kind::File, file.size(), file.pages()),
            Body::Folder(_) => (Kind::Folder, 0, 0),
            Body::Socket => (Kind::Socket, 0, 0),
        };
        Ok(Attributes { number, kind, size, pages, mode: *mode, owner: *owner, changed: *changed })
    }

    pub fn set_mode(&mut self, number: Number, mode: u16) -> Outcome<()> {
        self.node_mut(number)?.mode = mode & 0o7777;
        Ok(())
    }

    pub fn open(&mut self, number: Number) -> Outcome<()> {
        self.node_mut(number)?.opened += 1;
        Ok(())
    }

    pub fn close(&mut self, number: Number) {
        // What was open during a power cut is not there any more.
        if let Some(node) = self.nodes.get_mut(&number) {
            node.opened = node.opened.saturating_sub(1);
        }
    }
}

// Contents.

impl Disk {
    fn strikes(&mut self, act: Act, number: Number) -> bool {
        let path = self.path(number);
        self.faults.strikes(act, &path)
    }

    pub fn read(&mut self, number: Number, offset: u64, length: u64) -> Outcome<Vec<u8>> {
        if self.file_mut(number)?.is_cold(offset, length) && self.strikes(Act::Read, number) {
            return Err(libc::EIO);
        }
        let file = self.file_mut(number)?;
        file.warm(offset, length);
        Ok(file.read(offset, length))
    }

    /// From now on all reads ask the disk, as when the kernel needs its memory.
    pub fn drop_caches(&mut self) {
        for node in self.nodes.values_mut() {
            if let Body::File(file) = &mut node.body {
                file.cool();
            }
        }
    }

    /// Answers how much was written. A write that fails may have written a part.
    pub fn write(&mut self, number: Number, offset: u64, data: &[u8]) -> Outcome<usize> {
        let free = self.free_pages();
        if self.strikes(Act::Write, number) {
            self.file_mut(number)?.write(offset, &data[..data.len() / 2], free);
            return Err(libc::EIO);
        }
        let written = self.file_mut(number)?.write(offset, data, free);
        self.node_mut(number)?.changed = SystemTime::now();
        if written < data.len() {
            self.refused_for_space += 1;
        }
        if written == 0 && !data.is_empty() { Err(libc::ENOSPC) } else { Ok(written) }
    }

    pub fn resize(&mut self, number: Number, size: u64) -> Outcome<()> {
        if self.strikes(Act::Write, number) {
            return Err(libc::EIO);
        }
        self.file_mut(number)?.resize(size);
        Ok(())
    }

    pub fn sync(&mut self, number: Number) -> Outcome<()> {
        if self.strikes(Act::Sync, number) {
            if let Body::File(file) = &mut self.node_mut(number)?.body {
                file.fail_sync();
            }
            return Err(libc::EIO);
        }
        if self.syncs == Syncs::Lying {
            return Ok(());
        }
        match &mut self.node_mut(number)?.body {
            Body::File(file) => file.sync(),
            Body::Folder(_) => self.sync_entries(number),
            Body::Socket => {}
        }
        Ok(())
    }
}

// Entries.

impl Disk {
    pub fn find(&self, folder: Number, name: &OsStr) -> Outcome<Number> {
        self.folder(folder)?.entries.get(name).copied().ok_or(libc::ENOENT)
    }

    pub fn entries(&self, folder: Number) -> Outcome<Vec<(OsString, Number)>> {
        let entries = &self.folder(folder)?.entries;
        Ok(entries.iter().map(|(name, number)| (name.clone(), *number)).collect())
    }

    /// The folder that a folder is in.
    pub fn parent(&self, folder: Number) -> Number {
        let place = self.nodes.get(&folder).and_then(|node| node.place.as_ref());
        place.map_or(ROOT, |(parent, _)| *parent)
    }

    pub fn make(
        &mut self,
        kind: Kind,
        folder: Number,
        name: &OsStr,
        mode: u16,
        owner: Owner,
    ) -> Outcome<Number> {
        if self.folder(folder)?.entries.contains_key(name) {
            return Err(libc::EEXIST);
        }
        if self.free_pages() == 0 {
            self.refused_for_space += 1;
            return Err(libc::ENOSPC);
        }
        if self.strikes(Act::Write, folder) {
            return Err(libc::EIO);
        }
        let body = match kind {
            Kind::File => Body::File(File::default()),
            Kind::Folder => Body::Folder(Folder::default()),
            Kind::Socket => Body::Socket,
        };
        let (number, place) = (self.next, (folder, name.to_owned()));
        self.next += 1;
        let (mode, changed) = (mode & 0o7777, SystemTime::now());
        let node = Node { body, mode, owner, changed, place: Some(place.clone()), opened: 0 };
        self.nodes.insert(number, node);
        self.folder_mut(folder)?.entries.insert(name.to_owned(), number);
        self.changes.push(Change::Link { to: place, number });
        Ok(number)
    }

    pub fn remove(&mut self, kind: Kind, folder: Number, name: &OsStr) -> Outcome<()> {
        let number = self.find(folder, name)?;
        match &self.node(number)?.body {
            Body::Folder(_) if kind != Kind::Folder => return Err(libc::EISDIR),
            Body::Folder(inner) if !inner.entries.is_empty() => return Err(libc::ENOTEMPTY),
            Body::File(_) | Body::Socket if kind == Kind::Folder => return Err(libc::ENOTDIR),
            _ => {}
        }
        if self.strikes(Act::Write, number) {
            return Err(libc::EIO);
        }
        self.folder_mut(folder)?.entries.remove(name);
        self.node_mut(number)?.place = None;
        self.changes.push(Change::Unlink { from: (folder, name.to_owned()), number });
        Ok(())
    }

    pub fn rename(&mut self, from: (Number, &OsStr), to: (Number, &OsStr)) -> Outcome<()> {
        let number = self.find(from.0, from.1)?;
        let replaced = self.folder(to.0)?.entries.get(to.1).copied();
        if replaced == Some(number) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            match &self.node(replaced)?.body {
                Body::Folder(inner) if !inner.entries.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
        }
        if self.strikes(Act::Write, number) {
            return Err(libc::EIO);
        }
        if let Some(replaced) = replaced {
            self.node_mut(replaced)?.place = None;
        }
        let place = (to.0, to.1.to_owned());
        self.folder_mut(from.0)?.entries.remove(from.1);
        self.folder_mut(to.0)?.entries.insert(place.1.clone(), number);
        self.node_mut(number)?.place = Some(place.clone());
        self.changes.push(Change::Rename { from: (from.0, from.1.to_owned()), to: place, number });
        Ok(())
    }
}

// What lasts.

impl Disk {
    fn sync_entries(&mut self, folder: Number) {
        let mut left: Vec<Change> = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            if change.is_in(folder) {
                // A rename out of another folder or into one decides what was open
                // there about the same names.
                let places = change.places();
                left.retain(|earlier| !earlier.places().iter().any(|place| places.contains(place)));
                self.make_durable(&change);
            } else {
                left.push(change);
            }
        }
        self.changes = left;
    }

    fn make_durable(&mut self, change: &Change) {
        match change {
            Change::Link { to, number } => self.put_durable(to, *number),
            Change::Unlink { from, number } => {
                if let Some(Body::Folder(folder)) = self.body_mut(from.0)
                    && folder.synced.get(&from.1) == Some(number)
                {
                    folder.synced.remove(&from.1);
                }
            }
            Change::Rename { from: _, to, number } => {
                // From wherever it is durably: an earlier rename may not be.
                for node in self.nodes.values_mut() {
                    if let Body::Folder(folder) = &mut node.body {
                        folder.synced.retain(|_, held| held != number);
                    }
                }
                self.put_durable(to, *number);
            }
        }
    }

    fn body_mut(&mut self, number: Number) -> Option<&mut Body> {
        self.nodes.get_mut(&number).map(|node| &mut node.body)
    }

    fn put_durable(&mut self, (folder, name): &Place, number: Number) {
        if let Some(Body::Folder(folder)) = self.body_mut(*folder) {
            folder.synced.insert(name.clone(), number);
        }
    }

    /// How many pages, sizes and changes of entries are not durable.
    pub fn unsynced(&self) -> usize {
        let in_files = self.nodes.values().map(|node| match &node.body {
            Body::File(file) => file.unsynced(),
            _ => 0,
        });
        in_files.sum::<usize>() + self.changes.len()
    }

    /// Takes what a power cut takes.
    pub fn lose(&mut self, loss: Loss) {
        let mut random = match loss {
            Loss::EverythingUnsynced => None,
            Loss::Half { seed } => Some(Random(seed)),
        };
        for change in std::mem::take(&mut self.changes) {
            if random.as_mut().is_some_and(Random::coin) {
                self.make_durable(&change);
            }
        }
        let before = std::mem::take(&mut self.nodes);
        self.revive(&before, ROOT, ROOT, (ROOT, OsString::new()), &mut random);
    }

    /// What is durable of one node, and of all below it, under new numbers.
    fn revive(
        &mut self,
        before: &BTreeMap<Number, Node>,
        old: Number,
        new: Number,
        place: Place,
        random: &mut Option<Random>,
    ) {
        let Some(node) = before.get(&old) else { return };
        let body = match &node.body {
            Body::Socket => Body::Socket,
            Body::File(file) => Body::File(file.after_power_cut(random.as_mut())),
            Body::Folder(folder) => {
                let mut entries = BTreeMap::new();
                for (name, held) in &folder.synced {
                    let number = self.next;
                    self.next += 1;
                    entries.insert(name.clone(), number);
                    self.revive(before, *held, number, (new, name.clone()), random);
                }
                Body::Folder(Folder { synced: entries.clone(), entries })
            }
        };
        let &Node { mode, owner, changed, .. } = node;
        let revived = Node { body, mode, owner, changed, place: Some(place), opened: 0 };
        self.nodes.insert(new, revived);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const US: Owner = Owner { user: 0, group: 0 };

    fn empty() -> Disk {
        Disk::new(US)
    }

    fn make(disk: &mut Disk, folder: Number, name: &str) -> Number {
        disk.make(Kind::File, folder, name.as_ref(), 0o600, US).unwrap()
    }

    fn folder(disk: &mut Disk, parent: Number, name: &str) -> Number {
        disk.make(Kind::Folder, parent, name.as_ref(), 0o700, US).unwrap()
    }

    fn written(disk: &mut Disk, folder: Number, name: &str, text: &str) -> Number {
        let number = make(disk, folder, name);
        disk.write(number, 0, text.as_bytes()).unwrap();
        disk.sync(number).unwrap();
        number
    }

    fn rename(disk: &mut Disk, from: (Number, &str), to: (Number, &str)) {
        disk.rename((from.0, from.1.as_ref()), (to.0, to.1.as_ref())).unwrap();
    }

    /// Every file with its text, in order.
    fn files(disk: &mut Disk) -> Vec<(String, String)> {
        let all: Vec<Number> = disk.nodes.keys().copied().collect();
        let mut found = Vec::new();
        for number in all {
            let attributes = disk.attributes(number).unwrap();
            if attributes.kind == Kind::File && disk.nodes[&number].place.is_some() {
                let text = disk.read(number, 0, attributes.size).unwrap();
                found.push((disk.path(number), String::from_utf8(text).unwrap()));
            }
        }
        found.sort();
        found
    }

    fn named(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    /// What may be there after a power cut that spares half, over many of them.
    fn ends(build: impl Fn(&mut Disk)) -> BTreeSet<Vec<(String, String)>> {
        let end = |seed| {
            let mut disk = empty();
            build(&mut disk);
            disk.lose(Loss::Half { seed });
            files(&mut disk)
        };
        (0..300).map(end).collect()
    }

    #[test]
    fn a_synced_file_in_a_synced_folder_is_kept() {
        let mut disk = empty();
        written(&mut disk, ROOT, "kept", "text");
        disk.sync(ROOT).unwrap();
        for loss in [Loss::EverythingUnsynced, Loss::Half { seed: 1 }] {
            disk.lose(loss);
            assert_eq!(files(&mut disk), named(&[("kept", "text")]));
        }
    }

    #[test]
    fn a_writer_that_does_not_sync_loses_its_data() {
        let mut disk = empty();
        let file = make(&mut disk, ROOT, "file");
        disk.sync(ROOT).unwrap();
        disk.write(file, 0, b"never synced").unwrap();
        assert_eq!(files(&mut disk), named(&[("file", "never synced")]));
        disk.lose(Loss::EverythingUnsynced);
        assert_eq!(files(&mut disk), named(&[("file", "")]));
    }

    #[test]
    fn a_sync_that_lies_loses_what_an_honest_one_keeps() {
        for (syncs, left) in [(Syncs::Honest, "text"), (Syncs::Lying, "")] {
            let mut disk = empty();
            let file = make(&mut disk, ROOT, "file");
            disk.sync(ROOT).unwrap();
            disk.syncs = syncs;
            disk.write(file, 0, b"text").unwrap();
            disk.sync(file).unwrap();
            disk.lose(Loss::EverythingUnsynced);
            assert_eq!(files(&mut disk), named(&[("file", left)]), "{syncs:?}");
        }
    }

    #[test]
    fn a_synced_file_without_a_synced_entry_may_vanish() {
        let build = |disk: &mut Disk| _ = written(disk, ROOT, "file", "text");
        assert_eq!(ends(build), [named(&[]), named(&[("file", "text")])].into());
        let mut disk = empty();
        build(&mut disk);
        disk.lose(Loss::EverythingUnsynced);
        assert_eq!(files(&mut disk), []);
    }

    #[test]
    fn a_rename_leaves_the_old_or_the_new_and_never_neither() {
        let replace = |disk: &mut Disk| {
            written(disk, ROOT, "CURRENT", "1");
            disk.sync(ROOT).unwrap();
            written(disk, ROOT, "CURRENT.new", "2");
            rename(disk, (ROOT, "CURRENT.new"), (ROOT, "CURRENT"));
        };
        let expected = [
            named(&[("CURRENT", "1")]),
            named(&[("CURRENT", "1"), ("CURRENT.new", "2")]),
            named(&[("CURRENT", "2")]),
        ];
        assert_eq!(ends(replace), expected.into());
        let synced = |disk: &mut Disk| {
            replace(disk);
            disk.sync(ROOT).unwrap();
        };
        assert_eq!(ends(synced), [named(&[("CURRENT", "2")])].into());
    }

    #[test]
    fn a_file_renamed_twice_is_in_one_place() {
        let twice = |disk: &mut Disk| {
            written(disk, ROOT, "a", "text");
            disk.sync(ROOT).unwrap();
            rename(disk, (ROOT, "a"), (ROOT, "b"));
            rename(disk, (ROOT, "b"), (ROOT, "c"));
        };
        let expected = ["a", "b", "c"].map(|name| named(&[(name, "text")]));
        assert_eq!(ends(twice), expected.into());
    }

    #[test]
    fn a_rename_between_folders_is_one_act_too() {
        let build = |disk: &mut Disk| {
            let (one, other) = (folder(disk, ROOT, "one"), folder(disk, ROOT, "other"));
            disk.sync(ROOT).unwrap();
            written(disk, one, "file", "text");
            rename(disk, (one, "file"), (other, "file"));
            (one, other)
        };
        let unsynced = ends(|disk| _ = build(disk));
        let expected =
            [named(&[]), named(&[("one/file", "text")]), named(&[("other/file", "text")])];
        assert_eq!(unsynced, expected.into());
        let target_synced = |disk: &mut Disk| {
            let (_, other) = build(disk);
            disk.sync(other).unwrap();
        };
        assert_eq!(ends(target_synced), [named(&[("other/file", "text")])].into());
    }

    #[test]
    fn what_was_removed_may_come_back_until_its_folder_is_synced() {
        let remove = |disk: &mut Disk| {
            written(disk, ROOT, "file", "text");
            disk.sync(ROOT).unwrap();
            disk.remove(Kind::File, ROOT, "file".as_ref()).unwrap();
        };
        assert_eq!(ends(remove), [named(&[]), named(&[("file", "text")])].into());
        let synced = |disk: &mut Disk| {
            remove(disk);
            disk.sync(ROOT).unwrap();
        };
        assert_eq!(ends(synced), [named(&[])].into());
    }

    #[test]
    fn a_folder_that_was_never_synced_takes_all_below_it_along() {
        let mut disk = empty();
        let inner = folder(&mut disk, ROOT, "inner");
        written(&mut disk, inner, "file", "text");
        disk.sync(inner).unwrap();
        let mut other = empty();
        let inner = folder(&mut other, ROOT, "inner");
        written(&mut other, inner, "file", "text");
        other.sync(inner).unwrap();
        other.sync(ROOT).unwrap();
        for (disk, left) in [(&mut disk, vec![]), (&mut other, named(&[("inner/file", "text")]))] {
            disk.lose(Loss::EverythingUnsynced);
            assert_eq!(files(disk), left);
        }
    }

    #[test]
    fn numbers_from_before_a_power_cut_mean_nothing_after_it() {
        let mut disk = empty();
        let file = written(&mut disk, ROOT, "file", "text");
        disk.sync(ROOT).unwrap();
        disk.lose(Loss::EverythingUnsynced);
        assert_eq!(disk.read(file, 0, 1), Err(libc::ESTALE));
        assert_ne!(disk.find(ROOT, "file".as_ref()).unwrap(), file);
    }

    #[test]
    fn a_full_disk_refuses_what_grows_and_counts_it() {
        let mut disk = empty();
        let file = written(&mut disk, ROOT, "file", "text");
        disk.leave_free(2 * PAGE);
        assert_eq!(disk.write(file, PAGE, &[1; 4 * PAGE as usize]), Ok(2 * PAGE as usize));
        assert_eq!(disk.write(file, 3 * PAGE, b"x"), Err(libc::ENOSPC));
        assert_eq!(disk.write(file, 0, b"TEXT"), Ok(4), "in place");
        assert_eq!(disk.refused_for_space(), 2);
        assert_eq!(disk.space(), (3, 0));
        disk.claim_free(Some(10 * PAGE));
        assert_eq!(disk.space().1, 10);
        disk.remove(Kind::File, ROOT, "file".as_ref()).unwrap();
        disk.claim_free(None);
        assert_eq!(disk.space(), (3, 3));
    }

    #[test]
    fn a_read_that_the_kernel_answers_from_memory_does_not_fail() {
        let mut disk = empty();
        let file = written(&mut disk, ROOT, "file", "text");
        disk.faults.inject(Act::Read, "file", None);
        assert_eq!(disk.read(file, 0, 4), Ok(b"text".to_vec()));
        disk.drop_caches();
        assert_eq!(disk.read(file, 0, 4), Err(libc::EIO));
    }

    #[test]
    fn a_struck_write_fails_and_may_have_written_a_part() {
        let mut disk = empty();
        let file = written(&mut disk, ROOT, "file", "old text");
        disk.faults.inject(Act::Write, "file", Some(1));
        assert_eq!(disk.write(file, 0, b"NEW TEXT"), Err(libc::EIO));
        assert_eq!(files(&mut disk), named(&[("file", "NEW text")]));
        assert_eq!(disk.write(file, 0, b"NEW TEXT"), Ok(8));
    }
}
