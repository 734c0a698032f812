use arrow::array::{Array, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};

use super::*;

/// Record batches of some rows each: an id, a word of a dictionary, and a list of ids.
fn batches(rows: &[usize], words: &[&[&str]]) -> Vec<RecordBatch> {
    let mut next = 0i64;
    let mut all = Vec::new();
    for (rows, words) in rows.iter().zip(words) {
        let ids: Vec<i64> = (next..next + *rows as i64).collect();
        next += *rows as i64;
        let keys = arrow::array::Int32Array::from_iter_values(ids.iter().map(|id| (*id % words.len() as i64) as i32));
        let words = StringArray::from(words.to_vec());
        let word = DictionaryArray::<Int32Type>::new(keys, Arc::new(words));
        let lists = ids.iter().map(|id| Some(vec![Some(*id), Some(-*id)]));
        let list = arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        let columns: [(&str, ArrayRef); 3] =
            [("id", Arc::new(Int64Array::from(ids))), ("word", Arc::new(word)), ("list", Arc::new(list))];
        all.push(RecordBatch::try_from_iter(columns).unwrap());
    }
    all
}

fn written(batches: &[RecordBatch], stream: bool, options: IpcWriteOptions) -> Vec<u8> {
    let (mut bytes, schema) = (Vec::new(), batches[0].schema());
    if stream {
        let mut writer = StreamWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
    } else {
        let mut writer = FileWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
    }
    bytes
}

fn open(bytes: &[u8]) -> Result<ArrowFile, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    std::fs::write(&path, bytes).unwrap();
    ArrowFile::open(&path).map_err(|error| error.to_string())
}

/// Ids and words of all rows.
fn read(file: &ArrowFile) -> Result<(Vec<i64>, Vec<String>), String> {
    let (mut ids, mut words) = (Vec::new(), Vec::new());
    for (first, rows) in file.pieces() {
        let arrays = file.columns(&["word", "id"], first, rows)?;
        assert!(arrays.iter().all(|array| array.len() as u64 == rows));
        ids.extend(arrays[1].as_primitive::<Int64Type>().values());
        let word = arrays[0].as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        words.extend(word.into_iter().map(|word| word.unwrap().to_owned()));
    }
    Ok((ids, words))
}

fn compressed(codec: Option<CompressionType>) -> IpcWriteOptions {
    IpcWriteOptions::default().try_with_compression(codec).unwrap()
}

#[test]
fn files_and_streams_are_read_with_every_codec() {
    let words: &[&str] = &["a", "bb", "ccc"];
    let batches = batches(&[500, 0, 400], &[words; 3]);
    let expected: Vec<String> = (0..900).map(|id| words[id % 3].to_owned()).collect();
    for stream in [false, true] {
        for codec in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            let file = open(&written(&batches, stream, compressed(codec))).unwrap();
            assert_eq!(file.rows(), 900);
            assert_eq!(read(&file).unwrap(), ((0..900).collect(), expected.clone()));
            assert_eq!(file.values_of("list", 0, 500), 1500);
            // Values of 500 lists, and their offsets where these become shorter.
            let heap = file.heap_bytes(&["list"]);
            assert!(if codec.is_some() { [8000, 10_004].contains(&heap) } else { heap == 0 }, "{heap}");
        }
    }
}

#[test]
fn large_batches_are_read_in_pieces() {
    let words: &[&str] = &["a"];
    let file = open(&written(&batches(&[200_000], &[words]), false, compressed(None))).unwrap();
    let pieces: Vec<(u64, u64)> = file.pieces().collect();
    assert_eq!(pieces, [(0, 50_000), (50_000, 50_000), (100_000, 50_000), (150_000, 50_000)]);
    assert_eq!(read(&file).unwrap().0, (0..200_000).collect::<Vec<i64>>());
    let values = pieces.iter().map(|(first, rows)| file.values_of("list", *first, *rows));
    assert_eq!(values.sum::<u64>(), 600_000);
    assert_eq!(file.heap_bytes(&["id", "list"]), 0);
}

#[test]
fn dictionaries_of_streams_are_replaced_and_continued() {
    for (words, handling) in [
        ([&["a", "b"][..], &["c", "d", "e"], &["f"]], DictionaryHandling::Resend),
        ([&["a", "b"][..], &["a", "b", "c"], &["a", "b", "c", "d"]], DictionaryHandling::Delta),
    ] {
        let options = compressed(None).with_dictionary_handling(handling);
        let file = open(&written(&batches(&[4, 3, 4], &words), true, options)).unwrap();
        let word = |id: i64| {
            let words = words[if id < 4 {
                0
            } else if id < 7 {
                1
            } else {
                2
            }];
            words[id as usize % words.len()].to_owned()
        };
        assert_eq!(read(&file).unwrap(), ((0..11).collect(), (0..11).map(word).collect()));
    }
}

#[test]
fn a_stream_that_is_cut_or_goes_on_is_refused() {
    let bytes = written(&batches(&[4, 3], &[&["a"], &["a"]]), true, compressed(None));
    let marked = bytes.len() - 8;
    assert_eq!(open(&bytes[..marked]).unwrap().rows(), 7);
    for end in [3, 7, 40, marked / 2, marked - 1, marked + 4] {
        let text = open(&bytes[..end]).unwrap_err();
        assert!(text.contains("a.arrow") && text.contains("not a readable Arrow file"), "{end}: {text}");
    }
    let text = open(&[bytes.clone(), bytes].concat()).unwrap_err();
    assert!(text.contains("behind the end of the stream"), "{text}");
    let file = written(&batches(&[4], &[&["a"]]), false, compressed(None));
    for end in [6, 9, file.len() / 2, file.len() - 1] {
        assert!(open(&file[..end]).is_err());
    }
}

#[test]
fn no_changed_byte_panics_or_allocates_without_bound() {
    let words: &[&str] = &["a", "bb"];
    for (stream, codec) in [(false, None), (true, Some(CompressionType::LZ4_FRAME))] {
        let sound = written(&batches(&[3, 2], &[words; 2]), stream, compressed(codec));
        for at in 0..sound.len() {
            for value in [0xff, sound[at] ^ 1] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                if let Ok(file) = open(&bytes) {
                    let names: Vec<&str> = file.schema().fields().iter().map(|field| field.name().as_str()).collect();
                    for (first, rows) in file.pieces() {
                        let Ok(arrays) = file.columns(&names, first, rows) else { continue };
                        arrays.iter().for_each(|array| array.to_data().validate_full().unwrap());
                    }
                }
            }
        }
    }
}
