//! What sled's recovery would get wrong, looked for before sled opens a database.
//!
//! At every opening sled reads its log from the last snapshot on. Where it meets a
//! damaged message it goes on with the next segment, as if the rest of this one
//! were the torn remains of a segment that was free. So one flipped bit takes back
//! up to half a megabyte of changes, in the midst of later ones that stay: pages
//! fall back to older contents, an old value is served as the current one, and the
//! mark does not show it. (Measured: 58 of 1,500 flips, by vault/damage.rs.)
//!
//! [`inspect`] reads the same segments first and tells the two apart. A segment is
//! freed only when all that it held has been written again, further on and
//! durably. So if a message that sled would skip is still legible, and no later
//! message replaces its page, then the segment was not free, and the database is
//! damaged. A torn write to a free segment never looks so, whichever of its
//! sectors reached the disk. The end of the log, from the segment on in which the
//! latest known stable position lies, may be torn; what was acknowledged there is
//! what the mark is for.
//!
//! And it says in the log where the search for its end may begin. sled looks for it
//! from the highest position on that the header of a segment says was stable, which
//! may be in the segment before the last. At an opening it overwrites the segments
//! that nothing is in any more, and that may be one of them. Where a power cut leaves
//! this, and not the snapshot of that opening, the next one finds no end, and takes
//! all behind the snapshot before for torn, or the whole log. (Met once in 200 cuts
//! within openings.) So before sled overwrites anything, the header of the segment
//! that the log ends in says that all before it is stable, since now it is.
//!
//! And since it reads all that sled would read, it leaves what sled would make of that,
//! a snapshot at the end of the log (see [`super::index`]). Where the log is not in
//! order, or not to its end, it leaves that to sled.
//!
//! It also removes what a crash or damage left of sled's snapshots, which are an
//! index of the log, and of its `conf`, which says the same for every database:
//! sled makes them anew, but would stop over these.
//!
//! It knows the form of sled 0.34.7's files, by that version's `pagecache`, and
//! nothing of what they hold.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::files;
use super::index::{Index, Piece, Says};
use super::log_length::open_log;

/// sled's default, which is what the engine uses.
pub(super) const SEGMENT: usize = 512 * 1024;
/// The checksum of what follows, the segment's LSN and the highest LSN that was
/// stable when it was begun, little-endian and inverted.
const SEGMENT_HEADER: usize = 20;
/// No message begins behind this much before a segment's end.
pub(super) const LONGEST_HEADER: usize = 32;

/// A position in the history of the log. A segment holds [`SEGMENT`] of them.
pub(super) type Lsn = u64;

/// Where the log holds what sled would lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// In the file `db`.
    pub offset: u64,
}

/// Looks at a database that sled has not opened yet.
pub(super) fn inspect(generation: &Path) -> io::Result<Result<(), Lost>> {
    prepare_conf(generation)?;
    let newest = prepare_snapshots(generation)?;
    let file = match open_log(generation) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        opened => opened?,
    };
    match Log::read(file, newest)? {
        Ok(Some(snapshot)) => snapshot.store(generation).map(Ok),
        Ok(None) => Ok(Ok(())),
        Err(lost) => Ok(Err(lost)),
    }
}

// Its small files.

/// What `conf` holds before its checksum.
const CONF: &[u8] = b"segment_size: 524288\nuse_compression: false\nversion: 0.34\n";

fn prepare_conf(generation: &Path) -> io::Result<()> {
    let path = generation.join("conf");
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        conf if conf.as_ref().is_ok_and(|conf| conf.starts_with(CONF)) => Ok(()),
        conf => {
            conf?;
            remove(&path)
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    log::warn!("{} is unfinished or damaged; it is made anew", path.display());
    fs::remove_file(path)?;
    path.parent().map_or(Ok(()), files::sync_folder)
}

/// Leaves only those that sled can read. Answers the newest one.
///
/// sled writes a snapshot as `snap.<lsn>.generating` and then renames it. But it
/// takes every file that begins with `snap.` for a snapshot, and the longest name
/// for the newest (its filter looks for an ending that it does not use): killed, or
/// without power, before the draft was synced, it never opens again.
fn prepare_snapshots(generation: &Path) -> io::Result<Snapshot> {
    let mut newest = Snapshot::default();
    for path in snapshots(generation)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let end = name.strip_prefix("snap.").and_then(|lsn| Lsn::from_str_radix(lsn, 16).ok());
        match (end, sound_contents(fs::read(&path)?)) {
            (Some(end), Some(contents)) if end >= newest.end => {
                newest = Snapshot { end, contents };
            }
            (Some(_), Some(_)) => {}
            _ => remove(&path)?,
        }
    }
    Ok(newest)
}

/// Where pages stand in a log that ends there. Empty where there is none.
#[derive(Default)]
struct Snapshot {
    end: Lsn,
    contents: Vec<u8>,
}

impl Snapshot {
    /// As sled does, but durably, and before any other is removed. What it is about is
    /// durable.
    fn store(&self, generation: &Path) -> io::Result<()> {
        let Self { end, contents } = self;
        let others = snapshots(generation)?;
        let name = format!("snap.{end:016X}");
        let length = (contents.len() as u64).to_le_bytes();
        let checksum = crc32fast::hash(contents).to_le_bytes();
        let draft = generation.join(format!("{name}.generating"));
        files::replace(&generation.join(name), &draft, &[contents, &length, &checksum])?;
        others.iter().try_for_each(fs::remove_file)
    }
}

fn snapshots(generation: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(generation)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("snap.")) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// Behind them stand their length (8 bytes, which sled ignores without compression)
/// and their checksum.
fn sound_contents(mut snapshot: Vec<u8>) -> Option<Vec<u8>> {
    let (rest, checksum) = snapshot.split_last_chunk::<4>()?;
    let (contents, _) = rest.split_last_chunk::<8>()?;
    let is_sound =
        !contents.is_empty() && crc32fast::hash(contents) == u32::from_le_bytes(*checksum);
    let length = contents.len();
    snapshot.truncate(length);
    is_sound.then_some(snapshot)
}

// Messages.

/// What follows a segment's header, one after the other: a checksum (4 bytes), the
/// kind, the length of the body, the number of the segment, the page, and the
/// body. The last three are of variable length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    kind: u8,
    segment: u64,
    page: u64,
    header_len: usize,
    /// With its header.
    len: usize,
}

const CAP: u8 = 2;
/// Says up to where changes reach that are made all or none.
const BATCH: u8 = 3;
const FREE: u8 = 4;
/// A counter, and whole pages.
const REPLACING: std::ops::RangeInclusive<u8> = 5..=9;
/// Additions to pages.
const LINKS: std::ops::RangeInclusive<u8> = 10..=11;
const KINDS: std::ops::RangeInclusive<u8> = 1..=11;
/// What stands in a file of its own.
const OUTSIDE: [u8; 3] = [7, 9, 11];

impl Message {
    /// Of its page, if it is about one.
    fn says(&self) -> Option<Says> {
        match self.kind {
            FREE => Some(Says::Free),
            kind if REPLACING.contains(&kind) => Some(Says::Whole),
            kind if LINKS.contains(&kind) => Some(Says::Addition),
            _ => None,
        }
    }

    fn replaces(&self) -> bool {
        matches!(self.says(), Some(Says::Whole | Says::Free))
    }

    fn changes_a_page(&self) -> bool {
        self.says().is_some()
    }

    /// What `bytes` begins with, if that looks like a message; its checksum is not
    /// looked at.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.get(4..)?.split_first()?;
        if !KINDS.contains(&kind) {
            return None;
        }
        let (body, rest) = number(rest)?;
        let (segment, rest) = number(rest)?;
        let (page, rest) = number(rest)?;
        let header_len = bytes.len() - rest.len();
        let body = usize::try_from(body).ok().filter(|body| *body <= rest.len())?;
        Some(Self { kind, segment, page, header_len, len: header_len + body })
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        let Some((message, _)) = bytes.split_at_checked(self.len) else { return false };
        let Some((header, body)) = message.split_at_checked(self.header_len) else { return false };
        let Some((checksum, header)) = header.split_first_chunk::<4>() else { return false };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(body);
        hasher.update(header);
        hasher.finalize() == !u32::from_le_bytes(*checksum)
    }

    /// Of a batch: the last position that belongs to it.
    fn last_of_batch(&self, bytes: &[u8]) -> Option<Lsn> {
        let body = bytes.get(self.header_len..self.len).filter(|_| self.kind == BATCH)?;
        let last = i64::from_le_bytes(body.try_into().ok()?);
        Lsn::try_from(last).ok()
    }

    /// A whole message of `segment` at the beginning of `bytes`.
    fn read(bytes: &[u8], segment: u64) -> Option<Self> {
        Self::parse(bytes)
            .filter(|message| message.segment == segment)
            .filter(|message| message.is_whole(bytes))
    }
}

/// sled's numbers: one byte up to 240, two and three bytes with an offset, then as
/// many little-endian bytes as the first one says.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    match first {
        0..=240 => Some((first.into(), rest)),
        241..=248 => {
            let (&low, rest) = rest.split_first()?;
            Some((240 + 256 * (u64::from(first) - 241) + u64::from(low), rest))
        }
        249 => {
            let ([high, low], rest) = rest.split_first_chunk::<2>()?;
            Some((2288 + 256 * u64::from(*high) + u64::from(*low), rest))
        }
        _ => {
            let (stored, rest) = rest.split_at_checked(usize::from(first) - 247)?;
            let value = stored.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            Some((value, rest))
        }
    }
}

// The log.

/// A change of a page that sled will not see.
struct Skipped {
    page: u64,
    lsn: Lsn,
    offset: u64,
}

struct Log {
    file: File,
    /// Where the segments that sled reads stand, by LSN.
    segments: BTreeMap<Lsn, u64>,
    /// Where segments with damaged headers stand; most were never used.
    headless: Vec<u64>,
    /// What has a lower LSN is in the snapshot.
    from: Lsn,
    /// The segment from which on the log may be torn.
    tail: Lsn,
    /// There is room for no more in the file.
    most_pages: u64,
    /// Of those in front of the tail, the batches that end in another segment than they
    /// begin in.
    batches: Vec<Batch>,
    index: Known,
    /// The latest message that each page begins with.
    replaced: HashMap<u64, Lsn>,
    skipped: Vec<Skipped>,
}

/// What sled will find in a log.
enum Known {
    /// What it left at the last opening, and nothing more so far.
    Left(Vec<u8>),
    Index(Index),
    /// There is something in it that only sled can tell.
    Not,
}

impl Known {
    fn index(&mut self, from: Lsn) -> Option<&mut Index> {
        if let Self::Left(contents) = self {
            let index = match contents.as_slice() {
                [] => Some(Index::default()),
                contents => Index::parse(contents).filter(|index| index.from() == from),
            };
            *self = index.map_or(Self::Not, Self::Index);
        }
        match self {
            Self::Index(index) => Some(index),
            Self::Left(_) | Self::Not => None,
        }
    }
}

/// How many segments are read before what they say is taken note of: a bound for
/// memory.
const SEGMENTS_AT_ONCE: usize = 64;
/// No message is shorter.
const SHORTEST_MESSAGE: u64 = 8;

fn base_of(lsn: Lsn) -> Lsn {
    lsn / SEGMENT as Lsn * SEGMENT as Lsn
}

impl Log {
    /// Its segments are found, and nothing is looked at yet.
    fn of(file: File, newest: Snapshot) -> io::Result<Self> {
        let Snapshot { end: from, contents } = newest;
        let mut log = Self {
            file,
            segments: BTreeMap::new(),
            headless: Vec::new(),
            from,
            tail: base_of(from),
            most_pages: 0,
            batches: Vec::new(),
            index: Known::Left(contents),
            replaced: HashMap::new(),
            skipped: Vec::new(),
        };
        log.find_segments()?;
        Ok(log)
    }

    /// With the snapshot that sled would write, where that is known.
    fn read(file: File, newest: Snapshot) -> io::Result<Result<Option<Snapshot>, Lost>> {
        let mut log = Self::of(file, newest)?;
        let mut bytes = Vec::new();
        for at in std::mem::take(&mut log.headless) {
            log.segment(at, &mut bytes)?;
            log.walk_headless(&bytes, at);
        }
        let in_order = log.all_whole()? && log.skipped.is_empty();
        if !in_order {
            for (base, at) in log.segments.clone() {
                log.segment(at, &mut bytes)?;
                if !log.walk(&bytes, base, at) {
                    break;
                }
            }
            if let Err(lost) = log.judge() {
                return Ok(Err(lost));
            }
        }
        let Some(end) = log.end()? else { return Ok(Ok(None)) };
        log.settle_end(end.lsn)?;
        if in_order { log.snapshot(end).map(Ok) } else { Ok(Ok(None)) }
    }

    /// Whether sled will see every message in front of the tail: then nothing needs
    /// to be known of them but where pages stand. A database that was not damaged is
    /// like that, and may be gigabytes behind its snapshot; so all cores look. Reads
    /// what sled reads, as [`Log::end`] does of the tail, so that an error of the disk is
    /// met here, where it is one.
    fn all_whole(&mut self) -> io::Result<bool> {
        let mut whole = true;
        let before = self.segments.range(..self.tail);
        let segments: Vec<_> = before.map(|(base, at)| (*base, *at)).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for some in segments.chunks(SEGMENTS_AT_ONCE) {
            for (base, at, found) in self.walked(some, threads)? {
                whole &= found.is_whole;
                let reaches_on = |batch: &&Batch| batch.last >= base + SEGMENT as Lsn;
                self.batches.extend(found.batches.iter().filter(reaches_on));
                self.note_in_index(base, at, &found);
            }
        }
        Ok(whole)
    }

    /// What is in these segments, in their order.
    fn walked(
        &self,
        segments: &[(Lsn, u64)],
        threads: usize,
    ) -> io::Result<Vec<(Lsn, u64, Walked)>> {
        let next = Mutex::new(segments.iter());
        let work = || {
            let (mut bytes, mut found) = (Vec::new(), Vec::new());
            loop {
                let segment = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((base, at)) = segment else { return Ok(found) };
                self.segment(*at, &mut bytes)?;
                found.push((*base, *at, Walked::over(&bytes, *base)));
            }
        };
        let mut found = std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..threads.min(segments.len())).map(|_| scope.spawn(work)).collect();
            let mut found = work()?;
            for other in others {
                let panicked = |_| Err(io::Error::other("a panic while the log was read"));
                found.extend(other.join().unwrap_or_else(panicked)?);
            }
            Ok::<_, io::Error>(found)
        })?;
        found.sort_unstable_by_key(|(base, ..)| *base);
        Ok(found)
    }

    fn note_in_index(&mut self, base: Lsn, at: u64, found: &Walked) {
        for (offset, message) in &found.messages {
            let (lsn, at) = (base + *offset as Lsn, at + *offset as u64);
            let Some(says) = message.says().filter(|_| lsn >= self.from) else { continue };
            let Some(index) = self.index.index(self.from) else { break };
            let page =
                usize::try_from(message.page).ok().filter(|_| message.page < self.most_pages);
            let (Some(page), false) = (page, OUTSIDE.contains(&message.kind)) else {
                self.index = Known::Not;
                break;
            };
            index.note(page, says, Piece { lsn, at, len: message.len as u64 });
        }
    }

    /// Where sled will take the log to end: in front of the first message of the tail
    /// that is not whole, or of the first batch that does not end before that. `None`
    /// where the tail is missing.
    fn end(&self) -> io::Result<Option<End>> {
        let (mut tail, mut batches) = (Vec::new(), self.batches.clone());
        let mut bytes = Vec::new();
        for ((base, at), expected) in self.segments.range(self.tail..).zip(0..) {
            if *base != self.tail + expected * SEGMENT as Lsn {
                break;
            }
            self.segment(*at, &mut bytes)?;
            let found = Walked::over(&bytes, *base);
            let is_whole = found.is_whole;
            batches.extend(&found.batches);
            tail.push((*base, *at, found));
            if !is_whole {
                break;
            }
        }
        let Some((.., last)) = tail.last() else { return Ok(None) };
        let torn = batches.iter().filter(|batch| batch.last >= last.end).map(|batch| batch.at);
        let lsn = torn.chain([last.end]).min().unwrap_or(last.end);
        Ok(Some(End { lsn, tail }))
    }

    /// Has the header of the segment in which the log ends say that all before it is
    /// stable.
    fn settle_end(&self, end: Lsn) -> io::Result<()> {
        let Some((&base, &at)) = self.segments.range(..=end).next_back() else { return Ok(()) };
        let mut header = [0; SEGMENT_HEADER];
        self.file.read_exact_at(&mut header, at)?;
        if segment_header(header).is_none_or(|(_, stable)| stable >= base) {
            return Ok(());
        }
        // Before it is said: a process that was killed may have left it unsynced.
        self.file.sync_all()?;
        self.file.write_all_at(&header_of(base, base), at)?;
        self.file.sync_all()
    }

    /// Of a log that ends within its last segment, where nothing is torn but what was
    /// about to be written.
    fn snapshot(mut self, end: End) -> io::Result<Option<Snapshot>> {
        let End { lsn, tail } = end;
        let Some((base, at, last)) = tail.last() else { return Ok(None) };
        let (segment, room) = (*at, base + SEGMENT as Lsn - LONGEST_HEADER as Lsn);
        let in_order = lsn == last.end && lsn < room && !last.is_capped;
        if !in_order || self.segments.range(lsn..).next().is_some() {
            return Ok(None);
        }
        for (base, at, found) in &tail {
            self.note_in_index(*base, *at, found);
        }
        let Known::Index(index) = self.index else { return Ok(None) };
        let Some(contents) = index.encode(lsn, segment) else { return Ok(None) };
        self.file.sync_all()?;
        Ok(Some(Snapshot { end: lsn, contents }))
    }

    fn find_segments(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        self.most_pages = len / SHORTEST_MESSAGE;
        for at in (0..len).step_by(SEGMENT) {
            let mut header = [0; SEGMENT_HEADER];
            match self.file.read_exact_at(&mut header, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                read => read?,
            }
            match segment_header(header) {
                Some((base, _)) if base < base_of(self.from) => {}
                Some((base, stable)) => {
                    self.segments.insert(base, at);
                    self.tail = self.tail.max(base_of(stable));
                }
                None => self.headless.push(at),
            }
        }
        Ok(())
    }

    /// Shorter at the end of the file.
    fn segment(&self, at: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(SEGMENT, 0);
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(())
    }

    /// As sled does. Answers whether the log goes on behind this segment.
    fn walk(&mut self, bytes: &[u8], base: Lsn, at: u64) -> bool {
        let found = Walked::over(bytes, base);
        for (offset, message) in found.messages.iter().filter(|(_, found)| found.replaces()) {
            self.note(message.page, base + *offset as Lsn);
        }
        if found.is_whole {
            return true;
        }
        if base >= self.tail {
            return false;
        }
        self.skip(bytes, (found.end - base) as usize, base, at);
        true
    }

    fn note(&mut self, page: u64, lsn: Lsn) {
        let latest = self.replaced.entry(page).or_default();
        *latest = lsn.max(*latest);
    }

    /// What is legible from `offset` on, where a message is not.
    fn skip(&mut self, bytes: &[u8], offset: usize, base: Lsn, at: u64) {
        let segment = base / SEGMENT as Lsn;
        if let Some(page) = illegible(bytes.get(offset..).unwrap_or_default(), offset, segment) {
            let lsn = base + offset as Lsn;
            self.skipped.push(Skipped { page, lsn, offset: at + offset as u64 });
        }
        self.collect(bytes, offset + 1, at, |found| (found == segment).then_some(base));
    }

    /// What is legible of segments that sled does not see at all. What belongs to
    /// one that it does see is an older copy, or the end of the log.
    fn walk_headless(&mut self, bytes: &[u8], at: u64) {
        let (from, tail) = (base_of(self.from), self.tail);
        let known: Vec<Lsn> = self.segments.keys().copied().collect();
        self.collect(bytes, SEGMENT_HEADER, at, |segment| {
            let base = segment.checked_mul(SEGMENT as u64)?;
            let missed = (from..tail).contains(&base) && known.binary_search(&base).is_err();
            missed.then_some(base)
        });
    }

    /// Every whole message from `offset` on whose segment `base_for` knows.
    fn collect(
        &mut self,
        bytes: &[u8],
        mut offset: usize,
        at: u64,
        base_for: impl Fn(u64) -> Option<Lsn>,
    ) {
        while offset + LONGEST_HEADER <= bytes.len() {
            let rest = bytes.get(offset..).unwrap_or_default();
            let whole = Message::parse(rest).and_then(|message| {
                let base = base_for(message.segment)?;
                message.is_whole(rest).then_some((message, base))
            });
            let Some((message, base)) = whole else {
                offset += 1;
                continue;
            };
            if message.changes_a_page() {
                let lsn = base + offset as Lsn;
                self.skipped.push(Skipped { page: message.page, lsn, offset: at + offset as u64 });
            }
            offset += message.len;
        }
    }

    fn judge(&self) -> Result<(), Lost> {
        let is_lost = |skipped: &&Skipped| {
            let replaced = self.replaced.get(&skipped.page);
            skipped.lsn >= self.from && replaced.is_none_or(|later| *later < skipped.lsn)
        };
        match self.skipped.iter().find(is_lost) {
            Some(skipped) => Err(Lost { offset: skipped.offset }),
            None => Ok(()),
        }
    }
}

/// Changes that sled makes all or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    at: Lsn,
    last: Lsn,
}

/// Where a log ends, and what its tail up to there holds: segments with where they
/// stand.
struct End {
    lsn: Lsn,
    tail: Vec<(Lsn, u64, Walked)>,
}

/// What sled finds in a segment.
struct Walked {
    /// Every message is.
    is_whole: bool,
    /// Behind the last whole message.
    end: Lsn,
    /// Nothing more will be in it.
    is_capped: bool,
    batches: Vec<Batch>,
    /// With where they begin.
    messages: Vec<(usize, Message)>,
}

impl Walked {
    fn over(bytes: &[u8], base: Lsn) -> Self {
        let mut found = Self {
            is_whole: true,
            end: base,
            is_capped: false,
            batches: Vec::new(),
            messages: Vec::new(),
        };
        let mut offset = SEGMENT_HEADER;
        while offset + LONGEST_HEADER <= SEGMENT {
            let rest = bytes.get(offset..).unwrap_or_default();
            let Some(message) = Message::read(rest, base / SEGMENT as Lsn) else {
                found.is_whole = false;
                break;
            };
            if message.kind == CAP {
                found.is_capped = true;
                break;
            }
            let at = base + offset as Lsn;
            found.batches.extend(message.last_of_batch(rest).map(|last| Batch { at, last }));
            found.messages.push((offset, message));
            offset += message.len;
        }
        Self { end: base + offset as Lsn, ..found }
    }
}

/// The LSN of a segment, and the highest that was stable when it was begun.
fn segment_header(header: [u8; SEGMENT_HEADER]) -> Option<(Lsn, Lsn)> {
    let (checksum, rest) = header.split_first_chunk::<4>()?;
    if crc32fast::hash(rest) != !u32::from_le_bytes(*checksum) {
        return None;
    }
    let (base, stable) = rest.split_first_chunk::<8>()?;
    let stable = stable.first_chunk::<8>()?;
    // Signed, with all bits but the sign inverted. Before anything was stable, the
    // position of that is -1.
    let lsn = |stored: &[u8; 8]| i64::from_le_bytes(*stored) ^ i64::MAX;
    let base = Lsn::try_from(lsn(base)).ok().filter(|base| base.is_multiple_of(SEGMENT as Lsn));
    Some((base?, Lsn::try_from(lsn(stable)).unwrap_or(0)))
}

/// The header of a segment, as [`segment_header`] reads it.
fn header_of(base: Lsn, stable: Lsn) -> [u8; SEGMENT_HEADER] {
    let stored = |lsn: Lsn| (lsn.cast_signed() ^ i64::MAX).to_le_bytes();
    let mut header = [0; SEGMENT_HEADER];
    let (checksum, rest) = header.split_at_mut(4);
    rest.copy_from_slice(&[stored(base), stored(stable)].concat());
    checksum.copy_from_slice(&(!crc32fast::hash(rest)).to_le_bytes());
    header
}

/// The smallest piece of a file that a power cut leaves old or new as a whole.
const SECTOR: usize = 512;

/// The page that a message which is not whole was about, where that is certain:
/// its header lies in one sector, and leads to another message, or to one whose
/// checksum is right but for one bit of the header.
fn illegible(bytes: &[u8], offset: usize, segment: u64) -> Option<u64> {
    let header = bytes.get(..LONGEST_HEADER)?;
    let in_one_sector =
        |message: &Message| offset / SECTOR == (offset + message.header_len - 1) / SECTOR;
    let led = Message::parse(bytes)
        .filter(|message| message.segment == segment && message.changes_a_page())
        .filter(in_one_sector)
        .filter(|message| {
            bytes.get(message.len..).is_some_and(|next| Message::read(next, segment).is_some())
        });
    let mended = (0..header.len() * 8).find_map(|bit| {
        let mut copy = bytes.to_vec();
        *copy.get_mut(bit / 8)? ^= 1 << (bit % 8);
        Message::read(&copy, segment).filter(Message::changes_a_page)
    });
    mended.or(led).map(|message| message.page)
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Bytes, Engine, TreeWrites};
    use super::super::tests::copy;
    use super::*;

    #[test]
    fn the_header_of_a_segment_is_read_as_sled_writes_it() {
        let header = |base: i64, stable: i64| {
            let rest =
                [(base ^ i64::MAX).to_le_bytes(), (stable ^ i64::MAX).to_le_bytes()].concat();
            [(!crc32fast::hash(&rest)).to_le_bytes().as_slice(), &rest].concat()
        };
        let read = |bytes: Vec<u8>| segment_header(bytes.try_into().unwrap());
        assert_eq!(read(header(0, -1)), Some((0, 0)), "nothing is stable yet");
        assert_eq!(read(header(1 << 19, 77)), Some((1 << 19, 77)));
        assert_eq!(header_of(1 << 19, 77).as_slice(), header(1 << 19, 77));
        assert_eq!(read(header(20, 77)), None);
        assert_eq!(read(header(-(1 << 19), 77)), None);
        let mut damaged = header(1 << 19, 77);
        damaged[9] ^= 1;
        assert_eq!(read(damaged), None);
    }

    #[test]
    fn numbers_are_read_as_sled_writes_them() {
        let cases: [(&[u8], u64); 8] = [
            (&[0], 0),
            (&[240], 240),
            (&[241, 1], 241),
            (&[248, 255], 2_287),
            (&[249, 0, 0], 2_288),
            (&[249, 255, 255], 67_823),
            (&[250, 0xf0, 0x08, 0x01], 67_824),
            (&[255, 1, 0, 0, 0, 0, 0, 0, 0x80], 0x8000_0000_0000_0001),
        ];
        for (stored, value) in cases {
            let long = [stored, b"rest"].concat();
            assert_eq!(number(&long), Some((value, b"rest".as_slice())), "{stored:?}");
            assert_eq!(number(&stored[..stored.len() - 1]), None, "{stored:?}");
        }
    }

    /// A message of segment 7 about page 5, of which sled's checksum is right.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let header = [kind, u8::try_from(body.len()).unwrap(), 7, 5];
        let checksum = !crc32fast::hash(&[body, header.as_slice()].concat());
        [&checksum.to_le_bytes(), header.as_slice(), body].concat()
    }

    #[test]
    fn a_message_is_read_only_if_it_is_whole_and_of_its_segment() {
        let bytes = message(8, b"a page");
        let read = Message::read(&bytes, 7).unwrap();
        assert_eq!((read.kind, read.page, read.len), (8, 5, bytes.len()));
        assert!(read.replaces());
        assert_eq!(Message::read(&bytes, 8), None);
        assert_eq!(Message::read(&bytes[..bytes.len() - 1], 7), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Message::read(&flipped, 7), None, "{bit}");
        }
    }

    #[test]
    fn the_page_of_a_flipped_message_is_known() {
        let pair = [message(10, b"an addition to it"), message(8, b"next"), vec![0; 64]].concat();
        for bit in 0..message(10, b"an addition to it").len() * 8 {
            let mut flipped = pair.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(illegible(&flipped, 1024, 7), Some(5), "{bit}");
        }
    }

    fn copied(from: &Path) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        copy(from, to.path());
        to
    }

    fn header_at(generation: &Path, at: u64) -> Option<(Lsn, Lsn)> {
        let mut header = [0; SEGMENT_HEADER];
        open_log(generation).unwrap().read_exact_at(&mut header, at).unwrap();
        segment_header(header)
    }

    /// A database of which the next opening frees the first segment, while the second one
    /// says that the log was stable up to somewhere in the first; and what was put last.
    fn outgrown() -> (tempfile::TempDir, u32) {
        let folder = tempfile::tempdir().unwrap();
        let mut last: u32 = 0;
        for life in 0..20u8 {
            let engine = Engine::open(folder.path(), 1 << 20).unwrap();
            let tree = engine.tree(b"rows").unwrap();
            engine.tree(&[life]).unwrap();
            for _ in 0..60 {
                last += 1;
                let value = [last.to_be_bytes().as_slice(), &[7; 1_000]].concat();
                tree.insert(b"key", value.into()).unwrap();
                engine.flush().unwrap();
            }
            drop((tree, engine));
            let next = copied(folder.path());
            assert_eq!(last_in(next.path()), Some(last));
            if header_at(next.path(), 0).is_none() {
                return (folder, last);
            }
        }
        panic!("the first segment is never free")
    }

    /// As sled does with it when it opens, before the snapshot is durable that says so.
    fn freed(generation: &Path) {
        open_log(generation).unwrap().write_all_at(&[0; SEGMENT], 0).unwrap();
        snapshots(generation).unwrap().iter().for_each(|path| fs::remove_file(path).unwrap());
    }

    fn last_in(generation: &Path) -> Option<u32> {
        let engine = Engine::open(generation, 1 << 20).unwrap();
        let value = engine.tree(b"rows").unwrap().get(b"key").unwrap()?;
        value.first_chunk().map(|number| u32::from_be_bytes(*number))
    }

    #[test]
    fn a_cut_within_an_opening_that_frees_the_segment_before_the_last_loses_nothing() {
        let (folder, last) = outgrown();
        let (base, stable) = header_at(folder.path(), SEGMENT as u64).unwrap();
        assert!((1..base).contains(&stable), "the last says so of the one before: {stable}");
        let unprepared = copied(folder.path());
        freed(unprepared.path());
        assert_eq!(last_in(unprepared.path()), None, "what it is about");

        assert_eq!(inspect(folder.path()).unwrap(), Ok(()));
        assert_eq!(header_at(folder.path(), SEGMENT as u64), Some((base, base)));
        freed(folder.path());
        assert_eq!(inspect(folder.path()).unwrap(), Ok(()));
        assert_eq!(last_in(folder.path()), Some(last));
    }

    /// sled takes it back as a whole, from the segment on that it begins in.
    #[test]
    fn a_log_that_ends_in_a_torn_batch_ends_where_that_begins() {
        let (folder, _) = outgrown();
        let before = header_at(folder.path(), SEGMENT as u64);
        let file = open_log(folder.path()).unwrap();
        let mut log = Log::of(file, Snapshot::default()).unwrap();
        assert!(log.all_whole().unwrap());
        let end = log.end().unwrap().unwrap().lsn;
        assert!(end > SEGMENT as Lsn);
        log.batches.push(Batch { at: 400_000, last: end });
        let torn = log.end().unwrap().unwrap();
        assert_eq!(torn.lsn, 400_000);
        log.settle_end(torn.lsn).unwrap();
        assert_eq!(header_at(folder.path(), SEGMENT as u64), before);
        log.batches = vec![Batch { at: 400_000, last: end - 1 }];
        log.settle_end(log.end().unwrap().unwrap().lsn).unwrap();
        assert_ne!(header_at(folder.path(), SEGMENT as u64), before);
    }

    /// The one snapshot that is there: its name and all of its bytes.
    fn snapshot_in(generation: &Path) -> Option<(PathBuf, Vec<u8>)> {
        let mut paths = snapshots(generation).unwrap();
        let path = paths.pop()?;
        assert_eq!(paths, <[PathBuf; 0]>::default());
        let bytes = fs::read(&path).unwrap();
        Some((path.file_name().unwrap().into(), bytes))
    }

    fn rows_in(generation: &Path) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let engine = Engine::open(generation, 1 << 20).unwrap();
        let mut rows = Vec::new();
        for name in engine.tree_names() {
            let visit = |key: &[u8], value: &[u8]| {
                rows.push((name.to_vec(), key.to_vec(), value.to_vec()));
                Ok(true)
            };
            engine.tree(&name).unwrap().visit(b"", visit).unwrap();
        }
        rows
    }

    /// As a process that is killed at this moment leaves it. Answers whether the snapshot
    /// was made here, and that is the one that sled makes.
    fn is_indexed(folder: &Path) -> bool {
        let (here, sleds) = (copied(folder), copied(folder));
        assert_eq!(inspect(here.path()).unwrap(), Ok(()));
        let made = snapshot_in(here.path());
        let by_sled = rows_in(sleds.path());
        let its_own = snapshot_in(sleds.path());
        if made == its_own {
            assert_eq!(rows_in(here.path()), by_sled);
            assert_eq!(snapshot_in(here.path()), made, "sled takes it over");
            return true;
        }
        assert_eq!(made, snapshot_in(folder), "sled's alone, or none");
        false
    }

    #[test]
    fn the_snapshot_that_is_made_here_is_the_one_that_sled_makes() {
        let folder = tempfile::tempdir().unwrap();
        let mut drawn = 0u32;
        let mut below = |limit: u32| {
            drawn = drawn.wrapping_add(1);
            (drawn.wrapping_mul(2_654_435_761) >> 7) % limit
        };
        let mut left_to_sled = Vec::new();
        for life in 0..12u8 {
            if life % 3 != 0 {
                inspect(folder.path()).unwrap().unwrap();
            }
            let engine = Engine::open(folder.path(), 1 << 20).unwrap();
            for round in 0..60 {
                let name = below(4).to_be_bytes();
                let tree = engine.tree(&name).unwrap();
                let mut write = || {
                    let key = Bytes::from(&below(600).to_be_bytes());
                    let value = vec![life; below(2_000) as usize];
                    (key, (below(3) > 0).then(|| value.into()))
                };
                let writes = (0..round).map(|_| write()).collect();
                Engine::apply(&[TreeWrites { tree, writes }]).unwrap();
                engine.flush().unwrap();
                if round == 30 && life % 2 == 0 {
                    engine.drop_tree(&name).unwrap();
                }
                if round % 20 == 7 && !is_indexed(folder.path()) {
                    left_to_sled.push((life, round));
                }
            }
        }
        assert_eq!(left_to_sled, []);
    }

    #[test]
    fn a_log_that_goes_on_behind_a_tear_is_left_to_sled() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), 1 << 20).unwrap();
        let tree = engine.tree(b"rows").unwrap();
        for number in 0..3_000u32 {
            tree.insert(&number.to_be_bytes(), vec![3; 700].into()).unwrap();
        }
        engine.flush().unwrap();
        let killed = copied(folder.path());
        assert!(is_indexed(killed.path()));
        let log = Log::of(open_log(killed.path()).unwrap(), Snapshot::default()).unwrap();
        let mut tail = log.segments.range(log.tail..).map(|(_, at)| *at);
        let first = tail.next().unwrap();
        assert!(tail.next().is_some(), "a segment behind it");
        log.file.write_all_at(&[0; SECTOR], first + SEGMENT as u64 / 2).unwrap();
        assert!(!is_indexed(killed.path()));
    }
}
