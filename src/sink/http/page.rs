//! The dashboard, embedded in the binary. All links are relative, so that it works below any path
//! (Home Assistant's ingress, a proxy), and nothing is loaded from elsewhere.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::IntoResponse;

use crate::lz4;

/// For every response: those of the API may be opened in a browser, too.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) struct File {
    pub(super) path: &'static str,
    content_type: &'static str,
    packed: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Adds the content of a file, as `build.rs` has prepared it.
macro_rules! files {
    ($($path:literal $name:literal $content_type:ident;)*) => {
        &[$(File {
            path: $path,
            content_type: $content_type,
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".lz4")),
        },)*]
    };
}

pub(super) const FILES: &[File] = files! {
    "/" "index.html" HTML;
    "/app.js" "app.js" SCRIPT;
    "/setup.js" "setup.js" SCRIPT;
    "/switches.js" "switches.js" SCRIPT;
    "/texts.js" "texts.js" SCRIPT;
    "/texts-cs.js" "texts-cs.js" SCRIPT;
    "/texts-de.js" "texts-de.js" SCRIPT;
    "/texts-en.js" "texts-en.js" SCRIPT;
    "/texts-fr.js" "texts-fr.js" SCRIPT;
    "/parts.js" "parts.js" SCRIPT;
    "/records.js" "records.js" SCRIPT;
    "/chart.js" "chart.js" SCRIPT;
    "/history.js" "history.js" SCRIPT;
    "/health.js" "health.js" SCRIPT;
    "/views.js" "views.js" SCRIPT;
    "/style.css" "style.css" STYLE;
};

pub(super) fn response(file: &'static File) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        // A new version of the program brings a new page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, lz4::unpack(file.packed, usize::MAX))
}

/// Whether it is the path of a file, which is the same in every installation.
pub(super) fn is_file(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// Keeps other sites from using responses, or the page in a frame; `hosts` may show it in one.
pub(super) fn add_security_headers(headers: &mut HeaderMap, hosts: &[String]) {
    let frames: String =
        hosts.iter().map(|host| format!(" http://{host}:* https://{host}:*")).collect();
    let policy = HeaderValue::from_str(&format!("{CONTENT_SECURITY_POLICY}{frames}"));
    let policy = policy.unwrap_or(HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
