//! Wakes those whom sled forgets.
//!
//! When the last writer of a full buffer leaves it, sled 0.34.7 writes it on
//! another thread; and if that fails, it notes the error but wakes nobody
//! (`exit_reservation` of its logger.rs). A flush that waits for that buffer waits
//! for ever, and through the locks that it holds so does every database. But who
//! begins a flush after the error sees it and wakes all. So while one takes long,
//! others are begun beside it. It knows nothing of what is flushed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a work takes before somebody looks after it, at first; then twice as
/// long each time, since each look may itself have to wait.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(500);

type Again = Arc<dyn Fn() + Send + Sync>;

struct Watched {
    id: u64,
    due: Instant,
    patience: Duration,
    again: Again,
}

static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static WATCHER: Once = Once::new();

fn all() -> MutexGuard<'static, Vec<Watched>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the watch, after a panic too.
struct Watch(u64);

impl Drop for Watch {
    fn drop(&mut self) {
        all().retain(|watched| watched.id != self.0);
    }
}

/// Does `work`; while it takes long, `again` is called now and then on threads of
/// its own.
pub(super) fn watched<T>(again: impl Fn() + Send + Sync + 'static, work: impl FnOnce() -> T) -> T {
    WATCHER.call_once(|| {
        let watcher = thread::Builder::new().name("stalls".to_owned()).spawn(watch);
        if let Err(error) = watcher {
            log::error!("nobody looks after writes that stall: {error}");
        }
    });
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let due = Instant::now() + PATIENCE;
    all().push(Watched { id, due, patience: PATIENCE, again: Arc::new(again) });
    let _watch = Watch(id);
    work()
}

fn watch() {
    loop {
        thread::sleep(TICK);
        for again in overdue() {
            let look = thread::Builder::new().name("stall".to_owned()).spawn(move || again());
            if let Err(error) = look {
                log::error!("a write stalls, and nobody can look after it: {error}");
            }
        }
    }
}

fn overdue() -> Vec<Again> {
    let now = Instant::now();
    let mut overdue = Vec::new();
    for watched in all().iter_mut().filter(|watched| watched.due <= now) {
        watched.patience *= 2;
        watched.due = now + watched.patience;
        overdue.push(Arc::clone(&watched.again));
    }
    overdue
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_stalls_is_looked_after_and_what_is_quick_is_not() {
        let (wake, woken) = mpsc::channel();
        let quick = wake.clone();
        watched(move || quick.send("quick").unwrap(), || ());
        let again = move || wake.send("stalled").unwrap();
        let by = watched(again, || woken.recv_timeout(Duration::from_secs(60)));
        assert_eq!(by, Ok("stalled"));
    }
}
