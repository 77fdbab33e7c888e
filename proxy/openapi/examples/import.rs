//! Imports a document and prints the result: `cargo run --release -p gnomon-openapi --example import -- FILE [BASE]`.

use gnomon_openapi::{Effect, Options, import};
use std::{collections::BTreeMap, env, error::Error, fs, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().ok_or("say which file")?;
    let base = arguments.next();
    let bytes = fs::read(file)?;
    let begun = Instant::now();
    let api = import(&bytes, Options { longest_name: 59, base: base.as_deref(), here: None })?;
    let took = begun.elapsed();
    let writes = api.operations.iter().filter(|operation| operation.effect == Effect::Write).count();
    let sizes: Vec<usize> = api.operations.iter().map(|operation| operation.tool.len()).collect();
    println!("{} {} at {}: {} MiB in {took:?}", api.title, api.version, api.base, bytes.len() >> 20);
    println!("{} operations, {writes} of them writes; {} refused", sizes.len(), api.refused.len());
    println!("tools: {} bytes, the largest {}", sizes.iter().sum::<usize>(), sizes.iter().max().unwrap_or(&0));
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for refused in &api.refused {
        reasons.entry(&refused.why).or_default().push(&refused.place);
    }
    for (why, places) in reasons {
        println!("{} times: {why}: {}", places.len(), places.iter().take(3).copied().collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
