//! `/v1/sessions`: sign in, who am I, sign out.

use axum::Json;
use axum::extract::State;
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::http::{StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse};
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use tidegate_codec::StreamName;

use crate::api::caller::ApiJson;
use crate::api::error::ApiError;
use crate::auth::origin::Origin;
use crate::auth::{
    AT_HOME_FOR, Auth, AuthError, BROWSER_COOKIE, Caller, Role, SESSION_COOKIE, ScopeSet, User,
    Whence, credentials,
};

/// Largest body of a request to sign in, in bytes: anybody may send one. A password has at most 1,000.
const SIGN_IN_BYTES_MAX: usize = 8 << 10;

/// Name and password, as typed. No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    user: String,
    password: String,
}

/// The user as they see themselves: `{"id":1,"name":"ada","email":null,"role":"member"}`; `id` is null for the local
/// token.
#[derive(Debug, Serialize)]
struct Myself {
    id: Option<i64>,
    name: String,
    email: Option<String>,
    role: Role,
}

impl From<&User> for Myself {
    fn from(user: &User) -> Myself {
        let (name, email) = (user.name.to_string(), user.email.clone());
        Myself { id: Some(user.id), name, email, role: user.role }
    }
}

/// `{"user":{…},"scopes":[…],"streams":null|[…]}`
#[derive(Debug, Serialize)]
pub struct WhoAmI {
    user: Myself,
    scopes: ScopeSet,
    streams: Option<Vec<StreamName>>,
}

/// `POST /v1/sessions` `{"user","password"}` → 201 `{"user":{…}}` and the cookie. Another cookie, which opens nothing, lets the
/// browser sign in again while others guess passwords from the same address.
///
/// Refused from another site's pages, which could otherwise sign a browser in as somebody else.
pub async fn create(
    State(auth): State<Auth>,
    whence: Whence,
    uri: Uri,
    headers: HeaderMap,
    ApiJson(body): ApiJson<SignIn, SIGN_IN_BYTES_MAX>,
) -> Result<impl IntoResponse, ApiError> {
    if auth.origin_of(&headers, &uri) == Origin::Foreign {
        return Err(AuthError::foreign_origin(&headers).into());
    }
    let (user, secret, known) = auth.sign_in(&body.user, &body.password, whence).await?;
    tracing::info!(user = %user.name, "signed in");
    let lifetime = auth.session_lifetime().try_into().unwrap_or(time::Duration::MAX);
    let secure = auth.came_by_https(&headers, &uri);
    let cookie = session_cookie(secret.as_str(), lifetime, secure);
    let known_for = AT_HOME_FOR.try_into().unwrap_or(time::Duration::MAX);
    let known = secret_cookie(BROWSER_COOKIE, known.as_str(), "/v1", known_for, secure);
    let body = Json(serde_json::json!({ "user": Myself::from(&*user) }));
    let cookies = AppendHeaders([(SET_COOKIE, cookie), (SET_COOKIE, known)]);
    Ok((StatusCode::CREATED, cookies, body))
}

/// `GET /v1/sessions` → 200: who the caller is and what this credential may do. A token that does not speak for its user is
/// told no address: whoever has it sees no more of them than it needs.
pub async fn show(State(auth): State<Auth>, caller: Caller) -> Json<WhoAmI> {
    let snapshot = auth.accounts();
    let user = match caller.user_id.and_then(|id| snapshot.user(id)) {
        Some(user) => {
            let email = user.email.clone().filter(|_| caller.speaks_for_its_user());
            Myself { email, ..Myself::from(&**user) }
        }
        None => Myself {
            id: caller.user_id,
            name: caller.user_name.to_string(),
            email: None,
            role: caller.role,
        },
    };
    let streams = caller.streams.map(|streams| streams.to_vec());
    Json(WhoAmI { user, scopes: caller.scopes, streams })
}

/// `DELETE /v1/sessions` → 204, and the cookie is taken away. A session that is over already is no error.
pub async fn delete(
    State(auth): State<Auth>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    if let Some(hash) = credentials::session_cookie(&headers, SESSION_COOKIE) {
        if !matches!(auth.origin_of(&headers, &uri), Origin::Same { .. }) {
            return Err(AuthError::foreign_origin(&headers).into());
        }
        auth.sign_out(&hash).await?;
    }
    let gone = session_cookie("", time::Duration::ZERO, auth.came_by_https(&headers, &uri));
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(SET_COOKIE, gone)])))
}

fn session_cookie(value: &str, lifetime: time::Duration, secure: bool) -> String {
    secret_cookie(SESSION_COOKIE, value, "/", lifetime, secure)
}

fn secret_cookie(
    name: &str,
    value: &str,
    path: &str,
    lifetime: time::Duration,
    secure: bool,
) -> String {
    let mut cookie = Cookie::new(name, value);
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_path(path);
    cookie.set_max_age(lifetime);
    if secure {
        cookie.set_secure(true);
    }
    cookie.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        let week = time::Duration::days(7);
        let plain = "tidegate_session=abc; HttpOnly; SameSite=Lax; Path=/; Max-Age=604800";
        assert_eq!(session_cookie("abc", week, false), plain);
        assert!(session_cookie("abc", week, true).contains("; Secure"));
        assert!(session_cookie("", time::Duration::ZERO, false).contains("Max-Age=0"));
    }
}
