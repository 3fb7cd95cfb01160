//! `punchcast`.

fn main() {}
