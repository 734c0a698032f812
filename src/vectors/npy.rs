//! Opening `.npy` files: only headers are read here.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::input::pair;
use super::npy_rows::{NpyArray, NpySide};
use super::shard::{Shard, ShardFile, Source};
use crate::config::BinaryType;
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::regular;
use crate::run::mapped::Mapped;

/// Longest header that is read, as in numpy.
const HEADER_MAX: usize = 10_000;
/// Longest description in a header that is parsed: that of a plain array has some 80 bytes, and spaces behind it.
const DESCRIPTION_MAX: usize = 512;
/// Most opening brackets in a header. A plain array has two; structured ones have one more for each field.
const BRACKETS_MAX: usize = 16;
/// Most brackets within one another: of the dictionary, a type's list, a field. The parser tries each bracket in many
/// ways, so its time grows by a factor with each level, and with the length.
const LEVELS_MAX: usize = 3;

/// What a header says of an array of [rows, dim], or of [rows, 2, dim] where `paired`.
struct NpyHeader {
    rows: u64,
    dim: usize,
    paired: bool,
    number: BinaryType,
    /// The first index changes fastest.
    fortran: bool,
    /// Offset of the first value.
    data_start: usize,
}

/// A mapped file with its header.
struct OpenArray<'a> {
    path: &'a Path,
    mapped: Mapped,
    header: NpyHeader,
}

/// Maps `.npy` files, and joins files of queries with files of positives by their names ([`super::input`]); any other
/// file holds both sides.
///
/// # Errors
/// A file is no `.npy` array of vectors, is one side of pairs without the other, or two files that belong together
/// differ in shape; or some files have one side and others two.
pub(super) fn open_npy(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    let arrays = paths.iter().map(|path| OpenArray::open(path)).collect::<Result<Vec<_>>>()?;
    let whole: Vec<bool> = arrays.iter().map(|array| array.header.paired).collect();
    let sides = pair(paths, &whole)?;
    let shards = sides.iter().map(|sides| join(&arrays[sides.query], sides.positive.map(|other| &arrays[other])));
    one_kind(shards.collect::<Result<Vec<_>>>()?)
}

/// Maps `.npy` files each of which is a side of its own, whatever its name.
///
/// # Errors
/// See [`open_npy`].
pub(super) fn open_npy_alone(paths: &[PathBuf]) -> Result<Vec<Shard>> {
    paths.iter().map(|path| join(&OpenArray::open(path)?, None)).collect()
}

/// Maps `.npy` files of queries and of positives, paired in their order. The same file on both sides serves as both.
///
/// # Errors
/// See [`open_npy`]; or the sides have other numbers of files.
pub(super) fn open_npy_sides(queries: &[PathBuf], positives: &[PathBuf]) -> Result<Vec<Shard>> {
    if queries.len() != positives.len() {
        return Err(Error::input("--query-file and --positive-file name other numbers of files")
            .expected("one file of positives for each file of queries")
            .found(format!("{} files of queries and {} of positives", queries.len(), positives.len()))
            .remedy("name both sides completely, in the same order"));
    }
    let real = |path: &PathBuf| path.canonicalize().map_err(|e| Error::io("a file cannot be opened", path, e));
    let mut shards = Vec::new();
    for (query, positive) in queries.iter().zip(positives) {
        let first = OpenArray::open(query)?;
        let second = if real(query)? == real(positive)? { None } else { Some(OpenArray::open(positive)?) };
        shards.push(join(&first, second.as_ref())?);
    }
    one_kind(shards)
}

/// One shard of a file of queries and its file of positives; none: the first file serves both sides.
fn join(first: &OpenArray<'_>, second: Option<&OpenArray<'_>>) -> Result<Shard> {
    let (header, path) = (&first.header, first.path);
    let mut array = NpyArray { queries: first.side(), positives: None, paired: header.paired, dim: header.dim };
    let mut files = vec![first.file()?];
    if let Some(second) = second {
        let other = &second.header;
        if (other.rows, other.dim, other.paired || header.paired) != (header.rows, header.dim, false) {
            return Err(Error::input("query and positive arrays differ in shape")
                .path(second.path)
                .expected(format!("{} as in {}", header.shape(), path.display()))
                .found(other.shape())
                .remedy("save both sides with one row for each pair, as [rows, dim]"));
        }
        tracing::info!("{} has the positives of {}", second.path.display(), path.display());
        array.positives = Some(second.side());
        files.push(second.file()?);
    }
    Ok(Shard::new(path, header.rows, files, Source::Npy(array)))
}

/// The shards, if all have two sides, or all have one.
fn one_kind(shards: Vec<Shard>) -> Result<Vec<Shard>> {
    let shared = |shard: &&Shard| matches!(&shard.source, Source::Npy(array) if array.is_shared());
    let (one, two) = (shards.iter().find(shared), shards.iter().find(|shard| !shared(shard)));
    match (one, two) {
        (Some(one), Some(two)) => Err(Error::input("some .npy files have queries and positives, and others one side")
            .path(&one.path)
            .expected(format!("both sides, as {} has them", two.path.display()))
            .found("one array whose rows would be their own positives")
            .remedy("name both sides: --query-file FILE --positive-file FILE; or leave the file out")),
        (Some(one), None) => {
            tracing::info!("{}: each row of {} arrays is its own positive", one.path.display(), shards.len());
            if let [first, second] = &shards[..]
                && first.rows == second.rows
            {
                tracing::warn!(
                    "{} and {} have {} rows each, and names that say no side: if they are two sides, name them with \
                     --query-file and --positive-file",
                    first.path.display(),
                    second.path.display(),
                    first.rows
                );
            }
            Ok(shards)
        }
        _ => Ok(shards),
    }
}

impl<'a> OpenArray<'a> {
    fn open(path: &'a Path) -> Result<OpenArray<'a>> {
        regular::open(path)?;
        let mapped = Mapped::open(path)?;
        let header = guarded(path, || read_header(mapped.bytes())).flatten().map_err(|found| {
            Error::input("not a usable .npy file")
                .path(path)
                .expected("a little-endian float16, float32 or float64 array, [rows, dim] or [rows, 2, dim]")
                .remedy(remedy_of(&found, path))
                .found(found)
        })?;
        Ok(OpenArray { path, mapped, header })
    }

    fn side(&self) -> NpySide {
        let NpyHeader { rows, number, fortran, data_start, .. } = self.header;
        NpySide { mapped: self.mapped.clone(), data_start, number, fortran_rows: fortran.then_some(rows as usize) }
    }

    fn file(&self) -> Result<ShardFile> {
        ShardFile::new(self.path, &self.mapped.bytes()[..self.header.data_start])
    }
}

impl NpyHeader {
    fn shape(&self) -> String {
        let sides = if self.paired { "2, " } else { "" };
        format!("[{}, {sides}{}]", self.rows, self.dim)
    }
}

/// What to do about an array that cannot be used.
fn remedy_of(found: &str, path: &Path) -> String {
    let path = path.display();
    if found.contains("cut short") || found.contains("no .npy file") {
        "write or download the file again".into()
    } else if found.contains("|O") {
        format!("stack its vectors: np.save('{path}', np.stack(np.load('{path}', allow_pickle=True)).astype('<f4'))")
    } else {
        format!("convert it: np.save('{path}', np.load('{path}').astype('<f4')), with a shape of [rows, dim]")
    }
}

/// Reads a header and checks that the values that it promises are all there, and nothing else; else what is wrong.
fn read_header(bytes: &[u8]) -> Result<NpyHeader, String> {
    refuse_before_parsing(bytes)?;
    let mut cursor = Cursor::new(bytes);
    // Behind the first line the parser shows what it read.
    let first_line = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
    let header = npyz::NpyHeader::from_reader(&mut cursor).map_err(|e| first_line(e.to_string()))?;
    let data_start = cursor.position() as usize;
    let number = match header.dtype() {
        npyz::DType::Plain(ty) if ty.to_string() == "<f2" => BinaryType::F16,
        npyz::DType::Plain(ty) if ty.to_string() == "<f4" => BinaryType::F32,
        npyz::DType::Plain(ty) if ty.to_string() == "<f8" => BinaryType::F64,
        npyz::DType::Plain(ty) if ty.to_string().starts_with('>') => {
            return Err(format!("dtype {}, which is big-endian", header.dtype().descr()));
        }
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
    let found = bytes.len().checked_sub(data_start).map(|bytes| bytes as u64);
    let row_bytes = dim.checked_mul(sides * number.bytes() as u64);
    let wanted = row_bytes.and_then(|bytes| bytes.checked_mul(rows));
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted == found => {}
        _ => {
            let found = found.unwrap_or(0);
            return Err(format!("shape {shape:?} with {found} bytes of values: the file is cut short or damaged"));
        }
    }
    let fortran = header.order() != npyz::Order::C;
    Ok(NpyHeader { rows, dim: dim as usize, paired: sides == 2, number, fortran, data_start })
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
    refuse_slow(text)?;
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

/// Fails on descriptions that the parser takes long for: longer ones than any plain array has, more levels of brackets,
/// and dictionaries or sets within others.
fn refuse_slow(text: &[u8]) -> Result<(), String> {
    let (mut level, mut deepest, mut dictionaries) = (0usize, 0, 0);
    for byte in text {
        match byte {
            b'(' | b'[' | b'{' => level += 1,
            b')' | b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(level);
        dictionaries += usize::from(*byte == b'{');
    }
    let description = text.trim_ascii();
    let fault = if deepest > LEVELS_MAX {
        format!("brackets {deepest} deep")
    } else if dictionaries != 1 || !description.starts_with(b"{") {
        format!("{dictionaries} dictionaries")
    } else if description.len() > DESCRIPTION_MAX {
        format!("a description of {} bytes", description.len())
    } else {
        return Ok(());
    };
    Err(format!("a header with {fault}, which describes no plain array"))
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
        refused(&file("{[(((", 0), "5 deep");
        refused(&file("{'descr': {}}", 0), "2 dictionaries");
        refused(&file("(12, 4)", 0), "0 dictionaries");
        refused(&file(&format!("{{[[{}", "1+".repeat(300)), 0), "a description of 603 bytes");
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend(u32::MAX.to_le_bytes());
        refused(&long, "4294967295 bytes");
    }

    /// The parser is given no text that it takes long for, whatever is repeated behind whatever brackets.
    #[test]
    fn no_header_takes_long() {
        let brackets = ["{", "{(", "{[", "{[(", "{((", "{[[", "{'a': [(", "[[[[", "((((", "{{{{"];
        let repeated =
            ["1+", "1,", "-1,", "-", "'a',", "'a':1,", "'", "\\", "1.", "1e5,", " ", "b'a'", "#", "(),", "[],"];
        let (mut slowest, mut of) = (std::time::Duration::ZERO, String::new());
        for (open, piece) in brackets.iter().flat_map(|open| repeated.map(|piece| (open, piece))) {
            for length in [DESCRIPTION_MAX, HEADER_MAX] {
                let text = format!("{open}{}", piece.repeat(length / piece.len() - open.len()));
                let begin = std::time::Instant::now();
                drop(read_header(&file(&text, 0)));
                if begin.elapsed() > slowest {
                    (slowest, of) = (begin.elapsed(), format!("{open}{piece}{piece}.. of {length} bytes"));
                }
            }
        }
        println!("npy headers: {} tried, slowest {slowest:.1?}: {of}", brackets.len() * repeated.len() * 2);
        // Here the parser is not optimised, and tests run beside it.
        assert!(slowest < std::time::Duration::from_secs(2), "{slowest:?}: {of}");
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
