//! The dashboard, embedded in the binary. All links are relative, so that it works below any path
//! (Home Assistant's ingress, a proxy), and nothing is loaded from elsewhere.

use axum::http::header;
use axum::response::IntoResponse;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";

pub(super) struct File {
    pub(super) path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

pub(super) const FILES: &[File] = &[
    File { path: "/", content_type: HTML, text: include_str!("page/index.html") },
    File { path: "/app.js", content_type: SCRIPT, text: include_str!("page/app.js") },
    File { path: "/chart.js", content_type: SCRIPT, text: include_str!("page/chart.js") },
    File { path: "/views.js", content_type: SCRIPT, text: include_str!("page/views.js") },
    File { path: "/style.css", content_type: STYLE, text: include_str!("page/style.css") },
];

pub(super) fn response(file: &'static File) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        // A new version of the program brings a new page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, file.text)
}
