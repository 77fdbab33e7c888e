//! Prints what this kernel can do, a line for each feature: `features [CGROUP]`. Needs root; attaches nothing.

use std::path::PathBuf;

use gnomon_sensor::{Features, Status};

fn main() {
    let cgroup = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("/sys/fs/cgroup"), PathBuf::from);
    for (feature, status) in Features::probe(&cgroup).iter() {
        let (word, why) = match status {
            Status::Ok => ("ok", ""),
            Status::Unsupported(why) => ("unsupported", why.as_str()),
            Status::Broken(why) => ("broken", why.as_str()),
            Status::NotApplicable => ("not-applicable", ""),
        };
        println!("{} {word} {}", feature.name(), why.replace('\n', " "));
    }
}
