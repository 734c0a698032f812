//! Two records side by side: what got slower than its noise. Pure.

use super::measured::Repeated;
use super::record::{BenchRecord, BenchSettings};
use crate::report::numbers::{amount, percent};
use crate::run::json::differences;

/// Differences of a stage's time below this many seconds say nothing.
const LEAST_SECONDS: f64 = 0.02;

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Comparison {
    /// How the machines differ: `name: old → new`.
    pub machine: Vec<String>,
    /// How the settings differ; then the stages are not compared.
    pub settings: Vec<String>,
    /// Figures that got slower than their noise, in words.
    pub slower: Vec<String>,
    /// Figures that got faster than their noise, in words.
    pub faster: Vec<String>,
    /// Figures that only one of the records has.
    pub missing: Vec<String>,
    /// Figures that were compared.
    pub compared: usize,
}

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    High,
    Low,
}

/// Compares a record with an earlier one.
pub(crate) fn compare(new: &BenchRecord, old: &BenchRecord) -> Comparison {
    let mut found = Comparison {
        machine: differences(&old.machine, &new.machine),
        settings: differences(&old.settings, &new.settings),
        ..Comparison::default()
    };
    for ceiling in &new.ceilings {
        match old.ceiling(&ceiling.name) {
            Some(other) if other.unit == ceiling.unit => {
                let unit = ceiling.unit.name();
                found.judge(&ceiling.name, unit, (&other.rate, &ceiling.rate), Better::High);
            }
            _ => found.missing.push(ceiling.name.clone()),
        }
    }
    let gone = old.ceilings.iter().filter(|ceiling| new.ceiling(&ceiling.name).is_none());
    found.missing.extend(gone.map(|ceiling| ceiling.name.clone()));
    if stages_compare(&new.settings, &old.settings) {
        for (stage, other) in new.stages.iter().zip(&old.stages) {
            found.judge(stage.stage.name(), "s", (&other.seconds, &stage.seconds), Better::Low);
        }
        found.judge("whole job", "s", (&old.whole.seconds, &new.whole.seconds), Better::Low);
    }
    found
}

/// Whether both jobs were the same work with the same means.
fn stages_compare(new: &BenchSettings, old: &BenchSettings) -> bool {
    // The buffers are those of the ceilings.
    BenchSettings { buffer_bytes: 0, ..new.clone() } == BenchSettings { buffer_bytes: 0, ..old.clone() }
}

impl Comparison {
    fn judge(&mut self, name: &str, unit: &str, (old, new): (&Repeated, &Repeated), better: Better) {
        self.compared += 1;
        // How many times as long the new one takes.
        let times = match better {
            Better::High => old.median / new.median,
            Better::Low => new.median / old.median,
        };
        let noise = old.noise().max(new.noise());
        if better == Better::Low && (new.median - old.median).abs() < LEAST_SECONDS {
            return;
        }
        let words = format!(
            "{name}: {} {unit}, was {} {unit} (noise {})",
            amount(new.median),
            amount(old.median),
            percent(noise)
        );
        if times > 1.0 + noise {
            self.slower.push(words);
        } else if times.recip() > 1.0 + noise {
            self.faster.push(words);
        }
    }

    /// The comparison for a person.
    pub(crate) fn describe(&self) -> String {
        let mut lines = Vec::new();
        let mut add = |head: &str, all: &[String]| {
            if !all.is_empty() {
                lines.push(head.to_owned());
                lines.extend(all.iter().map(|line| format!("  {line}")));
            }
        };
        add("baseline: of another machine; a difference is no sign of a change in the program", &self.machine);
        add("baseline: of other settings; stages are compared only where just the buffers differ", &self.settings);
        add("baseline: not in both records", &self.missing);
        add("baseline: slower than the noise", &self.slower);
        add("baseline: faster than the noise", &self.faster);
        if self.slower.is_empty() {
            lines.push("baseline: nothing is slower than the noise".into());
        }
        lines.push(format!("baseline: {} figures were compared, {} are slower", self.compared, self.slower.len()));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    /// The record with each time and rate as if everything took `times` as long.
    fn slowed(times: f64) -> BenchRecord {
        let mut record = record();
        let scaled = |figure: &Repeated, by: f64| Repeated::new(figure.values.iter().map(|v| v * by).collect());
        for ceiling in &mut record.ceilings {
            ceiling.rate = scaled(&ceiling.rate, times.recip());
        }
        for stage in &mut record.stages {
            stage.seconds = scaled(&stage.seconds, times);
        }
        record.whole.seconds = scaled(&record.whole.seconds, times);
        record
    }

    #[test]
    fn a_record_beside_itself_has_nothing_slower() {
        let found = compare(&record(), &record());
        assert_eq!(found, Comparison { compared: 9, ..Comparison::default() });
        assert!(found.describe().contains("nothing is slower"));
    }

    #[test]
    fn what_got_slower_than_its_noise_is_named() {
        let found = compare(&record(), &slowed(0.1));
        assert_eq!((found.slower.len(), found.faster.len()), (9, 0), "{found:?}");
        for name in ["int8 avx2", "memory read", "disk sync", "neighbors", "batches", "whole job"] {
            assert!(found.slower.iter().any(|line| line.starts_with(name)), "{name} in {found:?}");
        }
        assert_eq!(compare(&slowed(0.1), &record()).faster.len(), 9);
        // 12 % is beyond the noise of a figure with a spread of 2 %, and within that of one with 18 % or 40 %.
        let found = compare(&slowed(1.12), &record());
        assert!(found.slower.iter().any(|line| line.starts_with("int8 avx2")), "{found:?}");
        assert!(!found.slower.iter().any(|line| line.starts_with("memory read")), "{found:?}");
        assert!(!found.slower.iter().any(|line| line.starts_with("disk sync")), "{found:?}");
    }

    #[test]
    fn times_too_short_to_measure_are_not_judged() {
        let mut short = record();
        short.stages[4].seconds = Repeated::new(vec![0.004, 0.004]);
        let mut long = short.clone();
        long.stages[4].seconds = Repeated::new(vec![0.012, 0.012]);
        assert!(compare(&long, &short).slower.is_empty());
        long.stages[4].seconds = Repeated::new(vec![0.04, 0.04]);
        assert_eq!(compare(&long, &short).slower.len(), 1);
    }

    #[test]
    fn another_machine_and_other_settings_are_said() {
        let mut other = slowed(0.1);
        other.machine.cpu = "another CPU".into();
        let found = compare(&record(), &other);
        assert!(found.describe().contains("another machine") && found.describe().contains("another CPU"));
        assert_eq!(found.slower.len(), 9);
        other.settings.rows = 2000;
        let found = compare(&record(), &other);
        assert_eq!(found.slower.len(), 3, "only ceilings: {found:?}");
        assert!(found.describe().contains("rows: 2000 → 1000"), "{}", found.describe());
        other = record();
        other.settings.buffer_bytes = 1 << 20;
        assert_eq!(compare(&record(), &other).compared, 9);
        other.ceilings[0].name = "int8 avx512_vnni".into();
        assert_eq!(compare(&record(), &other).missing, ["int8 avx2", "int8 avx512_vnni"]);
    }
}
