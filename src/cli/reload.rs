//! What of a configuration takes effect while a server runs.

use crate::config::{Audit, Config, Exposure, keys};

/// A configuration that was read again, against the one that is served by.
pub(super) struct Reread {
    /// What is served by from now on.
    pub(super) config: Config,
    /// Keys that take effect now.
    pub(super) changed: Vec<&'static str>,
    /// Keys that wait for a restart.
    pub(super) waiting: Vec<&'static str>,
}

impl Reread {
    pub(super) fn of(present: &Config, fresh: &Config) -> Self {
        let config = adopted(present, fresh);
        let changed = differences(present, &config);
        let mut waiting = differences(&config, fresh);
        if config.oidc != fresh.oidc {
            waiting.push("oidc");
        }
        Self { config, changed, waiting }
    }

    /// In words, for the log and whoever asked.
    pub(super) fn told(&self) -> String {
        let now = match self.changed.as_slice() {
            [] => "nothing changed".to_owned(),
            keys => format!("changed {}", keys.join(", ")),
        };
        match self.waiting.as_slice() {
            [] => now,
            keys => format!("{now}; only after a restart: {}", keys.join(", ")),
        }
    }
}

/// `present`, with what can be changed of it as in `fresh`.
fn adopted(present: &Config, fresh: &Config) -> Config {
    let mut config = present.clone();
    if has_tls(present) && has_tls(fresh) {
        config.tls.certificate.clone_from(&fresh.tls.certificate);
        config.tls.key.clone_from(&fresh.tls.key);
    }
    config.http.trusted_proxies.clone_from(&fresh.http.trusted_proxies);
    config.http.body_timeout = fresh.http.body_timeout;
    config.kek = fresh.kek.clone();
    config.sweep = fresh.sweep.clone();
    config.backup = fresh.backup.clone();
    config.limits = fresh.limits.clone();
    config.notify = fresh.notify.clone();
    config.log.level = fresh.log.level;
    config.audit = Audit { queue_bytes: present.audit.queue_bytes, ..fresh.audit.clone() };
    config
}

fn has_tls(config: &Config) -> bool {
    matches!(config.exposure(), Ok(Exposure::Tls { .. }))
}

fn differences(one: &Config, other: &Config) -> Vec<&'static str> {
    let differ = keys().iter().filter(|key| key.show(one) != key.show(other));
    differ.map(|key| key.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogLevel, TimeSpan};

    #[test]
    fn a_key_takes_effect_or_is_said_to_wait() {
        let present = Config::default();
        let mut fresh = present.clone();
        fresh.log.level = LogLevel::Debug;
        fresh.sweep.every = TimeSpan::seconds(60);
        fresh.http.workers = 3;
        fresh.listen.set_port(1);
        let reread = Reread::of(&present, &fresh);
        assert_eq!(reread.changed, ["sweep.every", "log.level"]);
        assert_eq!(reread.waiting, ["listen", "http.workers"]);
        assert_eq!(reread.config.http.workers, 0, "what waits is served by as it was");
        assert_eq!(
            reread.told(),
            "changed sweep.every, log.level; only after a restart: listen, http.workers"
        );
    }

    #[test]
    fn who_is_told_and_what_tenants_may_have_take_effect_now() {
        let present = Config::default();
        let mut fresh = present.clone();
        fresh.limits.tenant.secrets = 5;
        fresh.notify.ca_file = Some("ca.pem".into());
        let reread = Reread::of(&present, &fresh);
        assert_eq!(reread.changed, ["limits.tenant.secrets", "notify.ca_file"]);
        assert!(reread.waiting.is_empty());
        assert_eq!(reread.config, fresh);
    }

    #[test]
    fn tls_is_neither_begun_nor_ended_by_a_reload() {
        let present = Config::default();
        let mut fresh = present.clone();
        fresh.tls.certificate = Some("c.pem".into());
        fresh.tls.key = Some("k.pem".into());
        for (from, to) in [(&present, &fresh), (&fresh, &present)] {
            assert_eq!(Reread::of(from, to).waiting, ["tls.certificate", "tls.key"]);
        }
    }
}
