//! Prints who a process is, and what asking costs: `identify PID [ROUNDS]`.

use std::time::Instant;

use gnomon_host::identity::{BootTime, Generation, Resolver};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pid = arguments.next().map_or(Ok(std::process::id()), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let resolver = Resolver::default();
    let first = Instant::now();
    let answer = resolver.identify(pid, BootTime::now(), Generation::UNKNOWN);
    let first = first.elapsed();
    println!("{}", serde_json::to_string_pretty(&answer)?);
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(resolver.identify(pid, BootTime::now(), Generation::UNKNOWN));
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    if let (Some(middle), Some(late)) = (times.get(rounds / 2), times.get(rounds * 99 / 100)) {
        println!("first {first:?}, then median {middle:?}, p99 {late:?}");
    }
    Ok(())
}
