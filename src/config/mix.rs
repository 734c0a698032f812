//! How often the batches of each task come in an epoch.

use serde::{Deserialize, Serialize};

use super::{ByTask, Remainder};
use crate::error::{Error, Result};

/// Most times that a batch comes in an epoch, and the highest temperature.
const TIMES_MAX: f64 = 1000.0;

/// How often the batches of one task come in an epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MixRule {
    /// Times that each of them comes; of a broken number, part of them come once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Most batches of the task in an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batches: Option<u32>,
}

/// How often the batches of all tasks come in an epoch. As it is recorded, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MixRules {
    /// T: tasks without a weight have n^(1/T) parts, where n is the number of their batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_temperature: Option<f64>,
    /// Most times that a batch of a task without a weight comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_task_repeats: Option<u32>,
    #[serde(flatten)]
    pub tasks: ByTask<MixRule>,
}

impl MixRule {
    /// The rule, if its numbers can be.
    ///
    /// # Errors
    /// A number is out of range.
    pub(super) fn checked(self) -> Result<MixRule> {
        let weight = self.weight.unwrap_or(1.0);
        if !(0.0..=TIMES_MAX).contains(&weight) {
            return Err(Error::input("a task's weight is out of range")
                .expected(format!("weight from 0 to {TIMES_MAX}"))
                .found(weight.to_string())
                .remedy("2: each batch comes twice in an epoch; 0.5: half of them come; 0: none"));
        }
        if self.max_batches == Some(0) {
            return Err(Error::input("the most batches of a task are out of range")
                .expected("--max-task-batches, or a task's max-batches, of at least 1")
                .found("0")
                .remedy("a task with weight = 0 has no batches"));
        }
        Ok(self)
    }
}

impl MixRules {
    /// The rules, where any task's batches come otherwise than once, in any order.
    ///
    /// # Errors
    /// A number is out of range; or batches of several tasks are wanted as well.
    pub(super) fn checked(self, remainder: Remainder) -> Result<Option<MixRules>> {
        if let Some(temperature) = self.task_temperature.filter(|given| !(1.0..=TIMES_MAX).contains(given)) {
            return Err(Error::input("the temperature of tasks is out of range")
                .expected(format!("--task-temperature from 1 to {TIMES_MAX}"))
                .found(temperature.to_string())
                .remedy("1 leaves tasks their sizes; the higher, the more alike they become"));
        }
        if self.max_task_repeats.is_some_and(|most| !(1.0..=TIMES_MAX).contains(&f64::from(most))) {
            return Err(Error::input("how often a task's batches may come is out of range")
                .expected(format!("--max-task-repeats from 1 to {TIMES_MAX}"))
                .found(self.max_task_repeats.unwrap_or(0).to_string())
                .remedy("1: no batch comes twice in an epoch"));
        }
        let is_set = self.task_temperature.is_some() || self.tasks.each().any(|rule| rule != MixRule::default());
        if is_set && remainder == Remainder::Fill {
            return Err(Error::input("batches of several tasks have no weight")
                .expected("--remainder short or drop, where tasks have a weight, a temperature or most batches")
                .found("--remainder fill")
                .remedy("use --remainder short, or leave the tasks' shares as they are"));
        }
        Ok(is_set.then_some(self))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Config, Settings};

    fn config(file: &str) -> Result<Config> {
        let settings: Settings = toml::from_str(file).unwrap_or_else(|e| panic!("{e}"));
        Config::new(vec!["x".into()], settings)
    }

    #[test]
    fn a_task_has_its_own_weight_and_most_batches_or_the_jobs() {
        let file = "task-column = \"kind\"\ntask-temperature = 2\nmax-task-batches = 9\n[task.a]\nweight = 0.5\n\
                    [task.b]\nmax-batches = 4\n[task.c]\nskip = 3";
        let rules = config(file).unwrap().mix.unwrap();
        assert_eq!(rules.tasks.of("a"), MixRule { weight: Some(0.5), max_batches: Some(9) });
        assert_eq!(rules.tasks.of("b"), MixRule { weight: None, max_batches: Some(4) });
        assert_eq!(rules.tasks.of("c"), MixRule { weight: None, max_batches: Some(9) });
        let recorded = json!({
            "task-temperature": 2.0, "max-batches": 9,
            "tasks": {"a": {"weight": 0.5, "max-batches": 9}, "b": {"max-batches": 4}},
        });
        assert_eq!(json!(rules), recorded);
        assert_eq!(serde_json::from_value::<MixRules>(recorded).unwrap(), rules);
    }

    #[test]
    fn without_a_word_on_tasks_there_are_no_rules() {
        for file in ["", "task-column = \"kind\"\n[task.a]\nskip = 3", "max-task-repeats = 3"] {
            assert_eq!(config(file).unwrap().mix, None, "{file}");
        }
    }

    #[test]
    fn wrong_numbers_are_refused_with_their_names() {
        let refused = [
            ("task-temperature = 0.5", "--task-temperature from 1"),
            ("task-temperature = nan", "--task-temperature from 1"),
            ("max-task-batches = 0", "--max-task-batches"),
            ("max-task-repeats = 0", "--max-task-repeats from 1"),
            ("task-temperature = 2\nremainder = \"fill\"", "--remainder short"),
            ("[task.a]\nweight = -1", "task a"),
            ("[task.a]\nweight = inf", "weight from 0"),
            ("[task.a]\nmax-batches = 0", "max-batches"),
        ];
        for (file, word) in refused {
            let text = config(&format!("task-column = \"kind\"\n{file}")).unwrap_err().to_string();
            assert!(text.contains(word) && text.contains("remedy:"), "{file}: {text}");
        }
    }
}
