//! `tidegate user`: users, directly in the database; running gateways hear of it.
//!
//! A password never comes from a flag, where other users of the machine and the shell's history would see it: it is
//! read from standard input or asked for at the terminal, without echo.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::auth::{
    ADMIN_PASSWORD_FILE, Email, PASSWORD_BYTES_MAX, Password, Role, UserName, hash_password,
    remove_stale_password,
};
use crate::cli::account::id_of;
use crate::cli::output::{aligned, print};
use crate::db::Pool;
use crate::db::users::{self, NewUser, UserChange, UserRow, UserUpdate};

/// Manage users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user.
    Add(AddUser),
    /// List users.
    List,
    /// Set a user's password; ends the user's browser sessions, and with --revoke-tokens their tokens.
    Passwd(SetPassword),
    /// Keep a user out: passwords, sessions and tokens stop working, with running gateways within a moment.
    Disable(NamedUser),
    /// Let a disabled user in again.
    Enable(NamedUser),
}

/// Options of `user add`.
#[derive(Debug, Args)]
pub struct AddUser {
    /// Name to sign in with; no colons.
    name: UserName,

    /// E-mail address.
    #[arg(long, env = "TIDEGATE_USER_EMAIL")]
    email: Option<Email>,

    /// admin: everything; member: everything but users and other people's tokens.
    #[arg(long, env = "TIDEGATE_USER_ROLE", default_value_t = Role::Member)]
    role: Role,

    #[command(flatten)]
    source: PasswordSource,
}

/// Options of `user passwd`.
#[derive(Debug, Args)]
pub struct SetPassword {
    /// Name of the user.
    name: String,

    /// Take all of the user's tokens away, too: a person who knew the password may have made some.
    #[arg(long, env = "TIDEGATE_REVOKE_TOKENS")]
    revoke_tokens: bool,

    #[command(flatten)]
    source: PasswordSource,
}

/// A user who exists.
#[derive(Debug, Args)]
pub struct NamedUser {
    /// Name of the user.
    name: String,
}

/// Where the password comes from.
#[derive(Debug, Args)]
pub struct PasswordSource {
    /// Read the password from standard input (one line) instead of asking at the terminal.
    #[arg(long, env = "TIDEGATE_PASSWORD_STDIN")]
    password_stdin: bool,
}

/// Runs the command.
pub async fn run(command: UserCommand, pool: &Pool, data_dir: &Path) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(user) => add(user, pool).await,
        UserCommand::List => print(&table(&users::list(pool).await?)),
        UserCommand::Passwd(user) => set_password(user, pool, data_dir).await,
        UserCommand::Disable(user) => {
            let id = id_of(pool, &user.name).await?;
            update(pool, id, &UserChange { disabled: Some(true), ..UserChange::default() }).await?;
            print(&format!("{} is disabled\n", user.name))
        }
        UserCommand::Enable(user) => {
            let id = id_of(pool, &user.name).await?;
            update(pool, id, &UserChange { disabled: Some(false), ..UserChange::default() })
                .await?;
            print(&format!("{} is enabled\n", user.name))
        }
    }
}

async fn add(user: AddUser, pool: &Pool) -> anyhow::Result<()> {
    if users::by_name(pool, user.name.as_str()).await?.is_some() {
        bail!("there is a user {} already", user.name);
    }
    let hash = hash(user.source).await?;
    let new = NewUser {
        name: user.name.as_str(),
        email: user.email.as_ref().map(Email::as_str),
        password_hash: &hash,
        role: user.role.as_str(),
    };
    let row = users::insert(pool, None, &new).await.context("the user could not be added")?;
    print(&format!("{} is user {}, {}\n", row.name, row.id, row.role))
}

async fn set_password(user: SetPassword, pool: &Pool, data_dir: &Path) -> anyhow::Result<()> {
    let id = id_of(pool, &user.name).await?;
    let hash = hash(user.source).await?;
    let change = UserChange {
        password_hash: Some(&hash),
        revoke_tokens: user.revoke_tokens,
        ..UserChange::default()
    };
    update(pool, id, &change).await?;
    let first = users::first(pool).await?;
    if first.is_some_and(|first| first.id == id) {
        let data_dir = data_dir.to_owned();
        let removed = tokio::task::spawn_blocking(move || remove_stale_password(&data_dir, &hash));
        if let Err(error) = removed.await? {
            eprintln!("{ADMIN_PASSWORD_FILE} still holds the password so far: {error}");
        }
    }
    let tokens = if user.revoke_tokens { "; the tokens are revoked" } else { "" };
    print(&format!("{} has a new password{tokens}\n", user.name))
}

async fn update(pool: &Pool, id: i64, change: &UserChange<'_>) -> anyhow::Result<()> {
    match users::update(pool, None, id, change).await? {
        UserUpdate::Changed(_) => Ok(()),
        UserUpdate::NotFound => bail!("the user is gone"),
        UserUpdate::LastAdmin => bail!("this is the last enabled admin; make another one first"),
    }
}

async fn hash(source: PasswordSource) -> anyhow::Result<String> {
    tokio::task::spawn_blocking(move || Ok(hash_password(&read_password(&source)?))).await?
}

fn read_password(source: &PasswordSource) -> anyhow::Result<Password> {
    if source.password_stdin {
        return one_line(io::stdin().lock());
    }
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the password; use --password-stdin");
    }
    let password = ask("Password: ")?;
    if ask("Again: ")?.as_str() != password.as_str() {
        bail!("the two passwords differ");
    }
    Ok(password)
}

/// Reads one line, or all there is if it does not end; refuses more than one.
fn one_line(input: impl Read) -> anyhow::Result<Password> {
    // Room for the line's end, and for one byte too many.
    let limit = u64::try_from(PASSWORD_BYTES_MAX + 3)?;
    let mut text = String::new();
    input.take(limit).read_to_string(&mut text).context("the password is not UTF-8")?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\n') {
        bail!("the password is one line");
    }
    Ok(line.parse::<Password>()?)
}

fn ask(prompt: &str) -> anyhow::Result<Password> {
    let stdin = io::stdin();
    let mut stderr = io::stderr();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    let mut line = String::new();
    let hidden = HiddenInput::begin()?;
    let read = stdin.read_line(&mut line);
    drop(hidden);
    writeln!(stderr)?;
    read?;
    one_line(line.as_bytes())
}

/// Turns the terminal's echo off, and on again when dropped.
struct HiddenInput(Termios);

impl HiddenInput {
    fn begin() -> anyhow::Result<HiddenInput> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(HiddenInput(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // The terminal is gone if this fails, and nothing is left to restore.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSAFLUSH, &self.0);
    }
}

fn table(users: &[UserRow]) -> String {
    let rows = users.iter().map(|user| {
        let state = if user.disabled { "disabled" } else { "enabled" };
        let email = user.email.clone().unwrap_or_else(|| "-".to_owned());
        let made = user.created_at.date().to_string();
        vec![user.id.to_string(), user.name.clone(), user.role.clone(), state.into(), email, made]
    });
    aligned(&["ID", "NAME", "ROLE", "STATE", "EMAIL", "CREATED"], rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: UserCommand,
    }

    #[test]
    fn a_password_is_never_a_flag() {
        let parse = |arguments: &[&str]| {
            Program::try_parse_from(std::iter::once(&"user").chain(arguments)).map(|it| it.command)
        };
        let added = parse(&["add", "ada", "--role", "admin", "--password-stdin"]).unwrap();
        assert!(matches!(added, UserCommand::Add(AddUser { role: Role::Admin, .. })));
        assert!(parse(&["add", "ada", "--password", "secret"]).is_err());
        assert!(parse(&["add", "a:b"]).is_err());
        assert!(parse(&["add", "ada", "--role", "root"]).is_err());
    }

    #[test]
    fn a_password_is_one_line_with_or_without_its_end() {
        for text in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            assert_eq!(one_line(text.as_bytes()).unwrap().as_str(), "correct horse");
        }
        assert_eq!(one_line(" 2 spaces  \n".as_bytes()).unwrap().as_str(), " 2 spaces  ");
        assert!(one_line("correct\nhorse\n".as_bytes()).is_err());
        assert!(one_line("short\n".as_bytes()).is_err());
        assert!(one_line(&b"\xff\xff\xff\xff\xff\xff\xff\xff"[..]).is_err());
        let longest = "a".repeat(PASSWORD_BYTES_MAX);
        assert!(one_line(format!("{longest}\r\n").as_bytes()).is_ok());
        assert!(one_line(format!("{longest}a\n").as_bytes()).is_err());
        assert!(one_line(io::repeat(b'a')).is_err());
    }
}
