//! Opening `.npy` files: only headers are read here.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::shape::StoreType;
use super::shard::{InputFile, NpyArray, Shard, Source};
use crate::error::{Error, Result};
use crate::run::mapped::Mapped;

/// Longest header that is read, as in numpy.
const HEADER_MAX: usize = 10_000;
/// Most opening brackets in a header. A plain array has two; the parser recurses into each.
const BRACKETS_MAX: usize = 16;

/// What a header says of an array of [rows, dim], or of [rows, 2, dim] where `paired`.
struct NpyHeader {
    rows: u64,
    dim: usize,
    paired: bool,
    precision: StoreType,
    /// Offset of the first value.
    data_start: usize,
}

/// Maps `.npy` files. A file whose name has the word `query` or `queries` is joined with the file whose name has
/// `positive` or `positives` instead, where both are given; any other file holds both sides.
///
/// # Errors
/// A file is no `.npy` array of vectors, or two files that belong together differ in shape.
pub(super) fn open_npy(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    let partners: Vec<PathBuf> =
        paths.iter().filter_map(|path| sibling(path)).filter(|other| paths.contains(other)).collect();
    let mut list = Vec::new();
    for path in paths.iter().filter(|path| !partners.contains(path)) {
        let partner = sibling(path).filter(|other| partners.contains(other));
        list.push(open_one(path, partner.as_deref())?);
    }
    Ok(list)
}

/// Where the positives of a file of queries would lie; `None`: the name does not say that it holds queries.
fn sibling(path: &Path) -> Option<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let other =
        if name.contains("queries") { name.replace("queries", "positives") } else { name.replace("query", "positive") };
    (other != name).then(|| path.with_file_name(other))
}

fn open_one(path: &Path, partner: Option<&Path>) -> Result<Shard> {
    let (mapped, header) = open_array(path)?;
    let mut files = vec![InputFile::new(path, &mapped.bytes()[..header.data_start])?];
    let mut array = NpyArray {
        queries: mapped,
        positives: None,
        data_start: [header.data_start; 2],
        precision: [header.precision; 2],
        paired: header.paired,
        dim: header.dim,
    };
    if let Some(other) = partner {
        let (positives, second) = open_array(other)?;
        if (second.rows, second.dim, second.paired || header.paired) != (header.rows, header.dim, false) {
            return Err(Error::input("query and positive arrays differ in shape")
                .path(other)
                .expected(format!("[{}, {}] as in {}", header.rows, header.dim, path.display()))
                .found(format!("[{}, {}]", second.rows, second.dim))
                .remedy("save both sides with one row for each pair"));
        }
        files.push(InputFile::new(other, &positives.bytes()[..second.data_start])?);
        array.positives = Some(positives);
        array.data_start[1] = second.data_start;
        array.precision[1] = second.precision;
    }
    let source = Source::Npy(array);
    Ok(Shard { path: path.to_owned(), first_row: 0, rows: header.rows, source, files, first_file: 0 })
}

fn open_array(path: &Path) -> Result<(Mapped, NpyHeader)> {
    let mapped = Mapped::open(path)?;
    let header = read_header(mapped.bytes()).map_err(|found| {
        Error::input("not a usable .npy file")
            .path(path)
            .expected("a little-endian float16 or float32 array in C order, [rows, dim] or [rows, 2, dim]")
            .found(found)
            .remedy("save it with numpy.save(path, np.ascontiguousarray(x, dtype=np.float32))")
    })?;
    Ok((mapped, header))
}

/// Reads a header and checks that the values that it promises are all there, and nothing else; else what is wrong.
fn read_header(bytes: &[u8]) -> Result<NpyHeader, String> {
    refuse_before_parsing(bytes)?;
    let mut cursor = Cursor::new(bytes);
    let header = npyz::NpyHeader::from_reader(&mut cursor).map_err(|e| e.to_string())?;
    let data_start = cursor.position() as usize;
    let precision = match header.dtype() {
        npyz::DType::Plain(ty) if ty.to_string() == "<f2" => StoreType::F16,
        npyz::DType::Plain(ty) if ty.to_string() == "<f4" => StoreType::F32,
        other => return Err(format!("dtype {}", other.descr())),
    };
    let shape = header.shape();
    let (rows, sides, dim) = match *shape {
        [rows, dim] => (rows, 1, dim),
        [rows, 2, dim] => (rows, 2, dim),
        _ => return Err(format!("shape {shape:?}")),
    };
    if dim == 0 {
        return Err(format!("shape {shape:?}, vectors without values"));
    }
    if header.order() != npyz::Order::C && rows > 1 && dim > 1 {
        return Err("Fortran order".into());
    }
    let found = bytes.len().checked_sub(data_start).map(|bytes| bytes as u64);
    let row_bytes = dim.checked_mul(sides * precision.bytes() as u64);
    let wanted = row_bytes.and_then(|bytes| bytes.checked_mul(rows));
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted == found => {}
        _ => {
            let found = found.unwrap_or(0);
            return Err(format!("shape {shape:?} with {found} bytes of values: the file is cut short or damaged"));
        }
    }
    Ok(NpyHeader { rows, dim: dim as usize, paired: sides == 2, precision, data_start })
}

/// Fails on headers that the parser cannot take: it allocates a header before it reads it, recurses into each bracket,
/// and multiplies the numbers of a shape unchecked.
fn refuse_before_parsing(bytes: &[u8]) -> Result<(), String> {
    let cut = || "a header that is cut short".to_owned();
    let at = |offset: usize| bytes.get(offset).map(|byte| usize::from(*byte));
    let byte = |offset: usize| at(offset).ok_or_else(cut);
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("no .npy file".into());
    }
    let (start, width) = if byte(6)? == 1 { (10, 2) } else { (12, 4) };
    let mut length = 0;
    for offset in (8..8 + width).rev() {
        length = length << 8 | byte(offset)?;
    }
    if length > HEADER_MAX {
        return Err(format!("a header of {length} bytes, where at most {HEADER_MAX} are read"));
    }
    let text = bytes.get(start..start + length).ok_or_else(cut)?;
    let brackets = text.iter().filter(|byte| b"([{".contains(byte)).count();
    if brackets > BRACKETS_MAX {
        return Err(format!("a header with {brackets} brackets, which describes no plain array"));
    }
    // Between quotes are names and types; every other piece is outside.
    let outside = text.split(|byte| b"'\"".contains(byte)).step_by(2);
    let numbers =
        outside.flat_map(|piece| piece.split(|byte| !byte.is_ascii_digit())).filter(|digits| !digits.is_empty());
    let mut product = Some(1u64);
    for digits in numbers {
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
        product = product.zip(number).and_then(|(product, number)| product.checked_mul(number.max(1)));
    }
    match product {
        Some(_) => Ok(()),
        None => Err("a shape of more values than a file can hold: the file is cut short or damaged".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(description: &str, values: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((description.len() as u16).to_le_bytes());
        bytes.extend(description.as_bytes());
        bytes.resize(bytes.len() + values, 0);
        bytes
    }

    fn described(shape: &str, values: usize) -> Vec<u8> {
        file(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"), values)
    }

    #[test]
    fn a_header_that_does_not_fit_its_file_is_refused_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let refused = |bytes: &[u8], word: &str| {
            std::fs::write(&path, bytes).unwrap();
            let text = open_npy(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(text.contains("a.npy") && text.contains(word), "{text}");
        };
        let max = u64::MAX;
        refused(&described(&format!("(1, {max})"), 0), "cut short"); // dim · bytes overflows
        refused(&described(&format!("(1, 2, {max})"), 0), "cut short");
        refused(&described(&format!("({max}, {})", 1u64 << 62), 0), "cut short"); // rows · dim · bytes overflows
        refused(&described(&format!("({max}, 0)"), 0), "without values"); // any number of rows would fit
        refused(&described("(2, 3)", 23), "cut short");
        refused(&described("(2, 3)", 25), "cut short");
        refused(&described("(2, 3)", 0)[..9], "cut short");
        refused(&described("(2, 3)", 0)[..40], "cut short");
        refused(b"", "no .npy file");
        refused(&file(&"(".repeat(9_000), 0), "9000 brackets");
        refused(&file(&" ".repeat(10_001), 0), "10001 bytes");
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend(u32::MAX.to_le_bytes());
        refused(&long, "4294967295 bytes");
    }

    #[test]
    fn rows_and_sides_are_read_from_the_shape() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let open = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let shard = open_npy(std::slice::from_ref(&path)).unwrap().remove(0);
            let Source::Npy(array) = shard.source else { panic!("a .npy file") };
            (shard.rows, array.dim, array.paired)
        };
        assert_eq!(open(&described("(2, 3)", 24)), (2, 3, false));
        assert_eq!(open(&described("(2, 2, 3)", 48)), (2, 3, true));
        assert_eq!(open(&described("(0, 3)", 0)), (0, 3, false));
    }
}
