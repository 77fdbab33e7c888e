//! gnomon seen from outside: real sockets, real TLS, an upstream that acts on the first complete JSON value. One test binary.
#![allow(clippy::unwrap_used)]

use gnomon_stage as support;

mod adopting;
mod alerts;
mod analyst;
mod apis;
mod bounds;
mod caller;
mod confined;
mod containers;
mod defaults;
mod demo;
mod detections;
mod disarm;
mod exec;
mod exec_kernel;
mod feed;
mod full_disk;
mod joined;
mod joined_proxy;
mod joined_sdk;
mod loopback;
mod mcp;
mod namespaces;
mod page_bombs;
mod portals;
mod programs;
mod quality;
mod redirected;
mod registering;
mod reload;
mod reoffered;
mod replay;
mod reviews;
mod room;
mod rule_work;
mod sandbox;
mod scopes;
mod sdk_program;
mod sensor;
mod sensor_stage;
mod session_ends;
mod soak;
mod state_files;
mod stops;
mod unchanged;
