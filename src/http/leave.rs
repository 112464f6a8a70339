//! The end of a server, without a request that fails.
//!
//! actix drops what its workers have accepted and not begun when it is told to stop, and
//! waits for connections that are merely kept alive until its patience is at an end. So
//! it is told last: first every answer says that it is its connection's last one, while
//! new connections are still taken; then no more are accepted and the listening socket is
//! closed, in which they wait where somebody else has it open; then what is silent is ended.

use std::pin::pin;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;

use super::idle::Watch;

/// How long connections may take to end with their next answer. Nobody waits for it:
/// new ones are served meanwhile.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// A connection without a word for so long has no request on the way. That a client
/// begins one in the very moment cannot be told; by HTTP it may send that again, as on
/// any connection that was kept alive.
const SILENT: Duration = Duration::from_millis(500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// What was accepted last is among the connections after this.
const SETTLED: Duration = Duration::from_millis(100);

/// Ends the server when there is no connection left, or after `patience`.
pub(super) async fn leave(handle: &ServerHandle, watch: &Watch, patience: Duration) {
    let begun = Instant::now();
    watch.leave();
    let present = watch.present();
    while !present.are_gone() && begun.elapsed() < LAST_ANSWERS.min(patience) {
        tokio::time::sleep(LOOK).await;
    }
    handle.pause().await;
    // What was accepted has begun by then.
    tokio::time::sleep(SETTLED).await;
    let mut stopping = pin!(handle.stop(true));
    while begun.elapsed() < patience {
        watch.end_silent(SILENT);
        if tokio::time::timeout(LOOK, &mut stopping).await.is_ok() {
            return;
        }
    }
}
