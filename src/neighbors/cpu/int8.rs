//! Eight bits a value, with a certificate: who is ruled out cannot be among the best.
//!
//! A unit vector is rotated ([`Rotation`]; or left as it is) and cut into a *head* and a *tail*. Each part is
//! quantised as s·q + r with whole numbers q in ±127; the scale s is its own, and the norm e of the residual
//! r and the part's length l are kept. Then |x·y − s_x s_y q_x·q_y| ≤ e_x (l_y + e_y) + l_x e_y in each part.
//!
//! The kernel scores heads. A pair whose head's score, with the most that the tails can add (l_x l_y, by
//! Cauchy and Schwarz), cannot reach the floor is ruled out; for the few others the tails are scored as well.
//! Sums of bytes are exact; the byte instruction takes one side unsigned, so base rows are stored as q + 128
//! and the sums begin at −128 Σ q_x.
//!
//! Memory: 1 byte a value, rows rounded up to whole groups (6) or panels (64).

use super::packed::PackedBase;
use super::quantise::{Cut, PanelFacts, Part, QueryLine, STEP, TailLine, load, quantise, sum_of};
use super::simd_int8::{self, HeadHits, Heads, Int8Panel, Tails};
use super::{GROUP, Left, PANEL, Scores, Simd, TileKernel, UnitRows, underflow};
use crate::neighbors::rotation::Rotation;
use crate::vectors::RowId;
use crate::vectors::dot::prefetch;

/// The kernel: byte dot products.
#[derive(Debug, Clone, Copy)]
pub struct Int8(pub Simd);

/// What is known of a query. Without a query all is zero: nothing reaches its threshold.
#[derive(Debug, Clone, Copy, Default)]
struct QueryFacts {
    /// Norm (1 for cosine).
    norm: f64,
    head: Part,
    tail: Part,
}

/// What is known of a group of queries, side by side for the kernels; two places are not used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupFacts {
    /// Norm (1 for cosine).
    norms: [f64; 8],
    /// 1 / norm, and 1 / (norm · scale) of the heads.
    inverses: [[f64; 8]; 2],
    /// Of heads and of tails.
    residuals: [[f64; 8]; 2],
    lengths: [[f64; 8]; 2],
}

/// Quantised queries, one after the other.
#[derive(Debug, Clone)]
pub struct Quantised {
    heads: Vec<[i8; STEP]>,
    tails: Vec<QueryLine>,
    /// −128 Σ q of each part.
    starts: Vec<[i32; 2]>,
    facts: Vec<QueryFacts>,
    cut: Cut,
    slack: f64,
}

impl Quantised {
    /// Quantises rows, on this thread. `unit`: the metric ignores norms (cosine).
    pub fn new(source: &impl UnitRows, rows: &[RowId], rotation: Option<&Rotation>, unit: bool) -> Quantised {
        let cut = Cut::new(source.dim(), rotation);
        let (mut values, norms) = load(source, rows, rotation);
        let mut heads = vec![[0i8; STEP]; rows.len() * cut.steps()];
        let mut tails: Vec<QueryLine> = vec![bytemuck::Zeroable::zeroed(); rows.len() * cut.lines()];
        let (mut starts, mut facts) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for (index, (values, norm)) in values.chunks_exact_mut(cut.dim).zip(norms).enumerate() {
            let norm = if unit { 1.0 } else { norm };
            let (head_values, tail_values) = values.split_at_mut(cut.head);
            let bytes: &mut [i8] = bytemuck::cast_slice_mut(&mut heads[index * cut.steps()..][..cut.steps()]);
            let head = quantise(head_values, &mut bytes[..cut.head]);
            let lines: &mut [i8] = bytemuck::cast_slice_mut(&mut tails[index * cut.lines()..][..cut.lines()]);
            let tail = quantise(tail_values, &mut lines[..cut.dim - cut.head]);
            starts.push([-128 * sum_of(bytes), -128 * sum_of(lines)]);
            facts.push(QueryFacts { norm, head, tail });
        }
        let slack = rotation.map_or(0.0, Rotation::slack);
        Quantised { heads, tails, starts, facts, cut, slack }
    }

    /// Packs some of them in groups. O(count · dim) bytes are moved.
    pub fn gather(&self, slots: &[u32]) -> Int8Queries {
        let groups = slots.len().div_ceil(GROUP);
        let (steps, lines) = (self.cut.steps(), self.cut.lines());
        let mut queries = Int8Queries {
            heads: vec![[[0; STEP]; GROUP]; groups * steps],
            tails: vec![bytemuck::Zeroable::zeroed(); groups * GROUP * lines],
            starts: vec![[0; GROUP]; groups],
            tail_starts: vec![0; groups * GROUP],
            reaches: vec![[0.0; GROUP]; groups],
            facts: vec![QueryFacts::default(); groups * GROUP],
            group_facts: vec![GroupFacts::default(); groups],
            cut: self.cut,
            slack: self.slack,
        };
        for (index, slot) in slots.iter().map(|slot| *slot as usize).enumerate() {
            let (group, place, facts) = (index / GROUP, index % GROUP, &self.facts[slot]);
            [queries.starts[group][place], queries.tail_starts[index]] = self.starts[slot];
            queries.reaches[group][place] = ((facts.tail.length / f64::from(facts.head.scale)) as f32).next_up();
            queries.facts[index] = *facts;
            let group_facts = &mut queries.group_facts[group];
            group_facts.norms[place] = facts.norm;
            group_facts.inverses[0][place] = facts.norm.recip();
            group_facts.inverses[1][place] = (facts.norm * f64::from(facts.head.scale)).recip();
            for (index, part) in [facts.head, facts.tail].iter().enumerate() {
                (group_facts.residuals[index][place], group_facts.lengths[index][place]) = (part.residual, part.length);
            }
            let to = &mut queries.heads[group * steps..][..steps];
            for (group, step) in to.iter_mut().zip(&self.heads[slot * steps..][..steps]) {
                group[place] = *step;
            }
            queries.tails[index * lines..][..lines].copy_from_slice(&self.tails[slot * lines..][..lines]);
        }
        queries
    }
}

/// Some queries, packed in groups: heads `[group][step][GROUP]` of four bytes each, tails row by row.
#[derive(Debug, Clone)]
pub struct Int8Queries {
    heads: Vec<[[i8; STEP]; GROUP]>,
    tails: Vec<QueryLine>,
    starts: Vec<[i32; GROUP]>,
    tail_starts: Vec<i32>,
    /// The tail's length in units of the head's scale, rounded up.
    reaches: Vec<[f32; GROUP]>,
    facts: Vec<QueryFacts>,
    group_facts: Vec<GroupFacts>,
    cut: Cut,
    slack: f64,
}

impl Int8Queries {
    /// Bound of |similarity − score| of heads and tails together.
    #[inline]
    fn error(&self, query: usize, panel: &PanelFacts) -> f64 {
        let x = &self.facts[query];
        let head = x.head.residual * panel.head[0] + x.head.length * panel.head[1];
        let both = head + x.tail.residual * panel.tail[0] + x.tail.length * panel.tail[1];
        whole_error(both, self.slack, x.norm, panel.norm)
    }

    /// Scores the tails of those in `hits`, and leaves those whose score reaches the threshold. `scores` are the
    /// heads', in units of the head's scale; of those left they become whole, in units of the norm.
    #[inline]
    fn finish(
        &self,
        simd: Simd,
        query: usize,
        panel: Int8Panel<'_>,
        threshold: f32,
        hits: u64,
        scores: &mut [f32; PANEL],
    ) -> u64 {
        let (x, lines) = (&self.facts[query], self.cut.lines());
        let tails = Tails {
            query: &self.tails[query * lines..][..lines],
            start: self.tail_starts[query],
            rows: panel.tails,
            factors: panel.tail_factors,
            scales: [x.head.scale, x.tail.scale],
            threshold,
        };
        simd_int8::finish(simd, tails, hits, scores)
    }
}

/// What a relative bound is worth in similarities.
#[inline(always)]
fn whole_error(relative: f64, slack: f64, query_norm: f64, base_norm: f64) -> f64 {
    (relative * 1.000_001 + ROUNDINGS + slack) * query_norm * base_norm + underflow(query_norm, base_norm)
}

/// What heads' scores, with the most that the tails can add, must reach so that similarities can reach the
/// floors; and what whole scores must reach. Pure; compiled into each kernel.
#[inline(always)]
pub(crate) fn thresholds(x: &GroupFacts, y: &PanelFacts, slack: f64, floors: &[f32; GROUP]) -> [[f32; 8]; 2] {
    let mut thresholds = [[f32::INFINITY; 8]; 2];
    // A plain loop: closures would not be compiled for the kernel's registers.
    for i in 0..GROUP {
        let head = x.residuals[0][i] * y.head[0] + x.lengths[0][i] * y.head[1];
        let both = head + x.residuals[1][i] * y.tail[0] + x.lengths[1][i] * y.tail[1];
        let head_least = (f64::from(floors[i]) - whole_error(head, slack, x.norms[i], y.norm)) * x.inverses[1][i];
        let least = (f64::from(floors[i]) - whole_error(both, slack, x.norms[i], y.norm)) * x.inverses[0][i];
        // Below what the conversion to f32 can round up. Without a query this is NaN, which nothing reaches.
        thresholds[0][i] = (head_least - head_least.abs() * 1e-6 - f64::from(f32::MIN_POSITIVE)) as f32;
        thresholds[1][i] = (least - least.abs() * 1e-6 - f64::from(f32::MIN_POSITIVE)) as f32;
    }
    thresholds
}

impl TileKernel for Int8 {
    type Queries = Int8Queries;
    type Base = PackedBase;
    type Panel<'a> = Int8Panel<'a>;

    fn panel(base: &PackedBase, panel: usize) -> Int8Panel<'_> {
        base.panel(panel)
    }

    fn unit(queries: &Int8Queries, query: usize) -> f64 {
        queries.facts[query].norm
    }

    #[inline]
    fn error(queries: &Int8Queries, query: usize, panel: Int8Panel<'_>) -> f64 {
        queries.error(query, panel.facts)
    }

    #[inline]
    fn score(
        self,
        queries: &Int8Queries,
        group: usize,
        panel: Int8Panel<'_>,
        floors: &[f32; GROUP],
        scores: &mut Scores,
    ) -> Left {
        let (first, steps) = (group * GROUP, queries.cut.steps());
        // Few lines of tails are wanted in order: the next panel's are asked for ahead of time. (Heads are read
        // front to back, which the machine foresees.)
        let share = panel.next_tails.len().div_ceil(queries.reaches.len());
        prefetch(bytemuck::cast_slice(panel.next_tails.chunks(share.max(1)).nth(group).unwrap_or(&[])));
        let heads = Heads {
            values: &queries.heads[group * steps..][..steps],
            starts: &queries.starts[group],
            reaches: &queries.reaches[group],
            facts: &queries.group_facts[group],
            slack: queries.slack,
        };
        let (mut hits, thresholds) = simd_int8::score(self.0, heads, panel, floors, scores);
        let mut singled = 0;
        for (i, hits) in hits.iter_mut().enumerate() {
            if *hits != 0 {
                singled += hits.count_ones();
                *hits = queries.finish(self.0, first + i, panel, thresholds[i], *hits, &mut scores[i]);
            }
        }
        Left { hits, singled }
    }
}

/// Norm of a vector that was scaled to unit length and rounded to f32, at most.
pub(super) const LENGTH: f64 = 1.0 + 1e-7;
/// Relative error of what is rounded besides, in scores that are at most about 2 before they are scaled: the
/// unit vectors, the sums as f32, the products, their sum, the result.
const ROUNDINGS: f64 = 24.0 * f32::EPSILON as f64;

/// The reference.
pub(crate) fn score_scalar(q: Heads<'_>, p: Int8Panel<'_>, floors: &[f32; GROUP], scores: &mut Scores) -> HeadHits {
    let [thresholds, whole] = thresholds(q.facts, p.facts, q.slack, floors);
    let mut hits = [0u64; GROUP];
    for i in 0..GROUP {
        let mut sums = [q.starts[i]; PANEL];
        for (query, quad) in q.values.iter().zip(p.quads) {
            for (sum, bytes) in sums.iter_mut().zip(&quad.0) {
                *sum += query[i].iter().zip(bytes).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum::<i32>();
            }
        }
        let row: [f32; PANEL] = std::array::from_fn(|column| sums[column] as f32 * p.factors[column]);
        for (column, score) in row.iter().enumerate() {
            let most = q.reaches[i].mul_add(p.bounds[column], *score);
            hits[i] |= u64::from(most >= thresholds[i]) << column;
        }
        if hits[i] != 0 {
            scores[i] = row;
        }
    }
    (hits, whole)
}

/// The reference.
pub(crate) fn finish_scalar(tails: Tails<'_>, mask: u64, scores: &mut [f32; PANEL]) -> u64 {
    finish_each(tails, mask, scores, |x, y| {
        let products = |(x, y): (&QueryLine, &TailLine)| -> i32 {
            x.0.iter().zip(&y.0).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum()
        };
        x.iter().zip(y).map(products).sum()
    })
}

/// Puts heads and tails together, given how tails are multiplied; compiled into each kernel.
#[inline(always)]
pub(crate) fn finish_each(
    tails: Tails<'_>,
    mask: u64,
    scores: &mut [f32; PANEL],
    multiply: impl Fn(&[QueryLine], &[TailLine]) -> i32,
) -> u64 {
    let (lines, mut left, mut rest) = (tails.query.len(), 0, mask);
    while rest != 0 {
        let column = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        let sum = tails.start + multiply(tails.query, &tails.rows[column * lines..][..lines]);
        let score = scores[column] * tails.scales[0] + sum as f32 * tails.factors[column] * tails.scales[1];
        scores[column] = score;
        left |= u64::from(score >= tails.threshold) << column;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbors::cpu::Matrix;
    use crate::neighbors::cpu::quantise::Quad;
    use crate::vectors::dot::dot;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};

    fn random(seed: u64) -> rand_chacha::ChaCha8Rng {
        rand_chacha::ChaCha8Rng::seed_from_u64(seed)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn simd_kernels_equal_the_reference(steps in 1usize..120, lines in 0usize..5, seed in any::<u64>()) {
            let mut random = random(seed);
            let values: Vec<[[i8; STEP]; GROUP]> =
                (0..steps).map(|_| std::array::from_fn(|_| std::array::from_fn(|_| random.random_range(-127..=127)))).collect();
            let quads: Vec<Quad> =
                (0..steps).map(|_| Quad(std::array::from_fn(|_| std::array::from_fn(|_| random.random_range(1..=255))))).collect();
            let mut floats = || std::array::from_fn(|_| random.random_range(0f32..1.0));
            let (factors, bounds, tail_factors): ([f32; PANEL], [f32; PANEL], [f32; PANEL]) = (floats(), floats(), floats());
            let starts = std::array::from_fn(|_| random.random_range(-1_000_000..1_000_000));
            let reaches = std::array::from_fn(|_| random.random_range(0.0..1e4f32));
            let floors = std::array::from_fn(|_| random.random_range(-1e5f32..1e5));
            let eight = |most: f64| [most; 8];
            let facts = GroupFacts { norms: eight(1.0), inverses: [eight(1.0); 2], residuals: [eight(0.01); 2], lengths: [eight(0.9); 2] };
            let panel_facts = PanelFacts { norm: 1.0, head: [1.0, 0.01], tail: [0.1, 0.001] };
            let q = Heads { values: &values, starts: &starts, reaches: &reaches, facts: &facts, slack: 1e-4 };
            let p = Int8Panel { quads: &quads, factors: &factors, bounds: &bounds, facts: &panel_facts, tails: &[], tail_factors: &tail_factors, next_tails: &[] };
            let tail: Vec<QueryLine> = (0..lines).map(|_| QueryLine(std::array::from_fn(|_| random.random_range(-127..=127)))).collect();
            let rows: Vec<TailLine> = (0..lines * PANEL).map(|_| TailLine(std::array::from_fn(|_| random.random_range(1..=255)))).collect();
            let tails = Tails { query: &tail, start: 77, rows: &rows, factors: &tail_factors, scales: [0.7, 0.3], threshold: 1e4 };
            let mask = random.random::<u64>();
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = score_scalar(q, p, &floors, &mut wanted);
            let mut whole = wanted[0];
            let left = finish_scalar(tails, mask, &mut whole);
            for simd in Simd::all() {
                let mut found = [[0f32; PANEL]; GROUP];
                prop_assert_eq!(simd_int8::score(simd, q, p, &floors, &mut found), hits);
                prop_assert_eq!(found, wanted);
                prop_assert_eq!(simd_int8::finish(simd, tails, mask, &mut found[0]), left);
                prop_assert_eq!(found[0], whole);
            }
        }

        #[test]
        fn nobody_who_reaches_the_floor_is_ruled_out(
            dim in 1usize..200, seed in any::<u64>(), spread in prop_oneof![Just(0f32), 0f32..90.0], dominant in any::<bool>(),
            cut in prop_oneof![Just(None), (0f64..1.0).prop_map(Some)], unit in any::<bool>(),
        ) {
            const ROWS: usize = 70;
            let mut random = random(seed);
            let mut values: Vec<f32> = (0..ROWS * dim)
                .map(|_| (random.random::<f32>() - 0.5) * (random.random::<f32>() * spread - spread / 2.0).exp2())
                .collect();
            for row in values.chunks_exact_mut(dim) {
                let largest = row.iter().fold(0f32, |most, value| most.max(value.abs()));
                row[0] = if dominant { 1e4 * largest } else { row[0] } + 1e-30;
            }
            let source = Matrix { values, dim };
            let rows: Vec<RowId> = (0..ROWS as RowId).collect();
            let simd = Simd::detect();
            let rotation = cut.map(|cut| Rotation::new(simd, &source, &rows, 1 + (cut * (dim - 1) as f64) as usize));
            let queries = Quantised::new(&source, &rows, rotation.as_ref(), unit).gather(&rows);
            let base = PackedBase::in_memory(&source, &rows, rotation.as_ref(), unit);
            let scale = |row: usize| if unit { dot(source.row(row), source.row(row)).sqrt().recip() } else { 1.0 };
            let truth: Vec<Vec<f64>> = (0..ROWS)
                .map(|x| (0..ROWS).map(|y| dot(source.row(x), source.row(y)) * scale(x) * scale(y)).collect())
                .collect();
            let mut scores = [[0f32; PANEL]; GROUP];
            for group in 0..ROWS.div_ceil(GROUP) {
                for panel in 0..2 {
                    let inside = GROUP.min(ROWS - group * GROUP);
                    // A floor that some reach and some do not: a pair's own similarity.
                    let column = random.random_range(0..if panel == 0 { PANEL } else { ROWS - PANEL });
                    let mut floors = [f32::INFINITY; GROUP];
                    for (i, floor) in floors[..inside].iter_mut().enumerate() {
                        *floor = (truth[group * GROUP + i][panel * PANEL + column] as f32).next_down();
                    }
                    let hits = Int8(simd).score(&queries, group, base.panel(panel), &floors, &mut scores).hits;
                    for i in 0..inside {
                        let query = group * GROUP + i;
                        let error = Int8::error(&queries, query, base.panel(panel));
                        for (column, truth) in truth[query][panel * PANEL..].iter().take(PANEL).enumerate() {
                            let hit = hits[i] >> column & 1 == 1;
                            prop_assert!(hit || *truth < f64::from(floors[i]), "{query} {column}: {truth} {}", floors[i]);
                            let score = f64::from(scores[i][column]) * Int8::unit(&queries, query);
                            prop_assert!(!hit || (score - truth).abs() <= error, "{score} {truth} {error}");
                        }
                    }
                }
            }
        }
    }
}
