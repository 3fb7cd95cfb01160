//! `punchcastd`.

fn main() {}
