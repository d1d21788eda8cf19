//! `tidegate token`: Bearer tokens, directly in the database; running gateways hear of it.
//!
//! A new token goes to standard output alone, once, so that a script can keep it; all words go to standard error.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use tidegate_codec::StreamName;
use tidegate_record::clock::Clock;
use time::{Duration, OffsetDateTime};

use crate::auth::{RECORDS_PER_SECOND_MAX, Role, Scope, ScopeSet, Secret, moment};
use crate::cli::account::id_of;
use crate::cli::output::{aligned, print};
use crate::db::Pool;
use crate::db::tokens::{self, NewToken, TokenRow};
use crate::db::users;

/// Most days that a token can be given.
const TOKEN_DAYS_MAX: i64 = 36_500;

/// Manage Bearer tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once.
    Create(CreateToken),
    /// List tokens; what they are is kept nowhere.
    List(ListTokens),
    /// Revoke a token; running gateways refuse it within a moment.
    Revoke(RevokeToken),
}

/// Options of `token create`.
#[derive(Debug, Args)]
pub struct CreateToken {
    /// Whose token; it never has more rights than its user.
    #[arg(long, env = "TIDEGATE_TOKEN_USER")]
    user: String,

    /// What it is for, so that you recognise it in the list.
    #[arg(long, env = "TIDEGATE_TOKEN_NAME", default_value = "command line")]
    name: String,

    /// What it may do: ingest, read, monitor, streams:write, jobs, admin. Repeat it or separate with commas.
    #[arg(long = "scope", env = "TIDEGATE_TOKEN_SCOPES", required = true, value_delimiter = ',')]
    scopes: Vec<Scope>,

    /// A stream that it may use; without any, it may use all. Repeat it or separate with commas.
    #[arg(long = "stream", env = "TIDEGATE_TOKEN_STREAMS", value_delimiter = ',')]
    streams: Vec<StreamName>,

    /// Days until it expires; without, it does not.
    #[arg(long, env = "TIDEGATE_TOKEN_DAYS", value_parser = clap::value_parser!(i64).range(1..=TOKEN_DAYS_MAX))]
    expires_in_days: Option<i64>,

    /// Most records a second that it may send, over time; without, as many as it likes.
    #[arg(long, env = "TIDEGATE_TOKEN_RATE", value_parser = clap::value_parser!(i32).range(1..=i64::from(RECORDS_PER_SECOND_MAX)))]
    rate: Option<i32>,
}

/// Options of `token list`.
#[derive(Debug, Args)]
pub struct ListTokens {
    /// Only this user's.
    #[arg(long, env = "TIDEGATE_TOKEN_USER")]
    user: Option<String>,
}

/// Options of `token revoke`.
#[derive(Debug, Args)]
pub struct RevokeToken {
    /// Number of the token, from the list.
    id: i64,
}

/// Runs the command.
pub async fn run(command: TokenCommand, pool: &Pool, clock: &Clock) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(token) => create(token, pool, clock).await,
        TokenCommand::List(list) => {
            let only = match &list.user {
                Some(name) => Some(id_of(pool, name).await?),
                None => None,
            };
            print(&table(pool, only, moment(clock.now())).await?)
        }
        TokenCommand::Revoke(RevokeToken { id }) => {
            if !tokens::delete(pool, id).await? {
                bail!("there is no token {id}");
            }
            print(&format!("token {id} is revoked\n"))
        }
    }
}

async fn create(token: CreateToken, pool: &Pool, clock: &Clock) -> anyhow::Result<()> {
    let user = users::by_name(pool, &token.user).await?;
    let user = user.with_context(|| format!("there is no user {}", token.user))?;
    let scopes: ScopeSet = token.scopes.iter().copied().collect();
    check(scopes, user.role.parse()?, !token.streams.is_empty())?;
    let secret = Secret::token();
    let expires_at = token.expires_in_days.map(|days| moment(clock.now()) + Duration::days(days));
    let streams: Vec<String> = token.streams.iter().map(ToString::to_string).collect();
    let scopes: Vec<String> = scopes.iter().map(|scope| scope.to_string()).collect();
    let hash = secret.hash();
    let new = NewToken {
        user_id: user.id,
        name: &token.name,
        hash: hash.as_bytes(),
        scopes: &scopes,
        streams: (!streams.is_empty()).then_some(&streams[..]),
        expires_at,
        records_per_second: token.rate,
    };
    let row = tokens::insert(pool, None, &new).await.context("the token could not be made")?;
    eprintln!("Token {} of {}. It is shown this once:", row.id, user.name);
    print(&format!("{}\n", secret.as_str()))
}

fn check(scopes: ScopeSet, role: Role, limited_to_streams: bool) -> anyhow::Result<()> {
    if let Some(scope) = scopes.iter().find(|scope| !role.scopes().allows(*scope)) {
        bail!("a {role} cannot have the scope {scope}");
    }
    if limited_to_streams && scopes.contains(Scope::Admin) {
        bail!("a token limited to streams cannot have the scope admin, which has no limits");
    }
    Ok(())
}

async fn table(pool: &Pool, only: Option<i64>, now: OffsetDateTime) -> anyhow::Result<String> {
    let users = users::list(pool).await?;
    let tokens = tokens::list(pool).await?;
    let rows = tokens.into_iter().filter(|token| only.is_none_or(|id| id == token.user_id));
    let rows = rows.map(|token| {
        let user = users.iter().find(|user| user.id == token.user_id);
        row(token, user.map_or("-", |user| &user.name), now)
    });
    Ok(aligned(&["ID", "USER", "NAME", "SCOPES", "STREAMS", "RATE", "CREATED", "EXPIRES"], rows))
}

fn row(token: TokenRow, user: &str, now: OffsetDateTime) -> Vec<String> {
    let expires = match token.expires_at {
        None => "never".to_owned(),
        Some(at) if at <= now => format!("{} (expired)", at.date()),
        Some(at) => at.date().to_string(),
    };
    vec![
        token.id.to_string(),
        user.to_owned(),
        token.name,
        token.scopes.join(","),
        token.streams.map_or_else(|| "all".to_owned(), |streams| streams.join(",")),
        token.records_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate}/s")),
        token.created_at.date().to_string(),
        expires,
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: TokenCommand,
    }

    #[test]
    fn scopes_and_streams_are_repeated_or_separated() {
        let parse = |arguments: &str| {
            Program::try_parse_from(arguments.split(' ')).map(|program| program.command)
        };
        let command =
            parse("token create --user ada --scope ingest,read --scope jobs --stream a,b").unwrap();
        let TokenCommand::Create(create) = command else { panic!("{command:?}") };
        assert_eq!(create.scopes, [Scope::Ingest, Scope::Read, Scope::Jobs]);
        assert_eq!(create.streams.len(), 2);
        assert!(parse("token create --user ada").is_err(), "no scope");
        assert!(parse("token create --user ada --scope root").is_err());
        assert!(parse("token create --user ada --scope read --stream A").is_err());
        assert!(parse("token create --user ada --scope read --expires-in-days 0").is_err());
        assert!(parse("token create --user ada --scope read --rate 1").is_ok());
        assert!(parse("token create --user ada --scope read --rate 0").is_err());
    }

    #[test]
    fn a_token_has_no_more_than_its_user() {
        let admin = ScopeSet::EMPTY.with(Scope::Admin);
        assert!(check(admin, Role::Member, false).is_err());
        assert!(check(admin, Role::Admin, false).is_ok());
        assert!(check(admin, Role::Admin, true).is_err());
        assert!(check(Role::Member.scopes(), Role::Member, true).is_ok());
    }
}
