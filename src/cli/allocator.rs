//! The program's allocator: the system's, and nothing that is freed keeps its contents.
//!
//! What holds plaintext or a key here is wiped by its type. What libraries hold of it
//! is not: the buffers that a connection reads into and writes from, those of TLS, key
//! schedules, texts that serde put together. All of it goes through here when it is freed,
//! or when it grows and leaves its old place.

use std::alloc::{GlobalAlloc, Layout, System};

/// Wipes what is freed.
pub struct WipingAllocator;

#[expect(
    unsafe_code,
    reason = "an allocator can be written in no other way; this one passes everything on and \
              only adds that a block is overwritten before it is given back"
)]
// SAFETY: every block is one of the system's allocator, with the layout that it was asked
// for. `realloc` is the trait's own, which allocates, copies and calls `dealloc`: a block
// that grew in place would be as good, but one that moved would leave a copy.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up a live block of this layout, so all of its bytes may be
        // written. explicit_bzero(3) is not removed as a write that nobody reads.
        unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "an allocator is called by hand")]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_grew_holds_what_it_held() {
        let layout = Layout::from_size_align(4096, 8).unwrap();
        // SAFETY: the layout is not empty; the block is freed once, with its layout.
        unsafe {
            let block = WipingAllocator.alloc_zeroed(layout);
            assert!(!block.is_null());
            block.write_bytes(0xa5, layout.size());
            let grown = WipingAllocator.realloc(block, layout, 8192);
            assert!((0..4096).all(|at| *grown.add(at) == 0xa5));
            WipingAllocator.dealloc(grown, Layout::from_size_align(8192, 8).unwrap());
        }
    }
}
