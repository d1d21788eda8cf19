//! `GET /`: the plain live page. It needs no build and asks no other host for anything.

use axum::http::header;
use axum::response::IntoResponse;

/// Only what this page itself brings may run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

pub async fn index() -> impl IntoResponse {
    file("text/html; charset=utf-8", include_str!("../../dashboards/plain/index.html"))
}

pub async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", include_str!("../../dashboards/plain/live.js"))
}

pub async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", include_str!("../../dashboards/plain/live.css"))
}
