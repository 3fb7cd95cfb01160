//! The simulator: a second driver for [`punchcast::app::App`]s, in virtual time, on a network of NATs and firewalls
//! made of plain values.
//!
//! [`world`] drives applications ([`hosted`]) on hosts ([`kernel`], [`tcp`]) that hang on a network ([`net`]) of
//! walls ([`wall`]) described in the words of RFC 4787 ([`spec`]). [`oracle`] says, from the same descriptions and
//! from nothing else, which pairs can link; [`matrix`] holds applications against it, [`meet`]'s toys first.
//! [`replay`] tells how a failure is run again.

mod cells;
mod codes;
mod grid;
mod hosted;
mod kernel;
mod ledger;
mod matrix;
mod meet;
mod net;
mod oracle;
mod packet;
mod picture;
mod product;
mod relayed;
mod replay;
mod script;
mod spec;
mod tcp;
mod wall;
mod world;

mod test_tcp;
mod test_walls;
