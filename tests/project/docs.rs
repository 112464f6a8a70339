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
