//! From a test of filtering to a word for it.

use super::classify::Missing;
use std::fmt;

/// Whose packets are let in to a mapping that is in use (RFC 4787, section 5). A firewall without translation filters
/// in the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those of every port of an address that was spoken to.
    AddressDependent,
    /// Only those of endpoints that were spoken to.
    AddressAndPortDependent,
    /// It cannot be told. [`Missing::Address`]: another port of an address that was spoken to is let in, a stranger's
    /// address was not tried; [`Missing::Port`]: a stranger's address is kept out, another port was not tried.
    Unknown(Missing),
}

impl Filtering {
    /// What it means whether a stranger's connect arrived: from another port of an address that was spoken to, and from an address that
    /// was not. `None`: not tried.
    #[must_use]
    pub const fn judge(from_other_port: Option<bool>, from_other_address: Option<bool>) -> Self {
        match (from_other_port, from_other_address) {
            (_, Some(true)) => Self::EndpointIndependent,
            // Who keeps out a known address keeps out an unknown one.
            (Some(false), _) => Self::AddressAndPortDependent,
            (Some(true), Some(false)) => Self::AddressDependent,
            (Some(true), None) => Self::Unknown(Missing::Address),
            (None, Some(false)) => Self::Unknown(Missing::Port),
            (None, None) => Self::Unknown(Missing::Everything),
        }
    }

    /// Whether anything is known.
    #[must_use]
    pub const fn is_measured(self) -> bool {
        !matches!(self, Self::Unknown(Missing::Everything))
    }

    /// Whether everybody is let in, as far as was measured.
    #[must_use]
    pub const fn admits_strangers(self) -> bool {
        matches!(self, Self::EndpointIndependent)
    }

    /// Whether every port of an address that was spoken to is let in, as far as was measured.
    #[must_use]
    pub const fn admits_any_port(self) -> bool {
        match self {
            Self::EndpointIndependent | Self::AddressDependent | Self::Unknown(Missing::Address) => true,
            Self::AddressAndPortDependent | Self::Unknown(Missing::Everything | Missing::Port) => false,
        }
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "endpoint-independent filtering",
            Self::AddressDependent => "address-dependent filtering",
            Self::AddressAndPortDependent => "address-and-port-dependent filtering",
            Self::Unknown(Missing::Everything) => "filtering not measured",
            Self::Unknown(Missing::Address) => {
                "filtering independent of the port (of the address: not measured)"
            }
            Self::Unknown(Missing::Port) => "filtering dependent on the address (on the port: not measured)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_of_a_test_has_its_word() {
        let (yes, no) = (Some(true), Some(false));
        let cases = [
            (yes, yes, Filtering::EndpointIndependent),
            (None, yes, Filtering::EndpointIndependent),
            (yes, no, Filtering::AddressDependent),
            (no, no, Filtering::AddressAndPortDependent),
            (no, None, Filtering::AddressAndPortDependent),
            (yes, None, Filtering::Unknown(Missing::Address)),
            (None, no, Filtering::Unknown(Missing::Port)),
            (None, None, Filtering::Unknown(Missing::Everything)),
        ];
        for (port, address, word) in cases {
            assert_eq!(Filtering::judge(port, address), word, "{port:?} {address:?}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_relied_on() {
        assert!(!Filtering::Unknown(Missing::Everything).admits_any_port());
        assert!(Filtering::Unknown(Missing::Address).admits_any_port());
        assert!(!Filtering::Unknown(Missing::Address).admits_strangers());
    }
}
