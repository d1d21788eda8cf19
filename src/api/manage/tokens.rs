//! `/v1/tokens`: Bearer tokens. A token is granted nothing that its maker lacks, and a token alone makes no tokens, unless its scope is
//! `admin`: one that leaked must not be able to outlive its revocation.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_codec::StreamName;
use tidegate_record::UnixMicros;
use time::OffsetDateTime;

use crate::api::ApiError;
use crate::api::bodies::ApiJson;
use crate::auth::{
    AccountsSnapshot, Auth, Caller, RECORDS_PER_SECOND_MAX, Scope, ScopeSet, Secret, Token, User,
    Via,
};
use crate::db::tokens::{self, NewToken};
use crate::telemetry::limits;

/// Longest name of a token, in bytes.
pub const TOKEN_NAME_BYTES_MAX: usize = 200;
/// Most tokens of one user.
pub const TOKENS_PER_USER_MAX: usize = 1_000;
/// Most tokens in all: each is in the memory of every gateway.
pub const TOKENS_MAX: usize = 100_000;
/// Most streams that a token can be limited to.
pub const TOKEN_STREAMS_MAX: usize = 100;
/// Longest lifetime that can be asked for: 100 years. A token without one has none.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_hours(100 * 366 * 24);

/// A token, without its secret.
#[derive(Debug, Serialize)]
pub struct TokenView {
    id: i64,
    name: String,
    /// Name of its user.
    user: String,
    scopes: ScopeSet,
    /// null: every stream.
    streams: Option<Vec<StreamName>>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// null: as many as it likes.
    records_per_second: Option<u32>,
}

/// `{"tokens":[…]}`
#[derive(Debug, Serialize)]
pub struct TokenList {
    tokens: Vec<TokenView>,
}

/// A token to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    name: String,
    scopes: ScopeSet,
    /// The only streams it may use; absent or null: those that the caller may use.
    streams: Option<BTreeSet<StreamName>>,
    /// Absent or null: it does not expire.
    expires_in_seconds: Option<u64>,
    /// Most records that it may send, over time; absent or null: as many as it likes.
    records_per_second: Option<u32>,
    /// Whose token; absent or null: the caller's. Another's takes an admin.
    user: Option<String>,
}

/// `{"id":7,"token":"tg_…"}`. The one time that the token is shown; no `Debug`.
#[derive(Serialize)]
pub struct CreatedToken {
    id: i64,
    token: String,
}

/// `GET /v1/tokens` → 200 `{"tokens":[…]}`: the caller's own; an admin's list has everybody's, and that of a token without
/// the scope `admin` nothing but itself.
pub async fn list(State(auth): State<Auth>, caller: Caller) -> Json<TokenList> {
    let snapshot = auth.accounts();
    let seen = |token: &&std::sync::Arc<Token>| {
        let is_own = Some(token.user_id) == caller.user_id;
        let is_itself = caller.via == Via::Bearer { token_id: token.id };
        caller.scopes.allows(Scope::Admin)
            || (is_own && (caller.speaks_for_its_user() || is_itself))
    };
    let tokens = snapshot.tokens().into_iter().filter(seen);
    Json(TokenList { tokens: tokens.map(|token| view(&snapshot, token)).collect() })
}

fn view(snapshot: &AccountsSnapshot, token: &Token) -> TokenView {
    let user = snapshot.user(token.user_id);
    TokenView {
        id: token.id,
        name: token.name.clone(),
        user: user.map(|user| user.name.to_string()).unwrap_or_default(),
        scopes: token.scopes,
        streams: token.streams.as_ref().map(|streams| streams.to_vec()),
        created_at: token.created_at,
        expires_at: token.expires_at,
        records_per_second: token.records_per_second,
    }
}

/// Refuses one more token, where there are as many as there may be.
fn check_number(snapshot: &AccountsSnapshot, user_id: i64) -> Result<(), ApiError> {
    let tokens = snapshot.tokens();
    let of_user = tokens.iter().filter(|token| token.user_id == user_id).count();
    let detail = if of_user >= TOKENS_PER_USER_MAX {
        format!("a user has at most {TOKENS_PER_USER_MAX} tokens; revoke some first")
    } else if tokens.len() >= TOKENS_MAX {
        format!("there are at most {TOKENS_MAX} tokens; some have to be revoked first")
    } else {
        return Ok(());
    };
    limits::TOKENS.hit();
    Err(ApiError::conflict("too_many_tokens", detail))
}

/// `POST /v1/tokens` → 201 `{"id","token"}`.
pub async fn create(
    State(auth): State<Auth>,
    caller: Caller,
    ApiJson(body): ApiJson<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), ApiError> {
    let snapshot = auth.accounts();
    let user = owner(&snapshot, &caller, body.user.as_deref())?;
    let user_id = user.id;
    check_number(&snapshot, user_id)?;
    let grant = Grant::new(&caller, user, body, auth.clock().now())?;
    let secret = Secret::token();
    let hash = secret.hash();
    let row = auth
        .change(&caller, |pool, acting| async move {
            let token = NewToken {
                user_id,
                name: &grant.name,
                hash: hash.as_bytes(),
                scopes: &grant.scopes,
                streams: grant.streams.as_deref(),
                expires_at: grant.expires_at,
                records_per_second: grant.records_per_second,
            };
            tokens::insert(&pool, acting.as_ref(), &token).await
        })
        .await?;
    tracing::info!(token_id = row.id, user_id, by = &*caller.user_name, "token made");
    let created = CreatedToken { id: row.id, token: secret.as_str().to_owned() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// `DELETE /v1/tokens/{id}` → 204. It stops working at once on this gateway. Admins revoke any token, users their
/// own, and a token itself.
pub async fn revoke(
    State(auth): State<Auth>,
    caller: Caller,
    id: Result<Path<i64>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id?;
    let unknown = || ApiError::not_found("unknown_token", "there is no such token");
    let snapshot = auth.accounts();
    if !caller.scopes.allows(Scope::Admin) {
        // Others are not told whose token it is, nor that it is there at all.
        if !caller.speaks_for_its_user() && caller.via != (Via::Bearer { token_id: id }) {
            return Err(password_needed());
        }
        let own = snapshot.token(id).filter(|token| Some(token.user_id) == caller.user_id);
        own.ok_or_else(unknown)?;
    }
    let delete = |pool, _acting| async move { tokens::delete(&pool, id).await };
    if !auth.change(&caller, delete).await? {
        return Err(unknown());
    }
    tracing::info!(token_id = id, by = &*caller.user_name, "token revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// Whose token the caller is about to make.
fn owner<'a>(
    snapshot: &'a AccountsSnapshot,
    caller: &Caller,
    name: Option<&str>,
) -> Result<&'a User, ApiError> {
    if !caller.speaks_for_its_user() {
        return Err(password_needed());
    }
    let own = caller.user_id.and_then(|id| snapshot.user(id));
    let Some(name) = name else {
        let detail =
            "the local token belongs to no user; say whose token it shall be with \"user\"";
        return own.map(|user| &**user).ok_or_else(|| invalid("user", detail));
    };
    if own.is_none_or(|own| own.name.as_str() != name) {
        caller.require(Scope::Admin)?;
    }
    let user = snapshot.user_by_name(name);
    user.map(|user| &**user).ok_or_else(|| invalid("user", "there is no such user"))
}

/// What a new token is granted, checked.
struct Grant {
    name: String,
    scopes: Vec<String>,
    streams: Option<Vec<String>>,
    expires_at: Option<OffsetDateTime>,
    records_per_second: Option<i32>,
}

impl Grant {
    fn new(
        caller: &Caller,
        user: &User,
        body: CreateToken,
        now: UnixMicros,
    ) -> Result<Grant, ApiError> {
        if body.name.trim().is_empty()
            || body.name.len() > TOKEN_NAME_BYTES_MAX
            || body.name.chars().any(char::is_control)
        {
            let detail = format!(
                "a token's name is 1 to {TOKEN_NAME_BYTES_MAX} bytes without control characters"
            );
            return Err(invalid("name", detail));
        }
        check_scopes(caller, user, body.scopes)?;
        let streams = granted_streams(caller, body.streams)?;
        if streams.is_some() && body.scopes.contains(Scope::Admin) {
            let detail =
                "a token limited to streams cannot have the scope admin, which has no limits";
            return Err(invalid("scopes", detail));
        }
        let expires_at = body.expires_in_seconds.map(|seconds| expiry(seconds, now)).transpose()?;
        let records_per_second = body.records_per_second.map(checked_rate).transpose()?;
        let scopes = body.scopes.iter().map(|scope| scope.to_string()).collect();
        Ok(Grant { name: body.name, scopes, streams, expires_at, records_per_second })
    }
}

fn check_scopes(caller: &Caller, user: &User, scopes: ScopeSet) -> Result<(), ApiError> {
    if scopes.is_empty() {
        return Err(invalid("scopes", "a token needs at least one scope"));
    }
    if let Some(scope) = scopes.iter().find(|scope| !caller.scopes.allows(*scope)) {
        let detail = format!("a token is granted nothing that its maker lacks: {scope}");
        return Err(ApiError::forbidden("missing_scope", detail).with("scope", scope.as_str()));
    }
    if let Some(scope) = scopes.iter().find(|scope| !user.role.scopes().allows(*scope)) {
        let detail = format!("a {} cannot have the scope {scope}", user.role);
        return Err(invalid("scopes", detail));
    }
    Ok(())
}

fn granted_streams(
    caller: &Caller,
    streams: Option<BTreeSet<StreamName>>,
) -> Result<Option<Vec<String>>, ApiError> {
    let Some(streams) = streams else {
        let own = caller.streams.as_ref();
        return Ok(own.map(|streams| streams.iter().map(ToString::to_string).collect()));
    };
    if streams.is_empty() || streams.len() > TOKEN_STREAMS_MAX {
        let detail = format!("name 1 to {TOKEN_STREAMS_MAX} streams, or leave streams out for all");
        return Err(invalid("streams", detail));
    }
    if let Some(stream) = streams.iter().find(|stream| !caller.may_use(stream)) {
        let detail =
            format!("a token is granted nothing that its maker lacks: the stream {stream}");
        return Err(ApiError::forbidden("forbidden_stream", detail));
    }
    Ok(Some(streams.iter().map(ToString::to_string).collect()))
}

fn expiry(seconds: u64, now: UnixMicros) -> Result<OffsetDateTime, ApiError> {
    if seconds == 0 || seconds > TOKEN_LIFETIME_MAX.as_secs() {
        let detail = format!("between 1 and {} seconds", TOKEN_LIFETIME_MAX.as_secs());
        return Err(invalid("expires_in_seconds", detail));
    }
    let now = crate::auth::moment(now);
    Ok(now.saturating_add(time::Duration::seconds(seconds.try_into().unwrap_or(i64::MAX))))
}

fn checked_rate(records_per_second: u32) -> Result<i32, ApiError> {
    let rate = i32::try_from(records_per_second).ok();
    rate.filter(|_| (1..=RECORDS_PER_SECOND_MAX).contains(&records_per_second)).ok_or_else(|| {
        let detail = format!("between 1 and {RECORDS_PER_SECOND_MAX} records a second");
        invalid("records_per_second", detail)
    })
}

fn password_needed() -> ApiError {
    let detail = "a token without the scope admin cannot manage tokens; sign in with the password";
    ApiError::forbidden("password_needed", detail)
}

fn invalid(field: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::unprocessable("invalid_field", detail).with("field", field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::{PasswordMark, Role};

    fn user(id: i64, name: &str, role: Role) -> User {
        User {
            id,
            name: name.parse().unwrap(),
            email: None,
            password_hash: String::new(),
            password_mark: PasswordMark::of(""),
            role,
            disabled: false,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn grant(caller: &Caller, user: &User, body: serde_json::Value) -> Result<Grant, u16> {
        let body: CreateToken = serde_json::from_value(body).unwrap();
        Grant::new(caller, user, body, UnixMicros(0)).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn a_token_is_granted_nothing_that_its_maker_lacks() {
        let member = user(1, "ada", Role::Member);
        let admin = user(2, "eve", Role::Admin);
        let ada = member.caller(Via::Session);
        let refused = |caller: &Caller, user: &User, body| grant(caller, user, body).err();
        assert_eq!(refused(&ada, &member, json!({"name": "t", "scopes": ["ingest"]})), None);
        assert_eq!(refused(&ada, &member, json!({"name": "t", "scopes": ["admin"]})), Some(403));
        let eve = admin.caller(Via::Basic);
        assert_eq!(refused(&eve, &admin, json!({"name": "t", "scopes": ["admin"]})), None);
        assert_eq!(refused(&eve, &member, json!({"name": "t", "scopes": ["admin"]})), Some(422));
        let body = json!({"name": "t", "scopes": ["admin"], "streams": ["flights"]});
        assert_eq!(refused(&eve, &admin, body), Some(422));
    }

    #[test]
    fn a_limit_to_streams_is_handed_down() {
        let member = user(1, "ada", Role::Member);
        let limited = Caller {
            streams: Some(["flights".parse().unwrap()].into()),
            ..member.caller(Via::Session)
        };
        let body = |streams| json!({"name": "t", "scopes": ["read"], "streams": streams});
        let inherited = grant(&limited, &member, body(None::<Vec<&str>>)).ok().unwrap();
        assert_eq!(inherited.streams, Some(vec!["flights".to_owned()]));
        assert_eq!(grant(&limited, &member, body(Some(vec!["planes"]))).err(), Some(403));
        assert_eq!(grant(&limited, &member, body(Some(vec![]))).err(), Some(422));
        let twice = grant(&limited, &member, body(Some(vec!["flights", "flights"]))).ok().unwrap();
        assert_eq!(twice.streams.unwrap().len(), 1);
    }

    #[test]
    fn fields_have_limits() {
        let member = user(1, "ada", Role::Member);
        let ada = member.caller(Via::Session);
        for (field, value) in [
            ("name", json!("")),
            ("name", json!(" ")),
            ("name", json!("a\n")),
            ("name", json!("a".repeat(201))),
            ("scopes", json!([])),
            ("expires_in_seconds", json!(0)),
            ("expires_in_seconds", json!(u64::MAX)),
            ("records_per_second", json!(0)),
            ("records_per_second", json!(RECORDS_PER_SECOND_MAX + 1)),
        ] {
            let mut body = json!({"name": "t", "scopes": ["ingest"]});
            body[field] = value;
            assert_eq!(grant(&ada, &member, body).err(), Some(422), "{field}");
        }
        let body = json!({"name": "t", "scopes": ["ingest"], "expires_in_seconds": 60});
        let expires_at = grant(&ada, &member, body).ok().unwrap().expires_at.unwrap();
        assert_eq!(expires_at.unix_timestamp(), 60);
    }

    #[test]
    fn a_small_token_makes_no_tokens() {
        let snapshot = AccountsSnapshot::default();
        let admin = user(1, "eve", Role::Admin);
        let small = Caller {
            scopes: ScopeSet::EMPTY.with(Scope::Ingest),
            ..admin.caller(Via::Bearer { token_id: 7 })
        };
        assert_eq!(owner(&snapshot, &small, None).unwrap_err().code(), "password_needed");
    }
}
