//! Background work on a thread of its own: decrypting a whole store takes long, and no
//! request should wait for it.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::failure::CliError;
use super::internal;

pub(super) struct Aside {
    name: &'static str,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Aside {
    pub(super) fn start<F: Future<Output = ()>>(
        name: &'static str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(internal)?;
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = stopped => {}
                    () = work() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        Ok(Self { name, stop, thread: thread.map_err(internal)? })
    }

    /// Breaks off what is under way.
    pub(super) async fn stop(self) {
        let Self { name, stop, thread } = self;
        // It may have ended by itself.
        let _ = stop.send(());
        if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
            log::error!("the thread '{name}' panicked");
        }
    }
}
