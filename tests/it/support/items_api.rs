//! An API of items that polling jobs ask: pages of them, with a tag if they have one, or a failure.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::api::{Answer, Api, Asked};

/// An [`Api`] whose paths have items; it ends with the test.
#[derive(Debug)]
pub struct ItemsApi {
    api: Api,
    paths: Mutex<HashMap<String, Arc<Mutex<Content>>>>,
}

/// What a path has.
#[derive(Debug, Default)]
struct Content {
    /// Page by page; one page without a parameter.
    pages: Vec<Value>,
    failure: Option<Answer>,
    etag: Option<String>,
}

impl Deref for ItemsApi {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl ItemsApi {
    pub async fn start() -> ItemsApi {
        ItemsApi { api: Api::start().await, paths: Mutex::default() }
    }

    /// From now on the path answers this.
    pub fn serve(&self, path: &str, body: Value) {
        self.serve_pages(path, vec![body]);
    }

    /// From now on the path answers these, by `?page=1` and so on, and then empty arrays.
    pub fn serve_pages(&self, path: &str, pages: Vec<Value>) {
        self.change(path, |content| {
            content.pages = pages;
            content.failure = None;
        });
    }

    /// From now on the path answers with this status, and this text.
    pub fn fail(&self, path: &str, status: u16, text: &str) {
        self.fail_with(path, Answer::text(status, text));
    }

    /// From now on, until something is served, the path answers this.
    pub fn fail_with(&self, path: &str, failure: Answer) {
        self.change(path, |content| content.failure = Some(failure));
    }

    /// The path's answers have this tag, and who has it already is told 304.
    pub fn tag(&self, path: &str, etag: &str) {
        self.change(path, |content| content.etag = Some(etag.to_owned()));
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Content)) {
        let mut paths = self.paths.lock().unwrap();
        let content = Arc::clone(paths.entry(path.to_owned()).or_default());
        change(&mut content.lock().unwrap());
        self.api.on(path, move |asked| content.lock().unwrap().answer(asked));
    }
}

impl Content {
    fn answer(&self, asked: &Asked) -> Answer {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        let known = asked.header("if-none-match");
        if self.etag.is_some() && self.etag.as_deref() == known {
            return Answer::text(304, "");
        }
        let page: usize = asked.query("page").map_or(1, |page| page.parse().expect("a number"));
        let answer = Answer::json(self.pages.get(page - 1).unwrap_or(&json!([])));
        match &self.etag {
            Some(etag) => answer.header("etag", etag),
            None => answer,
        }
    }
}
