//! Lists of networks.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Networks, as a list with commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Is the address in one of them?
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Networks, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let network = |part: &str| {
            let address = || part.parse::<IpAddr>().map(IpNet::from);
            part.parse::<IpNet>()
                .or_else(|_| address())
                .map_err(|_| format!("{part:?} is no network such as 10.0.0.0/8"))
        };
        parts.map(network).collect::<Result<_, _>>().map(Networks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_a_list_or_nothing() {
        assert_eq!("".parse(), Ok(Networks::default()));
        let both: Networks = " 127.0.0.0/8, ::1,".parse().unwrap();
        assert_eq!(both.0, ["127.0.0.0/8".parse().unwrap(), "::1/128".parse::<IpNet>().unwrap()]);
        assert!("localhost".parse::<Networks>().is_err());
    }
}
