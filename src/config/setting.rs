//! The settings of a running gateway, shown.

use std::ffi::OsStr;

use clap::{ArgMatches, Command};
use serde::Serialize;

/// A setting as it is, for people who look at a running gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its environment variable.
    pub name: String,
    /// As text; of a secret only that it is set.
    pub value: Option<String>,
    pub default: Option<String>,
    pub help: String,
    pub secret: bool,
}

impl Setting {
    /// Every setting of a command that was called.
    pub fn all(command: &Command, matches: &ArgMatches) -> Vec<Setting> {
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        let setting = |argument: &clap::Arg| {
            let given = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
            let value = given.and_then(|mut values| values.next().map(text));
            let value = value.filter(|value| !value.is_empty());
            let secret = argument.is_hide_env_values_set();
            Some(Setting {
                name: text(argument.get_env()?),
                value: if secret { value.map(|_| "(set)".to_owned()) } else { value },
                default: argument.get_default_values().first().map(|value| text(value)),
                help: argument.get_help().map(ToString::to_string).unwrap_or_default(),
                secret,
            })
        };
        command.get_arguments().filter_map(setting).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::config::Config;

    #[test]
    fn settings_are_told_without_secrets() {
        let command = Config::augment_args(Command::new("serve"));
        let url = "postgres://ada:hunter2@db/x";
        let matches = command.clone().get_matches_from([
            "serve",
            "--batch-rows=7",
            "--database-url",
            url,
            "--admin-password=hunter2",
        ]);
        let settings = Setting::all(&command, &matches);
        let of = |name: &str| settings.iter().find(|setting| setting.name == name).unwrap().clone();
        let rows = of("TIDEGATE_BATCH_ROWS");
        assert_eq!(rows.value.as_deref(), Some("7"));
        assert_eq!(rows.default.as_deref(), Some("20000"));
        assert!(rows.help.starts_with("A batch is cut at"));
        assert_eq!(of("TIDEGATE_BATCH_BYTES").value.as_deref(), Some("8388608"));
        assert_eq!(of("TIDEGATE_NODE_NAME").value, None);
        assert_eq!(of("DATABASE_URL").value.as_deref(), Some("(set)"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
