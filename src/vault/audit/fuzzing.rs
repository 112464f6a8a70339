//! What must hold of any bytes that come as an export of an audit.
//!
//! A target of `fuzz/`; on a stable toolchain a test forges exports on purpose, and asks
//! the same of them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::proof::{Trust, verify_export};
use crate::api::audit_export::{
    AuditProof, ExportHeader, ExportLine, ExportedBlock, ExportedChain, SignedCheckpoint,
};
use crate::crypto::AuditPublicKey;

/// Of a store whose signing key nobody has any more: what is not in it is not signed.
pub const WHOLE: &str = include_str!("../../../fuzz/corpus/export/whole");

/// An export: verifying it never panics, and finds no more to say than there are lines. If
/// it holds under the key of [`WHOLE`] and up to its newest checkpoint, then it shows the
/// entries of that one: of each chain all from where it says that it begins, and of all
/// chains where it says that it is complete.
pub fn export(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Under the key that it names, anybody may have signed anything.
    assert_bounded(&verified(&text, &Trust::default()), &text);
    let whole = Shown::of(WHOLE).expect("it is an export");
    let proof = verified(&text, &whole.trust());
    assert_bounded(&proof, &text);
    if proof.sound {
        let shown = Shown::of(&text).expect("what is sound can be read");
        assert_eq!(shown.entries, whole.entries_from(&shown), "it shows what was not signed");
        let is_all = whole.begins.keys().all(|chain| shown.begins.get(chain) == Some(&0));
        assert!(!shown.header.complete || is_all, "it is not complete");
    }
}

fn verified(text: &str, trust: &Trust) -> AuditProof {
    let lines = text.lines().map(|line| Ok::<_, Infallible>(line.to_owned()));
    match verify_export(lines, trust) {
        Ok(proof) => proof,
        Err(never) => match never {},
    }
}

/// So that a long export with strange lines fills no memory.
fn assert_bounded(proof: &AuditProof, text: &str) {
    const MOST_FAULTS: usize = 20;
    const MOST_BYTES: usize = 1_024;
    let chains = proof.chains.iter();
    let said = chains.flat_map(|chain| [&chain.tenant, &chain.fault]).flatten();
    let mut said = said.chain(&proof.faults);
    assert!(said.all(|said| said.len() < MOST_BYTES), "{proof:?}");
    assert!(proof.faults.len() < MOST_FAULTS, "{proof:?}");
    let signed = Shown::of(WHOLE).map_or(0, |whole| whole.begins.len());
    assert!(proof.chains.len() <= text.lines().count() + signed, "{proof:?}");
}

/// What a reader takes from an export.
struct Shown {
    header: ExportHeader,
    newest: Option<SignedCheckpoint>,
    /// By chain, the number that it begins with here.
    begins: BTreeMap<String, u64>,
    /// By chain and number.
    entries: BTreeMap<(String, u64), String>,
}

impl Shown {
    /// `None` where not each line is one of an export.
    fn of(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(|line| serde_json::from_str(line).ok());
        let Some(Some(ExportLine::Header(header))) = lines.next() else { return None };
        let (begins, entries) = (BTreeMap::new(), BTreeMap::new());
        let mut shown = Self { header, newest: None, begins, entries };
        for line in lines {
            match line? {
                ExportLine::Header(_) | ExportLine::End(_) => {}
                ExportLine::Checkpoint(signed) => shown.newest = Some(signed),
                ExportLine::Chain(ExportedChain { chain, next, .. }) => {
                    shown.begins.insert(chain.to_lowercase(), next);
                }
                ExportLine::Block(ExportedBlock { chain, first, entries, .. }) => {
                    let chain = chain.to_lowercase();
                    let numbered = entries.into_iter().zip(first..);
                    let entry = |(entry, number)| ((chain.clone(), number), entry);
                    let texts = numbered.map(entry).map(|(place, entry)| (place, entry.text));
                    shown.entries.extend(texts);
                }
            }
        }
        Some(shown)
    }

    fn trust(&self) -> Trust {
        Trust { key: AuditPublicKey::parse(&self.header.key).ok(), head: self.newest.clone() }
    }

    /// Its entries that another one must show, as it begins its chains.
    fn entries_from(&self, other: &Self) -> BTreeMap<(String, u64), String> {
        let is_in = |(chain, number): &(String, u64)| {
            other.begins.get(chain).is_some_and(|begin| begin <= number)
        };
        let entries = self.entries.iter().filter(|(place, _)| is_in(place));
        entries.map(|(place, text)| (place.clone(), text.clone())).collect()
    }
}
