//! A vector that several threads fill.

use std::sync::Mutex;

/// Elements behind one lock.
const STRIPE: usize = 1 << 16;

/// A vector that threads fill at disjoint indices. Its stripes are locked one by one.
pub(super) struct Scatter<T> {
    stripes: Vec<Mutex<Vec<T>>>,
    len: usize,
}

impl<T: Copy> Scatter<T> {
    pub(super) fn new(values: Vec<T>) -> Self {
        let len = values.len();
        Scatter { stripes: values.chunks(STRIPE).map(|stripe| Mutex::new(stripe.to_vec())).collect(), len }
    }

    /// Writes consecutive elements, the first at index `at`.
    pub(super) fn write(&self, at: usize, values: impl IntoIterator<Item = T>) {
        let (mut index, mut held) = (at / STRIPE, None);
        for (target, value) in (at..).zip(values) {
            if held.is_none() || target / STRIPE != index {
                drop(held.take());
                index = target / STRIPE;
                held = Some(self.stripes[index].lock().expect("no thread panics while it holds a stripe"));
            }
            if let Some(stripe) = &mut held {
                stripe[target % STRIPE] = value;
            }
        }
    }

    pub(super) fn into_inner(self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.len);
        for stripe in self.stripes {
            all.extend(stripe.into_inner().expect("no thread panics while it holds a stripe"));
        }
        all
    }
}
