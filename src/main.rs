use std::process::ExitCode;

fn main() -> ExitCode {
    bms_reader::cli::main()
}
