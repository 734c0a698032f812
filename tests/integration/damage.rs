//! A small finished run with every kind of file, ways to damage it, and what each verb then says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::command::{Outcome, Place, batchmine};
use super::dataset::Dataset;

/// Flags of the run; `REPLACED` changes one setting of each stage but the first.
const FLAGS: &str = "--task-column task --key-column key0 --skip 2 --window 8 --cluster-size 4 --batch-size 16 \
    --epochs 2 --hard-negatives 2 --max-query-score 0.9 --threads 2";

/// The flags that make each stage from the second on anew, and keep those before it.
const REPLACED: [(&str, &str, &str); 4] = [
    ("neighbors", "--window 8", "--window 7"),
    ("edges", "--skip 2 --window 8", "--skip 3 --window 7"),
    ("clusters", "--epochs 2", "--epochs 2 --cluster-passes 3"),
    ("batches", "--epochs 2", "--epochs 2 --seed 1"),
];

/// Who reads the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Verify,
    /// `mine` once more.
    Again,
    /// `mine --replace` with another setting: the stage with this place in `REPLACED` is made anew.
    Replace(usize),
    Inspect,
    Rows,
    Vectors,
    /// `inspect` of the damaged file.
    File,
    Report,
    #[cfg_attr(not(feature = "export"), allow(dead_code, reason = "there is no such verb"))]
    Export,
}

impl Verb {
    pub fn all() -> Vec<Verb> {
        use Verb::{Again, File, Inspect, Replace, Report, Rows, Vectors, Verify};
        let replaced = (0..REPLACED.len()).map(Replace);
        let mut all: Vec<Verb> = [Verify, Again, Inspect, Rows, Vectors, File, Report].into_iter().collect();
        all.extend(replaced);
        #[cfg(feature = "export")]
        all.push(Verb::Export);
        all
    }

    pub fn name(self) -> String {
        match self {
            Verb::Verify => "verify".into(),
            Verb::Again => "mine".into(),
            Verb::Replace(stage) => format!("mine --replace, {} anew", REPLACED[stage].0),
            Verb::Inspect => "inspect RUN".into(),
            Verb::Rows => "inspect --rows".into(),
            Verb::Vectors => "inspect --rows --vectors".into(),
            Verb::File => "inspect FILE".into(),
            Verb::Report => "report".into(),
            Verb::Export => "export".into(),
        }
    }
}

/// What a verb made: its exit code, what it said, and what it is for (text on stdout, or files).
#[derive(Debug)]
pub struct Told {
    pub outcome: Outcome,
    pub made: Vec<(String, Vec<u8>)>,
}

/// One change of one file.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Flip {
        at: usize,
        bit: u32,
    },
    Zero(usize),
    Cut(usize),
    Delete,
    /// The file of the same name of another run.
    Older,
    /// It and the file of that number take each other's place.
    Swap(usize),
}

/// A finished run, and another one of other data and another seed.
pub struct World {
    place: Place,
    /// Path within the run folder, and content.
    pub files: Vec<(String, Vec<u8>)>,
    older: BTreeMap<String, Vec<u8>>,
    expected: BTreeMap<(Verb, usize), Told>,
}

fn data(rows: usize, dim: usize, seed: u64) -> Dataset {
    let mut data = Dataset::planted(rows, dim, seed)
        .with_text_ids()
        .with_tasks(|row| ["a", "b"][row % 2].into())
        .with_key(|row| (row < 20).then(|| format!("{}", row / 4)))
        .with_text("query", |row| Some(format!("question {row}")))
        .with_text("positive", |row| Some(format!("answer {row}")));
    // A query that two rows share makes the list of both sides' vectors.
    data.queries[2] = data.queries[0].clone();
    data
}

impl World {
    /// Of 60 rows: no file has more than one block of those that are hashed by themselves.
    pub fn new() -> World {
        World::of(60, 8)
    }

    pub fn of(rows: usize, dim: usize) -> World {
        let place = Place::with(&data(rows, dim, 5));
        fs::create_dir_all(place.path("older")).unwrap();
        data(rows, dim, 6).write(&place.path("other input"));
        let mut world = World { place, files: Vec::new(), older: BTreeMap::new(), expected: BTreeMap::new() };
        let (first, older) = (world.place.path("first"), world.place.path("older"));
        fs::create_dir_all(&first).unwrap();
        for (folder, input, flags) in [(&first, "input", ""), (&older, "other input", " --seed 9")] {
            world.mine(folder, input, &format!("{FLAGS}{flags}")).ok();
            Outcome::from(in_folder(folder, ["report", "run"]).output().unwrap()).ok();
        }
        world.files = files_below(&first.join("run"));
        world.files.retain(|(name, _)| name != "lock");
        world.older = files_below(&older.join("run")).into_iter().collect();
        assert!(world.files.iter().any(|(name, _)| name.ends_with("keys-000.lst")), "every kind of file is there");
        world
    }

    /// With what each verb says of the run.
    pub fn with_expected(self) -> World {
        let mut world = self;
        for verb in Verb::all() {
            for file in 0..if verb == Verb::File { world.files.len() } else { 1 } {
                let folder = world.undamaged(&format!("expected-{verb:?}-{file}"));
                let told = world.tell(verb, &folder, file);
                assert!(verb == Verb::File || told.outcome.code == Some(0), "{verb:?}: {}", told.outcome.said());
                world.expected.insert((verb, file), told);
                fs::remove_dir_all(folder).unwrap();
            }
        }
        world
    }

    /// What the verb says of the run that nobody damaged.
    pub fn expected(&self, verb: Verb, file: usize) -> &Told {
        &self.expected[&(verb, if verb == Verb::File { file } else { 0 })]
    }

    /// A folder with a copy of the run in `run`.
    pub fn undamaged(&self, name: &str) -> PathBuf {
        let folder = self.place.path(name);
        for (file, bytes) in &self.files {
            let path = folder.join("run").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::create_dir_all(folder.join("run/tmp")).unwrap();
        folder
    }

    /// Changes a file; `None` if that changes no byte.
    pub fn damage(&self, run: &Path, file: usize, change: &Change) -> Option<()> {
        let (name, bytes) = &self.files[file];
        let path = run.join(name);
        let mut changed = bytes.clone();
        match change {
            Change::Flip { at, bit } => changed[*at] ^= 1 << bit,
            Change::Zero(at) => changed[*at] = 0,
            Change::Cut(length) => changed.truncate(*length),
            Change::Delete => {
                fs::remove_file(path).unwrap();
                return Some(());
            }
            Change::Older => changed.clone_from(self.older.get(name)?),
            Change::Swap(other) => {
                let (other, content) = &self.files[*other];
                fs::write(run.join(other), bytes).unwrap();
                changed.clone_from(content);
            }
        }
        (changed != *bytes).then(|| fs::write(path, changed).unwrap())
    }

    /// Every change of a file, one bit of each byte drawn.
    pub fn every_change(&self, file: usize, random: &mut ChaCha8Rng) -> Vec<Change> {
        let length = self.files[file].1.len();
        let mut all = vec![Change::Delete, Change::Older];
        all.extend((0..self.files.len()).filter(|other| *other != file).map(Change::Swap));
        for at in 0..length {
            all.extend([Change::Flip { at, bit: random.random_range(0..8) }, Change::Zero(at), Change::Cut(at)]);
        }
        all
    }

    /// The n-th of some changes of a file: of its head, middle and end, and as a whole.
    pub fn some_change(&self, file: usize, n: usize, random: &mut ChaCha8Rng) -> Change {
        let length = self.files[file].1.len();
        if length == 0 {
            return [Change::Delete, Change::Swap((file + 1 + n % (self.files.len() - 1)) % self.files.len())][n % 2]
                .clone();
        }
        let mut flip = |range: std::ops::Range<usize>| {
            let at = random.random_range(range.start.min(length - 1)..range.end.clamp(1, length));
            Change::Flip { at, bit: random.random_range(0..8) }
        };
        match n % 9 {
            0 => flip(0..64),
            1 | 4 | 7 => flip(64..length.saturating_sub(24).max(65)),
            2 => flip(length.saturating_sub(24)..length),
            3 => Change::Cut(random.random_range(0..length)),
            5 => Change::Older,
            6 => Change::Delete,
            8 if n.is_multiple_of(2) => {
                Change::Swap((file + random.random_range(1..self.files.len())) % self.files.len())
            }
            _ => Change::Zero(random.random_range(0..length)),
        }
    }

    fn mine(&self, folder: &Path, input: &str, flags: &str) -> Outcome {
        let mut command = in_folder(folder, ["mine"]);
        command.arg(self.place.path(input)).args(["--out", "run"]).args(flags.split_whitespace());
        command.output().unwrap().into()
    }

    /// Lets the verb read `run` in a folder.
    pub fn tell(&self, verb: Verb, folder: &Path, file: usize) -> Told {
        let rows = ["inspect", "run", "--json", "--rows", "0..60"];
        let call = |words: &[&str]| Outcome::from(in_folder(folder, words).output().unwrap());
        let text = |outcome: Outcome| Told { made: vec![("stdout".into(), outcome.stdout.clone().into())], outcome };
        match verb {
            Verb::Verify => text(call(&["verify", "run", "--threads", "2"])),
            Verb::Again => self.mined(folder, FLAGS, 0),
            Verb::Replace(stage) => {
                let (_, old, new) = REPLACED[stage];
                self.mined(folder, &format!("{} --replace", FLAGS.replace(old, new)), stage)
            }
            Verb::Inspect => text(call(&["inspect", "run"])),
            Verb::Rows => text(call(&rows)),
            Verb::Vectors => text(call(&[&rows[..], &["--vectors"]].concat())),
            Verb::File => text(call(&["inspect", &format!("run/{}", self.files[file].0)])),
            Verb::Report => text(call(&["report", "run", "--out", "report", "--json"])),
            Verb::Export => {
                let format = ["--format", "sentence-transformers"];
                let outcome = call(&[&["export", "run", "--out", "export"], &format[..]].concat());
                let mut made = files_below(&folder.join("export"));
                // It names the process.
                made.retain(|(name, _)| name != "lock");
                Told { outcome, made }
            }
        }
    }

    fn mined(&self, folder: &Path, flags: &str, stage: usize) -> Told {
        let outcome = self.mine(folder, "input", flags);
        let mut made = files_below(&folder.join("run"));
        // Of earlier stages only what became of them counts.
        let counts = |name: &str| REPLACED[stage..].iter().any(|(stage, ..)| name.starts_with(stage));
        let again = flags == FLAGS;
        made.retain(|(name, _)| if again { name.starts_with("batches") } else { counts(name) });
        Told { outcome, made }
    }
}

/// The executable in a folder, with 20 seconds and 8 GB of addresses.
fn in_folder<S: AsRef<std::ffi::OsStr>>(folder: &Path, words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 8000000; exec timeout -k 1 20 \"$0\" \"$@\""]);
    let batchmine = batchmine();
    command.arg(batchmine.get_program());
    for (name, _) in batchmine.get_envs() {
        command.env_remove(name);
    }
    command.args(words).current_dir(folder);
    command
}

/// All files below a folder: path within it, and content. None where there is no folder.
pub fn files_below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut waiting, mut all) = (vec![folder.to_owned()], Vec::new());
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(bytes) = fs::read(&path) {
            all.push((path.strip_prefix(folder).unwrap().display().to_string(), bytes));
        }
    }
    all.sort();
    all
}
