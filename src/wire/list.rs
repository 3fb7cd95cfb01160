//! How a list goes over the wire: never longer than its limit, in either direction.
//!
//! Meant for `#[serde(with = "crate::wire::list::endpoints")]`. Reading refuses at the first entry too many and allocates
//! for the entries that arrived, never for the count that the peer claims. Writing drops what exceeds the limit, so that an
//! encoded message is always one that the other side takes; callers put the best entries first.

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// At most [`MAX_ENDPOINTS`](crate::wire::message::MAX_ENDPOINTS) endpoints.
pub(crate) mod endpoints {
    use crate::endpoint::Endpoint;
    use crate::wire::message::MAX_ENDPOINTS;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(list: &[Endpoint], serializer: S) -> Result<S::Ok, S::Error> {
        super::serialize::<MAX_ENDPOINTS, _, _>(list, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Endpoint>, D::Error> {
        super::deserialize::<MAX_ENDPOINTS, _, _>(from)
    }
}

/// At most [`MAX_OBSERVATIONS`](crate::wire::message::MAX_OBSERVATIONS) observations.
pub(crate) mod observations {
    use crate::wire::message::{MAX_OBSERVATIONS, Observation};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(list: &[Observation], serializer: S) -> Result<S::Ok, S::Error> {
        super::serialize::<MAX_OBSERVATIONS, _, _>(list, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Observation>, D::Error> {
        super::deserialize::<MAX_OBSERVATIONS, _, _>(from)
    }
}

/// At most [`MAX_SEALED`](crate::wire::message::MAX_SEALED) bytes.
pub(crate) mod sealed {
    use crate::wire::message::MAX_SEALED;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        super::serialize::<MAX_SEALED, _, _>(bytes, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        super::deserialize::<MAX_SEALED, _, _>(from)
    }
}

fn serialize<const MAX: usize, T: Serialize, S: Serializer>(
    list: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().take(MAX))
}

fn deserialize<'de, const MAX: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Bounded::<MAX, T>(PhantomData))
}

struct Bounded<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Bounded<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        if let Some(claimed) = seq.size_hint()
            && claimed > MAX
        {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut list = Vec::new();
        while let Some(entry) = seq.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(entry);
        }
        Ok(list)
    }
}
