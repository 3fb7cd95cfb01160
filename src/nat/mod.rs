//! What was observed about NATs, and what it means, as pure functions.
