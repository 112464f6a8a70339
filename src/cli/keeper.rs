//! Who keeps the keys of a store that is served: seals it and unseals it, and runs
//! what works in the background while it is open.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::aside::Aside;
use super::audit_copies::Copies;
use super::failure::CliError;
use super::memory::Locking;
use super::{access, audit_archive, backup_schedule, issuers, kek, notices};
use crate::api::admin::{Failure, FailureKind, Reply, Unsealing};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::config::{Config, KekSource};
use crate::crypto::{Gathered, Kek, Share};
use crate::http::{AppState, IssuerWatch, NoticeWatch, Turn, Wanted, Webhook};
use crate::vault::{OpenError, SealedVault, Tended, Vault};

/// How often the vault is kept in order.
const HOUSE_EVERY: Duration = Duration::from_secs(1);
/// How often what waits to be recorded is stored: within a second is promised.
const RECORD_EVERY: Duration = Duration::from_millis(250);
/// How often it is asked whether a database is worn.
const COMPACT_EVERY: Duration = Duration::from_secs(5);
/// How often it is asked whether keys are old, or something is to be encrypted anew.
const KEYS_EVERY: Duration = Duration::from_secs(60);
/// Secrets are counted at most so often, and for no more than a hundredth of the time.
const SURVEY_EVERY: Duration = Duration::from_secs(30);
const REST_AFTER_SURVEY: u32 = 100;
/// How long either is left alone after something stood in its way: both read a lot before
/// they find out that it still does.
const AFTER_A_HINDRANCE: Duration = Duration::from_secs(15 * 60);

/// A store that is served, with its keys or without.
pub(super) enum Held {
    Open(Arc<Vault>),
    Sealed(Arc<SealedVault>),
}

pub(super) struct Keeper {
    config: Arc<Config>,
    state: AppState,
    /// What was locked of memory, to be told when there are keys in it; `None` tells
    /// nothing.
    locking: Option<Locking>,
    keeps: Keeps,
}

enum Keeps {
    Open { vault: Arc<Vault>, background: Background },
    Sealed(Arc<SealedVault>),
}

impl Keeper {
    /// Begins to serve. Must be called within a tokio runtime.
    pub(super) fn begin(
        config: Arc<Config>,
        state: &AppState,
        locking: Option<Locking>,
        held: Held,
    ) -> Result<Self, CliError> {
        let keeps = match held {
            Held::Open(vault) => {
                let background = Background::start(&config, state, &vault)?;
                state.set_ready(vault.clone());
                if let Some(locking) = locking {
                    locking.report();
                }
                Keeps::Open { vault, background }
            }
            Held::Sealed(sealed) => {
                state.set_sealed(sealed.clone());
                Keeps::Sealed(sealed)
            }
        };
        Ok(Self { config, state: state.clone(), locking, keeps })
    }

    /// Does what is wanted, and answers when it is done.
    pub(super) async fn turn(self, turn: Turn) -> Self {
        let Turn { wanted, answer } = turn;
        let (keeper, outcome) = match wanted {
            Wanted::Seal => self.seal().await,
            Wanted::Unseal(with) => self.unseal(with).await,
        };
        // Who asked may be gone; what was done is done.
        let _ = answer.send(outcome);
        keeper
    }

    /// New requests are refused at once; those under way are finished, and then no key
    /// is left.
    async fn seal(self) -> (Self, Result<Reply, Failure>) {
        let Self { config, state, locking, keeps } = self;
        let sealed = match keeps {
            Keeps::Sealed(sealed) => sealed,
            Keeps::Open { vault, background } => {
                state.set_sealing();
                background.stop().await;
                vault.note(&Caller::local(None), AuditOp::Seal).await;
                let sealed = Arc::new(vault.seal().await);
                state.set_sealed(sealed.clone());
                log::warn!("sealed: every call is answered with 503 until 'tenure unseal'");
                sealed
            }
        };
        let outcome = Ok(status(&sealed).await);
        (Self { config, state, locking, keeps: Keeps::Sealed(sealed) }, outcome)
    }

    async fn unseal(self, with: Unsealing) -> (Self, Result<Reply, Failure>) {
        let Keeps::Sealed(sealed) = &self.keeps else {
            let outcome = Ok(self.unsealed());
            return (self, outcome);
        };
        match self.opened(sealed, with).await {
            Ok(Some(vault)) => {
                vault.enter_service(&Caller::local(None), AuditOp::Unseal).await;
                self.open(vault).await
            }
            Ok(None) => {
                let outcome = Ok(status(sealed).await);
                (self, outcome)
            }
            Err(failure) => (self, Err(failure)),
        }
    }

    /// The vault, if what was given is enough to open it.
    async fn opened(
        &self,
        sealed: &SealedVault,
        with: Unsealing,
    ) -> Result<Option<Arc<Vault>>, Failure> {
        let Some(kek) = self.kek_of(sealed, with)? else { return Ok(None) };
        sealed.unseal(&kek).await.map(Some).map_err(|error| unopened(&error))
    }

    async fn open(self, vault: Arc<Vault>) -> (Self, Result<Reply, Failure>) {
        // The configuration may have been read again while it was sealed.
        vault.set_rates(access::rates(&self.config.limits));
        vault.set_notices(notices::policy(&self.config));
        adopt(&self.config, &vault).await;
        match Self::begin(self.config.clone(), &self.state, self.locking, Held::Open(vault)) {
            Ok(keeper) => {
                log::info!("unsealed");
                let outcome = Ok(keeper.unsealed());
                (keeper, outcome)
            }
            Err(error) => (self, Err(failure(FailureKind::Internal, error.message))),
        }
    }

    /// The KEK, if what was given is enough for it.
    fn kek_of(&self, sealed: &SealedVault, with: Unsealing) -> Result<Option<Kek>, Failure> {
        match with {
            Unsealing::Share { share } => {
                let share = Share::parse(share.expose());
                let share = share.map_err(|error| usage(error.to_string()))?;
                let number = share.number();
                let given = sealed.give(share).map_err(|error| usage(error.to_string()))?;
                match given.map_err(|error| usage(error.to_string()))? {
                    Gathered::Proved(kek) => Ok(Some(kek)),
                    Gathered::Missing(missing) => {
                        log::info!("share number {number} was given; {missing} are missing");
                        Ok(None)
                    }
                }
            }
            Unsealing::Reset => {
                let dropped = sealed.forget_shares();
                log::info!("{dropped} shares were dropped");
                Ok(None)
            }
            Unsealing::Source if self.config.kek.source == KekSource::Shamir => {
                Err(usage("this store is unsealed with shares: give one of them".to_owned()))
            }
            Unsealing::Kek { kek } => {
                let kek = Kek::parse(kek.expose()).map_err(|error| usage(error.to_string()))?;
                Ok(Some(kek))
            }
            Unsealing::Source => {
                let still = |kind| {
                    move |error: CliError| failure(kind, format!("still sealed: {}", error.message))
                };
                let place = Path::new(&self.config.data);
                let fetched = kek::fetch(&self.config).map_err(still(FailureKind::Unavailable))?;
                let proved = fetched.prove(place, sealed.kek_record());
                Ok(Some(proved.map_err(still(FailureKind::Usage))?.kek))
            }
        }
    }

    fn unsealed(&self) -> Reply {
        Reply::Unsealed { data: self.config.data.display().to_string() }
    }

    /// What is served by.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.keeps, Keeps::Sealed(_))
    }

    /// Goes on by another configuration, and with the receiver of notices that it names.
    pub(super) async fn adopt(
        self,
        config: Arc<Config>,
        webhook: Option<Webhook>,
    ) -> Result<Self, CliError> {
        let Self { config: before, state, locking, keeps } = self;
        let keeps = match keeps {
            Keeps::Open { vault, background } => {
                // Setting them forgets what was counted.
                if access::rates(&config.limits) != access::rates(&before.limits) {
                    vault.set_rates(access::rates(&config.limits));
                }
                adopt(&config, &vault).await;
                let background = background.adopt(&before, &config, webhook, &vault).await?;
                Keeps::Open { vault, background }
            }
            sealed @ Keeps::Sealed(_) => sealed,
        };
        Ok(Self { config, state, locking, keeps })
    }

    /// Called every second.
    pub(super) fn forget_stale_shares(&self) {
        if let Keeps::Sealed(sealed) = &self.keeps
            && let dropped @ 1.. = sealed.forget_stale_shares()
        {
            log::warn!("{dropped} shares were dropped: the next one did not come in time");
        }
    }

    /// Ends the background work. Requests may still be under way.
    pub(super) async fn rest(self) -> Held {
        match self.keeps {
            Keeps::Open { vault, background } => {
                background.stop().await;
                Held::Open(vault)
            }
            Keeps::Sealed(sealed) => Held::Sealed(sealed),
        }
    }
}

/// What a vault can be told of a configuration whatever else works on it.
async fn adopt(config: &Config, vault: &Vault) {
    vault.set_reads(access::audited_reads(config));
    vault.set_tenant_limits(access::tenant_limits(&config.limits.tenant)).await;
}

impl Held {
    pub(super) async fn close(&self) {
        match self {
            Self::Open(vault) => vault.close().await,
            Self::Sealed(sealed) => sealed.close().await,
        }
    }
}

/// What works beside requests. Each part of it holds the vault until it is stopped.
struct Background {
    recording: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    keys: JoinHandle<()>,
    compacting: JoinHandle<()>,
    surveying: JoinHandle<()>,
    backups: Option<Aside>,
    archiving: Option<Aside>,
    copies: Copies,
    issuers: IssuerWatch,
    notices: Option<NoticeWatch>,
}

impl Background {
    fn start(config: &Config, state: &AppState, vault: &Arc<Vault>) -> Result<Self, CliError> {
        let webhook = notices::webhook(config)?;
        let backups = backup_schedule::start(&config.backup, vault)?;
        let archiving = audit_archive::start(&config.audit, vault)?;
        let copies = Copies::start(config, vault)?;
        Ok(Self {
            recording: tokio::spawn(keep_recorded(vault.clone())),
            housekeeping: tokio::spawn(keep_house(vault.clone())),
            sweeping: sweeping(config, vault),
            keys: tokio::spawn(keep_keys(vault.clone())),
            compacting: tokio::spawn(keep_compact(vault.clone())),
            surveying: tokio::spawn(keep_surveyed(vault.clone())),
            backups,
            archiving,
            copies,
            issuers: IssuerWatch::start(issuers::sources(config), vault, state),
            notices: webhook.map(|webhook| notices::start(webhook, config, vault)),
        })
    }

    /// Begins anew what is configured otherwise. A backup that is being written is
    /// broken off only where the schedule changed.
    async fn adopt(
        mut self,
        before: &Config,
        config: &Config,
        webhook: Option<Webhook>,
        vault: &Arc<Vault>,
    ) -> Result<Self, CliError> {
        // What was being told is told again, with the same id.
        if let Some(notices) = self.notices.take() {
            notices.stop().await;
        }
        vault.set_notices(notices::policy(config));
        self.notices = webhook.map(|webhook| notices::start(webhook, config, vault));
        if config.sweep != before.sweep {
            self.sweeping.abort();
            self.sweeping = sweeping(config, vault);
        }
        if config.backup != before.backup {
            if let Some(backups) = self.backups.take() {
                backups.stop().await;
            }
            self.backups = backup_schedule::start(&config.backup, vault)?;
        }
        let wanted = |config: &Config| (config.audit.keep, config.audit.archive.clone());
        if wanted(config) != wanted(before) {
            if let Some(archiving) = self.archiving.take() {
                archiving.stop().await;
            }
            self.archiving = audit_archive::start(&config.audit, vault)?;
        }
        if config.audit.copies() == before.audit.copies() {
            self.copies.reopen();
        } else {
            self.copies.stop().await;
            self.copies = Copies::start(config, vault)?;
        }
        Ok(self)
    }

    async fn stop(self) {
        let Self {
            recording,
            housekeeping,
            sweeping,
            keys,
            compacting,
            surveying,
            backups,
            archiving,
            copies,
            issuers,
            notices,
        } = self;
        for task in [recording, housekeeping, sweeping, keys, compacting, surveying] {
            task.abort();
        }
        drop((issuers, notices));
        for aside in [backups, archiving].into_iter().flatten() {
            aside.stop().await;
        }
        copies.stop().await;
    }
}

fn sweeping(config: &Config, vault: &Arc<Vault>) -> JoinHandle<()> {
    let (every, retain) = (config.sweep.every.as_duration(), config.sweep.retain.as_duration());
    tokio::spawn(keep_swept(vault.clone(), every, retain))
}

async fn keep_recorded(vault: Arc<Vault>) {
    let mut every = tokio::time::interval(RECORD_EVERY);
    loop {
        every.tick().await;
        vault.record_waiting().await;
    }
}

async fn keep_house(vault: Arc<Vault>) {
    let mut every = tokio::time::interval(HOUSE_EVERY);
    loop {
        every.tick().await;
        if let Err(error) = vault.keep_house().await {
            log::warn!("the latest undisputed time was not stored: {error}");
        }
    }
}

async fn keep_keys(vault: Arc<Vault>) {
    let mut every = tokio::time::interval(KEYS_EVERY);
    loop {
        every.tick().await;
        if vault.tend_keys().await == Tended::Hindered {
            tokio::time::sleep(AFTER_A_HINDRANCE).await;
        }
    }
}

async fn keep_compact(vault: Arc<Vault>) {
    let mut every = tokio::time::interval(COMPACT_EVERY);
    loop {
        every.tick().await;
        if vault.renew_worn().await.is_err() {
            tokio::time::sleep(AFTER_A_HINDRANCE).await;
        }
    }
}

async fn keep_surveyed(vault: Arc<Vault>) {
    vault.prepare_counts().await;
    loop {
        let took = vault.take_survey().await;
        tokio::time::sleep((took * REST_AFTER_SURVEY).max(SURVEY_EVERY)).await;
    }
}

async fn keep_swept(vault: Arc<Vault>, every: Duration, retain: Duration) {
    if every.is_zero() {
        return;
    }
    let mut every = tokio::time::interval(every);
    loop {
        every.tick().await;
        vault.sweep_expired(retain).await;
    }
}

async fn status(sealed: &SealedVault) -> Reply {
    Reply::Sealed(Box::new(sealed.status().await))
}

/// It stays sealed.
fn unopened(error: &OpenError) -> Failure {
    let kind = match error {
        OpenError::WrongKek => FailureKind::Usage,
        _ => FailureKind::Internal,
    };
    failure(kind, format!("still sealed: {error}"))
}

fn usage(message: String) -> Failure {
    failure(FailureKind::Usage, message)
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}
