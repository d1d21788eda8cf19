//! A query parameter that a job sets: what its name may be, and how it is set in an address.

use url::{Url, form_urlencoded};

use crate::polling::jobs::members::{Invalid, invalid};

/// Longest name of a query parameter, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Refuses what is no name of a parameter. `place`: where the name stands.
pub(super) fn check_parameter(place: &str, name: &str) -> Result<(), Invalid> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("must be the name of a query parameter, 1 to {NAME_BYTES_MAX} bytes");
    Err(invalid(place, message))
}

/// Sets a parameter and leaves the others as they are written.
pub(crate) fn set_parameter(url: &mut Url, name: &str, value: &str) {
    let is_other = |pair: &&str| {
        let named = form_urlencoded::parse(pair.as_bytes()).next();
        !pair.is_empty() && named.is_none_or(|(key, _)| key != name)
    };
    let mut query: Vec<String> =
        url.query().unwrap_or_default().split('&').filter(is_other).map(str::to_owned).collect();
    query.push(form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish());
    url.set_query(Some(&query.join("&")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str, name: &str, value: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        set_parameter(&mut url, name, value);
        url.into()
    }

    #[test]
    fn a_parameter_is_set_and_the_others_stay_as_they_are() {
        assert_eq!(with("http://a.test/", "p", "1"), "http://a.test/?p=1");
        assert_eq!(
            with("http://a.test/?x=%20y&p=0&flag&p=7&&q=a+b", "p", "a&b c"),
            "http://a.test/?x=%20y&flag&q=a+b&p=a%26b+c"
        );
        assert_eq!(with("http://a.test/?%70=1&pp=2", "p", "3"), "http://a.test/?pp=2&p=3");
    }
}
