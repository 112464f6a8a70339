//! The audit as it is shown to somebody who must not take our word for it: signed
//! checkpoints, and an export whose every entry can be followed up to one of them.
//!
//! Ids, hashes, salts, keys and signatures are hexadecimal. What is signed is a text,
//! kept and shown as it was signed, so that nobody must write the same JSON again to
//! prove it. docs/audit.md describes all of this for other programs.

use serde::{Deserialize, Serialize};

/// Where every chain stood at one moment, or where those did that grew since the
/// checkpoint before. The order of its members is that of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// [`Checkpoint::FORM`].
    pub tenure: String,
    /// The id of the store.
    pub store: String,
    /// From 1; each checkpoint has the number after the one before.
    pub number: u64,
    /// By the wall clock, RFC 3339.
    pub at: String,
    /// SHA-256 of the text of the checkpoint before; of the first, zeros.
    pub before: String,
    pub chains: Vec<ChainHead>,
    /// Chains of tenants that were deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<String>,
}

impl Checkpoint {
    pub const FORM: &'static str = "audit-checkpoint/1";
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainHead {
    /// A tenant's id; zeros: the system's.
    pub chain: String,
    /// The number of the next entry.
    pub next: u64,
    /// The link of the last block.
    pub head: String,
    /// Where what is kept of it begins; absent: with its first entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<ChainBegin>,
}

/// What was before was forgotten, by whoever had the store's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainBegin {
    /// The number of the first entry that is kept.
    pub next: u64,
    /// The link before it.
    pub head: String,
}

/// The JSON of a [`Checkpoint`], and its signature: Ed25519 over the text's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedCheckpoint {
    pub text: String,
    pub signature: String,
}

/// A line of an export, in this order: the header, checkpoints by their numbers, each
/// chain and its blocks, the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum ExportLine {
    Header(ExportHeader),
    Checkpoint(SignedCheckpoint),
    Chain(ExportedChain),
    Block(ExportedBlock),
    End(ExportEnd),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportHeader {
    /// [`ExportHeader::FORM`].
    pub tenure: String,
    /// The id of the store.
    pub store: String,
    /// By the wall clock, RFC 3339.
    pub at: String,
    /// The public key that the store says it signs with.
    pub key: String,
    /// Whether every chain of the store is in it.
    pub complete: bool,
}

impl ExportHeader {
    pub const FORM: &'static str = "audit-export/1";
}

/// Its blocks follow. It is shown from an entry on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedChain {
    pub chain: String,
    /// Whose it is; `None`: the system's.
    pub tenant: Option<String>,
    /// The number of its first entry here.
    pub next: u64,
    /// The link before that entry.
    pub head: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedBlock {
    pub chain: String,
    /// The number of its first entry.
    pub first: u64,
    /// How many numbers it takes.
    pub count: u32,
    /// Its first 33 bytes: of a block of entries its format, 01 or 02, and what it commits
    /// to them by. A block of another kind holds a piece of a checkpoint, and no entries.
    pub header: String,
    /// SHA-256 of its other bytes.
    pub envelope: String,
    /// The link of this block.
    pub link: String,
    pub entries: Vec<ExportedEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedEntry {
    /// The JSON of the entry, as it was committed to.
    pub text: String,
    pub salt: String,
    /// To the entries of the block up to this one.
    pub commitment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportEnd {
    /// How many came before.
    pub lines: u64,
}

/// What is to be exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportOf {
    Everything,
    System,
    Tenant(String),
}

/// From where on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFrom {
    Beginning,
    /// From the block that holds this entry.
    Entry(u64),
    /// From the first block with an entry of this moment or a later one, RFC 3339.
    Since(String),
}

/// An export that was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportMade {
    pub chains: u64,
    pub entries: u64,
    pub checkpoints: u64,
    pub bytes: u64,
    /// Blocks that do not decrypt, and whose entries are missing.
    pub damaged: u64,
    /// Why what was done last is not in it; `None`: it is.
    pub incomplete: Option<String>,
}

/// The key of a store's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditKeyRow {
    /// Tells two keys apart.
    pub fingerprint: String,
    pub public_key: String,
}

/// What following an audit showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditProof {
    /// Whether there is no fault at all.
    pub sound: bool,
    /// The fingerprint of the key that the signatures were checked with.
    pub key: String,
    /// Whether the export itself named the key: then whoever made the export may have
    /// made the signatures.
    pub key_from_export: bool,
    pub checkpoints: u64,
    /// The newest that holds.
    pub newest: Option<CheckpointRow>,
    pub chains: Vec<ProvedChain>,
    /// Of checkpoints, and of what is there as a whole; a sentence each.
    pub faults: Vec<String>,
}

/// A checkpoint, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointRow {
    pub number: u64,
    pub at: String,
    /// SHA-256 of its text.
    pub hash: String,
}

/// One chain, as far as it was followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvedChain {
    pub chain: String,
    /// `None`: the system's, or whoever followed it had no keys to know the name.
    pub tenant: Option<String>,
    /// The numbers that were followed: from this one, up to before `next`.
    pub from: u64,
    pub next: u64,
    /// Up to before this number a checkpoint signs them.
    pub signed: u64,
    /// What is wrong, a sentence; it was not followed further.
    pub fault: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was signed is read by every later version.
    #[test]
    fn the_json_of_a_checkpoint_is_frozen() {
        let chain =
            ChainHead { chain: "05".repeat(16), next: 7, head: "ab".repeat(32), begin: None };
        let checkpoint = Checkpoint {
            tenure: Checkpoint::FORM.to_owned(),
            store: "01".repeat(16),
            number: 3,
            at: "2030-01-02T03:04:05Z".to_owned(),
            before: "cd".repeat(32),
            chains: vec![chain],
            ended: Vec::new(),
        };
        let json = format!(
            "{{\"tenure\":\"audit-checkpoint/1\",\"store\":\"{}\",\"number\":3,\
             \"at\":\"2030-01-02T03:04:05Z\",\"before\":\"{}\",\
             \"chains\":[{{\"chain\":\"{}\",\"next\":7,\"head\":\"{}\"}}]}}",
            "01".repeat(16),
            "cd".repeat(32),
            "05".repeat(16),
            "ab".repeat(32)
        );
        assert_eq!(serde_json::to_string(&checkpoint).unwrap(), json);
        assert_eq!(serde_json::from_str::<Checkpoint>(&json).unwrap(), checkpoint);
        let mut ended = Checkpoint { ended: vec!["06".repeat(16)], ..checkpoint };
        ended.chains[0].begin = Some(ChainBegin { next: 5, head: "ef".repeat(32) });
        let json = serde_json::to_string(&ended).unwrap();
        let end = format!(
            ",\"begin\":{{\"next\":5,\"head\":\"{}\"}}}}],\"ended\":[\"{}\"]}}",
            "ef".repeat(32),
            "06".repeat(16)
        );
        assert!(json.ends_with(&end), "{json}");
    }

    #[test]
    fn a_line_says_first_of_what_kind_it_is() {
        let line = ExportLine::End(ExportEnd { lines: 4 });
        let json = serde_json::to_string(&line).unwrap();
        assert_eq!(json, "{\"line\":\"end\",\"lines\":4}");
        assert_eq!(serde_json::from_str::<ExportLine>(&json).unwrap(), line);
    }
}
