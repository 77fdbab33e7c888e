//! Declarations before the TypeScript compiler.

use super::companies::{Company, document};
use gnomon_openapi::{Options, import};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A document's tools: name, description, schemas.
fn tools(document: &[u8], server: &str) -> Vec<Value> {
    let imported = import(document, Options { longest_name: 60, base: Some("https://api.example"), here: None }).unwrap();
    let tools = imported.operations.iter().map(|operation| {
        let mut tool: Value = serde_json::from_slice(&operation.tool).unwrap();
        tool["name"] = format!("{server}_{}", operation.name).replace(['-', '.', '/'], "_").into();
        tool
    });
    tools.collect()
}

fn declaration(tool: &Value) -> String {
    let text = |key: &str| tool[key].as_str().unwrap_or_default();
    gnomon_codemode::declare(text("name"), text("description"), &tool["inputSchema"], tool.get("outputSchema"))
}

/// `cargo xtask quality --codemode` says where the compiler is, and where documents are that are not ours.
#[test]
#[ignore = "cargo xtask quality --codemode installs the compiler"]
fn the_compiler_has_no_objection_to_any_declaration() {
    let compiler = PathBuf::from(std::env::var("GNOMON_TSC").unwrap());
    let mut all: Vec<(String, Vec<Value>)> = vec![("servers".to_owned(), serde_json::from_str(super::world::TOOLS).unwrap())];
    for company in Company::ALL {
        all.push((company.id().to_owned(), tools(document(company, "https://api.example").to_string().as_bytes(), company.id())));
    }
    for document in std::env::var("GNOMON_DOCUMENTS").unwrap_or_default().split(':').filter(|path| !path.is_empty()) {
        let name = Path::new(document).file_stem().unwrap().to_string_lossy().replace(['.', '-'], "_");
        all.push((name.clone(), tools(&fs::read(document).unwrap(), &name)));
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, tools) in &all {
        // A space of its own for each, so that all can be called `codemode`.
        let spaces = (0..).zip(tools).map(|(n, tool): (u32, &Value)| format!("namespace t{n} {{\n{}\n}}\n", declaration(tool)));
        fs::write(dir.path().join(format!("{name}.ts")), spaces.collect::<String>() + "export {};\n").unwrap();
        // What a model would write by it: each is a function that gives a promise.
        println!("{name}: {} declarations", tools.len());
    }
    let files = all.iter().map(|(name, _)| dir.path().join(format!("{name}.ts")));
    let said = Command::new(compiler).args(["--noEmit", "--strict", "--target", "esnext", "--types", ""]).args(files).output().unwrap();
    let told = String::from_utf8_lossy(&said.stdout);
    let told: String = told.lines().take(40).collect::<Vec<_>>().join("\n");
    assert!(said.status.success(), "{told}\n{}", String::from_utf8_lossy(&said.stderr));
}
