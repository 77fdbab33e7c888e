//! Behaviour of host lookups.

use super::*;
use crate::csv::Cause;

fn catalogue() -> HostCatalogue {
    HostCatalogue::from_csv(
        "host,path,vendor,kind,sources\n\
         mcp.corp.example,/mcp,Corp,mcp,a\n\
         *.agents.example,/,Agents,mcp,b\n\
         special.agents.example,/,Agents,llm-api,c\n\
         *.deep.agents.example,/,Agents,registry,d\n\
         runtime.*.cloud.example,/,Cloud,llm-api,e\n\
         docs.example.com,/api/mcp,Docs,mcp-path,f\n\
         both.example.com,/mcp,Both,mcp-path,g\n\
         both.example.com,/,Both,llm-api,h\n",
    )
    .unwrap()
}

fn kind(host: &str) -> Option<HostClass> {
    catalogue().lookup(host).map(|entry| entry.kind)
}

#[test]
fn a_host_matches_whatever_its_case_port_or_trailing_dot() {
    for host in ["mcp.corp.example", "MCP.Corp.Example", "mcp.corp.example:8443", "mcp.corp.example.", "mcp.corp.example.:443"] {
        assert_eq!(kind(host), Some(HostClass::Mcp), "{host}");
    }
}

#[test]
fn a_host_never_matches_by_substring() {
    for host in [
        "mcp.corp.example.evil.example",
        "xmcp.corp.example",
        "a.mcp.corp.example",
        "corp.example",
        "example",
        "",
        ".",
        ".mcp.corp.example",
    ] {
        assert_eq!(kind(host), None, "{host}");
    }
}

#[test]
fn a_leading_star_covers_every_depth_below_but_not_the_name_itself() {
    assert_eq!(kind("a.agents.example"), Some(HostClass::Mcp));
    assert_eq!(kind("b.a.agents.example"), Some(HostClass::Mcp));
    assert_eq!(kind("agents.example"), None);
    assert_eq!(kind("xagents.example"), None);
    assert_eq!(kind("a.agents.example.evil.example"), None);
}

#[test]
fn an_exact_name_goes_before_a_wildcard_and_a_longer_wildcard_before_a_shorter() {
    assert_eq!(kind("special.agents.example"), Some(HostClass::LlmApi));
    assert_eq!(kind("x.deep.agents.example"), Some(HostClass::Registry));
    assert_eq!(kind("deep.agents.example"), Some(HostClass::Mcp));
}

#[test]
fn a_star_within_a_name_is_exactly_one_label() {
    assert_eq!(kind("runtime.eu-1.cloud.example"), Some(HostClass::LlmApi));
    assert_eq!(kind("runtime.cloud.example"), None);
    assert_eq!(kind("runtime.a.b.cloud.example"), None);
    assert_eq!(kind("xruntime.eu-1.cloud.example"), None);
    assert_eq!(kind("runtime..cloud.example"), None);
}

#[test]
fn a_row_for_the_whole_host_answers_before_one_for_a_path() {
    let hosts = catalogue();
    let at = |path| hosts.lookup_at("both.example.com", path).map(|entry| entry.kind);
    assert_eq!(kind("both.example.com"), Some(HostClass::LlmApi));
    assert_eq!(at("/mcp"), Some(HostClass::McpPath));
    assert_eq!(at("/mcp/readonly"), Some(HostClass::McpPath));
    assert_eq!(at("/mcp?x=1"), Some(HostClass::McpPath));
    assert_eq!(at("/mcpx"), Some(HostClass::LlmApi));
}

#[test]
fn addresses_with_and_without_ports_are_looked_up_as_written() {
    let hosts = HostCatalogue::from_csv("host,kind\n10.0.0.5,mcp\n2001:db8::5,mcp\n").unwrap();
    for host in ["10.0.0.5", "10.0.0.5:80", "[2001:db8::5]:443", "[2001:DB8::5]", "2001:db8::5"] {
        assert!(hosts.lookup(host).is_some(), "{host}");
    }
    assert!(hosts.lookup("[2001:db8::5").is_none());
}

#[test]
fn names_that_are_too_long_or_not_ascii_match_nothing() {
    let hosts = catalogue();
    assert!(hosts.lookup(&format!("{}.agents.example", "a.".repeat(200))).is_none());
    for host in ["mcp.corp.exämple", "ä.example", "ä", "é.é"] {
        assert!(hosts.lookup(host).is_none(), "{host}");
    }
    // The star's key overwrites one byte of the name; a multi-byte character there must not matter.
    assert!(hosts.lookup("ä.agents.example").is_some());
}

#[test]
fn an_override_replaces_adds_and_silences() {
    let own = "host,kind,vendor\nmcp.corp.example,llm-chat,Own\nnew.example.com,mcp,\nspecial.agents.example,ignore,\nruntime.*.cloud.example,mcp,Own\n";
    let before = catalogue().len();
    let hosts = catalogue().merge(HostCatalogue::from_csv(own).unwrap());
    let kind = |host| hosts.lookup(host).map(|entry| entry.kind);
    assert_eq!(kind("mcp.corp.example"), Some(HostClass::LlmChat));
    assert_eq!(kind("new.example.com"), Some(HostClass::Mcp));
    assert_eq!(kind("special.agents.example"), None);
    assert_eq!(kind("runtime.eu-1.cloud.example"), Some(HostClass::Mcp));
    assert_eq!(kind("docs.example.com"), Some(HostClass::McpPath));
    assert_eq!(hosts.len(), before + 1);
}

#[test]
fn rows_with_bad_values_are_refused_with_their_line() {
    for (row, column) in [
        ("*,mcp,/", "host"),
        ("*.com,mcp,/", "host"),
        ("a.*.b.*.example.com,mcp,/", "host"),
        ("foo*.example.com,mcp,/", "host"),
        ("https://a.example,mcp,/", "host"),
        ("a..example,mcp,/", "host"),
        ("ä.example,mcp,/", "host"),
        (",mcp,/", "host"),
        ("a.example,MCP server,/", "kind"),
        ("a.example,mcp,mcp", "path"),
    ] {
        let error = HostCatalogue::from_csv(&format!("host,kind,path\n{row}\n")).unwrap_err();
        assert_eq!(error.line, 2, "{row}");
        assert!(matches!(error.cause, Cause::Value { column: found, .. } if found == column), "{row}: {error}");
    }
}

#[test]
fn the_shipped_catalogue_parses_and_knows_its_hosts() {
    let hosts = HostCatalogue::shipped().unwrap();
    let kind = |host| hosts.lookup(host).map(|entry| entry.kind);
    assert!(hosts.len() > 350, "{}", hosts.len());
    assert_eq!(kind("mcp.stripe.com"), Some(HostClass::Mcp));
    assert_eq!(kind("api.openai.com"), Some(HostClass::LlmApi));
    assert_eq!(kind("bedrock-runtime.eu-west-1.amazonaws.com"), Some(HostClass::LlmApi));
    assert_eq!(kind("learn.microsoft.com"), Some(HostClass::McpPath));
    assert_eq!(kind("api.githubcopilot.com"), Some(HostClass::LlmApi));
    assert_eq!(kind("mcp.stripe.com.evil.example"), None);
    let copilot = hosts.lookup_at("api.githubcopilot.com", "/mcp/");
    assert_eq!(copilot.map(|entry| entry.kind), Some(HostClass::McpPath));
}

#[test]
fn the_shipped_catalogue_knows_the_model_vendors_and_their_regional_endpoints() {
    let hosts = HostCatalogue::shipped().unwrap();
    for host in [
        "corp.openai.azure.com",
        "corp.services.ai.azure.com",
        "aiplatform.googleapis.com",
        "europe-west4-aiplatform.googleapis.com",
        "aiplatform.eu.rep.googleapis.com",
        "eu.api.openai.com",
        "bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        "bedrock-agent-runtime.eu-central-1.amazonaws.com",
        "q.us-east-1.amazonaws.com",
        "api2.cursor.sh",
        "api.perplexity.ai",
        "router.huggingface.co",
        "x1.us-east-1.aws.endpoints.huggingface.cloud",
        "eu-west-1.api.x.ai",
        "eu-de.ml.cloud.ibm.com",
        "inference.generativeai.eu-frankfurt-1.oci.oraclecloud.com",
        "api.cohere.com",
        "openrouter.ai",
        "models.github.ai",
        "ark.cn-beijing.volces.com",
    ] {
        assert_eq!(hosts.lookup(host).map(|entry| entry.kind), Some(HostClass::LlmApi), "{host}");
    }
    for host in ["openai.azure.com.evil.example", "cursor.sh", "compute.googleapis.com"] {
        assert_eq!(hosts.lookup(host).map(|entry| entry.kind), None, "{host}");
    }
}
