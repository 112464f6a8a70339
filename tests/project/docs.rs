//! Documents that a reader can follow.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for target in links(&text).filter(|target| is_relative(target)) {
            let path = target.split('#').next().unwrap();
            if !path.is_empty() && !folder.join(path).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn no_document_names_a_folder_of_its_author() {
    let homes = ["/home/", "/root/", "/Users/", "/work/", "C:\\Users"];
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (number, line) in text.lines().enumerate() {
            let found = homes.iter().find(|home| line.contains(**home));
            assert_eq!(found, None, "{} line {}", document.display(), number + 1);
        }
    }
}

/// Whoever writes another program from docs/keys.md needs each of these words.
#[test]
fn every_label_of_a_key_is_in_the_document_on_keys() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/keys.md")).unwrap();
    let mut labels = std::collections::BTreeSet::new();
    for source in fs::read_dir(root.join("src/crypto")).unwrap() {
        let source = fs::read_to_string(source.unwrap().path()).unwrap();
        labels.extend(literals(&source).filter(|l| l.starts_with("tenure/")).map(str::to_owned));
        let purposes = source.lines().filter(|line| line.trim_start().starts_with("Self::"));
        let purposes = purposes.filter_map(|line| line.split_once(" => b\"")?.1.split_once('"'));
        labels.extend(purposes.map(|(purpose, _)| purpose.to_owned()));
    }
    assert!(labels.contains("tenure/v1/wrap") && labels.contains("wrapped-dek"), "{labels:?}");
    let quoted = |label: &String| {
        [format!("\"{label}\""), format!("`{label}`")].iter().any(|word| document.contains(word))
    };
    labels.retain(|label| !quoted(label));
    assert!(labels.is_empty(), "docs/keys.md does not have {labels:?}");
}

/// What stands between quotes, in code that escapes none.
fn literals(source: &str) -> impl Iterator<Item = &str> {
    source.lines().flat_map(|line| line.split('"').skip(1).step_by(2))
}

#[test]
fn links_are_found() {
    let text = "See [a](docs/A.md) and [b][ref], `[no](code)`.\n\n```\n[no](block)\n```\n\
                [c](https://example.org)\n\n[ref]: docs/B.md#part\n";
    assert_eq!(
        links(text).collect::<Vec<_>>(),
        ["docs/A.md", "https://example.org", "docs/B.md#part"]
    );
}

/// Every Markdown file at the top and in `docs`.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_folder = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let mut all = in_folder(root.to_owned());
    all.extend(in_folder(root.join("docs")));
    all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    all
}

fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:")
}

/// The targets of `[text](target)` and `[label]: target`, outside of code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    });
    prose.flat_map(|line| {
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        let outside_code = line.split('`').step_by(2);
        let inline = outside_code.flat_map(|part| part.split("](").skip(1));
        let inline = inline.filter_map(|rest| rest.split([')', ' ']).next());
        definition.map(|(_, target)| target.trim()).into_iter().chain(inline)
    })
}
