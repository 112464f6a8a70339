//! Swagger UI, from inside the binary: the files of its release that the page loads, and
//! the script of ours that starts it. `build.rs` puts the files where they are taken from
//! here, the large ones compressed: nobody loads the page often enough to hold both forms.

use actix_web::web::Bytes;
use serde_json::json;

/// What a browser is sent.
pub(super) struct File {
    pub media_type: &'static str,
    pub coding: Coding,
    pub bytes: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
}

/// As whom the page signs in, and which words it asks an issuer for.
pub(super) struct Client<'o> {
    pub id: &'o str,
    pub scopes: Vec<&'o str>,
}

/// The page, with all that it loads.
pub(super) struct Page {
    initializer: Bytes,
}

struct Asset {
    name: &'static str,
    media_type: &'static str,
    coding: Coding,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PNG: &str = "image/png";

macro_rules! as_it_is {
    ($name:literal, $media_type:expr) => {
        Asset {
            name: $name,
            media_type: $media_type,
            coding: Coding::Identity,
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui/", $name)),
        }
    };
}

macro_rules! compressed {
    ($name:literal, $media_type:expr) => {
        Asset {
            name: $name,
            media_type: $media_type,
            coding: Coding::Gzip,
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui/", $name, ".gz")),
        }
    };
}

static ASSETS: [Asset; 9] = [
    as_it_is!("index.html", HTML),
    as_it_is!("index.css", CSS),
    as_it_is!("oauth2-redirect.html", HTML),
    as_it_is!("oauth2-redirect.js", SCRIPT),
    as_it_is!("favicon-16x16.png", PNG),
    as_it_is!("favicon-32x32.png", PNG),
    compressed!("swagger-ui-bundle.js", SCRIPT),
    compressed!("swagger-ui-standalone-preset.js", SCRIPT),
    compressed!("swagger-ui.css", CSS),
];
const INDEX: &str = "index.html";
const INITIALIZER: &str = "swagger-initializer.js";

impl Page {
    /// Over the document at that address. With a client, the page signs in as it.
    pub fn new(document: &str, client: Option<&Client<'_>>) -> Self {
        Self { initializer: Bytes::from(initializer(document, client)) }
    }

    /// The page itself has no name.
    pub fn file(&self, name: &str) -> Option<File> {
        if name == INITIALIZER {
            let (coding, bytes) = (Coding::Identity, self.initializer.clone());
            return Some(File { media_type: SCRIPT, coding, bytes });
        }
        let name = if name.is_empty() { INDEX } else { name };
        let asset = ASSETS.iter().find(|asset| asset.name == name)?;
        let Asset { media_type, coding, bytes, .. } = *asset;
        Some(File { media_type, coding, bytes: Bytes::from_static(bytes) })
    }
}

/// What the release's own script of this name does, with what is ours. JSON is JavaScript
/// (ECMA-262 since its 2019 edition), so that no text from the configuration gets out of
/// its quotes.
fn initializer(document: &str, client: Option<&Client<'_>>) -> String {
    let config = json!({
        "dom_id": "#swagger-ui",
        "url": document,
        "deepLinking": true,
        "layout": "StandaloneLayout",
        "tryItOutEnabled": true,
        // Swagger UI would otherwise show the document's address to validator.swagger.io.
        "validatorUrl": "none",
    });
    let sign_in = client.map_or_else(String::new, |Client { id, scopes }| {
        let oauth = json!({
            "clientId": id,
            "scopes": scopes,
            "usePkceWithAuthorizationCodeGrant": true,
        });
        format!("  window.ui.initOAuth({oauth:#});\n")
    });
    format!(
        "window.onload = function() {{\n  window.ui = SwaggerUIBundle({{\n    ...{config:#},\n    \
         presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],\n    \
         plugins: [SwaggerUIBundle.plugins.DownloadUrl],\n  }});\n{sign_in}}};\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_says_what_it_is_told_and_nothing_gets_out_of_its_quotes() {
        let plain = initializer("/api/openapi.json", None);
        assert!(plain.contains(r#""url": "/api/openapi.json""#), "{plain}");
        assert!(plain.contains(r#""validatorUrl": "none""#), "{plain}");
        assert!(!plain.contains("initOAuth"), "{plain}");
        let odd = Client { id: "a\"});alert(1);//", scopes: vec!["t:read", "\\"] };
        let script = initializer("/api/openapi.json", Some(&odd));
        assert!(script.contains(r#""clientId": "a\"});alert(1);//","#), "{script}");
        assert!(script.contains(r#""\\""#), "{script}");
    }

    #[test]
    fn all_that_the_page_asks_for_is_there() {
        let page = Page::new("/api/openapi.json", None);
        let html = page.file("").unwrap();
        let html = std::str::from_utf8(&html.bytes).unwrap();
        let names =
            html.split(['"']).filter(|part| part.ends_with(".js") || part.ends_with(".css"));
        let names: Vec<_> = names.map(|name| name.trim_start_matches("./")).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(names.iter().all(|name| page.file(name).is_some()), "{names:?}");
        for asset in &ASSETS {
            let is_gzip = asset.bytes.starts_with(&[0x1f, 0x8b]);
            assert_eq!(is_gzip, asset.coding == Coding::Gzip, "{}", asset.name);
            assert!(asset.bytes.len() < 500_000, "{}", asset.name);
        }
        assert!(page.file("swagger-ui.js").is_none() && page.file("../Cargo.toml").is_none());
    }
}
