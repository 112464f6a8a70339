//! Takes out of the archive of Swagger UI's release what its page loads, for
//! `src/http/swagger_ui.rs` to have in the binary. The large files are compressed; the
//! release has four times as many bytes in files that no page of ours asks for.

use std::error::Error;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

const AS_THEY_ARE: [&str; 6] = [
    "index.html",
    "index.css",
    "oauth2-redirect.html",
    "oauth2-redirect.js",
    "favicon-16x16.png",
    "favicon-32x32.png",
];
const COMPRESSED: [&str; 3] =
    ["swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = Path::new(&std::env::var("OUT_DIR")?).join("swagger-ui");
    fs::create_dir_all(&folder)?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    // All of it is in one folder, which the release's number is in the name of.
    let top = archive.by_index(0)?.name()?.into_owned();
    let mut file = |name: &str| -> Result<Vec<u8>, Box<dyn Error>> {
        let mut bytes = Vec::new();
        archive.by_name(&format!("{top}dist/{name}"))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    for name in AS_THEY_ARE {
        fs::write(folder.join(name), file(name)?)?;
    }
    for name in COMPRESSED {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&file(name)?)?;
        fs::write(folder.join(format!("{name}.gz")), gzip.finish()?)?;
    }
    Ok(())
}
