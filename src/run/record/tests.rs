//! Records come back as they were written.

use crate::config::{RankBy, Width};
use serde_json::json;

use super::*;
use crate::config::ScoreLimits;

#[test]
fn a_record_with_a_missing_or_unknown_key_is_refused() {
    let facts = json!({
        "batches": 3, "full_batches": 2, "short_batches": 1, "possible_batches": 2, "divided_clusters": 0,
        "dropped_rows": 0, "rows_alone": 0, "rows_short_of_negatives": null,
    });
    assert_eq!(from_value::<BatchesFacts>(&facts).unwrap().full_batches, 2);
    for name in ["batches", "dropped_rows", "rows_short_of_negatives"] {
        let mut missing = facts.clone();
        missing.as_object_mut().unwrap().remove(name);
        assert!(from_value::<BatchesFacts>(&missing).unwrap_err().contains(name), "{name}");
    }
    let mut unknown = facts;
    unknown["dropped"] = json!(0);
    assert!(from_value::<BatchesFacts>(&unknown).unwrap_err().contains("dropped"));
}

#[test]
fn settings_come_back_as_they_were_recorded() {
    let window = RankWindow { skip: 3, width: Width::Ranks(4), limits: ScoreLimits::default() };
    let other = RankWindow { limits: ScoreLimits { min_score: Some(0.25), ..ScoreLimits::default() }, ..window };
    let windows = ByTask { job: window, tasks: BTreeMap::from([("qa".to_owned(), other)]) };
    let settings = EdgesSettings { windows, edges: EdgeRule::Mutual, max_own_rank: None, verdicts: None };
    let value = to_value(&settings);
    let expected = json!({
        "skip": 3, "window": 4, "edges": "mutual",
        "tasks": {"qa": {"skip": 3, "window": 4, "min-score": 0.25}},
    });
    assert_eq!(value, expected);
    assert_eq!(from_value::<EdgesSettings>(&value).unwrap(), settings);
    let search = Method::Lists { probes: None, recall: 0.9 };
    let settings = NeighborsSettings { ranks: 7, search, tasks: BTreeMap::new(), candidates: RankRules::default() };
    assert_eq!(to_value(&settings), json!({"skip + window": 7, "search": "ivf, recall 0.9"}));
    assert_eq!(from_value::<NeighborsSettings>(&to_value(&settings)).unwrap(), settings);
    let rule = RankRule { rank_by: RankBy::Positive, window: Some(Width::Share(30.0)) };
    let by = ByTask { job: rule, tasks: BTreeMap::from([("qa".to_owned(), RankRule::default())]) };
    let settings = NeighborsSettings { candidates: RankRules { by, positive_key: Some("c".into()) }, ..settings };
    let candidates = json!({
        "rank-by": "positive", "window": "30%", "positive-key": "c", "tasks": {"qa": {"rank-by": "auto"}},
    });
    assert_eq!(to_value(&settings)["candidates"], candidates);
    assert_eq!(from_value::<NeighborsSettings>(&to_value(&settings)).unwrap(), settings);
    let sizes = ByTask { job: Sizes { cluster_size: 8, batch_size: 64 }, tasks: BTreeMap::new() };
    let settings = ClustersSettings { sizes, cluster_passes: 5, suspect_weight: 0.3, rows_per_key: 1 };
    assert_eq!(from_value::<ClustersSettings>(&to_value(&settings)).unwrap(), settings);
}
