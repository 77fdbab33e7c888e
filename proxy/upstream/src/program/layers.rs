//! The metrics of servers that are programs: what confines them, and how many of each run.

use gnomon_confine::{Layer, Missing};
use parking_lot::{Mutex, MutexGuard};
use prometheus::{IntGaugeVec, Opts, Registry, core::Collector as _};
use smol_str::SmolStr;
use std::{collections::HashMap, sync::Arc};

/// `gnomon_server_layer` and `gnomon_server_instances`: one for all programs of a gnomon. Servers are those of the configuration.
#[derive(Clone, Debug)]
pub struct ServerLayers {
    layers: IntGaugeVec,
    instances: IntGaugeVec,
    /// The number of programs of each server: one that replaces another runs beside it for a while.
    programs: Arc<Mutex<HashMap<SmolStr, usize>>>,
}

/// Holds the series of a server until this is dropped.
pub(super) struct Shown {
    layers: ServerLayers,
    server: SmolStr,
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
        Ok(Self { layers, instances, programs: Arc::default() })
    }

    /// An instance of a server runs.
    pub fn runs(&self, server: &str) {
        self.instances.with_label_values(&[server]).inc();
    }

    /// An instance of a program has ended.
    pub(super) fn ended(&self, server: &str) {
        self.instances.with_label_values(&[server]).dec();
    }

    /// The series of a server stay until the last program of it is gone.
    pub(super) fn shown(&self, server: &SmolStr) -> Shown {
        *self.programs().entry(server.clone()).or_default() += 1;
        Shown { layers: self.clone(), server: server.clone() }
    }

    fn programs(&self) -> MutexGuard<'_, HashMap<SmolStr, usize>> {
        self.programs.lock()
    }

    /// Records the layers of a start.
    pub fn tell(&self, server: &str, held: &[Layer], missing: &[Missing]) {
        let held = held.iter().map(|layer| (layer, 1));
        for (layer, holds) in held.chain(missing.iter().map(|missing| (&missing.layer, 0))) {
            self.layers.with_label_values(&[server, &layer.to_string()]).set(holds);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let ServerLayers { layers, instances, .. } = &self.layers;
        // Locked until they are gone: a concurrent start makes them anew.
        let mut programs = self.layers.programs();
        if let Some(count) = programs.get_mut(&self.server) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        programs.remove(&self.server);
        let _ = instances.remove_label_values(&[&self.server]);
        for family in layers.collect() {
            for series in family.get_metric() {
                let of = |name: &str| series.get_label().iter().find(|label| label.name() == name).map(|label| label.value());
                if let (Some(server), Some(layer)) = (of("server").filter(|server| *server == self.server), of("layer")) {
                    let _ = layers.remove_label_values(&[server, layer]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_confine::Weight;
    use prometheus::TextEncoder;

    #[test]
    fn what_was_shown_of_a_server_goes_with_its_last_program() {
        let registry = Registry::new();
        let layers = ServerLayers::register(&registry).unwrap();
        let (old, new, other) = (layers.shown(&"files".into()), layers.shown(&"files".into()), layers.shown(&"notes".into()));
        for server in ["files", "notes"] {
            layers.runs(server);
            layers.tell(server, &[Layer::Group, Layer::Files], &[]);
        }
        layers.ended("files");
        let series = |server: &str| {
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            text.lines().filter(|line| line.contains(&format!("server=\"{server}\""))).count()
        };
        drop(old);
        assert_eq!((series("files"), series("notes")), (3, 3));
        drop(new);
        assert_eq!((series("files"), series("notes")), (0, 3));
        drop(other);
        assert_eq!(series("notes"), 0);
    }

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
