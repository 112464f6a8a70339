//! Tenants that come and go, and what must be there of them afterwards.

use std::collections::BTreeSet;

use super::{Dev, Request};

/// Tenants that came to be and those whose fate a crash left open.
#[derive(Debug, Default)]
pub struct Tenants {
    /// Those that are not ours to count.
    others: BTreeSet<String>,
    present: BTreeSet<String>,
    open: Option<String>,
    made: u64,
}

impl Tenants {
    /// In a store that has `others` too, besides that of `dev`.
    pub fn beside(others: &[&str]) -> Self {
        Self { others: others.iter().map(|name| (*name).to_owned()).collect(), ..Self::default() }
    }

    pub fn made(&self) -> u64 {
        self.made
    }

    /// Creates and deletes until the server is gone.
    pub fn come_and_go(&mut self, dev: &Dev, is_up: impl Fn() -> bool) {
        while self.open.is_none() {
            let gone = self.present.first().filter(|_| self.present.len() > 3).cloned();
            let name = gone.clone().unwrap_or_else(|| {
                self.made += 1;
                format!("passing-{}", self.made)
            });
            let command: &[&str] =
                if gone.is_some() { &["delete", "--yes", &name] } else { &["create", &name] };
            let done = dev.run(&[&["tenant"], command].concat());
            match (done.code, gone) {
                (Some(0), Some(_)) => drop(self.present.remove(&name)),
                (Some(0), None) => drop(self.present.insert(name.clone())),
                // By a server that died over it; what it did of it is not known.
                (code, _) => {
                    assert!(code == Some(5) || !is_up(), "{done:?}");
                    self.open = Some(name.clone());
                }
            }
            if !is_up() {
                return;
            }
        }
    }

    /// Those that were acknowledged are there, whole, and no others.
    pub fn check(&mut self, dev: &Dev) {
        let list = dev.run(&["tenant", "list", "--json"]);
        let list: serde_json::Value = serde_json::from_str(&list.stdout).expect("JSON");
        let rows = list["tenants"].as_array().expect("a list").iter();
        let found: BTreeSet<String> = rows
            .filter_map(|row| row["name"].as_str())
            .filter(|name| *name != "dev" && !self.others.contains(*name))
            .map(str::to_owned)
            .collect();
        if let Some(open) = self.open.take() {
            if found.contains(&open) {
                self.present.insert(open);
            } else {
                self.present.remove(&open);
            }
        }
        assert_eq!(found, self.present);
        for name in &self.present {
            let token = dev.mint(name, &["*"]);
            let path = format!("/api/{name}/secrets/own");
            let put = Request::put(path.clone(), r#"{"value":"mine"}"#).bearer(&token);
            assert_eq!(dev.client().send(&put).status, 204, "{name}");
            assert_eq!(dev.client().send(&Request::get(path).bearer(&token)).json(), "mine");
        }
    }
}
