//! A database written anew into the next generation, while the one that counts is
//! written to.
//!
//! sled keeps what was deleted or replaced in its file. A [`Rewrite`] copies what
//! lives, tree by tree and key by key, in slices. Between two slices its caller
//! writes to the old generation as always, and tells which keys and trees that
//! touched: what lies behind the copying is then owed to the new generation, and
//! paid, as the old one has it, before the next slice. When all is copied and
//! nothing owed, both hold the same, and the new one may count.
//!
//! Until `CURRENT` names it, nothing here is ever read: a rewriting that is cut
//! off leaves a folder that the next opening unlinks ([`Site::find`]). It knows
//! nothing of rows, readers or queues.

use std::collections::{BTreeMap, HashSet};
use std::thread::JoinHandle;

use super::database::{META_FIRST, META_LAST, OnDisk, Presence, Site};
use super::engine::{Bytes, Engine, EngineError};
use super::{OpenError, files};

/// What is copied at once; the writers of the database wait for it, for a few
/// milliseconds.
const SLICE_BYTES: usize = 256 * 1024;
/// What a new tree counts for in a slice: sled rewrites the map of all names.
const TREE_BYTES: usize = 16 * 1024;
/// sled takes in what its disk has not, without a bound; so now and then the copy
/// waits for it.
const FLUSH_BYTES: u64 = 4 << 20;
/// As many keys may be owed while the copy is opened again. Then writers wait.
const OWED_KEYS: usize = 200_000;

pub(super) struct Rewrite {
    /// Of the new generation.
    site: Site,
    stage: Stage,
    owed: BTreeMap<Bytes, Owed>,
    owed_keys: usize,
    /// Keys and values, in bytes.
    copied: u64,
    /// How much was when the copy was last flushed.
    flushed: u64,
}

/// A tree's name, and a key in it.
type Position = (Vec<u8>, Vec<u8>);

enum Stage {
    /// Everything before `next` is copied.
    Copying {
        new: OnDisk,
        next: Position,
    },
    /// All is copied, and the new generation is being opened once more: that shows
    /// that it opens, and lets sled write its snapshot, from which later openings
    /// start.
    Reopening(JoinHandle<Result<OnDisk, OpenError>>),
    Ready(OnDisk),
    /// An error ended it.
    Failed,
}

/// What was written to a tree behind the copying.
#[derive(Default)]
struct Owed {
    /// The tree was made or dropped.
    anew: bool,
    keys: HashSet<Bytes>,
}

/// Where a rewriting is after a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// There is nothing to do for the moment.
    Waiting,
    /// Both generations hold the same.
    Even,
}

impl Rewrite {
    /// `current` is where the generation is that counts.
    pub fn begin(current: &Site) -> Result<Self, OpenError> {
        files::remove_other_generations(&current.folder, Some(current.generation))
            .map_err(|error| current.unreadable(&error))?;
        let site = Site { generation: current.generation + 1, ..current.clone() };
        match OnDisk::open(&site, Presence::Optional) {
            Ok(new) => {
                let stage = Stage::Copying { new, next: Position::default() };
                let owed = BTreeMap::new();
                Ok(Self { site, stage, owed, owed_keys: 0, copied: 0, flushed: 0 })
            }
            Err(error) => {
                unlink(&site);
                Err(error)
            }
        }
    }

    pub fn copied(&self) -> u64 {
        self.copied
    }

    pub fn is_waiting(&self) -> bool {
        matches!(&self.stage, Stage::Reopening(opening) if !opening.is_finished())
    }

    fn is_behind(&self, tree: &[u8], key: &[u8]) -> bool {
        match &self.stage {
            Stage::Copying { next: (next_tree, next_key), .. } => {
                (tree, key) < (next_tree.as_slice(), next_key)
            }
            _ => true,
        }
    }

    /// Before `keys` of `tree` are written.
    pub fn note_rows<'a>(&mut self, tree: &Bytes, keys: impl Iterator<Item = &'a Bytes>) {
        let behind: Vec<Bytes> = keys.filter(|key| self.is_behind(tree, key)).cloned().collect();
        if !behind.is_empty() {
            self.owed_keys += behind.len();
            self.owed.entry(tree.clone()).or_default().keys.extend(behind);
        }
    }

    /// Before a tree is made or dropped.
    pub fn note_tree(&mut self, tree: &[u8]) {
        if self.is_behind(tree, &[]) {
            self.owed.entry(tree.into()).or_default().anew = true;
        }
    }

    /// Pays what is owed, and goes on. When it answers that both are even, the new
    /// generation is durable and of the sequence of `old`. After an error it is of
    /// no more use.
    pub fn step(&mut self, old: &OnDisk) -> Result<Step, OpenError> {
        let failed = |error| self.site.failed(error);
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Copying { new, next } => {
                pay(&mut self.owed, &old.engine, &new.engine).map_err(failed)?;
                self.owed_keys = 0;
                let rest = self.copy_slice(&old.engine, &new.engine, next);
                self.stage = match rest.map_err(|error| self.site.failed(error))? {
                    Some(next) => Stage::Copying { new, next },
                    None => Stage::Reopening(reopen(&self.site, new)?),
                };
                Ok(Step::More)
            }
            Stage::Reopening(opening) if !opening.is_finished() && self.owed_keys < OWED_KEYS => {
                self.stage = Stage::Reopening(opening);
                Ok(Step::Waiting)
            }
            Stage::Reopening(opening) => {
                let panicked = |_| self.site.corrupted("a panic while it was opened");
                let mut new = opening.join().map_err(panicked)??;
                pay(&mut self.owed, &old.engine, &new.engine).map_err(failed)?;
                new.follow(old).map_err(failed)?;
                new.prove_no_blobs(&self.site)?;
                self.stage = Stage::Ready(new);
                Ok(Step::Even)
            }
            Stage::Ready(_) | Stage::Failed => {
                Err(self.site.corrupted("its rewriting was over already"))
            }
        }
    }

    /// Answers what comes next.
    fn copy_slice(
        &mut self,
        old: &Engine,
        new: &Engine,
        mut next: Position,
    ) -> Result<Option<Position>, EngineError> {
        if self.copied - self.flushed >= FLUSH_BYTES {
            new.flush()?;
            self.flushed = self.copied;
        }
        let mut room = SLICE_BYTES;
        while room > 0 {
            match self.copy(old, new, next, room)? {
                Some((position, spent)) => {
                    next = position;
                    room = room.saturating_sub(spent);
                }
                None => return Ok(None),
            }
        }
        Ok(Some(next))
    }

    /// Copies from one tree, about `room` bytes. Answers what comes next, and how
    /// much of the room it took; `None` at the end.
    fn copy(
        &mut self,
        old: &Engine,
        new: &Engine,
        (from_tree, from_key): Position,
        room: usize,
    ) -> Result<Option<(Position, usize)>, EngineError> {
        let mut names = old.tree_names();
        names.retain(|name| {
            name.as_ref() >= from_tree.as_slice() && *name != META_FIRST && *name != META_LAST
        });
        let Some(name) = names.into_iter().min() else { return Ok(None) };
        let from_key = if *name == *from_tree { from_key } else { Vec::new() };
        let mut spent = if from_key.is_empty() { TREE_BYTES } else { 0 };
        let mut rows = Vec::new();
        let mut rest = None;
        old.tree(&name)?.visit(&from_key, |key, value| {
            if spent >= room {
                rest = Some(key.to_vec());
                return Ok(false);
            }
            spent += key.len() + value.len();
            self.copied += (key.len() + value.len()) as u64;
            rows.push((Bytes::from(key), Bytes::from(value)));
            Ok(true)
        })?;
        let new = new.tree(&name)?;
        for (key, value) in rows {
            new.insert(&key, value)?;
        }
        let name = name.to_vec();
        let next = match rest {
            Some(key) => (name, key),
            // The least name that is greater.
            None => ([&name, [0].as_slice()].concat(), Vec::new()),
        };
        Ok(Some((next, spent)))
    }

    /// When it is even: the new generation counts from now on. After an error it is
    /// not known which of the two does.
    pub fn switch(self) -> Result<(Site, OnDisk), OpenError> {
        let Stage::Ready(new) = self.stage else {
            return Err(self.site.corrupted("its rewriting is not over"));
        };
        self.site.make_current()?;
        Ok((self.site, new))
    }

    /// Gives up, and leaves nothing.
    pub fn discard(self) {
        match self.stage {
            Stage::Copying { new, .. } | Stage::Ready(new) => drop(new),
            Stage::Reopening(opening) => drop(opening.join()),
            Stage::Failed => {}
        }
        unlink(&self.site);
    }
}

/// Gives to the new generation what was written behind the copying, as the old one
/// has it.
fn pay(owed: &mut BTreeMap<Bytes, Owed>, old: &Engine, new: &Engine) -> Result<(), EngineError> {
    for (name, Owed { anew, keys }) in std::mem::take(owed) {
        if anew {
            new.drop_tree(&name)?;
            if !old.has_tree(&name) {
                continue;
            }
        }
        let (from, to) = (old.tree(&name)?, new.tree(&name)?);
        for key in keys {
            match from.get(&key)? {
                Some(value) => to.insert(&key, value)?,
                None => to.remove(&key)?,
            }
        }
    }
    Ok(())
}

/// On a thread of its own, since it takes seconds where there is much.
fn reopen(site: &Site, new: OnDisk) -> Result<JoinHandle<Result<OnDisk, OpenError>>, OpenError> {
    let opened = site.clone();
    let work = move || {
        new.sync_files().map_err(|error| opened.failed(error))?;
        drop(new);
        OnDisk::open(&opened, Presence::Required)
    };
    std::thread::Builder::new()
        .name(format!("reopen {}", site.name))
        .spawn(work)
        .map_err(|error| site.unreadable(&error))
}

/// A generation that never counted. What cannot be unlinked now is at the next
/// opening.
fn unlink(site: &Site) {
    if let Err(error) = std::fs::remove_dir_all(site.path()) {
        log::warn!("database {}: a rewriting left files behind: {error}", site.name);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::database::{Kind, PLACEMENT, ROWS};
    use super::super::engine::TreeWrites;
    use super::super::tests::entries;
    use super::*;

    /// What a database holds but for its own accounts: trees, keys, values.
    type Contents = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

    fn contents(disk: &OnDisk) -> Contents {
        let mut all = Contents::new();
        for name in disk.engine.tree_names() {
            let rows = all.entry(name.to_vec()).or_default();
            let tree = disk.engine.tree(&name).unwrap();
            tree.visit(&[], |key, value| {
                rows.insert(key.to_vec(), value.to_vec());
                Ok(true)
            })
            .unwrap();
        }
        all.retain(|name, _| *name != META_FIRST && *name != META_LAST);
        all
    }

    struct Scene {
        folder: tempfile::TempDir,
        site: Site,
        old: OnDisk,
    }

    fn find(store: &Path) -> (Site, Presence) {
        Site::find(store, "tenants-0000", Kind::Tenants, Presence::Optional, 8 << 20).unwrap()
    }

    /// Three trees, together some slices large.
    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let (site, presence) = find(folder.path());
        let old = OnDisk::open(&site, presence).unwrap();
        site.make_current().unwrap();
        let mut scene = Scene { folder, site, old };
        for tree in ["t/a", "t/c", "t/e"] {
            for part in 0..4 {
                let keys: Vec<_> = (0..80).map(|n| format!("{part}-{n:03}")).collect();
                scene.write(None, tree, &keys, Some(&[part; 1000]));
            }
        }
        scene
    }

    impl Scene {
        /// As a drain does.
        fn write(
            &mut self,
            rewrite: Option<&mut Rewrite>,
            tree: &str,
            keys: &[impl AsRef<[u8]>],
            value: Option<&[u8]>,
        ) {
            let tree = self.old.engine.tree(tree.as_bytes()).unwrap();
            let writes: Vec<_> =
                keys.iter().map(|key| (key.as_ref().into(), value.map(Bytes::from))).collect();
            if let Some(rewrite) = rewrite {
                rewrite.note_rows(&tree.name(), writes.iter().map(|(key, _)| key));
            }
            self.old.commit(vec![TreeWrites { tree, writes }]).unwrap();
        }

        fn make(&mut self, rewrite: &mut Rewrite, tree: &str) {
            rewrite.note_tree(tree.as_bytes());
            self.old.engine.tree(tree.as_bytes()).unwrap();
        }

        fn unmake(&mut self, rewrite: &mut Rewrite, tree: &str) {
            rewrite.note_tree(tree.as_bytes());
            self.old.engine.drop_tree(tree.as_bytes()).unwrap();
        }

        /// What a crash at this moment would leave, opened again.
        fn after_a_crash(&self) -> (Contents, u64) {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(self.folder.path(), copy.path());
            let (site, presence) = find(copy.path());
            let disk = OnDisk::open(&site, presence).unwrap();
            let generations = fs::read_dir(&site.folder)
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir());
            assert_eq!(generations.count(), 1);
            (contents(&disk), site.generation)
        }

        fn finish(&self, rewrite: &mut Rewrite) {
            loop {
                match rewrite.step(&self.old).unwrap() {
                    Step::Even => return,
                    Step::More => {}
                    Step::Waiting => std::thread::yield_now(),
                }
            }
        }
    }

    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in entries(from) {
            let (path, to) = (entry.path(), to.join(entry.file_name()));
            // sled's own threads may be replacing its files.
            if path.is_dir() { copy_folder(&path, &to) } else { drop(fs::copy(&path, &to)) }
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_all_that_was_committed() {
        let mut scene = scene();
        let mut rewrite = Rewrite::begin(&scene.site).unwrap();
        let mut step = 0u8;
        loop {
            assert_eq!(scene.after_a_crash(), (contents(&scene.old), 1), "before step {step}");
            match rewrite.step(&scene.old).unwrap() {
                Step::Even => break,
                Step::Waiting => std::thread::yield_now(),
                Step::More => step += 1,
            }
            let keys = ["0-000".to_owned(), format!("new {step}")];
            scene.write(Some(&mut rewrite), "t/a", &keys, Some(&[step; 50]));
        }
        assert!(step > 3, "{step}");
        let before = contents(&scene.old);
        assert_eq!(scene.after_a_crash(), (before.clone(), 1));
        let (site, new) = rewrite.switch().unwrap();
        assert_eq!(scene.after_a_crash(), (before.clone(), 2));
        assert_eq!(contents(&new), before);
        drop(std::mem::replace(&mut scene.old, new));
        scene.write(None, "t/a", &["after"], Some(b"it"));
        files::remove_other_generations(&site.folder, Some(2)).unwrap();
        assert_eq!(scene.after_a_crash(), (contents(&scene.old), 2));
    }

    #[test]
    fn what_changes_behind_before_and_at_the_copying_is_in_the_copy() {
        let mut scene = scene();
        let mut rewrite = Rewrite::begin(&scene.site).unwrap();
        let mut round = 0u8;
        let value = |round: u8| [round; 30];
        while rewrite.step(&scene.old).unwrap() == Step::More {
            round += 1;
            for tree in ["t/a", "t/c", "t/e"] {
                let new = format!("{}-{round}", round % 5);
                scene.write(Some(&mut rewrite), tree, &["2-011", &new], Some(&value(round)));
                let gone = format!("{}-{:03}", round % 4, round);
                scene.write(Some(&mut rewrite), tree, &[gone], None);
            }
            // The next step would find it opened again already, or not.
            if matches!(rewrite.stage, Stage::Reopening(_)) {
                break;
            }
        }
        // Now the copy is being opened again.
        scene.write(Some(&mut rewrite), "t/c", &["3-000", "late"], Some(&value(200)));
        scene.write(Some(&mut rewrite), "t/a", &["3-001"], None);
        scene.finish(&mut rewrite);
        let (_, new) = rewrite.switch().unwrap();
        assert_eq!(contents(&new), contents(&scene.old));
    }

    #[test]
    fn trees_come_and_go_while_they_are_copied() {
        let mut scene = scene();
        let mut rewrite = Rewrite::begin(&scene.site).unwrap();
        let mut round = 0;
        while rewrite.step(&scene.old).unwrap() == Step::More {
            round += 1;
            let w = |scene: &mut Scene, rewrite: &mut Rewrite, tree: &str| {
                scene.write(Some(rewrite), tree, &[format!("{round}")], Some(b"new"));
            };
            // Before, within and after what is copied so far.
            for tree in ["t/0", "t/b", "t/d", "t/f"] {
                scene.make(&mut rewrite, &format!("{tree}{round}"));
                w(&mut scene, &mut rewrite, &format!("{tree}{round}"));
                scene.unmake(&mut rewrite, &format!("{tree}{}", round - 1));
            }
            match round {
                1 => scene.unmake(&mut rewrite, "t/a"),
                2 => {
                    scene.unmake(&mut rewrite, "t/e");
                    scene.make(&mut rewrite, "t/a");
                    w(&mut scene, &mut rewrite, "t/a");
                }
                _ => {}
            }
            // The next step would find it opened again already, or not.
            if matches!(rewrite.stage, Stage::Reopening(_)) {
                break;
            }
        }
        assert!(round > 2, "{round}");
        scene.make(&mut rewrite, "t/g");
        scene.write(Some(&mut rewrite), "t/g", &["late"], Some(b"too"));
        scene.unmake(&mut rewrite, "t/c");
        scene.finish(&mut rewrite);
        let (_, new) = rewrite.switch().unwrap();
        let held = contents(&new);
        assert_eq!(held, contents(&scene.old));
        assert!(held.contains_key(&b"t/g"[..]) && !held.contains_key(&b"t/c"[..]));
    }

    #[test]
    fn the_copy_is_of_the_sequence_of_the_original() {
        let scene = scene();
        let mut rewrite = Rewrite::begin(&scene.site).unwrap();
        scene.finish(&mut rewrite);
        let (site, new) = rewrite.switch().unwrap();
        assert_eq!(new.sequence(), scene.old.sequence());
        drop(new);
        let again = OnDisk::open(&site, Presence::Required).unwrap();
        assert_eq!(again.sequence(), scene.old.sequence());
    }

    #[test]
    fn a_database_of_each_kind_can_be_copied() {
        for (kind, trees) in [(Kind::System, [ROWS, PLACEMENT]), (Kind::Keyring, [ROWS, ROWS])] {
            let folder = tempfile::tempdir().unwrap();
            let (site, presence) =
                Site::find(folder.path(), "one", kind, Presence::Optional, 8 << 20).unwrap();
            let mut old = OnDisk::open(&site, presence).unwrap();
            site.make_current().unwrap();
            for tree in trees {
                let tree = old.engine.tree(tree).unwrap();
                let writes = vec![(Bytes::from(b"key"), Some(Bytes::from(b"value")))];
                old.commit(vec![TreeWrites { tree, writes }]).unwrap();
            }
            let mut rewrite = Rewrite::begin(&site).unwrap();
            while rewrite.step(&old).unwrap() != Step::Even {
                std::thread::yield_now();
            }
            let (_, new) = rewrite.switch().unwrap();
            assert_eq!(contents(&new), contents(&old));
        }
    }

    #[test]
    fn what_fails_before_it_counts_leaves_the_old_generation_alone() {
        let mut scene = scene();
        let before = contents(&scene.old);
        for failing in 0..3 {
            let mut rewrite = Rewrite::begin(&scene.site).unwrap();
            let new = rewrite.site.path();
            match failing {
                0 => {}
                1 => assert_eq!(rewrite.step(&scene.old), Ok(Step::More)),
                _ => {
                    while rewrite.step(&scene.old) == Ok(Step::More) {}
                    // The next mark is the one that follows the original.
                    fs::write(new.join(super::super::mark::tests::FAIL_ONCE), "").unwrap();
                    loop {
                        match rewrite.step(&scene.old) {
                            Ok(Step::Waiting) => std::thread::yield_now(),
                            other => break assert!(other.is_err()),
                        }
                    }
                }
            }
            rewrite.discard();
            assert!(!new.exists());
            assert_eq!(scene.after_a_crash(), (before.clone(), 1));
        }
        scene.write(None, "t/a", &["on"], Some(b"it goes"));
    }
}
