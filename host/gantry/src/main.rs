//! The program `gantry`.

fn main() -> std::process::ExitCode {
    // Plugins are compiled by this very program, whatever its file is called.
    gantry::cli::run(std::env::args_os(), std::env::current_exe().ok()).into()
}
