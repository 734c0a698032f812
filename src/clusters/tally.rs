//! Sums by label over one row's arcs: a small open-addressing table that is emptied in O(labels seen).

/// Sums by label. Holds 9 bytes for each slot, 2 to 4 slots for each arc of the largest row seen.
#[derive(Debug, Default)]
pub struct Tally {
    slots: Vec<(u32, i32)>,
    /// One more than the number that a label was marked with, by slot.
    marks: Vec<u8>,
    seen: Vec<u32>,
    /// Slots in use − 1: a row of few labels keeps to few cache lines, whatever rows came before.
    mask: usize,
}

const EMPTY: u32 = u32::MAX;

impl Tally {
    /// Empties the table and makes room for `labels` labels.
    pub fn reset(&mut self, labels: usize) {
        for slot in self.seen.drain(..) {
            self.slots[slot as usize].0 = EMPTY;
            self.marks[slot as usize] = 0;
        }
        let wanted = (2 * labels).next_power_of_two().max(64);
        if self.slots.len() < wanted {
            self.slots.resize(wanted, (EMPTY, 0));
            self.marks.resize(wanted, 0);
        }
        self.mask = wanted - 1;
    }

    /// Adds to a label's sum, and returns its slot. At most as many labels as [`Tally::reset`] was told.
    #[inline]
    pub fn add(&mut self, label: u32, weight: i32) -> u32 {
        let slot = self.find(label);
        if self.slots[slot].0 == EMPTY {
            self.slots[slot] = (label, 0);
            self.seen.push(slot as u32);
        }
        let sum = &mut self.slots[slot].1;
        *sum = sum.saturating_add(weight);
        slot as u32
    }

    /// Marks a label that was seen with a number.
    pub fn mark(&mut self, label: u32, number: u8) {
        let slot = self.find(label);
        self.marks[slot] = number + 1;
    }

    /// The number that a slot's label was marked with.
    #[inline]
    pub fn marked(&self, slot: u32) -> Option<u8> {
        self.marks[slot as usize].checked_sub(1)
    }

    /// A label's sum.
    #[inline]
    pub fn get(&self, label: u32) -> i32 {
        match self.slots[self.find(label)] {
            (EMPTY, _) => 0,
            (_, sum) => sum,
        }
    }

    /// (label, sum), in the order in which labels were first seen.
    pub fn iter(&self) -> impl Iterator<Item = (u32, i32)> + '_ {
        self.seen.iter().map(|slot| self.slots[*slot as usize])
    }

    #[inline]
    fn find(&self, label: u32) -> usize {
        let mask = self.mask;
        // Fibonacci hashing: neighbouring labels spread over the table.
        let mut slot = (u64::from(label).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask;
        while self.slots[slot].0 != label && self.slots[slot].0 != EMPTY {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_a_map(rounds in proptest::collection::vec(proptest::collection::vec((0u32..50, -9i32..9), 1..80), 1..5)) {
            let mut tally = Tally::default();
            for round in rounds {
                tally.reset(round.len());
                let mut wanted = std::collections::BTreeMap::<u32, i32>::new();
                for (label, weight) in &round {
                    let slot = tally.add(*label, *weight);
                    prop_assert_eq!(tally.marked(slot), None);
                    *wanted.entry(*label).or_default() += weight;
                }
                tally.mark(round[0].0, 7);
                prop_assert_eq!(tally.marked(tally.find(round[0].0) as u32), Some(7));
                let mut found: Vec<_> = tally.iter().collect();
                found.sort_unstable();
                prop_assert_eq!(found, wanted.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
                prop_assert!((0..50).all(|label| tally.get(label) == wanted.get(&label).copied().unwrap_or(0)));
            }
        }
    }
}
