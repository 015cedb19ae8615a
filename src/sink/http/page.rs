//! The dashboard: a page, its looks and its script, all of them in the binary. Every link is
//! relative, so it works below any path (Home Assistant's ingress, a proxy), and nothing comes from
//! anywhere else.

use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

/// Everything comes from here, and nothing is written into the page as a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'";

pub(super) async fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/app.js"))
}

pub(super) async fn chart() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/chart.js"))
}

pub(super) async fn views() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/views.js"))
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/style.css"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let head: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // An update of the program is an update of the page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (head, text).into_response()
}
