//! The pieces of files that were fetched, or are under way: as many as fit into so many bytes, the latest ones used.
//!
//! Whoever wants a piece begins its request, or waits for one that another thread has begun.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::faults::again;
use super::waiting::ASK_EVERY;
use crate::error::{Error, Result};

/// A piece that is there, or will be.
#[derive(Debug, Default)]
pub(super) struct FetchedPiece {
    come: Mutex<Option<Result<Bytes>>>,
    ready: Condvar,
}

/// All pieces.
#[derive(Debug)]
pub(super) struct Blocks {
    held: Mutex<HeldPieces>,
    files: AtomicU64,
}

#[derive(Debug)]
struct HeldPieces {
    pieces: Vec<HeldPiece>,
    bytes: u64,
    most: u64,
    /// Grows with each use.
    clock: u64,
}

#[derive(Debug)]
struct HeldPiece {
    file: u64,
    range: Range<u64>,
    piece: Arc<FetchedPiece>,
    used: u64,
}

impl Blocks {
    /// Room for so many bytes.
    pub(super) fn new(most: u64) -> Blocks {
        let held = HeldPieces { pieces: Vec::new(), bytes: 0, most, clock: 0 };
        Blocks { held: Mutex::new(held), files: AtomicU64::new(0) }
    }

    /// A number for a file whose pieces will be held.
    pub(super) fn number(&self) -> u64 {
        self.files.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives it another size; what does not fit any more goes.
    pub(super) fn hold(&self, most: u64) {
        let mut held = lock(&self.held);
        held.most = most;
        held.make_room(0);
    }

    /// The piece in which a byte lies. Where none is held, `begin` is told to fetch `range`.
    pub(super) fn piece(
        &self,
        (file, at): (u64, u64),
        range: Range<u64>,
        begin: impl FnOnce(Arc<FetchedPiece>),
    ) -> (Range<u64>, Arc<FetchedPiece>) {
        let mut held = lock(&self.held);
        if let Some(found) = held.find(file, at) {
            return found;
        }
        held.make_room(range.end - range.start);
        let piece = held.add(file, range.clone());
        drop(held);
        begin(piece.clone());
        (range, piece)
    }

    /// Begins to fetch a piece that will be wanted, if it is not held and there is room.
    pub(super) fn ahead(&self, file: u64, range: Range<u64>, begin: impl FnOnce(Arc<FetchedPiece>)) {
        let mut held = lock(&self.held);
        if held.find(file, range.start).is_some() || !held.make_room(range.end - range.start) {
            return;
        }
        let piece = held.add(file, range);
        drop(held);
        begin(piece);
    }
}

impl HeldPieces {
    fn find(&mut self, file: u64, at: u64) -> Option<(Range<u64>, Arc<FetchedPiece>)> {
        self.clock += 1;
        let found = self.pieces.iter_mut().find(|held| held.file == file && held.range.contains(&at))?;
        found.used = self.clock;
        Some((found.range.clone(), found.piece.clone()))
    }

    fn add(&mut self, file: u64, range: Range<u64>) -> Arc<FetchedPiece> {
        self.clock += 1;
        self.bytes += range.end - range.start;
        let piece = Arc::new(FetchedPiece::default());
        self.pieces.push(HeldPiece { file, range, piece: piece.clone(), used: self.clock });
        piece
    }

    /// Drops pieces that came until so many bytes fit; false where they do not.
    fn make_room(&mut self, bytes: u64) -> bool {
        while self.bytes + bytes > self.most {
            let came = self.pieces.iter().enumerate().filter(|(_, held)| held.piece.is_there());
            let Some((oldest, _)) = came.min_by_key(|(_, held)| held.used) else { return false };
            let gone = self.pieces.swap_remove(oldest);
            self.bytes -= gone.range.end - gone.range.start;
        }
        true
    }
}

impl FetchedPiece {
    /// Puts in what came.
    pub(super) fn put(&self, come: Result<Bytes>) {
        *lock(&self.come) = Some(come);
        self.ready.notify_all();
    }

    fn is_there(&self) -> bool {
        lock(&self.come).is_some()
    }

    /// Waits for the bytes; `stopped` is asked meanwhile, and may end the waiting.
    ///
    /// # Errors
    /// They cannot be fetched, or the waiting was ended.
    pub(super) fn wait(&self, stopped: impl Fn() -> Result<()>) -> Result<Bytes> {
        let mut come = lock(&self.come);
        loop {
            match &*come {
                Some(Ok(bytes)) => return Ok(bytes.clone()),
                Some(Err(error)) => return Err(again(error)),
                None => stopped()?,
            }
            come = self.ready.wait_timeout(come, ASK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// No state behind these locks is ever left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first error of a file, which all later readers get.
#[derive(Debug, Default)]
pub(super) struct FileFault(Mutex<Option<Error>>);

impl FileFault {
    /// Keeps an error, if it is the first; it stays the caller's.
    pub(super) fn keep(&self, error: Error) -> Error {
        lock(&self.0).get_or_insert_with(|| again(&error));
        error
    }

    pub(super) fn get(&self) -> Option<Error> {
        lock(&self.0).as_ref().map(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(blocks: &Blocks, at: u64, asked: &mut Vec<u64>) -> Bytes {
        let range = at / 10 * 10..at / 10 * 10 + 10;
        let begin = |piece: Arc<FetchedPiece>| {
            asked.push(range.start);
            piece.put(Ok(Bytes::from(vec![range.start as u8; 10])));
        };
        blocks.piece((0, at), range.clone(), begin).1.wait(|| Ok(())).unwrap()
    }

    #[test]
    fn the_latest_pieces_are_held_and_no_more_bytes_than_said() {
        let blocks = Blocks::new(20);
        let mut asked = Vec::new();
        for at in [0, 5, 12, 3, 25, 9, 11] {
            assert_eq!(take(&blocks, at, &mut asked)[0], (at / 10 * 10) as u8);
            assert!(blocks.held.lock().unwrap().bytes <= 20);
        }
        assert_eq!(asked, [0, 10, 20, 10], "the one from 10 had to go for that from 20");
        blocks.hold(0);
        assert_eq!(blocks.held.lock().unwrap().bytes, 0);
    }

    #[test]
    fn nothing_is_fetched_ahead_where_all_room_is_waited_for() {
        let blocks = Blocks::new(10);
        let (_, piece) = blocks.piece((0, 0), 0..10, |_| ());
        blocks.ahead(0, 10..20, |_| panic!("there is no room"));
        piece.put(Ok(Bytes::new()));
        let mut begun = false;
        blocks.ahead(0, 10..20, |_| begun = true);
        assert!(begun);
        let stopped = || Err(Error::runtime("stopped"));
        let waiting = blocks.piece((0, 12), 10..20, |_| panic!("it is under way"));
        assert!(waiting.1.wait(stopped).unwrap_err().to_string().contains("stopped"));
    }
}
