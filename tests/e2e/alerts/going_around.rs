//! A connection that should have gone through the proxy and went direct, on the real kernel, fires two alerts with one event.

use super::prometheus::{Prometheus, as_written, command, has, succeeded};
use crate::{
    joined::{NAME, Way, start, trusting},
    sensor_stage::{Host, needs},
    support::upstream::Upstream,
};
use serde_json::Value;

/// The output of an alert's command for this host, run with an empty configuration.
fn printed(host: &Host, alert: &Value) -> String {
    let config = host.state.path().join("none.yml");
    std::fs::write(&config, "").unwrap();
    succeeded(as_written(command(alert)).env("GNOMON_CONFIG", config).env("GNOMON_STATE_DIR", host.state.path()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_around_the_proxy_fires_as_a_detection_and_as_fail_open_with_the_same_event() {
    let name = "a_connection_around_the_proxy_fires_as_a_detection_and_as_fail_open_with_the_same_event";
    if !needs(name) || !has(name, &["prometheus", "curl"]) {
        return;
    }
    let upstream = Upstream::at("127.0.0.1:0", NAME, &["http/1.1"], |_| None).await;
    let host = trusting(upstream.authority.pem_file(), &[]);
    let prometheus = Prometheus::watching_at(host.metrics);
    // A socket that is bound to a device cannot reach a listener on loopback, so it is not redirected.
    let (port, address) = (upstream.address.port(), upstream.address.ip());
    let resolve = format!("{NAME}:{port}:{address}");
    let url = format!("https://{NAME}:{port}/rpc");
    let curl = ["curl", "-sS", "--interface", "if!lo", "--resolve", &resolve, "-d", "{}", &url].map(str::to_owned);
    let output = start(&host, Way::UnderExec, &[], upstream.authority.pem_file(), &curl);
    assert!(output.status.success(), "{output:?}");

    let bypass = prometheus.fires("GnomonProxyBypass");
    let told = printed(&host, &bypass);
    assert!(told.starts_with("Incident i") && told.contains(NAME), "{told}");
    let open = prometheus.fires("GnomonFailOpen");
    assert_eq!(open["labels"]["reason"], "bound_device");
    let told = printed(&host, &open);
    assert!(told.lines().count() == 1 && told.contains(NAME), "{told}");
}
