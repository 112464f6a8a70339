//! A real browser: Swagger UI, in which somebody signs in at a real identity
//! provider and works with a secret.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::identity_provider::{RealIssuer, Registered, script, tools};
use crate::support::{Output, Serve, init, maintain};

#[test]
fn somebody_signs_in_by_code_and_pkce_and_works_with_a_secret() {
    work_with_a_secret("authorizationCode", "ES256");
}

#[test]
fn somebody_signs_in_by_the_implicit_flow_and_works_with_a_secret() {
    work_with_a_secret("implicit", "RS256");
}

fn work_with_a_secret(flow: &str, alg: &'static str) {
    assert!(
        std::path::Path::new("/usr/bin/chromium").exists(),
        "there is no browser; run ./tests/run, which installs it"
    );
    let client = Registered { id: "docs", flow: "both", alg, tenant: "acme-corp" };
    let issuer = RealIssuer::new(&[client], 600);
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &issuer.name);
    let profile = tempfile::tempdir().unwrap();
    let address = format!("http://{}", server.address);
    let mut browser = Command::new("node");
    browser.arg(script("browser.mjs")).args([&address, flow, "acme", "from-the-page"]);
    browser.arg(profile.path()).current_dir(tools());
    let output = Output::of(&mut browser);
    assert_eq!(output.code, Some(0), "{output:?}");
    let done: Value = serde_json::from_str(&output.stdout).unwrap();
    for (call, status) in
        [("put", 204), ("get", 200), ("list", 200), ("delete", 204), ("gone", 404)]
    {
        assert_eq!(done[call]["status"], status, "{call}: {done}");
    }
    assert_eq!(done["get"]["text"], r#""from a browser""#);
    let listed: Value = serde_json::from_str(done["list"]["text"].as_str().unwrap()).unwrap();
    assert_eq!(listed, json!(["from-the-page"]));
    // The secret that is gone is the one answer that the page complains of.
    let complaints = done["complaints"].as_array().unwrap();
    let of_policy = complaints.iter().filter(|line| !line.as_str().unwrap().contains("404"));
    assert_eq!(of_policy.count(), 0, "{complaints:?}");
}

/// `tenure serve` with the tenant `acme`, and an issuer at which the page signs in.
fn serve(folder: &std::path::Path, issuer: &str) -> Serve {
    let data = init(folder);
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let file = folder.join("tenure.toml");
    let shown = data.display();
    let text = format!(
        "data = '{shown}'\nkek.file = '{shown}.kek'\n[[oidc]]\nissuer = '{issuer}'\n\
         audience = 'https://tenure.test'\ntenants = {{ acme-corp = 'acme' }}\n\
         scopes = {{ 'tenure:read' = 'Secret.Read', 'tenure:write' = 'Secret.Write' }}\n\
         client_id = 'docs'\n"
    );
    std::fs::write(&file, text).unwrap();
    let server = Serve::start_with(&data, |command| {
        command.arg("--config").arg(&file);
    });
    // Before the issuer said where, the page does not offer it.
    crate::support::eventually("the issuer to be asked", || {
        let document = server.send(&crate::support::Request::get("/api/openapi.json"));
        document.text().contains("authorizationCode").then_some(())
    });
    server
}
