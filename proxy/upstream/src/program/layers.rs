//! The metrics of servers that are programs: what confines them, and how many of each run.

use gnomon_confine::{Layer, Missing};
use prometheus::{IntGaugeVec, Opts, Registry};

/// `gnomon_server_layer` and `gnomon_server_instances`: one for all programs of a gnomon. Servers are those of the configuration.
#[derive(Clone, Debug)]
pub struct ServerLayers {
    layers: IntGaugeVec,
    instances: IntGaugeVec,
}

impl ServerLayers {
    /// Registers the metrics, which have no series until a program was started.
    ///
    /// # Errors
    /// When the metric's name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Whether a layer confines a server that is a program: 1, or 0 where the host lacks it. As its last start said.";
        let layers = IntGaugeVec::new(Opts::new("gnomon_server_layer", help), &["server", "layer"])?;
        let help = "Processes of a server that is a program that run now: one for each session, and one for gnomon's own lists.";
        let instances = IntGaugeVec::new(Opts::new("gnomon_server_instances", help), &["server"])?;
        registry.register(Box::new(layers.clone()))?;
        registry.register(Box::new(instances.clone()))?;
        Ok(Self { layers, instances })
    }

    /// Sets the number of running instances of a server.
    pub fn run(&self, server: &str, instances: usize) {
        self.instances.with_label_values(&[server]).set(i64::try_from(instances).unwrap_or(i64::MAX));
    }

    /// Records the layers of a start.
    pub fn tell(&self, server: &str, held: &[Layer], missing: &[Missing]) {
        let held = held.iter().map(|layer| (layer, 1));
        for (layer, holds) in held.chain(missing.iter().map(|missing| (&missing.layer, 0))) {
            self.layers.with_label_values(&[server, &layer.to_string()]).set(holds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_confine::Weight;
    use prometheus::TextEncoder;

    #[test]
    fn each_layer_of_a_server_stands_at_what_its_last_start_said() {
        let registry = Registry::new();
        let layers = ServerLayers::register(&registry).unwrap();
        let missing = |layer| Missing { layer, why: "why".to_owned(), weight: Weight::Remarkable };
        layers.tell("files", &[Layer::Group, Layer::Files], &[missing(Layer::Calls)]);
        layers.tell("files", &[Layer::Files, Layer::Calls], &[missing(Layer::Group)]);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let series = |layer, holds| format!(r#"gnomon_server_layer{{layer="{layer}",server="files"}} {holds}"#);
        for (layer, holds) in [("cgroup", 0), ("files", 1), ("system calls", 1)] {
            assert!(text.contains(&series(layer, holds)), "{text}");
        }
    }
}
