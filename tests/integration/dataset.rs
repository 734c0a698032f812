//! Writes inputs of every shape that a job takes, and of some that it must refuse.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array,
    Int64Array, LargeListArray, ListArray, ListBuilder, StringArray, StringBuilder,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float16Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number type of the embedding columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    F16,
    F32,
    F64,
}

/// Arrow type of the embedding columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    List,
    LargeList,
    FixedList,
    FixedBinary,
}

/// The id column; `None`: there is no such column.
#[derive(Debug, Clone)]
pub enum Ids {
    None,
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
}

/// What is wrong with one row's positive embedding; wrong values are put into the vectors themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The whole embedding is null.
    NullEmbedding,
    /// The last value is null.
    NullValue,
    /// One value too many.
    TooLong,
}

/// Rows to write and how. Columns: `id`, `task`, `key0`…, `list0`…, `query_embedding` and `positive_embedding`,
/// or `embedding`.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub dim: usize,
    pub queries: Vec<Vec<f64>>,
    pub positives: Vec<Vec<f64>>,
    pub one_column: bool,
    pub ids: Ids,
    /// Empty: there is no such column.
    pub tasks: Vec<Option<String>>,
    pub keys: Vec<Vec<Option<String>>>,
    /// Key columns of lists.
    pub lists: Vec<Vec<Option<Vec<String>>>>,
    /// Other columns of strings, by name.
    pub texts: Vec<(String, Vec<Option<String>>)>,
    pub float: Float,
    pub layout: Layout,
    /// How many of the last rows are documents of a corpus: they have no query, and lie in the folder `corpus` beside.
    pub documents: usize,
    pub files: usize,
    pub row_group_rows: usize,
    pub compression: Compression,
    pub dictionary: bool,
    pub fault: Option<(Fault, usize)>,
    /// The job lets rows of one query share batches.
    pub same_query: bool,
}

impl Dataset {
    /// Pairs around random centres, about 30 a centre.
    pub fn planted(rows: usize, dim: usize, seed: u64) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut near = |centre: &[f64], noise: f64| -> Vec<f64> {
            centre.iter().map(|value| value + noise * random.random_range(-1.0..1.0)).collect()
        };
        let origin = vec![0.0; dim];
        let centres: Vec<Vec<f64>> = (0..rows / 30 + 1).map(|_| near(&origin, 1.0)).collect();
        let (mut queries, mut positives) = (Vec::new(), Vec::new());
        for row in 0..rows {
            // A prime, so that consecutive rows go round all centres.
            let own = near(&centres[row * 7919 % centres.len()], 0.5);
            queries.push(near(&own, 0.3));
            positives.push(near(&own, 0.3));
        }
        Dataset::of(dim, queries, positives)
    }

    /// Small whole numbers: sums are exact in any order, and many scores tie.
    pub fn integers(rows: usize, dim: usize, seed: u64) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut side = || -> Vec<Vec<f64>> {
            let mut vector = || {
                let mut vector: Vec<f64> = (0..dim).map(|_| f64::from(random.random_range(-2..=2))).collect();
                if vector.iter().all(|value| *value == 0.0) {
                    vector[0] = 1.0;
                }
                vector
            };
            (0..rows).map(|_| vector()).collect()
        };
        let queries = side();
        Dataset::of(dim, queries, side())
    }

    /// Two columns of f32 in fixed_size_list, one file, nothing else.
    pub fn of(dim: usize, queries: Vec<Vec<f64>>, positives: Vec<Vec<f64>>) -> Dataset {
        Dataset {
            dim,
            queries,
            positives,
            one_column: false,
            ids: Ids::None,
            tasks: Vec::new(),
            keys: Vec::new(),
            lists: Vec::new(),
            texts: Vec::new(),
            float: Float::F32,
            layout: Layout::FixedList,
            documents: 0,
            files: 1,
            row_group_rows: 1 << 20,
            compression: Compression::UNCOMPRESSED,
            dictionary: true,
            fault: None,
            same_query: false,
        }
    }

    /// The rows of `fixtures/debian`, with `dataset` as their task.
    pub fn debian(folder: &Path) -> Dataset {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
        paths.sort();
        let mut data = Dataset::of(0, Vec::new(), Vec::new());
        let mut ids = Vec::new();
        for path in paths {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
            for batch in reader.build().unwrap() {
                let batch = batch.unwrap();
                let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
                let vectors = |name: &str| -> Vec<Vec<f64>> {
                    let list = column(name).as_fixed_size_list();
                    let vector = |row| list.value(row).as_primitive::<Float16Type>().values().to_vec();
                    (0..list.len()).map(|row| vector(row).into_iter().map(f16::to_f64).collect()).collect()
                };
                data.queries.extend(vectors("query_embedding"));
                data.positives.extend(vectors("positive_embedding"));
                ids.extend(column("id").as_primitive::<Int64Type>().iter());
                let tasks = cast(column("dataset"), &DataType::Utf8).unwrap();
                data.tasks.extend(tasks.as_string::<i32>().iter().map(|task| task.map(str::to_owned)));
            }
        }
        Dataset { dim: data.queries[0].len(), ids: Ids::Int(ids), float: Float::F16, ..data }
    }

    /// Some rows as a data set of their own, with the ids that they have here.
    pub fn subset(&self, rows: &[usize]) -> Dataset {
        fn pick<T: Clone>(from: &[T], rows: &[usize]) -> Vec<T> {
            if from.is_empty() { Vec::new() } else { rows.iter().map(|row| from[*row].clone()).collect() }
        }
        Dataset {
            queries: pick(&self.queries, rows),
            positives: pick(&self.positives, rows),
            ids: match &self.ids {
                Ids::None => Ids::Int(rows.iter().map(|row| Some(*row as i64)).collect()),
                Ids::Int(ids) => Ids::Int(pick(ids, rows)),
                Ids::Text(ids) => Ids::Text(pick(ids, rows)),
            },
            tasks: pick(&self.tasks, rows),
            keys: self.keys.iter().map(|key| pick(key, rows)).collect(),
            lists: self.lists.iter().map(|lists| pick(lists, rows)).collect(),
            ..self.clone()
        }
    }

    /// Rows with a query.
    pub fn rows(&self) -> usize {
        self.all() - self.documents
    }

    /// Rows and documents, which are numbered behind them.
    pub fn all(&self) -> usize {
        self.queries.len()
    }

    /// Whether a document takes no rank: a row of its task has the same positive, or a document before it is the same.
    pub fn is_known_document(&self, document: usize) -> bool {
        let own = self.positive_bits(document);
        (0..document).any(|other| self.task(other) == self.task(document) && self.positive_bits(other) == own)
    }

    /// A row's positive, or a document, as it is compared.
    pub fn positive_bits(&self, row: usize) -> Vec<u32> {
        self.candidates()[row].iter().map(|value| self.stored(*value).to_bits()).collect()
    }

    /// The flags that name the corpus beside the input, where there is one.
    pub fn corpus_flags(&self, input: &Path) -> String {
        match self.documents {
            0 => String::new(),
            _ => format!(" --corpus {}", input.with_file_name("corpus").display()),
        }
    }

    /// Gives each row a task by its number.
    pub fn with_tasks(mut self, task: impl Fn(usize) -> String) -> Dataset {
        self.tasks = (0..self.all()).map(|row| Some(task(row))).collect();
        self
    }

    /// Adds a key column; `None` is a row without a key.
    pub fn with_key(mut self, key: impl Fn(usize) -> Option<String>) -> Dataset {
        self.keys.push((0..self.all()).map(key).collect());
        self
    }

    /// Adds a column of strings.
    pub fn with_text(mut self, name: &str, text: impl Fn(usize) -> Option<String>) -> Dataset {
        self.texts.push((name.to_owned(), (0..self.all()).map(text).collect()));
        self
    }

    /// Gives each row a string id that is no number.
    pub fn with_text_ids(mut self) -> Dataset {
        self.ids = Ids::Text((0..self.all()).map(|row| Some(format!("doc/ä-{:x}", row * 7919))).collect());
        self
    }

    /// Rounds all values to half precision, so that every number type holds them exactly.
    pub fn in_halves(mut self) -> Dataset {
        let all = self.queries.iter_mut().chain(&mut self.positives);
        all.flatten().for_each(|value| *value = f16::from_f64(*value).to_f64());
        self
    }

    /// A value as the job has to keep it: halves stay, doubles become singles.
    pub fn stored(&self, value: f64) -> f32 {
        match self.float {
            Float::F16 => f16::from_f64(value).to_f32(),
            Float::F32 | Float::F64 => value as f32,
        }
    }

    /// The side that is ranked.
    pub fn candidates(&self) -> &[Vec<f64>] {
        if self.one_column { &self.queries } else { &self.positives }
    }

    /// A row's task; `None` where there is no task column.
    pub fn task(&self, row: usize) -> Option<&str> {
        self.tasks.get(row).and_then(|task| task.as_deref())
    }

    /// A row's id as text.
    pub fn id(&self, row: usize) -> String {
        match &self.ids {
            Ids::None => row.to_string(),
            Ids::Int(ids) => ids[row].expect("a sound data set").to_string(),
            Ids::Text(ids) => ids[row].clone().expect("a sound data set"),
        }
    }

    /// What two rows must not have in common, column by column: the bits of query and positive, and their keys.
    pub fn labels(&self, row: usize) -> Vec<BTreeSet<Vec<u8>>> {
        let bits =
            |vector: &[f64]| vector.iter().flat_map(|value| self.stored(*value).to_bits().to_le_bytes()).collect();
        let mut vectors = BTreeSet::from([bits(&self.candidates()[row])]);
        if !self.same_query && row < self.rows() {
            vectors.insert(bits(&self.queries[row]));
        }
        let keys = self.keys.iter().map(|key| key[row].iter().map(|text| text.as_bytes().to_vec()).collect());
        let elements =
            |list: &Option<Vec<String>>| list.iter().flatten().map(|text| text.as_bytes().to_vec()).collect();
        let lists = self.lists.iter().map(|lists| elements(&lists[row]));
        std::iter::once(vectors).chain(keys).chain(lists).collect()
    }

    /// Whether two rows must not be negatives of each other.
    pub fn conflict(a: &[BTreeSet<Vec<u8>>], b: &[BTreeSet<Vec<u8>>]) -> bool {
        a.iter().zip(b).any(|(a, b)| !a.is_disjoint(b))
    }

    /// The flags that name the task and key columns.
    pub fn column_flags(&self) -> String {
        let mut flags = String::new();
        if !self.tasks.is_empty() {
            flags += " --task-column task";
        }
        for key in 0..self.keys.len() {
            flags += &format!(" --key-column key{key}");
        }
        for list in 0..self.lists.len() {
            flags += &format!(" --key-column list{list}");
        }
        flags
    }

    /// Writes `part-0.parquet`, … into a folder.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let rows_per_file = self.rows().div_ceil(self.files);
        for (file, start) in (0..self.rows()).step_by(rows_per_file).enumerate() {
            let batch = self.batch(start..(start + rows_per_file).min(self.rows()));
            let width = (self.files - 1).to_string().len();
            self.write_file(&batch, &folder.join(format!("part-{file:0width$}.parquet")));
        }
        if self.documents > 0 {
            let folder = folder.with_file_name("corpus");
            fs::create_dir_all(&folder).unwrap();
            self.write_file(&self.batch(self.rows()..self.all()), &folder.join("part-0.parquet"));
        }
    }

    fn write_file(&self, batch: &RecordBatch, path: &Path) {
        let properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_dictionary_enabled(self.dictionary)
            .set_max_row_group_row_count(Some(self.row_group_rows))
            .build();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    fn batch(&self, rows: Range<usize>) -> RecordBatch {
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        match &self.ids {
            Ids::None => {}
            Ids::Int(ids) => {
                columns.push(("id".into(), Arc::new(ids[rows.clone()].iter().copied().collect::<Int64Array>())));
            }
            Ids::Text(ids) => columns.push(("id".into(), text(&ids[rows.clone()]))),
        }
        if !self.tasks.is_empty() {
            columns.push(("task".into(), text(&self.tasks[rows.clone()])));
        }
        for (number, key) in self.keys.iter().enumerate() {
            columns.push((format!("key{number}"), text(&key[rows.clone()])));
        }
        for (number, lists) in self.lists.iter().enumerate() {
            columns.push((format!("list{number}"), text_lists(&lists[rows.clone()])));
        }
        for (name, texts) in &self.texts {
            columns.push((name.clone(), text(&texts[rows.clone()])));
        }
        if self.one_column || rows.start >= self.rows() {
            columns.push(("embedding".into(), self.embedding(self.candidates(), rows, self.fault)));
        } else {
            columns.push(("query_embedding".into(), self.embedding(&self.queries, rows.clone(), None)));
            columns.push(("positive_embedding".into(), self.embedding(&self.positives, rows, self.fault)));
        }
        let field = |(name, array): &(String, ArrayRef)| Field::new(name, array.data_type().clone(), true);
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
    }

    fn embedding(&self, vectors: &[Vec<f64>], rows: Range<usize>, fault: Option<(Fault, usize)>) -> ArrayRef {
        let (mut values, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let mut vector: Vec<Option<f64>> = vectors[row].iter().copied().map(Some).collect();
            let fault = fault.filter(|(_, at)| *at == row).map(|(fault, _)| fault);
            match fault {
                // A null list has no values; a null fixed-size list has its share of them.
                Some(Fault::NullEmbedding) if !matches!(self.layout, Layout::FixedList | Layout::FixedBinary) => {
                    vector.clear()
                }
                Some(Fault::NullValue) => vector[self.dim - 1] = None,
                Some(Fault::TooLong) => vector.push(Some(1.0)),
                _ => {}
            }
            valid.push(fault != Some(Fault::NullEmbedding));
            lengths.push(vector.len());
            values.extend(vector);
        }
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        if self.layout == Layout::FixedBinary {
            let (bytes, width) = little_endian(self.float, &values);
            return Arc::new(FixedSizeBinaryArray::new((width * self.dim) as i32, Buffer::from_vec(bytes), nulls));
        }
        let items: ArrayRef = match self.float {
            Float::F16 => Arc::new(values.iter().map(|value| value.map(f16::from_f64)).collect::<Float16Array>()),
            Float::F32 => Arc::new(values.iter().map(|value| value.map(|v| v as f32)).collect::<Float32Array>()),
            Float::F64 => Arc::new(values.iter().copied().collect::<Float64Array>()),
        };
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        match self.layout {
            Layout::List => Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), items, nulls)),
            Layout::LargeList => {
                Arc::new(LargeListArray::new(field, OffsetBuffer::from_lengths(lengths), items, nulls))
            }
            _ => Arc::new(FixedSizeListArray::new(field, self.dim as i32, items, nulls)),
        }
    }
}

/// Writes columns, and nothing else, to a Parquet file.
pub fn write_columns(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn text(values: &[Option<String>]) -> ArrayRef {
    Arc::new(values.iter().map(|value| value.as_deref()).collect::<StringArray>())
}

fn text_lists(lists: &[Option<Vec<String>>]) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for list in lists {
        list.iter().flatten().for_each(|text| builder.values().append_value(text));
        builder.append(list.is_some());
    }
    Arc::new(builder.finish())
}

fn little_endian(float: Float, values: &[Option<f64>]) -> (Vec<u8>, usize) {
    let values = values.iter().map(|value| value.expect("binary columns have no null inside"));
    match float {
        Float::F16 => (values.flat_map(|value| f16::from_f64(value).to_le_bytes()).collect(), 2),
        Float::F32 => (values.flat_map(|value| (value as f32).to_le_bytes()).collect(), 4),
        Float::F64 => (values.flat_map(f64::to_le_bytes).collect(), 8),
    }
}

/// A `.npy` file of version 1.0 with these values.
pub fn npy(float: Float, shape: &[usize], fortran: bool, values: impl Iterator<Item = f64>) -> Vec<u8> {
    let dtype = match float {
        Float::F16 => "<f2",
        Float::F32 => "<f4",
        Float::F64 => "<f8",
    };
    let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({},), }}", shape.join(", "));
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    let values: Vec<Option<f64>> = values.map(Some).collect();
    bytes.extend(little_endian(float, &values).0);
    bytes
}
