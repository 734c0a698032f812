//! The trainer of the B3 paper: `TASK/train-00000-of-00001.parquet`, the task's full clusters one after the
//! other, so that the number of rows is a multiple of K. The trainer shuffles chunks of K rows (`--chunk_size K`
//! with `--odibn True`) and unites them into batches itself.
//!
//! Columns: `qry`, `qry_image_path`, `pos_text`, `pos_image_path`; with negatives the lists `neg_text` and
//! `neg_image_path`; then the source's other columns of strings, booleans, and numbers of 32 or 64 bits. Image paths
//! are the source's own, or empty.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{Field, Schema};

use super::folder::Folder;
use super::join::{Joined, JoinedRow};
use super::sources::{IMAGE, QUERY_IMAGE};
use super::tables::{TableFile, first_room};
use super::trainer::Trainer;
use crate::error::{Error, Result};

/// Columns that the trainer itself reads: the source's columns of these names are not copied once more.
const TAKEN: [&str; 6] = ["qry", QUERY_IMAGE, "pos_text", IMAGE, "neg_text", "neg_image_path"];

/// The export under way.
pub(crate) struct B3 {
    group_rows: usize,
    negatives: bool,
    kept: Vec<String>,
    open: Option<TaskFile>,
    folders: HashSet<String>,
}

/// The file of the current task; `file` is there from its first rows on.
struct TaskFile {
    name: Option<String>,
    folder: String,
    file: Option<TableFile>,
}

impl B3 {
    /// `kept`: columns of the sources that are copied beside the texts.
    pub(crate) fn new(negatives: u32, kept: Vec<String>, group_rows: usize) -> B3 {
        B3 { group_rows, negatives: negatives > 0, kept, open: None, folders: HashSet::new() }
    }

    fn end_task(&mut self, folder: &mut Folder) -> Result<()> {
        let file = self.open.take().and_then(|task| task.file);
        file.map_or(Ok(()), |file| file.finish(folder))
    }

    fn begin_task(&mut self, row: JoinedRow<'_>) {
        let plain = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
        let name = row.task.unwrap_or("all");
        let safe: String = name.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
        // Loaders skip names that begin with a dot or an underscore.
        let safe = safe.trim_start_matches(['.', '_']).to_owned();
        let safe = if safe.is_empty() { "task".to_owned() } else { safe };
        let names = std::iter::once(safe.clone()).chain((2..).map(|number| format!("{safe}-{number}")));
        let folder =
            names.into_iter().find(|name| !self.folders.contains(name)).expect("there are more numbers than folders");
        if folder != name {
            tracing::info!("task {name:?} is in the folder {folder}");
        }
        self.folders.insert(folder.clone());
        self.open = Some(TaskFile { name: row.task.map(str::to_owned), folder, file: None });
    }

    /// Rows of one task as the trainer's columns.
    fn columns(&self, rows: &Joined, range: Range<usize>) -> Result<RecordBatch> {
        let path = |name: &str| -> Result<ArrayRef> {
            if !rows.keeps(name) {
                return Ok(Arc::new(StringArray::from(vec![""; range.len()])));
            }
            let paths = rows.kept(name, range.clone())?;
            let paths = paths.as_string::<i32>();
            Ok(Arc::new(StringArray::from_iter_values(paths.iter().map(Option::unwrap_or_default))))
        };
        let text = |of: fn(JoinedRow<'_>) -> &str| -> ArrayRef {
            let all: Vec<&str> = range.clone().map(|at| of(rows.row(at))).collect();
            Arc::new(StringArray::from(all))
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("qry", text(|row| row.query)),
            (QUERY_IMAGE, path(QUERY_IMAGE)?),
            ("pos_text", text(|row| row.positive)),
            (IMAGE, path(IMAGE)?),
        ];
        if self.negatives {
            let [texts, images] = negative_columns(rows, range.clone());
            columns.extend([("neg_text", texts), ("neg_image_path", images)]);
        }
        for name in self.kept.iter().filter(|name| !TAKEN.contains(&name.as_str())) {
            columns.push((name, rows.kept(name, range.clone())?));
        }
        let fields: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|e| Error::runtime("rows cannot be put into the columns of an export").found(e.to_string()))
    }
}

/// Texts and image paths of the negatives of some rows: a list for each row.
fn negative_columns(rows: &Joined, range: Range<usize>) -> [ArrayRef; 2] {
    let (mut texts, mut images) = (ListBuilder::new(StringBuilder::new()), ListBuilder::new(StringBuilder::new()));
    for at in range {
        for negative in rows.negatives(at) {
            texts.values().append_value(negative.text);
            images.values().append_value(negative.image.unwrap_or_default());
        }
        texts.append(true);
        images.append(true);
    }
    [Arc::new(texts.finish()), Arc::new(images.finish())]
}

impl Trainer for B3 {
    fn write(&mut self, rows: &Joined, folder: &mut Folder) -> Result<()> {
        let mut at = 0;
        while at < rows.len() {
            let row = rows.row(at);
            if self.open.as_ref().is_none_or(|open| open.name.as_deref() != row.task) {
                self.end_task(folder)?;
                self.begin_task(row);
            }
            let same = (at..rows.len()).take_while(|other| rows.row(*other).task == row.task).count();
            let file = self.open.as_ref().and_then(|open| open.file.as_ref());
            let bytes = (at..at + same).map(|at| rows.bytes(at));
            let range = at..at + file.map_or_else(|| first_room(bytes.clone()), |file| file.room(bytes.clone()));
            let bytes = bytes.take(range.len()).sum();
            at = range.end;
            let columns = self.columns(rows, range)?;
            let open = self.open.as_mut().expect("begun above");
            if open.file.is_none() {
                let name = format!("{}/train-00000-of-00001.parquet", open.folder);
                open.file = Some(TableFile::create(folder, &name, columns.schema(), self.group_rows)?);
            }
            open.file.as_mut().expect("created above").write(columns, bytes)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, folder: &mut Folder) -> Result<()> {
        self.end_task(folder)
    }
}
