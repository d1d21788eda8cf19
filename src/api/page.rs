//! The dashboard: a web application that was built into this program, or a page that says that it was not.
//!
//! Its paths (`/`, `/streams/flights`, …) are the application's own affair: whatever a browser asks for as a page is
//! answered with the application.

use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{Embed, EmbeddedFile};

use crate::api::ApiError;
use crate::api::caller::PathText;

/// What `npm run build` made; nothing but a placeholder where it was not run.
#[derive(Embed)]
#[folder = "dashboards/web/dist"]
#[exclude = ".gitkeep"]
struct Build;

/// Only what the application itself brings may run, and it talks to nobody else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// A file's name changes with its content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const UNBUILT: &str = include_str!("../../dashboards/unbuilt.html");

/// `GET /`, and every other page of the application.
pub async fn index() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    match Build::get("index.html") {
        Some(file) => (headers, file.data).into_response(),
        None => (headers, UNBUILT).into_response(),
    }
}

/// `GET /assets/{file}`: scripts, styles and images.
pub async fn asset(PathText(name): PathText) -> Result<Response, ApiError> {
    let Some(EmbeddedFile { data, metadata, .. }) = Build::get(&format!("assets/{name}")) else {
        let hint = "the page is of another version; load it again";
        return Err(ApiError::not_found("no_such_file", hint.to_owned()));
    };
    let headers = [
        (header::CONTENT_TYPE, metadata.mimetype().to_owned()),
        (header::CACHE_CONTROL, FOR_EVER.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, data).into_response())
}

/// Whether a browser asks for a page, and not a program for data.
pub fn is_page(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    method == Method::GET
        && !["/v1/", "/assets/"].iter().any(|prefix| path.starts_with(prefix))
        && accept.is_some_and(|accept| accept.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_pages_and_programs_get_errors() {
        let browser = HeaderMap::from_iter([(
            header::ACCEPT,
            "text/html,application/xhtml+xml,*/*;q=0.8".parse().unwrap(),
        )]);
        assert!(is_page(&Method::GET, "/streams/flights", &browser));
        assert!(!is_page(&Method::GET, "/v1/nothing", &browser));
        assert!(!is_page(&Method::GET, "/assets/old.js", &browser));
        assert!(!is_page(&Method::POST, "/streams", &browser));
        assert!(!is_page(&Method::GET, "/streams", &HeaderMap::new()));
    }
}
