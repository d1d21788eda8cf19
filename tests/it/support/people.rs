//! Who else there is: users, their tokens, and requests that come without the local token.

use reqwest::header::SET_COOKIE;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Client, Gateway, Reply};

/// The password of every user of a test.
pub const PASSWORD: &str = "correct horse battery";
/// The name of the cookie that carries a browser session.
pub const COOKIE: &str = "tidegate_session";

/// Adds a user with [`PASSWORD`]: the id.
pub async fn add_user(admin: &Client, name: &str, role: &str) -> i64 {
    let body = json!({"name": name, "password": PASSWORD, "role": role});
    let user = admin.post("/v1/users", &body).await.expect(201);
    user["id"].as_i64().expect("a number")
}

/// A token that was made.
#[derive(Debug, Clone)]
pub struct Token {
    pub id: i64,
    pub text: String,
}

impl Token {
    /// Makes a token of a user; `rest` is what else the request says.
    pub async fn of(admin: &Client, user: &str, scopes: &[&str], rest: Value) -> Token {
        let mut body = json!({"name": "test", "user": user, "scopes": scopes});
        let members = body.as_object_mut().expect("an object");
        members.extend(rest.as_object().expect("an object").clone());
        Token::from(&admin.post("/v1/tokens", &body).await.expect(201))
    }
}

impl From<&Value> for Token {
    fn from(reply: &Value) -> Token {
        let text = reply["token"].as_str().expect("a token").to_owned();
        Token { id: reply["id"].as_i64().expect("a number"), text }
    }
}

/// A caller who sends no credential unless told so.
#[derive(Debug, Clone)]
pub struct Outsider {
    http: reqwest::Client,
    base: String,
}

impl Outsider {
    pub fn of(gateway: &Gateway) -> Outsider {
        Outsider::at(gateway.address())
    }

    pub fn at(address: &str) -> Outsider {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Outsider { http, base: format!("http://{address}") }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// `GET` with one header.
    pub async fn get_with(&self, path: &str, name: &str, value: &str) -> Reply {
        Reply::to(self.request(Method::GET, path).header(name, value)).await
    }

    /// `GET /v1/sessions` with a name and a password.
    pub async fn who_by_password(&self, name: &str, password: &str) -> Reply {
        Reply::to(self.request(Method::GET, "/v1/sessions").basic_auth(name, Some(password))).await
    }

    /// `GET /v1/sessions` with a token.
    pub async fn who_by_token(&self, token: &str) -> Reply {
        Reply::to(self.request(Method::GET, "/v1/sessions").bearer_auth(token)).await
    }

    /// `GET /v1/sessions` with a browser's cookie.
    pub async fn who_by_cookie(&self, cookie: &str) -> Reply {
        self.get_with("/v1/sessions", "cookie", cookie).await
    }

    /// Tries to sign in.
    pub async fn sign_in(&self, name: &str, password: &str) -> Reply {
        let body = json!({"user": name, "password": password});
        Reply::to(self.request(Method::POST, "/v1/sessions").json(&body)).await
    }

    /// Signs in with [`PASSWORD`]: what a browser would send as its cookie.
    pub async fn cookie_of(&self, name: &str) -> String {
        let reply = self.sign_in(name, PASSWORD).await;
        let header = set_cookie(&reply);
        reply.expect(201);
        header.split(';').next().expect("the cookie itself").to_owned()
    }
}

/// The reply's `Set-Cookie`.
#[track_caller]
pub fn set_cookie(reply: &Reply) -> String {
    let header =
        reply.headers.get(SET_COOKIE).unwrap_or_else(|| panic!("a cookie with {}", reply.body));
    header.to_str().expect("text").to_owned()
}
