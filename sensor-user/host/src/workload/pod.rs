//! Names of pods' cgroups, by kubelet's systemd and cgroupfs drivers.

use super::{Pod, Qos};

/// The outermost pod in a path: one that a container makes within itself is not it.
pub(super) fn in_path(path: &str) -> Option<Pod> {
    let mut below_kubepods = false;
    let mut qos = Qos::Guaranteed;
    for component in path.split('/') {
        // `kubepods-burstable-podUID.slice:cri-containerd:ID` is all in one component.
        let component = component.split(':').next().unwrap_or(component);
        if let Some(pod) = systemd(component) {
            return Some(pod);
        }
        match component {
            "kubepods" => below_kubepods = true,
            "burstable" => qos = Qos::Burstable,
            "besteffort" => qos = Qos::BestEffort,
            _ if below_kubepods => {
                if let Some(uid) = component.strip_prefix("pod").and_then(uid) {
                    return Some(Pod { uid, qos });
                }
            }
            _ => {}
        }
    }
    None
}

/// `kubepods-burstable-pod1234_….slice`, perhaps with the name of kubelet's own root before it.
fn systemd(component: &str) -> Option<Pod> {
    let name = component.strip_suffix(".slice")?;
    let at = name.find("kubepods-")?;
    if at != 0 && !name[..at].ends_with('-') {
        return None;
    }
    let name = &name[at + "kubepods-".len()..];
    let (qos, name) = if let Some(rest) = name.strip_prefix("burstable-") {
        (Qos::Burstable, rest)
    } else if let Some(rest) = name.strip_prefix("besteffort-") {
        (Qos::BestEffort, rest)
    } else {
        (Qos::Guaranteed, name)
    };
    Some(Pod { uid: uid(name.strip_prefix("pod")?)?, qos })
}

/// A UUID, whose dashes systemd's driver writes as underscores, or the digest of a static pod.
fn uid(text: &str) -> Option<String> {
    let uid = text.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|byte| *byte == b'-').count();
    (digits == 32 && digits + dashes == uid.len() && matches!(dashes, 0 | 4)).then_some(uid)
}
