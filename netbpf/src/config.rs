//! The TOML document: read, validated, resolved to a [`Model`]. No I/O: the caller reads the file.
//!
//! Every mistake is found in one go, each with its line and the thing by its name. A [`Document`]
//! is valid by itself; what depends on earlier choices is found by [`Document::resolve`].

mod addresses;
mod attachment;
mod blocks;
mod check;
mod container;
mod findings;
mod gateway_mode;
mod host;
mod keys;
mod links;
mod mode;
mod network;
mod pieces;
mod pools;
mod ports;
mod publish;
mod published;
mod publishing;
mod resolve;
mod service;
mod standing;
mod subnets;
mod surroundings;
mod table;
mod values;

#[cfg(test)]
mod tests;

use std::fmt;

use toml::de::DeTable;

use self::{
    attachment::AttachmentSpec, container::ContainerSpec, findings::Findings, host::HostSpec,
    network::NetworkSpec, service::ServiceSpec, table::Table,
};
pub use self::{
    standing::{Counters, Standing},
    surroundings::Surroundings,
};
use crate::{
    allocations::Allocations,
    model::{Conntrack, Index, Model},
};

/// A document that is valid by itself.
#[derive(Clone, Debug)]
pub struct Document {
    path: String,
    host: HostSpec,
    conntrack: Conntrack,
    networks: Vec<NetworkSpec>,
    containers: Vec<ContainerSpec>,
    services: Vec<ServiceSpec>,
    warnings: Vec<String>,
    warned: Vec<String>,
    network_index: Index,
    container_index: Index,
}

/// Everything that is wrong with a document, in the order of its lines; never empty. Shown one a
/// line as `FILE:LINE: what`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigErrors {
    lines: Vec<String>,
    words: Vec<String>,
    fault: Fault,
}

/// What an error of a document is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A value is wrong by itself.
    Value,
    /// Values are right, each by itself, and don't go together.
    Relation,
}

impl ConfigErrors {
    /// The errors, one a line of the display.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The errors without the place where they are: for whoever never saw the document.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether a value was wrong already by itself.
    pub const fn fault(&self) -> Fault {
        self.fault
    }

    fn because_of(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads and validates the text of a document; `path` is how its errors name it.
///
/// # Errors
///
/// Everything that is wrong with it, also what [`Document::resolve`] would find wrong without
/// earlier choices.
pub fn load(path: &str, text: &str) -> Result<Document, ConfigErrors> {
    let document = read(path, text)?;
    document.check_alone()?;
    Ok(document)
}

/// What a document means: itself, the model, and the choices that were made.
pub type Meaning = (Document, Model, Allocations);

/// Reads and validates the text of a document, and resolves it: as [`load`] and
/// [`Document::resolve_on`] together, which is one reading instead of two.
///
/// # Errors
///
/// As both; which of the two is said.
pub fn load_on(
    path: &str,
    text: &str,
    earlier: &Allocations,
    surroundings: Surroundings<'_>,
) -> Result<Meaning, Refusal> {
    let document = read(path, text).map_err(Refusal::Document)?;
    match document.resolve_on(earlier, surroundings) {
        Ok((model, allocations)) => Ok((document, model, allocations)),
        Err(errors) => {
            document.check_alone().map_err(Refusal::Document)?;
            Err(Refusal::Choices(errors))
        }
    }
}

/// Why a document can't be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It is wrong by itself.
    Document(ConfigErrors),
    /// It is right, and what was chosen earlier or what the host has leaves no room for it.
    Choices(ConfigErrors),
}

impl Refusal {
    /// What is wrong.
    pub const fn errors(&self) -> &ConfigErrors {
        let (Self::Document(errors) | Self::Choices(errors)) = self;
        errors
    }
}

fn read(path: &str, text: &str) -> Result<Document, ConfigErrors> {
    let mut findings = Findings::new(path, text);
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let line = error.span().map_or(1, |span| findings.line(&span));
        findings.error(line, error.message().trim());
    }
    // What the parser guessed after a mistake would only give errors about the guess.
    findings.finish()?;

    let root = Table::root(root.get_ref());
    let mut document = Document::read(path, &root, &mut findings);
    let fault = if findings.are_wrong() {
        Fault::Value
    } else {
        Fault::Relation
    };
    check::document(&document, &mut findings);
    (document.warnings, document.warned) = findings.take_warnings();
    findings
        .finish()
        .map_err(|errors| errors.because_of(fault))?;
    Ok(document)
}

impl Document {
    fn read(path: &str, root: &Table<'_, '_>, findings: &mut Findings) -> Self {
        root.expect_keys(keys::ROOT, findings);
        let metrics = root.table("metrics", findings);
        if let Some(metrics) = metrics {
            metrics.expect_keys(keys::METRICS, findings);
        }
        let conntrack = root.table("conntrack", findings);
        Self {
            path: path.to_owned(),
            host: HostSpec::read(root.table("host", findings), findings),
            conntrack: conntrack.map_or_else(Conntrack::default, |table| {
                host::read_conntrack(&table, findings)
            }),
            networks: root
                .entries("network", findings)
                .iter()
                .map(|table| NetworkSpec::read(table, findings))
                .collect(),
            containers: root
                .entries("container", findings)
                .iter()
                .map(|table| ContainerSpec::read(table, findings))
                .collect(),
            services: root
                .entries("service", findings)
                .iter()
                .map(|table| ServiceSpec::read(table, findings))
                .collect(),
            warnings: Vec::new(),
            warned: Vec::new(),
            network_index: Index::default(),
            container_index: Index::default(),
        }
    }

    /// Finds what of it can't be had even where nobody has anything.
    fn check_alone(&self) -> Result<(), ConfigErrors> {
        let resolved = self.resolve(&Allocations::default());
        let checked = resolved.map_err(|errors| errors.because_of(Fault::Relation));
        checked.map(drop)
    }

    /// What is accepted and yet most likely not meant, as `FILE:LINE: what`.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The same without the place.
    pub fn warned(&self) -> &[String] {
        &self.warned
    }

    /// Makes every automatic choice that is still open and gives ids; the same input gives the
    /// same result. What the document no longer has loses its choices.
    ///
    /// # Errors
    ///
    /// When an address that the document gives is kept by another owner, or a subnet is full.
    pub fn resolve(&self, earlier: &Allocations) -> Result<(Model, Allocations), ConfigErrors> {
        self.resolve_on(earlier, Surroundings::UNKNOWN)
    }

    /// As [`Document::resolve`], and new choices keep off what the host has.
    ///
    /// # Errors
    ///
    /// As [`Document::resolve`], and when the host leaves nothing to choose.
    pub fn resolve_on(
        &self,
        earlier: &Allocations,
        surroundings: Surroundings<'_>,
    ) -> Result<(Model, Allocations), ConfigErrors> {
        resolve::resolve(self, earlier, surroundings)
    }

    fn network(&self, name: &str) -> Option<&NetworkSpec> {
        self.network_index
            .find(&self.networks, name, |network| &network.name.value)
    }

    fn container(&self, name: &str) -> Option<&ContainerSpec> {
        self.container_index
            .find(&self.containers, name, |container| &container.name.value)
    }

    /// Every container's place in a network, in the order of the document.
    fn attachments(&self) -> impl Iterator<Item = (&ContainerSpec, &AttachmentSpec)> {
        self.containers.iter().flat_map(|container| {
            let attachments = container.attachments.iter();
            attachments.map(move |attachment| (container, attachment))
        })
    }
}
