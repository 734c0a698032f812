//! polars' streaming engine, called in two ways, and its failures in this project's words.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use polars::prelude::*;

use crate::error::{Error, Result};

/// Runs a frame and hands its pieces over as they come, in the frame's order where that is asked for. What
/// `step` makes of them is returned; the pieces themselves are gone. Memory: the pieces in flight.
///
/// # Errors
/// `step` fails, or a file cannot be read.
pub fn fold<S: Send + 'static>(
    frame: LazyFrame,
    in_order: bool,
    state: S,
    step: impl Fn(&mut S, DataFrame) -> Result<()> + Send + Sync + 'static,
) -> Result<S> {
    let shared = Arc::new(Mutex::new((Some(state), Ok(()))));
    let inner = shared.clone();
    let take = move |piece: DataFrame| {
        let mut held = inner.lock().expect("a step does not panic");
        let (state, outcome) = &mut *held;
        if let (Some(state), Ok(())) = (state, &outcome) {
            *outcome = step(state, piece);
        }
        Ok(outcome.is_err())
    };
    let frame = frame.sink_batches(PlanCallback::new(take), in_order, None).map_err(failed)?;
    let ran = guarded(|| frame.collect_with_engine(Engine::Streaming));
    let mut held = shared.lock().expect("a step does not panic");
    std::mem::replace(&mut held.1, Ok(()))?;
    ran?;
    Ok(held.0.take().expect("the state is taken once"))
}

/// Runs a small frame and keeps its rows, in order.
///
/// # Errors
/// A file cannot be read.
pub fn collect(frame: LazyFrame) -> Result<DataFrame> {
    Ok(guarded(|| frame.collect_with_engine(Engine::Streaming))?.unwrap_single())
}

/// The engine panics on some damaged files; to us that is an error like any other.
fn guarded<T>(run: impl FnOnce() -> PolarsResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done.map_err(failed),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(unreadable(text.unwrap_or("a fault inside polars").to_owned()))
        }
    }
}

/// A failure of the engine.
pub fn failed(e: PolarsError) -> Error {
    unreadable(e.to_string())
}

fn unreadable(found: String) -> Error {
    Error::runtime("the rows cannot be joined to their texts")
        .expected("readable batch tables and sources")
        .found(found)
        .remedy("`batchmine verify RUN` checks the batch tables; read the sources with another program to check those")
}
