//! JSON as batchmine writes it: the keys of every object in alphabetical order, so that the same data are the same
//! bytes.

use serde::Serialize;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// A record of ours as a value, whose objects are sorted.
pub(super) fn to_value(record: &impl Serialize) -> Value {
    serde_json::to_value(record).expect("a record is plain data")
}

/// Data on one line.
///
/// # Errors
/// The data hold a path that is not UTF-8.
pub(crate) fn line(data: &impl Serialize) -> Result<String> {
    serde_json::to_value(data).map(|value| value.to_string()).map_err(no_json)
}

/// Data on several lines, indented.
///
/// # Errors
/// The data hold a path that is not UTF-8.
pub(crate) fn pretty(data: &impl Serialize) -> Result<String> {
    serde_json::to_value(data).map(|value| format!("{value:#}")).map_err(no_json)
}

/// The key of a record that holds the checksum of all others.
const CHECKSUM: &str = "checksum";

/// xxh3-64, 16 hex digits, of data on one line: the checksum of a record that keeps it beside the data.
///
/// # Errors
/// The data hold a path that is not UTF-8.
pub(crate) fn checksum(data: &impl Serialize) -> Result<String> {
    Ok(hash(line(data)?.as_bytes()))
}

/// xxh3-64, 16 hex digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// A record whose checksum fits it.
#[derive(Debug)]
pub(crate) struct CheckedRecord(Map<String, Value>);

impl CheckedRecord {
    /// Reads a record with the checksum of all its other fields, which [`checksum`] computes; else what was found.
    pub(crate) fn read(bytes: &[u8]) -> Result<CheckedRecord, String> {
        let mut fields: Map<String, Value> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let wanted = fields.remove(CHECKSUM).ok_or("no checksum")?;
        let found = hash(Value::Object(fields.clone()).to_string().as_bytes());
        match wanted.as_str() {
            Some(wanted) if wanted == found => Ok(CheckedRecord(fields)),
            _ => Err(format!("checksum {found}, the file says {wanted}")),
        }
    }

    /// The text of a field; `None` where there is no such field, or it is no text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }
}

fn no_json(e: serde_json::Error) -> Error {
    Error::runtime("the output cannot be written as JSON")
        .expected("paths in UTF-8")
        .found(e.to_string())
        .remedy("rename the files or folders")
}

/// A record as it was found, which another version may have written with other keys.
#[cfg(feature = "export")]
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) struct FoundRecord(serde_json::Map<String, Value>);

#[cfg(feature = "export")]
impl FoundRecord {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }
}

/// The settings that differ, as `name: old → new`, nested names joined by dots.
pub(crate) fn differences(old: &impl Serialize, new: &impl Serialize) -> Vec<String> {
    fn walk(name: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    match (a.get(key), b.get(key)) {
                        (Some(Value::Null), None) => out.push(format!("{path}: null → no such key")),
                        (None, Some(Value::Null)) => out.push(format!("{path}: no such key → null")),
                        (old, new) => walk(&path, old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), out),
                    }
                }
            }
            _ if old != new => out.push(format!("{name}: {old} → {new}")),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk("", &to_value(old), &to_value(new), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Unsorted {
        b: f32,
        a: [u8; 2],
    }

    #[test]
    fn keys_are_sorted_whatever_the_order_of_the_fields() {
        let data = Unsorted { b: 0.5, a: [1, 2] };
        assert_eq!(line(&data).unwrap(), r#"{"a":[1,2],"b":0.5}"#);
        assert_eq!(pretty(&data).unwrap(), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": 0.5\n}");
    }

    #[test]
    fn a_checked_record_is_read_as_it_was_written_and_no_other() {
        #[derive(Serialize)]
        struct Record {
            checksum: String,
            #[serde(flatten)]
            data: Unsorted,
        }
        let written = Record {
            checksum: checksum(&Unsorted { b: 0.1, a: [1, 2] }).unwrap(),
            data: Unsorted { b: 0.1, a: [1, 2] },
        };
        let text = pretty(&written).unwrap();
        assert!(CheckedRecord::read(text.as_bytes()).is_ok(), "{text}");
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert!(CheckedRecord::read(&damaged).is_err(), "byte {at}");
            assert!(CheckedRecord::read(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(CheckedRecord::read(b"{\"a\": 1}").unwrap_err(), "no checksum");
    }

    #[test]
    fn differences_name_nested_settings() {
        let old = json!({"size": 32, "rules": {"a": 1, "b": 2}});
        let new = json!({"size": 16, "rules": {"a": 1, "b": 3}});
        assert_eq!(differences(&old, &new), ["rules.b: 2 → 3", "size: 32 → 16"]);
    }
}
