//! `/v1/users`: accounts. Admins manage all of them; users change their own password and address.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

use crate::api::ApiError;
use crate::api::bodies::ApiJson;
use crate::auth::{
    Auth, AuthError, Caller, Email, Password, Role, Scope, User, UserName, Via, Whence,
};
use crate::db::users::{self, NewUser, UserChange, UserRow, UserUpdate};
use crate::telemetry::limits;

/// Most users: each is in the memory of every gateway.
pub const USERS_MAX: usize = 10_000;

/// A user, as admins see them.
#[derive(Debug, Serialize)]
pub struct UserView {
    id: i64,
    name: String,
    email: Option<String>,
    /// `admin` or `member`.
    role: String,
    disabled: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<&User> for UserView {
    fn from(user: &User) -> UserView {
        UserView {
            id: user.id,
            name: user.name.to_string(),
            email: user.email.clone(),
            role: user.role.to_string(),
            disabled: user.disabled,
            created_at: user.created_at,
        }
    }
}

impl From<UserRow> for UserView {
    fn from(row: UserRow) -> UserView {
        UserView {
            id: row.id,
            name: row.name,
            email: row.email,
            role: row.role,
            disabled: row.disabled,
            created_at: row.created_at,
        }
    }
}

/// `{"users":[…]}`
#[derive(Debug, Serialize)]
pub struct UserList {
    users: Vec<UserView>,
}

/// A user to be. No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    name: String,
    email: Option<String>,
    password: String,
    role: Option<Role>,
}

/// What to change; a member that is absent stays. No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// null takes the address away.
    #[serde(default, deserialize_with = "present")]
    #[expect(
        clippy::option_option,
        reason = "absent, null and a value are three different wishes"
    )]
    email: Option<Option<String>>,
    password: Option<String>,
    /// The password so far, which a browser session needs to change its user's.
    current_password: Option<String>,
    role: Option<Role>,
    disabled: Option<bool>,
    /// Take all of the user's tokens away, too.
    #[serde(default)]
    revoke_tokens: bool,
}

#[expect(clippy::option_option, reason = "absent, null and a value are three different wishes")]
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `GET /v1/users` → 200 `{"users":[…]}`, as this gateway knows them. Needs `admin`.
pub async fn list(State(auth): State<Auth>, caller: Caller) -> Result<Json<UserList>, ApiError> {
    caller.require(Scope::Admin)?;
    let snapshot = auth.accounts();
    let users = snapshot.users().into_iter().map(|user| UserView::from(&**user)).collect();
    Ok(Json(UserList { users }))
}

/// `POST /v1/users` → 201, the user. Needs `admin`.
pub async fn create(
    State(auth): State<Auth>,
    caller: Caller,
    whence: Whence,
    ApiJson(body): ApiJson<CreateUser>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    caller.require(Scope::Admin)?;
    if auth.accounts().users().len() >= USERS_MAX {
        limits::USERS.hit();
        let detail = format!("there are at most {USERS_MAX} users");
        return Err(ApiError::conflict("too_many_users", detail));
    }
    let name = valid::<UserName>("name", &body.name)?;
    let email = body.email.as_deref().map(|email| valid::<Email>("email", email)).transpose()?;
    let password = valid::<Password>("password", &body.password)?;
    let role = body.role.unwrap_or(Role::Member);
    let password_hash = auth.hash_password(password, whence).await?;
    let row = auth
        .change(&caller, |pool, acting| async move {
            let user = NewUser {
                name: name.as_str(),
                email: email.as_ref().map(Email::as_str),
                password_hash: &password_hash,
                role: role.as_str(),
            };
            users::insert(&pool, acting.as_ref(), &user).await
        })
        .await?;
    tracing::info!(user = row.name, role = row.role, by = &*caller.user_name, "user added");
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// `PATCH /v1/users/{id}` → 200, the user.
///
/// An admin may change everybody; a user their own password and address, if they came with their password: a token
/// that leaked must not be able to take the account over. For the same reason a browser session, an admin's too, changes
/// its own user's password only with the one so far. A new password, or being disabled, ends the user's sessions, tickets
/// and what watches with them; tokens go on, unless `revoke_tokens` takes them away. The last enabled admin can be neither
/// disabled nor demoted (409).
pub async fn change(
    State(auth): State<Auth>,
    caller: Caller,
    whence: Whence,
    id: Result<Path<i64>, PathRejection>,
    ApiJson(body): ApiJson<ChangeUser>,
) -> Result<Json<UserView>, ApiError> {
    let Path(id) = id?;
    may_change(&caller, id, &body)?;
    let email = match &body.email {
        None => None,
        Some(None) => Some(None),
        Some(Some(email)) => Some(Some(valid::<Email>("email", email)?)),
    };
    let password_hash = match &body.password {
        None => None,
        Some(password) => {
            let password = valid("password", password)?;
            check_current_password(&auth, &caller, whence, id, &body).await?;
            Some(auth.hash_password(password, whence).await?)
        }
    };
    let sessions = auth.clone();
    let updated = auth
        .change(&caller, |pool, acting| async move {
            let change = UserChange {
                email: email.as_ref().map(|email| email.as_ref().map(Email::as_str)),
                password_hash: password_hash.as_deref(),
                role: body.role.map(Role::as_str),
                disabled: body.disabled,
                revoke_tokens: body.revoke_tokens,
            };
            let updated = users::update(&pool, acting.as_ref(), id, &change).await?;
            sessions.forget_sessions_of(id);
            Ok(updated)
        })
        .await?;
    match updated {
        UserUpdate::Changed(row) => {
            tracing::info!(user = row.name, by = &*caller.user_name, "user changed");
            Ok(Json(row.into()))
        }
        UserUpdate::NotFound => Err(ApiError::not_found("unknown_user", "there is no such user")),
        UserUpdate::LastAdmin => Err(ApiError::conflict(
            "last_admin",
            "this is the last enabled admin; make another one first",
        )),
    }
}

fn may_change(caller: &Caller, id: i64, body: &ChangeUser) -> Result<(), ApiError> {
    if caller.scopes.allows(Scope::Admin) {
        return Ok(());
    }
    if caller.user_id != Some(id) || body.role.is_some() || body.disabled.is_some() {
        caller.require(Scope::Admin)?;
    }
    if !caller.speaks_for_its_user() {
        let detail = "a token cannot change its user; sign in with the password";
        return Err(ApiError::forbidden("password_needed", detail));
    }
    Ok(())
}

/// A session may be used by another person, on a machine that was left alone. A caller that came with the password itself has
/// shown it.
async fn check_current_password(
    auth: &Auth,
    caller: &Caller,
    whence: Whence,
    id: i64,
    body: &ChangeUser,
) -> Result<(), ApiError> {
    if caller.via != Via::Session || caller.user_id != Some(id) {
        return Ok(());
    }
    let field = "current_password";
    let Some(current) = body.current_password.as_deref() else {
        let detail = "your password so far is needed, too (current_password)";
        return Err(ApiError::unprocessable("invalid_field", detail).with("field", field));
    };
    let snapshot = auth.accounts();
    let user = snapshot.user(id).ok_or(AuthError::Session)?;
    if !auth.is_password_of(user, current, whence).await? {
        let detail = "this is not your password so far";
        return Err(ApiError::forbidden("wrong_current_password", detail).with("field", field));
    }
    Ok(())
}

/// Reads a field; what is wrong with it is 422 with the member `field`.
fn valid<T>(field: &'static str, text: &str) -> Result<T, ApiError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| {
        ApiError::unprocessable("invalid_field", error.to_string()).with("field", field)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ScopeSet;

    fn caller(role: Role, scopes: ScopeSet, via: Via) -> Caller {
        let (user_id, user_name) = (Some(1), "ada".into());
        Caller {
            user_id,
            user_name,
            role,
            scopes,
            streams: None,
            via,
            password: None,
            session: None,
        }
    }

    fn body(json: &str) -> ChangeUser {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn absent_null_and_a_value_are_three_things() {
        assert!(body("{}").email.is_none());
        assert_eq!(body(r#"{"email":null}"#).email, Some(None));
        assert_eq!(body(r#"{"email":"a@b"}"#).email, Some(Some("a@b".into())));
    }

    #[test]
    fn users_change_themselves_only_and_only_with_their_password() {
        let own = body(r#"{"password":"correct horse","email":"a@b"}"#);
        let allowed = |caller: &Caller, id, body: &ChangeUser| may_change(caller, id, body).is_ok();
        let member = Role::Member.scopes();
        for via in [Via::Session, Via::Basic] {
            let ada = caller(Role::Member, member, via);
            assert!(allowed(&ada, 1, &own));
            assert!(!allowed(&ada, 2, &own));
            assert!(!allowed(&ada, 1, &body(r#"{"role":"admin"}"#)));
            assert!(!allowed(&ada, 1, &body(r#"{"disabled":false}"#)));
        }
        let token = Via::Bearer { token_id: 7 };
        assert!(!allowed(&caller(Role::Member, member, token), 1, &own));
        assert!(!allowed(&caller(Role::Admin, member, token), 1, &own), "an admin's small token");
        assert!(allowed(&caller(Role::Admin, ScopeSet::ALL, token), 2, &own));
    }
}
