//! What an operator sees of a damaged store: which part it is, and the way out.
//! What damage may do at all is tried in src/vault/damage.rs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Dev, Output, Request, maintain, store_in};

const INTERNAL: Option<i32> = Some(1);

/// A stopped store with a secret `a` of tenant `dev`.
fn stopped(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let dev = Dev::start(&data);
    assert_eq!(dev.put("a", "value").status, 204);
    assert_eq!(dev.stop(), Some(0));
    data
}

fn assert_names(output: &Output, words: &[&str]) {
    for word in words {
        assert!(output.stderr.contains(word), "{word}: {output:?}");
    }
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

#[test]
fn a_store_that_does_not_open_names_the_database_and_the_way_out() {
    for (database, file) in [("keyring", "db"), ("system", "mark"), ("system", "db")] {
        let folder = tempfile::tempdir().unwrap();
        let data = stopped(folder.path());
        fs::write(store_in(&data).join(database).join("1").join(file), "damage").unwrap();
        let output = maintain(&data, &["status"]);
        assert_eq!(output.code, INTERNAL, "{output:?}");
        let place = data.display().to_string();
        assert_names(&output, &[database, "corrupted", "tenure backup restore", &place]);
    }
}

#[test]
fn a_damaged_database_of_tenants_is_named_and_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let data = stopped(folder.path());
    fs::remove_file(store_in(&data).join("tenants-0000/1/mark")).unwrap();
    let dev = Dev::start(&data);
    for answer in [dev.get("a"), dev.put("a", "new"), dev.send(Request::get("/api/dev/secrets"))] {
        assert_eq!(answer.status, 500);
        assert_eq!(answer.json()["code"], "corrupted");
    }
    let status = dev.run(&["status", "--json"]);
    assert_eq!(status.code, Some(0));
    assert!(status.stdout.contains("tenants-0000"), "{status:?}");
    let sweep = dev.run(&["sweep", "--tenant", "dev"]);
    assert_eq!(sweep.code, INTERNAL, "{sweep:?}");
    assert_names(&sweep, &["tenants-0000", "tenure verify", "tenure backup restore"]);

    assert_eq!(dev.run(&["tenant", "create", "other"]).code, Some(0));
    let token = dev.mint("other", &["*"]);
    let at = "/api/other/secrets/b";
    let put = Request::put(at, r#"{"value": "another database"}"#).bearer(&token);
    assert_eq!(dev.client().send(&put).status, 204);
    assert_eq!(dev.client().send(&Request::get(at).bearer(&token)).json(), "another database");
    assert_eq!(dev.stop(), Some(0));
}
