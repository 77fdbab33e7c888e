//! What executions of Code Mode are forked from in this crate's tests, as `gnomon sandbox-zygote` is in the product.

fn main() -> std::process::ExitCode {
    gnomon_codemode::zygote::run()
}
