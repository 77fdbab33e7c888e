//! The layers of confinement that hold on this host.

use serde::{Deserialize, Serialize};

/// Whether a layer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerState {
    /// In force.
    Enforced,
    /// The kernel is too old for all of it.
    Partial,
    /// Not allowed on this host.
    Absent,
}

/// The layers that confine the workers of a sandbox. Without `seccomp` there is no sandbox; the others degrade, and say so here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// System calls outside of a short list kill.
    pub seccomp: LayerState,
    /// No file can be opened, no port reached, no process outside signalled, even if seccomp let it.
    pub landlock: LayerState,
    /// No capability is left, and none can be had.
    pub capabilities: LayerState,
    /// Not the user of the proxy, as far as the kernel lets it: root becomes `nobody`, others get a user namespace of their own.
    pub user: LayerState,
    /// A network namespace without a network.
    pub network: LayerState,
    /// A mount namespace of its own.
    pub mount: LayerState,
    /// A process namespace in which there is only the zygote.
    pub process: LayerState,
    /// Namespaces of its own for System V IPC and host name.
    pub ipc: LayerState,
    /// Bounds that the kernel keeps on a worker's memory, time and descriptors. Without them only the engine and the parent do.
    pub limits: LayerState,
}

impl Layers {
    /// Each layer with its name in metrics.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, LayerState)> {
        [
            ("seccomp", self.seccomp),
            ("landlock", self.landlock),
            ("capabilities", self.capabilities),
            ("user", self.user),
            ("network", self.network),
            ("mount", self.mount),
            ("process", self.process),
            ("ipc", self.ipc),
            ("limits", self.limits),
        ]
        .into_iter()
    }
}
