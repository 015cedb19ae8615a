//! Import cycles between the modules of one folder of `src`.
//!
//! Inside its folder a module stands for everything below it, so a module and its parent may import
//! each other. A name that a module re-exports leads to the file that defines it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{paths, strip_tests, tokenize};
use crate::{module_of, sources};

/// Re-exports followed for one path, so that two modules that import each other's names end.
const MAX_REEXPORTS: usize = 8;

struct Module {
    file: String,
    paths: Vec<Vec<String>>,
    /// Names that `use` brings into the module.
    imports: BTreeMap<String, Vec<String>>,
}

/// The modules of a crate by their path without `crate`.
struct Crate(BTreeMap<Vec<String>, Module>);

/// The modules of one folder that a module of it uses, with the file that does and the file that is used.
type Uses = BTreeMap<String, BTreeMap<String, (String, String)>>;

impl Crate {
    fn new(files: &[(String, String)]) -> Self {
        let modules = files.iter().map(|(file, source)| {
            let name = module_of(file);
            let (tokens, _) = strip_tests(&tokenize(source));
            let found = paths(&tokens, &name);
            let imported = found.iter().filter(|path| path.imported);
            let imports = imported
                .filter_map(|path| Some((path.parts.last()?.clone(), path.parts.clone())))
                .collect();
            let paths = found.iter().map(|path| path.parts.clone()).collect();
            (name, Module { file: file.clone(), paths, imports })
        });
        Self(modules.collect())
    }

    /// The module that defines `path`, as written in `module`; `None` outside of this crate.
    fn definition(&self, module: &[String], path: &[String], depth: usize) -> Option<&[String]> {
        let (first, rest) = path.split_first().filter(|_| depth <= MAX_REEXPORTS)?;
        if first != "crate" {
            let absolute = [self.absolute(module, first)?, rest.to_vec()].concat();
            return self.definition(module, &absolute, depth + 1);
        }
        let length = (0..=rest.len()).rev().find(|&length| self.0.contains_key(&rest[..length]))?;
        let (owner, content) = self.0.get_key_value(&rest[..length])?;
        let import = rest.get(length).and_then(|item| content.imports.get(item));
        let reexported = import.and_then(|import| {
            let full = [import, &rest[length + 1..]].concat();
            self.definition(owner, &full, depth + 1)
        });
        reexported.or(Some(owner))
    }

    /// The path from `crate` on of a child of `module` or of a name that it imports.
    fn absolute(&self, module: &[String], name: &String) -> Option<Vec<String>> {
        let child = [module, std::slice::from_ref(name)].concat();
        if self.0.contains_key(&child) {
            return Some([vec!["crate".to_owned()], child].concat());
        }
        self.0.get(module)?.imports.get(name).cloned()
    }

    /// By folder: which of its modules use which.
    fn folders(&self) -> BTreeMap<String, Uses> {
        let mut folders: BTreeMap<String, Uses> = BTreeMap::new();
        for (name, module) in &self.0 {
            for path in &module.paths {
                let Some(target) = self.definition(name, path, 0) else { continue };
                let shared = name.iter().zip(target).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (name.get(shared), target.get(shared)) {
                    let uses = folders.entry(name[..shared].join("/")).or_default();
                    let files = (module.file.clone(), self.0[target].file.clone());
                    uses.entry(from.clone()).or_default().entry(to.clone()).or_insert(files);
                }
            }
        }
        folders
    }
}

/// The shortest path from a module back to itself.
fn shortest_cycle(uses: &Uses, start: &str) -> Option<Vec<String>> {
    let mut queue = VecDeque::from([vec![start.to_owned()]]);
    let mut visited = BTreeSet::new();
    while let Some(path) = queue.pop_front() {
        for next in path.last().and_then(|last| uses.get(last)).into_iter().flatten() {
            let longer = [&path[..], std::slice::from_ref(next.0)].concat();
            if next.0 == start {
                return Some(longer);
            }
            if visited.insert(next.0) {
                queue.push_back(longer);
            }
        }
    }
    None
}

/// One line for the shortest cycle of each module that is in one.
fn cycles(files: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for uses in Crate::new(files).folders().values() {
        let mut seen = BTreeSet::new();
        for cycle in uses.keys().filter_map(|start| shortest_cycle(uses, start)) {
            if seen.insert(cycle.iter().cloned().collect::<BTreeSet<_>>()) {
                let steps = cycle.windows(2).map(|pair| {
                    let (from, to) = &uses[&pair[0]][&pair[1]];
                    format!("{from} -> {to}")
                });
                found.insert(steps.collect::<Vec<_>>().join(", "));
            }
        }
    }
    found
}

#[test]
fn no_folder_has_an_import_cycle() {
    let found = cycles(&sources());
    assert!(found.is_empty(), "import cycles:\n{found:#?}");
}

fn lines_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<_> = files.iter().map(|&(file, text)| (file.into(), text.into())).collect();
    cycles(&files).into_iter().collect()
}

#[test]
fn cycles_are_found() {
    let (a, b, c) = ("src/poll/a.rs", "src/poll/b.rs", "src/poll/c.rs");
    let direct = "src/poll/a.rs -> src/poll/b.rs, src/poll/b.rs -> src/poll/a.rs";
    for (case, files, expected) in [
        ("super", vec![(a, "use super::b::B;"), (b, "use super::a::A;")], direct),
        ("crate", vec![(a, "fn f(b: crate::poll::b::B) {}"), (b, "use crate::poll::a;")], direct),
        (
            "three files",
            vec![(a, "use super::b::B;"), (b, "use super::c::C;"), (c, "use super::a::A;")],
            "src/poll/a.rs -> src/poll/b.rs, src/poll/b.rs -> src/poll/c.rs, src/poll/c.rs -> src/poll/a.rs",
        ),
        (
            "re-export",
            vec![
                ("src/poll/mod.rs", "mod a; mod b; pub use a::A; pub use self::b::{B, C};"),
                (a, "use super::B;"),
                (b, "use crate::poll::A;"),
            ],
            direct,
        ),
        (
            "re-export of a re-export",
            vec![
                ("src/poll/mod.rs", "pub use a::A; pub use c::B;"),
                (a, "use super::B;"),
                (b, "use super::A;"),
                (c, "pub use super::b::B;"),
            ],
            direct,
        ),
        (
            "imported module",
            vec![(a, "use crate::poll; fn f(b: poll::b::B) {}"), (b, "use super::a::A;")],
            direct,
        ),
        (
            "file of a folder inside",
            vec![
                (a, "use super::b::B;"),
                ("src/poll/b/deep.rs", "use super::super::a::A;"),
                ("src/poll/b/mod.rs", "mod deep;"),
            ],
            "src/poll/a.rs -> src/poll/b/mod.rs, src/poll/b/deep.rs -> src/poll/a.rs",
        ),
        (
            "top of src",
            vec![("src/raw.rs", "use crate::board::B;"), ("src/board.rs", "use crate::raw::R;")],
            "src/board.rs -> src/raw.rs, src/raw.rs -> src/board.rs",
        ),
    ] {
        assert_eq!(lines_of(&files), [expected], "{case}");
    }
}

#[test]
fn imports_without_a_cycle_pass() {
    let (a, b) = ("src/poll/a.rs", "src/poll/b.rs");
    for (case, files) in [
        ("one direction", vec![(a, "use super::b::B;"), (b, "use crate::model::A;")]),
        (
            "parent and child",
            vec![("src/poll/mod.rs", "mod a; use a::A; struct P;"), (a, "use super::P;")],
        ),
        (
            "parent and grandchild",
            vec![
                ("src/poll/mod.rs", "use a::deep::D; struct P;"),
                ("src/poll/a/deep.rs", "use super::super::P;"),
            ],
        ),
        (
            "tests",
            vec![(a, "use super::b::B;"), (b, "#[cfg(test)] mod tests { use crate::poll::a::A; }")],
        ),
        ("itself", vec![(a, "use crate::poll::a::A;")]),
        (
            "names that import each other",
            vec![(a, "pub use super::A;"), ("src/poll/mod.rs", "pub use a::A;")],
        ),
    ] {
        assert_eq!(lines_of(&files), Vec::<String>::new(), "{case}");
    }
}
