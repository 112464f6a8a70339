//! The disk as the kernel sees it, over FUSE.
//!
//! Nothing is remembered by the kernel: names and attributes are good for no
//! time, and reads and writes bypass its page cache, so each of them comes here.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use super::disk::{Attributes, Disk, Kind, Number, Outcome, Owner};
use super::file::PAGE;
use super::{Before, Machine};

/// sled's largest write is its segment of 512 KiB.
const MAX_WRITE: u32 = 1 << 20;
const NO_TIME: Duration = Duration::ZERO;
const ONLY: Generation = Generation(0);

type Listing = Vec<(OsString, Number, FileType)>;

pub struct Front {
    machine: Arc<Machine>,
    /// Folders as they were when they were opened.
    listings: Mutex<HashMap<u64, Listing>>,
    next_listing: AtomicU64,
}

impl Front {
    pub fn new(machine: Arc<Machine>) -> Self {
        Self { machine, listings: Mutex::default(), next_listing: AtomicU64::new(0) }
    }

    /// Errors without power.
    fn look<T>(&self, act: impl FnOnce(&mut Disk) -> Outcome<T>) -> Result<T, Errno> {
        self.machine.look(act).map_err(Errno::from_i32)
    }

    /// As [`Front::look`], and counted as a step.
    fn change<T>(&self, act: impl FnOnce(&mut Disk) -> Outcome<T>) -> Result<T, Errno> {
        self.machine.change(Before::AnyStep, act).map_err(Errno::from_i32)
    }

    fn sync(&self, number: INodeNo) -> Result<(), Errno> {
        self.machine.change(Before::Sync, |disk| disk.sync(number.0)).map_err(Errno::from_i32)
    }

    fn made(
        &self,
        request: &Request,
        kind: Kind,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
    ) -> Result<FileAttr, Errno> {
        let owner = Owner { user: request.uid(), group: request.gid() };
        self.change(|disk| {
            let number = disk.make(kind, parent.0, name, mode as u16, owner)?;
            Ok(attributes(&disk.attributes(number)?))
        })
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Folder => FileType::Directory,
        Kind::Socket => FileType::Socket,
    }
}

fn attributes(of: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.number),
        size: of.size,
        blocks: of.pages * (PAGE / 512),
        atime: of.changed,
        mtime: of.changed,
        ctime: of.changed,
        crtime: of.changed,
        kind: file_type(of.kind),
        perm: of.mode,
        nlink: 1,
        uid: of.owner.user,
        gid: of.owner.group,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    }
}

fn answer(reply: ReplyEmpty, outcome: Result<(), Errno>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn answer_entry(reply: ReplyEntry, outcome: Result<FileAttr, Errno>) {
    match outcome {
        Ok(attributes) => reply.entry(&NO_TIME, &attributes, ONLY),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Front {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        config.set_max_write(MAX_WRITE).map_err(|_| std::io::Error::other("too large a write"))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.look(|disk| {
            let number = disk.find(parent.0, name)?;
            Ok(attributes(&disk.attributes(number)?))
        });
        answer_entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(|disk| disk.attributes(ino.0)) {
            Ok(found) => reply.attr(&NO_TIME, &attributes(&found)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let outcome = self.change(|disk| {
            if let Some(mode) = mode {
                disk.set_mode(ino.0, mode as u16)?;
            }
            if let Some(size) = size {
                disk.resize(ino.0, size)?;
            }
            disk.attributes(ino.0)
        });
        match outcome {
            Ok(found) => reply.attr(&NO_TIME, &attributes(&found)),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let made = match mode & libc::S_IFMT {
            libc::S_IFREG => self.made(request, Kind::File, parent, name, mode),
            libc::S_IFSOCK => self.made(request, Kind::Socket, parent, name, mode),
            _ => Err(Errno::EPERM),
        };
        answer_entry(reply, made);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        answer_entry(reply, self.made(request, Kind::Folder, parent, name, mode));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.made(request, Kind::File, parent, name, mode);
        let opened = made.and_then(|made| self.look(|disk| disk.open(made.ino.0)).map(|()| made));
        match opened {
            Ok(made) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NO_TIME, &made, ONLY, FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.change(|disk| disk.remove(Kind::File, parent.0, name)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.change(|disk| disk.remove(Kind::Folder, parent.0, name)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        answer(reply, self.change(|disk| disk.rename((parent.0, name), (newparent.0, newname))));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.look(|disk| disk.open(ino.0)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let closed = self.look(|disk| {
            disk.close(ino.0);
            Ok(())
        });
        answer(reply, closed);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.look(|disk| disk.read(ino.0, offset, size.into())) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|disk| disk.write(ino.0, offset, data)) {
            Ok(written) => reply.written(written as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.sync(ino));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.sync(ino));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listed = self.look(|disk| {
            let mut listing = vec![
                (OsString::from("."), ino.0, FileType::Directory),
                (OsString::from(".."), disk.parent(ino.0), FileType::Directory),
            ];
            for (name, number) in disk.entries(ino.0)? {
                listing.push((name, number, file_type(disk.attributes(number)?.kind)));
            }
            Ok(listing)
        });
        match listed {
            Ok(listing) => {
                let handle = self.next_listing.fetch_add(1, Ordering::Relaxed);
                let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
                listings.insert(handle, listing);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listing) = listings.get(&fh.0) else { return reply.error(Errno::EBADF) };
        for (at, (name, number, kind)) in listing.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner).remove(&fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.look(|disk| Ok(disk.space())) {
            Ok((all, free)) => {
                let page = PAGE as u32;
                reply.statfs(all, free, free, 1 << 20, 1 << 20, page, 255, page);
            }
            Err(error) => reply.error(error),
        }
    }
}
