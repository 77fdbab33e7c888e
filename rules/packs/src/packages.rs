//! Known local MCP servers by package name: what `npx`, `uvx` or `docker run` would start.
//!
//! Names are compared the way their registry does: npm and container images by lower case, PyPI
//! with runs of `-`, `_` and `.` made one (PEP 503), so `mcp_server.git` is `mcp-server-git`.

use std::collections::HashMap;

use crate::csv::{self, CatalogueError};

const SHIPPED: &str = include_str!("../catalogue/mcp_packages.csv");

/// The registry of a package. The text form is the value of `package.ecosystem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ecosystem {
    /// `npm`: started by `npx`, `pnpm dlx`, `bunx` and the like.
    Npm,
    /// `pypi`: started by `uvx`, `pipx` or `python -m`.
    PyPi,
    /// `docker`: a container image.
    Docker,
}

impl Ecosystem {
    /// The text form used in CSV and in `package.ecosystem`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::PyPi => "pypi",
            Self::Docker => "docker",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Npm, Self::PyPi, Self::Docker].into_iter().find(|known| known.as_str() == text)
    }

    /// A name as its registry compares it.
    #[must_use]
    pub fn normal(self, name: &str) -> String {
        if self != Self::PyPi {
            return name.to_ascii_lowercase();
        }
        let mut normal = String::with_capacity(name.len());
        for letter in name.chars() {
            match letter {
                '-' | '_' | '.' if normal.ends_with('-') => {}
                '-' | '_' | '.' => normal.push('-'),
                other => normal.push(other.to_ascii_lowercase()),
            }
        }
        normal
    }
}

/// One known package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its registry.
    pub ecosystem: Ecosystem,
    /// Its name as its publisher writes it.
    pub name: Box<str>,
    /// The command that usually starts it.
    pub launcher: Box<str>,
    /// Public document the row comes from; may be empty.
    pub source: Box<str>,
}

/// Known packages, parsed once and then only read.
#[derive(Debug, Clone, Default)]
pub struct PackageCatalogue {
    packages: HashMap<(Ecosystem, Box<str>), Package>,
}

impl PackageCatalogue {
    /// The catalogue that ships with gnomon.
    ///
    /// # Errors
    /// None in a build whose tests passed; the file is compiled in.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Self::from_csv(SHIPPED)
    }

    /// Reads a catalogue: columns `ecosystem` and `package`, and optionally `launcher`, `sources`.
    /// Of two rows for one package the later stands.
    ///
    /// # Errors
    /// The first line that breaks the format, a bound or a column's values.
    pub fn from_csv(text: &str) -> Result<Self, CatalogueError> {
        let mut packages = HashMap::new();
        for row in csv::rows(text, &["ecosystem", "package"], &["launcher", "sources"])? {
            let ecosystem = Ecosystem::parse(row.get(0)).ok_or_else(|| row.refuse("ecosystem", row.get(0), "npm, pypi or docker"))?;
            let name = row.get(1);
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(row.refuse("package", name, "a package name without spaces"));
            }
            let package = Package { ecosystem, name: name.into(), launcher: row.get(2).into(), source: row.get(3).into() };
            packages.insert((ecosystem, ecosystem.normal(name).into()), package);
        }
        Ok(Self { packages })
    }

    /// The package of that name, without version or tag.
    #[must_use]
    pub fn lookup(&self, ecosystem: Ecosystem, name: &str) -> Option<&Package> {
        self.packages.get(&(ecosystem, ecosystem.normal(name).into()))
    }

    /// This catalogue with `overrides` on top.
    #[must_use]
    pub fn merge(mut self, overrides: Self) -> Self {
        self.packages.extend(overrides.packages);
        self
    }

    /// All packages, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_packages_are_found_by_any_spelling_their_registry_accepts() {
        let packages = PackageCatalogue::shipped().unwrap();
        assert!(packages.iter().count() > 200);
        for name in ["mcp-server-git", "mcp_server_git", "MCP-Server.Git"] {
            assert!(packages.lookup(Ecosystem::PyPi, name).is_some(), "{name}");
        }
        let npm = "@modelcontextprotocol/server-filesystem";
        assert!(packages.lookup(Ecosystem::Npm, npm).is_some());
        assert!(packages.lookup(Ecosystem::PyPi, npm).is_none());
        assert!(packages.lookup(Ecosystem::Npm, "mcp-server-git").is_none());
    }

    #[test]
    fn an_unknown_ecosystem_is_refused() {
        let error = PackageCatalogue::from_csv("ecosystem,package\ncargo,x\n").unwrap_err();
        assert_eq!(error.line, 2);
    }

    #[test]
    fn an_override_adds_to_what_ships() {
        let own = PackageCatalogue::from_csv("ecosystem,package\nnpm,@corp/mcp\n").unwrap();
        let packages = PackageCatalogue::shipped().unwrap().merge(own);
        assert!(packages.lookup(Ecosystem::Npm, "@Corp/mcp").is_some());
        assert!(packages.lookup(Ecosystem::Npm, "fastmcp").is_some());
    }
}
