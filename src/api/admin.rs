//! Maintenance: what an operator asks of a store, whether a server runs on it
//! (then over `<data>/admin.sock`) or not (then in the command's own process).
//!
//! Both ways execute the same [`Command`] and answer the same [`Reply`].

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::audit::{AuditFilter, AuditFrom, NumberedEntry};
use super::audit_export::{
    AuditKeyRow, AuditProof, ExportFrom, ExportMade, ExportOf, SignedCheckpoint,
};

/// One act of an operator. Whoever may send one owns the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "command",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Command {
    Status,
    TenantCreate {
        name: String,
    },
    TenantList,
    TenantDelete {
        name: String,
    },
    TenantShow {
        name: String,
    },
    TenantLimit {
        name: String,
        change: LimitChange,
    },
    /// Lifetime in seconds.
    TokenMint {
        tenant: String,
        scopes: Vec<String>,
        ttl_seconds: u64,
        subject: String,
    },
    /// One for the server itself, which belongs to no tenant. Lifetime in seconds.
    TokenMintServer {
        ttl_seconds: u64,
        subject: String,
    },
    /// `dry_run`: only say what would end.
    TokenRevoke {
        what: Revocable,
        dry_run: bool,
    },
    /// `tenant`: only of that one. `after`: the `next` of the page before.
    TokenRevocations {
        tenant: Option<String>,
        after: Option<String>,
        limit: usize,
    },
    /// `honour_old`: until when the roots of before are.
    TokenRotateRoot {
        honour_old: When,
    },
    TokenRoots,
    ApiKeyCreate {
        tenant: String,
        scopes: Vec<String>,
        name: Option<String>,
        expires: Option<When>,
    },
    /// `tenant`: only of that one.
    ApiKeyList {
        tenant: Option<String>,
    },
    /// `dry_run`: only say which it is.
    ApiKeyRevoke {
        id: String,
        dry_run: bool,
    },
    /// `tenant`: only that one. `retain_seconds`: keep what expired more recently.
    Sweep {
        tenant: Option<String>,
        retain_seconds: u64,
        dry_run: bool,
    },
    ClockAccept,
    /// Entries of a tenant's audit, or of the system's; at most 1,000.
    AuditQuery {
        tenant: Option<String>,
        filter: AuditFilter,
        from: AuditFrom,
        limit: usize,
    },
    /// The key that signs checkpoints of the audit.
    AuditKey,
    /// The newest checkpoint, after signing what was done since.
    AuditHead,
    /// Follows every chain; see [`AuditProof`]. `key`: another one than the store's own,
    /// hexadecimal. `head`: a checkpoint that was kept elsewhere.
    AuditVerify {
        key: Option<String>,
        head: Option<SignedCheckpoint>,
    },
    /// Written to the file beside it.
    AuditExport {
        of: ExportOf,
        from: ExportFrom,
    },
    /// Takes the keys out of the memory of a running server.
    Seal,
    /// Gives them to it.
    Unseal {
        with: Unsealing,
    },
    /// Under which KEK the store is, and where that comes from.
    KekStatus,
    /// Puts the store under another KEK, which whoever asks has in a safe place
    /// already. `origin`: where it comes from, as it is stored, hexadecimal.
    KekReplace {
        kek: HiddenText,
        origin: String,
    },
    /// New DEKs: of one tenant, or of all and the system. `rewrite`: encrypt anew what
    /// is under the old ones, so many secrets a second, and destroy those.
    DekRotate {
        tenant: Option<String>,
        rewrite: bool,
        per_second: Option<u32>,
        dry_run: bool,
    },
    /// `tenant`: only of that one.
    DekList {
        tenant: Option<String>,
    },
    /// `dry_run`: only say what would be done.
    Compact {
        databases: Databases,
        dry_run: bool,
    },
    /// `tenant`: only that one. `rows_per_second`: at most so many, so that others
    /// are served meanwhile.
    Verify {
        tenant: Option<String>,
        rows_per_second: Option<u32>,
    },
    /// Writes a file.
    BackupCreate,
    /// Reads a file: one tenant of it, under a new name. `kek`: the backup's, where
    /// it is not of this store. `bytes`: how long the file is, for the progress.
    BackupRestore {
        tenant: String,
        new_name: String,
        dry_run: bool,
        bytes: Option<u64>,
        kek: Option<HiddenText>,
    },
}

/// New limits of a tenant. Zero is none at all; `None` is left to `others`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitChange {
    pub secrets: Option<u64>,
    pub bytes: Option<u64>,
    pub requests_per_second: Option<u64>,
    pub others: OtherLimits,
}

/// What becomes of the limits that a change does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherLimits {
    Kept,
    /// There are none.
    Unlimited,
    /// They are those of the configuration.
    Default,
}

/// What a sealed server is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Unsealing {
    /// Nothing: it reads again what `kek.source` names.
    Source,
    Share {
        share: HiddenText,
    },
    /// The KEK itself, which the caller has from a passphrase.
    Kek {
        kek: HiddenText,
    },
    /// Nothing: it drops the shares that it was given so far.
    Reset,
}

/// A moment, as an operator says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    Now,
    InSeconds(u64),
    /// RFC 3339.
    At(String),
}

/// What can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    tag = "kind",
    deny_unknown_fields
)]
pub enum Revocable {
    /// This token, and everything narrowed from it.
    Token { token: HiddenText },
    /// The same, by the revocation id of its last block.
    Id { id: String },
    /// What was issued to a subject so far: by this store, or by an identity provider.
    Subject { tenant: String, subject: String, issuer: Option<String> },
    /// What was issued in a tenant before a moment, API keys included.
    Tenant { tenant: String, before: When },
}

/// A secret on its way to the server: never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HiddenText(String);

impl HiddenText {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for HiddenText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenText(..)")
    }
}

/// Which databases a compaction takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Databases {
    /// Those that hold mostly garbage.
    Wasteful,
    All,
    One(String),
}

/// How far a long command is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is being worked on, for people: a tenant, a database.
    pub what: String,
    /// In units of the command's own: rows or bytes.
    pub done: u64,
    /// `None` where the end is not known.
    pub of: Option<u64>,
}

/// Where a long command tells how far it is; called often, and must be cheap.
pub type Report = dyn Fn(Progress) + Send + Sync;

/// What came of it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Reply {
    Status(Box<Status>),
    /// In place of a status, and of a command that left the server sealed.
    Sealed(Box<SealedStatus>),
    Unsealed {
        data: String,
    },
    TenantCreated {
        name: String,
        id: String,
    },
    /// `chain`, `chain_id`: whose entries they are, as in a [`CopiedEntry`].
    /// `next`: from which entry on there may be more.
    ///
    /// [`CopiedEntry`]: super::audit::CopiedEntry
    Audit {
        chain: Option<String>,
        chain_id: Option<String>,
        entries: Vec<NumberedEntry>,
        next: Option<u64>,
    },
    AuditKey(AuditKeyRow),
    AuditHead(SignedCheckpoint),
    AuditProved(AuditProof),
    AuditExported(ExportMade),
    Tenants {
        tenants: Vec<Tenant>,
    },
    TenantDeleted {
        name: String,
    },
    /// `secrets`: how many it has, those included that expired and are not swept yet.
    /// `bytes`: of their values, as UTF-8.
    TenantShown {
        tenant: Tenant,
        secrets: u64,
        bytes: u64,
        limits: TenantLimitRows,
    },
    TenantLimited {
        name: String,
        limits: TenantLimitRows,
    },
    Token {
        token: String,
        expires_on: String,
    },
    TokensRevoked {
        dry_run: bool,
        revocation: RevocationRow,
        api_keys: Vec<ApiKeyRow>,
    },
    Revocations {
        revocations: Vec<RevocationRow>,
        next: Option<String>,
    },
    RootRotated {
        roots: Vec<RootRow>,
    },
    Roots {
        roots: Vec<RootRow>,
    },
    ApiKeyCreated {
        key: String,
        api_key: ApiKeyRow,
    },
    ApiKeys {
        api_keys: Vec<ApiKeyRow>,
    },
    ApiKeyRevoked {
        dry_run: bool,
        api_key: ApiKeyRow,
    },
    Swept {
        dry_run: bool,
        tenants: Vec<SweptTenant>,
    },
    ClockAccepted {
        now: String,
        floor_before: String,
    },
    Kek(KekStatus),
    KekReplaced(KekStatus),
    DeksRotated {
        dry_run: bool,
        tenants: u64,
        system: bool,
        reencrypted: Option<Reencrypted>,
    },
    Deks {
        deks: Vec<DekRow>,
    },
    Compacted {
        dry_run: bool,
        databases: Vec<CompactedDatabase>,
    },
    Verified(Verification),
    BackupCreated(BackupMade),
    BackupVerified(BackupContents),
    BackupRestored(BackupRestored),
}

/// Under which KEK a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KekStatus {
    /// Tells two KEKs apart, and says nothing of them: the first 4 bytes of the check
    /// value, hexadecimal.
    pub fingerprint: String,
    /// As `kek.source` calls it; `None`: the store was made before this was written
    /// down.
    pub source: Option<String>,
    /// Since when it is under this KEK, RFC 3339.
    pub since: Option<String>,
    /// Of shares: how many it takes, and how many there are.
    pub threshold: Option<u8>,
    pub shares: Option<u8>,
    /// What proves a KEK to be the store's, so that whoever asks can prove the one that
    /// it has: the store's id, the check value, and where the KEK comes from as it is
    /// stored; hexadecimal, and none of it secret.
    pub store_id: String,
    pub check: String,
    pub origin: Option<String>,
}

/// What became of the secrets under old DEKs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reencrypted {
    pub secrets: u64,
    /// What could not be decrypted, and keeps its old DEK.
    pub damaged: u64,
}

/// A DEK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DekRow {
    /// `None`: the system's.
    pub tenant: Option<String>,
    pub id: u32,
    /// "active": it encrypts; "retired": it decrypts what it encrypted; "leaving": until
    /// that is encrypted anew.
    pub state: String,
    /// RFC 3339; `None`: it is from before that was written down.
    pub made_on: Option<String>,
}

/// A revocation. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationRow {
    /// "token", "subject" or "tenant".
    pub kind: String,
    /// Of a token: the revocation id, hexadecimal.
    pub id: Option<String>,
    /// `None` where it is not known.
    pub tenant: Option<String>,
    pub subject: Option<String>,
    /// Of a subject: whose it is; `None` is this store's.
    pub issuer: Option<String>,
    /// Only what was issued before this moment.
    pub before: Option<String>,
    pub revoked_on: String,
    /// From then on it is forgotten: what it ends has expired.
    pub kept_until: String,
}

/// A root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootRow {
    pub id: u32,
    /// Hexadecimal.
    pub public_key: String,
    /// Whether new tokens are signed by it.
    pub signs: bool,
    /// RFC 3339; `None`: no end was set.
    pub honoured_until: Option<String>,
}

/// An API key, without its secret. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyRow {
    /// Hexadecimal.
    pub id: String,
    pub tenant: String,
    pub name: Option<String>,
    pub scopes: Vec<String>,
    pub created_on: String,
    /// `None`: it holds until it is revoked.
    pub expires_on: Option<String>,
    /// To the hour; `None`: never.
    pub last_used_on: Option<String>,
    pub expired: bool,
}

/// A backup that was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupMade {
    /// RFC 3339. Each tenant is in it as of a moment after this.
    pub begun_on: String,
    pub bytes: u64,
    pub tenants: u64,
    /// Of tenants.
    pub rows: u64,
    /// Damaged tenants.
    pub left_out: Vec<LeftOut>,
}

/// A tenant that a backup is without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    pub tenant: String,
    pub why: String,
}

/// What is in a backup whose every byte is the one that was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupContents {
    /// Whether all that it holds decrypts and is complete.
    pub sound: bool,
    /// Each tenant is in it as of a moment between these two; RFC 3339.
    pub begun_on: String,
    pub finished_on: String,
    /// The version of the program that wrote it.
    pub program: String,
    pub bytes: u64,
    pub parts: Vec<VerifiedPart>,
    pub left_out: Vec<LeftOut>,
}

/// What was restored, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRestored {
    pub dry_run: bool,
    /// `None` where a whole store was.
    pub tenant: Option<RestoredTenant>,
    /// What became of the credentials of before: "kept", "revoked" or "none".
    pub credentials: String,
    pub contents: BackupContents,
}

/// One tenant, restored beside others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredTenant {
    pub name: String,
    pub restored_as: String,
    pub secrets: u64,
}

/// What a check of the whole store, of one tenant or of a backup found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Whether there is no fault at all.
    pub sound: bool,
    pub parts: Vec<VerifiedPart>,
}

/// What was found in one part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedPart {
    /// `None` for the system and the keyring.
    pub tenant: Option<String>,
    /// "system", "keyring" or "secrets".
    pub part: String,
    pub rows: u64,
    pub secrets: u64,
    /// What is wrong, a sentence each; the first [`VerifiedPart::MAX_FAULTS`].
    pub faults: Vec<String>,
    /// How many there are, those that are not listed included.
    pub fault_count: u64,
}

impl VerifiedPart {
    pub const MAX_FAULTS: usize = 100;

    pub fn fault(&mut self, sentence: impl Into<String>) {
        self.fault_count += 1;
        if self.faults.len() < Self::MAX_FAULTS {
            self.faults.push(sentence.into());
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    pub name: String,
    /// Hexadecimal.
    pub id: String,
    /// RFC 3339.
    pub created_on: String,
}

/// What a tenant may have, and how often it may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantLimitRows {
    pub secrets: LimitRow,
    pub bytes: LimitRow,
    pub requests_per_second: LimitRow,
}

/// A limit of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitRow {
    /// `None`: there is none.
    pub max: Option<u64>,
    /// Whether it is the tenant's own, or the configuration's.
    pub own: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweptTenant {
    pub tenant: String,
    /// How many secrets were removed, or would be.
    pub secrets: u64,
    /// Expired entries that lead to a damaged record, and were left.
    pub damaged: u64,
}

/// A database, chosen or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompactedDatabase {
    pub database: String,
    /// On disk, before.
    pub bytes: u64,
    /// Of what can be read in it; `None` where it is damaged.
    pub live_bytes: Option<u64>,
    /// Whether it was to be compacted.
    pub chosen: bool,
    /// On disk, after; `None` where it was left alone.
    pub bytes_after: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    /// Whether a running server answered.
    pub serving: bool,
    pub sealed: bool,
    pub writable: bool,
    /// Why it is not writable, or which part does not serve.
    pub reason: Option<String>,
    pub data: String,
    pub data_bytes: u64,
    pub free_bytes: Option<u64>,
    pub tenants: u64,
    pub secrets: SecretCounts,
    pub clock: ClockStatus,
    /// RFC 3339; `None` where none ran since the process started.
    pub last_sweep: Option<String>,
}

/// What is known of a sealed store: nothing that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedStatus {
    pub version: String,
    /// Whether a running server answered.
    pub serving: bool,
    /// Always, so that both kinds of status say it.
    pub sealed: bool,
    /// Why, where no operator sealed it.
    pub reason: Option<String>,
    pub data: String,
    pub data_bytes: u64,
    pub free_bytes: Option<u64>,
    /// Where its KEK comes from, as `kek.source` calls it; `None`: the store was made
    /// before this was written down.
    pub source: Option<String>,
    /// `None` where its KEK does not come from shares.
    pub shares: Option<ShareCount>,
}

/// Shares of a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareCount {
    /// How many there are.
    pub shares: u8,
    /// How many it takes.
    pub threshold: u8,
    /// How many the server was given so far.
    pub given: u8,
    pub missing: u8,
}

/// Secrets by the state of their window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretCounts {
    pub valid: u64,
    /// Not valid yet.
    pub pending: u64,
    /// Expired and not yet swept.
    pub expired: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockStatus {
    /// RFC 3339.
    pub now: String,
    /// The latest undisputed time, RFC 3339.
    pub floor: String,
    /// While true nothing is swept; `tenure clock accept` ends it.
    pub disputed: bool,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// A sentence that says what to do.
    pub message: String,
}

/// The command line's exit codes follow these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The command's words are wrong.
    Usage,
    NotFound,
    /// It exists already.
    Conflict,
    /// Not now: starting, busy, full, read-only.
    Unavailable,
    /// The clock is disputed and the act would destroy by it.
    ClockDisputed,
    /// What is stored is not what was written.
    Damaged,
    Internal,
}
