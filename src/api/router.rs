//! Every route of the gateway, in one table.

use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::api::entrance::{add_default_headers, panicked};
use crate::api::{
    ApiError, AppState, configuration, health, metrics, monitor, page, polling_jobs,
    polling_preview, quarantine, reading, records, refused_body, replies, sessions,
    short_polling_jobs, status, streams, tickets, tokens, users,
};
use crate::telemetry::metrics::record_request;

/// The whole API.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{file}", get(page::asset).layer(CompressionLayer::new()))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::show))
        .route("/v1/status", get(status::show))
        .route("/v1/configuration", get(configuration::show))
        .route("/v1/sessions", get(sessions::show).post(sessions::create).delete(sessions::delete))
        .route("/v1/users", get(users::list).post(users::create))
        .route("/v1/users/{id}", patch(users::change))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/streams", get(streams::list).post(streams::create))
        .route("/v1/streams/infer", post(streams::infer))
        .route(
            "/v1/streams/{stream}",
            get(streams::show).patch(streams::change).delete(streams::delete),
        )
        // The body is streamed, with its own limits.
        .route(
            "/v1/streams/{stream}/records",
            post(records::create)
                .layer(DefaultBodyLimit::disable())
                .layer(middleware::from_fn(refused_body::middleware))
                .get(reading::newest),
        )
        .route("/v1/quarantine", get(quarantine::list).delete(quarantine::delete_all))
        .route("/v1/quarantine/summary", get(quarantine::summary))
        .route("/v1/quarantine/{id}", get(quarantine::show).delete(quarantine::delete))
        .route(
            "/v1/quarantine/{id}/replay",
            post(quarantine::replay)
                .layer(DefaultBodyLimit::disable())
                .layer(middleware::from_fn(refused_body::middleware)),
        )
        .route("/v1/polling-jobs", get(polling_jobs::list).post(polling_jobs::create))
        .route("/v1/polling-jobs/preview", post(polling_preview::preview))
        .route(
            "/v1/polling-jobs/{id}",
            get(polling_jobs::show).patch(polling_jobs::change).delete(polling_jobs::delete),
        )
        .route("/v1/polling-jobs/{id}/run", post(polling_jobs::run))
        .route("/v1/polling-jobs/{id}/runs", get(polling_jobs::runs))
        .route("/polling-jobs", get(short_polling_jobs::list).post(short_polling_jobs::create))
        .route(
            "/polling-jobs/{id}",
            get(short_polling_jobs::show)
                .patch(short_polling_jobs::change)
                .delete(polling_jobs::delete),
        )
        .route("/v1/monitor", get(monitor::websocket).post(monitor::check))
        .route("/v1/monitor/events", get(monitor::events))
        .route("/v1/monitor/tickets", post(tickets::create))
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), replies::middleware))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(measure))
        .layer(middleware::map_response(with_default_headers))
        .with_state(state)
}

async fn with_default_headers(mut response: Response) -> Response {
    add_default_headers(response.headers_mut());
    response
}

async fn no_such_route(request: Request) -> Response {
    let path = request.uri().path();
    if page::is_page(request.method(), path, request.headers()) {
        return page::index().await;
    }
    ApiError::not_found("no_such_route", format!("there is nothing at {path}")).into_response()
}

async fn wrong_method() -> ApiError {
    ApiError::method_not_allowed()
}

/// Times every request, by the router's pattern so that labels stay few.
async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    record_request(method, route, response.status().as_u16(), started.elapsed());
    response
}

/// A client can send any word as its method.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
