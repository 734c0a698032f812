//! Vectors for tests, from given values, in files that are gone when the test ends.

use crate::config::Metric;
use crate::vectors::dot::dot;
use crate::vectors::testing::write_sealed;
use crate::vectors::{
    BothSides, Ids, ROWS, RowLayout, RowTable, Shape, StoreType, TASKS, Tasks, UNIQUE, VECTORS, VectorStore, Vectors,
};

/// Rows of one task.
pub(crate) struct GivenVectors {
    pub dim: usize,
    pub queries: Vec<f32>,
    pub positives: Vec<f32>,
    /// Codes of each key column, by row.
    pub keys: Vec<Vec<u32>>,
    pub metric: Metric,
}

impl GivenVectors {
    pub(crate) fn write(&self) -> Vectors {
        let folder = tempfile::tempdir().unwrap();
        let (rows, path) = (self.queries.len() / self.dim, |name: &str| folder.path().join(name));
        let shape = Shape { rows: rows as u64, dim: self.dim };
        let store = |name: &str, values: &[f32]| {
            let header = VectorStore::header(shape, StoreType::F32);
            write_sealed(&path(name), &VECTORS, header, bytemuck::cast_slice(values));
            VectorStore::open(&path(name)).unwrap()
        };
        let ignored = self.metric.ignores_norms();
        let scale = |values: &[f32]| if ignored { dot(values, values).sqrt().recip() } else { 1.0 };
        let scales = |values: &[f32]| -> Vec<f64> { values.chunks_exact(self.dim).map(scale).collect() };
        let layout = RowLayout {
            rows: shape.rows,
            documents: 0,
            keys: self.keys.len() as u64,
            lists: 0,
            both_sides: BothSides::Unknown,
            dropped: 0,
        };
        let mut table = vec![0; layout.file_bytes() as usize];
        let mut put = |offset: u64, bytes: &[u8]| table[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        put(layout.query_scale(), bytemuck::cast_slice(&scales(&self.queries)));
        put(layout.positive_scale(), bytemuck::cast_slice(&scales(&self.positives)));
        for (column, codes) in self.keys.iter().enumerate() {
            // As import gives them: below the number of rows.
            let first = |code: &u32| codes.iter().position(|other| other == code).expect("it is there") as u32;
            let codes: Vec<u32> = codes.iter().map(|code| if *code == UNIQUE { UNIQUE } else { first(code) }).collect();
            put(layout.key(column as u64), bytemuck::cast_slice(&codes));
        }
        let fields = [layout.rows, layout.keys, 0, 0, 0, 0];
        write_sealed(&path("rows"), &ROWS, fields, &table[layout.input_row() as usize..]);
        let (fields, payload) = Tasks::encode(&[String::new()], &[0, shape.rows]);
        write_sealed(&path("tasks"), &TASKS, fields, &payload);
        Vectors {
            queries: store("queries", &self.queries),
            positives: store("positives", &self.positives),
            rows: RowTable::open(&path("rows")).unwrap(),
            tasks: Tasks::open(&path("tasks")).unwrap(),
            ids: Ids::RowNumber,
            named_tasks: false,
            documents: None,
            single_keys: Vec::new(),
        }
    }
}
