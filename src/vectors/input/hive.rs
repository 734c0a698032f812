//! Columns that the names of folders give: `task=fonts/part-0.parquet` is a file whose rows have the task `fonts`.

use std::path::{Component, Path};

/// The value that stands for a null in a folder's name.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A column that has one value in all rows of a file, and that the file itself need not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionValue {
    pub(crate) name: String,
    /// `None`: null.
    pub(crate) value: Option<String>,
}

/// Whether a folder's name is that of a value: `name=value`.
pub(super) fn is_hive(name: &str) -> bool {
    name.split_once('=').is_some_and(|(column, _)| !column.is_empty())
}

/// The columns that the folders of a path give, from the first folder to the last.
///
/// A name that two folders have is left out: neither of them is the column. So are names whose bytes are no UTF-8.
pub(super) fn partitions_of(path: &Path) -> Vec<PartitionValue> {
    let folders = path.parent().map(Path::components).into_iter().flatten();
    let names = folders.filter_map(|folder| match folder {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let all: Vec<PartitionValue> = names.filter_map(partition).collect();
    let count = |name: &str| all.iter().filter(|other| other.name == name).count();
    all.iter().filter(|value| count(&value.name) == 1).cloned().collect()
}

fn partition(folder: &str) -> Option<PartitionValue> {
    let (name, value) = folder.split_once('=').filter(|_| is_hive(folder))?;
    let value = if value == NULL { None } else { Some(decoded(value)?) };
    Some(PartitionValue { name: decoded(name)?, value })
}

/// The text without its escapes (`%2F`); `None`: the bytes are no UTF-8. A `%` without two hexadecimal digits stays.
pub(super) fn decoded(text: &str) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut at, mut out) = (text.as_bytes(), 0, Vec::with_capacity(text.len()));
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Vec<(String, Option<String>)> {
        partitions_of(Path::new(path)).into_iter().map(|column| (column.name, column.value)).collect()
    }

    #[test]
    fn folders_give_columns() {
        let text = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        assert_eq!(of("data/task=fonts/year=2024/a=b.parquet"), [text("task", "fonts"), text("year", "2024")]);
        assert_eq!(of("task=a%2Fb%20%C3%A4/x.parquet"), [text("task", "a/b ä")]);
        assert_eq!(of("task=a=b/x.parquet"), [text("task", "a=b")]);
        assert_eq!(of("task=/x.parquet"), [text("task", "")]);
        assert_eq!(of("task=5%/%zz=1%2/x.parquet"), [text("task", "5%"), text("%zz", "1%2")]);
        assert_eq!(of("task=__HIVE_DEFAULT_PARTITION__/x.parquet"), [("task".to_owned(), None)]);
    }

    #[test]
    fn what_names_no_column_gives_none() {
        assert!(of("data/=a/plain/x.parquet").is_empty());
        assert!(of("task=a.parquet").is_empty());
        assert!(of("task=%ff/x.parquet").is_empty());
        assert!(of("task=a/task=b/x.parquet").is_empty());
    }
}
