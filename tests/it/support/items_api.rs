//! An API that polling jobs ask: it serves what a test says, counts the questions, and makes them wait on command.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Lets polling jobs ask an [`ItemsApi`].
pub const ALLOW_LOOPBACK: [&str; 2] =
    ["--allow-networks=127.0.0.0/8", "--polling-host-spacing-ms=0"];

/// A running API; it ends with the test.
#[derive(Debug)]
pub struct ItemsApi {
    address: SocketAddr,
    paths: Paths,
    _server: JoinSet<()>,
}

type Paths = Arc<Mutex<HashMap<String, Path>>>;

#[derive(Debug, Default)]
struct Path {
    /// Page by page; one page without a parameter.
    pages: Vec<Value>,
    status: Option<(u16, String)>,
    etag: Option<String>,
    asked: u64,
    /// The headers of the latest question.
    headers: HeaderMap,
    /// While it is true answers wait.
    held: watch::Sender<bool>,
}

impl ItemsApi {
    pub async fn start() -> ItemsApi {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let paths = Paths::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&paths));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        ItemsApi { address, paths, _server: server }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on the path answers this.
    pub fn serve(&self, path: &str, body: Value) {
        self.serve_pages(path, vec![body]);
    }

    /// From now on the path answers these, by `?page=1` and so on, and then empty arrays.
    pub fn serve_pages(&self, path: &str, pages: Vec<Value>) {
        self.at(path, |path| {
            path.pages = pages;
            path.status = None;
        });
    }

    /// From now on the path answers with this status, and this text.
    pub fn fail(&self, path: &str, status: u16, text: &str) {
        self.at(path, |path| path.status = Some((status, text.to_owned())));
    }

    /// The path's answers have this tag, and who has it already is told 304.
    pub fn tag(&self, path: &str, etag: &str) {
        self.at(path, |path| path.etag = Some(etag.to_owned()));
    }

    /// Makes answers of a path wait, or lets them go.
    pub fn hold(&self, path: &str, held: bool) {
        self.at(path, |path| path.held.send_replace(held));
    }

    /// How often the path was asked.
    pub fn asked(&self, path: &str) -> u64 {
        self.at(path, |path| path.asked)
    }

    /// A header of the latest question.
    pub fn header(&self, path: &str, name: &str) -> Option<String> {
        let value = self.at(path, |path| path.headers.get(name).cloned())?;
        Some(value.to_str().expect("text").to_owned())
    }

    fn at<T>(&self, path: &str, change: impl FnOnce(&mut Path) -> T) -> T {
        change(self.paths.lock().expect("nobody panics").entry(path.to_owned()).or_default())
    }
}

async fn answer(State(paths): State<Paths>, request: Request) -> Response {
    let name = request.uri().path().to_owned();
    let mut held = {
        let mut paths = paths.lock().expect("nobody panics");
        let path = paths.entry(name.clone()).or_default();
        path.asked += 1;
        path.headers = request.headers().clone();
        path.held.subscribe()
    };
    held.wait_for(|held| !held).await.expect("the API lives as long as its server");
    let paths = paths.lock().expect("nobody panics");
    let path = &paths[&name];
    if let Some((status, text)) = &path.status {
        return (StatusCode::from_u16(*status).expect("a status"), text.clone()).into_response();
    }
    let known = request.headers().get(header::IF_NONE_MATCH);
    if let Some(etag) = &path.etag
        && known.is_some_and(|known| known == etag.as_str())
    {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let query = request.uri().query().unwrap_or_default();
    let page = query.split('&').find_map(|pair| pair.strip_prefix("page=")?.parse::<usize>().ok());
    let body = path.pages.get(page.unwrap_or(1) - 1).map_or("[]".to_owned(), Value::to_string);
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(etag) = &path.etag {
        response.headers_mut().insert(header::ETAG, etag.parse().expect("a tag"));
    }
    response
}
