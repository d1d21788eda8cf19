//! The demo's own API, on a port of this machine: it serves the collections in four ways, as APIs do.
//!
//! Users and posts come as a whole, with an `ETag`; comments in pages that link to the next one; photos by offset and
//! limit.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::collections::{Collection, Collections, Kind};

/// Comments of a page.
const COMMENTS_PER_PAGE: usize = 100;
/// Most photos of an answer.
const PHOTOS_MAX: usize = 1_000;

/// The running API; it ends when it is dropped.
pub struct PlaceholderApi {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

/// Which part of a collection is asked for.
#[derive(Debug, Deserialize)]
struct Part {
    page: Option<usize>,
    offset: Option<usize>,
    limit: Option<usize>,
}

impl PlaceholderApi {
    pub async fn start(collections: Arc<Collections>) -> anyhow::Result<PlaceholderApi> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.context("no port for the demo's API")?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/{name}", get(answer)).with_state(collections);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the demo's API ended: {error}");
            }
        });
        Ok(PlaceholderApi { address, _serving: serving })
    }

    /// Where a collection is.
    pub fn url(&self, kind: Kind) -> String {
        format!("http://{}/{}", self.address, kind.name())
    }
}

async fn answer(
    State(collections): State<Arc<Collections>>,
    Path(name): Path<String>,
    Query(part): Query<Part>,
    headers: HeaderMap,
) -> Response {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let collection = collections.get(kind);
    match kind {
        Kind::Users | Kind::Posts => whole(collection, &headers),
        Kind::Comments => page(&collection, part.page.unwrap_or(1).max(1)),
        Kind::Photos => {
            let limit = part.limit.unwrap_or(PHOTOS_MAX).min(PHOTOS_MAX);
            Json(slice(&collection, part.offset.unwrap_or(0), limit)).into_response()
        }
    }
}

fn whole(collection: Collection, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", collection.version);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == tag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, tag)], Json(collection.items)).into_response()
}

fn page(collection: &Collection, number: usize) -> Response {
    let items =
        slice(collection, (number - 1).saturating_mul(COMMENTS_PER_PAGE), COMMENTS_PER_PAGE);
    let body = Json(json!({ "comments": items }));
    if number * COMMENTS_PER_PAGE >= collection.items.len() {
        return body.into_response();
    }
    ([(header::LINK, format!("<?page={}>; rel=\"next\"", number + 1))], body).into_response()
}

fn slice(collection: &Collection, offset: usize, limit: usize) -> Vec<Value> {
    collection.items.iter().skip(offset).take(limit).cloned().collect()
}
