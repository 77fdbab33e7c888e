//! Prints what the doctor sees without the sensor: `doctor [CA.pem]`.

use gnomon_host::doctor::{Options, Port, examine};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options {
        authority: std::env::args_os().nth(1).map(Into::into),
        ports: vec![Port { name: "proxy", address: "127.0.0.1:8443".parse()? }],
        ..Options::default()
    };
    let started = std::time::Instant::now();
    let checks = examine(&options);
    println!("{}", serde_json::to_string_pretty(&checks)?);
    eprintln!("{:?}", started.elapsed());
    Ok(())
}
