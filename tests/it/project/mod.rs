//! What the repository says of itself, held against what it is: layers, documents, the programs beside the gateway.

mod bench;
mod decisions;
mod demo;
mod guarantees;
mod layers;
mod oracle;
mod pages;
mod readme;
pub mod settings;
mod version;
