//! The table of series: what each is called, what it says, and which labels it has.
//! docs/metrics.md has a row for each.

/// What a series does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It rises, and begins anew with each start.
    Counter,
    Gauge,
    /// Of seconds.
    Histogram,
}

/// Something that is measured.
#[derive(Debug, PartialEq, Eq)]
pub struct Series {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

macro_rules! series {
    ($($series:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub static $series: Series = Series {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: &[$($label),*],
        };)*

        /// Every series there is.
        pub static SERIES: &[&Series] = &[$(&$series),*];
    };
}

series! {
    REQUESTS: Counter "tenure_http_requests_total"
        ["method", "route", "status", "credential"]
        "Requests answered, by the template of their route.";
    REQUEST_DURATION: Histogram "tenure_http_request_duration_seconds" ["method", "route"]
        "From a request's head to its answer's; a list that is sent in pages goes on after that.";
    CONNECTIONS: Gauge "tenure_http_connections" []
        "Connections that are open, as of a second ago.";
    AUTHENTICATION_FAILURES: Counter "tenure_authentication_failures_total" ["reason"]
        "Credentials that were refused, and those that were not looked at (limited).";
    TOKEN_LOOKUPS: Counter "tenure_token_lookups_total" ["result"]
        "Tokens looked for among the verified ones; a miss costs a check of its signatures.";
    LIST_LOOKUPS: Counter "tenure_list_lookups_total" ["result"]
        "Sorted names looked for in memory; a miss decrypts every name of the tenant.";
    COMMIT_BATCHES: Counter "tenure_store_commit_batches_total" []
        "Batches that were handed to the disk, of all databases.";
    SYNC_DURATION: Histogram "tenure_store_sync_duration_seconds" []
        "How long a group of batches took to be applied and synced; its count is that of groups.";
    FREE_BYTES: Gauge "tenure_store_free_bytes" []
        "Bytes free on the file system of the data.";
    WRITABLE: Gauge "tenure_store_writable" []
        "1 where the store takes writes, else 0.";
    READY: Gauge "tenure_ready" []
        "1 where the store is open, unsealed and takes writes, as /readyz says, else 0.";
    SEALED: Gauge "tenure_sealed" []
        "1 where the store is sealed, else 0.";
    TENANTS: Gauge "tenure_tenants" []
        "Tenants that there are.";
    SECRETS: Gauge "tenure_secrets" ["state"]
        "Secrets by the state of their window, as of the last count.";
    EXPIRING: Gauge "tenure_secrets_expiring" ["within"]
        "Valid or pending secrets that expire within so long a time, as of the last count.";
    NEXT_EXPIRY: Gauge "tenure_secrets_next_expiry_timestamp_seconds" []
        "When the next secret expires, as of the last count; NaN where none does.";
    COUNTED: Gauge "tenure_secrets_counted_timestamp_seconds" []
        "When secrets were last counted.";
    UNCOUNTED: Gauge "tenure_secrets_uncounted_tenants" []
        "Tenants whose secrets could not be counted: they may be damaged.";
    SWEEPS: Counter "tenure_sweeps_total" []
        "Sweeps of all tenants.";
    SWEPT_SECRETS: Counter "tenure_swept_secrets_total" []
        "Expired secrets that sweeps removed.";
    LAST_SWEEP: Gauge "tenure_last_sweep_timestamp_seconds" []
        "When all tenants were last swept, over restarts too.";
    AUDIT_RECORDED: Counter "tenure_audit_recorded_total" []
        "Entries of reads, refusals and looks that were stored; changes store theirs themselves.";
    AUDIT_LOST: Counter "tenure_audit_lost_total" []
        "Entries of those that could not be stored; the chain that lacks them says so too.";
    AUDIT_QUEUE_BYTES: Gauge "tenure_audit_queue_bytes" []
        "Bytes of what waits to be recorded.";
    AUDIT_QUEUE_AGE: Gauge "tenure_audit_queue_age_seconds" []
        "How long the first of it has waited; 0 where nothing waits.";
    AUDIT_COPIED: Counter "tenure_audit_copied_total" ["to"]
        "Entries of the audit that were copied out of the store.";
    AUDIT_UNCOPIED: Counter "tenure_audit_uncopied_total" ["to"]
        "Entries that cannot be copied any more: moved, damaged, or gone with their tenant.";
    AUDIT_COPIES_FAILING: Gauge "tenure_audit_copies_failing" ["to"]
        "1 where copies are not taken just now and wait in the store, else 0.";
    AUDIT_COPIES_BEHIND: Gauge "tenure_audit_copies_behind_seconds" ["to"]
        "How long the first entry has waited that is to be copied, as of a second ago.";
    CLOCK_DISPUTED: Gauge "tenure_clock_disputed" []
        "1 where the clock is disputed and nothing is swept, else 0.";
    CERTIFICATE_EXPIRY: Gauge "tenure_tls_certificate_expiry_timestamp_seconds" []
        "When the certificate in use expires; absent without TLS.";
    OLDEST_DEK: Gauge "tenure_oldest_dek_timestamp_seconds" []
        "When the oldest DEK that encrypts was drawn.";
    KEK: Gauge "tenure_kek_timestamp_seconds" []
        "When the KEK came into use; absent where a store is older than what notes it.";
    BUILD_INFO: Gauge "tenure_build_info" ["version"]
        "Always 1.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" []
        "Processor time of this process, user and system, in whole seconds.";
    PROCESS_MEMORY: Gauge "process_resident_memory_bytes" []
        "Memory of this process that is in RAM.";
    PROCESS_FILES: Gauge "process_open_fds" []
        "File descriptors in use.";
    PROCESS_MAX_FILES: Gauge "process_max_fds" []
        "File descriptors that may be in use.";
    PROCESS_START: Gauge "process_start_time_seconds" []
        "When this process began.";
}
