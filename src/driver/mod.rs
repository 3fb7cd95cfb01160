//! The one room that knows sockets and clocks.
