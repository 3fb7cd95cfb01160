//! `punchcast`: parses nothing itself, maps results to exit codes.

use punchcast_client::cli::{self, Failure};

/// Freed memory that the program keeps, in bytes: the group of pictures that is remembered for who joins late, and what
/// waits before a slow line, are given back all at once and taken again.
const KEPT_FREE: usize = 16 << 20;

fn main() {
    keep_freed_memory();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let code = match cli::run() {
        Ok(code) => code,
        Err((failure, help)) => {
            cli::fail(&failure.to_string());
            match failure {
                Failure::Usage(_) => {
                    cli::tell(&format!("`{help}` tells more"));
                    cli::USAGE
                }
                Failure::Failed(_) => cli::FAILED,
            }
        }
    };
    std::process::exit(code);
}

/// Has the C library keep what is freed. glibc gives the end of the heap back to the system as soon as 128 KiB of it are
/// free, and every page that is then taken again costs a fault (1 to 2 µs, six for a picture of 25 kB). Once a piece with a
/// mapping of its own has been freed, it keeps twice that piece's size (mallopt(3), `M_MMAP_THRESHOLD`); nothing is written
/// to it, so it takes no memory. Elsewhere this does nothing.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_FREE / 2)));
}
