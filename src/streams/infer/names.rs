//! Names for columns whose keys can be none.
//!
//! A key that can be a column's name is one. Of any other (`id` and its like, control characters, too long, empty) the
//! name is what remains of it and an underscore: `id` becomes `id_`, and `id_2`, `id_3` where that is taken, by another
//! key of the sample or for one. So a name says where it comes from, and the same sample gives the same names.

use std::collections::HashSet;

use crate::streams::NAME_BYTES_MAX;
use crate::streams::columns::check_name;

/// A name for each key, in their order; no two are equal.
pub(super) fn names<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let fine = keys.clone().filter(|key| check_name(key).is_ok()).map(str::to_owned);
    let mut taken: HashSet<String> = fine.collect();
    let name = |key: &str| {
        if check_name(key).is_ok() {
            return key.to_owned();
        }
        let name = free_name(key, &taken);
        taken.insert(name.clone());
        name
    };
    keys.map(name).collect()
}

fn free_name(key: &str, taken: &HashSet<String>) -> String {
    let readable = key.replace(char::is_control, "_");
    let numbered = (2_u64..).map(|number| format!("_{number}"));
    let endings = ["_".to_owned()].into_iter().chain(numbered);
    let mut names =
        endings.map(|ending| format!("{}{ending}", cut(&readable, NAME_BYTES_MAX - ending.len())));
    names.find(|name| !taken.contains(name)).expect("there are more numbers than names")
}

/// As much of the text as so many bytes hold, between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_no_name_gets_another() {
        let long = "é".repeat(40);
        let keys =
            ["id_", "Größe 📏", "id", "a.b", "", "xmin", "line\nend", "id_2", &long, "line\tend"];
        let cut = format!("{}_", "é".repeat(31));
        let expected = [
            "id_",
            "Größe 📏",
            "id_3",
            "a.b",
            "_",
            "xmin_",
            "line_end_",
            "id_2",
            &cut,
            "line_end_2",
        ];
        assert_eq!(names(keys.into_iter()), expected);
    }

    #[test]
    fn names_that_begin_alike_stay_apart() {
        let keys: Vec<String> =
            (0..300).map(|number| format!("{}{number}", "k".repeat(70))).collect();
        let names = names(keys.iter().map(String::as_str));
        assert_eq!((&names[0][61..], &names[1][60..], &names[299][58..]), ("k_", "k_2", "k_300"));
        assert!(names.iter().all(|name| check_name(name).is_ok()));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 300);
    }
}
