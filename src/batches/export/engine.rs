//! Two ways to run polars' streaming engine, and its failures as errors of this project.

use std::sync::{Arc, Mutex};

use polars::prelude::*;

use crate::error::{Error, Result};
use crate::guard::guarded_engine;

/// Runs a frame and folds `step` over its pieces as they come, in the frame's order if `in_order`. Returns the state.
/// Memory: the state and the pieces in flight.
///
/// # Errors
/// `step` fails, or a file cannot be read.
pub(crate) fn fold<S: Send + 'static>(
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

/// Runs a small frame and returns its rows, in order.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn collect(frame: LazyFrame) -> Result<DataFrame> {
    Ok(guarded(|| frame.collect_with_engine(Engine::Streaming))?.unwrap_single())
}

/// The engine panics on some damaged files; that becomes an error.
pub(crate) fn guarded<T>(run: impl FnOnce() -> PolarsResult<T>) -> Result<T> {
    guarded_engine(run).map_err(unreadable)?.map_err(failed)
}

pub(crate) fn failed(e: PolarsError) -> Error {
    unreadable(e.to_string())
}

/// The error of a file whose contents are impossible.
pub(crate) fn damaged(found: &str) -> Error {
    unreadable(found.to_owned())
}

fn unreadable(found: String) -> Error {
    Error::runtime("the rows cannot be joined to their texts")
        .expected("readable batch tables and sources")
        .found(found)
        .remedy("`batchmine verify RUN` checks the batch tables; read the sources with another program to check those")
}

/// The elements of all lists, and how many each has.
pub(crate) fn flattened(lists: &ListChunked) -> PolarsResult<(Vec<i64>, Vec<usize>)> {
    // Empty and null lists have no elements.
    let options = ExplodeOptions { empty_as_null: false, keep_nulls: false };
    let flat = lists.explode(options)?.i64()?.iter().map(|row| row.unwrap_or(-1)).collect();
    Ok((flat, lists.lst_lengths().iter().map(|count| count.unwrap_or(0) as usize).collect()))
}
