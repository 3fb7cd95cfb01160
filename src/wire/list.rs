//! How a list of endpoints goes over the wire: never longer than [`MAX_ENDPOINTS`], in either direction.
//!
//! Meant for `#[serde(with = "crate::wire::list")]`. Reading refuses at the first entry too many and allocates for
//! the entries that arrived, never for the count that the peer claims. Writing drops what exceeds the limit, so that
//! an encoded message is always one that the other side takes; callers put the best entries first.

use crate::endpoint::Endpoint;
use crate::wire::message::MAX_ENDPOINTS;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;

pub(crate) fn serialize<S: Serializer>(list: &[Endpoint], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().take(MAX_ENDPOINTS))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Endpoint>, D::Error> {
    deserializer.deserialize_seq(Bounded)
}

struct Bounded;

impl<'de> Visitor<'de> for Bounded {
    type Value = Vec<Endpoint>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_ENDPOINTS} endpoints")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        if let Some(claimed) = seq.size_hint()
            && claimed > MAX_ENDPOINTS
        {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut list = Vec::new();
        while let Some(endpoint) = seq.next_element()? {
            if list.len() == MAX_ENDPOINTS {
                return Err(A::Error::invalid_length(MAX_ENDPOINTS + 1, &self));
            }
            list.push(endpoint);
        }
        Ok(list)
    }
}
