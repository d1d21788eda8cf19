//! The dashboard: a web application that was built into this program, or a page that says that it was not.
//!
//! Its paths (`/`, `/streams/flights`, …) are the application's own affair: every path that a browser asks for as a
//! page is answered with the application.

use std::collections::HashMap;
use std::io::Write;

use axum::Extension;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{Embed, EmbeddedFile};
use tokio::sync::OnceCell;

use crate::api::ApiError;
use crate::api::bodies::Uncounted;
use crate::api::caller::PathText;

/// What `npm run build` made; nothing but a placeholder where it was not run.
#[derive(Embed)]
#[folder = "dashboards/web/dist"]
#[exclude = ".gitkeep"]
struct Build;

/// Only what the application itself brings may run, and it talks to the gateway alone.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// A file's name changes with its content.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The files are a part of this program, or were compressed once for all: a reply that is not read holds no more of them.
const OF_THE_PROGRAM: Extension<Uncounted> = Extension(Uncounted);
const UNBUILT: &str = include_str!("../../../dashboards/unbuilt.html");

/// `GET /`, and every other page of the application.
pub async fn index() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    match Build::get("index.html") {
        Some(file) => (OF_THE_PROGRAM, headers, file.data).into_response(),
        None => (OF_THE_PROGRAM, headers, UNBUILT).into_response(),
    }
}

/// `GET /assets/{file}`: scripts, styles and images.
pub async fn asset(PathText(name): PathText, headers: HeaderMap) -> Result<Response, ApiError> {
    let path = format!("assets/{name}");
    let Some(EmbeddedFile { data, metadata, .. }) = Build::get(&path) else {
        let hint = "the page is of another version; load it again";
        return Err(ApiError::not_found("no_such_file", hint.to_owned()));
    };
    let about = [
        (header::CONTENT_TYPE, metadata.mimetype()),
        (header::CACHE_CONTROL, FOR_EVER),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "accept-encoding"),
    ];
    match compressed().await.get(&path).filter(|_| takes_gzip(&headers)) {
        Some(data) => {
            let gzip = [(header::CONTENT_ENCODING, "gzip")];
            Ok((OF_THE_PROGRAM, about, gzip, data.clone()).into_response())
        }
        None => Ok((OF_THE_PROGRAM, about, data).into_response()),
    }
}

/// The files that compression makes smaller, compressed: once, because every client may ask for them.
async fn compressed() -> &'static HashMap<String, Bytes> {
    static COMPRESSED: OnceCell<HashMap<String, Bytes>> = OnceCell::const_new();
    let compress = || {
        let files = Build::iter().filter_map(|path| {
            let data = Build::get(&path)?.data;
            let gzip = gzip(&data).ok().filter(|gzip| gzip.len() < data.len())?;
            Some((path.into_owned(), Bytes::from(gzip)))
        });
        files.collect()
    };
    let compress = async || tokio::task::spawn_blocking(compress).await.unwrap_or_default();
    COMPRESSED.get_or_init(compress).await
}

fn gzip(data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data)?;
    encoder.finish()
}

/// Does the client take gzip? One that names it with any other weight than none does.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
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

    #[tokio::test]
    async fn every_file_costs_nothing_to_hold() {
        let is_uncounted = |response: Response| response.extensions().get::<Uncounted>().is_some();
        assert!(is_uncounted(index().await));
        for path in Build::iter() {
            let Some(name) = path.strip_prefix("assets/") else { continue };
            for coding in ["gzip", "identity"] {
                let headers =
                    HeaderMap::from_iter([(header::ACCEPT_ENCODING, coding.parse().unwrap())]);
                let file = asset(PathText(name.to_owned()), headers).await.unwrap();
                assert!(is_uncounted(file), "{path}");
            }
        }
    }

    #[test]
    fn gzip_is_for_those_who_name_it() {
        let takes = |value: &str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]))
        };
        for value in ["gzip", "br, GZIP ;q=0.5", "deflate,gzip;q=1.0"] {
            assert!(takes(value), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "gzip; q=0.000", "x-gzip", "gzip;level=9"] {
            assert!(!takes(value), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
