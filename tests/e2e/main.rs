//! gnomon seen from outside: real sockets, real TLS, an upstream that acts on the first complete
//! JSON value. One test binary.
#![allow(clippy::unwrap_used)]

mod alerts;
mod answers;
mod apis;
mod bodies;
mod confined;
mod containers;
mod defaults;
mod demo;
mod detections;
mod disarm;
mod evasions;
mod exec;
mod exec_kernel;
mod full_disk;
mod hold_back;
mod joined;
mod joined_proxy;
mod joined_sdk;
mod mcp;
mod namespaces;
mod passage;
mod portals;
mod programs;
mod quality;
mod redirected;
mod reload;
mod replay;
mod reviews;
mod rule_work;
mod sandbox;
mod scopes;
mod sdk_program;
mod sensor;
mod sensor_stage;
mod support;
