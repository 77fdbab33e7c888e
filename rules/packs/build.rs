//! Makes cargo notice a rule or catalogue file that was added or removed: `include_dir!` alone
//! only notices changes in files it already knew.

fn main() {
    for folder in ["shadow-mcp", "detections", "user-agents", "local-servers", "llm-direct", "examples", "baseline-cloudflare", "catalogue"]
    {
        println!("cargo::rerun-if-changed={folder}");
    }
}
