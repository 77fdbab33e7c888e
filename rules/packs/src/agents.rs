//! Known agents: the programs that start MCP servers, by the name of their file and the package that they come as.
//!
//! A file of that name is a claim, as anybody may call a program so; whoever needs certainty compares its digest.

use std::collections::HashMap;

use crate::csv::{self, CatalogueError};
use crate::packages::Ecosystem;

const SHIPPED: &str = include_str!("../catalogue/mcp_agents.csv");

/// One known agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The agent's name.
    pub name: Box<str>,
    /// The name of its program's file.
    pub program: Box<str>,
    /// The package that it comes as, where it does.
    pub package: Option<(Ecosystem, Box<str>)>,
    /// Public document the row comes from; may be empty.
    pub source: Box<str>,
}

/// Known agents, parsed once and then only read.
#[derive(Debug, Clone, Default)]
pub struct AgentCatalogue {
    agents: HashMap<Box<str>, Agent>,
}

impl AgentCatalogue {
    /// The catalogue that ships with gnomon.
    ///
    /// # Errors
    /// None in a build whose tests passed; the file is compiled in.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Self::from_csv(SHIPPED)
    }

    /// Reads a catalogue: columns `agent` and `program`, and optionally `ecosystem`, `package` and `sources`. Of two rows for one
    /// program the later stands.
    ///
    /// # Errors
    /// The first line that breaks the format, a bound or a column's values.
    pub fn from_csv(text: &str) -> Result<Self, CatalogueError> {
        let mut agents = HashMap::new();
        for row in csv::rows(text, &["agent", "program"], &["ecosystem", "package", "sources"])? {
            let (name, program, package) = (row.get(0), row.get(1), row.get(3));
            if name.is_empty() {
                return Err(row.refuse("agent", name, "a name"));
            }
            if program.is_empty() || program.contains(['/', ' ']) {
                return Err(row.refuse("program", program, "the name of a file without its folder"));
            }
            let package = match row.get(2) {
                "" => None,
                word => {
                    let ecosystem = Ecosystem::parse(word).ok_or_else(|| row.refuse("ecosystem", word, "npm, pypi or docker"))?;
                    Some((ecosystem, package.into()))
                }
            };
            let agent = Agent { name: name.into(), program: program.into(), package, source: row.get(4).into() };
            agents.insert(program.into(), agent);
        }
        Ok(Self { agents })
    }

    /// The agent whose program's file has this name, without its folder.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Agent> {
        self.agents.get(name)
    }

    /// The agent that comes as this package.
    #[must_use]
    pub fn package(&self, ecosystem: Ecosystem, name: &str) -> Option<&Agent> {
        let is_it = |agent: &&Agent| {
            agent
                .package
                .as_ref()
                .is_some_and(|(known, package)| *known == ecosystem && ecosystem.normal(package) == ecosystem.normal(name))
        };
        self.agents.values().find(is_it)
    }

    /// This catalogue with `overrides` on top.
    #[must_use]
    pub fn merge(mut self, overrides: Self) -> Self {
        self.agents.extend(overrides.agents);
        self
    }

    /// All agents, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_agents_are_found_by_program_and_by_package() {
        let agents = AgentCatalogue::shipped().unwrap();
        assert_eq!(agents.program("codex").map(|agent| &*agent.name), Some("Codex"));
        assert_eq!(agents.package(Ecosystem::Npm, "@Anthropic-AI/claude-code").map(|agent| &*agent.name), Some("Claude Code"));
        assert_eq!(agents.package(Ecosystem::PyPi, "kimi_cli").map(|agent| &*agent.name), Some("Kimi CLI"));
        assert!(agents.package(Ecosystem::Npm, "kimi-cli").is_none() && agents.program("cat").is_none());
        assert!(agents.iter().all(|agent| !agent.source.is_empty()));
    }

    #[test]
    fn a_program_with_a_folder_is_refused_with_its_line() {
        assert_eq!(AgentCatalogue::from_csv("agent,program\nX,/usr/bin/x\n").unwrap_err().line, 2);
    }

    #[test]
    fn an_override_adds_to_what_ships() {
        let own = AgentCatalogue::from_csv("agent,program\nOurs,our-agent\n").unwrap();
        let agents = AgentCatalogue::shipped().unwrap().merge(own);
        assert!(agents.program("our-agent").is_some() && agents.program("claude").is_some());
    }
}
