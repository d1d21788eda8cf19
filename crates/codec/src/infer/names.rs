//! Names for columns, as a person would choose them: small letters, digits and underscores, so that SQL needs no quotes.
//!
//! A key that is such a name is one. Of any other the name is what remains of it: `Total Amount (EUR)` becomes
//! `total_amount_eur`, `userId` becomes `user_id`, and where nothing remains `column_3` stands for the third key. A name
//! that no column can have gets an underscore: `id` becomes `id_`. Where a name is taken, by another key of the sample or
//! for one, it gets a number. So a name says where it comes from, and the same sample gives the same names.

use std::collections::HashSet;

use crate::NAME_BYTES_MAX;
use crate::columns::check_name;

/// A name for each key, in their order; no two are equal.
pub(super) fn names<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let fine = keys.clone().filter(|key| is_plain(key) && check_name(key).is_ok());
    let mut taken: HashSet<String> = fine.clone().map(str::to_owned).collect();
    let fine: HashSet<&str> = fine.collect();
    let name = |(index, key): (usize, &str)| {
        if fine.contains(key) {
            return key.to_owned();
        }
        let name = free_name(&plain(key, index), &taken);
        taken.insert(name.clone());
        name
    };
    keys.enumerate().map(name).collect()
}

fn free_name(wished: &str, taken: &HashSet<String>) -> String {
    let first = if check_name(cut(wished, NAME_BYTES_MAX)).is_ok() { "" } else { "_" };
    let numbered = (2_u64..).map(|number| format!("_{number}"));
    let endings = [first.to_owned()].into_iter().chain(numbered);
    let mut names =
        endings.map(|ending| format!("{}{ending}", cut(wished, NAME_BYTES_MAX - ending.len())));
    names.find(|name| !taken.contains(name)).expect("there are more numbers than names")
}

/// Nothing about it is to be changed.
fn is_plain(key: &str) -> bool {
    let plain = |character: char| {
        character == '_' || (character.is_alphanumeric() && !character.is_uppercase())
    };
    key.chars().all(plain) && key.chars().next().is_some_and(|first| !first.is_numeric())
}

/// What remains of a key. `index`: which key of the sample it is.
fn plain(key: &str, index: usize) -> String {
    if is_plain(key) {
        return key.to_owned();
    }
    let characters: Vec<char> = key.chars().filter(|it| !matches!(it, '\'' | '’')).collect();
    let mut name = String::with_capacity(key.len());
    for (at, &character) in characters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(at + 1);
        // userId, HTTPServer
        let begins_word = character.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || (before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
            });
        let separates = !character.is_alphanumeric();
        if (begins_word || separates) && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if !separates {
            name.extend(character.to_lowercase());
        }
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => format!("column_{}", index + 1),
        Some(first) if first.is_numeric() => format!("_{name}"),
        Some(_) => name.to_owned(),
    }
}

/// As much of the text as so many bytes hold, between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    text[..text.floor_char_boundary(bytes_max)].trim_end_matches('_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_person_would_choose() {
        for (key, expected) in [
            ("Total Amount (EUR)", "total_amount_eur"),
            ("origin", "origin"),
            ("_id", "_id"),
            ("a__b", "a__b"),
            ("größe", "größe"),
            ("Größe 📏", "größe"),
            ("userId", "user_id"),
            ("HTTPServer", "http_server"),
            ("H2O", "h2o"),
            ("PM2.5 [µg/m³]", "pm2_5_µg_m³"),
            (" Temp ", "temp"),
            ("a.b", "a_b"),
            ("Driver's name", "drivers_name"),
            ("2020", "_2020"),
            ("line\nend", "line_end"),
            ("📏", "column_1"),
            ("", "column_1"),
            ("ID", "id_"),
            ("id", "id_"),
            ("xmin", "xmin_"),
            ("Received At", "received_at_"),
        ] {
            assert_eq!(names([key].into_iter()), [expected], "{key:?}");
        }
    }

    #[test]
    fn a_name_goes_to_the_key_that_is_it() {
        let long = "é".repeat(40);
        let keys = ["Temp", "temp", "id", "id_", "ID", "TEMP", "", "column_7", &long];
        let cut = "é".repeat(31);
        let expected =
            ["temp_2", "temp", "id_2", "id_", "id_3", "temp_3", "column_7_2", "column_7", &cut];
        assert_eq!(names(keys.into_iter()), expected);
    }

    #[test]
    fn names_that_begin_alike_stay_apart() {
        let keys: Vec<String> =
            (0..300).map(|number| format!("{}{number}", "k".repeat(70))).collect();
        let names = names(keys.iter().map(String::as_str));
        assert_eq!((&names[0][61..], &names[1][60..], &names[299][58..]), ("kk", "k_2", "k_300"));
        assert!(names.iter().all(|name| check_name(name).is_ok()));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 300);
    }
}
