//! The secure channel over a TCP stream.
