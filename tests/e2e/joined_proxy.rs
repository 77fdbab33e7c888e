//! Programs that are configured to use the proxy, on a host with the sensor.

use crate::{
    caller::{Call, Caller, FILE},
    joined::{Way, command_in, events, names},
    sensor_stage::{Host, needs, until},
};

#[test]
fn a_program_that_is_configured_to_use_the_proxy_is_named_in_its_event() {
    if !needs("a_program_that_is_configured_to_use_the_proxy_is_named_in_its_event") {
        return;
    }
    let host = Host::start();
    let body = crate::support::request::call(1, "asked_for").to_string();
    // The server does not exist: that is an event all the same.
    let program = Caller::new();
    let command = program.words(FILE, &Call::new(host.proxy, "http://127.0.0.2:1/rpc", body));
    let trust = host.state.path().join("ca.pem");
    let output = command_in(&host, Way::Direct, &[], &trust, &command).output().unwrap();
    assert!(output.status.success(), "{output:?}\n{}", host.log());
    let event = until("the call's event", || events(&host).into_iter().find(|event| event["gen_ai.tool.name"] == "asked_for"));
    assert!(names(&event, FILE), "{event:#}");
    assert_eq!((&event["gnomon.correlation"], &event["user.name"]), (&"owner".into(), &"root".into()), "{event:#}");
}
