//! The first admin: a gateway without users makes one, so that it can be signed in to.
//!
//! A generated password is written to a 0600 file before the user exists: a crash in between leaves a password
//! without a user, which the next try takes, and never a user whose password is unknown. So a try may be cut off
//! anywhere, and another begin while the one before is still committed: both have the same password. The file goes when
//! the first admin gets another password.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tidegate_private_file as private_file;

use crate::auth::password::{InvalidPassword, Password, hash_password, verify_password};
use crate::auth::scope::Role;
use crate::auth::secret::Secret;
use crate::auth::user_name::{InvalidUserName, UserName};
use crate::db::users::NewUser;
use crate::db::{self, Pool};

/// Name of the file in the data directory.
pub const ADMIN_PASSWORD_FILE: &str = "admin-password";
/// Characters of a generated password, 6 bits each.
const GENERATED_CHARACTERS: usize = 24;

/// What became of the first admin.
pub enum FirstAdmin {
    /// There are users already.
    NotNeeded,
    /// Made, with the password that was given.
    Created { name: UserName },
    /// Made, with a generated password, to be shown once; it stays in `file`.
    Generated { name: UserName, password: Password, file: PathBuf },
}

// The password does not get into a log by accident.
impl fmt::Debug for FirstAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FirstAdmin::NotNeeded => f.write_str("NotNeeded"),
            FirstAdmin::Created { name } => write!(f, "Created({name})"),
            FirstAdmin::Generated { name, .. } => write!(f, "Generated({name})"),
        }
    }
}

/// Why there is no first admin.
#[derive(Debug, thiserror::Error)]
pub enum FirstAdminError {
    #[error("the first admin's name (TIDEGATE_ADMIN_USER): {0}")]
    Name(#[from] InvalidUserName),
    #[error("the first admin's password (TIDEGATE_ADMIN_PASSWORD): {0}")]
    Password(#[from] InvalidPassword),
    #[error("cannot write {}", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("the computation of a password's hash was cut off")]
    Interrupted,
    #[error(transparent)]
    Database(#[from] db::Error),
}

/// Makes the first admin if there is no user at all.
pub async fn ensure_first_admin(
    pool: &Pool,
    data_dir: &Path,
    name: &str,
    password: Option<&str>,
) -> Result<FirstAdmin, FirstAdminError> {
    if db::users::any(pool).await? {
        return Ok(FirstAdmin::NotNeeded);
    }
    let name: UserName = name.parse()?;
    if let Some(password) = password {
        let created = insert(pool, &name, password.parse()?).await?;
        return Ok(if created { FirstAdmin::Created { name } } else { FirstAdmin::NotNeeded });
    }
    let file = data_dir.join(ADMIN_PASSWORD_FILE);
    let failed = |source| FirstAdminError::File { file: file.clone(), source };
    let password = match kept_password(&file) {
        Some(password) => password,
        None => {
            let password = generate()?;
            let contents = format!("{}\n", password.as_str());
            private_file::write(&file, contents.as_bytes()).map_err(failed)?;
            password
        }
    };
    if insert(pool, &name, password.clone()).await? {
        return Ok(FirstAdmin::Generated { name, password, file });
    }
    // Another gateway was faster, and its password is in its own directory; or an earlier try of this one, whose is ours.
    if let Some(first) = db::users::first(pool).await? {
        let data_dir = data_dir.to_owned();
        let removing = move || remove_stale_password(&data_dir, &first.password_hash);
        let removed = tokio::task::spawn_blocking(removing).await;
        removed.map_err(|_| FirstAdminError::Interrupted)?.map_err(failed)?;
    }
    Ok(FirstAdmin::NotNeeded)
}

/// What an earlier try wrote that came no further, or is committed just now.
fn kept_password(file: &Path) -> Option<Password> {
    fs::read_to_string(file).ok()?.trim_end().parse().ok()
}

/// Removes the file, if there is one, unless its password is still the one with this hash, which is the first admin's;
/// says whether it did. Blocks.
pub fn remove_stale_password(data_dir: &Path, password_hash: &str) -> io::Result<bool> {
    let file = data_dir.join(ADMIN_PASSWORD_FILE);
    let kept = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        kept => kept?,
    };
    if verify_password(kept.trim_end(), password_hash) {
        return Ok(false);
    }
    match fs::remove_file(&file) {
        // A gateway that runs, or the command line, was faster.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

fn generate() -> Result<Password, InvalidPassword> {
    let secret = Secret::bare();
    secret.as_str().chars().take(GENERATED_CHARACTERS).collect::<String>().parse()
}

async fn insert(pool: &Pool, name: &UserName, password: Password) -> Result<bool, FirstAdminError> {
    let password_hash = tokio::task::spawn_blocking(move || hash_password(&password))
        .await
        .map_err(|_| FirstAdminError::Interrupted)?;
    let user = NewUser {
        name: name.as_str(),
        email: None,
        password_hash: &password_hash,
        role: Role::Admin.as_str(),
    };
    Ok(db::users::insert_first(pool, &user).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_with_its_password() {
        let directory = tempfile::tempdir().unwrap();
        let hash = |text: &str| hash_password(&text.parse().unwrap());
        let remove = |hash: &str| remove_stale_password(directory.path(), hash).unwrap();
        assert!(!remove(&hash("correct horse")), "there is none");
        let file = directory.path().join(ADMIN_PASSWORD_FILE);
        fs::write(&file, "correct horse\n").unwrap();
        assert!(!remove(&hash("correct horse")));
        assert!(file.exists());
        assert!(remove(&hash("another horse")));
        assert!(!file.exists());
    }

    #[test]
    fn a_generated_password_is_long_and_new() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.as_str().len(), GENERATED_CHARACTERS);
        assert_ne!(one.as_str(), other.as_str());
        let name = "admin".parse().unwrap();
        let shown = FirstAdmin::Generated { name, password: one.clone(), file: "f".into() };
        assert!(!format!("{shown:?}").contains(one.as_str()));
    }
}
