//! Who the demo is to the gateway: an `Authorization` header, and where it comes from.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;

use crate::options::Options;

/// The file with the token that the gateway makes at each start.
const LOCAL_TOKEN_FILE: &str = "local-token";

/// Where the `Authorization` header comes from.
#[derive(Clone)]
pub enum Credentials {
    Token(String),
    Basic {
        user: String,
        password: String,
    },
    /// The gateway's own file: it holds another token after each start, so it is read again when one is refused.
    LocalToken(PathBuf),
}

impl Credentials {
    pub fn new(options: &Options) -> Credentials {
        match (&options.user, &options.password, &options.token) {
            (Some(user), Some(password), _) => {
                Credentials::Basic { user: user.clone(), password: password.clone() }
            }
            (_, _, Some(token)) => Credentials::Token(token.clone()),
            _ => Credentials::LocalToken(options.data_dir.join(LOCAL_TOKEN_FILE)),
        }
    }

    /// The header as of now.
    pub fn header(&self) -> anyhow::Result<HeaderValue> {
        let text = match self {
            Credentials::Token(token) => format!("Bearer {token}"),
            Credentials::Basic { user, password } => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
            }
            Credentials::LocalToken(path) => {
                let token = fs::read_to_string(path).with_context(|| {
                    format!(
                        "cannot read {}; name the gateway's data directory with --data-dir, \
                         or give --token or --user and --password",
                        path.display()
                    )
                })?;
                format!("Bearer {}", token.trim())
            }
        };
        let mut header = HeaderValue::from_str(&text)
            .context("the token has characters that no header can carry")?;
        header.set_sensitive(true);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn header(arguments: &[&str]) -> anyhow::Result<HeaderValue> {
        let options = Options::parse_from([&["tidegate-demo"], arguments].concat());
        Credentials::new(&options).header()
    }

    #[test]
    fn a_user_goes_before_a_token() {
        let both = ["--token", "tg_1", "--user", "ada", "--password", "p:w"];
        assert_eq!(header(&both).expect("valid"), "Basic YWRhOnA6dw==");
        assert_eq!(header(&both[..2]).expect("valid"), "Bearer tg_1");
    }

    #[test]
    fn the_local_token_is_read_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let credentials = Credentials::LocalToken(directory.path().join(LOCAL_TOKEN_FILE));
        let help = credentials.header().expect_err("no file").to_string();
        assert!(help.contains("--data-dir"), "{help}");
        for token in ["tg_1", "tg_2"] {
            fs::write(directory.path().join(LOCAL_TOKEN_FILE), format!("{token}\n"))
                .expect("written");
            let header = credentials.header().expect("valid");
            assert_eq!(header, format!("Bearer {token}"));
            assert!(header.is_sensitive());
        }
    }
}
