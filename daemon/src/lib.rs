//! The daemon `punchcastd`, as a library: its application, without sockets.
