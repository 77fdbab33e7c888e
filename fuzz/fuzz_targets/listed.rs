#![no_main]

use gnomon_fuzz::choice;
use gnomon_local::{MAX_NAMES, MAX_SERVERS, Reached, launch, listed};
use gnomon_packs::ConfigFormat;
use libfuzzer_sys::fuzz_target;

// Files of clients and command lines are read whatever stands in them, and what is kept is bounded.
fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = choice(input) else { return };
    if first % 4 == 3 {
        let line = String::from_utf8_lossy(bytes);
        let arguments: Vec<&str> = line.split('\n').collect();
        assert!(launch(&arguments).is_some());
        return;
    }
    let format = match first % 4 {
        0 => ConfigFormat::Json,
        1 => ConfigFormat::Toml,
        _ => ConfigFormat::Yaml,
    };
    let Ok(servers) = listed(format, "", bytes) else { return };
    assert!(servers.len() <= MAX_SERVERS);
    for server in &servers {
        assert!(server.environment.len() <= MAX_NAMES && server.headers.len() <= MAX_NAMES && server.secrets.len() <= MAX_NAMES);
        if let Reached::Url(url) = &server.reached {
            assert!(!url.contains(['?', '#']));
        }
    }
});
