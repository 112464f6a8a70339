//! One sled database on disk: opened, verified, synced, and written to in drains.
//!
//! What [`OnDisk::open`] answers is whole and durable: nothing in it can be lost
//! to a power cut afterwards, and it is not behind its mark. What
//! [`OnDisk::commit`] applied is durable and marked when it returns `Ok`. After
//! any error the database must be dropped and opened again. It knows nothing of
//! rows, readers or queues.

use std::io;
use std::path::{Path, PathBuf};

use super::engine::{Bytes, Engine, EngineError, Tree, TreeWrites};
use super::log_length::{LogError, WatchedLog};
use super::mark::MarkError;
use super::recovery::{self, Lost};
use super::redo::Redo;
use super::{OpenError, files, honest_sync};

/// Which trees a database always has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    System,
    Keyring,
    Tenants,
}

impl Kind {
    fn trees(self) -> &'static [&'static [u8]] {
        match self {
            Self::System => &[ROWS, PLACEMENT],
            Self::Keyring => &[ROWS],
            Self::Tenants => &[],
        }
    }
}

pub(super) const ROWS: &[u8] = b"rows";
pub(super) const PLACEMENT: &[u8] = b"placement";

/// Where a database stands, and as what it is opened.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub name: String,
    pub kind: Kind,
    /// `<store>/<name>`.
    pub folder: PathBuf,
    pub generation: u64,
    pub cache_bytes: u64,
}

/// Whether a database must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It was in use before; if it is missing, it was lost.
    Required,
    /// It may be made now.
    Optional,
}

impl Site {
    /// Finds the generation that counts, and unlinks the others.
    pub fn find(
        store: &Path,
        name: &str,
        kind: Kind,
        presence: Presence,
        cache_bytes: u64,
    ) -> Result<(Self, Presence), OpenError> {
        let folder = store.join(name);
        let mut site = Self { name: name.to_owned(), kind, folder, generation: 1, cache_bytes };
        let current = match files::current_generation(&site.folder) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(site.corrupted("its file CURRENT is damaged"));
            }
            current => current.map_err(|error| site.unreadable(&error))?,
        };
        match current {
            Some(generation) => {
                site.generation = generation;
                if !site.path().is_dir() {
                    return Err(site.corrupted("the generation named in CURRENT is missing"));
                }
            }
            None if presence == Presence::Required => {
                return Err(site.corrupted("its file CURRENT is missing"));
            }
            None => files::make_folder(&site.folder).map_err(|error| site.unreadable(&error))?,
        }
        // Without CURRENT, what stands here never served: a first start was cut off.
        files::remove_other_generations(&site.folder, current)
            .map_err(|error| site.unreadable(&error))?;
        let presence = if current.is_some() { Presence::Required } else { Presence::Optional };
        Ok((site, presence))
    }

    pub fn path(&self) -> PathBuf {
        files::generation_folder(&self.folder, self.generation)
    }

    /// Makes this generation the one that counts.
    pub fn make_current(&self) -> Result<(), OpenError> {
        files::set_current_generation(&self.folder, self.generation)
            .map_err(|error| self.unreadable(&error))
    }

    pub fn corrupted(&self, reason: impl ToString) -> OpenError {
        OpenError::Corrupted { database: self.name.clone(), reason: reason.to_string() }
    }

    pub fn unreadable(&self, reason: &dyn ToString) -> OpenError {
        OpenError::Unreadable { database: self.name.clone(), reason: reason.to_string() }
    }

    fn unusable(&self, error: LogError) -> OpenError {
        match error {
            LogError::Io(error) | LogError::Mark(MarkError::Io(error)) => self.unreadable(&error),
            LogError::InUse => self.failed(EngineError::InUse),
            damage => self.corrupted(damage),
        }
    }

    pub fn failed(&self, error: EngineError) -> OpenError {
        match error {
            EngineError::InUse => OpenError::InUse { database: self.name.clone() },
            EngineError::Corrupted(_) | EngineError::Gone => self.corrupted(error),
            EngineError::Io(_) => self.unreadable(&error),
        }
    }
}

pub(super) const META_FIRST: &[u8] = b"meta";
pub(super) const META_LAST: &[u8] = b"meta-end";
const SEQUENCE: &[u8] = b"sequence";
const OPENINGS: &[u8] = b"openings";

pub(super) struct OnDisk {
    pub engine: Engine,
    path: PathBuf,
    /// How many drains were applied, ever.
    sequence: u64,
    /// Keys and values since it was opened.
    written: u64,
    /// Written first and last in each transaction. sled promises that a
    /// transaction is recovered whole, but not when it broke off over an error:
    /// then these two differ.
    first: Tree,
    last: Tree,
    /// The transaction under way, or the one that failed.
    interrupted: Option<Redo>,
    /// The last field, so that sled lets go of it first.
    log: WatchedLog,
}

impl OnDisk {
    pub fn open(site: &Site, presence: Presence) -> Result<Self, OpenError> {
        let opened = Self::open_settled(site, presence);
        if let Err(OpenError::Unreadable { .. }) = opened {
            // The next opening, of whichever process, may read what was not synced.
            // Where not even the note can be made, nothing more can be done.
            let _ = files::try_writing(&site.path());
        }
        opened
    }

    fn open_settled(site: &Site, presence: Presence) -> Result<Self, OpenError> {
        let path = site.path();
        let fresh = presence == Presence::Optional;
        if fresh {
            files::make_folder(&path).map_err(|error| site.unreadable(&error))?;
        }
        Self::refuse_blobs(site, &path)?;
        files::write_again(&path).map_err(|error| site.unreadable(&error))?;
        let unusable = |error| site.unusable(error);
        let watched = if fresh { None } else { Some(WatchedLog::open(&path).map_err(unusable)?) };
        Self::refuse_lost(site, &path)?;
        let engine = Engine::open(&path, site.cache_bytes).map_err(|error| site.failed(error))?;
        let log = match watched {
            Some(log) => {
                log.read_mark().map_err(unusable)?;
                log
            }
            None => WatchedLog::create(&path).map_err(|error| site.unreadable(&error))?,
        };
        let known = [META_FIRST, META_LAST].into_iter().chain(site.kind.trees().iter().copied());
        for tree in known {
            if !fresh && !engine.has_tree(tree) {
                return Err(site.corrupted("a tree is missing"));
            }
            engine.tree(tree).map_err(|error| site.failed(error))?;
        }
        let tree = |name| engine.tree(name).map_err(|error| site.failed(error));
        let (first, last) = (tree(META_FIRST)?, tree(META_LAST)?);
        let (sequence, written, interrupted) = (0, 0, None);
        let mut database = Self { engine, path, sequence, written, first, last, interrupted, log };
        database.finish_interrupted().map_err(|error| site.failed(error))?;
        database.verify(site)?;
        database.settle().map_err(|error| site.failed(error))?;
        Self::refuse_blobs(site, &database.path)?;
        Ok(database)
    }

    /// sled never syncs the files it keeps large pages in, and unlinks old ones
    /// too early. The bound on rows keeps pages small, and this proves it.
    fn refuse_blobs(site: &Site, path: &Path) -> Result<(), OpenError> {
        match files::is_empty(&path.join("blobs")) {
            Ok(true) => Ok(()),
            Ok(false) => Err(site.corrupted("a page was stored outside of its log")),
            Err(error) => Err(site.unreadable(&error)),
        }
    }

    /// What sled would pass over, and serve older contents of.
    fn refuse_lost(site: &Site, path: &Path) -> Result<(), OpenError> {
        match recovery::inspect(path).map_err(|error| site.unreadable(&error))? {
            Ok(()) => Ok(()),
            Err(Lost { offset }) => {
                Err(site.corrupted(format!("its log is damaged near byte {offset} of its file db")))
            }
        }
    }

    /// Of a database that is written to; an opening proves it by itself.
    pub fn prove_no_blobs(&self, site: &Site) -> Result<(), OpenError> {
        Self::refuse_blobs(site, &self.path)
    }

    fn verify(&mut self, site: &Site) -> Result<(), OpenError> {
        let read = |tree: &Tree| number(tree, SEQUENCE).map_err(|error| site.failed(error));
        let (first, last) = (read(&self.first)?, read(&self.last)?);
        if first != last {
            return Err(site.corrupted("its last transaction is torn"));
        }
        let marked = self.log.sequence();
        if first < marked {
            return Err(site.corrupted(format!(
                "it is at {first} and was at {marked}: it lost what it had acknowledged"
            )));
        }
        self.sequence = first;
        self.prove_honest_sync(site)
    }

    /// A transaction that an error broke off is finished, where it left a part.
    fn finish_interrupted(&self) -> Result<(), EngineError> {
        let Some(redo) = Redo::find(&self.path).map_err(io_error)? else { return Ok(()) };
        let (first, last) = (number(&self.first, SEQUENCE)?, number(&self.last, SEQUENCE)?);
        if first != redo.sequence || last == redo.sequence {
            return Ok(());
        }
        log::warn!("finishing transaction {first} in {}", self.path.display());
        let mut all = Vec::with_capacity(redo.trees.len());
        for (name, writes) in redo.trees {
            if !self.engine.has_tree(&name) {
                return Err(EngineError::Corrupted("a tree is missing".to_owned()));
            }
            all.push(TreeWrites { tree: self.engine.tree(&name)?, writes });
        }
        Engine::apply(&all)?;
        self.engine.flush()
    }

    /// Writes something, so that the flush has work, and looks whether that
    /// reached our `sync_file_range`. The count is the process's, and another
    /// database may move it meanwhile; but which symbol sled calls was settled
    /// when the binary was linked, so one proof holds for all.
    fn prove_honest_sync(&self, site: &Site) -> Result<(), OpenError> {
        let attempt = || {
            let openings = number(&self.first, OPENINGS)? + 1;
            let writes = vec![(Bytes::from(OPENINGS), Some(encode_number(openings)))];
            Engine::apply(&[TreeWrites { tree: self.first.clone(), writes }])?;
            let before = honest_sync::calls();
            self.engine.flush()?;
            Ok(honest_sync::calls() > before)
        };
        match attempt() {
            Ok(true) => Ok(()),
            Ok(false) => Err(OpenError::DishonestSync),
            Err(error) => Err(site.failed(error)),
        }
    }

    /// Makes all that stands here durable, and marks it: what is read from now
    /// on must not be lost either.
    fn settle(&mut self) -> Result<(), EngineError> {
        self.sync_files()?;
        // What an opening moved counts as much as what a drain writes.
        if self.log.is_ahead_of_mark(self.sequence).map_err(io_error)? {
            self.log.advance(self.sequence)?;
        }
        Redo::remove(&self.path).map_err(io_error)
    }

    /// sled never syncs folders or its `conf`; after every opening and every new
    /// tree we do.
    pub fn sync_files(&self) -> Result<(), EngineError> {
        self.engine.flush()?;
        files::sync_everything(&self.path).map_err(io_error)
    }

    /// Applies `writes` as one, makes them durable, and marks them.
    pub fn commit(&mut self, writes: Vec<TreeWrites>) -> Result<(), CommitError> {
        self.commit_as(self.sequence + 1, writes)
    }

    /// Makes all that stands here durable under the sequence of `other`, whose
    /// place it is to take.
    pub fn follow(&mut self, other: &Self) -> Result<(), EngineError> {
        self.commit_as(other.sequence, Vec::new())?;
        self.sync_files()
    }

    /// After a failed commit: what it may have left a part of.
    pub fn take_interrupted(&mut self) -> Option<Redo> {
        self.interrupted.take()
    }

    /// In bytes of keys and values, since it was opened.
    pub fn written(&self) -> u64 {
        self.written
    }

    #[cfg(test)]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn commit_as(&mut self, sequence: u64, writes: Vec<TreeWrites>) -> Result<(), CommitError> {
        let numbered = |tree: &Tree| TreeWrites {
            tree: tree.clone(),
            writes: vec![(Bytes::from(SEQUENCE), Some(encode_number(sequence)))],
        };
        let mut all = Vec::with_capacity(writes.len() + 2);
        all.push(numbered(&self.first));
        all.extend(writes);
        all.push(numbered(&self.last));
        let weigh = |(key, value): &(Bytes, Option<Bytes>)| {
            (key.len() + value.as_ref().map_or(0, |value| value.len())) as u64
        };
        self.written += all.iter().flat_map(|part| &part.writes).map(weigh).sum::<u64>();
        self.interrupted = Some(Redo::of(sequence, &all));
        self.log.measure()?;
        self.apply(&all)?;
        self.engine.flush()?;
        self.log.advance(sequence)?;
        self.sequence = sequence;
        self.interrupted = None;
        Ok(())
    }

    fn apply(&self, writes: &[TreeWrites]) -> Result<(), CommitError> {
        #[cfg(test)]
        if std::fs::remove_file(self.path.join(tests::BREAK_OFF)).is_ok() {
            let (half, _) = writes.split_at(writes.len() / 2);
            Engine::apply(half)?;
            return Err(CommitError::BrokenOff(EngineError::Corrupted("by a test".to_owned())));
        }
        Engine::apply(writes).map_err(|error| match error {
            EngineError::Io(_) | EngineError::InUse | EngineError::Gone => error.into(),
            EngineError::Corrupted(_) => CommitError::BrokenOff(error),
        })
    }

    /// After [`CommitError::BrokenOff`], instead of dropping it.
    pub fn abandon(self) {
        self.engine.abandon();
    }
}

/// Why a drain failed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// It may be applied or not; the database must be opened again.
    Failed(EngineError),
    /// A part of it was applied in memory: a page that sled came upon, maybe of
    /// another tenant, is damaged. On disk it never happened, unless the database
    /// is dropped.
    BrokenOff(EngineError),
}

impl From<CommitError> for EngineError {
    fn from(error: CommitError) -> Self {
        let (CommitError::Failed(error) | CommitError::BrokenOff(error)) = error;
        error
    }
}

impl From<EngineError> for CommitError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

impl From<LogError> for EngineError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io(error) | LogError::Mark(MarkError::Io(error)) => io_error(error),
            LogError::InUse => Self::InUse,
            LogError::Cut { .. } | LogError::Missing | LogError::Mark(_) => {
                Self::Corrupted(error.to_string())
            }
        }
    }
}

impl From<LogError> for CommitError {
    fn from(error: LogError) -> Self {
        Self::Failed(error.into())
    }
}

fn io_error(error: io::Error) -> EngineError {
    EngineError::Io(error.to_string())
}

fn encode_number(number: u64) -> Bytes {
    Bytes::from(&number.to_be_bytes())
}

/// 0 where none was written yet.
fn number(tree: &Tree, key: &[u8]) -> Result<u64, EngineError> {
    match tree.get(key)? {
        None => Ok(0),
        Some(bytes) => match <[u8; 8]>::try_from(bytes.as_ref()) {
            Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
            Err(_) => Err(EngineError::Corrupted("a number of no known form".to_owned())),
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    /// A file of this name beside the log makes the next drain break off halfway.
    pub const BREAK_OFF: &str = "break-off";
}
