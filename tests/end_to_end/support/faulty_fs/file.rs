//! A file as pages: what a reader sees, what is on the disk, and all that the
//! disk may hold of what was written since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::support::Random;

pub const PAGE: u64 = 4096;

/// `None` reads as zeros.
type Page = Option<Arc<[u8; PAGE as usize]>>;

/// States that something had since it was last synced: the kernel may have
/// written any of them, or none.
#[derive(Debug, Clone)]
struct Unsynced<T> {
    states: Vec<T>,
    /// Whether the next sync writes it. After a failed sync the kernel takes the
    /// page for clean: it is read as written, and no later sync writes it.
    dirty: bool,
}

#[derive(Debug, Clone, Default)]
pub struct File {
    size: u64,
    pages: BTreeMap<u64, Page>,
    synced_size: u64,
    synced_pages: BTreeMap<u64, Page>,
    unsynced_pages: BTreeMap<u64, Unsynced<Page>>,
    unsynced_sizes: Vec<u64>,
    /// Pages in the kernel's memory: reading them needs no disk.
    cached: BTreeSet<u64>,
}

impl File {
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it takes up.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Whether reading this asks the disk.
    pub fn is_cold(&self, offset: u64, length: u64) -> bool {
        let end = self.size.min(offset.saturating_add(length));
        (offset / PAGE..end.div_ceil(PAGE)).any(|number| !self.cached.contains(&number))
    }

    pub fn warm(&mut self, offset: u64, length: u64) {
        let end = self.size.min(offset.saturating_add(length));
        self.cached.extend(offset / PAGE..end.div_ceil(PAGE));
    }

    pub fn cool(&mut self) {
        self.cached.clear();
    }

    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(length));
        let mut found = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let within = (at % PAGE) as usize;
            let until = (end - at).min(PAGE - at % PAGE) as usize + within;
            match self.pages.get(&(at / PAGE)) {
                Some(Some(page)) => found.extend_from_slice(&page[within..until]),
                _ => found.resize(found.len() + until - within, 0),
            }
            at += (until - within) as u64;
        }
        found
    }

    /// Writes as much as `free` further pages hold; answers how much that was.
    pub fn write(&mut self, offset: u64, data: &[u8], mut free: u64) -> usize {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let number = at / PAGE;
            if !self.pages.contains_key(&number) {
                if free == 0 {
                    break;
                }
                free -= 1;
            }
            let within = (at % PAGE) as usize;
            let until = (within + data.len() - done).min(PAGE as usize);
            let mut page = match self.pages.get(&number) {
                Some(Some(page)) => **page,
                _ => [0; PAGE as usize],
            };
            page[within..until].copy_from_slice(&data[done..done + until - within]);
            self.put_page(number, Some(Arc::new(page)));
            done += until - within;
        }
        if done > 0 {
            self.put_size(self.size.max(offset + done as u64));
        }
        done
    }

    pub fn resize(&mut self, size: u64) {
        if size < self.size {
            let whole = size.div_ceil(PAGE);
            let gone: Vec<u64> = self.pages.range(whole..).map(|(number, _)| *number).collect();
            for number in gone {
                self.put_page(number, None);
                self.pages.remove(&number);
            }
            let within = (size % PAGE) as usize;
            if let Some(Some(page)) = self.pages.get(&(size / PAGE)) {
                let mut page = **page;
                page[within..].fill(0);
                self.put_page(size / PAGE, Some(Arc::new(page)));
            }
        }
        self.put_size(size);
    }

    fn put_page(&mut self, number: u64, page: Page) {
        let unsynced = self.unsynced_pages.entry(number);
        let unsynced = unsynced.or_insert_with(|| Unsynced { states: Vec::new(), dirty: true });
        unsynced.states.push(page.clone());
        unsynced.dirty = true;
        self.pages.insert(number, page);
        self.cached.insert(number);
    }

    fn put_size(&mut self, size: u64) {
        if size != self.size {
            self.size = size;
            self.unsynced_sizes.push(size);
        }
    }

    /// Makes what a reader sees durable.
    pub fn sync(&mut self) {
        let (pages, synced) = (&self.pages, &mut self.synced_pages);
        self.unsynced_pages.retain(|number, unsynced| {
            if unsynced.dirty {
                match pages.get(number) {
                    Some(page) => synced.insert(*number, page.clone()),
                    None => synced.remove(number),
                };
            }
            !unsynced.dirty
        });
        self.synced_size = self.size;
        self.unsynced_sizes.clear();
    }

    /// What a sync does that fails: nothing, and the pages count as clean.
    pub fn fail_sync(&mut self) {
        self.unsynced_pages.values_mut().for_each(|unsynced| unsynced.dirty = false);
    }

    /// How many pages and sizes are not durable.
    pub fn unsynced(&self) -> usize {
        self.unsynced_pages.len() + usize::from(!self.unsynced_sizes.is_empty())
    }

    /// What is left of it after a power cut. Each unsynced page, and the size,
    /// survives with a chance of one half; `None` is no chance.
    pub fn after_power_cut(&self, mut chance: Option<&mut Random>) -> Self {
        let mut pages = self.synced_pages.clone();
        let mut size = self.synced_size;
        if let Some(random) = &mut chance {
            for (number, Unsynced { states, .. }) in &self.unsynced_pages {
                if random.coin() {
                    let survivor = &states[random.below(states.len() as u64) as usize];
                    pages.insert(*number, survivor.clone());
                }
            }
            if !self.unsynced_sizes.is_empty() && random.coin() {
                size = self.unsynced_sizes[random.below(self.unsynced_sizes.len() as u64) as usize];
            }
        }
        pages.retain(|number, page| page.is_some() && *number < size.div_ceil(PAGE));
        // What lies behind the end of a file is not seen when it grows again.
        if let Some(Some(last)) = pages.get_mut(&(size / PAGE)) {
            Arc::make_mut(last)[(size % PAGE) as usize..].fill(0);
        }
        let (synced_size, synced_pages) = (size, pages.clone());
        Self { size, pages, synced_size, synced_pages, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(text: &[u8]) -> File {
        let mut file = File::default();
        file.write(0, text, u64::MAX);
        file.sync();
        file
    }

    fn all(file: &File) -> Vec<u8> {
        file.read(0, file.size())
    }

    #[test]
    fn what_was_synced_is_kept_and_what_was_not_is_lost() {
        let mut file = synced(b"kept");
        file.write(4, b" and lost", u64::MAX);
        file.write(0, b"K", u64::MAX);
        assert_eq!(all(&file), b"Kept and lost");
        assert_eq!(all(&file.after_power_cut(None)), b"kept");
        file.sync();
        assert_eq!(all(&file.after_power_cut(None)), b"Kept and lost");
        assert_eq!(file.unsynced(), 0);
    }

    #[test]
    fn each_unsynced_page_survives_on_its_own() {
        const PAGES: u64 = 64;
        let mut file = synced(&vec![1; (PAGES * PAGE) as usize]);
        file.write(0, &vec![2; (PAGES * PAGE) as usize], u64::MAX);
        let left = all(&file.after_power_cut(Some(&mut Random(7))));
        let survived = left.chunks(PAGE as usize).filter(|page| page[0] == 2).count();
        assert!((16..48).contains(&survived), "{survived} of {PAGES}");
        for page in left.chunks(PAGE as usize) {
            assert!(page.iter().all(|byte| *byte == page[0]), "a page is whole");
        }
    }

    #[test]
    fn a_size_may_survive_without_its_pages_and_pages_without_their_size() {
        let mut file = synced(b"");
        file.write(0, &vec![1; 2 * PAGE as usize], u64::MAX);
        let ends: std::collections::BTreeSet<Vec<u8>> =
            (0..200).map(|seed| all(&file.after_power_cut(Some(&mut Random(seed))))).collect();
        let page = |byte| vec![byte; PAGE as usize];
        let expected = [
            Vec::new(),
            [page(0), page(0)].concat(),
            [page(0), page(1)].concat(),
            [page(1), page(0)].concat(),
            [page(1), page(1)].concat(),
        ];
        assert_eq!(ends, expected.into());
    }

    #[test]
    fn a_page_written_twice_may_survive_in_either_state() {
        let mut file = synced(b"0");
        file.write(0, b"1", u64::MAX);
        file.write(0, b"2", u64::MAX);
        let ends: std::collections::BTreeSet<Vec<u8>> =
            (0..100).map(|seed| all(&file.after_power_cut(Some(&mut Random(seed))))).collect();
        assert_eq!(ends, [b"0", b"1", b"2"].map(|text| text.to_vec()).into());
    }

    #[test]
    fn a_cut_off_end_reads_as_zeros_when_the_file_grows_again() {
        let mut file = synced(b"0123456789");
        file.resize(4);
        file.resize(6);
        assert_eq!(all(&file), b"0123\0\0");
        assert_eq!(all(&file.after_power_cut(None)), b"0123456789");
        file.sync();
        assert_eq!(all(&file.after_power_cut(None)), b"0123\0\0");
        file.resize(0);
        file.write(PAGE, b"behind a hole", u64::MAX);
        assert_eq!(file.pages(), 1);
        assert_eq!(file.read(PAGE - 1, 7), b"\0behind"[..7]);
    }

    #[test]
    fn after_a_failed_sync_no_later_one_writes_what_it_should_have() {
        let mut file = synced(b"old");
        file.write(0, b"new", u64::MAX);
        file.fail_sync();
        file.sync();
        assert_eq!(all(&file), b"new", "the kernel's cache shows it");
        assert_eq!(all(&file.after_power_cut(None)), b"old", "and the disk does not have it");
        file.write(0, b"new", u64::MAX);
        file.sync();
        assert_eq!(all(&file.after_power_cut(None)), b"new", "written again, it is synced");
    }

    #[test]
    fn a_write_ends_where_the_space_does() {
        let mut file = File::default();
        assert_eq!(file.write(0, &vec![1; 3 * PAGE as usize], 2), 2 * PAGE as usize);
        assert_eq!(file.size(), 2 * PAGE);
        assert_eq!(file.write(2 * PAGE, b"x", 0), 0);
        assert_eq!(file.write(0, &vec![2; 2 * PAGE as usize], 0), 2 * PAGE as usize);
    }
}
