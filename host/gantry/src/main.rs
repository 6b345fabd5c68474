//! The program `gantry`.

fn main() -> std::process::ExitCode {
    gantry::cli::run(std::env::args_os()).into()
}
