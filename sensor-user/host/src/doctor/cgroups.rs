//! Cgroups: the hierarchy that programs are attached to, and who else is there.

use super::{Attached, Check, CheckStatus, Options};
use crate::cgroup::{CgroupLayout, Hierarchy};

/// The prefix of our own programs' names.
const OURS: &str = "gn_";

pub(super) fn examine(options: &Options) -> Vec<Check> {
    vec![layout(), attached(options)]
}

fn layout() -> Check {
    let (id, title) = ("cgroup.layout", "cgroup v2");
    match Hierarchy::find() {
        Ok(hierarchy) => {
            let place = hierarchy.mount().display();
            match hierarchy.layout() {
                CgroupLayout::Pure => Check::ok(id, title, format!("at {place}")),
                CgroupLayout::Hybrid => Check::ok(id, title, format!("at {place}, beside controllers of v1")),
            }
        }
        Err(error) => Check::new(id, title, CheckStatus::Fail, error.to_string())
            .next("boot with systemd.unified_cgroup_hierarchy=1; in a container, give it the host's /sys/fs/cgroup"),
    }
}

fn attached(options: &Options) -> Check {
    let (id, title) = ("cgroup.programs", "other programs at the same place");
    let list = match &options.attached {
        None => return Check::not_applicable(id, title, "not asked, as there is to be no kernel half (--sensor off), or no cgroup v2"),
        Some(Err(error)) => {
            return Check::not_applicable(id, title, error.clone()).next("sudo gnomon doctor, or: sudo bpftool cgroup tree");
        }
        Some(Ok(list)) => list,
    };
    let others: Vec<&Attached> = list.iter().filter(|program| !program.name.starts_with(OURS)).collect();
    if others.is_empty() {
        return Check::ok(id, title, format!("none; {} of ours", list.len()));
    }
    let names: Vec<String> = others.iter().take(32).map(|program| named(program)).collect();
    let seen = names.join(", ");
    // The kernel admits no program beside them, so connections would be neither seen nor redirected.
    if let Some(alone) = others.iter().find(|program| program.alone && is_ours_too(&program.hook)) {
        let seen = match alone.above {
            None => format!("{} shares its hook with no other program, so gnomon's is not attached", named(alone)),
            Some(_) => format!(
                "{} shares its hook with no other program, so gnomon's is not attached: that one would stop running, or refuses others",
                named(alone)
            ),
        };
        return Check::new(id, title, CheckStatus::Fail, seen).next(
            "have it attached so that others may be as well (BPF_F_ALLOW_MULTI; `bpftool cgroup attach … multi`), then restart gnomon",
        );
    }
    // Only programs that rewrite or refuse connections can conflict with ours.
    if others.iter().any(|program| is_address_hook(&program.hook)) {
        return Check::new(id, title, CheckStatus::Warn, seen).next(
            "programs run in the order they were attached and see each other's addresses: try `gnomon exec -- curl` to a host that matters",
        );
    }
    Check::ok(id, title, seen)
}

fn named(program: &Attached) -> String {
    let Attached { hook, name, id, above, .. } = program;
    match above {
        None => format!("{name} ({hook}, id {id})"),
        Some(above) => format!("{name} ({hook}, id {id}, at {above})"),
    }
}

/// True if one of our programs is attached to that hook.
fn is_ours_too(hook: &str) -> bool {
    is_address_hook(hook) || ["egress", "sock_ops", "getsockopt", "sock_release"].contains(&hook)
}

fn is_address_hook(hook: &str) -> bool {
    ["connect", "sendmsg", "getpeername"].iter().any(|part| hook.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(list: &[(&str, &str)]) -> Check {
        let list = list
            .iter()
            .map(|(hook, name)| Attached { hook: (*hook).into(), name: (*name).into(), id: 7, alone: false, above: None })
            .collect();
        attached(&Options { attached: Some(Ok(list)), ..Options::default() })
    }

    #[test]
    fn a_program_that_allows_no_other_beside_it_is_named_as_the_obstacle() {
        let alone = |hook: &str| Attached { hook: hook.into(), name: "tune".into(), id: 7, alone: true, above: None };
        let check = |hook: &str| attached(&Options { attached: Some(Ok(vec![alone(hook)])), ..Options::default() });
        for hook in ["sock_ops", "connect4", "egress", "getsockopt"] {
            let check = check(hook);
            assert!(check.state == CheckStatus::Fail && check.seen.contains("tune") && check.next.is_some(), "{hook}");
        }
        assert_eq!(check("ingress").state, CheckStatus::Ok);
    }

    #[test]
    fn programs_of_others_are_named_and_only_those_on_addresses_warned_of() {
        assert_eq!(with(&[]).state, CheckStatus::Ok);
        assert_eq!(with(&[("connect4", "gn_connect4")]).state, CheckStatus::Ok);
        let firewall = with(&[("egress", "sd_fw_egress")]);
        assert!(firewall.state == CheckStatus::Ok && firewall.seen.contains("sd_fw_egress"));
        let cilium = with(&[("connect4", "gn_connect4"), ("connect4", "cil_sock4_connect")]);
        assert!(cilium.state == CheckStatus::Warn && cilium.next.is_some());
        assert!(cilium.seen.contains("cil_sock4_connect") && !cilium.seen.contains("gn_connect4"));
        assert_eq!(attached(&Options::default()).state, CheckStatus::NotApplicable);
    }
}
