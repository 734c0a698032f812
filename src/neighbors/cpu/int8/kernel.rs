//! The byte kernel: heads first, tails where heads do not rule out.

use super::layout::Int8Panel;
use super::packed::PackedBase;
use super::queries::Int8Queries;
use super::simd;
use crate::neighbors::cpu::scan::{Cutoffs, PanelHits, Scores, Thresholds, TileKernel};
use crate::neighbors::cpu::simd::Simd;
use crate::vectors::dot::prefetch;

/// The kernel: byte dot products.
#[derive(Debug, Clone, Copy)]
pub struct Int8(pub Simd);

impl TileKernel for Int8 {
    type Queries = Int8Queries;
    type Base = PackedBase;
    type Panel<'a> = Int8Panel<'a>;

    fn count(queries: &Int8Queries) -> usize {
        queries.count()
    }

    fn panel(base: &PackedBase, panel: usize) -> Int8Panel<'_> {
        base.panel(panel)
    }

    fn unit(queries: &Int8Queries, query: usize) -> f64 {
        queries.norm(query)
    }

    #[inline]
    fn error(queries: &Int8Queries, query: usize, panel: Int8Panel<'_>) -> f64 {
        queries.error(query, panel.facts)
    }

    #[inline]
    fn cutoffs(self, queries: &Int8Queries, panel: Int8Panel<'_>, thresholds: &[Thresholds], to: &mut [Cutoffs]) {
        let (facts, slack) = queries.group_facts();
        simd::cutoffs(self.0, facts, panel.facts, slack, thresholds, to);
    }

    #[inline]
    fn score(
        self,
        queries: &Int8Queries,
        group: usize,
        panel: Int8Panel<'_>,
        cutoffs: &Cutoffs,
        scores: &mut Scores,
    ) -> PanelHits {
        // Few lines of tails are wanted in order: the next panel's are asked for ahead of time. (Heads are read
        // front to back, which the machine foresees.)
        let share = queries.tail_share();
        let ahead = panel.next_tails.get(group * share..).unwrap_or(&[]);
        prefetch(bytemuck::cast_slice(&ahead[..share.min(ahead.len())]));
        let mut hits = simd::score(self.0, queries.heads(group), panel, &cutoffs.first, scores);
        let mut singled = 0;
        if hits.iter().fold(0, |all, hits| all | hits) != 0 {
            (hits, singled) = simd::finish(self.0, queries.tails(group, panel, &cutoffs.whole), hits, scores);
        }
        PanelHits { hits, singled }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::layout::{GroupFacts, Heads, LANE_STEPS, PanelFacts, Quad, QueryLine, STEP, TailLine, Tails};
    use super::super::quantise::{lane_squares, lane_starts, sum_of};
    use super::super::queries::Quantised;
    use super::super::reference::{cutoffs_each, finish_scalar, score_scalar};
    use super::*;
    use crate::config::Metric;
    use crate::neighbors::cpu::frame::{Frame, Lead};
    use crate::neighbors::cpu::matrix::Matrix;
    use crate::neighbors::cpu::rotation::Rotation;
    use crate::neighbors::cpu::scan::{GROUP, PANEL, PLACES};
    use crate::vectors::RowId;
    use crate::vectors::dot::dot;

    fn random(seed: u64) -> rand_chacha::ChaCha8Rng {
        rand_chacha::ChaCha8Rng::seed_from_u64(seed)
    }

    /// So many, but few in an interpreter, which takes minutes for what a machine does in none.
    const fn most(number: usize) -> usize {
        if cfg!(miri) { 6 } else { number }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(most(64) as u32))]
        #[test]
        fn simd_kernels_equal_the_reference(
            steps in 1..most(120), lines in 0usize..5, seed in any::<u64>(), is_led in any::<bool>(),
            simd in proptest::sample::select(Simd::all()), (extreme, short, flat) in any::<(bool, bool, bool)>(),
        ) {
            let mut random = random(seed);
            // The most that numbers may be which are all as large: two whose products one instruction sums are 128
            // together.
            // Lanes of short queries and flat rows sum up to less than 2¹⁵, those of others to more.
            let levels = if short { 24 } else if simd.sums_in_16_bits() { 64 } else { 127 };
            let base_levels = if flat { 80 } else { 127 };
            let of_query = |random: &mut ChaCha8Rng, levels: i8| {
                random.random_range(if extreme { levels } else { -levels }..=levels)
            };
            let of_base = |random: &mut ChaCha8Rng| {
                (128 + random.random_range(if extreme { base_levels } else { -base_levels }..=base_levels)) as u8
            };
            let query_steps = (0..steps).map(|_| {
                std::array::from_fn(|_| std::array::from_fn(|_| of_query(&mut random, levels)))
            });
            let values: Vec<[[i8; STEP]; GROUP]> = query_steps.collect();
            let base_steps = (0..steps).map(|_| {
                Quad(std::array::from_fn(|_| std::array::from_fn(|_| of_base(&mut random))))
            });
            let quads: Vec<Quad> = base_steps.collect();
            let mut floats = || -> [f32; PANEL] { std::array::from_fn(|_| random.random_range(0f32..1.0)) };
            let [factors, bounds, tail_factors, base_leads] = [floats(), floats(), floats(), floats()];
            let reaches = std::array::from_fn(|_| random.random_range(0.0..1e4f32));
            let leads = std::array::from_fn(|_| random.random_range(-1e4..1e4f32));
            let cutoffs = std::array::from_fn(|_| random.random_range(-1e5f32..1e5));
            let of_place = |i: usize| values.iter().flat_map(|step| step[i]).collect::<Vec<i8>>();
            let of_column = |i: usize| quads.iter().flat_map(move |quad| quad.0[i]).map(|byte| (byte ^ 0x80) as i8);
            let most = (0..PANEL).map(|i| lane_squares(&of_column(i).collect::<Vec<i8>>())).max().unwrap();
            let panel_facts = PanelFacts { lane_squares: f64::from(most), ..PanelFacts::default() };
            let places: [Vec<i8>; GROUP] = std::array::from_fn(of_place);
            let lane_squares = places.each_ref().map(|bytes| f64::from(lane_squares(bytes)));
            let lane_squares = lane_squares.into_iter().fold(0.0, f64::max);
            let of_places: Vec<Vec<i32>> = places.iter().map(|bytes| lane_starts(bytes).collect()).collect();
            let lane_starts: Vec<[i32; GROUP]> =
                (0..steps.div_ceil(LANE_STEPS)).map(|lane| std::array::from_fn(|i| of_places[i][lane])).collect();
            let starts = places.each_ref().map(|bytes| -128 * sum_of(bytes));
            let q = Heads {
                values: &values,
                starts: &starts,
                lane_starts: &lane_starts,
                lane_squares,
                reaches: &reaches,
                leads: &leads,
                is_led,
            };
            let p = Int8Panel {
                quads: &quads,
                factors: &factors,
                bounds: &bounds,
                leads: &base_leads,
                facts: &panel_facts,
                tails: &[],
                tail_factors: &tail_factors,
                next_tails: &[],
            };
            let mut query_line = || QueryLine(std::array::from_fn(|_| of_query(&mut random, levels)));
            let queries: Vec<QueryLine> = (0..GROUP * lines).map(|_| query_line()).collect();
            let mut row_line = || TailLine(std::array::from_fn(|_| of_base(&mut random)));
            let rows: Vec<TailLine> = (0..lines * PANEL).map(|_| row_line()).collect();
            let starts = std::array::from_fn(|_| random.random_range(-1_000_000..1_000_000));
            let scales = std::array::from_fn(|_| std::array::from_fn(|_| random.random_range(0f32..1.0)));
            let whole = std::array::from_fn(|_| random.random_range(-1e5f32..1e5));
            let (factors, rows) = (&tail_factors, &rows);
            let tails = Tails { queries: &queries, starts: &starts, scales: &scales, rows, factors, cutoffs: &whole };
            // No pair, few of them, many.
            let masks: [u64; GROUP] = std::array::from_fn(|_| {
                let [a, b, c, d] = random.random::<[u64; 4]>();
                [0, a & b & c & d, a & b & c, a, u64::MAX][random.random_range(0..5)]
            });
            let mut wanted = [[0f32; PANEL]; GROUP];
            let hits = score_scalar(q, p, &cutoffs, &mut wanted);
            let mut found = [[0f32; PANEL]; GROUP];
            prop_assert_eq!(simd::score(simd, q, p, &cutoffs, &mut found), hits);
            for i in 0..GROUP {
                // Without a hit, a row may be left as it was.
                prop_assert!(found[i] == wanted[i] || hits[i] == 0 && found[i] == [0.0; PANEL]);
            }
            found = wanted;
            let left = finish_scalar(tails, masks, &mut wanted);
            prop_assert_eq!(simd::finish(simd, tails, masks, &mut found), left);
            prop_assert_eq!(found, wanted);
            prop_assert!((0..GROUP).all(|i| left.0[i] & !masks[i] == 0));
            prop_assert_eq!(left.1, masks.iter().map(|mask| mask.count_ones()).sum::<u32>());
        }

        #[test]
        fn simd_cutoffs_equal_the_reference(groups in 1..most(40), seed in any::<u64>(), spread in 0f64..60.0) {
            let mut random = random(seed);
            let mut number = || random.random::<f64>() * (random.random::<f64>() * spread - spread / 2.0).exp2();
            let mut places = || -> [f64; PLACES] { std::array::from_fn(|_| number()) };
            let facts: Vec<GroupFacts> = (0..groups)
                .map(|_| GroupFacts {
                    norms: places(),
                    inverses: [places(), places()],
                    residuals: [places(), places()],
                    lengths: [places(), places()],
                })
                .collect();
            let thresholds: Vec<Thresholds> = (0..groups).map(|_| places().map(|value| value as f32 - 0.5)).collect();
            let (head, tail) = ([number(), number()], [number(), number()]);
            let panel = PanelFacts { norm: number(), head, tail, lane_squares: number() };
            let mut wanted = vec![Cutoffs::equal([0.0; PLACES]); groups];
            cutoffs_each(&facts, &panel, 1e-4, &thresholds, &mut wanted);
            for simd in Simd::all() {
                let mut found = vec![Cutoffs::equal([0.0; PLACES]); groups];
                simd::cutoffs(simd, &facts, &panel, 1e-4, &thresholds, &mut found);
                for (found, wanted) in found.iter().zip(&wanted) {
                    prop_assert_eq!(found.first.map(f32::to_bits), wanted.first.map(f32::to_bits));
                    prop_assert_eq!(found.whole.map(f32::to_bits), wanted.whole.map(f32::to_bits));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]
        #[test]
        fn no_pair_that_reaches_the_threshold_is_ruled_out(
            dim in 1..most(200), seed in any::<u64>(), spread in prop_oneof![Just(0f32), 0f32..90.0],
            cut in prop_oneof![Just(None), (0f64..1.0).prop_map(Some)], (dominant, unit) in any::<(bool, bool)>(),
            is_led in any::<bool>(), [simd, packed_for] in [(); 2].map(|()| proptest::sample::select(Simd::all())),
            cone in prop_oneof![Just(0f32), 0f32..2000.0],
        ) {
            // A panel and some rows of the next.
            const ROWS: usize = 70;
            let mut random = random(seed);
            let mut values: Vec<f32> = (0..ROWS * dim)
                .map(|_| (random.random::<f32>() - 0.5) * (random.random::<f32>() * spread - spread / 2.0).exp2())
                .collect();
            for row in values.chunks_exact_mut(dim) {
                row.iter_mut().enumerate().for_each(|(at, value)| *value += cone * (at as f32 + 0.3).sin());
                let largest = row.iter().fold(0f32, |most, value| most.max(value.abs()));
                row[0] = if dominant { 1e4 * largest } else { row[0] } + 1e-30;
            }
            let source = Matrix { values, dim };
            let rows: Vec<RowId> = (0..ROWS as RowId).collect();
            let rotation = cut.map(|cut| Rotation::new(simd, &source, &rows, 1 + (cut * (dim - 1) as f64) as usize));
            let metric = if unit { Metric::Cosine } else { Metric::Dot };
            let lead = is_led.then(|| Lead::find(&source, &rows).or_else(|| Lead::new(vec![1.0; dim]))).flatten();
            let frame = Frame { lead, rotation };
            let queries = Quantised::new(simd, &source, &rows, &frame, metric).gather(&rows);
            let base = PackedBase::in_memory(packed_for, &source, &rows, &frame, metric);
            let scale = |row: usize| if unit { dot(source.row(row), source.row(row)).sqrt().recip() } else { 1.0 };
            let truth: Vec<Vec<f64>> = (0..ROWS)
                .map(|x| (0..ROWS).map(|y| dot(source.row(x), source.row(y)) * scale(x) * scale(y)).collect())
                .collect();
            let mut scores = [[0f32; PANEL]; GROUP];
            for group in 0..if cfg!(miri) { 1 } else { ROWS.div_ceil(GROUP) } {
                for panel in 0..2 {
                    let inside = GROUP.min(ROWS - group * GROUP);
                    // A threshold that some reach and some do not: a pair's own similarity.
                    let column = random.random_range(0..if panel == 0 { PANEL } else { ROWS - PANEL });
                    let mut thresholds = [f32::INFINITY; PLACES];
                    for (i, threshold) in thresholds[..inside].iter_mut().enumerate() {
                        *threshold = (truth[group * GROUP + i][panel * PANEL + column] as f32).next_down();
                    }
                    let mut all = vec![[f32::INFINITY; PLACES]; ROWS.div_ceil(GROUP)];
                    all[group] = thresholds;
                    let mut cutoffs = vec![Cutoffs::equal([0.0; PLACES]); all.len()];
                    Int8(simd).cutoffs(&queries, base.panel(panel), &all, &mut cutoffs);
                    let hits = Int8(simd).score(&queries, group, base.panel(panel), &cutoffs[group], &mut scores).hits;
                    for i in 0..inside {
                        let query = group * GROUP + i;
                        let error = Int8::error(&queries, query, base.panel(panel));
                        for (column, truth) in truth[query][panel * PANEL..].iter().take(PANEL).enumerate() {
                            let hit = hits[i] >> column & 1 == 1;
                            let threshold = thresholds[i];
                            prop_assert!(hit || *truth < f64::from(threshold), "{query} {column}: {truth} {threshold}");
                            let score = f64::from(scores[i][column]) * Int8::unit(&queries, query);
                            prop_assert!(!hit || (score - truth).abs() <= error, "{score} {truth} {error}");
                        }
                    }
                }
            }
        }
    }
}
