//! Exports that somebody changed, at random: none holds that shows something else than was
//! signed, and none does harm to who verifies it.

use std::convert::Infallible;

use proptest::prelude::*;
use proptest::sample::Index;

use super::proof::prove_again;
use crate::api::audit_export::{ExportEnd, ExportLine, ExportedBlock};
use crate::vault::fuzzing::{WHOLE, export};
use crate::vault::{Trust, verify_export};

/// What is done to the bytes of a file.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Put(Index, Vec<u8>),
    Cut(Index, usize),
    CopyTo(Index, usize, Index),
    LoseLine(Index),
    CopyLine(Index, Index),
    SwapLines(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let digits = proptest::collection::vec(
        proptest::sample::select(b"0123456789abcdefg,{[\"".to_vec()),
        1..4,
    );
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), digits).prop_map(|(at, bytes)| Edit::Put(at, bytes)),
        (at(), 1..200_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (at(), 1..200_usize, at()).prop_map(|(from, length, to)| Edit::CopyTo(from, length, to)),
        at().prop_map(Edit::LoseLine),
        (at(), at()).prop_map(|(from, to)| Edit::CopyLine(from, to)),
        (at(), at()).prop_map(|(one, two)| Edit::SwapLines(one, two)),
    ]
}

impl Edit {
    fn apply(&self, text: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        let length = text.len();
        let within = |at: &Index, some: usize| {
            let at = at.index(length);
            at..(at + some).min(length)
        };
        match self {
            Self::Flip(at, bit) => text[at.index(length)] ^= 1 << bit,
            Self::Put(at, bytes) => {
                let range = within(at, bytes.len());
                drop(text.splice(range, bytes.iter().copied()));
            }
            Self::Cut(at, some) => drop(text.drain(within(at, *some))),
            Self::CopyTo(from, some, to) => {
                let piece = text[within(from, *some)].to_vec();
                let to = to.index(length);
                drop(text.splice(to..to, piece));
            }
            Self::LoseLine(_) | Self::CopyLine(..) | Self::SwapLines(..) => {
                let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
                self.apply_to_lines(&mut lines);
                *text = lines.join(&b'\n');
            }
        }
    }

    fn apply_to_lines(&self, lines: &mut Vec<&[u8]>) {
        let count = lines.len();
        match self {
            Self::LoseLine(at) => drop(lines.remove(at.index(count))),
            Self::CopyLine(from, to) => lines.insert(to.index(count), lines[from.index(count)]),
            Self::SwapLines(one, two) => lines.swap(one.index(count), two.index(count)),
            _ => {}
        }
    }
}

/// What is done to the blocks of a chain by who then computes anew what takes no key.
#[derive(Debug, Clone)]
enum Forgery {
    Alter(Index),
    LoseEntry(Index),
    DoubleEntry(Index),
    MoveEntry(Index, Index),
    LoseBlock(Index),
    SwapBlocks(Index, Index),
    CutOff(Index),
}

fn forgery() -> impl Strategy<Value = Forgery> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Forgery::Alter),
        at().prop_map(Forgery::LoseEntry),
        at().prop_map(Forgery::DoubleEntry),
        (at(), at()).prop_map(|(from, to)| Forgery::MoveEntry(from, to)),
        at().prop_map(Forgery::LoseBlock),
        (at(), at()).prop_map(|(one, two)| Forgery::SwapBlocks(one, two)),
        at().prop_map(Forgery::CutOff),
    ]
}

impl Forgery {
    /// Blocks that end up without entries are lost with them.
    fn apply(&self, blocks: &mut Vec<ExportedBlock>) {
        let has_some: Vec<_> =
            (0..blocks.len()).filter(|at| !blocks[*at].entries.is_empty()).collect();
        if has_some.is_empty() {
            return;
        }
        let chosen = |at: &Index| has_some[at.index(has_some.len())];
        match self {
            Self::Alter(at) => {
                let entry = &mut blocks[chosen(at)].entries[0];
                entry.text = entry.text.replacen("\"ok\"", "\"forbidden\"", 1);
            }
            Self::LoseEntry(at) => drop(blocks[chosen(at)].entries.pop()),
            Self::DoubleEntry(at) => {
                let entries = &mut blocks[chosen(at)].entries;
                entries.push(entries[0].clone());
            }
            Self::MoveEntry(from, to) => {
                let moved = blocks[chosen(from)].entries.remove(0);
                blocks[chosen(to)].entries.push(moved);
            }
            Self::LoseBlock(at) => drop(blocks.remove(chosen(at))),
            Self::SwapBlocks(one, two) => blocks.swap(chosen(one), chosen(two)),
            Self::CutOff(at) => blocks.truncate(chosen(at)),
        }
        blocks.retain(|block| !block.entries.is_empty() || block.header.starts_with("80"));
        for block in blocks.iter_mut().filter(|block| !block.entries.is_empty()) {
            block.count = block.entries.len() as u32;
        }
    }
}

/// The export with other blocks in the place of those of its `chosen` chain.
fn forged(chosen: usize, forgeries: &[Forgery]) -> String {
    let lines = WHOLE.lines().map(|line| serde_json::from_str(line).unwrap());
    // Each chain with its blocks, behind what comes before all chains.
    let mut parts: Vec<Vec<ExportLine>> = vec![Vec::new()];
    for line in lines {
        if matches!(line, ExportLine::Chain(_)) {
            parts.push(Vec::new());
        }
        parts.last_mut().unwrap().push(line);
    }
    let end = parts.last_mut().unwrap().pop();
    assert!(matches!(end, Some(ExportLine::End(_))));
    let part = &mut parts[1 + chosen];
    let mut blocks: Vec<_> = part
        .drain(1..)
        .map(|line| match line {
            ExportLine::Block(block) => block,
            _ => panic!("only blocks follow a chain"),
        })
        .collect();
    forgeries.iter().for_each(|forgery| forgery.apply(&mut blocks));
    prove_again(&mut blocks);
    part.extend(blocks.into_iter().map(ExportLine::Block));
    let mut lines: Vec<_> = parts.concat();
    lines.push(ExportLine::End(ExportEnd { lines: lines.len() as u64 }));
    let text = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n");
    text.collect()
}

fn is_sound(text: &str) -> bool {
    let lines = text.lines().map(|line| Ok::<_, Infallible>(line.to_owned()));
    verify_export(lines, &Trust::default()).unwrap().sound
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_that_are_like_an_export_hold_what_is_promised(
        edits in proptest::collection::vec(edit(), 1..4),
    ) {
        let mut text = WHOLE.as_bytes().to_vec();
        edits.iter().for_each(|edit| edit.apply(&mut text));
        export(&text);
    }

    #[test]
    fn a_chain_that_was_forged_and_computed_anew_shows_nothing_that_was_not_signed(
        chosen in 0..3_usize,
        forgeries in proptest::collection::vec(forgery(), 1..4),
    ) {
        export(forged(chosen, &forgeries).as_bytes());
    }
}

/// Otherwise what is tried above would be refused whatever was done to it.
#[test]
fn the_corpus_is_sound_and_so_is_a_chain_computed_anew_in_which_nothing_changed() {
    assert!(is_sound(WHOLE) && (0..3).all(|chosen| is_sound(&forged(chosen, &[]))));
    assert!(is_sound(include_str!("../../../fuzz/corpus/export/part")));
    assert!(is_sound(include_str!("../../../fuzz/corpus/export/system")));
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/export");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap()).collect();
    assert!(files.len() >= 8);
    files.iter().for_each(|file| export(&std::fs::read(file.path()).unwrap()));
}

/// Whoever made the file chose what is in it.
#[test]
fn what_a_strange_export_says_is_not_kept() {
    let header = WHOLE.lines().next().unwrap();
    let tenant = "x".repeat(16 * 1024);
    let chain = |number: usize| {
        format!(
            "{{\"line\":\"chain\",\"chain\":\"{number:032x}\",\"tenant\":\"{tenant}\",\"next\":0,\
             \"head\":\"{}\"}}",
            "00".repeat(32)
        )
    };
    let junk = (0..100_000).map(|number| format!("{{\"line\":\"junk {number}\"}}"));
    let lines = [header.to_owned()].into_iter().chain((1..1_000).map(chain)).chain(junk);
    let proof = verify_export(lines.map(Ok::<_, Infallible>), &Trust::default()).unwrap();
    assert!(!proof.sound);
    assert!(format!("{proof:?}").len() < 400_000, "some hundred bytes for a chain");
}
