//! A local server as evidence.

use crate::launch::{Launch, PackageClaim};
use gnomon_observe::{Field, Observation};

/// Writes where a server comes from. `executable` is the program's file, where it is known.
pub fn describe(seen: &mut Observation, launch: &Launch, executable: Option<&str>) {
    seen.set(Field::LocalServer, launch.place(executable));
    if let Launch::Package(package) = launch {
        let PackageClaim { ecosystem, name, version, runner, .. } = package;
        seen.set(Field::PackageEcosystem, ecosystem.as_str());
        seen.set(Field::PackageName, name.as_str());
        seen.set_some(Field::PackageVersion, version.as_deref());
        seen.set_some(Field::PackagePinned, package.is_pinned());
        seen.set(Field::PackageRunner, &**runner);
    }
}
