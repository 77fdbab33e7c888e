//! The reference scenario: finance reads the code repository server; engineering, on managed devices, writes it.

use crate::people::{anonymous, asked, hinted, laptop, on, person, policy};
use gnomon_access::{Asked, Capability};

const POLICY: &str = "
policy:
  - allow: { servers: [code], groups: [finance], hints: { read_only: true } }
  - allow: { servers: [code], groups: [engineering], device: { san: ['*.corp.example'] } }
  - deny:  { servers: [code], tools: [delete_repository], reason: 'Repositories are archived, never deleted.' }
";

fn read() -> Asked<'static> {
    hinted(asked(Capability::Tool, "code", "read_file"), Some(true), Some(false))
}

fn write() -> Asked<'static> {
    hinted(asked(Capability::Tool, "code", "push_commit"), Some(false), Some(false))
}

fn delete() -> Asked<'static> {
    hinted(asked(Capability::Tool, "code", "delete_repository"), Some(false), Some(true))
}

#[test]
fn finance_reads_and_engineering_on_a_managed_device_writes() {
    let policy = policy(POLICY);
    let finance = person("fin", &["finance"]);
    let engineer = person("eng", &["engineering"]);
    let managed = on(laptop("laptop-7"), engineer.clone());
    let own = on(gnomon_access::Device { names: vec!["home.example".into()], ..laptop("home") }, engineer.clone());
    let both = person("lead", &["finance", "engineering"]);
    for (who, caller, reads, writes) in [
        ("finance", &finance, true, false),
        ("engineering without a device", &engineer, false, false),
        ("engineering on a managed device", &managed, true, true),
        ("engineering on a device of its own", &own, false, false),
        ("finance and engineering without a device", &both, true, false),
        ("nobody", &anonymous(), false, false),
    ] {
        assert_eq!(policy.decide(caller, &read()).is_allow(), reads, "{who} reads");
        assert_eq!(policy.decide(caller, &write()).is_allow(), writes, "{who} writes");
        assert_eq!(policy.may_list(caller, &write()).is_shown(), writes, "{who} sees what writes");
        assert!(!policy.decide(caller, &delete()).is_allow(), "{who} deletes");
        assert!(!policy.may_list(caller, &delete()).is_shown(), "{who} sees what deletes");
    }
    assert_eq!(policy.decide(&finance, &read()).line().unwrap().to_string(), "gnomon.yml:3:5");
    assert_eq!(policy.decide(&managed, &write()).line().unwrap().line, 4);
}
