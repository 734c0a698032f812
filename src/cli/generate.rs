//! `batchmine gen`: planted data with known clusters, streaming.
//!
//! Each row belongs to a planted cluster; its query and its positive are the cluster's centre and noise.
//! Everything follows from the seed and the row's number, so files can be made in any order and of any
//! size. Memory: one batch of rows for each thread.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use clap::{Args, ValueEnum};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::log;
use crate::error::{Error, Result};
use crate::random::{Purpose, stream};

const FILE_ROWS: u64 = 262_144;
const ROW_GROUP_ROWS: usize = 16_384;
const BATCH_ROWS: u64 = 2048;

/// Number type of the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

/// Arguments of `gen`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Rows
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..1 << 31))]
    rows: u64,
    /// Dimensions
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    dim: u32,
    /// Folder for the Parquet files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Planted clusters [default: rows / 100]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    clusters: Option<u64>,
    /// Tasks; cluster c belongs to task c mod tasks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    tasks: u64,
    /// Length of the noise, where a centre has length 1
    #[arg(long, default_value_t = 1.0)]
    noise: f32,
    /// Number type
    #[arg(long, value_enum, default_value = "f16")]
    dtype: Type,
    /// Seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl GenerateArgs {
    /// Writes the files.
    ///
    /// # Errors
    /// The folder is not empty, or the disk fails.
    pub fn run(self, output: &log::Output) -> Result<()> {
        let failed = |e| Error::io("the folder cannot be made", &self.out, e);
        std::fs::create_dir_all(&self.out).map_err(failed)?;
        if std::fs::read_dir(&self.out).map_err(failed)?.next().is_some() {
            return Err(Error::input("the output folder is not empty")
                .path(&self.out)
                .expected("a new or empty folder")
                .found("files")
                .remedy("give another folder to --out"));
        }
        let files = self.rows.div_ceil(FILE_ROWS);
        let meter = output.progress.meter("gen", self.rows, "rows");
        (0..files).into_par_iter().try_for_each(|file| {
            let path = self.out.join(format!("part-{file:05}.parquet"));
            let rows = file * FILE_ROWS..self.rows.min((file + 1) * FILE_ROWS);
            self.write_file(&path, rows, &meter).map_err(|e| {
                Error::runtime("a file cannot be written")
                    .path(&path)
                    .found(e.to_string())
                    .remedy("free some disk space")
            })
        })
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

    fn write_file(
        &self,
        path: &std::path::Path,
        rows: std::ops::Range<u64>,
        meter: &crate::run::progress::Meter,
    ) -> parquet::errors::Result<()> {
        let schema = Arc::new(self.schema());
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, schema.clone(), Some(properties))?;
        for start in rows.clone().step_by(BATCH_ROWS as usize) {
            let batch = start..rows.end.min(start + BATCH_ROWS);
            meter.add(batch.end - batch.start).map_err(|e| ParquetError::External(Box::new(e)))?;
            writer.write(&RecordBatch::try_new(schema.clone(), self.columns(batch))?)?;
        }
        writer.close()?;
        Ok(())
    }

    fn columns(&self, rows: std::ops::Range<u64>) -> Vec<ArrayRef> {
        let cluster = |row: u64| self.cluster_of(row);
        let mut sides = [Vec::new(), Vec::new()];
        let mut centre = vec![0f32; self.dim as usize];
        for row in rows.clone() {
            normals(self.stream(cluster(row), 1), 1.0, &mut centre);
            for (side, values) in sides.iter_mut().enumerate() {
                let mut noise = vec![0f32; self.dim as usize];
                normals(self.stream(row, 2 + side as u64), self.noise, &mut noise);
                noise.iter_mut().zip(&centre).for_each(|(value, centre)| *value += centre);
                let scale = noise.iter().map(|v| v * v).sum::<f32>().sqrt().recip();
                values.extend(noise.iter().map(|value| value * scale));
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
        self.stream(row, 0).next_u64() % self.clusters.unwrap_or(self.rows.div_ceil(100))
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
