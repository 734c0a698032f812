//! Which module imports which: the order of the top-level modules, and no circles inside a folder.
//!
//! Imports are read from the text: `use` statements, and paths that begin with `crate::` or `super::`, outside
//! comments and outside code under `#[cfg(test)]`.

use std::collections::{BTreeMap, BTreeSet};

use super::tidy::{Source, assert_none, code, sources};

/// Modules that stages may use, whichever they are.
const BELOW_STAGES: [&str; 10] =
    ["allocator", "budget", "config", "error", "guard", "objects", "random", "regular", "run", "watch"];
const STAGES: [&str; 5] = ["vectors", "neighbors", "edges", "clusters", "batches"];

/// The top-level modules that a top-level module may import.
fn allowed(module: &str) -> Vec<&'static str> {
    let stages_below = |stage: usize| [&BELOW_STAGES[..], &STAGES[..stage]].concat();
    match module {
        "allocator" | "error" | "random" | "stdio" => vec![],
        "guard" | "objects" | "regular" | "watch" => vec!["error"],
        "config" => vec!["error", "regular"],
        "run" => vec!["config", "error", "guard", "regular", "stdio", "watch"],
        "planted" => vec!["error", "random", "run", "watch"],
        "bench" => {
            vec!["config", "error", "job", "neighbors", "planted", "random", "regular", "report", "run", "watch"]
        }
        "budget" => vec!["run"],
        "cost" | "plan" => [&["config", "error", "run", "budget"], &STAGES[..]].concat(),
        "job" => [&BELOW_STAGES[..], &STAGES[..], &["cost", "plan"]].concat(),
        "inspect" | "pairs" | "pieces" | "report" | "verify" => {
            [&["config", "error", "guard", "job", "random", "regular", "run", "watch"], &STAGES[..]].concat()
        }
        "cli" | "fuzzing" => [
            &BELOW_STAGES[..],
            &STAGES[..],
            &["bench", "cost", "inspect", "job", "pairs", "pieces", "plan", "planted", "report", "stdio", "verify"],
        ]
        .concat(),
        stage => STAGES.iter().position(|name| *name == stage).map_or_else(Vec::new, stages_below),
    }
}

/// A path to a module, from the root of the crate.
type ModulePath = Vec<String>;

/// The module that a file is.
fn module_of(source: &Source) -> ModulePath {
    let path = source.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// The file's code without comments, and without items under `#[cfg(test)]`.
fn code_outside_tests(source: &Source) -> String {
    let mut text = String::new();
    let mut lines = source.lines.iter().map(|line| code(line));
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            text += line;
            text.push('\n');
            continue;
        }
        // The item ends with a semicolon on its first line, or with a brace where the attribute began.
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let mut item = lines.by_ref().skip_while(|line| line.trim().starts_with("#["));
        if item.next().is_some_and(|first| !first.trim_end().ends_with([';', '}'])) {
            item.find(|line| line.trim_end() == end);
        }
    }
    text
}

/// The paths of a `use` tree.
fn paths_of_tree(tree: &str) -> Vec<String> {
    let Some((prefix, inner)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let inner = inner.trim_end().trim_end_matches('}');
    let (mut depth, mut start, mut branches) = (0, 0, Vec::new());
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    branches.push(&inner[start..]);
    let branches = branches.into_iter().map(str::trim).filter(|branch| !branch.is_empty());
    branches.flat_map(paths_of_tree).map(|path| format!("{}{path}", prefix.trim())).collect()
}

/// What a file names of other modules.
struct Names {
    /// Paths of `use` statements and of expressions.
    used: Vec<String>,
    /// Paths of `pub use` statements.
    exported: Vec<String>,
}

fn names_of(source: &Source) -> Names {
    let text = code_outside_tests(source);
    let mut names = Names { used: Vec::new(), exported: Vec::new() };
    let mut rest = String::new();
    let mut statement: Option<(bool, String)> = None;
    for line in text.lines() {
        let bare = line.trim();
        let (is_pub, after) = match bare.strip_prefix("pub") {
            Some(after) => (true, after.split_once(") ").map_or(after, |(_, after)| after).trim_start()),
            None => (false, bare),
        };
        if statement.is_none() && after.starts_with("use ") {
            statement = Some((is_pub, String::new()));
        }
        let Some((_, tree)) = &mut statement else {
            rest += line;
            rest.push('\n');
            continue;
        };
        *tree += bare;
        tree.push(' ');
        if bare.ends_with(';') {
            let (is_pub, tree) = statement.take().unwrap();
            let tree = tree.split_once("use ").unwrap().1.trim_end().trim_end_matches(';');
            let paths = paths_of_tree(tree);
            if is_pub { &mut names.exported } else { &mut names.used }.extend(paths);
        }
    }
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    for word in rest.split(|letter: char| !is_name(letter)).filter(|word| word.contains("::")) {
        names.used.push(word.trim_matches(':').to_owned());
    }
    names
}

/// A path from the root of the crate; `None` where it leads out of the crate.
fn absolute(path: &str, module: &ModulePath, is_folder: bool, children: &BTreeSet<String>) -> Option<ModulePath> {
    let mut parts = path.split("::");
    let first = parts.next()?;
    let parent = || module[..module.len() - 1].to_vec();
    let mut found = match first {
        "crate" => Vec::new(),
        "self" => module.clone(),
        "super" => parent(),
        name if is_folder && children.contains(name) => [module.clone(), vec![name.to_owned()]].concat(),
        _ => return None,
    };
    for part in parts {
        if part == "super" {
            found.pop();
        } else {
            found.push(part.to_owned());
        }
    }
    Some(found)
}

/// All imports of the crate, by the importing module; and what each folder exports of its children.
struct Imports {
    /// Importing file's module, whether it is a folder's own file, and imported paths.
    of: Vec<(ModulePath, bool, Vec<ModulePath>)>,
    /// Child by folder and exported name.
    exported: BTreeMap<(ModulePath, String), String>,
    /// Children by folder.
    children: BTreeMap<ModulePath, BTreeSet<String>>,
}

fn imports() -> Imports {
    let sources: Vec<Source> = sources(&["src"])
        .into_iter()
        .filter(|source| !["src/lib.rs", "src/main.rs"].contains(&&*source.path) && !source.path.ends_with("/tests.rs"))
        .collect();
    let mut all = Imports { of: Vec::new(), exported: BTreeMap::new(), children: BTreeMap::new() };
    for module in sources.iter().map(module_of) {
        for depth in 1..=module.len() {
            let folder = module[..depth - 1].to_vec();
            all.children.entry(folder).or_default().insert(module[depth - 1].clone());
        }
    }
    for source in &sources {
        let (module, is_folder) = (module_of(source), source.path.ends_with("/mod.rs"));
        let names = names_of(source);
        let children = all.children.get(&module).cloned().unwrap_or_default();
        let resolve = |path: &String| absolute(path, &module, is_folder, &children);
        for path in names.exported.iter().filter_map(resolve) {
            if is_folder && path.len() > module.len() + 1 && path.starts_with(&module) {
                let name = path.last().unwrap().clone();
                all.exported.insert((module.clone(), name), path[module.len()].clone());
            }
        }
        let used = names.used.iter().filter_map(resolve).collect();
        all.of.push((module, is_folder, used));
    }
    all
}

#[test]
fn top_level_modules_import_only_those_below_them() {
    let mut faults = BTreeSet::new();
    for (module, _, paths) in imports().of {
        let allowed = allowed(&module[0]);
        for path in paths.iter().filter(|path| !path.is_empty() && path[0] != module[0]) {
            if !allowed.contains(&&*path[0]) {
                faults.insert(format!("src/{}: imports {}", module.join("/"), path.join("::")));
            }
        }
    }
    assert_none(faults.into_iter().collect());
}

/// The imports between the children of a folder; the folder's own file is `mod`.
fn imports_within(folder: &ModulePath, all: &Imports) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let children = &all.children[folder];
    for (module, _, paths) in all.of.iter().filter(|(module, ..)| module.starts_with(folder)) {
        let own = module.get(folder.len()).map_or("mod", String::as_str);
        for path in paths.iter().filter(|path| path.starts_with(folder) && path.len() > folder.len()) {
            let name = &path[folder.len()];
            let other = match all.exported.get(&(folder.clone(), name.clone())) {
                _ if children.contains(name) => name,
                Some(child) => child,
                None => "mod",
            };
            if own != other {
                edges.entry(own.to_owned()).or_default().insert(other.to_owned());
            }
        }
    }
    edges
}

/// All modules that one leads to.
fn reached<'e>(from: &'e str, edges: &'e BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'e str> {
    let (mut found, mut waiting) = (BTreeSet::new(), vec![from]);
    while let Some(module) = waiting.pop() {
        for next in edges.get(module).into_iter().flatten() {
            if found.insert(next.as_str()) {
                waiting.push(next);
            }
        }
    }
    found
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let all = imports();
    let mut faults = Vec::new();
    for folder in all.children.keys().filter(|folder| !folder.is_empty()) {
        let edges = imports_within(folder, &all);
        let circle = |module: &str| -> BTreeSet<String> {
            let back = |other: &&str| reached(other, &edges).contains(module);
            reached(module, &edges).into_iter().filter(back).map(str::to_owned).collect()
        };
        let circles: BTreeSet<BTreeSet<String>> = edges.keys().map(|module| circle(module)).collect();
        for circle in circles.into_iter().filter(|circle| !circle.is_empty()) {
            let inside: Vec<String> = circle
                .iter()
                .map(|module| {
                    let others = edges[module].intersection(&circle).map(String::as_str).collect::<Vec<_>>();
                    format!("{module} -> {}", others.join(", "))
                })
                .collect();
            faults.push(format!("src/{}: {}", folder.join("/"), inside.join("; ")));
        }
    }
    assert_none(faults);
}
