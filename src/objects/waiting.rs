//! Waits for a store, but no longer than the user does.

use std::pin::pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Threads for requests to the store.
const STORE_THREADS: usize = 2;
/// How often it is asked whether the user wants to stop.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long a request may go on after that: an upload that is under way withdraws what it sent.
const GRACE: Duration = Duration::from_secs(2);

/// The threads that talk to a store.
#[derive(Debug)]
pub(crate) struct StoreThreads(Option<Runtime>);

impl StoreThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub(crate) fn start() -> Result<StoreThreads> {
        let started = Builder::new_multi_thread().worker_threads(STORE_THREADS).enable_all().build();
        started.map(|runtime| StoreThreads(Some(runtime))).map_err(|e| {
            Error::runtime("the store's threads cannot be started")
                .expected(format!("{STORE_THREADS} threads beside the workers"))
                .found(e.to_string())
                .remedy("lower --threads, or raise the limit of processes and threads")
        })
    }

    /// Does work with the store, which a store that does not answer cannot hold up once the user wants to stop: then
    /// `stopped` fails.
    ///
    /// # Errors
    /// The work fails, or the user interrupts.
    pub(crate) fn wait<T>(&self, stopped: impl Fn() -> Result<()>, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime().block_on(async {
            let mut work = pin!(work);
            loop {
                if let Ok(done) = timeout(ASK_EVERY, work.as_mut()).await {
                    return done;
                }
                if let Err(stopped) = stopped() {
                    return match timeout(GRACE, work).await {
                        Ok(Ok(done)) => Ok(done),
                        _ => Err(stopped),
                    };
                }
            }
        })
    }

    /// Begins work that nobody waits for here.
    pub(super) fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime().spawn(work);
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("only the end takes the runtime")
    }
}

impl Drop for StoreThreads {
    fn drop(&mut self) {
        // A thread may wait for a name server; nobody waits for it.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
