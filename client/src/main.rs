//! `punchcast`: parses nothing itself, maps results to exit codes.

use punchcast_client::cli::{self, Failure};

fn main() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let code = match cli::run() {
        Ok(code) => code,
        Err(failure) => {
            cli::talk(&format!("punchcast: {failure}"));
            match failure {
                Failure::Usage(_) => {
                    cli::talk("`punchcast --help` tells more");
                    cli::USAGE
                }
                Failure::Failed(_) => cli::NO_LINK,
            }
        }
    };
    std::process::exit(code);
}
