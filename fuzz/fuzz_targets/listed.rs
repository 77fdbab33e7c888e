#![no_main]

use gnomon_fuzz::choice;
use gnomon_local::{Kept, Known, MAX_ADDONS, MAX_NAMES, MAX_SERVERS, Reached, hooks_in, launch, listed, said};
use gnomon_packs::ConfigFormat;
use libfuzzer_sys::fuzz_target;
use std::{path::Path, sync::LazyLock};

static KNOWN: LazyLock<Known> = LazyLock::new(|| Known::shipped().expect("what ships can be read"));

// Files of clients, command lines and what readers of homes say are read whatever stands in them, and what is kept is bounded.
fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = choice(input) else { return };
    if first % 4 == 3 {
        let line = String::from_utf8_lossy(bytes);
        let arguments: Vec<&str> = line.split('\n').collect();
        assert!(launch(&arguments).is_some());
        let first = arguments.first().copied();
        let _ = (KNOWN.began(first.unwrap_or_default().as_bytes(), arguments.last().copied(), &arguments), KNOWN.agent(first, &arguments));
        if let Ok(files) = said(bytes) {
            let mut kept = Kept::default();
            kept.take(1, Path::new("/"), files.clone());
            assert!(kept.take(1, Path::new("/"), files).is_empty(), "what was told is not told again");
        }
        return;
    }
    let format = match first % 4 {
        0 => ConfigFormat::Json,
        1 => ConfigFormat::Toml,
        _ => ConfigFormat::Yaml,
    };
    for key in ["hooks", "notify"] {
        assert!(hooks_in(format, key, bytes).is_ok_and(|hooks| hooks.len() <= MAX_ADDONS) || listed(format, "", bytes).is_err());
    }
    let Ok(servers) = listed(format, "", bytes) else { return };
    assert!(servers.len() <= MAX_SERVERS);
    for server in servers.iter() {
        assert!(server.environment.len() <= MAX_NAMES && server.headers.len() <= MAX_NAMES && server.secrets.len() <= MAX_NAMES);
        if let Reached::Url(url) = &server.reached {
            assert!(!url.contains(['?', '#']));
        }
    }
});
