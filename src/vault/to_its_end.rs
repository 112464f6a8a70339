//! Work that ends whether or not somebody waits for it.
//!
//! A client that closes its connection takes the future of its request along, which
//! may be between a commit and what must follow it. A task for each work would
//! outlive that, at the cost of a task for all whose clients wait. So work is done
//! where it is waited for, and only what is left of it when nobody waits any more
//! becomes a task.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::runtime::Handle;

use crate::store::StoreError;

type Work<T, E> = Pin<Box<dyn Future<Output = Result<Result<T, E>, Box<dyn Any + Send>>> + Send>>;

/// Does `work`, and what is left of it even if this is dropped.
pub(super) fn to_its_end<T, E>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> ToItsEnd<T, E>
where
    T: 'static,
    E: From<StoreError> + 'static,
{
    ToItsEnd { work: Box::pin(AssertUnwindSafe(work).catch_unwind()), state: State::Fresh }
}

pub(super) struct ToItsEnd<T: 'static, E: 'static> {
    work: Work<T, E>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was done yet, and nothing needs to be.
    Fresh,
    Begun,
    Ended,
}

impl<T, E: From<StoreError>> Future for ToItsEnd<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.state = State::Begun;
        self.work.as_mut().poll(context).map(|outcome| {
            self.state = State::Ended;
            // A panic leaves the outcome open.
            outcome.unwrap_or_else(|_| Err(StoreError::Unknown.into()))
        })
    }
}

impl<T: 'static, E: 'static> Drop for ToItsEnd<T, E> {
    fn drop(&mut self) {
        // Without a runtime, or with one that shuts down, the process ends.
        if self.state == State::Begun
            && let Ok(runtime) = Handle::try_current()
        {
            let rest = std::mem::replace(&mut self.work, Box::pin(std::future::pending()));
            runtime.spawn(rest.map(drop));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    type Outcome = Result<u8, StoreError>;

    #[tokio::test]
    async fn what_was_begun_ends_though_nobody_waits() {
        let (go, gate) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let mut work = to_its_end(async move {
            gate.await.map_err(|_| StoreError::Unknown)?;
            ended.send(()).map_err(|()| StoreError::Unknown)?;
            Outcome::Ok(1)
        });
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        go.send(()).unwrap();
        end.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_not_begun_never_is() {
        let (ended, end) = oneshot::channel::<()>();
        drop(to_its_end(async move {
            ended.send(()).map_err(|()| StoreError::Unknown)?;
            Outcome::Ok(1)
        }));
        assert!(end.await.is_err());
    }

    #[tokio::test]
    async fn a_panic_leaves_the_outcome_open() {
        let outcome: Outcome = to_its_end(async { panic!("of the work") }).await;
        assert_eq!(outcome, Err(StoreError::Unknown));
    }

    #[test]
    fn without_a_runtime_the_rest_is_dropped() {
        let mut work = to_its_end(std::future::pending::<Outcome>());
        assert!((&mut work).now_or_never().is_none());
        drop(work);
    }
}
