//! Imports point down the layers, and one file names each outside library that
//! could be replaced.
//!
//! Reads the source as tokens rather than as text, so that a comment or a string
//! is no import, and `use crate::{a, b}`, `super::super::a` and an inline
//! `crate::a::B` are all seen for what they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// `measure` below all; `domain -> { api, crypto, store, outward } -> auth -> vault ->
/// { http, config, client } -> cli -> main`: what each may import, of ours and (where it is
/// a short list) of others. Siblings never import one another.
const LAYERS: &[Layer] = &[
    Layer {
        name: "measure",
        may_import: &[],
        libraries: Some(&["metrics", "metrics_exporter_prometheus"]),
    },
    Layer { name: "domain", may_import: &[], libraries: Some(PLAIN) },
    Layer {
        name: "api",
        may_import: &["domain"],
        libraries: Some(&["serde", "time", "thiserror", "zeroize", "utoipa"]),
    },
    Layer { name: "crypto", may_import: &["domain"], libraries: None },
    Layer { name: "store", may_import: &["domain", "measure"], libraries: None },
    Layer { name: "outward", may_import: &["domain"], libraries: Some(&["hyper_util", "rustls"]) },
    Layer {
        name: "auth",
        may_import: &["domain", "api", "crypto", "store", "measure"],
        libraries: None,
    },
    Layer {
        name: "vault",
        may_import: &["domain", "api", "crypto", "store", "auth", "measure"],
        libraries: None,
    },
    Layer {
        name: "http",
        may_import: &["domain", "api", "crypto", "store", "auth", "vault", "outward", "measure"],
        libraries: None,
    },
    Layer {
        name: "config",
        may_import: &["domain"],
        libraries: Some(&["serde", "toml", "thiserror", "zeroize"]),
    },
    Layer { name: "client", may_import: &["domain", "api", "outward"], libraries: None },
    Layer {
        name: "cli",
        may_import: &[
            "domain", "api", "crypto", "store", "auth", "vault", "http", "config", "client",
        ],
        libraries: None,
    },
    Layer { name: "main", may_import: &["cli"], libraries: None },
];
const PLAIN: &[&str] = &["serde", "time", "thiserror", "zeroize"];

/// Where an outside library may be named, and in how many files at most. Tests
/// may name any.
const LIBRARIES: &[Library] = &[
    Library { name: "arboard", under: &["src/cli/secret/copy.rs"], files: 1 },
    // What requests look at and seldom changes: the vault, and what a reload replaces.
    Library { name: "arc_swap", under: &["src/http/", "src/auth/limits.rs"], files: 4 },
    Library { name: "actix_web", under: &["src/http/"], files: ANY },
    Library { name: "argon2", under: &["src/crypto/passphrase.rs"], files: 1 },
    Library { name: "biscuit_auth", under: &["src/auth/biscuit.rs"], files: 1 },
    Library { name: "clap", under: &["src/cli/"], files: ANY },
    Library { name: "clap_complete", under: &["src/cli/completions.rs"], files: 1 },
    Library { name: "clap_mangen", under: &["src/cli/man.rs"], files: 1 },
    Library { name: "crc32fast", under: &["src/store/sled_engine/"], files: ANY },
    Library { name: "crossbeam_epoch", under: &["src/store/sled_engine/"], files: 1 },
    Library { name: "governor", under: &["src/auth/limits.rs"], files: 1 },
    Library { name: "env_logger", under: &["src/cli/"], files: 1 },
    Library { name: "hyper_util", under: &["src/outward.rs"], files: 1 },
    Library { name: "icu_normalizer", under: &["src/crypto/passphrase.rs"], files: 1 },
    Library { name: "indicatif", under: &["src/cli/"], files: 1 },
    Library { name: "jsonwebtoken", under: &["src/auth/oidc/jwt.rs"], files: 1 },
    Library { name: "lz4_flex", under: &["src/crypto/audit.rs"], files: 1 },
    Library { name: "metrics", under: &["src/measure/exporter.rs"], files: 1 },
    Library { name: "metrics_exporter_prometheus", under: &["src/measure/exporter.rs"], files: 1 },
    Library { name: "prost", under: &["src/auth/biscuit.rs"], files: 1 },
    Library {
        name: "quick_cache",
        under: &["src/auth/", "src/store/sled_engine/hot.rs"],
        files: 2,
    },
    Library { name: "rand_core", under: &["src/crypto/shamir.rs"], files: 1 },
    Library { name: "reqwest", under: &["src/http/", "src/client/"], files: 4 },
    Library { name: "ring", under: &["src/crypto/"], files: 1 },
    Library {
        name: "rustls",
        under: &["src/http/", "src/cli/", "src/client/", "src/outward.rs"],
        files: ANY,
    },
    Library { name: "saphyr_parser", under: &["src/cli/secret/files/yaml.rs"], files: 1 },
    Library { name: "signal_hook", under: &["src/cli/postponed.rs"], files: 1 },
    Library { name: "sled", under: &["src/store/sled_engine/"], files: 1 },
    Library { name: "strsim", under: &["src/cli/secret/near.rs"], files: 1 },
    Library { name: "toml", under: &["src/config/"], files: ANY },
    Library { name: "utoipa", under: &["src/api/", "src/http/"], files: ANY },
    Library { name: "vsss_rs", under: &["src/crypto/shamir.rs"], files: 1 },
];
const ANY: usize = usize::MAX;

/// Where `unsafe` is argued for.
const UNSAFE_IN: &[&str] = &[
    "src/cli/allocator.rs",
    "src/cli/handed_over.rs",
    "src/crypto/kept.rs",
    "src/store/sled_engine/cuts.rs",
    "src/store/sled_engine/honest_sync.rs",
];

/// Files that are compiled for tests only, though nothing in them says so.
const TEST_FILES: &[&str] = &["src/store/conformance.rs"];

struct Layer {
    name: &'static str,
    may_import: &'static [&'static str],
    /// `None`: any that the manifest has.
    libraries: Option<&'static [&'static str]>,
}

struct Library {
    name: &'static str,
    under: &'static [&'static str],
    files: usize,
}

#[test]
fn imports_point_down_and_libraries_stay_in_their_files() {
    let sources = sources().into_iter().map(|path| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path, text)
    });
    let violations = violations(&sources.collect::<Vec<_>>(), &dependencies());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_tables_name_what_exists() {
    let dependencies = dependencies();
    for library in LIBRARIES {
        assert!(dependencies.iter().any(|name| name == library.name), "{}", library.name);
    }
    let sources = sources();
    let modules = sources.iter().filter_map(|path| layer_of(path)).map(|layer| layer.name);
    let modules: std::collections::BTreeSet<_> = modules.collect();
    assert_eq!(modules.len(), LAYERS.len(), "a layer without files: {modules:?}");
    let unplaced: Vec<_> =
        sources.iter().filter(|path| *path != "src/lib.rs" && layer_of(path).is_none()).collect();
    assert!(unplaced.is_empty(), "files in no layer: {unplaced:?}");
}

#[test]
fn a_planted_import_is_found() {
    for (path, text) in [
        ("src/vault/a.rs", "use crate::http::Server;"),
        ("src/vault/a.rs", "use crate::{domain::Now, http::{self, Server}};"),
        ("src/vault/a.rs", "fn f() { crate::cli::run() }"),
        ("src/vault/mod.rs", "use super::http::Server;"),
        ("src/vault/a.rs", "use super::super::{http};"),
        ("src/vault/a.rs", "mod tests { use super::super::super::http::Server; }"),
        ("src/crypto/a.rs", "pub(crate) use crate::store::Row as R;"),
        ("src/crypto/a.rs", "impl From<crate::api::Problem> for X {}"),
        ("src/http/a.rs", "use crate::config::Config;"),
        ("src/main.rs", "use tenure::vault::Vault;"),
        ("src/domain/a.rs", "use crate::api;"),
        ("src/domain/a.rs", "use serde_json::Value;"),
        ("src/domain/a.rs", "use ::base64::Engine as _;"),
        ("src/config/a.rs", "#[derive(clap::Args)] struct X;"),
        ("src/api/a.rs", "fn f() -> actix_web::HttpResponse { todo!() }"),
        ("src/vault/a.rs", "use ring::aead;"),
        ("src/vault/a.rs", "use { std::fmt, ring };"),
        ("src/auth/a.rs", "fn f(k: biscuit_auth::PublicKey) {}"),
        ("src/store/sled_engine/a.rs", "fn f() { unsafe { g() } }"),
        ("src/http/a.rs", "const QUOTE: char = '\"'; use crate::cli::X; // \""),
        ("src/http/a.rs", "fn f<'a>() {} /* /* */ */ use crate::cli::X;"),
    ] {
        let found = violations(&[(path.to_owned(), text.to_owned())], &dependencies());
        assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
    }
    let twice = ["a", "b"]
        .map(|file| (format!("src/store/sled_engine/{file}.rs"), "use sled::Db;".to_owned()));
    assert_eq!(violations(&twice, &dependencies()).len(), 1);
}

#[test]
fn what_is_no_import_is_not_found() {
    for (path, text) in [
        ("src/vault/a.rs", "// use crate::http::Server;\n/* crate::cli */ /// crate::cli::X"),
        ("src/vault/a.rs", "const X: &str = \"crate::http::Server\";"),
        ("src/vault/a.rs", "const X: &str = r#\"use \"crate::http::X\";\"#;"),
        ("src/vault/a.rs", "use crate::{auth::Permit, domain::{self, Now}};"),
        ("src/vault/a.rs", "use super::maintenance; use self::http::X;"),
        ("src/vault/a.rs", "#[cfg(test)] mod tests { use ring::aead; fn f() { {} } }"),
        ("src/domain/mod.rs", "mod hex; pub use hex::Name;"),
        ("src/domain/a.rs", "use std::fmt; use ::time::Date; use serde::{Deserialize};"),
        ("src/store/sled_engine/honest_sync.rs", "#[unsafe(no_mangle)] fn f() {}"),
        (
            "src/store/a.rs",
            "#![deny(unsafe_code)] struct Ring { ring: u8 } fn f(x: Ring) { x.ring; }",
        ),
        ("src/crypto/keys.rs", "use super::ring::{self, Mac}; fn f() { ring::random() }"),
        ("src/main.rs", "fn main() { tenure::cli::main() }"),
    ] {
        let found = violations(&[(path.to_owned(), text.to_owned())], &dependencies());
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
    let outside_of_tests = "#[cfg(test)] use ring::a; use ring::b;";
    let planted = [("src/vault/a.rs".to_owned(), outside_of_tests.to_owned())];
    assert_eq!(violations(&planted, &dependencies()).len(), 1);
}

/// Every breach of the tables in `sources`, which are paths and texts.
fn violations(sources: &[(String, String)], dependencies: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut naming: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, text) in sources {
        let is_test_file = path.ends_with("/tests.rs") || TEST_FILES.contains(&path.as_str());
        for mention in mentions(path, &tokens(text), dependencies) {
            let place = format!("{path}:{}", mention.line);
            let in_test = mention.in_test || is_test_file;
            match mention.what {
                What::Ours(module) => found.extend(upward(path, &module).map(|why| place + &why)),
                What::Library(_) if in_test => {}
                What::Library(name) => {
                    found.extend(misplaced(path, &name).map(|why| place + &why));
                    if let Some(library) = LIBRARIES.iter().find(|library| library.name == name) {
                        naming.entry(library.name).or_default().push(path);
                    }
                }
                What::Unsafe if UNSAFE_IN.contains(&path.as_str()) => {}
                What::Unsafe => {
                    found.push(format!("{place}: unsafe code outside of {UNSAFE_IN:?}"))
                }
            }
        }
    }
    found.dedup();
    for library in LIBRARIES {
        let mut files = naming.remove(library.name).unwrap_or_default();
        files.dedup();
        if files.len() > library.files {
            found.push(format!("{} is named in {}", library.name, files.join(" and ")));
        }
    }
    found
}

fn upward(path: &str, module: &str) -> Option<String> {
    let layer = layer_of(path)?;
    let is_layer = LAYERS.iter().any(|other| other.name == module);
    let allowed = module == layer.name || layer.may_import.contains(&module);
    (is_layer && !allowed).then(|| format!(": {} must not import {module}", layer.name))
}

/// One reason is enough: a library refused to the layer is not refused again.
fn misplaced(path: &str, name: &str) -> Option<String> {
    let layer = layer_of(path)?;
    if layer.libraries.is_some_and(|allowed| !allowed.contains(&name)) {
        return Some(format!(": {} must not import the library {name}", layer.name));
    }
    let library = LIBRARIES.iter().find(|library| library.name == name)?;
    let in_place = library.under.iter().any(|prefix| path.starts_with(prefix));
    (!in_place).then(|| format!(": {name} belongs into {}", library.under.join(" or ")))
}

fn layer_of(path: &str) -> Option<&'static Layer> {
    let module = module_of(path).into_iter().next()?;
    LAYERS.iter().find(|layer| layer.name == module)
}

/// `src/a/b.rs` is `a::b`, `src/a/mod.rs` is `a`, `src/lib.rs` the root.
fn module_of(path: &str) -> Vec<String> {
    let stem = path.trim_start_matches("src/").trim_end_matches(".rs");
    let names = stem.split('/').filter(|name| !matches!(*name, "mod" | "lib"));
    names.map(str::to_owned).collect()
}

struct Mention {
    line: usize,
    in_test: bool,
    what: What,
}

enum What {
    /// A module at the root of the crate.
    Ours(String),
    Library(String),
    Unsafe,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    PathSeparator,
    Mark(char),
}

/// What `tokens` of the file at `path` refer to.
fn mentions(path: &str, tokens: &[(Token, usize)], dependencies: &[String]) -> Vec<Mention> {
    let mut declared = declared_modules(tokens);
    declared.extend(imported_names(tokens));
    let mut scopes: Vec<Scope> = Vec::new();
    let mut next_is_test = false;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((token, line)) = tokens.get(at) {
        let start = at;
        at += 1;
        let paths = match token {
            Token::Mark('#') => {
                next_is_test |= is_test_attribute(&tokens[start..]);
                continue;
            }
            Token::Mark('{') => {
                scopes.push(Scope { module: opened_module(&tokens[..start]), test: next_is_test });
                next_is_test = false;
                continue;
            }
            Token::Mark('}') => {
                scopes.pop();
                continue;
            }
            Token::Mark(';') => {
                next_is_test = false;
                continue;
            }
            Token::Word(word) if word == "use" => {
                let mut paths = Vec::new();
                at = read_use(tokens, at, &mut Vec::new(), &mut paths);
                paths
            }
            Token::Word(_) | Token::PathSeparator if starts_path(tokens, start) => {
                let (path, end) = read_path(tokens, start);
                at = end;
                vec![path]
            }
            _ => continue,
        };
        let mut module = module_of(path);
        module.extend(scopes.iter().filter_map(|scope| scope.module.clone()));
        let in_test = next_is_test || scopes.iter().any(|scope| scope.test);
        let whats = paths.iter().filter_map(|path| resolve(path, &module, &declared, dependencies));
        found.extend(whats.map(|what| Mention { line: *line, in_test, what }));
    }
    found
}

struct Scope {
    module: Option<String>,
    test: bool,
}

/// What a path stands for; `::` in front of it is a segment of its own.
fn resolve(
    path: &[String],
    module: &[String],
    declared: &[String],
    dependencies: &[String],
) -> Option<What> {
    let (first, rest) = path.split_first()?;
    let is_dependency = |name: &String| dependencies.contains(name);
    match first.as_str() {
        "unsafe" => Some(What::Unsafe),
        "crate" | "tenure" => rest.first().cloned().map(What::Ours),
        "self" => module.iter().chain(rest).next().cloned().map(What::Ours),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            let kept = module.get(..module.len().saturating_sub(ups))?;
            kept.iter().chain(&path[ups..]).next().cloned().map(What::Ours)
        }
        "::" => rest.first().filter(|name| is_dependency(name)).cloned().map(What::Library),
        _ if declared.contains(first) => None,
        _ => Some(first).filter(|name| is_dependency(name)).cloned().map(What::Library),
    }
}

/// Whether a path begins here that can leave the file: one with a separator in
/// it, or the word `unsafe`, which is handed on as a path of its own.
fn starts_path(tokens: &[(Token, usize)], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| &tokens[before].0);
    let after = tokens.get(at + 1).map(|(token, _)| token);
    match &tokens[at].0 {
        Token::PathSeparator => {
            !matches!(before, Some(Token::Word(_) | Token::Mark('>')))
                && matches!(after, Some(Token::Word(_)))
        }
        Token::Word(word) if word == "unsafe" => true,
        Token::Word(_) => {
            after == Some(&Token::PathSeparator)
                && !matches!(before, Some(Token::PathSeparator | Token::Mark('.')))
        }
        Token::Mark(_) => false,
    }
}

/// The path from `at`, and where what follows it begins.
fn read_path(tokens: &[(Token, usize)], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    if tokens[at].0 == Token::PathSeparator {
        path.push("::".to_owned());
        at += 1;
    }
    while let Some((Token::Word(word), _)) = tokens.get(at) {
        path.push(word.clone());
        let goes_on = matches!(tokens.get(at + 1), Some((Token::PathSeparator, _)))
            && matches!(tokens.get(at + 2), Some((Token::Word(_), _)));
        at += if goes_on { 2 } else { 1 };
        if !goes_on {
            break;
        }
    }
    (path, at)
}

/// The paths of a `use`, groups taken apart; answers where it ends.
fn read_use(
    tokens: &[(Token, usize)],
    mut at: usize,
    prefix: &mut Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let depth = prefix.len();
    while let Some((token, _)) = tokens.get(at) {
        match token {
            Token::Word(word) if word == "as" => at += 1,
            Token::Word(word) => prefix.push(word.clone()),
            Token::PathSeparator if prefix.is_empty() => prefix.push("::".to_owned()),
            Token::Mark('{') => {
                while !matches!(tokens.get(at), None | Some((Token::Mark('}'), _))) {
                    at = read_use(tokens, at + 1, prefix, paths);
                }
                prefix.truncate(depth);
                return at + 1;
            }
            Token::Mark(',' | ';' | '}') => break,
            _ => {}
        }
        at += 1;
    }
    if prefix.len() > depth {
        paths.push(prefix.clone());
    }
    prefix.truncate(depth);
    at
}

/// `#[cfg(test)]` and its like, `not` excepted.
fn is_test_attribute(tokens: &[(Token, usize)]) -> bool {
    let inside: Vec<_> =
        tokens.iter().take_while(|(token, _)| *token != Token::Mark(']')).collect();
    let has = |word: &str| inside.iter().any(|(token, _)| *token == Token::Word(word.into()));
    has("cfg") && has("test") && !has("not")
}

/// The module that a brace after `tokens` opens.
fn opened_module(tokens: &[(Token, usize)]) -> Option<String> {
    match tokens {
        [.., (Token::Word(keyword), _), (Token::Word(name), _)] if keyword == "mod" => {
            Some(name.clone())
        }
        _ => None,
    }
}

/// Modules of the file, whose names win over libraries of the same name.
fn declared_modules(tokens: &[(Token, usize)]) -> Vec<String> {
    let pairs = tokens.windows(2).filter_map(|pair| match pair {
        [(Token::Word(keyword), _), (Token::Word(name), _)] if keyword == "mod" => Some(name),
        _ => None,
    });
    pairs.cloned().collect()
}

/// Names that the file imports from this crate, as `use super::ring` does.
fn imported_names(tokens: &[(Token, usize)]) -> Vec<String> {
    let starts =
        tokens.iter().enumerate().filter(|(_, (token, _))| *token == Token::Word("use".into()));
    let mut paths = Vec::new();
    for (at, _) in starts {
        read_use(tokens, at + 1, &mut Vec::new(), &mut paths);
    }
    paths.retain(|path| matches!(path[0].as_str(), "crate" | "self" | "super"));
    let last = |path: Vec<String>| path.into_iter().rfind(|segment| segment != "self");
    paths.into_iter().filter_map(last).collect()
}

/// Words and marks with their lines; comments, strings, characters and lifetimes
/// left out.
fn tokens(text: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut counted, mut line) = (0, 0, 1);
    while at < chars.len() {
        line += chars[counted..at].iter().filter(|c| **c == '\n').count();
        counted = at;
        let rest = &chars[at..];
        at += match rest {
            ['/', '/', ..] => until(rest, |rest| rest[0] == '\n'),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest),
            ['\'', '\\', ..] => 3 + until(&rest[3..], |rest| rest[0] == '\'') + 1,
            ['\'', _, '\'', ..] => 3,
            ['\'', ..] => 1 + word_length(&rest[1..]),
            [':', ':', ..] => {
                tokens.push((Token::PathSeparator, line));
                2
            }
            [first, ..] if is_word(*first) => {
                let length = word_length(rest);
                let word: String = rest[..length].iter().collect();
                match literal_after(&word, &rest[length..]) {
                    Some(literal) => length + literal,
                    None => {
                        tokens.push((Token::Word(word), line));
                        length
                    }
                }
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    tokens.push((Token::Mark(*first), line));
                }
                1
            }
            [] => break,
        };
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_length(chars: &[char]) -> usize {
    chars.iter().take_while(|c| is_word(**c)).count()
}

/// How many characters stand before the first place where `ends` holds.
fn until(chars: &[char], ends: impl Fn(&[char]) -> bool) -> usize {
    (0..chars.len()).find(|at| ends(&chars[*at..])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a literal that `word` is the prefix of: `r#"…"#`, `b"…"`.
fn literal_after(word: &str, chars: &[char]) -> Option<usize> {
    let hashes = chars.iter().take_while(|c| **c == '#').count();
    if !matches!(word, "r" | "b" | "br" | "c" | "cr") || chars.get(hashes) != Some(&'"') {
        return None;
    }
    if !word.contains('r') {
        return (hashes == 0).then(|| string(chars));
    }
    let closes = |rest: &[char]| {
        rest[0] == '"' && rest[1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    Some(hashes + 1 + until(&chars[hashes + 1..], closes) + 1 + hashes)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `src`, as a path from the root.
fn sources() -> Vec<String> {
    let mut folders = vec![PathBuf::from("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// The names by which the manifest's dependencies are imported.
fn dependencies() -> Vec<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let tables =
        ["dependencies", "dev-dependencies"].map(|name| manifest[name].as_table().unwrap());
    tables.iter().flat_map(|table| table.keys()).map(|name| name.replace('-', "_")).collect()
}
