//! Whether input files are those that an earlier call read: by their content, wherever they are now.

use super::content::hash_of;
use super::file_content::FileContent;
use super::shard::Shard;
use crate::error::Result;
use crate::run::record::{FileIdentity, FilePlace};
use crate::run::{Run, Stage};
use crate::watch::Watch;

/// What is known of a file without a look at its content.
#[derive(Debug, PartialEq, Eq)]
enum Likeness {
    /// Path, time, a store's version, size and footer are as recorded.
    Same,
    /// Size and footer are as recorded: the content decides.
    Doubtful,
    Other,
}

/// Adds to the identities of the input what an earlier call recorded of their contents, so that they are equal where
/// the files are. Files whose path or time is another are hashed, if size and footer do not tell them apart already.
/// O(bytes of such files).
///
/// # Errors
/// The user interrupts, or a store fails.
pub(crate) fn recognise(run: &Run, shards: &[&Shard], inputs: &mut [FileIdentity]) -> Result<()> {
    let Some((known, places)) = run.known_inputs() else { return Ok(()) };
    if known.len() != inputs.len() {
        return Ok(());
    }
    let files: Vec<_> = shards.iter().flat_map(|shard| &shard.files).collect();
    let likeness: Vec<Likeness> =
        (0..files.len()).map(|at| compare((&known[at], &places[at]), (&inputs[at], &files[at].place))).collect();
    let others = likeness.contains(&Likeness::Other);
    let contents: Vec<FileContent<'_>> = shards.iter().flat_map(|shard| shard.contents()).collect();
    let doubtful = |at: &usize| likeness[*at] == Likeness::Doubtful && known[*at].content.is_some() && !others;
    let bytes: u64 = (0..files.len()).filter(doubtful).map(|at| inputs[at].bytes).sum();
    for at in (0..files.len()).filter(|at| likeness[*at] == Likeness::Same) {
        inputs[at].content.clone_from(&known[at].content);
    }
    if bytes == 0 {
        return Ok(());
    }
    tracing::info!("input files have another path or time: their content is compared");
    let meter = run.meter(Stage::Vectors, bytes, "bytes");
    let listen = |bytes| meter.add(bytes);
    for at in (0..files.len()).filter(doubtful) {
        inputs[at].content = Some(hash_of(contents[at].clone(), Watch::new(&listen))?);
    }
    Ok(())
}

/// Compares a file with a recorded one.
fn compare(known: (&FileIdentity, &FilePlace), now: (&FileIdentity, &FilePlace)) -> Likeness {
    let seen = |identity: &FileIdentity| (identity.bytes, identity.footer.clone(), identity.path_columns.clone());
    match seen(known.0) == seen(now.0) {
        false => Likeness::Other,
        true if known.1 == now.1 => Likeness::Same,
        true => Likeness::Doubtful,
    }
}

/// Whether a file is the recorded one. Its content is hashed only where path or time is another.
///
/// # Errors
/// A store fails.
pub(crate) fn is_same(
    known: (&FileIdentity, &FilePlace),
    now: (&FileIdentity, &FilePlace),
    content: FileContent<'_>,
) -> Result<bool> {
    Ok(match compare(known, now) {
        Likeness::Same => true,
        Likeness::Other => false,
        Likeness::Doubtful => {
            tracing::info!("{} has another path or time: its content is compared", now.1.path);
            known.0.content.as_ref() == Some(&hash_of(content, Watch::silent())?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_file_is_doubtful_and_one_of_another_size_is_another() {
        let identity =
            |bytes| FileIdentity { bytes, footer: "f".into(), content: Some("c".into()), path_columns: Vec::new() };
        let place = |path: &str, modified_ns| FilePlace { path: path.into(), modified_ns, version: None };
        let known = (&identity(5), &place("/a", 1));
        let unread = FileIdentity { content: None, ..identity(5) };
        assert_eq!(compare(known, (&unread, &place("/a", 1))), Likeness::Same);
        assert_eq!(compare(known, (&unread, &place("/a", 2))), Likeness::Doubtful);
        assert_eq!(compare(known, (&unread, &place("/b", 1))), Likeness::Doubtful);
        assert_eq!(compare(known, (&identity(6), &place("/a", 1))), Likeness::Other);
        let footer = FileIdentity { footer: "g".into(), ..identity(5) };
        assert_eq!(compare(known, (&footer, &place("/a", 1))), Likeness::Other);
        let path_columns = vec![("task".to_owned(), Some("fonts".to_owned()))];
        let folder = FileIdentity { path_columns, ..identity(5) };
        assert_eq!(compare(known, (&folder, &place("/a", 1))), Likeness::Other);
    }
}
