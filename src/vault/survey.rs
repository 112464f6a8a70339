//! What is known of all secrets together: counted in the background, at its own pace,
//! for whoever watches the server.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::audit::AuditVitals;
use super::heads::{Look, Place};
use super::seal::ledger_of;
use super::tenant::Tenant;
use super::{Vault, VaultError};
use crate::domain::{Now, TenantName, Timestamp, ValidityWindow, WindowState};
use crate::store::{Health, Space};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What was counted when all secrets were looked at, one tenant after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    /// When that ended.
    pub counted_on: Timestamp,
    pub valid: u64,
    pub pending: u64,
    /// Not swept yet.
    pub expired: u64,
    /// How many of the valid and the pending ones expire within each of
    /// [`Survey::HORIZONS`].
    pub expiring: [u64; Survey::HORIZONS.len()],
    pub next_expiry: Option<Timestamp>,
    /// Tenants that could not be counted, for damage or because they were deleted.
    pub uncounted: u64,
    /// When the oldest of the DEKs that encrypt was drawn.
    pub oldest_dek: Option<Timestamp>,
}

impl Survey {
    pub const HORIZONS: [(&'static str, Duration); 3] =
        [("1d", DAY), ("7d", DAY.saturating_mul(7)), ("30d", DAY.saturating_mul(30))];

    fn begun(now: Now) -> Self {
        Self {
            counted_on: now.wall(),
            valid: 0,
            pending: 0,
            expired: 0,
            expiring: [0; Self::HORIZONS.len()],
            next_expiry: None,
            uncounted: 0,
            oldest_dek: None,
        }
    }

    fn add(&mut self, window: ValidityWindow, now: Now) {
        match window.state_at(now) {
            WindowState::Valid => self.valid += 1,
            WindowState::Pending => self.pending += 1,
            WindowState::Expired => {
                self.expired += 1;
                return;
            }
        }
        let Some(end) = window.expires_on() else { return };
        self.next_expiry = Some(self.next_expiry.map_or(end, |next| next.min(end)));
        for ((_, span), count) in Self::HORIZONS.iter().zip(&mut self.expiring) {
            *count += u64::from(end <= now.for_expiry().saturating_add(*span));
        }
    }

    fn note_dek(&mut self, drawn: Timestamp) {
        self.oldest_dek = Some(self.oldest_dek.map_or(drawn, |oldest| oldest.min(drawn)));
    }
}

/// How a vault stands, from memory alone.
#[derive(Debug)]
pub struct Vitals {
    pub writable: bool,
    pub free_bytes: Option<u64>,
    pub tenants: usize,
    pub clock_disputed: bool,
    pub last_sweep: Option<Timestamp>,
    /// When the KEK came into use; `None` where that was before it was written down.
    pub kek_since: Option<Timestamp>,
    /// `None` until secrets were counted once.
    pub survey: Option<Survey>,
    pub audit: AuditVitals,
}

impl Vault {
    pub fn vitals(&self) -> Vitals {
        let Health { writable, free_bytes, reason: _ } = self.store.health();
        Vitals {
            writable,
            free_bytes,
            tenants: self.all_tenants().len(),
            clock_disputed: self.time.is_disputed(),
            last_sweep: *self.last_sweep.read().unwrap_or_else(PoisonError::into_inner),
            kek_since: self.keyring.kek_record().origin.map(|origin| origin.since),
            survey: *self.survey.read().unwrap_or_else(PoisonError::into_inner),
            audit: self.audit_vitals(),
        }
    }

    /// How many rows a tenant has, two or three for most secrets: read from its ledger,
    /// however many they are. `None` where nobody can tell.
    pub async fn rows_of(&self, tenant: &TenantName) -> Option<u64> {
        let tenant = self.tenant_named(tenant)?;
        let ledger = ledger_of(&*self.store, Space::Tenant(tenant.id), tenant.keys().1).await;
        Some(ledger.ok()??.rows)
    }

    /// Counts what tenants have whose limits need it, some microseconds for each secret.
    /// Otherwise their first writer does, and waits.
    pub async fn prepare_counts(&self) {
        for tenant in self.all_tenants() {
            if let Err(error) = tenant.prepare_count().await {
                // Whoever writes is told, if it lasts.
                log::debug!("what a tenant has was not counted: {error}");
            }
        }
    }

    /// Counts all secrets, which decrypts the head of every one that is not in memory:
    /// some microseconds each. Answers how long it took, so that the caller can rest in
    /// proportion.
    pub async fn take_survey(&self) -> Duration {
        let (begun, now) = (Instant::now(), self.now());
        let mut survey = Survey::begun(now);
        for tenant in self.all_tenants() {
            let mut drawn = None;
            self.with_keys(tenant.id, |keys| drawn = keys.deks().active_made_on());
            survey.note_dek(drawn.unwrap_or(tenant.created_on));
            // Half a tenant is none.
            match with_windows(&survey, &tenant, |sum, window| sum.add(window, now)).await {
                Ok(sum) => survey = sum,
                Err(_) => survey.uncounted += 1,
            }
        }
        survey.counted_on = self.now().wall();
        *self.survey.write().unwrap_or_else(PoisonError::into_inner) = Some(survey);
        begun.elapsed()
    }
}

/// `begun` with the window of every secret of a tenant added, in no order: from the
/// sorted names where they are all in memory, else from the store and without keeping
/// them. Asking for this must not push lists out.
pub(super) async fn with_windows<T: Clone>(
    begun: &T,
    tenant: &Tenant,
    add: impl Fn(&mut T, ValidityWindow),
) -> Result<T, VaultError> {
    if let Some(sum) = in_memory(begun.clone(), tenant, &add).await {
        return Ok(sum);
    }
    let mut sum = begun.clone();
    tenant
        .visit_heads(|heads| heads.iter().for_each(|(_, head)| add(&mut sum, head.window)))
        .await?;
    Ok(sum)
}

async fn in_memory<T>(
    mut sum: T,
    tenant: &Tenant,
    add: impl Fn(&mut T, ValidityWindow),
) -> Option<T> {
    let mut place = Place::start();
    loop {
        let Look { block, next } = tenant.heads.look(&place)?;
        let entries = block.iter().flat_map(|block| block.entries());
        // Blocks may be cut anew between two looks.
        let entries = entries.skip_while(|entry| entry.name < place.as_str());
        entries.filter_map(|entry| entry.window).for_each(|window| add(&mut sum, window));
        let Some(next) = next else { return Some(sum) };
        place = next;
        tokio::task::yield_now().await;
    }
}
