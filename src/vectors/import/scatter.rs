//! A vector that threads fill at disjoint places: locked stripe by stripe.

use std::sync::Mutex;

/// A vector that threads fill at disjoint places.
pub(super) struct Scatter<T>(Vec<Mutex<Vec<T>>>, usize);

/// Elements behind one lock.
const STRIPE: usize = 1 << 16;

impl<T: Copy> Scatter<T> {
    pub(super) fn new(values: Vec<T>) -> Self {
        let len = values.len();
        Scatter(values.chunks(STRIPE).map(|stripe| Mutex::new(stripe.to_vec())).collect(), len)
    }

    pub(super) fn write(&self, at: usize, values: impl IntoIterator<Item = T>) {
        let (mut index, mut held) = (at / STRIPE, None);
        for (place, value) in (at..).zip(values) {
            if held.is_none() || place / STRIPE != index {
                drop(held.take());
                index = place / STRIPE;
                held = Some(self.0[index].lock().expect("no thread panics while it holds a stripe"));
            }
            if let Some(stripe) = &mut held {
                stripe[place % STRIPE] = value;
            }
        }
    }

    pub(super) fn into_inner(self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.1);
        for stripe in self.0 {
            all.extend(stripe.into_inner().expect("no thread panics while it holds a stripe"));
        }
        all
    }
}
