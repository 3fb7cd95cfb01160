//! The ticket: all that a caster needs, in one link.
