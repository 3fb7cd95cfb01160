//! Seeds: which are run, and how a failure tells to run its own again.
//!
//! `PUNCHCAST_SIM_SEED=n` runs seed n alone; `PUNCHCAST_SIM_SEEDS=n` runs n seeds for each case.

use std::env;

/// Runs `case` once for each seed: the `usual` first ones, unless the environment says otherwise.
pub(crate) fn sweep(case: &str, usual: u64, mut run: impl FnMut(u64)) {
    for seed in seeds(usual) {
        let _report = Report { case, seed };
        run(seed);
    }
}

/// The `usual` first seeds, unless the environment says otherwise.
pub(crate) fn seeds(usual: u64) -> std::ops::Range<u64> {
    match (number("PUNCHCAST_SIM_SEED"), number("PUNCHCAST_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(usual),
    }
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// Tells how to replay when the run that it watches panics.
struct Report<'a> {
    case: &'a str,
    seed: u64,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("").to_owned();
            eprintln!("--- failed: {} with seed {}; to replay:", self.case, self.seed);
            eprintln!(
                "PUNCHCAST_SIM_SEED={} cargo test -p punchcast --test sim -- {test} --exact",
                self.seed
            );
        }
    }
}
