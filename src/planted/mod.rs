//! planted: data with known clusters, of any size, to try a machine or a setting.
//!
//! Each row belongs to a planted cluster; its query and its positive are the cluster's centre and noise. Everything
//! follows from the seed and the row's number, so files can be made in any order and of any size. With a falling
//! spectrum (`spectrum`) centres and noise fill the axes as real embeddings do.
//!
//! Memory: one batch of rows for each thread, and the row group that its writer collects.

mod files;
mod spectrum;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use half::f16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::{Purpose, stream};

use spectrum::Axes;

pub use files::write;
pub(crate) use files::write_watched;
pub use spectrum::Spectrum;

/// Most rows and clusters: both are numbered by 32-bit integers with a sign somewhere.
const ROWS_END: u64 = 1 << 31;
/// Most noise. Its square, summed over all dimensions, is far below the largest single.
const NOISE_MAX: f32 = 1e6;

/// Number type of the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

/// What planted data follow from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planted {
    pub clusters: u64,
    pub dim: u32,
    pub dtype: Type,
    /// Length of the noise, where a centre has length 1.
    pub noise: f32,
    pub rows: u64,
    pub seed: u64,
    /// How variance falls from axis to axis; recorded where it does.
    #[serde(default, skip_serializing_if = "Spectrum::is_flat")]
    pub spectrum: Spectrum,
    /// Cluster c belongs to task c mod tasks.
    pub tasks: u64,
}

impl Planted {
    /// The same, if all numbers can be meant.
    ///
    /// # Errors
    /// A number is out of range, there are more clusters than rows, or more tasks than clusters.
    pub fn checked(self) -> Result<Planted> {
        let within = |flag: &str, found: String, expected: String, remedy: &str| {
            Err(Error::input(format!("{flag} is out of range"))
                .expected(expected)
                .found(format!("{flag} {found}"))
                .remedy(remedy))
        };
        let Planted { clusters, dim, noise, rows, tasks, .. } = self;
        if rows == 0 || rows >= ROWS_END {
            return within("--rows", rows.to_string(), format!("1 to {}", ROWS_END - 1), "ask for fewer rows");
        }
        if dim == 0 || dim > 16_384 {
            return within("--dim", dim.to_string(), "1 to 16384".into(), "ask for fewer dimensions");
        }
        if clusters == 0 || clusters > rows {
            let expected = format!("1 to the number of rows, {rows}");
            return within("--clusters", clusters.to_string(), expected, "ask for fewer clusters, or for more rows");
        }
        if tasks == 0 || tasks > clusters {
            let expected = format!("1 to the number of clusters, {clusters}: a task without a cluster has no row");
            return within("--tasks", tasks.to_string(), expected, "ask for fewer tasks, or for more --clusters");
        }
        if !(0.0..=NOISE_MAX).contains(&noise) {
            let expected = format!("a number from 0 to {NOISE_MAX}");
            return within("--noise", noise.to_string(), expected, "1 hides a centre half; 0 makes all rows centres");
        }
        Ok(self)
    }

    fn schema(&self) -> Schema {
        let item = match self.dtype {
            Type::F16 => DataType::Float16,
            Type::F32 => DataType::Float32,
        };
        let list = DataType::FixedSizeList(Arc::new(Field::new("item", item, false)), self.dim as i32);
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("task", DataType::Utf8, false),
            Field::new("cluster", DataType::Int32, false),
            Field::new("query_embedding", list.clone(), false),
            Field::new("positive_embedding", list, false),
        ])
    }

    /// Some rows, in the columns of `schema`.
    fn rows(&self, schema: &Arc<Schema>, rows: Range<u64>) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(schema.clone(), self.columns(rows))
    }

    fn columns(&self, rows: Range<u64>) -> Vec<ArrayRef> {
        let cluster = |row: u64| self.cluster_of(row);
        let axes = self.axes();
        let mut sides = [Vec::new(), Vec::new()];
        let mut centre = vec![0f32; self.dim as usize];
        let mut values = vec![0f32; self.dim as usize];
        for row in rows.clone() {
            normals(self.stream(cluster(row), 1), 1.0, &mut centre);
            for (side, all) in sides.iter_mut().enumerate() {
                normals(self.stream(row, 2 + side as u64), self.noise, &mut values);
                values.iter_mut().zip(&centre).for_each(|(value, centre)| *value += centre);
                if let Some(axes) = &axes {
                    axes.shape(&mut values);
                }
                to_unit_length(&mut values);
                all.extend_from_slice(&values);
            }
        }
        let [queries, positives] = sides.map(|values| self.list(values));
        vec![
            Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row as i64))),
            Arc::new(StringArray::from_iter_values(
                rows.clone().map(|row| format!("task-{}", cluster(row) % self.tasks)),
            )),
            Arc::new(Int32Array::from_iter_values(rows.map(|row| cluster(row) as i32))),
            queries,
            positives,
        ]
    }

    /// How values by axis become a vector; `None` where all axes are alike.
    fn axes(&self) -> Option<Axes> {
        match self.spectrum {
            Spectrum::Flat => None,
            Spectrum::Falling => Some(Axes::new(self.dim as usize, self.noise)),
        }
    }

    fn list(&self, values: Vec<f32>) -> ArrayRef {
        let (item, values): (DataType, ArrayRef) = match self.dtype {
            Type::F16 => {
                let halves = Float16Array::from_iter_values(values.into_iter().map(f16::from_f32));
                (DataType::Float16, Arc::new(halves))
            }
            Type::F32 => (DataType::Float32, Arc::new(Float32Array::from(values))),
        };
        Arc::new(FixedSizeListArray::new(Arc::new(Field::new("item", item, false)), self.dim as i32, values, None))
    }

    /// A pseudo-random cluster: rows of one cluster are strewn over all files.
    fn cluster_of(&self, row: u64) -> u64 {
        self.stream(row, 0).next_u64() % self.clusters
    }

    fn stream(&self, number: u64, part: u64) -> ChaCha8Rng {
        stream(Purpose::Planted { seed: self.seed, number, part })
    }
}

/// Fills `out` with near-normal numbers so that its expected length is `length`: sums of four uniform
/// 16-bit numbers, which nobody can tell from normals after a few dozen dimensions.
fn normals(mut random: ChaCha8Rng, length: f32, out: &mut [f32]) {
    // The variance of a sum of four uniform numbers from 0 to 1 is 1/3.
    let scale = length * (3.0 / out.len() as f32).sqrt();
    for value in out {
        let bits = random.next_u64();
        let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xFFFF).sum();
        *value = (sum as f32 / 65_536.0 - 2.0) * scale;
    }
}

/// Scales a vector to length 1. A zero vector, which few dimensions may draw, becomes the first axis.
fn to_unit_length(values: &mut [f32]) {
    let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length == 0.0 {
        values[0] = 1.0;
        return;
    }
    let scale = length.recip();
    values.iter_mut().for_each(|value| *value *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted() -> Planted {
        Planted {
            clusters: 20,
            dim: 8,
            dtype: Type::F16,
            noise: 1.0,
            rows: 1000,
            seed: 0,
            spectrum: Spectrum::Flat,
            tasks: 3,
        }
    }

    #[test]
    fn numbers_that_cannot_be_meant_are_refused_by_their_flags() {
        assert!(planted().checked().is_ok());
        assert!(Planted { clusters: 1000, tasks: 1000, noise: 0.0, ..planted() }.checked().is_ok());
        assert!(Planted { noise: NOISE_MAX, ..planted() }.checked().is_ok());
        let refused = |planted: Planted, flag: &str| {
            let error = planted.checked().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(&format!("found:    {flag} ")), "{error}");
        };
        for noise in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.5, 1.1e6] {
            refused(Planted { noise, ..planted() }, "--noise");
        }
        refused(Planted { clusters: 1001, ..planted() }, "--clusters");
        refused(Planted { clusters: 0, ..planted() }, "--clusters");
        refused(Planted { tasks: 21, ..planted() }, "--tasks");
        refused(Planted { tasks: 0, ..planted() }, "--tasks");
        refused(Planted { rows: 0, ..planted() }, "--rows");
        refused(Planted { rows: 1 << 31, ..planted() }, "--rows");
        refused(Planted { dim: 0, ..planted() }, "--dim");
        refused(Planted { dim: 16_385, ..planted() }, "--dim");
    }

    #[test]
    fn vectors_have_length_one_whatever_was_drawn() {
        let mut zeros = [0.0; 3];
        to_unit_length(&mut zeros);
        assert_eq!(zeros, [1.0, 0.0, 0.0]);
        for noise in [0.0, 1.0, NOISE_MAX] {
            let planted = Planted { dim: 1, noise, dtype: Type::F32, ..planted() }.checked().unwrap();
            assert!(queries(&planted).iter().all(|value| (value.abs() - 1.0).abs() < 1e-6), "noise {noise}");
        }
        for (dim, noise) in [(1, 0.0), (3, 1.0), (100, 1.0), (384, NOISE_MAX), (1030, 0.5)] {
            let spectrum = Spectrum::Falling;
            let planted = Planted { dim, noise, dtype: Type::F32, spectrum, ..planted() }.checked().unwrap();
            for row in queries(&planted).chunks_exact(dim as usize) {
                let length = row.iter().map(|value| value * value).sum::<f32>();
                assert!((length - 1.0).abs() < 1e-5, "{dim} dimensions, noise {noise}: {length}");
            }
        }
    }

    /// The queries of all rows.
    fn queries(planted: &Planted) -> Vec<f32> {
        let columns = planted.columns(0..planted.rows);
        let list = columns[3].as_any().downcast_ref::<FixedSizeListArray>().unwrap();
        list.values().as_any().downcast_ref::<Float32Array>().unwrap().values().to_vec()
    }

    #[test]
    fn a_falling_spectrum_is_that_of_real_embeddings() {
        // Shares of the squared length in the first half, quarter and eighth of the principal axes of 60,940 real
        // pairs of 384 dimensions: means of the two sides (docs/input.md).
        let real = [(2, 0.922), (4, 0.751), (8, 0.583)];
        for dim in [384, 768, 1024] {
            let spectrum = Spectrum::Falling;
            let planted = Planted { clusters: 500, dim, dtype: Type::F32, spectrum, ..planted() };
            let axes = planted.axes().unwrap();
            let mut squares = vec![0f64; dim as usize];
            for row in queries(&planted).chunks_exact(dim as usize) {
                let by_axis = axes.by_axis(row);
                squares.iter_mut().zip(by_axis).for_each(|(sum, value)| *sum += f64::from(value).powi(2));
            }
            let all: f64 = squares.iter().sum();
            for (part, share) in real {
                let found = squares[..dim as usize / part].iter().sum::<f64>() / all;
                println!("spectrum: {dim} dimensions, first 1/{part}: {found:.3}, real {share}");
                assert!((found - share).abs() < 0.025, "{dim} dimensions, first 1/{part}: {found:.3}, real {share}");
            }
        }
    }

    #[test]
    fn a_flat_spectrum_is_not_recorded() {
        let text = serde_json::to_string(&planted()).unwrap();
        assert!(!text.contains("spectrum"), "{text}");
        assert_eq!(serde_json::from_str::<Planted>(&text).unwrap(), planted());
        let falling = Planted { spectrum: Spectrum::Falling, ..planted() };
        let text = serde_json::to_string(&falling).unwrap();
        assert!(text.contains(r#""spectrum":"falling""#), "{text}");
        assert_eq!(serde_json::from_str::<Planted>(&text).unwrap(), falling);
    }
}
