//! The label columns of the input: what the schemas of all shards make of them.

use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use parquet::basic::LogicalType;

use super::form::{IdForm, LabelForm, compare, form, holds_labels, id_bytes_form, id_form, leaf_type};
use crate::config::IdColumn;
use crate::error::{Error, Result};
use crate::run::record::Roles;
use crate::vectors::decode::Unit;
use crate::vectors::shard::{Shard, Source};

/// The name under which ids are found without being named.
const ID: &str = "id";
/// Longest id or task in bytes: they are written into every row of the batch table.
pub(crate) const NAME_BYTES_MAX: usize = 4 << 10;
/// Longest key in bytes. Of keys only hashes are kept.
const KEY_BYTES_MAX: usize = 1 << 20;
/// More elements than any machine holds: sums of bytes stay within a u64, whatever a footer says.
const ELEMENTS_MAX: u64 = 1 << 48;

/// The label columns of the input.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    pub(crate) id: Option<LabelColumn>,
    pub(crate) task: Option<LabelColumn>,
    pub(crate) keys: Vec<LabelColumn>,
}

/// One column in all shards.
#[derive(Debug, Clone)]
pub(crate) struct LabelColumn {
    pub(crate) name: String,
    pub(crate) form: LabelForm,
    /// Rows have any number of labels: the column has lists in some shard.
    pub(crate) list: bool,
    /// What ids are; none where the column has none.
    id: Option<IdForm>,
    /// Each type that a label has, with the first file that has it.
    types: Vec<(DataType, PathBuf)>,
    /// Most labels that all rows have together, by the footers.
    pub(crate) elements: u64,
    /// Longest label that is taken, in bytes.
    pub(crate) bytes_max: usize,
}

/// How many labels the key columns of lists have, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ListElements {
    /// Columns of lists.
    pub(crate) columns: u64,
    /// Of the largest column.
    pub(crate) most: u64,
    /// Of all columns.
    pub(crate) total: u64,
}

impl Labels {
    /// Gives each label column its form.
    ///
    /// # Errors
    /// A column is of a type that holds no labels, or of types that cannot be compared; a task or an id is a list; an
    /// id column is in some files only.
    pub(crate) fn resolve(shards: &[Shard], roles: &Roles, ids: &IdColumn) -> Result<Labels> {
        let column = |name: &String| LabelColumn::new(name, &typed(shards, name), elements_of(shards, name));
        if roles.id.is_none() && *ids == IdColumn::Found {
            refuse_ids_of_some(shards)?;
        }
        let of_id = |name: &String| Ok(column(name)?.of_ids()?.named().with_uuids(shards));
        let of_task =
            |name: &String| Ok(column(name)?.single("task", "mine without --task-column")?.named().with_uuids(shards));
        let id = roles.id.as_ref().map(of_id).transpose()?;
        let task = roles.task.as_ref().map(of_task).transpose()?;
        let keys = roles.keys.iter().map(column).collect::<Result<Vec<_>>>()?;
        for key in keys.iter().filter(|key| key.list) {
            key.refuse_embeddings(roles)?;
        }
        Ok(Labels { id, task, keys })
    }

    /// Gives the labels of a corpus and those of the rows one form, so that they are compared by value; `path` is the
    /// corpus' first file.
    ///
    /// # Errors
    /// Values cannot be compared; one has lists and the other has not; ids are numbers on one side and text on the
    /// other.
    pub(crate) fn agree(&mut self, rows: &mut Labels, path: &Path) -> Result<()> {
        let kind = |list: bool| if list { "lists of keys" } else { "a key for each" };
        for own in &mut self.keys {
            let Some(other) = rows.keys.iter_mut().find(|key| key.name == own.name) else { continue };
            if other.list != own.list {
                return Err(Error::input("rows and documents have keys of two kinds")
                    .path(path)
                    .column(own.name.clone())
                    .expected(format!("{}, as the rows have", kind(other.list)))
                    .found(kind(own.list))
                    .remedy("write both as lists, or both as single values"));
            }
            own.agree(other, path)?;
        }
        if let (Some(own), Some(other)) = (&mut self.task, &mut rows.task) {
            own.agree(other, path)?;
        }
        let rows = &*rows;
        let texts = |labels: &Labels| labels.id.as_ref().is_some_and(|column| !column.has_integer_ids());
        if texts(self) == texts(rows) {
            return Ok(());
        }
        let words = |labels: &Labels| match &labels.id {
            Some(column) if column.has_integer_ids() => "numbers",
            Some(_) => "text",
            None => "no ids, in whose place numbers stand",
        };
        Err(Error::input("rows and documents have ids of two kinds")
            .path(path)
            .expected(format!("ids as the rows have them, {}: both stand in one column", words(rows)))
            .found(words(self))
            .remedy("give both ids of one kind, or number both: --id-column none --document-id-column none"))
    }

    /// The labels of key columns of lists.
    pub(crate) fn list_elements(&self) -> ListElements {
        self.keys.iter().filter(|key| key.list).fold(ListElements::default(), |sum, key| ListElements {
            columns: sum.columns + 1,
            most: sum.most.max(key.elements),
            total: sum.total.saturating_add(key.elements),
        })
    }
}

impl LabelColumn {
    fn new(name: &str, typed: &[(&DataType, &Path)], elements: u64) -> Result<LabelColumn> {
        let mut types: Vec<(DataType, PathBuf)> = Vec::new();
        let mut list = false;
        for (data_type, path) in typed {
            let (leaf, is_list) = leaf_type(data_type);
            list |= is_list;
            if !holds_labels(leaf) {
                return Err(Error::input("the column has a type that holds no labels")
                    .path(path)
                    .column(name)
                    .expected("strings, numbers, booleans, dates, times or bytes; as keys also lists of these")
                    .found(data_type.to_string())
                    .remedy("name another column, or cast this one to strings"));
            }
            if let Some((other, first)) = types.iter().find(|(other, _)| !compare(other, leaf)) {
                return Err(Error::input("a label column has types whose values cannot be compared")
                    .path(path)
                    .column(name)
                    .expected(format!("values that compare with {other}, as in {}", first.display()))
                    .found(leaf.to_string())
                    .remedy("cast the column to one type in all files, such as string"));
            }
            if types.iter().all(|(other, _)| other != leaf) {
                types.push((leaf.clone(), path.to_path_buf()));
            }
        }
        let leaves: Vec<&DataType> = types.iter().map(|(leaf, _)| leaf).collect();
        let (form, id) = (form(&leaves), id_form(&leaves));
        Ok(LabelColumn { name: name.to_owned(), form, list, id, types, elements, bytes_max: KEY_BYTES_MAX })
    }

    /// The column, if rows have one label each.
    fn single(self, role: &str, other: &str) -> Result<LabelColumn> {
        if !self.list {
            return Ok(self);
        }
        Err(Error::input(format!("the {role} column has lists"))
            .path(self.first_path())
            .column(&self.name)
            .expected(format!("one {role} in a row"))
            .found(format!("lists of {}", self.first_type()))
            .remedy(format!("write one value a row into a column of its own and name it, or {other}")))
    }

    /// The column, if it can have ids.
    fn of_ids(self) -> Result<LabelColumn> {
        let column = self.single("id", "name another column with --id-column; --id-column none numbers the rows")?;
        if column.id.is_some() {
            let leaves: Vec<&DataType> = column.types.iter().map(|(leaf, _)| leaf).collect();
            let form = id_bytes_form(&leaves).unwrap_or(column.form);
            return Ok(LabelColumn { form, ..column });
        }
        let kinds: Vec<String> =
            column.types.iter().map(|(leaf, path)| format!("{leaf} in {}", path.display())).collect();
        Err(Error::input("the id column has a type that holds no ids")
            .path(column.first_path())
            .column(&column.name)
            .expected("integers, strings or bytes, in all files")
            .found(kinds.join(", "))
            .remedy(
                "name another column with --id-column NAME, or cast this one to integers or strings; \
                 --id-column none numbers the rows",
            ))
    }

    /// The column, whose labels are names: they stand in the batch table.
    fn named(self) -> LabelColumn {
        LabelColumn { bytes_max: NAME_BYTES_MAX, ..self }
    }

    /// The error for a label that is longer than is taken.
    pub(crate) fn too_long(&self, bytes: usize) -> Error {
        let (what, remedy) = match self.bytes_max {
            NAME_BYTES_MAX => (
                "an id or a task is too long",
                "name another column, or write a short name or a hash of it into the column; --id-column none numbers \
                 the rows",
            ),
            _ => ("a key is too long", "write a hash of it into the column, or name another column"),
        };
        Error::input(what)
            .expected(format!("at most {} bytes", self.bytes_max))
            .found(format!("{bytes} bytes"))
            .remedy(remedy)
    }

    /// The error for a row whose keys are together longer than is taken.
    pub(crate) fn list_too_long(&self, bytes: usize, most: usize) -> Error {
        Error::input("the keys of a row are too long")
            .expected(format!("at most {most} bytes in a row"))
            .found(format!("{bytes} bytes"))
            .remedy("write hashes of them into the column, or name another column")
    }

    /// The column, with its labels written as UUIDs if all files call them so.
    fn with_uuids(self, shards: &[Shard]) -> LabelColumn {
        let mut with_rows = shards.iter().filter(|shard| shard.rows > 0).peekable();
        let all = with_rows.peek().is_some() && with_rows.all(|shard| has_uuids(shard, &self.name));
        if all { LabelColumn { form: LabelForm::Uuid, ..self } } else { self }
    }

    /// Gives this column and that of the rows the form in which the values of all their types are compared.
    fn agree(&mut self, rows: &mut LabelColumn, path: &Path) -> Result<()> {
        let leaves: Vec<&DataType> = self.types.iter().chain(&rows.types).map(|(leaf, _)| leaf).collect();
        let compare_all = leaves.iter().all(|a| leaves.iter().all(|b| compare(a, b)));
        let joint = form(&leaves);
        // Bytes that a file calls UUIDs, or that are written in hex, have a form of their own.
        let by_value = [LabelForm::Plain, LabelForm::Number, LabelForm::Instant];
        let may_change = [self.form, rows.form].iter().all(|form| by_value.contains(form));
        if compare_all && (may_change || self.form == rows.form) {
            if may_change {
                (self.form, rows.form) = (joint, joint);
            }
            return Ok(());
        }
        let types = |column: &LabelColumn| {
            let types: Vec<String> = column.types.iter().map(|(leaf, _)| leaf.to_string()).collect();
            types.join(", ")
        };
        Err(Error::input("rows and documents have a label column of types whose values cannot be compared")
            .path(path)
            .column(self.name.clone())
            .expected(format!("values that compare with {}, as the rows have", types(rows)))
            .found(types(self))
            .remedy("cast the column to one type in both, such as string"))
    }

    /// Whether the column has int64 ids, else strings.
    pub(crate) fn has_integer_ids(&self) -> bool {
        self.id == Some(IdForm::Integer)
    }

    /// Lists of numbers that are embeddings have nearly every element of their own: they say nothing as keys.
    fn refuse_embeddings(&self, roles: &Roles) -> Result<()> {
        if ![&roles.query, &roles.positive].contains(&&Some(self.name.clone())) {
            return Ok(());
        }
        Err(Error::input("the key column is the column of embeddings")
            .path(self.first_path())
            .column(&self.name)
            .expected("a column of labels")
            .found(format!("lists of {}", self.first_type()))
            .remedy("leave --key-column out for it: rows with bit-identical positives are treated so without it"))
    }

    /// The error for a value that has no label in the column's form; `path`: its file.
    pub(crate) fn unlabelled(&self, path: &Path, data_type: &DataType, found: &str, count: u64) -> Error {
        let leaf = leaf_type(data_type).0;
        let more = if count > 1 { format!("; {count} values of the column are so") } else { String::new() };
        match self.types.iter().find(|(other, first)| other != leaf && first != path && *other != DataType::Null) {
            Some((other, first)) => Error::input("a label cannot be compared with those of another type")
                .expected(format!("a value that {leaf} and {other}, as in {}, write alike", first.display()))
                .found(format!("{found}{more}"))
                .remedy("cast the column to one type in all files"),
            None => Error::input("a label cannot be read")
                .expected(format!("a value of {leaf} that has a text"))
                .found(format!("{found}{more}"))
                .remedy("name another column, or cast this one to strings"),
        }
    }

    fn first_path(&self) -> &Path {
        self.types.first().map_or(Path::new(""), |(_, path)| path)
    }

    fn first_type(&self) -> String {
        self.types.first().map_or_else(String::new, |(leaf, _)| leaf.to_string())
    }
}

/// Whether a file calls the values of a column UUIDs.
fn has_uuids(shard: &Shard, name: &str) -> bool {
    let Some(field) = shard.schema().and_then(|schema| schema.field_with_name(name).ok()) else { return false };
    let by_arrow = field.extension_type_name() == Some("arrow.uuid");
    let by_parquet = || {
        let Source::Parquet { metadata, .. } = &shard.source else { return false };
        let mut fields = metadata.parquet_schema().root_schema().get_fields().iter();
        let own = fields.find(|field| field.name() == name);
        own.is_some_and(|field| field.get_basic_info().logical_type_ref() == Some(&LogicalType::Uuid))
    };
    *field.data_type() == DataType::FixedSizeBinary(16) && (by_arrow || by_parquet())
}

/// A column's type in each shard that has rows: the type of no values is nobody's.
fn typed<'s>(shards: &'s [Shard], name: &str) -> Vec<(&'s DataType, &'s Path)> {
    let field = |shard: &'s Shard| {
        let field = shard.schema()?.field_with_name(name).ok()?;
        Some((field.data_type(), shard.path.as_path()))
    };
    shards.iter().filter(|shard| shard.rows > 0).filter_map(field).collect()
}

/// Most labels of a column in all shards, by their footers.
fn elements_of(shards: &[Shard], name: &str) -> u64 {
    let sum = Unit::all(shards).iter().fold(0u64, |sum, unit| sum.saturating_add(unit.values_of(name)));
    sum.min(ELEMENTS_MAX)
}

/// Fails where a later file has ids that the first one has not: row numbers would silently take their place.
fn refuse_ids_of_some(shards: &[Shard]) -> Result<()> {
    let has = |shard: &&Shard| shard.file_schema().is_some_and(|schema| schema.field_with_name(ID).is_ok());
    let with_rows = || shards.iter().filter(|shard| shard.rows > 0);
    let (Some(first), Some(other)) = (with_rows().next(), with_rows().find(has)) else { return Ok(()) };
    Err(Error::input("some files have ids and others have none")
        .path(&first.path)
        .column(ID)
        .expected(format!("a column {ID}, as in {}", other.path.display()))
        .found("no such column")
        .remedy("give all files the column, or name another with --id-column NAME; --id-column none numbers the rows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_keys_are_compared_with_the_rows_by_value() {
        let column = |kind: DataType| LabelColumn::new("k", &[(&kind, Path::new("a"))], 0).unwrap();
        let agree = |own: DataType, rows: DataType| {
            let (mut own, mut rows) = (column(own), column(rows));
            own.agree(&mut rows, Path::new("b")).map(|()| (own.form, rows.form))
        };
        let number = (LabelForm::Number, LabelForm::Number);
        assert_eq!(agree(DataType::Float64, DataType::Int64).unwrap(), number);
        assert_eq!(agree(DataType::Int64, DataType::Float32).unwrap(), number);
        assert_eq!(agree(DataType::Utf8, DataType::Int32).unwrap(), (LabelForm::Plain, LabelForm::Plain));
        let text = agree(DataType::Boolean, DataType::Utf8).unwrap_err().to_string();
        assert!(text.contains("Boolean") && text.contains("Utf8") && text.contains("column k"), "{text}");
    }
}
