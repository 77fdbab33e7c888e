use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const UID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const SNAKE: &str = "6ba7b810_9dad_11d1_80b4_00c04fd430c8";

fn parse(path: &str) -> Workload {
    let path = path.replace("UUID", UID).replace("SNAKE", SNAKE).replace("INNER", INNER).replace("ID", ID);
    Workload::parse(&format!("0::{path}\n"))
}

#[test]
fn each_runtime_is_recognised_by_its_path() {
    use Runtime::*;
    for (path, runtime) in [
        ("/docker/ID", Docker),
        ("/system.slice/docker-ID.scope", Docker),
        ("/system.slice/docker-ID.scope/init.scope", Docker),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSNAKE.slice/cri-containerd-ID.scope", Containerd),
        ("/system.slice/containerd.service/kubepods-besteffort-podSNAKE.slice:cri-containerd:ID", Containerd),
        ("/kubepods.slice/kubepods-podSNAKE.slice/crio-ID.scope/container", CriO),
        ("/machine.slice/libpod-ID.scope/container", Podman),
        ("/machine.slice/libpod-ID.scope/libpod-payload-ID", Podman),
        ("/libpod_parent/libpod-ID", Podman),
        ("/kubepods/burstable/podUUID/ID", Unknown),
        ("/ecs/0123/ID", Unknown),
        ("/system.slice/nerdctl-ID.scope", Unknown),
    ] {
        let place = parse(path);
        let [container] = &place.containers[..] else { panic!("{path}: {:?}", place.containers) };
        assert_eq!((container.id.as_str(), container.runtime, container.standing), (ID, runtime, NameOrigin::System), "{path}");
    }
}

#[test]
fn machines_and_lxc_containers_are_recognised_by_name() {
    for (path, id, runtime) in [
        (r"/machine.slice/machine-web\x2d1.scope/payload/init.scope", "web-1", Runtime::Nspawn),
        ("/machine.slice/systemd-nspawn@web.service/payload", "web", Runtime::Nspawn),
        (r"/machine.slice/machine-lxc\x2d7\x2dold.scope", "lxc-7-old", Runtime::Lxc),
        ("/lxc.payload.web/system.slice/ssh.service", "web", Runtime::Lxc),
        ("/lxc.payload/web", "web", Runtime::Lxc),
        ("/lxc/web/init.scope", "web", Runtime::Lxc),
    ] {
        let place = parse(path);
        let container = place.container().unwrap_or_else(|| panic!("{path}"));
        assert_eq!((container.id.as_str(), container.runtime), (id, runtime), "{path}");
    }
}

#[test]
fn a_pod_is_recognised_under_either_driver_of_kubelet() {
    for (path, uid, qos) in [
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSNAKE.slice/cri-containerd-ID.scope", UID, Qos::Burstable),
        ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podSNAKE.slice/crio-ID.scope", UID, Qos::BestEffort),
        ("/kubepods.slice/kubepods-podSNAKE.slice/crio-ID.scope", UID, Qos::Guaranteed),
        ("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podSNAKE.slice/cri-containerd-ID.scope", UID, Qos::Guaranteed),
        ("/system.slice/containerd.service/kubepods-besteffort-podSNAKE.slice:cri-containerd:ID", UID, Qos::BestEffort),
        ("/kubepods/burstable/podUUID/ID", UID, Qos::Burstable),
        ("/kubepods/besteffort/podUUID/ID", UID, Qos::BestEffort),
        ("/kubepods/podUUID/ID", UID, Qos::Guaranteed),
        ("/kubepods/pod0123456789abcdef0123456789abcdef/ID", "0123456789abcdef0123456789abcdef", Qos::Guaranteed),
    ] {
        assert_eq!(parse(path).pod, Some(Pod { uid: uid.into(), qos }), "{path}");
    }
}

#[test]
fn what_merely_resembles_a_container_is_none() {
    for path in [
        "/",
        "/init.scope",
        "/user.slice/user-1000.slice/session-2.scope",
        "/system.slice/docker.service",
        "/system.slice/docker-0123.scope",
        "/machine.slice/libpod-conmon-ID.scope",
        "/kubepods.slice/kubepods-podSNAKE.slice/crio-conmon-ID.scope",
        r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
        "/lxc.monitor.web",
        "/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        assert_eq!(parse(path).containers, [], "{path}");
    }
    for path in ["/podUUID/x", "/kubepods/podnothing/x", "/xkubepods-podSNAKE.slice", "/kubepods.slice/kubepods-burstable.slice"] {
        assert_eq!(parse(path).pod, None, "{path}");
    }
}

#[test]
fn a_container_in_a_users_slice_is_that_users_claim() {
    let place = parse("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container");
    assert_eq!(place.container().map(|container| container.standing), Some(NameOrigin::Claimed(1000)));
}

#[test]
fn a_container_below_a_cgroup_that_was_given_to_a_user_is_that_users_claim_wherever_it_is() {
    let text = "0::/system.slice/job.service/docker-ID.scope".replace("ID", ID);
    let standing = |owners: &[(&str, u32)]| {
        let owner = |path: &str| owners.iter().find(|(known, _)| *known == path).map(|(_, user)| *user);
        Workload::parse_with(&text, owner).container().map(|container| container.standing)
    };
    assert_eq!(standing(&[("/system.slice", 0), ("/system.slice/job.service", 0)]), Some(NameOrigin::System));
    assert_eq!(standing(&[("/system.slice", 0), ("/system.slice/job.service", 5)]), Some(NameOrigin::Claimed(5)));
    assert_eq!(standing(&[("/system.slice", 7)]), Some(NameOrigin::Claimed(7)));
    // The runtime may give the container's own to its root.
    let own = "/system.slice/job.service/docker-ID.scope".replace("ID", ID);
    assert_eq!(standing(&[(&own, 100_000)]), Some(NameOrigin::System));
}

#[test]
fn of_nested_containers_the_outermost_comes_first() {
    let place = parse("/docker/ID/kubelet/kubepods/podUUID/INNER");
    let ids: Vec<&str> = place.containers.iter().map(|container| container.id.as_str()).collect();
    assert_eq!(ids, [ID, INNER]);
    assert_eq!(place.container().map(|container| container.id.as_str()), Some(ID));
    let deep = parse(&"/docker/ID/docker/INNER".repeat(10));
    assert_eq!(deep.containers.len(), MAX_NESTING);
}

#[test]
fn on_a_hybrid_host_the_container_may_be_in_a_v1_hierarchy_only() {
    let text = format!("12:cpuset:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n");
    let place = Workload::parse(&text);
    assert_eq!(place.cgroup, "/");
    assert_eq!(place.container().map(|container| container.id.as_str()), Some(ID));
}

#[test]
fn a_removed_cgroup_is_read_by_its_old_name() {
    assert_eq!(Workload::parse(&format!("0::/docker/{ID} (deleted)\n")).cgroup, format!("/docker/{ID}"));
}

#[test]
fn lines_that_are_not_rows_are_passed_over() {
    for text in ["", "0", "0::", "::", "0:cpu:/x", "junk\n\n0", "0::relative"] {
        assert_eq!(Workload::parse(text), Workload::default(), "{text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_fail_or_grow(text in "(0::|1:name=systemd:)?(/(docker|kubepods|lxc|pod|[a-f0-9:.\\\\x@-]{0,70})){0,12}\n?") {
        let place = Workload::parse(&text);
        proptest::prop_assert!(place.containers.len() <= MAX_NESTING && place.cgroup.len() <= MAX_CGROUP_PATH);
    }
}
