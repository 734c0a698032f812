//! The choices that settings offer.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Sizes;
use crate::error::{Error, Result};

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Inner product of L2-normalised vectors.
    Cosine,
    /// Plain inner product.
    Dot,
}

impl Metric {
    /// Whether two rows compare the same however long they are.
    pub(crate) fn ignores_norms(self) -> bool {
        self == Metric::Cosine
    }
}

/// What becomes of rows whose queries are bit-identical, or whose query is the other's positive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SameQuery {
    /// They conflict, as rows with one key or one positive do.
    #[default]
    Exclude,
    /// They may share a batch, and be negatives of each other.
    Allow,
}

impl SameQuery {
    /// Whether it need not be recorded.
    pub(crate) fn is_default(&self) -> bool {
        *self == SameQuery::default()
    }
}

/// What takes a rank in a query's list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RankBy {
    /// By task: positives where more than half of them are copies of others, or the window is a share; else rows.
    #[default]
    Auto,
    /// Every row's positive.
    Row,
    /// Every distinct positive, however many rows have it.
    Positive,
}

impl RankBy {
    /// What it comes to in a task of so many rows and distinct positives.
    pub(crate) fn counted(self, rows: u64, distinct: u64) -> RankBy {
        match self {
            RankBy::Auto if 2 * distinct < rows => RankBy::Positive,
            RankBy::Auto => RankBy::Row,
            known => known,
        }
    }
}

/// What an empty text is in a key column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyKeys {
    /// No key, as a null.
    #[default]
    Missing,
    /// A key that all rows with an empty text share.
    Value,
}

impl EmptyKeys {
    /// Whether an empty text is no key.
    pub(crate) fn are_missing(&self) -> bool {
        *self == EmptyKeys::Missing
    }
}

/// Which pairs become edges of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeRule {
    /// Either row has the other in its rank window; both: weight 2.
    Any,
    /// Both rows have the other in their rank windows (the B3 paper's rule).
    Mutual,
}

impl EdgeRule {
    /// What trained best (docs/choosing.md): the looser clusters of mutual edges where a cluster is much of its batch.
    pub fn by_sizes(sizes: Sizes) -> EdgeRule {
        match u64::from(sizes.cluster_size) * 4 > u64::from(sizes.batch_size) {
            true => EdgeRule::Mutual,
            false => EdgeRule::Any,
        }
    }
}

/// What becomes of the rows that do not fill a whole batch of their task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Remainder {
    /// A last, smaller batch for each task.
    Short,
    /// Left out of this epoch, and counted.
    Drop,
    /// United with other tasks' left-over rows into batches of the full size.
    Fill,
}

/// Which rows of a batch each rank of a distributed trainer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RankLayout {
    /// Rank r of W reads positions r·|B|/W up to (r + 1)·|B|/W.
    Contiguous,
    /// Rank r of W reads positions r, r + W, r + 2W and so on.
    Strided,
}

impl RankLayout {
    /// As in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            RankLayout::Contiguous => "contiguous",
            RankLayout::Strided => "strided",
        }
    }
}

/// What the published batch table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TableFormat {
    /// Plain Parquet files and _SUCCESS.
    Parquet,
    /// A version of a Delta Lake table.
    Delta,
}

/// What the published table's files are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionBy {
    /// A Hive folder for each task.
    Task,
}

/// Whose rank windows a row's hard negatives come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NegativesOf {
    /// All of its batch: the more windows a candidate is in, the more often it is drawn.
    #[default]
    Batch,
    /// Those of its cluster, less candidates that are suspects there; each is drawn once.
    Cluster,
    /// Its own, at random.
    Row,
    /// Its own, from the top.
    RowTop,
}

impl NegativesOf {
    /// Whether it need not be recorded.
    pub(crate) fn is_default(&self) -> bool {
        *self == NegativesOf::default()
    }

    /// As in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            NegativesOf::Batch => "batch",
            NegativesOf::Cluster => "cluster",
            NegativesOf::Row => "row",
            NegativesOf::RowTop => "row-top",
        }
    }
}

/// Which rows of a batch a row's query must not have as negatives, by the table's word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mask {
    /// The table says nothing: all others are negatives.
    #[default]
    None,
    /// Its suspects: the column `masked` has their positions.
    Suspects,
}

impl Mask {
    /// Whether it need not be recorded.
    pub(crate) fn is_default(&self) -> bool {
        *self == Mask::default()
    }
}

/// Who makes the parts of the search and of the graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pieces {
    /// This process.
    #[default]
    Own,
    /// `batchmine work`, in other processes: the job waits for them.
    External,
}

/// Who computes the tiles of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The fastest one that this build and machine have.
    Auto,
    /// Our own SIMD kernels.
    Cpu,
    /// FAISS's flat index, in builds that have it; the result is the same.
    Faiss,
    /// FAISS on NVIDIA GPUs, through a plugin (docs/gpu.md); the result is the same.
    FaissGpu,
}

/// Numbers that the CPU's search filters with; the result is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KernelPrecision {
    /// What a short trial on the job's own vectors finds to be the fastest here.
    Auto,
    /// Eight bits with a certificate; finer numbers by itself where they cannot filter.
    Int8,
    /// Sixteen bits with a certificate, slow without AVX-512 BF16; f32 by itself where they cannot filter.
    Bf16,
    /// Single precision throughout.
    F32,
}

/// How much of a task the search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Method {
    /// Every candidate.
    Exact,
    /// Some of the IVF lists: a fixed number of them, or as many as a recall takes.
    Lists {
        /// Lists that each query looks into; `None`: measured.
        probes: Option<u32>,
        /// Recall@k to reach where probes are measured.
        recall: f64,
    },
}

/// Recall that approximate search aims at by default.
const RECALL: f64 = 0.95;

impl Method {
    /// The method that was asked for, with the recall to aim at.
    ///
    /// # Errors
    /// A recall out of range, or one that this method does not aim at.
    pub(super) fn new(search: Option<Method>, recall: Option<f64>) -> Result<Method> {
        match (search.unwrap_or(Method::Exact), recall) {
            (Method::Lists { probes: None, .. }, Some(recall)) if recall > 0.0 && recall <= 1.0 => {
                Ok(Method::Lists { probes: None, recall })
            }
            (method, None) => Ok(method),
            (method, Some(recall)) => Err(Error::input("the recall cannot be aimed at")
                .expected("--recall above 0 and at most 1, with --search ivf")
                .found(format!("--recall {recall} --search {}", String::from(method)))
                .remedy("exact search has recall 1; --search ivf:PROBES fixes the effort instead")),
        }
    }
}

impl std::str::FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Method, String> {
        let probes = match text.split_once(':') {
            None if text == "exact" => return Ok(Method::Exact),
            None if text == "ivf" => None,
            Some(("ivf", probes)) => {
                let probes = probes.parse().ok().filter(|probes| *probes > 0);
                Some(probes.ok_or("expected ivf:PROBES with at least 1 list, such as ivf:8")?)
            }
            _ => return Err(format!("{text}: expected exact, ivf or ivf:PROBES")),
        };
        Ok(Method::Lists { probes, recall: RECALL })
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(text: String) -> Result<Method, String> {
        // As a manifest records it.
        let recorded = text.strip_prefix("ivf, recall ").and_then(|recall| recall.parse().ok());
        recorded.map_or_else(|| text.parse(), |recall| Ok(Method::Lists { probes: None, recall }))
    }
}

impl From<Method> for String {
    fn from(method: Method) -> String {
        match method {
            Method::Exact => "exact".into(),
            Method::Lists { probes: Some(probes), .. } => format!("ivf:{probes}"),
            Method::Lists { probes: None, recall } => format!("ivf, recall {recall}"),
        }
    }
}

/// What becomes of rows with an embedding that cannot be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// The job ends: all of them are counted and listed.
    #[default]
    Refuse,
    /// They are left out of everything, counted and listed.
    Drop,
}

impl BadRows {
    /// Whether it need not be recorded.
    pub(crate) fn is_default(&self) -> bool {
        *self == BadRows::default()
    }
}

/// Number type of a column of binary embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BinaryType {
    /// The upper half of IEEE single precision, little-endian.
    Bf16,
    /// IEEE half precision, little-endian.
    F16,
    /// IEEE single precision, little-endian.
    F32,
    /// IEEE double precision, little-endian.
    F64,
    /// Signed bytes.
    Int8,
    /// Unsigned bytes.
    Uint8,
}

impl BinaryType {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            BinaryType::Int8 | BinaryType::Uint8 => 1,
            BinaryType::Bf16 | BinaryType::F16 => 2,
            BinaryType::F32 => 4,
            BinaryType::F64 => 8,
        }
    }
}
