//! Quantised queries, and groups of them as the byte kernels take them.

use super::layout::{GroupFacts, Heads, Int8Panel, LANE_STEPS, PanelFacts, Part, QueryLine, STEP, Tails};
use super::quantise::{Cut, Limits, lane_squares, lane_starts, quantise, sum_of};
use super::reference::whole_error;
use crate::config::Metric;
use crate::neighbors::cpu::frame::{Frame, FramedRows};
use crate::neighbors::cpu::matrix::{UnitRows, norm_in};
use crate::neighbors::cpu::scan::{GROUP, PANEL, Thresholds};
use crate::neighbors::cpu::simd::Simd;
use crate::vectors::RowId;

/// What is known of a query. Without a query all is zero: nothing reaches its threshold.
#[derive(Debug, Clone, Copy, Default)]
struct QueryFacts {
    /// Norm (1 for cosine).
    norm: f64,
    /// Coordinate along the lead.
    lead: f64,
    head: Part,
    tail: Part,
    /// The largest sum of squares of one lane of the head.
    lane_squares: u32,
}

/// Quantised queries, one after the other.
#[derive(Debug, Clone)]
pub struct Quantised {
    heads: Vec<[i8; STEP]>,
    tails: Vec<QueryLine>,
    /// −128 Σ q of each part.
    starts: Vec<[i32; 2]>,
    /// What sums of lanes begin at; nothing for instructions that need none.
    lane_starts: Vec<i32>,
    facts: Vec<QueryFacts>,
    cut: Cut,
    slack: f64,
    is_led: bool,
}

impl Quantised {
    /// Quantises rows, on this thread, to whole numbers that the instructions take.
    pub fn new(simd: Simd, source: &impl UnitRows, rows: &[RowId], frame: &Frame, metric: Metric) -> Quantised {
        let (cut, [head_limits, tail_limits]) = (Cut::new(source.dim(), frame), Limits::of_query(simd));
        let FramedRows { mut values, norms, leads } = frame.load(source, rows);
        let mut heads = vec![[0i8; STEP]; rows.len() * cut.steps()];
        let mut tails: Vec<QueryLine> = vec![bytemuck::Zeroable::zeroed(); rows.len() * cut.lines()];
        let (mut starts, mut facts) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut lanes = Vec::new();
        let framed = values.chunks_exact_mut(cut.dim).zip(norms.into_iter().zip(leads));
        for (index, (values, (norm, lead))) in framed.enumerate() {
            let norm = norm_in(metric, norm);
            let (head_values, tail_values) = values.split_at_mut(cut.head);
            let bytes: &mut [i8] = bytemuck::cast_slice_mut(&mut heads[index * cut.steps()..][..cut.steps()]);
            let head = quantise(head_values, &mut bytes[..cut.head], head_limits);
            let lines: &mut [i8] = bytemuck::cast_slice_mut(&mut tails[index * cut.lines()..][..cut.lines()]);
            let tail = quantise(tail_values, &mut lines[..cut.dim - cut.head], tail_limits);
            starts.push([-128 * sum_of(bytes), -128 * sum_of(lines)]);
            if simd.sums_in_16_bits() {
                lanes.extend(lane_starts(bytes));
            }
            facts.push(QueryFacts { norm, lead, head, tail, lane_squares: lane_squares(bytes) });
        }
        Quantised {
            heads,
            tails,
            starts,
            lane_starts: lanes,
            facts,
            cut,
            slack: frame.slack(),
            is_led: frame.lead.is_some(),
        }
    }

    /// Packs some of them in groups. O(count · dim) bytes are moved.
    pub fn gather(&self, slots: &[u32]) -> Int8Queries {
        let groups = slots.len().div_ceil(GROUP);
        let (steps, lines) = (self.cut.steps(), self.cut.lines());
        let lanes = if self.lane_starts.is_empty() { 0 } else { steps.div_ceil(LANE_STEPS) };
        let mut queries = Int8Queries {
            count: slots.len(),
            heads: vec![[[0; STEP]; GROUP]; groups * steps],
            tails: vec![bytemuck::Zeroable::zeroed(); groups * GROUP * lines],
            starts: vec![[0; GROUP]; groups],
            lane_starts: vec![[0; GROUP]; groups * lanes],
            lane_squares: vec![0.0; groups],
            tail_starts: vec![[0; GROUP]; groups],
            scales: vec![[[0.0; 2]; GROUP]; groups],
            reaches: vec![[0.0; GROUP]; groups],
            leads: vec![[0.0; GROUP]; groups],
            facts: vec![QueryFacts::default(); groups * GROUP],
            group_facts: vec![GroupFacts::default(); groups],
            tail_share: (PANEL * lines).div_ceil(groups.max(1)),
            lanes,
            cut: self.cut,
            slack: self.slack,
            is_led: self.is_led,
        };
        for (index, slot) in slots.iter().map(|slot| *slot as usize).enumerate() {
            let (group, place, facts) = (index / GROUP, index % GROUP, &self.facts[slot]);
            [queries.starts[group][place], queries.tail_starts[group][place]] = self.starts[slot];
            queries.scales[group][place] = [facts.head.scale, facts.tail.scale];
            queries.reaches[group][place] = ((facts.tail.length / f64::from(facts.head.scale)) as f32).next_up();
            queries.leads[group][place] = (facts.lead / f64::from(facts.head.scale)) as f32;
            queries.facts[index] = *facts;
            queries.lane_squares[group] = queries.lane_squares[group].max(f64::from(facts.lane_squares));
            let to = &mut queries.lane_starts[group * lanes..][..lanes];
            for (group, start) in to.iter_mut().zip(&self.lane_starts[slot * lanes..][..lanes]) {
                group[place] = *start;
            }
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
    count: usize,
    heads: Vec<[[i8; STEP]; GROUP]>,
    tails: Vec<QueryLine>,
    starts: Vec<[i32; GROUP]>,
    lane_starts: Vec<[i32; GROUP]>,
    lane_squares: Vec<f64>,
    tail_starts: Vec<[i32; GROUP]>,
    /// What heads and tails are multiplied with.
    scales: Vec<[[f32; 2]; GROUP]>,
    /// The tail's length in units of the head's scale, rounded up.
    reaches: Vec<[f32; GROUP]>,
    /// The coordinate along the lead, in the same units.
    leads: Vec<[f32; GROUP]>,
    facts: Vec<QueryFacts>,
    group_facts: Vec<GroupFacts>,
    tail_share: usize,
    /// Starts of lanes a group.
    lanes: usize,
    cut: Cut,
    slack: f64,
    is_led: bool,
}

impl Int8Queries {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Lines of a panel's tails that fall to each group, where they are dealt out evenly.
    #[inline]
    pub(super) fn tail_share(&self) -> usize {
        self.tail_share
    }

    /// Norm of a query (1 for cosine).
    #[inline]
    pub(super) fn norm(&self, query: usize) -> f64 {
        self.facts[query].norm
    }

    /// Bound of |similarity − score| of heads and tails together.
    #[inline]
    pub(super) fn error(&self, query: usize, panel: &PanelFacts) -> f64 {
        let x = &self.facts[query];
        let turned = self.slack * (x.head.length + x.tail.length) * (panel.head[0] + panel.tail[0]);
        let head = turned + x.head.residual * panel.head[0] + x.head.length * panel.head[1];
        let both = head + x.tail.residual * panel.tail[0] + x.tail.length * panel.tail[1];
        whole_error(both, x.norm, panel.norm)
    }

    /// The heads of a group.
    #[inline]
    pub(super) fn heads(&self, group: usize) -> Heads<'_> {
        let steps = self.cut.steps();
        Heads {
            values: &self.heads[group * steps..][..steps],
            starts: &self.starts[group],
            lane_starts: &self.lane_starts[group * self.lanes..][..self.lanes],
            lane_squares: self.lane_squares[group],
            reaches: &self.reaches[group],
            leads: &self.leads[group],
            is_led: self.is_led,
        }
    }

    /// What is known of the groups, and of the rotation.
    #[inline]
    pub(super) fn group_facts(&self) -> (&[GroupFacts], f64) {
        (&self.group_facts, self.slack)
    }

    /// The tails of a group with those of a panel's rows.
    #[inline]
    pub(super) fn tails<'a>(&'a self, group: usize, panel: Int8Panel<'a>, cutoffs: &'a Thresholds) -> Tails<'a> {
        let lines = GROUP * self.cut.lines();
        Tails {
            queries: &self.tails[group * lines..][..lines],
            starts: &self.tail_starts[group],
            scales: &self.scales[group],
            rows: panel.tails,
            factors: panel.tail_factors,
            cutoffs,
        }
    }
}
