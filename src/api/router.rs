//! Every route of the gateway, in one table.

use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use futures::future::BoxFuture;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::bodies::{ReplyBudget, refused_body, reply_budget};
use crate::api::inputs::{changes, many_records, records};
use crate::api::manage::{
    polling_jobs, polling_preview, quarantine, sessions, short_polling_jobs, streams, tickets,
    tokens, users,
};
use crate::api::read::{
    configuration, health, metrics, monitor, one_record, page, records as stored, status, trends,
};
use crate::api::response::{add_default_headers, panicked};
use crate::api::{ApiError, AppState};
use crate::auth::Caller;
use crate::auth::Scope::{self, Admin, Jobs, StreamsWrite};
use crate::telemetry::metrics::{INGEST_ROUTE, record_ingest_request, record_request};

const ONE_RECORD: &str = "/v1/streams/{stream}/records/{id}";
const BY_KEY: &str = "/v1/streams/{stream}/by-key/{key}";

/// One method of one path, and what answers it.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    answers: MethodRouter<AppState>,
}

impl Route {
    fn new(method: Method, path: &'static str, answers: MethodRouter<AppState>) -> Route {
        Route { method, path, answers }
    }

    /// The body is streamed, with its own limits; the rest of one that is refused is taken off the wire.
    fn streamed(self) -> Route {
        let own_limits = self.answers.layer(DefaultBodyLimit::disable());
        Route { answers: own_limits.layer(middleware::from_fn(refused_body::middleware)), ..self }
    }
}

/// Every route, one a line; handlers check scopes themselves where nothing is said of them here. A test holds a table of who
/// is answered what against it.
pub fn routes() -> Vec<Route> {
    vec![
        get("/", page::index),
        get("/assets/{file}", page::asset),
        get("/healthz", health::healthz),
        get("/readyz", health::readyz),
        get("/metrics", metrics::show),
        get("/v1/status", status::show),
        get("/v1/configuration", configuration::show),
        get("/v1/sessions", sessions::show),
        post("/v1/sessions", sessions::create),
        delete("/v1/sessions", sessions::delete),
        get("/v1/users", users::list),
        post("/v1/users", needs(Admin, users::create)),
        patch("/v1/users/{id}", users::change),
        get("/v1/tokens", tokens::list),
        post("/v1/tokens", tokens::create),
        delete("/v1/tokens/{id}", tokens::revoke),
        get("/v1/streams", streams::list),
        post("/v1/streams", needs(StreamsWrite, streams::create)),
        post("/v1/streams/infer", streams::infer),
        get("/v1/streams/{stream}", streams::show),
        patch("/v1/streams/{stream}", needs(StreamsWrite, streams::change)),
        delete("/v1/streams/{stream}", streams::delete),
        get("/v1/streams/{stream}/records", stored::list),
        get(ONE_RECORD, one_record::by_id),
        put(ONE_RECORD, changes::by_id).streamed(),
        patch(ONE_RECORD, changes::by_id).streamed(),
        delete(ONE_RECORD, changes::by_id),
        get(BY_KEY, one_record::by_key),
        put(BY_KEY, changes::by_key).streamed(),
        patch(BY_KEY, changes::by_key).streamed(),
        delete(BY_KEY, changes::by_key),
        get("/v1/streams/{stream}/trends", trends::trend),
        get("/v1/streams/{stream}/facets", trends::facets),
        post(INGEST_ROUTE, records::create).streamed(),
        post("/v1/records", many_records::create).streamed(),
        get("/v1/quarantine", quarantine::list),
        delete("/v1/quarantine", quarantine::delete_all),
        get("/v1/quarantine/summary", quarantine::summary),
        get("/v1/quarantine/{id}", quarantine::show),
        delete("/v1/quarantine/{id}", quarantine::delete),
        post("/v1/quarantine/{id}/replay", quarantine::replay::replay).streamed(),
        get("/v1/polling-jobs", polling_jobs::list),
        post("/v1/polling-jobs", needs(Jobs, polling_jobs::create)),
        post("/v1/polling-jobs/preview", needs(Jobs, polling_preview::preview)),
        get("/v1/polling-jobs/{id}", polling_jobs::show),
        patch("/v1/polling-jobs/{id}", needs(Jobs, polling_jobs::change)),
        delete("/v1/polling-jobs/{id}", polling_jobs::delete),
        post("/v1/polling-jobs/{id}/run", polling_jobs::run),
        get("/v1/polling-jobs/{id}/runs", polling_jobs::runs),
        get("/polling-jobs", short_polling_jobs::list),
        post("/polling-jobs", needs(Jobs, short_polling_jobs::create)),
        get("/polling-jobs/{id}", short_polling_jobs::show),
        patch("/polling-jobs/{id}", needs(Jobs, short_polling_jobs::change)),
        delete("/polling-jobs/{id}", polling_jobs::delete),
        get("/v1/monitor", monitor::websocket),
        post("/v1/monitor", monitor::check),
        get("/v1/monitor/events", monitor::events),
        post("/v1/monitor/tickets", tickets::create),
    ]
}

/// The whole API.
pub fn router(state: AppState) -> Router {
    let replies = ReplyBudget::new(state.memory_budget.clone());
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path, route.answers))
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(replies, reply_budget::middleware))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(measure))
        .layer(middleware::map_response(with_default_headers))
        .with_state(state)
}

/// A handler whose body is read only if the caller may do `scope`: the handler itself cannot ask before it has the body.
fn needs<T: 'static>(
    scope: Scope,
    handler: impl Handler<T, AppState>,
) -> impl Fn(State<AppState>, Request) -> BoxFuture<'static, Result<Response, ApiError>>
+ Clone
+ Send
+ Sync
+ 'static {
    move |State(state), request| {
        let handler = handler.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let caller = Caller::from_request_parts(&mut parts, &state).await?;
            caller.require(scope)?;
            Ok(handler.call(Request::from_parts(parts, body), state).await)
        })
    }
}

fn get<T: 'static>(path: &'static str, handler: impl Handler<T, AppState>) -> Route {
    Route::new(Method::GET, path, routing::get(handler))
}

fn post<T: 'static>(path: &'static str, handler: impl Handler<T, AppState>) -> Route {
    Route::new(Method::POST, path, routing::post(handler))
}

fn put<T: 'static>(path: &'static str, handler: impl Handler<T, AppState>) -> Route {
    Route::new(Method::PUT, path, routing::put(handler))
}

fn patch<T: 'static>(path: &'static str, handler: impl Handler<T, AppState>) -> Route {
    Route::new(Method::PATCH, path, routing::patch(handler))
}

fn delete<T: 'static>(path: &'static str, handler: impl Handler<T, AppState>) -> Route {
    Route::new(Method::DELETE, path, routing::delete(handler))
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
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), started.elapsed());
    match route.as_ref().map_or("other", MatchedPath::as_str) {
        INGEST_ROUTE if method == "POST" => record_ingest_request(status, took),
        route => record_request(method, route.to_owned(), status, took),
    }
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
