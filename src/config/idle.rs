//! Settings that are given and have no effect beside the others. They are no fault: a file of settings may serve
//! several jobs. But they are warned of. Pure.

use super::{Backend, Limit, Mask, Method, Settings};

/// The limits that make suspects.
fn suspect_limits(settings: &Settings) -> [Option<Limit>; 4] {
    [settings.relative_margin, settings.max_score, settings.max_query_score, settings.max_positive_score]
}

/// A sentence for each setting without effect.
pub(super) fn idle(settings: &Settings, backend: Backend, method: Method) -> Vec<String> {
    let gpus = matches!(backend, Backend::Auto | Backend::FaissGpu) && method == Method::Exact;
    let reason = if method == Method::Exact { "--backend cpu or faiss" } else { "approximate search" };
    let cases = [
        (!gpus && settings.gpu_plugin.is_some(), "gpu-plugin", format!("{reason} uses no GPU")),
        (!gpus && settings.gpu_timeout.is_some(), "gpu-timeout", format!("{reason} uses no GPU")),
        (
            settings.rank_layout.is_some() && settings.world_size.unwrap_or(1) == 1,
            "rank-layout",
            "without --world-size one process reads every batch whole".into(),
        ),
        (
            settings.empty_keys.is_some() && settings.key_column.is_empty() && settings.positive_key.is_none(),
            "empty-keys",
            "there is no --key-column".into(),
        ),
        (
            settings.document_column.is_some() && settings.corpus.is_empty(),
            "document-column",
            "there is no --corpus".into(),
        ),
        (
            settings.document_id_column.is_some() && settings.corpus.is_empty(),
            "document-id-column",
            "there is no --corpus".into(),
        ),
        (
            settings.same_query.is_some() && settings.embedding_column.is_some(),
            "same-query",
            "one column serves both sides: a row's query is its positive".into(),
        ),
        (
            settings.precision.is_some() && matches!(backend, Backend::Faiss),
            "precision",
            "FAISS computes in its own numbers".into(),
        ),
        (
            settings.max_own_rank.and_then(Limit::at).is_some() && settings.embedding_column.is_some(),
            "max-own-rank",
            "one column serves both sides: a row's positive is the best of all".into(),
        ),
        (
            settings.verdict_threshold.is_some() && settings.verdicts.is_empty(),
            "verdict-threshold",
            "there are no --verdicts".into(),
        ),
    ];
    let said = cases.into_iter().chain(idle_in_batches(settings)).filter(|(is, ..)| *is);
    said.map(|(_, flag, why)| format!("--{flag} has no effect here: {why}")).collect()
}

/// The same of settings that make batches, as cases.
fn idle_in_batches(settings: &Settings) -> [(bool, &'static str, String); 5] {
    let suspects = settings.skip != Some(0)
        || suspect_limits(settings).iter().flatten().any(|limit| limit.at().is_some())
        || !settings.task.is_empty();
    [
        (
            settings.task_temperature.is_some() && settings.task_column.is_none(),
            "task-temperature",
            "there is no --task-column: all rows are one task".into(),
        ),
        (
            settings.max_task_repeats.is_some() && settings.task_temperature.is_none(),
            "max-task-repeats",
            "without --task-temperature no batch comes more often than its task's weight says".into(),
        ),
        (
            settings.negatives_of.is_some() && settings.hard_negatives.unwrap_or(0) == 0,
            "negatives-of",
            "without --hard-negatives none are drawn".into(),
        ),
        (
            settings.mask == Some(Mask::Suspects) && !suspects && settings.rows_per_key.unwrap_or(1) == 1,
            "mask",
            "with --skip 0 and without score limits there is no suspect".into(),
        ),
        (
            settings.suspect_weight.is_some() && !suspects && settings.verdicts.is_empty(),
            "suspect-weight",
            "with --skip 0 and without score limits there is no suspect".into(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EmptyKeys, KernelPrecision, NegativesOf, RankLayout, SameQuery};

    fn flags(settings: Settings) -> Vec<String> {
        let backend = settings.backend.unwrap_or(Backend::Auto);
        let lines = idle(&settings, backend, settings.search.unwrap_or(Method::Exact));
        lines.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn settings_without_effect_are_named() {
        let none = Settings::default;
        assert_eq!(flags(none()), [""; 0]);
        let gpu = || Settings { gpu_plugin: Some("x".into()), gpu_timeout: Some(9), ..none() };
        assert_eq!(flags(gpu()), [""; 0]);
        let cpu = Some(Backend::Cpu);
        assert_eq!(flags(Settings { backend: cpu, ..gpu() }), ["--gpu-plugin", "--gpu-timeout"]);
        let search = Some(Method::Lists { probes: Some(3), recall: 0.9 });
        assert_eq!(flags(Settings { search, ..gpu() }), ["--gpu-plugin", "--gpu-timeout"]);
        let layout = || Settings { rank_layout: Some(RankLayout::Strided), ..none() };
        assert_eq!(flags(layout()), ["--rank-layout"]);
        assert_eq!(flags(Settings { world_size: Some(2), ..layout() }), [""; 0]);
        let keys = || Settings { empty_keys: Some(EmptyKeys::Value), ..none() };
        assert_eq!(flags(keys()), ["--empty-keys"]);
        assert_eq!(flags(Settings { key_column: vec!["doc".into()], ..keys() }), [""; 0]);
        let warm = || Settings { task_temperature: Some(2.0), max_task_repeats: Some(3), ..none() };
        assert_eq!(flags(warm()), ["--task-temperature"]);
        assert_eq!(flags(Settings { task_column: Some("kind".into()), ..warm() }), [""; 0]);
        assert_eq!(flags(Settings { task_temperature: None, ..warm() }), ["--max-task-repeats"]);
        let query = || Settings { same_query: Some(SameQuery::Allow), ..none() };
        assert_eq!(flags(query()), [""; 0]);
        assert_eq!(flags(Settings { embedding_column: Some("e".into()), ..query() }), ["--same-query"]);
        let faiss = Settings { precision: Some(KernelPrecision::F32), backend: Some(Backend::Faiss), ..none() };
        assert_eq!(flags(faiss), ["--precision"]);
        let negatives = || Settings { negatives_of: Some(NegativesOf::Row), ..none() };
        assert_eq!(flags(negatives()), ["--negatives-of"]);
        assert_eq!(flags(Settings { hard_negatives: Some(1), ..negatives() }), [""; 0]);
        let weight = || Settings { suspect_weight: Some(1.0), skip: Some(0), ..none() };
        assert_eq!(flags(weight()), ["--suspect-weight"]);
        assert_eq!(flags(Settings { max_score: Some(Limit::At(0.9)), ..weight() }), [""; 0]);
        let mask = || Settings { mask: Some(Mask::Suspects), skip: Some(0), ..none() };
        assert_eq!(flags(mask()), ["--mask"]);
        assert_eq!(flags(Settings { rows_per_key: Some(2), ..mask() }), [""; 0]);
        assert_eq!(flags(Settings { mask: Some(Mask::None), ..mask() }), [""; 0]);
    }
}
